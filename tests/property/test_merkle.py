"""Every leaf proves itself and nothing else; the auditor's tree is the same tree."""

from hypothesis import given, settings
from hypothesis import strategies as st

from settlement.audit.recount import leads_to, root_of
from settlement.merkle import MerkleTree, proves

leaves = st.sets(st.binary(min_size=32, max_size=32), min_size=1, max_size=40)


@settings(max_examples=50, deadline=None)
@given(leaves, st.randoms(use_true_random=False), st.binary(min_size=32, max_size=32))
def test_every_leaf_has_a_proof_and_no_other_has(hashes: set[bytes], random: object, other: bytes) -> None:
    shuffled = sorted(hashes)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    tree = MerkleTree(shuffled)
    assert tree.root == root_of(hashes)
    for leaf in hashes:
        proof = tree.proof(leaf)
        assert proves(tree.root, leaf, proof)
        assert leads_to(tree.root, leaf, proof)
        assert other in hashes or not proves(tree.root, other, proof)
