"""Trees against RFC 6962's own recursive definition; proofs against all that is not the proven range."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.erasure import (
    BadParameters,
    BadState,
    Frontier,
    block_leaf,
    block_node,
    data_leaf,
    data_node,
    fold_level,
    level_positions,
    level_sizes,
    proof_nodes,
    range_proof,
    stored_nodes,
    stored_tree,
    upper_levels,
    verify_range,
)

TOTALS = st.integers(1, 140)


def leaves_for(total: int) -> list[bytes]:
    return [block_leaf(number.to_bytes(4, "big")) for number in range(total)]


def recursive_root(leaves: list[bytes]) -> bytes:
    """RFC 6962, section 2.1: split at the largest power of two below the number of leaves."""
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return block_node(recursive_root(leaves[:split]), recursive_root(leaves[split:]))


def reader_of(tree: bytes, total: int) -> Callable[..., Any]:
    positions = level_positions(total)
    return lambda level, index: tree[(positions[level] + index) * 32 :][:32]


@given(TOTALS)
def test_every_way_to_the_root_agrees_with_the_recursive_definition(total: int) -> None:
    leaves = leaves_for(total)
    frontier = Frontier(block_node)
    for leaf in leaves:
        frontier.append(leaf)
    root = recursive_root(leaves)
    assert frontier.root() == root
    assert stored_tree(block_node, leaves)[-32:] == root
    assert len(stored_tree(block_node, leaves)) == 32 * stored_nodes(total) <= 32 * (2 * total + 38)


@pytest.mark.parametrize("total", [1, 2, 8191, 8192, 8193, 20001])
def test_streamed_levels_equal_the_tree_in_memory(total: int) -> None:
    leaves = leaves_for(total)
    stored = bytearray(b"".join(leaves))
    reads = []

    def read(position: int, count: int) -> bytes:
        reads.append(count)
        chunk = bytes(stored[position * 32 : (position + count) * 32])
        assert len(chunk) == count * 32, "read beyond what was yielded"
        return chunk

    for chunk in upper_levels(block_node, total, read):
        stored += chunk
    assert bytes(stored) == stored_tree(block_node, leaves)
    assert max(reads, default=0) <= 8192


@given(TOTALS, st.data())
def test_a_range_is_proven_and_nothing_else_is(total: int, data: st.DataObject) -> None:
    leaves = leaves_for(total)
    first = data.draw(st.integers(0, total - 1))
    count = data.draw(st.integers(1, total - first))
    tree = stored_tree(block_node, leaves)
    root, part = tree[-32:], leaves[first : first + count]
    proof = range_proof(total, first, count, reader_of(tree, total))
    assert verify_range(block_node, root, total, first, part, proof)
    assert len(proof) <= 2 * 32 * len(level_sizes(total))

    changed = bytearray(proof + b"".join(part))
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    bad_proof, rest = bytes(changed[: len(proof)]), bytes(changed[len(proof) :])
    bad_part = [rest[at : at + 32] for at in range(0, len(rest), 32)]
    assert not verify_range(block_node, root, total, first, bad_part, bad_proof)
    assert not verify_range(block_node, root, total, first + 1, part, proof)
    assert not verify_range(block_node, root, total, first, part, proof + bytes(32))
    assert not verify_range(block_node, root, total, first, part, proof + b"x")
    assert not verify_range(block_node, root, total, first, [*part[:-1], part[-1][:-1]], proof)
    assert not verify_range(data_node, root, total, first, part, proof) or total == 1
    if proof:
        assert not verify_range(block_node, root, total, first, part, proof[:-32])


@settings(max_examples=300)
@given(
    st.integers(-5, 1 << 70) | st.booleans(),
    st.integers(-5, 1 << 70) | st.booleans(),
    st.lists(st.binary(max_size=40), max_size=4),
    st.binary(max_size=200),
)
def test_random_proofs_are_refused_quietly(total: int, first: int, leaves: list[bytes], proof: bytes) -> None:
    assert not verify_range(block_node, block_leaf(b"root"), total, first, leaves, proof)


def test_huge_trees_cost_logarithmic_work() -> None:
    total = 1 << 38
    nodes = list(proof_nodes(total, total // 2 + 5, 16))
    assert len(nodes) <= 2 * 39
    assert stored_nodes(total) == 2 * total - 1
    for total, first, count in [
        (0, 0, 1),
        (5, 5, 1),
        (5, 0, 0),
        (5, -1, 2),
        (5, 4, 2),
        ((1 << 38) + 1, 0, 1),
    ]:
        with pytest.raises(BadParameters):
            proof_nodes(total, first, count)


@given(TOTALS, st.integers(0, 60))
def test_frontier_goes_on_after_a_restart(total: int, more: int) -> None:
    leaves = leaves_for(total + more)
    frontier = Frontier(block_node)
    for leaf in leaves[:total]:
        frontier.append(leaf)
    state = frontier.state()
    again = Frontier.from_state(block_node, state)
    for leaf in leaves[total:]:
        frontier.append(leaf)
        again.append(leaf)
    assert again.state() == frontier.state()
    assert again.root() == recursive_root(leaves)
    assert Frontier.from_state(block_node, state).count == total, "a state does not change afterwards"


@pytest.mark.parametrize(
    "state",
    [None, [], [1], [1, bytes(31)], [1, bytes(64)], [3, bytes(32)], [-1, b""], [True, bytes(32)],
     [1.0, bytes(32)], [1, [bytes(32)]], [1, "a" * 32], [1 << 39, bytes(32)], [1, bytes(32), 0], {0: 1},
     "ab", b"ab"],
)  # fmt: skip
def test_foreign_frontier_states_are_refused(
    state: str | bytes | dict[int, int] | list[str | bytes | float | list[bytes]] | None,
) -> None:
    with pytest.raises(BadState):
        Frontier.from_state(block_node, state)


def test_empty_tree_and_ragged_levels_are_refused() -> None:
    with pytest.raises(BadParameters):
        Frontier(block_node).root()
    with pytest.raises(BadParameters):
        fold_level(block_node, bytes(33))
    with pytest.raises(BadParameters):
        level_sizes(0)


def test_labels_and_positions_separate_hashes() -> None:
    leaf = block_leaf(b"x" * 64)
    assert len({leaf, block_node(b"x" * 32, b"x" * 32), data_node(b"x" * 32, b"x" * 32)}) == 3
    assert data_leaf(0, [leaf]) != data_leaf(1, [leaf])
    assert data_leaf(0, [leaf]) != data_leaf(0, [leaf, leaf])
