// Goods that arrived, on disk until Kafka has each; receipts.py of the Python gateway describes the files.

import { createHash } from "node:crypto";
import { closeSync, existsSync, fsyncSync, mkdirSync, openSync, readFileSync, readdirSync, renameSync, rmSync, writeSync } from "node:fs";
import { dirname, join } from "node:path";

import { InvalidInput, SpoolFull } from "./errors.js";

const WAITING_MAX = 10_000;

export const GOODS_RECEIVED = "goods.received";

/** The folder of one gateway's receipts. */
export class Receipts {
  #folder;
  #waiting = new Map();
  warnings = [];

  constructor(spool) {
    this.#folder = join(spool, "receipts");
    this.#tried(() => {
      const names = existsSync(this.#folder) ? readdirSync(this.#folder).sort() : [];
      for (const name of names.filter((one) => one.endsWith(".json"))) {
        const value = readFileSync(join(this.#folder, name));
        if (nameOf(value) === name) {
          this.#waiting.set(name, value);
          continue;
        }
        const aside = name.replace(/json$/, "damaged");
        renameSync(join(this.#folder, name), join(this.#folder, aside));
        this.warnings.push(`a receipt of goods is damaged, and set aside as ${aside}`);
      }
    });
  }

  /** How many Kafka doesn't have yet. */
  get count() {
    return this.#waiting.size;
  }

  /** Name and value of the next; undefined if none waits. */
  next() {
    return this.#waiting.entries().next().value;
  }

  /** Writes a receipt so that it outlasts a loss of power. Throws InvalidInput, SpoolFull: then it isn't taken. */
  keep({ machine, item, number, quantity, observed_at }) {
    if (this.count >= WAITING_MAX) {
      throw new SpoolFull(`${WAITING_MAX} receipts wait for Kafka in ${this.#folder}: have it back first`);
    }
    const value = Buffer.from(JSON.stringify({ machine, item, number, quantity, observed_at }));
    const name = nameOf(value);
    this.#tried(() => {
      if (!existsSync(this.#folder)) {
        mkdirSync(this.#folder);
        syncFolder(dirname(this.#folder));
      }
      const beside = join(this.#folder, `${name}.tmp`);
      const file = openSync(beside, "w");
      try {
        for (let at = 0; at < value.length; ) at += writeSync(file, value, at);
        fsyncSync(file);
      } finally {
        closeSync(file);
      }
      renameSync(beside, join(this.#folder, name));
      syncFolder(this.#folder);
    });
    this.#waiting.set(name, value);
  }

  /** Removes one that Kafka has. */
  forget(name) {
    rmSync(join(this.#folder, name), { force: true });
    this.#waiting.delete(name);
  }

  #tried(work) {
    try {
      work();
    } catch (error) {
      if (error instanceof InvalidInput) throw error;
      throw new InvalidInput(`receipts can't be kept in ${this.#folder} (${error.message}): check the disk and its rights`);
    }
  }
}

const nameOf = (value) => `${createHash("sha256").update(value).digest("hex")}.json`;

function syncFolder(folder) {
  const file = openSync(folder, "r");
  try {
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}
