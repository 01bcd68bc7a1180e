"""Labelled hashing: every use of BLAKE3 in this layer has a label of its own.

`H_label(x)` is BLAKE3 in keyed mode under the key BLAKE3("shoal/1 " + label). Two uses can therefore never
be confused, whatever bytes they are fed. A label in use never changes its meaning.
"""

from collections.abc import Callable

from blake3 import blake3

HASH_BYTES = 32  # BLAKE3's default output: 128-bit collision resistance.

_NAMESPACE = "shoal/1 "


def labelled_hash(label: str) -> Callable[[bytes], bytes]:
    """Return the function H_label: any bytes -> 32 bytes."""
    key = blake3((_NAMESPACE + label).encode()).digest()

    def hash_bytes(data: bytes) -> bytes:
        return blake3(data, key=key).digest()

    return hash_bytes


def keyed_mac(key: bytes, data: bytes, length: int) -> bytes:
    """BLAKE3 in keyed mode as a MAC under a secret 32-byte `key`, cut to `length` bytes."""
    return blake3(data, key=key).digest(length)


def signing_prefix(label: str) -> bytes:
    """What stands before the bytes covered by a signature, so that no signature serves two purposes."""
    return (_NAMESPACE + label).encode() + b"\0"
