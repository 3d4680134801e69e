// A machine's day recomputed from its readings: windows, digests, where their proofs lead, and what everybody is paid.

const editKey = (item) => item.offset + "/" + item.row;
const windowKey = (start, adjusts) => start + "/" + (adjusts ?? "");
const standing = (values) => (values === null ? null : values.map(BigInt));

// The rows of a day as the rules want them: integers of any size.
function rowOf(item, edits) {
  const edited = edits.get(editKey(item));
  return {
    kind: item.kind,
    counts: item.counts,
    boot: BigInt(item.boot),
    seq: BigInt(item.seq),
    observedAt: BigInt(item.observed_at),
    capacityPerHour: BigInt(item.capacity_per_hour),
    value: edited === undefined ? BigInt(item.value) : edited,
  };
}

function meterOf(facts) {
  return {
    baseline: standing(facts.baseline),
    suspect: standing(facts.suspect),
    quantityAt: BigInt(facts.quantity_at),
    slackMs: BigInt(facts.slack_ms),
  };
}

function setFact(meter, name, value) {
  if (name === "baseline" || name === "suspect") meter[name] = standing(value);
  else meter[name === "slack_ms" ? "slackMs" : "quantityAt"] = BigInt(value);
}

// All results of a day. `edits` maps a reading (editKey) to another value, a BigInt.
function recomputeDay(day, edits) {
  const meters = new Map(day.meters.map((facts) => [facts.meter, meterOf(facts)]));
  const meterAt = (name) => {
    if (!meters.has(name))
      meters.set(name, meterOf({ baseline: null, suspect: null, quantity_at: -1, slack_ms: 60000 }));
    return meters.get(name);
  };
  const open = new Map();
  const rows = new Map();
  const openAt = ([start, adjusts]) => {
    const key = windowKey(start, adjusts);
    if (!open.has(key)) {
      open.set(key, { readings: 0, first: -1, last: -1, skipped: 0, flags: new Set(), trust: 2, usage: new Map() });
    }
    return open.get(key);
  };
  for (const item of day.items) {
    if (item.what === "fact") setFact(meterAt(item.meter), item.name, item.value);
    else if (item.what === "correction") {
      const window = openAt(item.where);
      noteOffset(window, item.offset);
      for (const [meter, unit, version, micros, per, usage] of item.lines) {
        addUsage(window, { meter, unit, version, micros, per }, BigInt(usage));
      }
    } else {
      const row = rowOf(item, edits);
      const judged = judgeUsage(meterAt(item.meter), row);
      rows.set(editKey(item), { ...judged, value: row.value });
      if (judged.reason === undefined) placeRow(openAt(item.where), item, judged);
    }
  }
  return { rows, meters, ...sealDay(day, open) };
}

function noteOffset(window, offset) {
  if (window.first === -1 || offset < window.first) window.first = offset;
  if (offset > window.last) window.last = offset;
}

function addUsage(window, line, usage) {
  const key = [line.meter, line.version, line.micros, line.per].join(" ");
  const sum = window.usage.get(key)?.usage ?? 0n;
  window.usage.set(key, { ...line, usage: sum + usage });
}

function placeRow(window, item, judged) {
  noteOffset(window, item.offset);
  window.readings += 1;
  window.skipped += item.skipped;
  window.trust = Math.min(window.trust, item.trust);
  if (judged.flag) window.flags.add(judged.flag);
  if (item.reconstructed) window.flags.add("reconstructed");
  const { meter, unit } = item;
  const [version, micros, per] = item.price;
  if (judged.usage) addUsage(window, { meter, unit, version, micros, per }, judged.usage);
  if (item.session_price) {
    const [ofVersion, each, perSession] = item.session_price;
    addUsage(window, { meter, unit, version: ofVersion, micros: each, per: perSession }, 1n);
  }
}

// Seals the day's windows in their order, along one carry for each agreement, and pays them.
function sealDay(day, open) {
  const carries = new Map();
  const debts = new Map();
  const windows = day.windows.map((stored) => {
    const was = stored.document;
    const agreement = canonicalJson(was.agreement.payees);
    const found = open.get(windowKey(was.start_ms, was.adjusts_ms));
    if (found === undefined) return { stored, gone: true, net: 0n, lines: [], parts: new Map() };
    const carryIn = carries.get(agreement) ?? BigInt(was.carry_in);
    const { lines, gross, carryOut } = priceLines(found.usage, carryIn);
    carries.set(agreement, carryOut);
    // A mark of equivocation comes from rejected readings, which no edit here changes.
    const flags = [...found.flags, ...was.flags.filter((flag) => flag === "equivocation")].sort();
    const net = gross - BigInt(was.expenses_micros);
    const document = {
      ...was,
      gross_micros: String(gross),
      net_micros: String(net),
      lines: lines.map((l) => [l.meter, l.unit, l.version, String(l.usage), l.micros, l.per, String(l.amount)]),
      carry_in: carryIn,
      carry_out: carryOut,
      readings: found.readings,
      first_offset: found.first,
      last_offset: found.last,
      skipped: found.skipped,
      flags,
      trust: found.trust,
    };
    const digest = windowDigest(document, stored.salt);
    const sealed = { stored, gone: false, document, lines, net, carryIn, carryOut, digest: toHex(digest) };
    sealed.leaf = windowLeaf(document, digest);
    return { ...sealed, ...payWindow(stored.settled, net, found.trust, agreement, debts) };
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
  if (window.gone || !window.stored.settled || window.stored.settled.sequence === 0) return null;
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
  const digestHolds = !window.gone && window.digest === window.stored.digest;
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
