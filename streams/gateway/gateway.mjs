// The gateway for JavaScript (Node 18 or newer, no dependency): what gateway.py does.
//
//   const gateway = new Gateway({ logId, route, spool, produce: async (record) => { ... } });
//   gateway.send({ machine: "charger-7", meter: "energy", register: 1234 });
//
// `produce` hands a record { topic, partition, key, value, headers } to any Kafka client and resolves once Kafka has it
// (acks=all). Readings are numbered and on disk before `send` returns; they leave in order, after any crash.

import { createHash, createPrivateKey, createPublicKey, sign } from "node:crypto";

import { FIELDS, InvalidInput, Spool, SpoolFull } from "./spool.mjs";

export { InvalidInput, SpoolFull };

export const JSON_TYPE = "application/json";

const ID = /^[A-Za-z0-9._:-]{1,64}$/;
const ELAPSED_MAX_MS = 35 * 86_400_000;
const BATCH_BYTES = 1 << 19;
const PAUSE_MAX_MS = 30_000;

/** Kafka's murmur2 of bytes, as an unsigned 32-bit integer. */
export function murmur2(data) {
  const m = 0x5bd1e995;
  let h = 0x9747b28c ^ data.length;
  const whole = data.length & ~3;
  for (let at = 0; at < whole; at += 4) {
    let k = data[at] | (data[at + 1] << 8) | (data[at + 2] << 16) | (data[at + 3] << 24);
    k = Math.imul(k, m);
    k = Math.imul(k ^ (k >>> 24), m);
    h = Math.imul(h, m) ^ k;
  }
  if (data.length > whole) {
    for (let at = data.length - 1; at >= whole; at--) h ^= data[at] << (8 * (at - whole));
    h = Math.imul(h, m);
  }
  h = Math.imul(h ^ (h >>> 13), m);
  return (h ^ (h >>> 15)) >>> 0;
}

/** The partition of a record key among so many. */
export function partitionOf(key, partitions) {
  return (murmur2(Buffer.from(key)) & 0x7fffffff) % partitions;
}

/** The bytes that a device signs: a domain, then each field, the value as its SHA-256, with its length in 8 bytes. */
export function readingMessage(logId, key, type, contentType, value) {
  const parts = [Buffer.from("tallyroot reading 1\n")];
  for (const field of [logId, key, type, contentType, createHash("sha256").update(value).digest()]) {
    const bytes = Buffer.from(field);
    const length = Buffer.alloc(8);
    length.writeBigUInt64BE(BigInt(bytes.length));
    parts.push(length, bytes);
  }
  return Buffer.concat(parts);
}

/** Node's key of the 32 bytes that RFC 8032 calls the private key. */
function ed25519(privateKey) {
  if (privateKey.length !== 32) throw new InvalidInput("the device key is no Ed25519 private key: give 32 bytes");
  const prefix = Buffer.from("302e020100300506032b657004220420", "hex");
  return createPrivateKey({ key: Buffer.concat([prefix, privateKey]), format: "der", type: "pkcs8" });
}

/** A device's signature, 64 bytes. */
export function signReading(privateKey, logId, key, type, contentType, value) {
  return sign(null, readingMessage(logId, key, type, contentType, value), ed25519(privateKey));
}

/** The public key (64 hex digits) that a registration names. */
export function publicKey(privateKey) {
  return createPublicKey(ed25519(privateKey)).export({ format: "der", type: "spki" }).subarray(-32).toString("hex");
}

/** Why something is no whole reading, null where it is one. */
export function faultOf(item) {
  for (const name of ["machine", "meter"]) {
    const isId = typeof item[name] === "string" && ID.test(item[name]);
    if (!isId) return `${name}: an id of A-Z a-z 0-9 . _ : -, at most 64`;
  }
  for (const name of ["boot", "seq", "observed_at", "register", "quantity", "level", "session_started_at"]) {
    const isNeeded = ["boot", "seq", "observed_at"].includes(name);
    if (item[name] === undefined && !isNeeded) continue;
    const isCount = Number.isSafeInteger(item[name]) && item[name] >= 0;
    if (!isCount) return `${name}: an integer of 0 or more, not ${item[name]}`;
  }
  for (const name of ["session_start", "reconstructed"]) {
    if (item[name] !== undefined && typeof item[name] !== "boolean") return `${name}: true or false`;
  }
  const values = ["register", "quantity", "level"].filter((name) => item[name] !== undefined);
  if (values.length !== 1) return `exactly one of register, quantity and level, not ${values.join(" and ") || "none"}`;
  if ((item.session === undefined) !== (item.session_started_at === undefined)) {
    return "session and session_started_at come together";
  }
  if (item.session === undefined) return item.session_start ? "session_start without a session" : null;
  if (typeof item.session !== "string" || !ID.test(item.session)) return "session: an id of at most 64";
  const before = item.observed_at - item.session_started_at;
  return before < 0 || before > ELAPSED_MAX_MS
    ? "session_started_at must lie within the 35 days up to observed_at"
    : null;
}

/** The value of a record of rows that are JSON already. */
export function jsonValue(rows) {
  if (rows.length === 1) return rows[0];
  const parts = rows.flatMap((row, at) => [Buffer.from(at ? "," : "["), row]);
  return Buffer.concat([...parts, Buffer.from("]")]);
}

/** One route's gateway. `send` takes a reading; `flush` resolves once Kafka has all that was sent; `close` ends it. */
export class Gateway {
  #spool;
  #running = null;
  #timer = null;
  #isOpen = true;
  #broken = null;

  constructor({
    logId, route, spool, produce, topic = "telemetry", partitions = 4, keyId, privateKey, batchRows = 1_000,
    batchMs = 200, boot = 0, spoolBytes = 1 << 28, sync = "batch", nowMs = Date.now, warn = console.warn,
  }) {
    for (const [name, value] of [["log id", logId], ["route", route], ["key id", keyId ?? "none"]]) {
      if (typeof value !== "string" || !ID.test(value)) {
        throw new InvalidInput(`'${value}' is no ${name}: use at most 64 of A-Z a-z 0-9 . _ : -`);
      }
    }
    if ((keyId === undefined) !== (privateKey === undefined)) {
      throw new InvalidInput("a signing gateway needs both, keyId and privateKey");
    }
    if (!(partitions >= 1 && partitions <= 1_024)) {
      throw new InvalidInput(`a log has 1 to 1,024 partitions, not ${partitions}`);
    }
    if (!(batchRows >= 1 && batchRows <= 10_000)) {
      throw new InvalidInput(`a batch has 1 to 10,000 rows, not ${batchRows}`);
    }
    Object.assign(this, { logId, route, produce, topic, keyId, privateKey, batchRows, batchMs, sync, nowMs });
    this.partition = partitionOf(route, partitions);
    /** Why readings wait, null while Kafka takes them. */
    this.problem = null;
    if (privateKey !== undefined) publicKey(privateKey);
    const limitBytes = Math.max(spoolBytes, 1 << 14);
    this.#spool = new Spool(spool, logId, route, { nowMs: nowMs(), leastBoot: boot, limitBytes });
    for (const warning of this.#spool.warnings) warn(warning);
    if (this.#spool.count) this.#schedule(0);
  }

  get boot() {
    return this.#spool.boot;
  }

  /** How many readings Kafka hasn't confirmed. */
  get waiting() {
    return this.#spool.count;
  }

  /** Takes one reading, observed now unless it says when, and gives it back with its boot and number. */
  send(given) {
    if (this.#broken !== null) throw this.#broken;
    if (!this.#isOpen) throw new InvalidInput("the gateway is closed: make a new one");
    const item = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined && value !== null));
    const unknown = Object.keys(item).find((name) => !FIELDS.includes(name) || name === "boot" || name === "seq");
    const reading = { observed_at: this.nowMs(), ...item, boot: this.#spool.boot, seq: 0 };
    const fault = unknown === undefined ? faultOf(reading) : `${unknown} is no field of a reading to send`;
    if (fault !== null) throw new InvalidInput(`this is no reading: ${fault}`);
    reading.seq = this.#spool.nextSeq(item.machine, item.meter);
    this.#spool.append(reading);
    if (this.sync === "reading") this.#spool.sync();
    this.#schedule(this.#spool.count >= this.batchRows ? 0 : this.batchMs);
    return reading;
  }

  /** Resolves once Kafka has all; rejects with InvalidInput after so many ms: all of it stays. */
  async flush(ms = 30_000) {
    const deadline = Date.now() + ms;
    while (this.#spool.count) {
      this.#schedule(0);
      if (Date.now() >= deadline) {
        const why = this.problem ?? "it gives no answer";
        const { count, folder } = this.#spool;
        throw new InvalidInput(`${count} readings still wait for Kafka (${why}): they stay in ${folder}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }

  /** Sends what it can within so many ms and ends; how many readings wait in the spool for the next start. */
  async close(ms = 5_000) {
    if (!this.#isOpen) return this.#spool.count;
    await this.flush(ms).catch(() => {});
    this.#isOpen = false;
    clearTimeout(this.#timer);
    this.#spool.close();
    return this.#spool.count;
  }

  #schedule(ms) {
    if (this.#running !== null || !this.#isOpen || this.#broken !== null) return;
    if (this.#timer !== null) {
      if (ms > 0) return;
      clearTimeout(this.#timer);
    }
    this.#timer = setTimeout(() => {
      this.#timer = null;
      this.#running = this.#run()
        .catch((error) => {
          this.#broken = error;
          this.problem = error.message;
        })
        .finally(() => {
          this.#running = null;
          if (this.#spool.count) this.#schedule(this.batchMs);
        });
    }, ms);
  }

  /** One batch after the other, until there is none; a batch that Kafka didn't take is made again, of the same rows. */
  async #run() {
    for (let pause = 250; this.#isOpen && this.#spool.count; ) {
      const [rows, end] = this.#spool.read(this.#spool.acked, this.batchRows, BATCH_BYTES);
      this.#spool.sync(); // before the first byte leaves: no number is given again
      try {
        await this.produce(this.#record(jsonValue(rows)));
        if (!this.#isOpen) return;
        this.#spool.forget(end, rows.length);
        this.#spool.noteAcked();
        this.problem = null;
        pause = 250;
      } catch (error) {
        this.problem = String(error?.message ?? error);
        await new Promise((resolve) => setTimeout(resolve, pause));
        pause = Math.min(2 * pause, PAUSE_MAX_MS);
      }
    }
  }

  #record(value) {
    const headers = { "content-type": Buffer.from(JSON_TYPE) };
    if (this.privateKey !== undefined) {
      headers.signature = signReading(this.privateKey, this.logId, this.route, "reading", JSON_TYPE, value);
      headers["key-id"] = Buffer.from(this.keyId);
    }
    return { topic: this.topic, partition: this.partition, key: Buffer.from(this.route), value, headers };
  }
}
