// What usage costs: rule 21 of the streams' RULES.md, in exact integers.

const CARRY_BASE = 3_600_000n;

// Division that rounds towards minus infinity, and its rest, which is never below zero.
function floorDivmod(a, b) {
  const rest = ((a % b) + b) % b;
  return [(a - rest) / b, rest];
}

// Lines by (meter, version, price, per) along one carry. `usage` maps a key to {meter, unit, version, price, per,
// usage}: price and usage are BigInt, per 0 is for each session.
function priceLines(usage, carryIn) {
  const order = (a, b) => {
    if (a.meter !== b.meter) return a.meter < b.meter ? -1 : 1;
    if (a.version !== b.version) return a.version - b.version;
    if (a.price !== b.price) return a.price < b.price ? -1 : 1;
    return a.per - b.per;
  };
  let carry = carryIn;
  let gross = 0n;
  const lines = [];
  for (const line of [...usage.values()].filter((line) => line.usage !== 0n).sort(order)) {
    const parts = line.per === 0 ? CARRY_BASE : CARRY_BASE / BigInt(line.per);
    const [amount, rest] = floorDivmod(line.usage * line.price * parts + carry, CARRY_BASE);
    carry = rest;
    gross += amount;
    lines.push({ ...line, amount });
  }
  return { lines, gross, carryOut: carry };
}
