"""The trees behind the blocks in a share file: written in one streaming pass, read for proofs."""

from collections.abc import Iterable

from shoal.erasure import (
    HASH_BYTES,
    block_node,
    data_node,
    level_positions,
    level_sizes,
    range_proof,
    upper_levels,
)
from shoal.erasure.hashing import Join
from shoal.node.store.disk import DiskFile
from shoal.node.store.shareformat import Trailer
from shoal.values import dataclass

TOP_NODES = 256  # in the widest level that is kept: 16 KiB of a tree at most, and two trees of each open share

LeafChunk = tuple[bytes, bytes]
"""Block leaves and data leaves of the same consecutive blocks, 32 bytes each."""


@dataclass(frozen=True, slots=True)
class StoredTree:
    """One Merkle tree inside a share file."""

    file: DiskFile
    offset: int
    leaf_count: int
    join: Join

    def read(self, position: int, count: int) -> bytes:
        """`count` nodes from node number `position` on, in stored order."""
        return self.file.read_at(self.offset + HASH_BYTES * position, HASH_BYTES * count)

    def write(self, position: int, nodes: bytes) -> None:
        """Store nodes from node number `position` on."""
        self.file.write_at(self.offset + HASH_BYTES * position, [nodes])

    def write_upper_levels(self) -> bytes:
        """Compute and store all levels above the leaves, a chunk at a time; the root."""
        position = self.leaf_count
        root = b""
        for nodes in upper_levels(self.join, self.leaf_count, self.read):
            self.write(position, nodes)
            position += len(nodes) // HASH_BYTES
            root = nodes[-HASH_BYTES:]
        return root or self.read(0, 1)

    def leads_to(self, root: bytes) -> bool:
        """Whether every stored node is the hash of those below it, up to this root. Reads a chunk at a time."""
        position = self.leaf_count
        top = self.read(0, 1)
        for nodes in upper_levels(self.join, self.leaf_count, self.read):
            count = len(nodes) // HASH_BYTES
            if self.read(position, count) != nodes:
                return False
            position += count
            top = nodes[-HASH_BYTES:]
        return top == root


class TreeProofs:
    """Makes proofs from a stored tree. It reads the tree's top once, and keeps it: every proof needs it.

    Nothing checks what was kept, and nothing has to: whoever gets a proof climbs it to the root.
    """

    def __init__(self, tree: StoredTree) -> None:
        self._tree = tree
        self._positions = level_positions(tree.leaf_count)
        sizes = level_sizes(tree.leaf_count)
        small = (at for at, size in zip(self._positions, sizes, strict=True) if size <= TOP_NODES)
        self._end = sum(sizes)
        self._top_begin = next(small)  # the root's level is always small enough
        self._top = b""

    def proof(self, first: int, count: int) -> bytes:
        """Range proof for leaves [first, first + count): O(log n) reads of 32 bytes below the top."""
        return range_proof(self._tree.leaf_count, first, count, self._node)

    def _node(self, level: int, index: int) -> bytes:
        position = self._positions[level] + index
        if position < self._top_begin:
            return self._tree.read(position, 1)
        if not self._top:
            self._top = self._tree.read(self._top_begin, self._end - self._top_begin)
        at = HASH_BYTES * (position - self._top_begin)
        return self._top[at : at + HASH_BYTES]


def block_tree(file: DiskFile, trailer: Trailer) -> StoredTree:
    """The tree over the share's blocks; its root is the share's root in the manifest."""
    return StoredTree(file, trailer.block_tree_offset, trailer.block_count, block_node)


def data_tree(file: DiskFile, trailer: Trailer) -> StoredTree:
    """The tree over the file's segments; its root is the manifest's data root."""
    return StoredTree(file, trailer.data_tree_offset, trailer.block_count, data_node)


def write_tail(file: DiskFile, trailer: Trailer, manifest: bytes, leaves: Iterable[LeafChunk]) -> tuple[bytes, bytes]:
    """Write trees, manifest and trailer behind the blocks. Returns (block root, data root), computed from the
    leaves.
    """
    blocks, data = block_tree(file, trailer), data_tree(file, trailer)
    position = 0
    for block_leaves, data_leaves in leaves:
        blocks.write(position, block_leaves)
        data.write(position, data_leaves)
        position += len(block_leaves) // HASH_BYTES
    roots = blocks.write_upper_levels(), data.write_upper_levels()
    file.write_at(trailer.manifest_offset, [manifest, trailer.encode()])
    return roots
