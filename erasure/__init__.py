"""What a file becomes: segments, coded blocks, Merkle trees, the manifest, the link.

Ciphertext goes in and comes out. There are no keys, no network, no disk and no clock. Everything here is a pure
function or a small object that one task owns. Callers that need speed call it in worker threads. docs/format.md
describes every byte.

    errors, hashing   the error family; labelled BLAKE3
    layout            padding, segment and block lengths, default widths
    codec             the erasure code behind a small interface, by zfec
    gf256, isal       the same by ISA-L, many times faster; choice picks
    memory            buffers that are used again
    merkle            trees that grow, trees that are stored, proofs of ranges
    manifest, link    the public description of a file and its id; what a person copies
    encoder, decoder  segments to shares and back, using all of the above
"""

from shoal.erasure.choice import best_codec
from shoal.erasure.codec import Codec, ZfecCodec
from shoal.erasure.decoder import SegmentDecoder
from shoal.erasure.encoder import EncodedSegment, Roots, ShareEncoder
from shoal.erasure.errors import (
    BadParameters,
    BadShareNumbers,
    BadState,
    CorruptBlock,
    CorruptDataLeaf,
    ErasureError,
    MalformedLink,
    MalformedManifest,
    NotACodeword,
)
from shoal.erasure.hashing import HASH_BYTES, Buffer
from shoal.erasure.isal import IsalCodec, LibraryUnusable
from shoal.erasure.layout import (
    BLOCK_BYTES,
    MAX_CIPHERTEXT_BYTES,
    MAX_SHARES,
    SEGMENT_OVERHEAD,
    Layout,
    check_code,
    chosen_code,
    default_happy,
    default_width,
    padded_size,
    padme,
)
from shoal.erasure.link import Link, LinkKind, parse_link, unwrapped
from shoal.erasure.manifest import (
    MAX_EXTENSION_BYTES,
    MAX_MANIFEST_BYTES,
    MAX_METADATA_BYTES,
    FileId,
    Manifest,
    manifest_id,
)
from shoal.erasure.memory import SPARE_PAYLOAD_BYTES, payload_memory
from shoal.erasure.merkle import (
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
    split_nodes,
    stored_nodes,
    stored_tree,
    upper_levels,
    verify_range,
)

__all__ = [
    "BLOCK_BYTES",
    "HASH_BYTES",
    "MAX_CIPHERTEXT_BYTES",
    "MAX_EXTENSION_BYTES",
    "MAX_MANIFEST_BYTES",
    "MAX_METADATA_BYTES",
    "MAX_SHARES",
    "SEGMENT_OVERHEAD",
    "SPARE_PAYLOAD_BYTES",
    "BadParameters",
    "BadShareNumbers",
    "BadState",
    "Buffer",
    "Codec",
    "CorruptBlock",
    "CorruptDataLeaf",
    "EncodedSegment",
    "ErasureError",
    "FileId",
    "Frontier",
    "IsalCodec",
    "Layout",
    "LibraryUnusable",
    "Link",
    "LinkKind",
    "MalformedLink",
    "MalformedManifest",
    "Manifest",
    "NotACodeword",
    "Roots",
    "SegmentDecoder",
    "ShareEncoder",
    "ZfecCodec",
    "best_codec",
    "block_leaf",
    "block_node",
    "check_code",
    "chosen_code",
    "data_leaf",
    "data_node",
    "default_happy",
    "default_width",
    "fold_level",
    "level_positions",
    "level_sizes",
    "manifest_id",
    "padded_size",
    "padme",
    "parse_link",
    "payload_memory",
    "proof_nodes",
    "range_proof",
    "split_nodes",
    "stored_nodes",
    "stored_tree",
    "unwrapped",
    "upper_levels",
    "verify_range",
]
