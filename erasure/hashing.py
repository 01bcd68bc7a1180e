"""Labelled hashes: each use of BLAKE3 in the formats has a key of its own.

H_label(x) = BLAKE3 in keyed mode with key = BLAKE3("shoal/1 " ‖ label). A hash made for one purpose can
therefore never be passed off as a hash made for another. Changing a label changes every id and root made with
it.
"""

from collections.abc import Callable
from typing import TypeAlias

from blake3 import blake3

HASH_BYTES = 32  # BLAKE3's default output: 128-bit collision resistance

Buffer: TypeAlias = bytes | bytearray | memoryview
"""Anything with contiguous bytes; blocks travel as views of larger buffers to save copies."""

Hash: TypeAlias = Callable[[Buffer], bytes]
Join: TypeAlias = Callable[[bytes, bytes], bytes]
"""Hash of an inner tree node from its two children, 32 bytes each."""


def label_key(label: str) -> bytes:
    """The 32-byte key that stands for `label`."""
    return blake3(b"shoal/1 " + label.encode()).digest()


def labelled(label: str) -> Hash:
    """H_label: bytes -> 32 bytes."""
    key = label_key(label)

    def digest(data: Buffer) -> bytes:
        return blake3(data, key=key).digest()

    return digest


def labelled_join(label: str) -> Join:
    """H_label(left ‖ right): the inner node of a Merkle tree."""
    key = label_key(label)

    def join(left: bytes, right: bytes) -> bytes:
        return blake3(left + right, key=key).digest()

    return join
