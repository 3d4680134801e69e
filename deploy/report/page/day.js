// A machine's day recomputed from what its readings add: windows, digests, where their proofs lead, who is paid what.

const editKey = (item) => item.offset + "/" + item.row;
const windowKey = (start, adjusts) => start + "/" + (adjusts ?? "");

// The usage that a reading adds, apart from a session's fee; null where it adds none.
const usageOf = (item) => item.adds.find((line) => line.per !== 0) ?? null;

// All results of a day. `edits` maps a reading (editKey) to another usage, a BigInt.
function recomputeDay(day, edits) {
  const found = new Map();
  for (const item of day.items) {
    if (item.reason) continue;
    const key = windowKey(...item.where);
    if (!found.has(key)) found.set(key, { readings: 0, usage: new Map() });
    const window = found.get(key);
    if (item.kind !== "correction") window.readings += 1;
    for (const line of item.adds) {
      const edited = line === usageOf(item) ? edits.get(editKey(item)) : undefined;
      addUsage(window.usage, item, line, edited ?? BigInt(line.usage));
    }
  }
  return sealDay(day, found);
}

function addUsage(usage, { meter, unit }, { version, price_micros: price, per }, more) {
  const key = [meter, version, price, per].join(" ");
  const sum = usage.get(key)?.usage ?? 0n;
  usage.set(key, { meter, unit, version, price: BigInt(price), per, usage: sum + more });
}

const sumOf = (parts, amount) => parts.reduce((sum, part) => sum + amount(part), 0n);
const positive = (amount) => (amount > 0n ? amount : 0n);

// Rule 38: what suppliers are owed, what was used beyond what was paid, and what stays of what was paid.
function prepaidSums(document) {
  const [paid, used, refund] = ["paid_micros", "used_micros", "refund_micros"].map((name) => (one) => BigInt(one[name]));
  return {
    expenses: sumOf(document.dues.filter((due) => due.kind === "expense"), (due) => BigInt(due.micros)),
    uncollected: sumOf(document.sessions, (one) => positive(used(one) - paid(one))),
    collected: sumOf(document.sessions, (one) => paid(one) - refund(one)),
  };
}

// Seals the day's windows in their order, along one carry for each agreement, and pays them. Statements, dues, flags,
// trust and offsets are those that the window states: no edit of a reading here changes them.
function sealDay(day, found) {
  const carries = new Map();
  const debts = new Map();
  const windows = day.windows.map((stored) => {
    const was = stored.document;
    const agreement = canonicalJson(was.agreement.payees);
    const { readings, usage } = found.get(windowKey(was.start_ms, was.adjusts_ms)) ?? { readings: 0, usage: new Map() };
    const carryIn = carries.get(agreement) ?? BigInt(was.carry_in);
    const { lines, gross, carryOut } = priceLines(usage, carryIn);
    carries.set(agreement, carryOut);
    const { expenses, uncollected, collected } = prepaidSums(was);
    const net = gross - expenses - uncollected;
    const document = {
      ...was,
      gross_micros: gross,
      expenses_micros: expenses,
      uncollected_micros: uncollected,
      net_micros: net,
      collected_micros: collected,
      lines: lines.map(({ price: price_micros, amount: amount_micros, ...line }) => ({ ...line, price_micros, amount_micros })),
      carry_in: carryIn,
      carry_out: carryOut,
      readings,
    };
    const digest = windowDigest(document, stored.salt);
    const sealed = { stored, document, lines, gross, net, carryIn, carryOut, digest: toHex(digest) };
    sealed.leaf = windowLeaf(document, digest);
    return { ...sealed, ...payWindow(stored.settled, net, was.trust, agreement, debts) };
  });
  return { windows, carries };
}

// Where the proof of a window leads, and who is paid what.
function payWindow(settled, net, trust, agreement, debts) {
  if (settled === null) return { parts: new Map() };
  const step = accrue(debts.get(agreement) ?? BigInt(settled.carry_before), net, trust, settled);
  debts.set(agreement, step.carry);
  return { payable: step.payable, parts: step.parts };
}

// The root that a window's proof leads to, as hex; null where it isn't settled yet.
function reachedRoot(window) {
  if (!window.stored.settled || window.stored.settled.sequence === 0) return null;
  return toHex(climb(window.leaf, window.stored.settled.proof));
}

// What an edit changes in the payouts: (account, difference in micros) over the posts up to a sequence.
function payoutChanges(base, now, sequence) {
  const changes = new Map();
  const add = (parts, sign, outside) => {
    for (const [payee, part] of parts) {
      if (!outside.includes(payee)) changes.set(payee, (changes.get(payee) ?? 0n) + sign * part);
    }
  };
  now.windows.forEach((window, i) => {
    const settled = window.stored.settled;
    if (settled === null || settled.sequence === 0 || settled.sequence > sequence) return;
    add(window.parts, 1n, settled.outside);
    add(base.windows[i].parts, -1n, settled.outside);
  });
  return new Map([...changes].filter(([, change]) => change !== 0n));
}

// An account in a post, with `change` micros added: its leaf's root, and whether that is the one that was posted.
function checkPayout(post, account, change) {
  const kept = post.accounts[account];
  const units = BigInt(kept.cumulative) + change * 10n ** BigInt(post.decimals - 6);
  const root = toHex(climb(payoutLeaf(account, units < 0n ? 0n : units), kept.proof));
  return { units, root, holds: root === post.header.payouts_root };
}

// How far a window that was read and recomputed agrees with what was sealed and posted.
function checkWindow(window, posts) {
  const settled = window.stored.settled;
  const digestHolds = window.digest === window.stored.digest;
  if (settled === null || settled.sequence === 0) return { digestHolds, posted: false, rootHolds: null, root: null };
  const post = posts.find((one) => one.header.sequence === settled.sequence);
  const root = reachedRoot(window);
  return { digestHolds, posted: true, root, rootHolds: root === post.header.windows_root, post };
}

// A post's own claims: its head, the link to the head before it, the hash of its manifest.
function checkPost(post, data) {
  const header = post.header;
  const head = toHex(headAfter(header));
  const before = data.posts.find((one) => one.header.sequence === header.sequence - 1);
  let previous = null; // where the post before isn't in the page
  if (before) previous = toHex(headAfter(before.header));
  else if (header.sequence === 1 && data.chain) previous = toHex(genesisHead(data.chain));
  const follows = previous === header.previous_head;
  const state = data.states[header.sequence];
  const manifestHash = post.manifest ? toHex(keccak256(utf8(post.manifest))) : null;
  return {
    head,
    headHolds: state ? state.head === head : null,
    follows: follows || (previous === null || data.has_disputes ? null : false), // a dispute moves the head, too
    manifestHolds: manifestHash === null ? null : manifestHash === header.manifest_hash,
  };
}
