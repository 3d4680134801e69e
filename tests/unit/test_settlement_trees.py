"""Our trees and leaves are those of OpenZeppelin's JavaScript library, byte for byte."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import InvariantBroken
from schemas.keccak import keccak, pure_keccak
from settlement.leaf import payout_leaf, window_leaf
from settlement.merkle import MerkleTree, proves

TREES = sorted((Path(__file__).parents[1] / "golden" / "trees").glob("*.json"))


def leaf_hash(kind: str, value: list[str]) -> bytes:
    if kind == "payouts":
        return payout_leaf(value[0], int(value[1]))
    machine, start, end, adjusts, net, digest = value
    hashes = bytes.fromhex(machine[2:]), bytes.fromhex(digest[2:])
    return window_leaf(hashes[0], (int(start), int(end)), int(adjusts), int(net), hashes[1])


@pytest.mark.parametrize("path", TREES, ids=lambda path: path.stem)
def test_golden_trees(path: Path) -> None:
    golden: dict[str, Any] = json.loads(path.read_text())
    leaves = [leaf_hash(golden["kind"], leaf["value"]) for leaf in golden["leaves"]]
    assert ["0x" + leaf.hex() for leaf in leaves] == [leaf["hash"] for leaf in golden["leaves"]]
    random.Random(path.stem).shuffle(leaves)
    tree = MerkleTree(leaves)
    assert "0x" + tree.root.hex() == golden["root"]
    for leaf in golden["leaves"]:
        own = bytes.fromhex(leaf["hash"][2:])
        assert ["0x" + node.hex() for node in tree.proof(own)] == leaf["proof"]
        assert proves(tree.root, own, tree.proof(own))
    if "dump" in golden:
        assert ["0x" + node.hex() for node in tree.nodes] == golden["dump"]["tree"]


def test_a_tree_refuses_equal_leaves_and_none() -> None:
    with pytest.raises(InvariantBroken):
        MerkleTree([b"a" * 32, b"b" * 32, b"a" * 32])
    with pytest.raises(InvariantBroken):
        MerkleTree([])
    with pytest.raises(InvariantBroken):
        MerkleTree([b"a" * 32]).proof(b"b" * 32)


def test_a_wrong_proof_proves_nothing() -> None:
    leaves = [payout_leaf("0x" + f"{i:040x}", i) for i in range(1, 9)]
    tree = MerkleTree(leaves)
    assert not proves(tree.root, payout_leaf("0x" + f"{1:040x}", 2), tree.proof(leaves[0]))
    assert not proves(tree.root, leaves[0], tree.proof(leaves[1]))


def test_both_keccaks_agree() -> None:
    assert keccak(b"") == pure_keccak(b"")
    assert keccak(b"x" * 200) == pure_keccak(b"x" * 200)
    assert keccak(b"").hex().startswith("c5d24601")


def test_leaves_refuse_what_does_not_fit() -> None:
    for wrong in (2**64, -1):
        with pytest.raises(InvariantBroken):
            window_leaf(b"m" * 32, (wrong, 1), 0, 0, b"d" * 32)
    for amount in (-1, 2**256):
        with pytest.raises(InvariantBroken):
            payout_leaf("0x" + "1" * 40, amount)
    with pytest.raises(InvariantBroken):
        payout_leaf("0x11", 1)
