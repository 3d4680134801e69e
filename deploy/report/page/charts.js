// Plain pictures: columns by day, bars, a table of shades.

// The first round step of which few are enough to reach `top`.
function roundStep(top, steps) {
  const least = Math.max(top / steps, 1e-9);
  const power = 10 ** Math.floor(Math.log10(least));
  return [1, 2, 5, 10].find((factor) => factor * power >= least) * power;
}

// Columns, one a bucket, stacked by kind. `sums[kind][bucket]` are micros; what is drawn of them is in currency units.
function columnChart(width, buckets, kinds, sums, currency) {
  const height = Math.min(260, Math.max(180, width / 3));
  const [left, right, top, bottom] = [46, 4, 10, 24];
  const drawnOf = (micros) => Math.max(0, Number(micros) / 1e6);
  const totals = buckets.map((_, i) => sums.reduce((sum, row) => sum + drawnOf(row[i]), 0));
  const earned = buckets.map((_, i) => sums.reduce((sum, row) => sum + row[i], 0n));
  const step = roundStep(Math.max(...totals, 0.01), 4);
  const peak = Math.ceil(Math.max(...totals, 0.01) / step) * step;
  const y = (value) => top + (height - top - bottom) * (1 - value / peak);
  const slot = (width - left - right) / buckets.length;
  const picture = s("svg", {
    viewBox: "0 0 " + width + " " + height,
    role: "img",
    "aria-label": "Income by day in " + currency + ", highest " + money(earned.reduce((a, b) => (a > b ? a : b), 0n)),
  });
  for (let value = 0; value <= peak * 1.0001; value += step) {
    picture.append(
      s("line", { class: "axis", x1: left, x2: width - right, y1: y(value), y2: y(value) }),
      s(
        "text",
        { class: "quiet", x: left - 6, y: y(value) + 4, "text-anchor": "end" },
        whole(Number(value.toFixed(2))),
      ),
    );
  }
  const every = Math.ceil(buckets.length / Math.max(2, Math.floor((width - left) / 58)));
  buckets.forEach((bucket, i) => {
    let base = 0;
    kinds.forEach((kind, k) => {
      const value = drawnOf(sums[k][i]);
      if (!value) return;
      const bar = s(
        "rect",
        {
          class: "k" + kind.color,
          x: left + i * slot + slot * 0.12,
          width: slot * 0.76,
          y: y(base + value),
          height: Math.max(0.5, y(base) - y(base + value)),
        },
        s("title", {}, bucket.text + ", " + kind.name + ": " + money(sums[k][i]) + " " + currency),
      );
      base += value;
      picture.append(bar);
    });
    if (i % every === 0) {
      picture.append(
        s(
          "text",
          {
            class: "quiet",
            x: left + (i + 0.5) * slot,
            y: height - 6,
            "text-anchor": "middle",
          },
          bucket.label,
        ),
      );
    }
  });
  return picture;
}

// Bars with their texts: [{text, value, shown, note}].
function barList(width, rows, color) {
  const line = 40;
  const most = Math.max(...rows.map((row) => row.value), 1);
  const picture = s("svg", {
    viewBox: "0 0 " + width + " " + rows.length * line,
    role: "img",
    "aria-label": rows.map((row) => row.text + " " + row.shown).join(", "),
  });
  rows.forEach((row, i) => {
    picture.append(
      s("text", { x: 0, y: i * line + 14, class: "strong" }, row.text),
      s("text", { x: width, y: i * line + 14, "text-anchor": "end" }, row.shown),
      s("rect", {
        class: "k" + color,
        x: 0,
        y: i * line + 20,
        width: Math.max(2, (width * row.value) / most),
        height: 8,
        rx: 2,
      }),
    );
  });
  return picture;
}

function legend(kinds) {
  return h(
    "ul",
    { class: "legend" },
    kinds.map((kind) =>
      h(
        "li",
        {},
        s(
          "svg",
          { viewBox: "0 0 10 10", "aria-hidden": "true" },
          s("rect", { class: "k" + kind.color, width: 10, height: 10, rx: 2 }),
        ),
        kind.name,
      ),
    ),
  );
}

// Shades by machine and bucket. `rows` are [{name, total, cells: [micros], action}].
function heatTable(buckets, rows, currency) {
  const most = Math.max(...rows.flatMap((row) => row.cells.map((cell) => Number(cell))), 1);
  const shade = (cell) => {
    if (cell === 0n) return "";
    return cell < 0n ? " l9" : " l" + Math.min(5, Math.max(1, Math.ceil(5 * Math.sqrt(Number(cell) / most))));
  };
  const every = Math.ceil(buckets.length / 22);
  const isCovered = (i) => i > 0 && every === 1 && buckets[i - 1].tick.length > 5; // by "27 Aug" before it
  const table = h(
    "table",
    { class: "heat" },
    h(
      "thead",
      {},
      h(
        "tr",
        {},
        h("th", { class: "who", scope: "col" }, "Machine"),
        h("th", { class: "sum", scope: "col" }, currency),
        buckets.map((bucket, i) =>
          h(
            "th",
            { scope: "col" },
            h("span", { class: "unseen" }, bucket.text),
            h("span", { "aria-hidden": "true", class: i % 5 ? "minor" : null }, i % every || isCovered(i) ? "" : bucket.tick),
          ),
        ),
      ),
    ),
    h(
      "tbody",
      {},
      rows.map((row) =>
        h(
          "tr",
          {},
          h(
            "th",
            { class: "who", scope: "row", title: row.name },
            row.action
              ? h(
                  "button",
                  { class: "plain", type: "button", onclick: row.action, title: "Check a day of " + row.name },
                  row.name,
                )
              : row.name,
          ),
          h("td", { class: "sum" }, money(row.total)),
          row.cells.map((cell, i) =>
            h(
              "td",
              { class: "cell" + shade(cell), title: buckets[i].text + ": " + exact(cell) + " " + currency },
              h("span", { class: "unseen" }, money(cell)),
            ),
          ),
        ),
      ),
    ),
  );
  return h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Income by machine and day" }, table);
}
