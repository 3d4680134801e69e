// The check of one machine's day: windows on the left, one of them on the right, and usages that can be changed.

const USAGE_MAX = 2n ** 53n;

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
    const asText = (result) => canonicalJson([...result.carries]);
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
      people = "No payout changes: the difference is less than a millionth.";
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
      const late = document.adjusts_ms === null ? "" : ", adjusts " + this.adjustedText(document);
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

  // When the adjusted window was: its day, too, where that is another one.
  adjustedText(document) {
    const isToday = document.adjusts_ms >= this.day.day_ms;
    return (isToday ? "" : shortDay(document.adjusts_ms) + " ") + timeText(document.adjusts_ms);
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
    const key = windowKey(document.start_ms, document.adjusts_ms);
    const items = this.day.items.filter((item) => windowKey(...item.where) === key);
    this.cells = [];
    const rows = items.map((item) => (item.kind === "correction" ? this.correctionRow(item) : this.readingRow(item)));
    const priced = items.filter((item) => item.kind !== "correction" && usageOf(item));
    this.result = h("div");
    const more = document.adjusts_ms === null ? "" : ", adjusts the window of " + this.adjustedText(document);
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
    const notes = [item.meter];
    if (item.session) notes.push("session " + item.session);
    if (item.proven) notes.push("signed by the meter itself");
    if (item.reconstructed) notes.push("worked out between two known points");
    const shows = whole(item.value) + " " + item.unit;
    return [
      [timeText(item.observed_at, true), h("br"), h("span", { class: "quiet small" }, notes.join(", "))],
      shows,
      item.reason ? "rejected: " + (REASONS[item.reason] ?? item.reason) : this.addsCell(item),
    ];
  }

  // What a reading adds: a field where that is usage, for somebody to change.
  addsCell(item) {
    const fee = item.adds.some((line) => line.per === 0) ? h("span", { class: "quiet small" }, "and a session") : null;
    const line = usageOf(item);
    if (!line) return [whole(0) + " " + item.unit, fee && [h("br"), fee]];
    const key = editKey(item);
    const input = h("input", {
      class: "reading",
      inputmode: "numeric",
      autocomplete: "off",
      value: String(this.edits.get(key) ?? line.usage),
      "aria-label": "what " + item.meter + " adds at " + timeText(item.observed_at, true) + ", in " + item.unit,
      oninput: () => this.edit(item, input),
    });
    const was = h("span");
    this.cells.push(() => {
      const isEdited = this.edits.has(key);
      input.classList.toggle("changed", isEdited);
      put(was, isEdited ? h("del", {}, h("span", { class: "unseen" }, "before: "), String(line.usage)) : null);
    });
    return [input, was, fee && [h("br"), fee]];
  }

  correctionRow(item) {
    const fees = item.adds.filter((line) => line.per === 0).reduce((sum, line) => sum + line.usage, 0);
    const usage = usageOf(item)?.usage ?? 0;
    return [
      ["Operator's correction", h("br"), h("span", { class: "quiet small" }, item.meter)],
      "",
      item.reason
        ? "rejected: " + (REASONS[item.reason] ?? item.reason)
        : whole(usage) + " " + item.unit + (fees ? ", " + plural(fees, "session") : ""),
    ];
  }

  edit(item, input) {
    const text = input.value.trim();
    const isNumber = /^-?\d{1,16}$/.test(text) && BigInt(text) <= USAGE_MAX && BigInt(text) >= -USAGE_MAX;
    input.setAttribute("aria-invalid", String(!isNumber));
    if (!isNumber) return;
    if (BigInt(text) === BigInt(usageOf(item).usage)) this.edits.delete(editKey(item));
    else this.edits.set(editKey(item), BigInt(text));
    this.refresh();
  }

  // A meter that claims a tenth more than it did, or one unit: of the window's readings that cost something the last one
  // that adds ten or more.
  claimMore(items) {
    const usage = (item) => this.edits.get(editKey(item)) ?? BigInt(usageOf(item).usage);
    const paying = items.filter((item) => usage(item) > 0n && usageOf(item).price_micros > 0);
    const item = paying.filter((one) => usage(one) >= 10n).at(-1) ?? paying.at(-1) ?? items.at(-1);
    const more = usage(item) >= 10n ? usage(item) / 10n : 1n;
    this.edits.set(editKey(item), usage(item) + more);
    this.showDetail();
    this.refresh();
  }

  update() {
    this.cells.forEach((fill) => fill());
    const [window, was] = [this.now.windows[this.at], this.base.windows[this.at]];
    put(
      this.result,
      costPart(this.data, window, was),
      prepaidPart(this.data, window),
      sharePart(this.data, window, was),
      hashPart(window, was, this.check(this.at)),
      this.payoutPart(window),
      this.laterPart(),
      folded(
        "The bytes behind the fingerprint",
        h("p", { class: "small quiet" }, "“tallyroot window 2”, a line's end, the registration's salt (its length first), and:"),
        h("code", {}, toHex(windowBytes(window.document))),
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
          "What this day carries on would differ, too: later days, which this page doesn't hold, would change.",
        )
      : null;
  }
}
