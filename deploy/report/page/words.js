// How amounts, times and the log's own words read to a person.

const KINDS = {
  ev_charger: "Chargers",
  charger: "Chargers",
  pv_inverter: "Inverters",
  inverter: "Inverters",
  taxi_fleet: "Taxis",
  taxi: "Taxis",
  drone: "Drones",
  robot: "Robots",
  sensor: "Sensors",
  battery: "Batteries",
  vending: "Vending machines",
  others: "Other machines",
};
const REASONS = {
  undecodable: "The record can't be read at all.",
  too_many_entries: "More rows in one record than are allowed.",
  unknown_type: "An unknown kind of record.",
  malformed: "A field is missing, or isn't what it should be.",
  unknown_machine: "No such machine is registered.",
  bad_signature: "The signature is wrong, or missing where one is asked for.",
  from_the_future: "It says that it was observed later than now.",
  unknown_meter: "The machine has no such meter.",
  wrong_kind: "The meter shows another kind of value than it is registered for.",
  stale_boot: "It comes from before the meter's last restarts.",
  boot_jump: "The count of restarts jumps too far.",
  seq_jump: "The numbering jumps too far.",
  equivocation: "It has another value under a number that was already counted.",
  below_floor: "Its number lies too far back.",
  seq_reused: "Its number was used before, for an earlier moment.",
  retired: "The machine is retired.",
  too_late: "It came too long after it was observed.",
  too_high: "More than the machine can do in that time.",
  too_low: "The meter stands lower than before.",
  wrong_partition: "It lies in the wrong part of the log.",
  stale_version: "An operator's record that isn't the next one.",
  agreement_locked: "It would lower somebody's share before the lock ends.",
  no_fee: "It takes back a session's fee that the tariff doesn't have.",
  unknown_order: "The machine never placed such an order.",
  order_closed: "The order is closed, or was answered before.",
  over_price: "The invoice has a higher price than the order.",
  order_received: "The goods have arrived: the order can't be cancelled.",
  payment_reused: "The payment was counted before.",
};
const STATES = {
  pending: "Waits for an auditor",
  attested: "Attested by an auditor, its delay runs",
  active: "Can be claimed",
  disputed: "Disputed: dead",
  revoked: "Taken back",
};
const PROVEN = "proven: signed by the meter itself";
const TRUST = ["self-reported", "signed by the machine's key", "signed by a key in hardware"];
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const DAY_MS = 86_400_000;

const SIMULATED = " (simulated)";
const kindName = (kind) =>
  kind.endsWith(SIMULATED) ? plainKind(kind.slice(0, -SIMULATED.length)) + SIMULATED : plainKind(kind);
const plainKind = (kind) => KINDS[kind] ?? kind.charAt(0).toUpperCase() + kind.slice(1).replaceAll("_", " ");
const two = (number) => String(number).padStart(2, "0");
const grouped = (digits) => digits.replace(/\B(?=(\d{3})+$)/g, ",");
const whole = (number) => (number < 0 ? "-" : "") + grouped(String(number).replace("-", ""));

const plural = (count, word) => whole(count) + " " + word + (count === 1 ? "" : "s");

// Units of 10^-scale with `decimals` of them, cut off towards zero: for reading, never for adding.
// Every amount of the page is written by it, so that one figure reads the same everywhere.
function decimal(amount, scale, decimals) {
  const value = BigInt(amount);
  const digits = String(value < 0n ? -value : value).padStart(scale + 1, "0");
  const split = digits.length - scale;
  const part = digits.slice(split, split + decimals);
  return (value < 0n ? "-" : "") + grouped(digits.slice(0, split)) + (decimals ? "." + part : "");
}

const money = (micros) => decimal(micros, 6, 2);
const exact = (micros) => decimal(micros, 6, 6);

function dayText(ms) {
  const at = new Date(ms);
  return at.getUTCDate() + " " + MONTHS[at.getUTCMonth()] + " " + at.getUTCFullYear();
}

function shortDay(ms) {
  const at = new Date(ms);
  return at.getUTCDate() + " " + MONTHS[at.getUTCMonth()];
}

function timeText(ms, seconds = false) {
  const at = new Date(ms);
  return two(at.getUTCHours()) + ":" + two(at.getUTCMinutes()) + (seconds ? ":" + two(at.getUTCSeconds()) : "");
}

const momentText = (ms) => dayText(ms) + " " + timeText(ms) + " UTC";

// A price in words: "0.42 USD for each 1,000 Wh".
function priceText(micros, per, unit, currency) {
  const amount = exact(micros).replace(/0+$/, "").replace(/\.$/, "") + " " + currency;
  if (per === 0) return amount + " for each session";
  return amount + (per === 1 ? " for each " : " for each " + whole(per) + " ") + unit;
}

function shortHash(text) {
  return "0x" + text.replace(/^0x/, "").slice(0, 8) + "…" + text.slice(-6);
}
