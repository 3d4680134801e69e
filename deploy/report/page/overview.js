// Everything but the check: figures, incomes, posts, rejects, machines, and what the page holds.

const HEAT_ROWS = 24;

// Kinds of machines by income: name and color, by kind.
function kindColors(data) {
  const sums = new Map();
  for (const row of data.machines) sums.set(row.kind, (sums.get(row.kind) ?? 0n) + BigInt(row.net_micros));
  const order = [...sums].sort((a, b) => (a[1] < b[1] ? 1 : -1)).map(([kind]) => kind);
  return new Map(order.map((kind, i) => [kind, Math.min(i, 5)]));
}

function showPeriod(data) {
  const { first_ms: first, last_ms: last, machines, windows } = data.figures;
  put(
    byId("period"),
    dayText(first) +
      " to " +
      dayText(last - 1) +
      ": " +
      whole(machines) +
      " machines, " +
      whole(windows) +
      " windows of " +
      data.log.window_ms / 60000 +
      " minutes, log “" +
      data.log.log_id +
      "”.",
  );
}

function showFigures(data) {
  const f = data.figures;
  const refused = Object.values(f.rejects).reduce((sum, count) => sum + count, 0);
  const scale = data.chain ? data.chain.decimals : 6;
  const last = data.posts.at(-1);
  const posted = last ? decimal(last.header.total, scale, 2) : "0.00";
  const tiles = [
    ["Earned", money(f.earned_micros), data.log.currency + simulatedNote(f)],
    ["Granted by posts", posted, whole(data.posts_in_all) + " posts on the chain"],
    ["Claimed", decimal(data.claimed.units, scale, 2), plural(data.claimed.accounts, "account") + asOf(data.claimed)],
    [
      "Entries in the log",
      whole(f.entries),
      `${whole(f.accepted)} counted, ${whole(f.duplicates)} repeated, ${whole(refused)} rejected`,
    ],
    ...beside(f, data.log.currency),
    ["Late corrections", whole(f.adjustments), "windows that adjust earlier ones"],
  ];
  put(
    byId("figures"),
    h(
      "dl",
      { class: "tiles" },
      tiles.map(([name, value, note]) => h("div", {}, h("dt", {}, name), h("dd", {}, h("span", { class: "whole" }, value), h("small", {}, note)))),
    ),
  );
}

// Tiles that only a log with orders or prepaid sessions has.
const beside = (f, currency) =>
  [
    ["Owed to suppliers", f.expenses_micros, currency + " of expenses, taken off income first"],
    ["Paid before by customers", f.collected_micros, currency + " stays of what they paid for sessions"],
    ["Not collected", f.uncollected_micros, currency + " used beyond what was paid for"],
  ]
    .filter(([, micros]) => BigInt(micros))
    .map(([name, micros, note]) => [name, money(micros), note]);

const simulatedNote = (figures) =>
  BigInt(figures.simulated_micros) ? ", " + money(figures.simulated_micros) + " of it simulated" : "";

const asOf = (claimed) =>
  claimed.block ? ", as of block " + whole(claimed.block) + ", " + momentText(claimed.time_s * 1000) : "";

function unsettledPart(data) {
  const rows = Object.entries(data.unsettled);
  if (!rows.length) return null;
  return h(
    "ul",
    { class: "small", id: "unsettled" },
    rows.map(([payee, micros]) =>
      h("li", {}, "Unsettled: " + money(micros) + " " + data.log.currency + " to “" + payee + "” (" +
        (/^0x[0-9a-fA-F]{40}$/.test(payee) ? "mistyped, no such account" : "not an account") + ")"),
    ),
  );
}

// What posts leave out because an operator had it skipped.
const skippedPart = (data) =>
  data.skipped.length
    ? h("ul", { class: "small", id: "skipped" }, data.skipped.map((text) => h("li", {}, "By an operator's decision: " + text)))
    : null;

function showFlow(data, colors) {
  const picture = h("div");
  const left = BigInt(data.unposted_micros);
  const parts = [picture, unsettledPart(data), skippedPart(data), folded("The same as a table", flowTable(data))];
  if (left !== 0n)
    parts.push(
      h("p", { class: "small quiet" }, money(left) + " " + data.log.currency + " of it has not been posted yet."),
    );
  if (!data.flows.length) {
    put(byId("flow"), h("p", { class: "quiet" }, "Nothing has been divided yet: no epoch has ended."));
    return;
  }
  put(byId("flow"), parts);
  drawn(picture, (width) => flowChart(width, data, colors));
}

// Days, or stretches of equally many days where there are too many of them.
function dayBuckets(data) {
  const first = Math.floor(data.figures.first_ms / DAY_MS);
  const days = Math.floor((data.figures.last_ms - 1) / DAY_MS) - first + 1;
  const length = data.stretch_days;
  return Array.from({ length: Math.ceil(days / length) }, (_, i) => {
    const ms = (first + i * length) * DAY_MS;
    const until = ms + (length - 1) * DAY_MS;
    const at = new Date(ms);
    const isMonthStart = i === 0 || at.getUTCDate() <= length;
    return {
      length,
      label: shortDay(ms),
      tick: isMonthStart ? at.getUTCDate() + " " + MONTHS[at.getUTCMonth()] : String(at.getUTCDate()),
      text: dayText(ms) + (length > 1 ? " to " + dayText(until) : ""),
    };
  });
}

function showIncome(data, colors, pick) {
  const buckets = dayBuckets(data);
  const cells = data.machines.map(() => buckets.map(() => 0n));
  for (const [at, stretch, micros] of data.incomes) cells[at][stretch] += BigInt(micros);
  const kinds = [...colors].map(([kind, color]) => ({ kind, color, name: kindName(kind) }));
  const sums = kinds.map(({ kind }) =>
    buckets.map((_, i) =>
      cells.reduce((sum, row, at) => (data.machines[at].kind === kind ? sum + row[i] : sum), 0n),
    ),
  );
  const picture = h("div");
  const embedded = new Map(data.days.map((day, i) => [day.machine, i]));
  const heat = data.machines.slice(0, HEAT_ROWS).map((row, at) => ({
    name: row.machine + (row.kind.endsWith(SIMULATED) ? SIMULATED : ""),
    total: row.net_micros,
    cells: cells[at],
    action: embedded.has(row.machine) ? () => pick(embedded.get(row.machine)) : null,
  }));
  const rest = data.machines.length - heat.length;
  put(
    byId("income"),
    legend(kinds),
    picture,
    h("h3", {}, rest > 0 ? "The " + heat.length + " machines that earned most" : "By machine"),
    h(
      "p",
      { class: "small quiet" },
      "The stronger the colour, the more. " +
        (data.days.length ? "A machine whose name is underlined can be checked below, down to its readings." : ""),
    ),
    heatTable(buckets, heat, data.log.currency),
  );
  drawn(picture, (width) => columnChart(width, buckets, kinds, sums, data.log.currency));
}

function showPosts(data, checks) {
  if (!data.posts.length) {
    put(byId("posts"), h("p", { class: "quiet" }, "Nothing has been posted yet."));
    return;
  }
  const parts = data.posts.map((post, i) => {
    const header = post.header;
    const state = data.states[header.sequence];
    const check = checks[i];
    const lines = [
      [check.headHolds, "its head is the hash of all that it says"],
      [check.follows, header.sequence === 1 ? "it is the first of this ledger" : "it follows the post before it"],
      [check.manifestHolds, "its manifest has the hash that was posted"],
    ].filter(([holds]) => holds !== null);
    const span = dayText(header.epoch_start_s * 1000) + " to " + dayText(header.epoch_end_s * 1000 - 1);
    return h(
      "div",
      { class: "post" },
      h("h3", {}, "Post " + header.sequence + ": " + span),
      h(
        "p",
        {},
        (state ? (STATES[state.state] ?? state.state) : "Not on the chain yet") +
          ": " +
          whole(post.windows) +
          " windows, " +
          decimal(header.total, post.decimals, 2) +
          " " +
          data.log.currency +
          " granted up to here.",
      ),
      h(
        "ul",
        { class: "checks" },
        lines.map(([holds, text]) => verdictLine(holds, text)),
      ),
      folded(
        "Roots and accounts of post " + header.sequence,
        table(
          "",
          [{ text: "What" }, { text: "Hash" }],
          [
            ["Windows root", h("code", {}, full(header.windows_root))],
            ["Payouts root", h("code", {}, full(header.payouts_root))],
            ["Manifest", h("code", {}, full(header.manifest_hash))],
            ["Head", h("code", {}, full(check.head))],
            state ? ["Transaction", h("code", {}, state.transaction)] : null,
          ].filter(Boolean),
        ),
        accountTable(data, post),
      ),
    );
  });
  const left = data.posts_in_all - data.posts.length;
  if (left > 0) parts.unshift(h("p", { class: "quiet" }, whole(left) + " other posts are not in this page."));
  put(byId("posts"), parts);
}

function accountTable(data, post) {
  const scale = post.decimals;
  const rows = Object.entries(post.accounts).map(([account, kept]) => [
    personCell(data, account),
    exact(kept.amount_micros),
    decimal(kept.cumulative, scale, scale),
  ]);
  const more = post.accounts_in_all - rows.length;
  return [
    table(
      "",
      [{ text: "Account" }, { text: "By this post", number: true }, { text: "In all so far", number: true }],
      rows,
    ),
    more > 0 ? h("p", { class: "small quiet" }, "and " + whole(more) + " more accounts, not in this page") : null,
  ];
}

function personCell(data, account) {
  const name = data.names[account];
  if (!name) return h("span", { class: "small whole" }, personName(data, account));
  return [name + " ", h("span", { class: "quiet small whole" }, shortHash(account))];
}

function showRefused(data) {
  const rejects = Object.entries(data.figures.rejects);
  if (!rejects.length) {
    put(
      byId("refused"),
      h(
        "p",
        {},
        h("span", { class: "mark yes" }, "✓"),
        "Nothing was rejected: all " +
          whole(data.figures.entries) +
          " entries of the log were counted" +
          (data.figures.duplicates ? ", repeated ones once." : "."),
      ),
    );
    return;
  }
  const picture = h("div");
  put(
    byId("refused"),
    h(
      "p",
      {},
      "Of " + whole(data.figures.entries) + " entries. A rejected entry is kept with its bytes; it earns nothing.",
    ),
    picture,
    h(
      "ul",
      { class: "small" },
      rejects.map(([reason]) => h("li", {}, h("b", {}, reason.replaceAll("_", " ")), ": ", REASONS[reason] ?? "")),
    ),
  );
  const rows = rejects.map(([reason, count]) => ({
    text: reason.replaceAll("_", " "),
    value: count,
    shown: whole(count),
  }));
  drawn(picture, (width) => barList(width, rows, 0));
}

// Meters whose registration or gateway makes them earn less than they could, and what mends that.
function showSigns(data) {
  if (!data.signs.length) return;
  const advice = new Map(data.signs.map((sign) => [sign.sign, sign.advice]));
  put(
    byId("signs"),
    h("h3", {}, "What earns less than it could"),
    h("ul", {}, data.signs.map((sign) => h("li", {}, sign.line))),
    data.signs_in_all > data.signs.length
      ? h("p", { class: "small quiet" }, "And " + whole(data.signs_in_all - data.signs.length) + " more: see tallyroot machines.")
      : null,
    h(
      "ul",
      { class: "small" },
      [...advice].map(([sign, text]) => h("li", {}, h("b", {}, sign.replaceAll("_", " ")), ": ", text)),
    ),
  );
}

function showMachines(data) {
  const percent = (thousandths) => (thousandths === null ? "" : decimal(thousandths, 3, 1) + " %");
  const rows = data.machines.map((row) => [
    row.machine,
    kindName(row.kind),
    whole(row.windows),
    whole(row.readings),
    percent(row.reporting_thousandths),
    percent(row.uptime_thousandths),
    row.flags.includes("proven") && row.trust === 2 ? PROVEN : (TRUST[row.trust] ?? ""),
    row.flags.join(", "),
    exact(row.net_micros),
  ]);
  const heads = [
    { text: "Machine" },
    { text: "Kind", wide: true },
    { text: "Windows", number: true, wide: true },
    { text: "Readings", number: true, wide: true },
    { text: "Reporting", number: true, wide: true },
    { text: "Uptime", number: true, wide: true },
    { text: "Trust", wide: true },
    { text: "Marks", wide: true },
    { text: data.log.currency, number: true },
  ];
  put(
    byId("machines"),
    h(
      "p",
      {},
      "“Reporting” is the share of the time in which the machine reported at all, from its first window on: a machine " +
        "that reports only while it is used reports less often. “Uptime” is that of 23 CFR 680.116, and known only of " +
        "machines whose meter “availability” says when they are in service.",
    ),
    folded("Show the " + whole(rows.length) + " rows", table("", heads, rows)),
  );
}

function showAbout(data) {
  const items = data.days.reduce((sum, day) => sum + day.items.length, 0);
  const chain = data.chain;
  put(
    byId("about"),
    h(
      "ul",
      {},
      h(
        "li",
        {},
        "Down to readings it holds " +
          data.days.length +
          " machine days with " +
          whole(items) +
          " readings, what each adds, " +
          "and the proof of every window. Of all other days it holds sums only.",
      ),
      h(
        "li",
        {},
        "The fingerprints are recomputed with each registration's secret salt. Those of these machines are in here: " +
          "share this file only with people who may see their readings.",
      ),
      h(
        "li",
        {},
        "It can't know whether the roots in it are those on the chain. Compare them there" +
          (chain ? ", chain " + chain.chain_id + ", ledger " : "."),
        chain ? h("code", {}, chain.ledger) : null,
      ),
      h(
        "li",
        {},
        "What a reading adds, and what a prepaid session used, it takes from whoever wrote this file. It does not check " +
          "signatures either, nor that these readings are all that the log held: ",
        h("code", {}, "tallyroot audit"),
        " does all of it, from the log alone.",
      ),
      h("li", {}, "Nobody can prove that a meter told the truth, or that a silent machine stood still."),
      h("li", {}, "Another machine or day: ", h("code", {}, "tallyroot report --machine NAME --day 2019-09-10"), "."),
    ),
  );
}
