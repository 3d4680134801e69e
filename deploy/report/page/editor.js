// The check of one machine's day: windows on the left, one of them on the right, and readings that can be changed.

const VALUE_MAX = 2n ** 53n;

class DayEditor {
  constructor(place, data, changed) {
    this.data = data;
    this.changed = changed;
    this.edits = new Map();
    this.bases = data.days.map((day) => recomputeDay(day, new Map()));
    this.list = h("ul", {
      class: "windows",
      role: "listbox",
      "aria-label": "Windows of the day",
      onkeydown: (e) => this.move(e),
    });
    this.strip = h("div", { class: "strip", "aria-hidden": "true" });
    this.detail = h("div", { id: "detail" });
    this.picker = h(
      "select",
      { id: "pick", onchange: () => this.open(Number(this.picker.value)) },
      data.days.map((day, i) =>
        h("option", { value: i }, kindName(day.kind) + ": " + day.machine + ", " + dayText(day.day_ms)),
      ),
    );
    this.reset = h("button", { type: "button", onclick: () => this.clear() }, "Put everything back");
    this.told = h("p", { id: "changes", role: "status" });
    put(
      place,
      h("div", { class: "row" }, h("label", { for: "pick" }, "Machine and day"), this.picker, this.reset),
      this.told,
      this.strip,
      h("div", { class: "split" }, this.list, this.detail),
    );
    this.open(0);
    drawn(this.strip, (width) => this.drawStrip(width));
  }

  // Shows another day, at its window with the highest income. Edits are of one day, and go.
  open(index) {
    this.index = index;
    this.picker.value = index;
    this.day = this.data.days[index];
    this.base = this.bases[index];
    this.now = this.base;
    this.edits.clear();
    this.baseChecks = this.base.windows.map((window) => checkWindow(window, this.data.posts));
    const nets = this.base.windows.map((window) => window.net);
    this.at = nets.reduce((best, net, i) => (net > nets[best] ? i : best), 0);
    put(
      this.list,
      this.base.windows.map((_, i) =>
        h(
          "li",
          { role: "presentation" },
          h("button", {
            type: "button",
            role: "option",
            onclick: () => this.choose(i, false),
          }),
        ),
      ),
    );
    this.choose(this.at, false);
    this.refresh();
  }

  choose(index, focus) {
    this.at = index;
    this.showDetail();
    this.showList();
    const button = this.list.children[index].firstChild;
    if (focus) button.focus();
    const [top, bottom] = [
      button.offsetTop - this.list.offsetTop,
      button.offsetTop - this.list.offsetTop + button.offsetHeight,
    ];
    if (top < this.list.scrollTop || bottom > this.list.scrollTop + this.list.clientHeight)
      this.list.scrollTop = top - 60;
  }

  move(event) {
    const last = this.base.windows.length - 1;
    const to = { ArrowDown: this.at + 1, ArrowUp: this.at - 1, Home: 0, End: last }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    this.choose(Math.min(last, Math.max(0, to)), true);
  }

  clear() {
    this.edits.clear();
    this.showDetail();
    this.refresh();
  }

  check(i) {
    const window = this.now.windows[i];
    return window.digest === this.base.windows[i].digest ? this.baseChecks[i] : checkWindow(window, this.data.posts);
  }

  holds(i) {
    const check = this.check(i);
    return check.digestHolds && check.rootHolds !== false;
  }

  refresh() {
    this.now = this.edits.size ? recomputeDay(this.day, this.edits) : this.base;
    this.showList();
    this.update();
    if (this.strip.clientWidth) put(this.strip, this.drawStrip(this.strip.clientWidth));
    this.reset.disabled = !this.edits.size;
    put(
      this.told,
      this.edits.size ? h("span", {}, h("strong", { class: "no" }, this.headline() + " "), this.consequence()) : null,
    );
    this.changed(this);
  }

  // How many windows and accounts no longer fit, and whether later days would change too.
  summary() {
    const broken = this.now.windows.filter((window, i) => window.digest !== this.base.windows[i].digest).length;
    const sequences = this.data.posts.map((post) => post.header.sequence);
    const payouts = payoutChanges(this.base, this.now, Math.max(0, ...sequences));
    const net = (result) => result.windows.reduce((sum, window) => sum + window.net, 0n);
    const asText = (result) =>
      canonicalJson([[...result.meters].map(([name, m]) => [name, m.baseline, m.suspect]), [...result.carries]]);
    return {
      edits: this.edits.size,
      broken,
      payouts,
      difference: net(this.now) - net(this.base),
      later: asText(this.now) !== asText(this.base),
    };
  }

  headline() {
    return "✗ You changed " + plural(this.edits.size, "reading") + ".";
  }

  // The effect of the edits, in a sentence or two.
  consequence() {
    const { broken, payouts, difference } = this.summary();
    const verb = broken === 1 ? "leads" : "lead";
    const wrong = this.data.posts.length
      ? " no longer " + verb + " to the posted root. "
      : " would have another fingerprint. ";
    let people = "Nothing of it has been paid out yet.";
    if (payouts.size) {
      const sum = (difference > 0n ? "+" : "") + exact(difference) + " " + this.data.log.currency + " in all";
      people = `${plural(payouts.size, "account")} would be paid another sum (${sum}), and the chain would refuse every such claim.`;
    } else if (difference === 0n) {
      people = "No payout changes: what a meter claims too early is missing from what it claims later.";
    }
    return plural(broken, "window") + wrong + people;
  }

  showList() {
    this.now.windows.forEach((window, i) => {
      const button = this.list.children[i].firstChild;
      const was = this.base.windows[i];
      const document = was.stored.document;
      button.setAttribute("aria-selected", String(i === this.at));
      button.tabIndex = i === this.at ? 0 : -1;
      const late = document.mends_ms === null ? "" : ", mends " + this.mendedText(document);
      put(
        button,
        mark(this.holds(i)),
        h(
          "span",
          {},
          timeText(document.start_ms) + late,
          h("span", { class: "unseen" }, this.holds(i) ? ", fits" : ", does not fit"),
        ),
        h("span", {}, compared(exact(window.net), exact(was.net))),
      );
    });
  }

  // When the mended window was: its day, too, where that is another one.
  mendedText(document) {
    const isToday = document.mends_ms >= this.day.day_ms;
    return (isToday ? "" : shortDay(document.mends_ms) + " ") + timeText(document.mends_ms);
  }

  // The day at a glance: a column a window.
  drawStrip(width) {
    const [height, bottom] = [74, 16];
    const most = Math.max(
      ...this.now.windows.map((w) => Number(w.net)),
      ...this.base.windows.map((w) => Number(w.net)),
      1,
    );
    const picture = s("svg", { viewBox: "0 0 " + width + " " + height });
    const scale = width / DAY_MS;
    for (let hour = 0; hour <= 24; hour += 6) {
      const anchor = hour === 0 ? "start" : hour === 24 ? "end" : "middle";
      picture.append(
        s(
          "text",
          { class: "quiet", x: hour * 3_600_000 * scale, y: height - 3, "text-anchor": anchor },
          two(hour) + ":00",
        ),
      );
    }
    const length = this.data.log.window_ms * scale;
    this.now.windows.forEach((window, i) => {
      const x = (window.stored.document.start_ms - this.day.day_ms) * scale;
      if (i === this.at)
        picture.append(s("rect", { class: "chosen", x, y: 0, width: length, height: height - bottom }));
      const tall = Math.max(1.5, ((height - bottom - 4) * Math.max(0, Number(window.net))) / most);
      const color = this.holds(i) ? "k0" : "hit";
      const bar = s("rect", {
        class: color,
        x: x + length * 0.1,
        y: height - bottom - tall,
        width: length * 0.8,
        height: tall,
      });
      bar.addEventListener("click", () => this.choose(i, false));
      picture.append(bar);
    });
    picture.append(s("line", { class: "axis", x1: 0, x2: width, y1: height - bottom, y2: height - bottom }));
    return picture;
  }

  // Rebuilt when another window is chosen; `update` fills in what depends on edits.
  showDetail() {
    const document = this.base.windows[this.at].stored.document;
    const key = windowKey(document.start_ms, document.mends_ms);
    const items = this.day.items.filter((item) => item.what !== "fact" && windowKey(...item.where) === key);
    this.cells = [];
    const rows = items.map((item) => (item.what === "row" ? this.readingRow(item) : this.correctionRow(item)));
    const priced = items.filter((item) => item.what === "row" && item.kind !== "level");
    this.result = h("div");
    const more = document.mends_ms === null ? "" : ", mends the window of " + this.mendedText(document);
    put(
      this.detail,
      h("h3", {}, timeText(document.start_ms) + " to " + timeText(document.end_ms) + more),
      table(
        "1. What the meter showed",
        [{ text: "Reading" }, { text: "Shows", number: true }, { text: "Adds", number: true }],
        rows,
      ),
      h(
        "div",
        { class: "row" },
        h(
          "button",
          { type: "button", class: "main", disabled: !priced.length, onclick: () => this.claimMore(priced) },
          "Cheat: claim more",
        ),
        h("span", { class: "quiet small" }, "or write another number into a field above"),
      ),
      this.result,
    );
    this.update();
  }

  readingRow(item) {
    const key = editKey(item);
    const input = h("input", {
      class: "reading",
      inputmode: "numeric",
      autocomplete: "off",
      value: String(this.edits.get(key) ?? item.value),
      "aria-label": item.meter + " at " + timeText(item.observed_at, true) + ", in " + item.unit,
      oninput: () => this.edit(item, input),
    });
    const [adds, was] = [h("span"), h("span")];
    this.cells.push(() => {
      const [now, before] = [this.now.rows.get(key), this.base.rows.get(key)];
      input.classList.toggle("changed", this.edits.has(key));
      put(
        was,
        this.edits.has(key) ? h("del", {}, h("span", { class: "unseen" }, "before: "), String(item.value)) : null,
      );
      const text = (row) =>
        row.reason ? "rejected: " + (REASONS[row.reason] ?? row.reason) : whole(row.usage) + " " + item.unit;
      put(adds, compared(text(now), text(before)));
    });
    const about = item.meter + (item.reconstructed ? ", worked out between two known points" : "");
    return [
      [timeText(item.observed_at, true), h("br"), h("span", { class: "quiet small" }, about)],
      [input, was],
      adds,
    ];
  }

  correctionRow(item) {
    const usage = item.lines.map(([meter, unit, , , , used]) => whole(used) + " " + unit + " of " + meter).join(", ");
    return ["Operator's correction", "", usage];
  }

  edit(item, input) {
    const text = input.value.trim();
    const isNumber = /^\d{1,16}$/.test(text) && BigInt(text) <= VALUE_MAX;
    input.setAttribute("aria-invalid", String(!isNumber));
    if (!isNumber) return;
    if (BigInt(text) === BigInt(item.value)) this.edits.delete(editKey(item));
    else this.edits.set(editKey(item), BigInt(text));
    this.refresh();
  }

  // A meter that claims a tenth more than it did, or one unit: of the window's readings that cost something the last one
  // that adds ten or more. A register that is too high once stays too high, else the next window would give it back.
  claimMore(items) {
    const usageOf = (item) => this.now.rows.get(editKey(item)).usage;
    const paying = items.filter((item) => usageOf(item) > 0n && item.price[1] > 0);
    const item = paying.filter((one) => usageOf(one) >= 10n).at(-1) ?? paying.at(-1) ?? items.at(-1);
    const usage = usageOf(item);
    const more = usage >= 10n ? usage / 10n : 1n;
    const after = this.day.items.slice(this.day.items.indexOf(item));
    for (const one of after.filter(
      (other) => other.what === "row" && other.meter === item.meter && other.kind === item.kind,
    )) {
      if (one !== item && item.kind !== "register") break;
      this.edits.set(editKey(one), (this.edits.get(editKey(one)) ?? BigInt(one.value)) + more);
    }
    this.showDetail();
    this.refresh();
  }

  update() {
    this.cells.forEach((fill) => fill());
    const [window, was] = [this.now.windows[this.at], this.base.windows[this.at]];
    if (window.gone) {
      put(
        this.result,
        h(
          "p",
          { class: "changed-text" },
          "With this change no reading of this window counts: there would be no such window.",
        ),
      );
      return;
    }
    put(
      this.result,
      costPart(this.data, window, was),
      sharePart(this.data, window, was),
      hashPart(window, was, this.check(this.at)),
      this.payoutPart(window),
      this.laterPart(),
      folded(
        "The text behind the fingerprint",
        h("p", { class: "small quiet" }, "“tallyroot window 1”, a line's end, and:"),
        h("code", {}, canonicalJson({ ...window.document, salt: window.stored.salt })),
      ),
    );
  }

  payoutPart(window) {
    const settled = window.stored.settled;
    const post = settled && this.data.posts.find((one) => one.header.sequence === settled.sequence);
    if (!post) return null;
    const changes = payoutChanges(this.base, this.now, post.header.sequence);
    const scale = post.decimals;
    const rows = settled.points
      .filter(([account]) => post.accounts[account])
      .map(([account]) => {
        const [now, before] = [
          checkPayout(post, account, changes.get(account) ?? 0n),
          post.accounts[account].cumulative,
        ];
        return [
          personCell(this.data, account),
          [compared(decimal(now.units, scale, scale), decimal(before, scale, scale))],
          [
            mark(now.holds),
            now.holds ? "reached" : "not reached: " + shortHash(now.root),
          ],
        ];
      });
    const changed = changes.size
      ? h("p", { class: "changed-text" }, "With these sums the ledger on the chain would refuse the claim.")
      : null;
    return [
      table(
        "5. What post " + post.header.sequence + " grants in all, " + this.data.log.currency,
        [{ text: "Account" }, { text: "Sum", number: true }, { text: "Payouts root" }],
        rows,
      ),
      changed,
    ];
  }

  laterPart() {
    return this.edits.size && this.summary().later
      ? h(
          "p",
          { class: "note small" },
          "The meter would also stand differently at the end of this day: later days, which this page doesn't hold, " +
            "would change too.",
        )
      : null;
  }
}
