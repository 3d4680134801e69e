// What a gateway has taken and Kafka has not: readings in files, and the numbers that they bear.
//
// The files are those of the Python gateway, byte for byte; its spool.py describes them and their rules.

import { createHash } from "node:crypto";
import {
  closeSync, fsyncSync, ftruncateSync, mkdirSync, openSync, readFileSync, readdirSync, renameSync, truncateSync,
  unlinkSync, writeFileSync, writeSync,
} from "node:fs";
import { basename, join } from "node:path";

import { InvalidInput, InvariantBroken, SpoolFull } from "./errors.js";
import { jsonRow } from "./reading.js";

/** The version of the files. */
const FORMAT = 1;

/** A new boot is the number of quarters of an hour since 2020, its first number the ms within the quarter. */
export const BOOT_UNIT_MS = 15 * 60_000;
export const BOOTS_BEGIN_MS = 1_577_836_800_000;

/** No reading's line is longer. */
const LINE_MAX_BYTES = 1 << 10;

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

/** Whether place a is before place b. */
export const isBehind = (a, b) => a[0] < b[0] || (a[0] === b[0] && a[1] < b[1]);

/** One gateway's folder. A place in it is [segment, offset]. */
export class Spool {
  constructor(folder, logId, route, { nowMs, leastBoot = 0, limitBytes = 1 << 28, segmentBytes = 1 << 22 }) {
    Object.assign(this, { folder, logId, route, limitBytes, segmentBytes: Math.min(segmentBytes, limitBytes >> 3) });
    this.warnings = [];
    this.count = 0;
    this.boot = -1;
    this.first = 0;
    /** By "machine meter": { seq, register }, the register null before the meter's first in this boot. */
    this.last = new Map();
    this.sizes = new Map();
    this.segment = 0;
    this.file = null;
    this.headBytes = 0;
    this.unsynced = false;
    try {
      mkdirSync(folder, { recursive: true });
      this.#lock();
    } catch (error) {
      throw this.#unusable(error);
    }
    try {
      this.#open(nowMs, leastBoot);
    } catch (error) {
      unlinkSync(join(folder, "lock.pid"));
      throw this.#unusable(error);
    }
  }

  nextSeq(machine, meter) {
    return (this.last.get(`${machine} ${meter}`)?.seq ?? this.first) + 1;
  }

  /** The meter's last register in this boot; null before its first. */
  lastRegister(machine, meter) {
    return this.last.get(`${machine} ${meter}`)?.register ?? null;
  }

  /** Begins a higher boot, because this meter's register begins again; the other meters keep theirs. */
  beginBoot(machine, meter, nowMs) {
    const { boot, first, last } = this;
    this.#checkRoom(this.headBytes + LINE_MAX_BYTES);
    this.#countBoot(nowMs, boot + 1);
    const others = [...last].filter(([name]) => name !== `${machine} ${meter}`);
    this.last = new Map(others.map(([name, { register }]) => [name, { seq: this.first, register }]));
    try {
      this.#beginSegment();
    } catch (error) {
      Object.assign(this, { boot, first, last });
      throw this.#unwritable(error);
    }
  }

  append(reading) {
    const bytes = line(jsonRow(reading));
    this.#checkRoom(bytes.length);
    try {
      if (this.sizes.get(this.segment) - this.headBytes + bytes.length > this.segmentBytes) this.#beginSegment();
      this.#write(bytes);
    } catch (error) {
      throw this.#unwritable(error);
    }
    this.sizes.set(this.segment, this.sizes.get(this.segment) + bytes.length);
    this.#note(reading);
    this.unsynced = true;
    this.count += 1;
  }

  /** Makes all that was written outlast a loss of power. */
  sync() {
    if (this.unsynced) fsyncSync(this.file);
    this.unsynced = false;
  }

  /** The readings' JSON from a place on, within both limits but at least one if any, and the place after them. */
  read(place, rowsMax, bytesMax) {
    const rows = [];
    let taken = 0;
    for (const segment of [...this.sizes.keys()].filter((number) => number >= place[0]).sort((a, b) => a - b)) {
      let offset = segment === place[0] ? place[1] : 0;
      for (const bytes of linesOf(readFileSync(this.#path(segment)), offset)) {
        const text = textOf(bytes);
        if (text === null) {
          throw new InvariantBroken(`${this.#path(segment)} is damaged at byte ${offset}: make a new gateway`);
        }
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
    if (!isBehind(place, this.end) && place[1] > this.segmentBytes >> 1) {
      this.#beginSegment();
      this.acked = [this.segment, 0];
    }
    for (const number of [...this.sizes.keys()]) {
      if (number >= this.acked[0]) continue;
      unlinkSync(this.#path(number));
      this.sizes.delete(number);
    }
  }

  /** The place after the last reading. */
  get end() {
    return [this.segment, this.sizes.get(this.segment)];
  }

  /** Writes down how far Kafka has them, so that a restart sends less again; duplicates do no harm. */
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
    if (!isWhole || this.boot < leastBoot) {
      if (nowMs < BOOTS_BEGIN_MS && this.boot < 0 && !leastBoot) {
        throw new InvalidInput("the clock is before 2020 and the spool is new: set the clock first");
      }
      // What was lost may have been of this quarter's boot.
      this.#countBoot(nowMs + (numbers.length ? BOOT_UNIT_MS : 0), Math.max(leastBoot, this.boot + 1));
      this.last = new Map();
    }
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
      if (text === null || !this.#takeIn(text, offset === 0)) break;
      offset += bytes.length;
    }
    const rest = data.subarray(offset);
    const isCutOff = isLast && offset > 0 && !rest.includes(10);
    if (offset) this.sizes.set(number, offset);
    if (rest.length && !isCutOff) {
      const aside = path.replace(/readings$/, "damaged");
      writeFileSync(aside, rest);
      this.warnings.push(
        `the spool ${path} is damaged from byte ${offset}: the rest was moved to ${basename(aside)} and won't be sent;` +
          " a new boot begins",
      );
    }
    if (!offset) unlinkSync(path);
    else if (rest.length) truncateSync(path, offset);
    return offset > 0 && (!rest.length || isCutOff);
  }

  /** Loads one line; false where it is neither a head nor a reading. */
  #takeIn(text, isHead) {
    let row;
    try {
      row = JSON.parse(text);
    } catch {
      return false;
    }
    if (!isHead) {
      if (!Number.isSafeInteger(row?.seq)) return false;
      this.#note(row);
      return true;
    }
    if (!Number.isSafeInteger(row?.spool) || !Array.isArray(row.last)) return false;
    this.#checkHead(row);
    if (row.boot !== this.boot) this.last = new Map();
    this.boot = row.boot;
    this.first = row.first;
    for (const [machine, meter, seq, register = null] of row.last) {
      // A head that could not be made durable is behind the lines that followed it in the segment before.
      if (seq >= this.nextSeq(machine, meter) - 1) this.last.set(`${machine} ${meter}`, { seq, register });
    }
    return true;
  }

  /** A reading's number and, where it has one, register are its meter's last. */
  #note({ machine, meter, seq, register }) {
    this.last.set(`${machine} ${meter}`, { seq, register: register ?? this.lastRegister(machine, meter) });
  }

  #checkHead(head) {
    if (head.spool !== FORMAT) {
      throw new InvalidInput(`the spool ${this.folder} has format ${head.spool}: use the version that wrote it`);
    }
    if (head.log_id !== this.logId || head.route !== this.route) {
      throw new InvalidInput(
        `the spool ${this.folder} belongs to the route ${head.route} of the log ${head.log_id}:` +
          " use one folder for each gateway",
      );
    }
  }

  /** The boot of this moment, or the least if that is higher. */
  #countBoot(nowMs, least) {
    const since = Math.max(0, nowMs - BOOTS_BEGIN_MS);
    this.first = since % BOOT_UNIT_MS;
    this.boot = Math.max(Math.floor(since / BOOT_UNIT_MS), least);
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
    const last = [...this.last]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([name, { seq, register }]) => [...name.split(" "), seq, register]);
    const head = { spool: FORMAT, log_id: this.logId, route: this.route, boot: this.boot, first: this.first, last };
    const bytes = line(Buffer.from(JSON.stringify(head)));
    const path = this.#path(this.segment + 1);
    this.#replace(basename(path), bytes, true);
    const file = openSync(path, "a");
    if (this.file !== null) closeSync(this.file);
    this.segment += 1;
    this.file = file;
    this.headBytes = bytes.length;
    this.sizes.set(this.segment, bytes.length);
  }

  #checkRoom(size) {
    let total = size;
    for (const each of this.sizes.values()) total += each;
    if (total <= this.limitBytes) return;
    throw new SpoolFull(
      `the spool ${this.folder} is full, ${this.count} readings wait for Kafka: this reading was not taken;` +
        " see why Kafka doesn't take them, or raise spoolBytes",
    );
  }

  #unusable(error) {
    if (error.syscall === undefined) return error;
    return new InvalidInput(`the spool ${this.folder} can't be used (${error.code}): name a folder that can be written`);
  }

  #unwritable(error) {
    return new InvalidInput(`the spool ${this.folder} can't be written (${error.code ?? error.message}): this reading was not taken`);
  }

  /** Writes all of a line or nothing. */
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
      throw new InvalidInput(`another gateway has the spool ${this.folder}: use one folder for each gateway`);
    }
    writeFileSync(path, identityOf(process.pid));
  }

  #path(number) {
    return join(this.folder, `${String(number).padStart(12, "0")}.readings`);
  }
}

/** A process as its id and, where the system tells it, its start: in a container every first process is 1. */
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
