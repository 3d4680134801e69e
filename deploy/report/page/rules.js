// What a reading adds, and what that costs: rules 12 to 17 and 21 of the streams' RULES.md, in exact integers.
//
// A meter is {baseline, suspect, quantityAt, slackMs}; a standing is [boot, seq, observed at, value], all BigInt.

const SLACK_MS = 60_000n;
const ELAPSED_MAX_MS = 35n * 86_400_000n;
const FIRST_QUANTITY_MS = 86_400_000n;
const PLAUSIBLE_PERCENT = 135n;
const HOUR_MS = 3_600_000n;
const CARRY_BASE = 3_600_000n;

// Division that rounds towards minus infinity, and its rest, which is never below zero.
function floorDivmod(a, b) {
  const rest = ((a % b) + b) % b;
  return [(a - rest) / b, rest];
}

// {usage, reason, flag}: what a row adds, or why it is rejected. Changes the meter.
function judgeUsage(meter, row) {
  if (row.kind === "register") return judgeRegister(meter, row);
  return row.kind === "quantity" ? judgeQuantity(meter, row) : { usage: 0n };
}

function judgeRegister(meter, row) {
  const here = [row.boot, row.seq, row.observedAt, row.value];
  const base = meter.baseline;
  if (!row.counts) return { usage: 0n }; // rule 12: registers of the previous boot add nothing
  if (base === null) {
    meter.baseline = here;
    return { usage: 0n };
  }
  if (comesBefore(here, base) || here[2] < base[2]) return { usage: 0n }; // rule 12: it comes after a later one
  if (base[0] > -1n && base[0] < here[0] && here[3] < base[3]) {
    Object.assign(meter, { baseline: here, suspect: null, slackMs: SLACK_MS }); // rule 14
    return { usage: 0n, flag: "reset" };
  }
  return continueRegister(meter, base, here, row.capacityPerHour);
}

// Rule 16: from the baseline or from the suspect, the higher that isn't above the register and is plausible.
function continueRegister(meter, base, here, capacity) {
  const origins = [base];
  const suspect = meter.suspect;
  if (suspect !== null && comesBefore(suspect, here) && here[2] > suspect[2]) origins.push(suspect);
  let best = null;
  for (const origin of origins) {
    if (origin[3] > here[3] || (best && origin[3] <= best.origin[3])) continue;
    const slackMs = slackAfter(meter, here[3] - origin[3], smaller(here[2] - origin[2], ELAPSED_MAX_MS), capacity);
    if (slackMs !== null) best = { origin, slackMs };
  }
  if (best === null) {
    meter.suspect = here;
    return { usage: 0n, reason: here[3] < base[3] ? "too_low" : "too_high" };
  }
  Object.assign(meter, { baseline: here, suspect: null, slackMs: best.slackMs });
  return { usage: here[3] - best.origin[3], flag: best.origin === suspect ? "rebaselined" : undefined };
}

// Rule 17.
function judgeQuantity(meter, row) {
  let elapsed = FIRST_QUANTITY_MS;
  if (meter.quantityAt !== -1n) {
    const distance = row.observedAt - meter.quantityAt;
    elapsed = smaller(distance < 0n ? -distance : distance, ELAPSED_MAX_MS);
  }
  const slackMs = slackAfter(meter, row.value, elapsed, row.capacityPerHour);
  if (slackMs === null) return { usage: 0n, reason: "too_high" };
  meter.slackMs = slackMs;
  if (row.observedAt > meter.quantityAt) meter.quantityAt = row.observedAt;
  return { usage: row.value };
}

// Rule 15: the slack that a plausible usage leaves, or null for an implausible one.
function slackAfter(meter, usage, elapsedMs, capacityPerHour) {
  const neededMs = -floorDivmod(-usage * HOUR_MS * 100n, PLAUSIBLE_PERCENT * capacityPerHour)[0];
  const leftMs = meter.slackMs + elapsedMs - neededMs;
  return leftMs < 0n ? null : smaller(SLACK_MS, leftMs);
}

const comesBefore = (a, b) => a[0] < b[0] || (a[0] === b[0] && a[1] < b[1]);
const smaller = (a, b) => (a < b ? a : b);

// Rule 21: lines by (meter, version, price, per) along one carry. `usage` maps a key to {meter, unit, version, micros,
// per, usage}.
function priceLines(usage, carryIn) {
  const order = (a, b) =>
    a.meter !== b.meter ? (a.meter < b.meter ? -1 : 1) : a.version - b.version || a.micros - b.micros || a.per - b.per;
  let carry = carryIn;
  let gross = 0n;
  const lines = [];
  for (const line of [...usage.values()].filter((line) => line.usage !== 0n).sort(order)) {
    const parts = line.per === 0 ? CARRY_BASE : CARRY_BASE / BigInt(line.per);
    const [amount, rest] = floorDivmod(line.usage * BigInt(line.micros) * parts + carry, CARRY_BASE);
    carry = rest;
    gross += amount;
    lines.push({ ...line, amount });
  }
  return { lines, gross, carryOut: carry };
}
