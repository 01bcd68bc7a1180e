"""All encryption of files, in one quiet place: file keys, sealed segments, sealed metadata.

A file has one random 32-byte key; everything else is derived from it under a label of its own, so that no key is ever
used for two purposes. A segment's nonce is a keyed hash of what is sealed: sealing the same segment twice gives the
same bytes, and other bytes can never meet a used nonce, even when a source changed between two runs of a publish.
Formats: docs/format.md, "Encryption".
"""

import os
from collections.abc import Callable
from enum import IntEnum
from typing import Any

import msgpack
from blake3 import blake3
from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_decrypt,
    crypto_aead_xchacha20poly1305_ietf_encrypt,
)
from nacl.exceptions import CryptoError

from shoal.erasure import SEGMENT_OVERHEAD, padded_size
from shoal.node.folders.entries import BadEntry
from shoal.node.folders.index import IndexSummary, LaterIndex
from shoal.node.formats import MAX_LEASE_S, unpack
from shoal.node.names import MAX_NAME_BYTES, name_text
from shoal.values import dataclass

KEY_BYTES = 32
NONCE_BYTES = 24  # XChaCha20
TAG_BYTES = 16  # Poly1305
FORMAT_VERSION = 1  # bound into every segment's associated data

METADATA_STEP_BYTES = 256  # metadata is padded to a multiple, so that it does not tell the length of a name
MAX_MEDIA_TYPE_BYTES = 127  # RFC 6838 allows 127 characters a side; one side is plenty

assert SEGMENT_OVERHEAD == NONCE_BYTES + TAG_BYTES, "a stored segment is nonce, ciphertext, tag"


class CipherError(Exception):
    """What was opened is not what was sealed under this key."""


class FromLaterVersion(CipherError):
    """What was opened is sealed under this key, and only a later version of Shoal knows what it means."""


class FileKind(IntEnum):
    """What a file's bytes are. Numbers are never reused."""

    FILE = 0
    DIRECTORY = 1


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a link's holder learns of a file besides its bytes.

    `lease_s` is what its publisher chose where that is less than the longest lease. Then a fetch does not renew it.
    `folder` is of a directory alone, which `kind` says too: what its bytes are made of.
    """

    size: int
    name: str | None = None
    media_type: str | None = None
    kind: int = FileKind.FILE
    lease_s: int | None = None
    folder: IndexSummary | None = None

    @property
    def content_bytes(self) -> int:
        """The size of the file, or of all files in the folder."""
        return self.size if self.folder is None else self.folder.content_bytes


def derive_key(label: str, file_key: bytes) -> bytes:
    """The key that a file key gives for one use."""
    return blake3(file_key, derive_key_context=f"shoal/1 {label}").digest()


class FileCipher:
    """Seals and opens the segments and the metadata of one file. Holds no state between calls."""

    def __init__(self, file_key: bytes) -> None:
        if len(file_key) != KEY_BYTES:
            raise ValueError(f"a file key has {KEY_BYTES} bytes, not {len(file_key)}")
        self._segment_key = derive_key("segment key", file_key)
        self._nonce_key = derive_key("nonce key", file_key)
        self._metadata_key = derive_key("metadata key", file_key)
        self.commitment = derive_key("key commitment", file_key)

    def nonce_of(self, index: int, last: bool, plaintext: bytes) -> bytes:
        """The nonce of one segment of padded plaintext: a keyed hash of it, so other bytes have another nonce."""
        return blake3(_position(index, last), key=self._nonce_key).update(plaintext).digest(NONCE_BYTES)

    def seal_segment(self, index: int, last: bool, plaintext: bytes) -> bytes:
        """Nonce ‖ ciphertext ‖ tag of one segment of padded plaintext. Deterministic."""
        nonce = self.nonce_of(index, last, plaintext)
        return nonce + crypto_aead_xchacha20poly1305_ietf_encrypt(
            plaintext, _associated(index, last), nonce, self._segment_key
        )

    def open_segment(self, index: int, last: bool, sealed: bytes) -> bytes:
        """The plaintext of one segment; `CipherError` when it is not segment `index` of this file."""
        return _open(sealed, _associated(index, last), self._segment_key)

    def seal_metadata(self, metadata: Metadata, entropy: Callable[[int], bytes]) -> bytes:
        """Nonce ‖ ciphertext ‖ tag of the metadata, padded."""
        name = None if metadata.name is None else os.fsencode(metadata.name)
        fields: list[Any] = [FORMAT_VERSION, metadata.kind, name, metadata.size, metadata.media_type]
        if metadata.lease_s is not None or metadata.folder is not None:
            fields.append(metadata.lease_s)
        if metadata.folder is not None:
            fields.append(metadata.folder.fields())
        body = msgpack.packb(fields, use_bin_type=True)
        framed = len(body).to_bytes(2, "big") + body
        padded = framed + bytes(-len(framed) % METADATA_STEP_BYTES)
        nonce = entropy(NONCE_BYTES)
        return nonce + crypto_aead_xchacha20poly1305_ietf_encrypt(padded, b"metadata", nonce, self._metadata_key)

    def open_metadata(self, sealed: bytes) -> Metadata:
        """The metadata.

        Raises `FromLaterVersion` when its version or its kind is unknown here, and `CipherError` when it was not
        sealed under this key or is malformed.
        """
        return _parse_metadata(_open(sealed, b"metadata", self._metadata_key))


_KNOWN_KINDS = frozenset(int(kind) for kind in FileKind)


def _position(index: int, last: bool) -> bytes:
    return index.to_bytes(8, "big") + bytes([last])


def _associated(index: int, last: bool) -> bytes:
    return bytes([FORMAT_VERSION]) + _position(index, last)


def _open(sealed: bytes, associated: bytes, key: bytes) -> bytes:
    nonce, body = bytes(sealed[:NONCE_BYTES]), bytes(sealed[NONCE_BYTES:])
    if len(body) < TAG_BYTES:
        raise CipherError("too short to have been sealed")
    try:
        return crypto_aead_xchacha20poly1305_ietf_decrypt(body, associated, nonce, key)
    except CryptoError as error:
        raise CipherError("not sealed under this key, or changed since") from error


def _parse_metadata(padded: bytes) -> Metadata:
    """Authenticated, hence written by a key's holder; still not trusted to be well formed."""
    length = int.from_bytes(padded[:2], "big")
    if length + 2 > len(padded):
        raise CipherError("metadata is cut short")
    fields = unpack(padded[2 : 2 + length], CipherError, most_items=16, most_pairs=16)
    if not isinstance(fields, list) or len(fields) < 2 or type(fields[0]) is not int or type(fields[1]) is not int:
        raise CipherError("metadata is malformed")
    if fields[0] > FORMAT_VERSION:
        raise FromLaterVersion(f"metadata of version {fields[0]}")
    if fields[0] != FORMAT_VERSION or fields[1] < 0 or len(fields) < 5:
        raise CipherError("metadata is malformed")
    if fields[1] not in _KNOWN_KINDS:
        raise FromLaterVersion(f"a file of kind {fields[1]}")
    _, kind, name, size, media_type = fields[:5]
    if (
        type(size) is not int
        or not 0 <= size < 2**63
        or not (name is None or (isinstance(name, bytes) and len(name) <= MAX_NAME_BYTES))
        or not (media_type is None or (isinstance(media_type, str) and len(media_type) <= MAX_MEDIA_TYPE_BYTES))
    ):
        raise CipherError("metadata is malformed")
    lease_s = fields[5] if len(fields) > 5 else None
    if type(lease_s) is not int or not 0 < lease_s < MAX_LEASE_S:
        lease_s = None  # no wish that would change anything
    text = None if name is None else name_text(name)
    folder = _folder(fields[6:7], size) if kind == FileKind.DIRECTORY else None
    return Metadata(size=size, name=text, media_type=media_type, kind=kind, lease_s=lease_s, folder=folder)


def _folder(rest: list[Any], size: int) -> IndexSummary:
    """What a directory's metadata tells of its index, from the fields behind the lease."""
    try:
        return IndexSummary.of_fields(rest[0] if rest else None, size)
    except LaterIndex as error:
        raise FromLaterVersion(f"a folder with {error}") from None
    except BadEntry as error:
        raise CipherError(f"metadata is malformed: {error}") from None


def check_padding(size: int, padded: int) -> None:
    """`CipherError` unless a file of `size` bytes is padded to just `padded`."""
    if padded_size(size) != padded:
        raise CipherError(f"a file of {size} bytes is not padded to {padded}")
