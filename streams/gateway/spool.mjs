// What a gateway has taken and Kafka has not: readings in files, and the numbers that they bear.
//
// The files are those of spool.py, line for line, and so are the rules: spool.py says them.

import { createHash } from "node:crypto";
import {
  closeSync, fsyncSync, ftruncateSync, mkdirSync, openSync, readFileSync, readdirSync, renameSync, truncateSync,
  unlinkSync, writeFileSync, writeSync,
} from "node:fs";
import { join } from "node:path";

/** A new boot is the number of quarters of an hour since 2020, its first number the ms within the quarter. */
export const BOOT_UNIT_MS = 15 * 60_000;
export const BOOTS_BEGIN_MS = 1_577_836_800_000;

/** The caller's fault: the message is one line that says what to do. */
export class InvalidInput extends Error {}

/** The spool has no room: the reading was not taken and has no number. */
export class SpoolFull extends InvalidInput {}

/** The fields of a reading in their order. */
export const FIELDS = [
  "machine", "meter", "boot", "seq", "observed_at", "register", "quantity", "level", "session", "session_started_at",
  "session_start", "reconstructed",
];

/** One reading as JSON, without what is absent or false, its fields in their order. */
export function jsonRow(reading) {
  const kept = {};
  for (const name of FIELDS) if (reading[name] !== undefined && reading[name] !== false) kept[name] = reading[name];
  return Buffer.from(JSON.stringify(kept));
}

function line(text) {
  const mark = createHash("sha256").update(text).digest("hex").slice(0, 8);
  return Buffer.concat([Buffer.from(`${mark} `), text, Buffer.from("\n")]);
}

/** What a line says, or null where it isn't as it was written. */
function textOf(bytes) {
  const text = bytes.subarray(9, bytes.length - 1);
  return bytes.length > 9 && line(text).equals(bytes) ? text : null;
}

function* linesOf(data, from = 0) {
  for (let at = from; at < data.length; ) {
    const newline = data.indexOf(10, at);
    const end = newline < 0 ? data.length : newline + 1;
    yield data.subarray(at, end);
    at = end;
  }
}

const isBehind = (a, b) => a[0] < b[0] || (a[0] === b[0] && a[1] < b[1]);

/** What a gateway has taken and Kafka has not. The files are those of spool.py, which says what they hold. */
export class Spool {
  constructor(folder, logId, route, { nowMs, leastBoot = 0, limitBytes = 1 << 28, segmentBytes = 1 << 22 }) {
    Object.assign(this, { folder, logId, route, limitBytes, segmentBytes: Math.min(segmentBytes, limitBytes >> 3) });
    this.warnings = [];
    this.count = 0;
    this.boot = -1;
    this.first = 0;
    this.last = new Map();
    this.sizes = new Map();
    this.segment = 0;
    this.file = null;
    this.headBytes = 0;
    this.unsynced = false;
    mkdirSync(folder, { recursive: true });
    this.#lock();
    try {
      this.#open(nowMs, leastBoot);
    } catch (error) {
      unlinkSync(join(folder, "lock.pid"));
      throw error;
    }
  }

  nextSeq(machine, meter) {
    return (this.last.get(`${machine} ${meter}`) ?? this.first) + 1;
  }

  append(reading) {
    const bytes = line(jsonRow(reading));
    let total = 0;
    for (const size of this.sizes.values()) total += size;
    if (total + bytes.length > this.limitBytes) {
      throw new SpoolFull(
        `the spool ${this.folder} is full, ${this.count} readings wait for Kafka: this reading was not taken`,
      );
    }
    try {
      if (this.sizes.get(this.segment) - this.headBytes + bytes.length > this.segmentBytes) this.#beginSegment();
      this.#write(bytes);
    } catch (error) {
      throw new InvalidInput(`the spool ${this.folder} can't be written (${error.code}): this reading was not taken`);
    }
    this.sizes.set(this.segment, this.sizes.get(this.segment) + bytes.length);
    this.last.set(`${reading.machine} ${reading.meter}`, reading.seq);
    this.unsynced = true;
    this.count += 1;
  }

  /** All that was written outlasts a loss of power. */
  sync() {
    if (this.unsynced) fsyncSync(this.file);
    this.unsynced = false;
  }

  /** The JSON of the readings from a place ([segment, offset]) on, and the place after them. */
  read(place, rowsMax, bytesMax) {
    const rows = [];
    let taken = 0;
    for (const segment of [...this.sizes.keys()].filter((number) => number >= place[0]).sort((a, b) => a - b)) {
      let offset = segment === place[0] ? place[1] : 0;
      for (const bytes of linesOf(readFileSync(this.#path(segment)), offset)) {
        const text = textOf(bytes);
        if (text === null) throw new Error(`${this.#path(segment)} is damaged at byte ${offset}: start again`);
        if (offset) {
          taken += text.length + 1;
          if (rows.length && taken > bytesMax) return [rows, [segment, offset]];
          rows.push(text);
        }
        offset += bytes.length;
        if (rows.length === rowsMax) return [rows, [segment, offset]];
      }
      place = [segment, offset];
    }
    return [rows, place];
  }

  /** Kafka has all before a place, `count` readings more than it was known to have. */
  forget(place, count) {
    this.acked = place;
    this.count -= count;
    if (!isBehind(place, [this.segment, this.sizes.get(this.segment)]) && place[1] > this.segmentBytes >> 1) {
      this.#beginSegment();
      this.acked = [this.segment, 0];
    }
    for (const number of [...this.sizes.keys()]) {
      if (number >= this.acked[0]) continue;
      unlinkSync(this.#path(number));
      this.sizes.delete(number);
    }
  }

  noteAcked() {
    this.#replace("acked", line(Buffer.from(JSON.stringify(this.acked))), false);
  }

  close() {
    this.sync();
    this.noteAcked();
    closeSync(this.file);
    unlinkSync(join(this.folder, "lock.pid"));
  }

  #open(nowMs, leastBoot) {
    const numbers = readdirSync(this.folder)
      .filter((name) => name.endsWith(".readings"))
      .map((name) => parseInt(name, 10))
      .sort((a, b) => a - b);
    const areWhole = numbers.map((number) => this.#load(number, number === numbers.at(-1)));
    const isWhole = areWhole.length && !areWhole.includes(false);
    if (!isWhole || this.boot < leastBoot) this.#beginBoot(nowMs, leastBoot, !numbers.length);
    this.acked = this.#loadAcked();
    for (let place = this.acked, rows; ([rows, place] = this.read(place, 10_000, 1 << 22)), rows.length; ) {
      this.count += rows.length;
    }
    this.segment = numbers.at(-1) ?? 0;
    this.#beginSegment();
    if (!this.count) this.forget([this.segment, 0], 0);
  }

  #load(number, isLast) {
    const path = this.#path(number);
    const data = readFileSync(path);
    let offset = 0;
    for (const bytes of linesOf(data)) {
      const text = textOf(bytes);
      if (text === null || !this.#takeIn(JSON.parse(text), offset === 0)) break;
      offset += bytes.length;
    }
    const rest = data.subarray(offset);
    const isCutOff = isLast && offset > 0 && !rest.includes(10);
    if (offset) this.sizes.set(number, offset);
    if (rest.length && !isCutOff) {
      const aside = path.replace(/readings$/, "damaged");
      writeFileSync(aside, rest);
      this.warnings.push(
        `the spool ${path} is damaged from byte ${offset} on: what lay there is kept in ${aside} and won't be sent;` +
          " a new boot begins",
      );
    }
    if (!offset) unlinkSync(path);
    else if (rest.length) truncateSync(path, offset);
    return offset > 0 && (!rest.length || isCutOff);
  }

  #takeIn(said, isHead) {
    if (!isHead) {
      this.last.set(`${said.machine} ${said.meter}`, said.seq);
      return true;
    }
    if (said.spool !== 1) return false;
    if (said.log_id !== this.logId || said.route !== this.route) {
      throw new InvalidInput(
        `the spool ${this.folder} belongs to the route ${said.route} of the log ${said.log_id}:` +
          " give each gateway a folder of its own",
      );
    }
    this.boot = said.boot;
    this.first = said.first;
    this.last = new Map(said.last.map(([machine, meter, seq]) => [`${machine} ${meter}`, seq]));
    return true;
  }

  #beginBoot(nowMs, leastBoot, isNew) {
    const since = nowMs - BOOTS_BEGIN_MS;
    if (since < 0 && this.boot < 0) {
      throw new InvalidInput("the clock is before 2020 and the spool is new: set the clock first");
    }
    this.first = Math.max(0, since) % BOOT_UNIT_MS;
    const quarter = Math.floor(Math.max(0, since) / BOOT_UNIT_MS);
    this.boot = Math.max(isNew ? quarter : quarter + 1, leastBoot, this.boot + 1);
    this.last = new Map();
  }

  #loadAcked() {
    const start = [Math.min(...this.sizes.keys(), Infinity), 0];
    if (!this.sizes.size) return [0, 0];
    try {
      const text = textOf(readFileSync(join(this.folder, "acked")));
      const [segment, offset] = JSON.parse(text);
      if (!(offset >= 0 && offset <= (this.sizes.get(segment) ?? -1))) return start;
      return !offset || readFileSync(this.#path(segment))[offset - 1] === 10 ? [segment, offset] : start;
    } catch {
      return start;
    }
  }

  #beginSegment() {
    if (this.file !== null) this.sync();
    const last = [...this.last].sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, seq]) => [...name.split(" "), seq]);
    const head = { spool: 1, log_id: this.logId, route: this.route, boot: this.boot, first: this.first, last };
    const bytes = line(Buffer.from(JSON.stringify(head)));
    const path = this.#path(this.segment + 1);
    this.#replace(path.slice(this.folder.length + 1), bytes, true);
    const file = openSync(path, "a");
    if (this.file !== null) closeSync(this.file);
    this.segment += 1;
    this.file = file;
    this.headBytes = bytes.length;
    this.sizes.set(this.segment, bytes.length);
  }

  #write(bytes) {
    let written = 0;
    try {
      written = writeSync(this.file, bytes);
    } finally {
      if (written < bytes.length) ftruncateSync(this.file, this.sizes.get(this.segment));
    }
    if (written < bytes.length) throw Object.assign(new Error("the disk is full"), { code: "ENOSPC" });
  }

  #replace(name, bytes, isSynced) {
    const path = join(this.folder, name);
    const unfinished = path.replace(/(\.readings)?$/, ".new");
    const file = openSync(unfinished, "w");
    writeSync(file, bytes);
    if (isSynced) fsyncSync(file);
    closeSync(file);
    renameSync(unfinished, path);
    if (!isSynced) return;
    const folder = openSync(this.folder, "r");
    fsyncSync(folder);
    closeSync(folder);
  }

  /** Node has no flock: a file that names our process, taken over from one that is gone. */
  #lock() {
    const path = join(this.folder, "lock.pid");
    try {
      writeFileSync(path, identityOf(process.pid), { flag: "wx" });
      return;
    } catch (error) {
      if (error.code !== "EEXIST") throw error;
    }
    const owner = readFileSync(path, "utf8");
    if (owner && owner === identityOf(parseInt(owner, 10))) {
      throw new InvalidInput(`another gateway has the spool ${this.folder}: give each one a folder of its own`);
    }
    writeFileSync(path, identityOf(process.pid));
  }

  #path(number) {
    return join(this.folder, `${String(number).padStart(12, "0")}.readings`);
  }
}

/** A process as its id and, where the system says so, when it began: in a container every first process is 1. */
function identityOf(pid) {
  try {
    const said = readFileSync(`/proc/${pid}/stat`, "utf8");
    return `${pid} ${said.slice(said.lastIndexOf(")") + 2).split(" ")[19]}`;
  } catch {
    // No such process, or no /proc.
  }
  try {
    process.kill(pid, 0);
    return `${pid}`;
  } catch (error) {
    return error.code === "EPERM" ? `${pid}` : "";
  }
}
