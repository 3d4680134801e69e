// Keccak-256, as Ethereum has it: FIPS 202's permutation, the padding from before it. A lane of 64 bits is two words of
// 32: `state[2 * i]` is the low half of lane i, `state[2 * i + 1]` the high one; lane i is at x = i % 5, y = i / 5.

const KECCAK_RATE = 136;
const KECCAK_ROUNDS = keccakRounds();
const [KECCAK_PLACES, KECCAK_TURNS] = keccakPath();

// The constants of step iota, from its shift register: two words for each of the 24 rounds.
function keccakRounds() {
  const rounds = new Int32Array(48);
  let register = 1;
  for (let round = 0; round < 24; round++) {
    for (let j = 0; j < 7; j++) {
      const bit = (1 << j) - 1;
      if (register & 1) rounds[2 * round + (bit >> 5)] ^= 1 << (bit & 31);
      register = register & 0x80 ? (register << 1) ^ 0x171 : register << 1;
    }
  }
  return rounds;
}

// Rho and pi: the places (as words) that a lane moves through, and by how many bits it turns on its way to each.
function keccakPath() {
  const places = new Int32Array(24);
  const turns = new Int32Array(24);
  let x = 1;
  let y = 0;
  for (let t = 0; t < 24; t++) {
    [x, y] = [y, (2 * x + 3 * y) % 5];
    places[t] = 2 * (x + 5 * y);
    turns[t] = (((t + 1) * (t + 2)) / 2) % 64;
  }
  return [places, turns];
}

function keccakPermute(state) {
  const column = new Int32Array(10);
  const row = new Int32Array(10);
  for (let round = 0; round < 24; round++) {
    // Theta: every lane takes the parity of two neighbouring columns.
    for (let i = 0; i < 10; i++) {
      column[i] = state[i] ^ state[i + 10] ^ state[i + 20] ^ state[i + 30] ^ state[i + 40];
    }
    for (let x = 0; x < 5; x++) {
      const left = 2 * ((x + 4) % 5);
      const right = 2 * ((x + 1) % 5);
      const low = column[left] ^ ((column[right] << 1) | (column[right + 1] >>> 31));
      const high = column[left + 1] ^ ((column[right + 1] << 1) | (column[right] >>> 31));
      for (let i = 2 * x; i < 50; i += 10) {
        state[i] ^= low;
        state[i + 1] ^= high;
      }
    }
    let low = state[2];
    let high = state[3];
    for (let t = 0; t < 24; t++) {
      const place = KECCAK_PLACES[t];
      const by = KECCAK_TURNS[t] & 31;
      const a = KECCAK_TURNS[t] < 32 ? low : high;
      const b = KECCAK_TURNS[t] < 32 ? high : low;
      low = state[place];
      high = state[place + 1];
      state[place] = by ? (a << by) | (b >>> (32 - by)) : a;
      state[place + 1] = by ? (b << by) | (a >>> (32 - by)) : b;
    }
    // Chi, row by row; iota.
    for (let start = 0; start < 50; start += 10) {
      for (let i = 0; i < 10; i++) row[i] = state[start + i];
      for (let i = 0; i < 10; i++) state[start + i] = row[i] ^ (~row[(i + 2) % 10] & row[(i + 4) % 10]);
    }
    state[0] ^= KECCAK_ROUNDS[2 * round];
    state[1] ^= KECCAK_ROUNDS[2 * round + 1];
  }
}

// 32 bytes.
function keccak256(data) {
  const padded = new Uint8Array((Math.floor(data.length / KECCAK_RATE) + 1) * KECCAK_RATE);
  padded.set(data);
  padded[data.length] ^= 0x01;
  padded[padded.length - 1] ^= 0x80;
  const words = new DataView(padded.buffer);
  const state = new Int32Array(50);
  for (let start = 0; start < padded.length; start += KECCAK_RATE) {
    for (let i = 0; i < KECCAK_RATE / 4; i++) state[i] ^= words.getInt32(start + 4 * i, true);
    keccakPermute(state);
  }
  const digest = new DataView(new ArrayBuffer(32));
  for (let i = 0; i < 8; i++) digest.setInt32(4 * i, state[i], true);
  return new Uint8Array(digest.buffer);
}
