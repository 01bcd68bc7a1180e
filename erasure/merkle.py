"""Merkle trees of the RFC 6962 shape: roots that grow, trees that are stored, proofs of ranges.

A level of m nodes has ceil(m/2) parents; an odd last node is its own parent, moved up unchanged. That gives
the same tree as RFC 6962's recursive split at the largest power of two (section 2.1), level by level. Leaves
are level 0. Every function works on leaf *hashes*; `join` hashes two children (block_node or data_node
below).
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

from shoal.erasure.errors import BadParameters, BadState
from shoal.erasure.hashing import HASH_BYTES, Buffer, Join, labelled, labelled_join
from shoal.erasure.layout import BLOCK_BYTES, MAX_CIPHERTEXT_BYTES, is_count

MAX_LEAVES = MAX_CIPHERTEXT_BYTES // BLOCK_BYTES  # blocks of the longest share (k = 1)
FOLD_NODES = 8192  # nodes hashed at a time when building a stored tree: 256 KiB; even, so that no pair is split

ReadNode: TypeAlias = Callable[[int, int], bytes]
"""(level, index) -> the 32-byte node of a stored tree."""
ReadNodes: TypeAlias = Callable[[int, int], bytes]
"""(position, count) -> `count` nodes of a stored tree, 32 bytes each, from `position` (in nodes) on."""

block_leaf = labelled("block leaf")
block_node = labelled_join("block node")
data_node = labelled_join("data node")
_data_leaf = labelled("data leaf")


def data_leaf(index: int, primary_leaves: Sequence[bytes]) -> bytes:
    """Data-tree leaf of segment `index`: its number (u64), then the leaf hashes of its k primary blocks."""
    return _data_leaf(index.to_bytes(8, "big") + b"".join(primary_leaves))


class Frontier:
    """The right edge of a growing tree: append leaves, ask for the root at any time, O(log n) memory.

    Holds the roots of the complete subtrees whose sizes are the set bits of the leaf count, largest first.
    """

    __slots__ = ("_count", "_join", "_peaks")

    def __init__(self, join: Join) -> None:
        self._join = join
        self._count = 0
        self._peaks: list[bytes] = []

    @property
    def count(self) -> int:
        """Leaves appended so far."""
        return self._count

    def append(self, leaf: bytes) -> None:
        """Add the next leaf hash."""
        carry = self._count
        while carry & 1:
            leaf = self._join(self._peaks.pop(), leaf)
            carry >>= 1
        self._peaks.append(leaf)
        self._count += 1

    def root(self) -> bytes:
        """Root of the tree over the leaves so far. Raises BadParameters when there are none."""
        if not self._peaks:
            raise BadParameters("a tree without leaves has no root")
        *rest, root = self._peaks
        for peak in reversed(rest):
            root = self._join(peak, root)
        return root

    def state(self) -> list[int | bytes]:
        """[leaf count, the held nodes one after another]: all that is needed to go on later."""
        return [self._count, b"".join(self._peaks)]

    @classmethod
    def from_state(cls, join: Join, state: object) -> "Frontier":
        """Restore the frontier that `state()` described. Raises BadState when `state()` cannot have written this."""
        if not (isinstance(state, list | tuple) and len(state) == 2):
            raise BadState("a frontier is saved as a pair")
        count, peaks = state
        if not is_count(count, 0, MAX_LEAVES) or type(peaks) is not bytes:
            raise BadState("a frontier is saved as a leaf count and bytes")
        if len(peaks) != count.bit_count() * HASH_BYTES:
            raise BadState(f"{len(peaks)} bytes of nodes cannot be the edge of a tree of {count} leaves")
        frontier = cls(join)
        frontier._count, frontier._peaks = count, split_nodes(peaks)
        return frontier


def split_nodes(nodes: Buffer) -> list[bytes]:
    """Concatenated 32-byte hashes as a list. BadParameters when the length is no multiple of 32."""
    data = bytes(nodes)
    if len(data) % HASH_BYTES:
        raise BadParameters(f"{len(data)} bytes are no whole number of {HASH_BYTES}-byte hashes")
    return [data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES)]


# A stored tree is its levels one after another, leaves first and the root last, promoted nodes included, so
# that the place of any node follows from the leaf count alone.


def level_sizes(total: int) -> list[int]:
    """Nodes per level of a tree of `total` leaves, leaves first; the last entry is 1, the root."""
    _check_total(total)
    sizes = [total]
    while sizes[-1] > 1:
        sizes.append((sizes[-1] + 1) // 2)
    return sizes


def stored_nodes(total: int) -> int:
    """Nodes of a whole stored tree; its length in bytes is 32 times that. At most 2·total + 38."""
    return sum(level_sizes(total))


def level_positions(total: int) -> list[int]:
    """Where each level of a stored tree begins: node (level, index) is number positions[level] + index."""
    positions = [0]
    for size in level_sizes(total)[:-1]:
        positions.append(positions[-1] + size)
    return positions


def fold_level(join: Join, nodes: Buffer) -> bytes:
    """Parents of neighbouring nodes of one level, concatenated; an odd last node is moved up unchanged.

    A level may be folded in chunks as long as every chunk but the last has an even number of nodes.
    """
    children = split_nodes(nodes)
    parents = [join(left, right) for left, right in zip(children[::2], children[1::2], strict=False)]
    if len(children) % 2:
        parents.append(children[-1])
    return b"".join(parents)


def upper_levels(join: Join, total: int, read: ReadNodes) -> Iterator[bytes]:
    """All levels above the leaves as chunks to be written, in order, right behind the leaves.

    `read` must already see the chunks yielded before. Memory stays at one chunk; the last 32 bytes are the
    root.
    """
    for position, size in zip(level_positions(total), level_sizes(total)[:-1], strict=False):
        for first in range(0, size, FOLD_NODES):
            yield fold_level(join, read(position + first, min(FOLD_NODES, size - first)))


def stored_tree(join: Join, leaves: Sequence[bytes]) -> bytes:
    """The whole stored tree in memory, for small shares."""
    level = b"".join(leaves)
    levels = [level]
    while len(level) > HASH_BYTES:
        level = fold_level(join, level)
        levels.append(level)
    return b"".join(levels)


def proof_nodes(total: int, first: int, count: int) -> Iterator[tuple[int, int]]:
    """(level, index) of the nodes that prove leaves [first, first+count): per level left, then right.

    At most two nodes per level. Raises BadParameters when the range is empty or outside the tree.
    """
    _check_range(total, first, count)
    return _neighbours(total, first, first + count)


def range_proof(total: int, first: int, count: int, node: ReadNode) -> bytes:
    """The proof for leaves [first, first+count), 32 bytes per node; reads O(log total) nodes."""
    return b"".join(node(level, index) for level, index in proof_nodes(total, first, count))


def verify_range(join: Join, root: bytes, total: int, first: int, leaves: Sequence[bytes], proof: Buffer) -> bool:
    """Whether `leaves` are leaves first, first+1, … of the tree of `total` leaves with this root.

    False for any proof or leaf of wrong length, and for a range that is empty or not inside the tree.
    """
    try:
        wanted = list(proof_nodes(total, first, len(leaves)))
    except BadParameters:
        return False
    if len(proof) != len(wanted) * HASH_BYTES or any(len(leaf) != HASH_BYTES for leaf in leaves):
        return False
    return _climb(join, total, first, list(leaves), split_nodes(proof)) == root


def _neighbours(total: int, first: int, end: int) -> Iterator[tuple[int, int]]:
    level = 0
    while total > 1:
        if first % 2:
            yield level, first - 1
        if end % 2 and end < total:
            yield level, end
        first, end, total, level = first // 2, (end + 1) // 2, (total + 1) // 2, level + 1


def _climb(join: Join, total: int, first: int, nodes: list[bytes], proof: list[bytes]) -> bytes:
    """The root that the leaves and the proof make; the proof has exactly the nodes `_neighbours` names."""
    upcoming = iter(proof)
    while total > 1:
        end = first + len(nodes)
        if first % 2:
            nodes.insert(0, next(upcoming))
        if end % 2 and end < total:
            nodes.append(next(upcoming))
        nodes = split_nodes(fold_level(join, b"".join(nodes)))
        first, total = first // 2, (total + 1) // 2
    return nodes[0]


def _check_total(total: int) -> None:
    if not is_count(total, 1, MAX_LEAVES):
        raise BadParameters(f"a tree has 1 to {MAX_LEAVES} leaves")


def _check_range(total: int, first: int, count: int) -> None:
    _check_total(total)
    if not (is_count(first, 0, total - 1) and is_count(count, 1, total - first)):
        raise BadParameters(f"no leaves {first} to {first} + {count} in a tree of {total}")
