// What a meter shows, as it travels, and what can be wrong with it, in words for the caller.

import { InvalidInput } from "./errors.js";

/** The fields of a reading, in their order. */
export const FIELDS = [
  "machine", "meter", "boot", "seq", "observed_at", "register", "quantity", "level", "session", "session_started_at",
  "session_start", "session_end", "reconstructed", "evidence",
];

const VALUES = ["register", "quantity", "level"];
const FLAGS = ["session_start", "session_end", "reconstructed"];

/** The largest integer on the wire: what a double still holds exactly. */
const COUNT_MAX = 2 ** 53;

// Times lie in the years 2000 to 2099: others come from a clock that isn't set, or are in another unit.
const OLDEST_MS = 946_684_800_000;
const NEWEST_MS = 4_102_444_800_000;

// How long the signed values of a meter may be, in UTF-8.
const EVIDENCE_BYTES = 8_192;

const ID = /^[A-Za-z0-9._:*-]{1,64}$/;

/** Whether a value can name a log, a route, a machine, a meter, a session or a key. */
export const isId = (value) => typeof value === "string" && ID.test(value);

/** The error for a reading with a fault. */
export const refused = (fault) => new InvalidInput(`this reading was not taken: ${fault}`);

/** One reading as JSON, without what is absent or false, its fields in their order. */
export function jsonRow(reading) {
  const kept = {};
  for (const name of FIELDS) if (reading[name] !== undefined && reading[name] !== false) kept[name] = reading[name];
  return Buffer.from(JSON.stringify(kept));
}

/** Why these fields are not a whole reading, null if they are. */
export function faultOf(fields) {
  const isThere = (name) => fields[name] !== undefined;
  const values = VALUES.filter(isThere);
  const faults = [
    ...["machine", "meter"].map((name) => idFault(name, fields[name])),
    ...["session"].filter(isThere).map((name) => idFault(name, fields[name])),
    ...["boot", "seq", ...values].map((name) => countFault(name, fields[name])),
    timeFault("observed_at", fields.observed_at),
    ...["session_started_at"].filter(isThere).map((name) => timeFault(name, fields[name])),
    ...FLAGS.filter(isThere).map((name) => flagFault(name, fields[name])),
    ...["evidence"].filter(isThere).map((name) => evidenceFault(fields[name], isThere("register"))),
  ];
  const fault = faults.find((found) => found !== null);
  if (fault !== undefined) return fault;
  if (values.length !== 1) {
    return `give exactly one of register, quantity and level, not ${values.join(" and ") || "none"}`;
  }
  return sessionFault(fields);
}

/** What the log would refuse about a receipt of goods, null if nothing. */
export function receiptFault({ machine, item, number, quantity, observed_at: observedAt }) {
  const fault = idFault("machine", machine) ?? idFault("item", item) ?? countFault("number", number);
  if (fault !== null) return fault;
  if (number === 0) return "number: orders are numbered from 1";
  return countFault("quantity", quantity) ?? timeFault("observed_at", observedAt);
}

/** A value as it is shown in a message. */
export function shown(value) {
  if (typeof value === "string") return `'${JSON.stringify(value).slice(1, -1)}'`; // one line, whatever it holds
  if (typeof value === "bigint") return `${value}n`;
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

function idFault(name, value) {
  return isId(value) ? null : `${name}: use 1 to 64 of A-Z a-z 0-9 . _ : * -, not ${shown(value)}`;
}

function evidenceFault(value, isRegister) {
  if (typeof value !== "string" || value === "") return `evidence: use the text that the meter signed, not ${shown(value)}`;
  const size = Buffer.byteLength(value);
  if (size > EVIDENCE_BYTES) return `evidence: ${size} bytes are more than ${EVIDENCE_BYTES}`;
  return isRegister ? null : "evidence needs a register";
}

function countFault(name, value) {
  if (!Number.isInteger(value)) return `${name}: use an integer in the meter's unit, not ${shown(value)}`;
  return value >= 0 && value <= COUNT_MAX ? null : `${name}: use 0 to 2^53, not ${value}`;
}

function timeFault(name, value) {
  if (!Number.isInteger(value)) return `${name}: use an integer, milliseconds since 1970 (UTC), not ${shown(value)}`;
  const isTime = (ms) => ms >= OLDEST_MS && ms < NEWEST_MS;
  if (isTime(value)) return null;
  for (const [unit, ms] of [["seconds", value * 1e3], ["microseconds", value / 1e3], ["nanoseconds", value / 1e6]]) {
    if (isTime(ms)) return `${name}: ${value} looks like ${unit}: use milliseconds since 1970 (UTC)`;
  }
  const when = value < OLDEST_MS ? "before the year 2000" : "after the year 2099";
  return `${name}: ${value} is ${when}: set the clock, and use milliseconds since 1970 (UTC)`;
}

/** What is wrong with a value that must be true or false, null if nothing is. */
export function flagFault(name, value) {
  return typeof value === "boolean" ? null : `${name}: use true or false, not ${shown(value)}`;
}

function sessionFault(fields) {
  if ((fields.session === undefined) !== (fields.session_started_at === undefined)) {
    return "give session and session_started_at together";
  }
  if (fields.session === undefined) {
    const mark = ["session_start", "session_end"].find((name) => fields[name]);
    return mark === undefined ? null : `${mark} needs a session`;
  }
  const isBefore = fields.session_started_at <= fields.observed_at;
  return isBefore ? null : "session_started_at: use a time that is not after observed_at";
}
