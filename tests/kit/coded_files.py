"""Files that are published in memory, with every block and every proof."""

from dataclasses import dataclass, field

from blake3 import blake3

from shoal.erasure import (
    HASH_BYTES,
    Codec,
    EncodedSegment,
    Manifest,
    SegmentDecoder,
    ShareEncoder,
    best_codec,
    block_node,
    data_node,
    level_positions,
    range_proof,
    stored_tree,
)


def pseudo_bytes(length: int, seed: str = "") -> bytes:
    """The same `length` bytes for the same seed: BLAKE3's extendable output."""
    return blake3(seed.encode()).digest(length=length)


@dataclass
class Published:
    """One file as its holders have it: every block, and both kinds of stored tree."""

    manifest: Manifest
    segments: list[EncodedSegment]
    ciphertext: bytes
    codec: Codec
    trees: dict[int, bytes] = field(default_factory=dict)

    @property
    def decoder(self) -> SegmentDecoder:
        return SegmentDecoder(self.manifest, self.codec)

    def blocks(self, share: int, first: int = 0, count: int | None = None) -> list[bytes]:
        end = None if count is None else first + count
        return [bytes(segment.blocks[share]) for segment in self.segments[first:end]]

    def proof(self, share: int, first: int, count: int) -> bytes:
        if share not in self.trees:
            self.trees[share] = stored_tree(block_node, [segment.leaves[share] for segment in self.segments])
        return self._prove(self.trees[share], first, count)

    def data_leaves(self, first: int, count: int) -> list[bytes]:
        return [segment.data_leaf for segment in self.segments[first : first + count]]

    def data_proof(self, first: int, count: int) -> bytes:
        return self._prove(stored_tree(data_node, self.data_leaves(0, len(self.segments))), first, count)

    def _prove(self, tree: bytes, first: int, count: int) -> bytes:
        total = len(self.segments)
        positions = level_positions(total)

        def node(level: int, index: int) -> bytes:
            at = (positions[level] + index) * HASH_BYTES
            return tree[at : at + HASH_BYTES]

        return range_proof(total, first, count, node)


def publish_file(k: int, n: int, ciphertext_bytes: int, seed: str = "") -> Published:
    """Encode pseudo-random ciphertext of the given length and describe it in a manifest."""
    codec, ciphertext = best_codec(), pseudo_bytes(ciphertext_bytes, seed)
    encoder, full = ShareEncoder(k, n, codec), k * 65536
    starts = range(0, ciphertext_bytes, full)
    segments = [encoder.add_segment(ciphertext[at : at + full], last=at == starts[-1]) for at in starts]
    roots = encoder.finish()
    manifest = Manifest(
        k=k,
        n=n,
        block_bytes=65536,
        ciphertext_bytes=roots.ciphertext_bytes,
        data_root=roots.data_root,
        share_roots=roots.share_roots,
        metadata=pseudo_bytes(256, "metadata"),
        key_commitment=pseudo_bytes(32, "commitment"),
        owner_key=pseudo_bytes(32, "owner"),
    )
    return Published(manifest, segments, ciphertext, codec)
