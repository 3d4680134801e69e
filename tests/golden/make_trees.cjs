#!/usr/bin/env node
// Writes trees/*.json: standard-v1 trees as OpenZeppelin's own JavaScript library builds them (format: trees/README.md).
// The values are hashes of a label and an index, so the same files come out of every run.
"use strict";
const { createHash } = require("node:crypto");
const { writeFileSync } = require("node:fs");
const { join } = require("node:path");
const { StandardMerkleTree } = require("@openzeppelin/merkle-tree");

const folder = process.argv[2] ?? join(__dirname, "trees");

const SIZES = [1, 2, 3, 7, 64];
const DUMPED = 7;
const PAYOUTS = ["address", "uint256"];
const WINDOWS = ["bytes32", "uint64", "uint64", "uint64", "int256", "bytes32"];
const WINDOW_MS = 900_000n;
const FIRST_START_MS = 1_567_296_000_000n; // 2019-09-01T00:00:00Z

const hash = (label, index) => createHash("sha256").update(`${label} ${index}`).digest("hex");
const number = (label, index, digits) => BigInt(`0x${hash(label, index).slice(0, digits)}`);

/** Amounts from nothing to the largest uint96, so that neither end of the range goes untested. */
function payout(index) {
  const account = `0x${hash("account", index).slice(0, 40)}`;
  const extremes = [0n, 2n ** 96n - 1n];
  const cumulative = index % 16 < 2 && index > 1 ? extremes[index % 16] : number("cumulative", index, 14);
  return [account, cumulative.toString()];
}

/** Every third window adjusts an earlier one; every second net is below zero. `adjusts` is 0 for a plain window. */
function window(index) {
  const start = FIRST_START_MS + BigInt(index) * WINDOW_MS;
  const adjusts = index % 3 === 2 ? start - 10n * WINDOW_MS : 0n;
  const net = number("net", index, 12) * (index % 2 ? -1n : 1n);
  const texts = [start, start + WINDOW_MS, adjusts, net].map(String);
  return [`0x${hash("machine", index % 5)}`, ...texts, `0x${hash("digest", index)}`];
}

function write(kind, size, types, make) {
  const values = Array.from({ length: size }, (_, index) => make(index));
  const tree = StandardMerkleTree.of(values, types);
  const document = {
    kind,
    leaf_types: types,
    root: tree.root,
    leaves: values.map((value, index) => ({ value, hash: tree.leafHash(value), proof: tree.getProof(index) })),
    ...(size === DUMPED ? { dump: tree.dump() } : {}),
  };
  writeFileSync(join(folder, `${kind}_${size}.json`), JSON.stringify(document, null, 1) + "\n");
}

for (const size of SIZES) {
  write("payouts", size, PAYOUTS, payout);
  write("windows", size, WINDOWS, window);
}
