// From a window to the money and to the chain: splits, leaves, proofs, heads.

const TEXT_POST =
  "Post(uint256 sequence,bytes32 previousHead,bytes32 windowsRoot,bytes32 payoutsRoot," +
  "bytes32 manifestHash,uint64 epochStart,uint64 epochEnd,uint256 total,uint256 deposits)";
const TEXT_GENESIS =
  "Genesis(uint256 chainId,address ledger,address token,bytes3 currency,bytes32 log,uint64 firstEpochStart)";
const POINTS_WHOLE = 10_000n;

const twice = (data) => keccak256(keccak256(data));
const addressWord = (address) => joined(new Uint8Array(12), fromHex(address));

const FLAGS = ["behind", "clock", "equivocation", "evidence", "fees", "proven", "rebaselined", "reconstructed", "reset"];

// The bytes that a window's digest covers, without the salt: a text is its length (2 bytes) and its UTF-8, an integer 8
// bytes, a list its length (4 bytes) and its items.
function windowBytes(w) {
  const rows = (parts, texts, integers) => [
    bigEndian(parts.length, 4),
    ...parts.flatMap((part) => [...texts.map((name) => textBytes(part[name])), ...integers.map((name) => int64(part[name]))]),
  ];
  const flags = w.flags.reduce((bits, flag) => bits | (1 << FLAGS.indexOf(flag)), 0);
  const integers = [
    w.start_ms, w.end_ms, w.adjusts_ms ?? -1, w.utc_offset_s, w.gross_micros, w.expenses_micros, w.uncollected_micros,
    w.net_micros, w.collected_micros, w.carry_in, w.carry_out, w.registration_version, w.readings, w.first_offset,
    w.last_offset, w.skipped, flags, w.trust,
  ];
  return joined(
    textBytes(w.machine),
    ...integers.map(int64),
    sha256(utf8("tallyroot agreement terms 1\n" + canonicalJson(w.agreement))),
    ...rows(w.lines, ["meter", "unit"], ["version", "usage", "price_micros", "per", "amount_micros"]),
    ...rows(w.sessions, ["session", "payer"], ["paid_micros", "used_micros", "refund_micros"]),
    ...rows(w.dues, ["kind", "account", "ref"], ["micros"]),
  );
}

// SHA-256 over the window's bytes and its registration's salt.
function windowDigest(document, salt) {
  return sha256(joined(utf8("tallyroot window 2\n"), textBytes(salt), windowBytes(document)));
}

function windowLeaf(document, digest) {
  const words = [document.start_ms, document.end_ms, document.adjusts_ms ?? 0, document.net_micros].map(word);
  return twice(joined(keccak256(utf8(document.machine)), ...words, digest));
}

function payoutLeaf(account, units) {
  return twice(joined(addressWord(account), word(units)));
}

// Where a proof leads from a leaf: at each step the smaller of two siblings stands first.
function climb(leaf, proof) {
  return proof.reduce((node, text) => {
    const sibling = fromHex(text);
    return keccak256(isBefore(node, sibling) ? joined(node, sibling) : joined(sibling, node));
  }, leaf);
}

// The ledger's head after a post: the hash of everything that the post says, and of the head before it.
function headAfter(header) {
  const hashes = ["previous_head", "windows_root", "payouts_root", "manifest_hash"].map((name) =>
    fromHex(header[name]),
  );
  const last = [header.epoch_start_s, header.epoch_end_s, header.total, header.deposits].map(word);
  return keccak256(joined(keccak256(utf8(TEXT_POST)), word(header.sequence), ...hashes, ...last));
}

function genesisHead(chain) {
  const currency = new Uint8Array(32);
  currency.set(utf8(chain.currency));
  const places = [addressWord(chain.ledger), addressWord(chain.token)];
  const log = [fromHex(chain.log_digest), word(chain.first_epoch_start_s)];
  return keccak256(joined(keccak256(utf8(TEXT_GENESIS)), word(chain.chain_id), ...places, currency, ...log));
}

// Parts of an amount by payee: the micros left over go to the largest remainders, ties to the lowest payee.
function splitAmount(amount, points) {
  const shares = [...points]
    .sort((a, b) => (a[0] < b[0] ? -1 : 1))
    .map(([payee, share]) => {
      const [part, rest] = floorDivmod(amount * BigInt(share), POINTS_WHOLE);
      return { payee, part, rest };
    });
  let left = amount - shares.reduce((sum, share) => sum + share.part, 0n);
  for (const share of [...shares].sort((a, b) => (a.rest < b.rest ? 1 : a.rest > b.rest ? -1 : 0))) {
    if (left > 0n) {
      share.part += 1n;
      left -= 1n;
    }
  }
  return new Map(shares.map((share) => [share.payee, share.part]));
}

// One window's step: a net below zero is recovered before anything is split, and where trust is too low to be paid, a net
// above zero is held. Dues are paid beside it.
function accrue(carry, net, trust, settled) {
  if (trust < settled.pays_trust && net > 0n) return { carry, payable: 0n, parts: new Map() };
  const standing = carry + net;
  const payable = standing > 0n ? standing : 0n;
  return { carry: standing - payable, payable, parts: payable ? splitAmount(payable, settled.points) : new Map() };
}
