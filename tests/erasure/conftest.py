"""What the erasure tests share: a codec, files published in memory, golden vectors and their builder."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import _cffi_backend
import pytest
from blake3 import blake3

from kit.scripts import load_script, load_vectors
from shoal.erasure import (
    HASH_BYTES,
    Codec,
    EncodedSegment,
    IsalCodec,
    Manifest,
    SegmentDecoder,
    ShareEncoder,
    ZfecCodec,
    best_codec,
    block_node,
    data_node,
    level_positions,
    range_proof,
    stored_tree,
)

HERE = Path(__file__).parent


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


@pytest.fixture(scope="session", params=["zfec", "isa-l"])
def codec(request: pytest.FixtureRequest) -> Codec:
    """Both codecs, always: where ISA-L is missing the tests fail, because CI must not stop testing it unnoticed."""
    if request.param == "zfec":
        return ZfecCodec()
    return IsalCodec(request.getfixturevalue("isal_library"))


@pytest.fixture(scope="session")
def isal_library() -> str:
    """The library that best_codec found."""
    codec = best_codec()
    assert isinstance(codec, IsalCodec), "ISA-L was not found: install the `test` extra, or Debian's libisal2"
    return codec.library


@pytest.fixture(scope="session")
def other_library() -> str:
    """A library that opens and has no ISA-L in it."""
    return _cffi_backend.__file__


@pytest.fixture(scope="session")
def publish() -> Callable[..., Published]:
    return publish_file


@pytest.fixture(scope="session")
def random_bytes() -> Callable[..., bytes]:
    return pseudo_bytes


@pytest.fixture(scope="session")
def vector_builder() -> ModuleType:
    """The regeneration script as a module."""
    return load_script(HERE / "regenerate_vectors.py")


@pytest.fixture(scope="session")
def stored_vectors() -> Callable[[str], Any]:
    """Read one file of golden vectors by its name."""
    return partial(load_vectors, HERE)
