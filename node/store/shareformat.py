"""The share file: a share's bytes first, then all that is needed to serve and re-index it without a database.

    offset                     bytes
    0                          share_bytes          the blocks, one after another
    share_bytes                32 · nodes           block tree: leaves, then each level above, root last
    …                          32 · nodes           data tree, the same shape (one leaf per segment)
    …                          manifest_bytes       the manifest
    end - 128                  128                  trailer

nodes = stored_nodes(block count); an odd last node of a level is repeated as its own parent. The blocks come
first so that an upload can be received before anything else about it is known. Written down in docs/store.md.
"""

import struct
from pathlib import Path

from shoal.erasure import BLOCK_BYTES, HASH_BYTES, MAX_MANIFEST_BYTES, stored_nodes
from shoal.erasure.hashing import labelled
from shoal.node.formats import UPLOAD_ID_BYTES
from shoal.values import dataclass

MAGIC = b"SHOALSHR"
VERSION = 1
FIELDS = struct.Struct(">8sHHIQQQQ16s32s")
TRAILER_BYTES = FIELDS.size + HASH_BYTES
assert TRAILER_BYTES == 128

UPLOAD_SUFFIX = ".upload"
QUARANTINE_SUFFIX = ".damaged"
MAX_SHARE_NUMBER = 255

_checksum = labelled("share trailer")


class NotAShareFile(ValueError):
    """The file is no share file of a version we know, or it is torn."""


@dataclass(frozen=True, slots=True)
class Trailer:
    """The last 128 bytes. Times are whole seconds since the epoch; lease_end is that of the commit."""

    file_id: bytes
    share_number: int
    share_bytes: int
    manifest_bytes: int
    lease_end: int
    stored_at: int
    upload_id: bytes

    @property
    def block_count(self) -> int:
        """Blocks of the share, the last one possibly short."""
        return -(-self.share_bytes // BLOCK_BYTES)

    @property
    def block_tree_offset(self) -> int:
        """Where the tree whose root is this share's root begins."""
        return self.share_bytes

    @property
    def data_tree_offset(self) -> int:
        """Where the tree over the segments begins."""
        return self.block_tree_offset + HASH_BYTES * stored_nodes(self.block_count)

    @property
    def manifest_offset(self) -> int:
        """Where the manifest begins."""
        return self.data_tree_offset + HASH_BYTES * stored_nodes(self.block_count)

    @property
    def trailer_offset(self) -> int:
        """Where this trailer begins."""
        return self.manifest_offset + self.manifest_bytes

    @property
    def file_bytes(self) -> int:
        """Length of the whole file."""
        return self.trailer_offset + TRAILER_BYTES

    def encode(self) -> bytes:
        """The 128 bytes: fields, big-endian, then a checksum over them."""
        fields = FIELDS.pack(
            MAGIC,
            VERSION,
            self.share_number,
            self.manifest_bytes,
            self.block_count,
            self.share_bytes,
            self.lease_end,
            self.stored_at,
            self.upload_id,
            self.file_id,
        )
        return fields + _checksum(fields)


def decode_trailer(data: bytes, file_bytes: int) -> Trailer:
    """The trailer of a file of `file_bytes` bytes; NotAShareFile when anything about it does not fit."""
    if len(data) != TRAILER_BYTES or not data.startswith(MAGIC):
        raise NotAShareFile("no trailer")
    fields, checksum = data[: FIELDS.size], data[FIELDS.size :]
    _, version, number, manifest_bytes, blocks, share_bytes, lease_end, stored_at, upload_id, file_id = FIELDS.unpack(
        fields
    )
    if version != VERSION:
        raise NotAShareFile(f"share file version {version}")
    if _checksum(fields) != checksum:
        raise NotAShareFile("the trailer is torn")
    trailer = Trailer(file_id, number, share_bytes, manifest_bytes, lease_end, stored_at, upload_id)
    if not (1 <= share_bytes <= file_bytes and manifest_bytes <= MAX_MANIFEST_BYTES and number <= MAX_SHARE_NUMBER):
        raise NotAShareFile("numbers out of range")
    if blocks != trailer.block_count or trailer.file_bytes != file_bytes:
        raise NotAShareFile("lengths do not fit together")
    return trailer


def share_name(file_id: bytes, share_number: int) -> str:
    """File name of a committed share."""
    return f"{file_id.hex()}.{share_number}"


def upload_name(upload_id: bytes) -> str:
    """File name of an upload not yet committed."""
    return upload_id.hex() + UPLOAD_SUFFIX


def parse_upload_name(name: str) -> bytes | None:
    """Upload id when `name` is one `upload_name` gives, else None."""
    try:
        upload_id = bytes.fromhex(name.removesuffix(UPLOAD_SUFFIX))
    except ValueError:
        return None
    return upload_id if len(upload_id) == UPLOAD_ID_BYTES and name == upload_name(upload_id) else None


def parse_share_name(name: str) -> tuple[bytes, int] | None:
    """(file id, share number) when `name` is one `share_name` gives, else None."""
    stem, _, number = name.partition(".")
    try:
        key = bytes.fromhex(stem), int(number)
    except ValueError:
        return None
    return key if len(key[0]) == HASH_BYTES and name == share_name(*key) else None


def quarantine_name(file_id: bytes, share_number: int, serial: int) -> str:
    """File name of a damaged copy put aside; `serial` tells several copies of one share apart."""
    return f"{share_name(file_id, share_number)}.{serial}{QUARANTINE_SUFFIX}"


def parse_quarantine_name(name: str) -> tuple[bytes, int, int] | None:
    """(file id, share number, serial) when `name` is one `quarantine_name` gives, else None."""
    stem, _, serial = name.removesuffix(QUARANTINE_SUFFIX).rpartition(".")
    key = parse_share_name(stem)
    if key is None or not serial.isascii() or not serial.isdecimal():
        return None
    return (*key, int(serial)) if name == quarantine_name(*key, int(serial)) else None


def folder_of(upload_id: bytes) -> str:
    """Which of the 256 folders an upload, and later its share, lives in: no folder grows too large."""
    return f"{_folder_hash(upload_id)[0]:02x}"


def is_folder_name(name: str) -> bool:
    """Whether `folder_of` may give this name."""
    return len(name) == 2 and set(name) <= set("0123456789abcdef")


def folder_path(root: Path, folder: str) -> Path:
    """Path of a folder in the store at `root`."""
    return root / "shares" / folder


_folder_hash = labelled("share folder")  # upload ids are chosen by strangers, who could put all into one folder
