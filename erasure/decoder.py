"""Shares back to segments: the fetching and repairing half of the format, trusting nothing but the manifest.

Blocks are proven against their share's root, then the decoded segment against the data root. The second step
matters: share roots alone do not say that the shares belong together (see NotACodeword).
"""

from collections.abc import Collection, Mapping, Sequence

from shoal.erasure.codec import Codec
from shoal.erasure.errors import BadShareNumbers, CorruptBlock, CorruptDataLeaf, NotACodeword
from shoal.erasure.hashing import Buffer
from shoal.erasure.manifest import Manifest
from shoal.erasure.merkle import block_leaf, block_node, data_leaf, data_node, verify_range


class SegmentDecoder:
    """Checks and decodes the blocks of one file. Keeps no data, so any thread may use it, for any segment."""

    def __init__(self, manifest: Manifest, codec: Codec) -> None:
        self.manifest = manifest
        self.layout = manifest.layout
        self._codec = codec

    def check_blocks(self, share: int, first: int, blocks: Sequence[Buffer], proof: Buffer) -> list[bytes]:
        """Return the leaf hashes of blocks first, first+1, … of a share, once the proof ties them to the share's root.

        Raises BadParameters when the manifest has no such share or first block. Raises CorruptBlock for anything else
        that is wrong, too many blocks included. It names the bad block if its length shows it or it came alone, else
        the range.
        """
        root = self.manifest.share_root(share)
        self._check_lengths(share, first, blocks)
        leaves = [block_leaf(block) for block in blocks]
        if not verify_range(block_node, root, self.layout.segment_count, first, leaves, proof):
            raise CorruptBlock(share, first, len(blocks))
        return leaves

    def check_data_leaves(self, first: int, leaves: Sequence[bytes], proof: Buffer) -> None:
        """Tie data-tree leaves of segments first, first+1, … to the data root, or raise CorruptDataLeaf."""
        root, total = self.manifest.data_root, self.layout.segment_count
        if not verify_range(data_node, root, total, first, leaves, proof):
            raise CorruptDataLeaf(first, len(leaves))

    def decode(
        self,
        index: int,
        blocks: Mapping[int, Buffer],
        leaves: Mapping[int, bytes],
        proven_data_leaf: bytes,
    ) -> bytes:
        """Ciphertext of segment `index` from the blocks of any k shares or more, primaries preferred.

        Blocks and leaves must come from `check_blocks`, the data leaf through `check_data_leaves`. Raises NotACodeword
        when the segment is not the one that the data root promises. Raises BadShareNumbers for too few blocks or wrong
        lengths.
        """
        chosen = self._choose(index, blocks)
        data = self._primaries(chosen)
        primary_leaves = [
            leaves[number] if number in chosen else block_leaf(block) for number, block in enumerate(data)
        ]
        length = self.layout.segment_bytes(index)
        segment = b"".join(data)
        if data_leaf(index, primary_leaves) != proven_data_leaf or any(segment[length:]):
            raise NotACodeword(index)
        return segment[:length]

    def rebuild(self, index: int, blocks: Mapping[int, Buffer], want: Collection[int]) -> dict[int, Buffer]:
        """Block `index` of the wanted shares from checked blocks of any k others; not checked afterwards.

        The caller builds each new share's root: if that misses the manifest's, the manifest is no codeword.
        """
        return self._codec.rebuild(self.manifest.k, self.manifest.n, self._choose(index, blocks), want)

    def _choose(self, index: int, blocks: Mapping[int, Buffer]) -> dict[int, Buffer]:
        """k of the blocks, lowest share numbers first: the more data blocks, the less to compute."""
        k = self.manifest.k
        if len(blocks) < k:
            raise BadShareNumbers(f"{len(blocks)} blocks of segment {index} where {k} are needed")
        expected = self.layout.block_bytes(index)
        chosen = {number: blocks[number] for number in sorted(blocks)[:k]}
        if any(memoryview(block).nbytes != expected for block in chosen.values()):
            raise BadShareNumbers(f"a block of segment {index} has not {expected} bytes")
        return chosen

    def _primaries(self, chosen: Mapping[int, Buffer]) -> list[Buffer]:
        k, n = self.manifest.k, self.manifest.n
        missing = [number for number in range(k) if number not in chosen]
        made = self._codec.rebuild(k, n, chosen, missing)
        return [chosen[number] if number in chosen else made[number] for number in range(k)]

    def _check_lengths(self, share: int, first: int, blocks: Sequence[Buffer]) -> None:
        """CorruptBlock for a block of wrong length or beyond the end."""
        self.layout.block_bytes(first)  # refuses a range that begins outside the file
        room = self.layout.segment_count - first
        if not 0 < len(blocks) <= room:
            raise CorruptBlock(share, first, max(1, len(blocks)))
        for index, block in enumerate(blocks, first):
            if memoryview(block).nbytes != self.layout.block_bytes(index):
                raise CorruptBlock(share, index)
