// What somebody with nothing but OpenZeppelin's library, the published files and a node can do: check every proof, then
// claim. No web3 library: calldata is written here by hand, selectors come from the published ABI.
// Usage: node claim_js.cjs '{"rpc", "abi", "ledger", "sequence", "payouts", "windows", "account", "sender"}'
"use strict";
const { readFileSync } = require("node:fs");
const { StandardMerkleTree } = require("@openzeppelin/merkle-tree");
const { keccak256 } = require("ethereum-cryptography/keccak");

const PAYOUTS = ["address", "uint256"];
const WINDOWS = ["bytes32", "uint64", "uint64", "uint64", "int256", "bytes32"];
const task = JSON.parse(process.argv[2]);
const read = (path) => JSON.parse(readFileSync(path, "utf8"));
const abi = read(task.abi).abi;

/** The type of a parameter as its function's signature spells it. */
const typeOf = ({ type, components }) =>
  type.startsWith("tuple") ? `(${components.map(typeOf).join(",")})${type.slice(5)}` : type;

function selector(name) {
  const { inputs } = abi.find((entry) => entry.type === "function" && entry.name === name);
  const signature = `${name}(${inputs.map(typeOf).join(",")})`;
  return Buffer.from(keccak256(Buffer.from(signature))).toString("hex").slice(0, 8);
}

/** 32 bytes: a number of either sign, or hex of an address (to the right) or of a hash. */
const word = (value) => BigInt.asUintN(256, BigInt(value)).toString(16).padStart(64, "0");
const list = (values) => word(values.length) + values.map(word).join("");
const call = (name, words, proof) =>
  "0x" + selector(name) + words.map(word).join("") + (proof ? word((words.length + 1) * 32) + list(proof) : "");

async function rpc(method, params) {
  const body = JSON.stringify({ jsonrpc: "2.0", id: 1, method, params });
  const answer = await fetch(task.rpc, { method: "POST", body, headers: { "content-type": "application/json" } });
  return answer.json();
}

async function ask(data) {
  const { result, error } = await rpc("eth_call", [{ to: task.ledger, data }, "pending"]);
  if (error) throw new Error(JSON.stringify(error));
  return result.slice(2).match(/.{64}/g);
}

/** The receipt of a transaction, once a block has it. */
async function mined(transaction) {
  for (;;) {
    const { result } = await rpc("eth_getTransactionReceipt", [transaction]);
    if (result) return result;
    await new Promise((later) => setTimeout(later, 20));
  }
}

/** The library's tree over published rows, after every published proof was checked with the library alone. */
function checked(rows, types, proofs) {
  const tree = StandardMerkleTree.of(rows, types);
  rows.forEach((row, index) => {
    if (!StandardMerkleTree.verify(tree.root, types, row, proofs ? proofs[index] : tree.getProof(index)))
      throw new Error(`no proof of ${row}`);
  });
  return tree;
}

async function main() {
  const payouts = Object.entries(read(task.payouts));
  const leaves = payouts.map(([account, { cumulative }]) => [account, cumulative]);
  const payoutsTree = checked(leaves, PAYOUTS, payouts.map(([, { proof }]) => proof));
  const windows = read(task.windows);
  const windowsTree = checked(windows, WINDOWS);
  const [windowsRoot, payoutsRoot] = await ask(call("getPost", [task.sequence]));

  const verified = [];
  for (const index of [0, windows.length - 1]) {
    const [answer] = await ask(call("verifyWindow", [task.sequence, ...windows[index]], windowsTree.getProof(index)));
    verified.push(BigInt("0x" + answer) === 1n);
  }
  const [, { cumulative, proof }] = payouts.find(([account]) => account === task.account);
  const words = [task.account, task.sequence, cumulative];
  const [claimable] = await ask(call("claimable", words, proof));
  const transaction = { from: task.sender, to: task.ledger, data: call("claim", words, proof), gas: "0x493e0" };
  const sent = await rpc("eth_sendTransaction", [transaction]);
  const receipt = await mined(sent.result);
  const [claimed] = await ask(call("claimedBy", [task.account]));
  const again = await rpc("eth_call", [transaction, "pending"]);
  console.log(
    JSON.stringify({
      leaves: leaves.length,
      windows: windows.length,
      payouts_root_is_the_post_s: payoutsTree.root === "0x" + payoutsRoot,
      windows_root_is_the_post_s: windowsTree.root === "0x" + windowsRoot,
      windows_verified: verified,
      claimable: BigInt("0x" + claimable).toString(),
      status: receipt && receipt.status,
      claimed: BigInt("0x" + claimed).toString(),
      again: again.error ? again.error.data : null,
    }),
  );
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
