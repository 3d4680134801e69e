// Bytes: text and hex to arrays and back, 32-byte words as the EVM packs them, the integers and texts of a window's
// digest, and canonical JSON (RFC 8785).

const utf8 = (text) => new TextEncoder().encode(text);

function fromHex(text) {
  const digits = text.replace(/^0x/, "");
  const bytes = new Uint8Array(digits.length / 2);
  for (let i = 0; i < bytes.length; i++) bytes[i] = parseInt(digits.slice(2 * i, 2 * i + 2), 16);
  return bytes;
}

function toHex(bytes) {
  let text = "";
  for (const byte of bytes) text += byte.toString(16).padStart(2, "0");
  return text;
}

function joined(...parts) {
  const whole = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  let place = 0;
  for (const part of parts) {
    whole.set(part, place);
    place += part.length;
  }
  return whole;
}

// An integer as 32 bytes, big-endian; below zero in two's complement.
function word(value) {
  return fromHex(BigInt.asUintN(256, BigInt(value)).toString(16).padStart(64, "0"));
}

// An integer of 0 or more as `size` bytes, big-endian.
function bigEndian(value, size) {
  return word(value).slice(32 - size);
}

// An integer as 8 bytes, big-endian; below zero in two's complement.
const int64 = (value) => word(value).slice(24);

function textBytes(text) {
  const bytes = utf8(text);
  return joined(bigEndian(bytes.length, 2), bytes);
}

function isBefore(a, b) {
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return a[i] < b[i];
  return false;
}

// Keys sorted, no spaces, integers as they are; a BigInt is written as an integer.
function canonicalJson(value) {
  if (value === null || typeof value === "boolean" || typeof value === "string") return JSON.stringify(value);
  if (typeof value === "number" || typeof value === "bigint") return String(value);
  if (Array.isArray(value)) return "[" + value.map(canonicalJson).join(",") + "]";
  const parts = Object.keys(value)
    .sort()
    .map((key) => JSON.stringify(key) + ":" + canonicalJson(value[key]));
  return "{" + parts.join(",") + "}";
}
