// What the check shows of one window: its cost, who is paid, and its fingerprint up to the posted root.

function costPart(data, window, was) {
  const currency = data.log.currency;
  const text = (line) => {
    const price = line.price ? " at " + priceText(line.price, line.per, line.unit, currency) : ", without a price";
    return whole(line.usage) + " " + line.unit + price;
  };
  const find = (lines, like) =>
    lines.find(
      (l) => [l.meter, l.version, l.price, l.per].join() === [like.meter, like.version, like.price, like.per].join(),
    );
  const rows = window.lines.map((line) => {
    const before = find(was.lines, line);
    return [
      line.meter,
      compared(text(line), before ? text(before) : "nothing"),
      compared(exact(line.amount), exact(before?.amount ?? 0n)),
    ];
  });
  const { expenses_micros: expenses, uncollected_micros: uncollected } = window.document;
  if (expenses) rows.push(["Expenses", "what suppliers are owed", exact(-expenses)]);
  if (uncollected) rows.push(["Not collected", "used beyond what customers had paid", exact(-uncollected)]);
  rows.push([h("b", {}, "Income"), "", h("b", {}, compared(exact(window.net), exact(was.net)))]);
  const carry =
    window.carryIn || window.carryOut
      ? h(
          "p",
          { class: "small quiet" },
          "Carried in " +
            whole(window.carryIn) +
            ", carried on " +
            whole(window.carryOut) +
            " of 3,600,000 parts of a millionth: no division loses anything.",
        )
      : null;
  return [
    table("2. What that costs", [{ text: "Meter" }, { text: "Calculation" }, { text: currency, number: true }], rows),
    carry,
  ];
}

// Prepaid sessions that closed in the window, and what it owes to single accounts beside what it shares.
function prepaidPart(data, window) {
  const { sessions, dues } = window.document;
  const currency = data.log.currency;
  const amount = (micros) => exact(micros) + " " + currency;
  const rows = sessions.map((one) => {
    const missing = positive(BigInt(one.used_micros) - BigInt(one.paid_micros));
    const end = missing ? amount(missing) + " stays uncollected" : amount(one.refund_micros) + " goes back";
    return [
      [personCell(data, one.payer), " paid " + amount(one.paid_micros) + " for session " + one.session],
      "used " + amount(one.used_micros) + ": " + end,
    ];
  });
  const words = { expense: "for the order ", refund: "as a refund of session " };
  rows.push(...dues.map((due) => [personCell(data, due.account), "gets " + amount(due.micros) + " " + words[due.kind] + due.ref]));
  return rows.length ? table("Paid before, and owed beside the income", [{ text: "Who" }, { text: "What" }], rows) : null;
}

function sharePart(data, window, was) {
  const settled = window.stored.settled;
  if (!settled) return null;
  const rows = settled.points.map(([payee, points]) => [
    personCell(data, payee),
    decimal(points, 2, 2) + " %",
    compared(exact(window.parts.get(payee) ?? 0n), exact(was.parts.get(payee) ?? 0n)),
  ]);
  return table(
    "3. Who gets it",
    [{ text: "Who" }, { text: "Share", number: true }, { text: data.log.currency, number: true }],
    rows,
  );
}

function hashBox(title, now, was, holds) {
  return h(
    "div",
    { class: "hash" + (holds ? "" : " broken") },
    h("b", {}, mark(holds), title),
    h("code", {}, full(now)),
    holds ? null : h("del", {}, h("span", { class: "unseen" }, "before: "), h("code", {}, full(was))),
  );
}

function hashPart(window, was, check) {
  const parts = [
    h("h3", {}, "4. Its fingerprint, up to the root on the chain"),
    hashBox("Fingerprint of this window: SHA-256 of all of it", window.digest, window.stored.digest, check.digestHolds),
  ];
  if (!check.posted)
    return [...parts, h("p", { class: "quiet" }, "It has not been posted yet: there is no root to compare it with.")];
  const leaf = toHex(window.leaf);
  parts.push(hashBox("Its leaf in the tree: Keccak-256", leaf, toHex(was.leaf), leaf === toHex(was.leaf)));
  const proof = window.stored.settled.proof;
  let node = window.leaf;
  const steps = proof.map((sibling) => {
    node = climb(node, [sibling]);
    return h("li", {}, h("code", {}, "with " + shortHash(sibling) + " makes " + shortHash(toHex(node))));
  });
  parts.push(folded("Its path up the tree, " + proof.length + " steps", h("ol", { class: "path small" }, steps)));
  parts.push(
    hashBox(
      check.rootHolds
        ? "The root that it leads to is the one posted"
        : "The root that it leads to is not the one posted",
      check.root,
      check.post.header.windows_root,
      check.rootHolds,
    ),
  );
  return parts;
}
