"""Proofs from stored trees: the same as from trees in memory, with the top read once."""

import random
from pathlib import Path

import pytest

from shoal.erasure import HASH_BYTES, block_node, split_nodes, verify_range
from shoal.node.store.trees import TOP_NODES, StoredTree, TreeProofs
from shoal.simulation.disk import SimDisk

OFFSET = 1000


@pytest.mark.parametrize("count", [1, 2, 3, TOP_NODES, TOP_NODES + 1, 2 * TOP_NODES + 7, 1500])
def test_every_proof_leads_to_the_root_and_the_top_is_read_once(count: int) -> None:
    disk, rng = SimDisk(), random.Random(count)
    disk.make_directories(Path("/d"))
    file = disk.create(Path("/d/tree"))
    leaves = rng.randbytes(HASH_BYTES * count)
    tree = StoredTree(file, OFFSET, count, block_node)
    tree.write(0, leaves)
    root = tree.write_upper_levels()
    reads: list[str] = []
    disk.before = lambda operation, path: reads.append(operation)
    proofs = TreeProofs(tree)
    for _ in range(40):
        first = rng.randrange(count)
        length = min(rng.randint(1, 16), count - first)
        before = len(reads)
        proof = proofs.proof(first, length)
        wanted = split_nodes(leaves[HASH_BYTES * first : HASH_BYTES * (first + length)])
        assert verify_range(block_node, root, count, first, wanted, proof)
        assert len(reads) - before <= 1 + 2 * max(0, (count - 1).bit_length() - (TOP_NODES - 1).bit_length())
    if count <= TOP_NODES:
        assert len(reads) <= 1
