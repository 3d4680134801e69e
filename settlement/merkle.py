"""OpenZeppelin's standard-v1 Merkle tree: an array of 2n-1 nodes, root at 0, leaf k (ascending) at 2n-2-k.

node(i) = keccak(sorted pair of node(2i+1), node(2i+2)).
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise

from schemas.errors import InvariantBroken
from schemas.keccak import keccak


class MerkleTree:
    """A tree over 32-byte leaf hashes. The constructor sorts them, so their order does not matter.

    Raises InvariantBroken if there is no leaf or two leaves are equal.
    """

    def __init__(self, leaves: Iterable[bytes]) -> None:
        ascending = sorted(leaves)
        if not ascending:
            raise InvariantBroken("a tree needs at least one leaf")
        if any(a == b for a, b in pairwise(ascending)):
            raise InvariantBroken("two leaves of one tree are equal")
        count = len(ascending)
        self.nodes: list[bytes] = [b""] * (count - 1) + ascending[::-1]
        nodes = self.nodes
        for i in range(count - 2, -1, -1):
            left, right = nodes[2 * i + 1], nodes[2 * i + 2]
            nodes[i] = keccak(left + right if left < right else right + left)
        self._index = {leaf: 2 * count - 2 - k for k, leaf in enumerate(ascending)}

    @property
    def root(self) -> bytes:
        """The root hash, 32 bytes."""
        return self.nodes[0]

    def proof(self, leaf: bytes) -> list[bytes]:
        """Siblings from the leaf up to the root. Raises InvariantBroken if the leaf is not in the tree."""
        index = self._index.get(leaf)
        if index is None:
            raise InvariantBroken(f"the tree has no leaf {leaf.hex()}")
        siblings = []
        while index > 0:
            siblings.append(self.nodes[index + 1 if index % 2 else index - 1])
            index = (index - 1) // 2
        return siblings


def proves(root: bytes, leaf: bytes, proof: Sequence[bytes]) -> bool:
    """Whether a proof leads from the leaf to the root."""
    node = leaf
    for sibling in proof:
        node = keccak(node + sibling if node < sibling else sibling + node)
    return node == root
