// What a machine's gateway calls: `send` a reading, and it is checked, numbered, kept, batched, signed and produced.
//
// 1. `send` checks the reading, numbers it and writes it to the spool.
// 2. The spool is made to outlast a loss of power, then a batch goes to `produce`.
// 3. What Kafka has acknowledged leaves the spool.

import { InvalidInput } from "./errors.js";
import { GOODS_RECEIVED, Receipts } from "./receipts.js";
import { FIELDS, faultOf, flagFault, isId, receiptFault, refused, shown } from "./reading.js";
import { Spool, isBehind } from "./spool.js";
import { READING, headersOf, jsonValue, partitionOf, publicKeyOf } from "./wire.js";

const BATCH_BYTES = 1 << 19;
const PAUSE_MS = 250;
const PAUSE_MAX_MS = 30_000;
const GIVEN = FIELDS.filter((name) => name !== "boot" && name !== "seq");

const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** One route's gateway; index.d.ts describes its options and methods. */
export class Gateway {
  #options;
  #spool;
  #receipts;
  #partition;
  #publicKey;
  #problem = null;
  #running = null;
  #timer = null;
  #syncTimer = null;
  #isOpen = true;
  #broken = null;

  constructor({
    logId, route, spool, produce, topic = "telemetry", partitions = 4, keyId, privateKey, batchRows = 1_000,
    batchMs = 200, boot = 0, spoolBytes = 1 << 28, sync = "batch", nowMs = Date.now, warn = console.warn,
  }) {
    this.#options = { logId, route, produce, topic, partitions, keyId, privateKey, batchRows, batchMs, sync, nowMs };
    checkOptions(this.#options);
    this.#partition = partitionOf(route, partitions);
    this.#publicKey = privateKey === undefined ? null : publicKeyOf(privateKey);
    const limitBytes = Math.max(spoolBytes, 1 << 14);
    this.#spool = new Spool(spool, logId, route, { nowMs: nowMs(), leastBoot: boot, limitBytes });
    try {
      this.#receipts = new Receipts(spool);
      if (this.#receipts.count && privateKey === undefined) {
        throw new InvalidInput("receipts of goods wait, which a key signs: make the gateway with its privateKey");
      }
    } catch (error) {
      this.#spool.close();
      throw error;
    }
    for (const warning of [...this.#spool.warnings, ...this.#receipts.warnings]) warn(warning);
    if (this.#waiting) this.#schedule(0);
  }

  send({ reset = false, rolls_over = false, ...given }) {
    this.#checkOpen();
    const { nowMs, sync, batchRows, batchMs } = this.#options;
    const fields = Object.entries(given).filter(([, value]) => value !== undefined && value !== null);
    const unknown = fields.find(([name]) => !GIVEN.includes(name));
    if (unknown !== undefined) throw refused(`${unknown[0]} is not a field to send: leave it out`);
    const reading = { observed_at: nowMs(), ...Object.fromEntries(fields), boot: 0, seq: 0 };
    const fault = faultOf(reading) ?? this.#registerFault(reading, reset, rolls_over);
    if (fault !== null) throw refused(fault);
    const { machine, meter } = reading;
    if (reset) this.#spool.beginBoot(machine, meter, nowMs());
    reading.boot = this.#spool.boot;
    reading.seq = this.#spool.nextSeq(machine, meter);
    this.#spool.append(reading);
    if (sync === "reading") this.#spool.sync();
    else this.#syncTimer ??= setTimeout(() => this.#sync(), batchMs);
    this.#schedule(this.#spool.count >= batchRows ? 0 : batchMs);
    return reading;
  }

  receive({ machine, item, number, quantity, observed_at = this.#options.nowMs() }) {
    this.#checkOpen();
    const receipt = { machine, item, number, quantity, observed_at };
    const unsigned = "goods are received by a signature: make the gateway with keyId and privateKey";
    const fault = this.#publicKey === null ? unsigned : receiptFault(receipt);
    if (fault !== null) throw new InvalidInput(`this receipt was not taken: ${fault}`);
    this.#receipts.keep(receipt);
    this.#schedule(0);
  }

  /** Readings and receipts that Kafka doesn't have. */
  get #waiting() {
    return this.#spool.count + this.#receipts.count;
  }

  async flush(ms = 30_000) {
    this.#checkOpen();
    if (await this.#sent(ms)) return;
    this.#checkOpen();
    const why = this.#problem ?? "no answer";
    throw new InvalidInput(
      `${this.#waiting} readings still wait for Kafka (${why}): they stay in ${this.#spool.folder}`,
    );
  }

  status() {
    return { boot: this.#spool.boot, waiting: this.#waiting, problem: this.#problem, publicKey: this.#publicKey };
  }

  async close(ms = 5_000) {
    if (this.#isOpen) {
      await this.#sent(ms);
      this.#isOpen = false;
      clearTimeout(this.#timer);
      clearTimeout(this.#syncTimer);
      this.#spool.close();
    }
    return this.#waiting;
  }

  /** Whether Kafka has all that is written by now, within so many milliseconds. */
  async #sent(ms) {
    const { end } = this.#spool;
    const isSent = () => (!this.#spool.count || !isBehind(this.#spool.acked, end)) && !this.#receipts.count;
    for (const deadline = Date.now() + ms; !isSent(); await wait(5)) {
      if (Date.now() >= deadline || this.#broken !== null || !this.#isOpen) return false;
      this.#schedule(0);
    }
    return true;
  }

  #registerFault({ machine, meter, register }, reset, rollsOver) {
    const fault = flagFault("reset", reset) ?? flagFault("rolls_over", rollsOver);
    if (fault !== null) return fault;
    if (reset) return register === undefined ? "reset needs a register" : null;
    const last = this.#spool.lastRegister(machine, meter);
    if (last === null || register === undefined || register >= last || rollsOver) return null;
    return (
      `register: ${register} is below ${last}, the last of ${machine}'s ${meter}: send registers in their order; if the` +
      " meter began again, say so with reset, or with rolls_over"
    );
  }

  #checkOpen() {
    if (this.#broken !== null) throw this.#broken;
    if (!this.#isOpen) throw new InvalidInput("the gateway is closed: make a new one");
  }

  /** Makes the spool outlast a loss of power, also while nothing can leave it. */
  #sync() {
    this.#syncTimer = null;
    try {
      this.#spool.sync();
    } catch (error) {
      this.#problem = error.message;
    }
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
          this.#problem = error.message;
        })
        .finally(() => {
          this.#running = null;
          if (this.#waiting) this.#schedule(this.#options.batchMs);
        });
    }, ms);
  }

  /** Produces receipts, then one batch after another until none is left; one that failed is made again, from the same reading on. */
  async #run() {
    for (let pause = PAUSE_MS; this.#isOpen && this.#waiting; ) {
      const receipt = this.#receipts.next();
      const [rows, end] = receipt ? [[], null] : this.#spool.read(this.#spool.acked, this.#options.batchRows, BATCH_BYTES);
      if (!receipt) this.#spool.sync(); // before the first byte leaves: no number is used again
      try {
        await this.#options.produce(receipt ? this.#record(receipt[1], GOODS_RECEIVED) : this.#record(jsonValue(rows), READING));
        if (!this.#isOpen) return;
        if (receipt) {
          this.#receipts.forget(receipt[0]);
        } else {
          this.#spool.forget(end, rows.length);
          this.#spool.noteAcked();
        }
        this.#problem = null;
        pause = PAUSE_MS;
      } catch (error) {
        this.#problem = String(error?.message ?? error);
        await wait(pause);
        pause = Math.min(2 * pause, PAUSE_MAX_MS);
      }
    }
  }

  #record(value, type) {
    const { topic, keyId, privateKey, logId, route } = this.#options;
    const headers = headersOf(keyId, privateKey, logId, route, value, type);
    return { topic, partition: this.#partition, key: Buffer.from(route), value, headers };
  }
}

function checkOptions({ logId, route, produce, partitions, keyId, privateKey, batchRows, sync }) {
  for (const [name, value] of [["logId", logId], ["route", route], ["keyId", keyId ?? "none"]]) {
    if (!isId(value)) throw new InvalidInput(`${name}: use 1 to 64 of A-Z a-z 0-9 . _ : * -, not ${shown(value)}`);
  }
  if (typeof produce !== "function") throw new InvalidInput("produce: give a function that hands a record to Kafka");
  if ((keyId === undefined) !== (privateKey === undefined)) {
    throw new InvalidInput("a gateway that signs needs both keyId and privateKey");
  }
  for (const [name, value, most] of [["partitions", partitions, 1_024], ["batchRows", batchRows, 10_000]]) {
    if (!Number.isInteger(value) || value < 1 || value > most) {
      throw new InvalidInput(`${name}: use an integer from 1 to ${most}, not ${shown(value)}`);
    }
  }
  if (sync !== "batch" && sync !== "reading") {
    throw new InvalidInput(`sync: use batch or reading, not ${shown(sync)}`);
  }
}
