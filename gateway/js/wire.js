// What travels: a record's partition, value and signature. The log's own definitions of these are equal; wire.py of the
// Python gateway describes them.

import { createHash, createPrivateKey, createPublicKey, sign } from "node:crypto";

import { InvalidInput } from "./errors.js";

export const JSON_TYPE = "application/json";
export const READING = "reading";

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

/** The partition (from 0) of a record's key, as Kafka's Java client has it. */
export function partitionOf(key, partitions) {
  return (murmur2(Buffer.from(key)) & 0x7fffffff) % partitions;
}

/** The value of a record of rows in JSON: an object for one, an array for more. */
export function jsonValue(rows) {
  if (rows.length === 1) return rows[0];
  const parts = rows.flatMap((row, at) => [Buffer.from(at ? "," : "["), row]);
  return Buffer.concat([...parts, Buffer.from("]")]);
}

/** The bytes that a device signs. */
export function readingMessage(logId, key, contentType, value, type = READING) {
  const parts = [Buffer.from("tallyroot reading 1\n")];
  for (const field of [logId, key, type, contentType, createHash("sha256").update(value).digest()]) {
    const bytes = Buffer.from(field);
    const length = Buffer.alloc(8);
    length.writeBigUInt64BE(BigInt(bytes.length));
    parts.push(length, bytes);
  }
  return Buffer.concat(parts);
}

/** The headers of a record of JSON, signed if there is a key. A record without a type is readings. */
export function headersOf(keyId, privateKey, logId, key, value, type = READING) {
  const headers = { "content-type": Buffer.from(JSON_TYPE) };
  if (type !== READING) headers.ce_type = Buffer.from(type);
  if (privateKey === undefined) return headers;
  const signature = sign(null, readingMessage(logId, key, JSON_TYPE, value, type), ed25519(privateKey));
  return { ...headers, signature, "key-id": Buffer.from(keyId) };
}

/** The public key (64 hex digits) that a registration names. */
export function publicKeyOf(privateKey) {
  return createPublicKey(ed25519(privateKey)).export({ format: "der", type: "spki" }).subarray(-32).toString("hex");
}

/** Node's key of the 32 bytes that RFC 8032 calls the private key. */
function ed25519(privateKey) {
  if (!(privateKey instanceof Uint8Array) || privateKey.length !== 32) {
    throw new InvalidInput('privateKey is not an Ed25519 private key: give its 32 bytes (Buffer.from(digits, "hex"))');
  }
  const prefix = Buffer.from("302e020100300506032b657004220420", "hex");
  return createPrivateKey({ key: Buffer.concat([prefix, privateKey]), format: "der", type: "pkcs8" });
}
