"""The manifest: the public description of one published file, and the file's id.

It says how the shares were cut and what each must hash to, so that anybody can check and rebuild shares
without a key. Bytes are canonical: one manifest has exactly one encoding, and the id is the hash of those
bytes.
"""

from collections.abc import Container
from dataclasses import fields
from typing import Any, NewType

import msgpack

from shoal.erasure.errors import BadParameters, MalformedManifest
from shoal.erasure.hashing import HASH_BYTES, Buffer, labelled
from shoal.erasure.layout import BLOCK_BYTES, Layout, is_count
from shoal.erasure.merkle import split_nodes
from shoal.values import dataclass

FileId = NewType("FileId", bytes)
"""32 bytes: H_"file id" of a manifest's bytes."""

MANIFEST_VERSION = 1
MAX_METADATA_BYTES = 4096  # a name of 255 bytes, sizes and types need 512; the rest is for kinds to come
MAX_EXTENSION_BYTES = 1024  # opaque to holders, who store it for nothing: keep it small
MAX_MANIFEST_BYTES = 16384  # 256 roots (8 KiB) with the longest metadata and extension stay below 14 KiB
OWNER_KEY_BYTES = 32  # Ed25519
FILE_KEY_BYTES = 32

_file_id = labelled("file id")


@dataclass(frozen=True, slots=True)
class Manifest:
    """One published file. Constructing it checks every field; MalformedManifest says which is wrong.

    k, n: shares needed and in all.                 block_bytes: 65,536 in this version.
    ciphertext_bytes: of all segments, zero fill not counted.
    data_root: 32 bytes, root of the data tree.     share_roots: n times 32 bytes, of shares 0 to n-1.
    metadata: encrypted name, true size and so on; opaque here.
    key_commitment: 32 bytes that tell a wrong key before anything is fetched.
    owner_key: Ed25519 key whose signature may delete.
    public_key_material: the 32-byte file key of a public file, else empty.
    extension: opaque bytes for later versions, ignored by holders.
    """

    k: int
    n: int
    block_bytes: int
    ciphertext_bytes: int
    data_root: bytes
    share_roots: tuple[bytes, ...]
    metadata: bytes
    key_commitment: bytes
    owner_key: bytes
    public_key_material: bytes = b""
    extension: bytes = b""

    def __post_init__(self) -> None:
        if type(self.block_bytes) is not int or self.block_bytes != BLOCK_BYTES:
            raise MalformedManifest(f"the block size must be {BLOCK_BYTES}")
        try:
            Layout(self.k, self.n, self.ciphertext_bytes)
        except BadParameters as error:
            raise MalformedManifest(str(error)) from error
        if type(self.share_roots) is not tuple or len(self.share_roots) != self.n:
            raise MalformedManifest("a manifest has one root per share")
        for root in self.share_roots:
            _check_bytes("share_roots", root, (HASH_BYTES,))
        _check_bytes("data_root", self.data_root, (HASH_BYTES,))
        _check_bytes("metadata", self.metadata, range(MAX_METADATA_BYTES + 1))
        _check_bytes("key_commitment", self.key_commitment, (HASH_BYTES,))
        _check_bytes("owner_key", self.owner_key, (OWNER_KEY_BYTES,))
        _check_bytes("public_key_material", self.public_key_material, (0, FILE_KEY_BYTES))
        _check_bytes("extension", self.extension, range(MAX_EXTENSION_BYTES + 1))

    @property
    def layout(self) -> Layout:
        """The lengths of everything in the shares."""
        return Layout(self.k, self.n, self.ciphertext_bytes)

    @property
    def id(self) -> FileId:
        """The file's id."""
        return manifest_id(self.encode())

    def share_root(self, share: int) -> bytes:
        """Root over the blocks of one share; BadParameters when there is no such share."""
        if not is_count(share, 0, self.n - 1):
            raise BadParameters(f"no share {share} of {self.n}")
        return self.share_roots[share]

    def encode(self) -> bytes:
        """The canonical bytes: a msgpack array of version and fields in order, the roots as one string."""
        values = [getattr(self, name) for name in FIELDS]
        values[FIELDS.index("share_roots")] = b"".join(self.share_roots)
        encoded: bytes = msgpack.packb([MANIFEST_VERSION, *values], use_bin_type=True)
        return encoded

    @classmethod
    def decode(cls, data: Buffer) -> "Manifest":
        """Read the manifest in `data`. Raises MalformedManifest for any other bytes, even another way to write it."""
        values = _unpack(data)
        if type(values) is not list or len(values) != 1 + len(FIELDS):
            raise MalformedManifest(f"a manifest is an array of its version and {len(FIELDS)} fields")
        if type(values[0]) is not int or values[0] != MANIFEST_VERSION:
            raise MalformedManifest(f"a manifest begins with its version, {MANIFEST_VERSION}")
        named = dict(zip(FIELDS, values[1:], strict=True))
        manifest = cls(**named | {"share_roots": _split_roots(named["share_roots"])})
        if manifest.encode() != data:
            raise MalformedManifest("the manifest is not in its one canonical form")
        return manifest


FIELDS = tuple(field.name for field in fields(Manifest))


def manifest_id(data: Buffer) -> FileId:
    """The id of manifest bytes; it says nothing about whether they are a valid manifest."""
    return FileId(_file_id(data))


def _split_roots(roots: object) -> tuple[bytes, ...]:
    if type(roots) is not bytes or len(roots) % HASH_BYTES:
        raise MalformedManifest(f"share roots are one string of {HASH_BYTES}-byte hashes")
    return tuple(split_nodes(roots))


def _check_bytes(field: str, value: object, lengths: Container[int]) -> None:
    if type(value) is not bytes or len(value) not in lengths:
        raise MalformedManifest(f"field {field} is not bytes of an allowed length")


def _unpack(data: Buffer) -> Any:
    """One msgpack value, with every limit set before parsing: maps, text and extension types cannot occur."""
    if len(data) > MAX_MANIFEST_BYTES:
        raise MalformedManifest(f"a manifest has at most {MAX_MANIFEST_BYTES} bytes")
    if len(data) > 1 and data[0] >> 4 == 0x9 and MANIFEST_VERSION < data[1] < 0x80:
        # an array of up to 15 elements whose first is a small int: say so before limits of version 1 strike
        raise MalformedManifest(f"manifest version {data[1]} needs a newer version of shoal")
    try:
        return msgpack.unpackb(
            bytes(data),
            max_array_len=1 + len(FIELDS),
            max_bin_len=MAX_MANIFEST_BYTES,
            max_map_len=0,
            max_str_len=0,
            max_ext_len=0,
        )
    except MemoryError:
        raise  # no fault of the bytes
    except Exception:  # noqa: BLE001  # whatever the parser raises may carry all it had parsed: not kept as the cause
        raise MalformedManifest("the manifest is not well-formed msgpack") from None
