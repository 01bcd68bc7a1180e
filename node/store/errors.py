"""What can go wrong in the share store, told apart by who must act.

PeerMistake: the request asked for something that cannot be; this machine is well.

StoreFull: a limit of the volunteer was reached; another holder may have room.

LocalFailure: the disk or the database of this machine failed; the request was fine.

OSError and sqlite3.Error are translated here and nowhere else, by the two context managers at the end.
"""

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum


class StoreError(Exception):
    """Root of everything the store raises on purpose."""


class PeerMistake(StoreError):
    """The request does not fit what was sent before, or what is held."""


class UnknownUpload(PeerMistake):
    """No such upload: it expired, was given up, or never began."""


class UploadGap(PeerMistake):
    """Blocks were left out. `expected` is the next block number that is accepted."""

    def __init__(self, expected: int, first_block: int) -> None:
        self.expected = expected
        super().__init__(f"the next block is number {expected}, not {first_block}")


class BadUpload(PeerMistake):
    """Blocks of a wrong length or number, or more than was offered."""


class BadShare(PeerMistake):
    """The blocks received are not the share that the manifest promises. The upload has been discarded."""


class BadManifest(PeerMistake):
    """A manifest that does not decode, or has no such share."""


class NotHeld(PeerMistake):
    """The store does not keep this share."""


class FileDeleted(PeerMistake):
    """The file's owner had it deleted, so no share of it is taken. The upload has been discarded."""


class BadRange(PeerMistake):
    """A read outside the share, or of too many blocks."""


class Limit(Enum):
    """The limits to what a volunteer lends."""

    CAPACITY = "capacity"  # the part of the disk that is lent out
    DISK = "disk"  # free disk that is to be left alone
    UPLOADS = "uploads"  # so many uploads may be open at once, in all and of one address prefix
    SOURCE = "source"  # what one address prefix may send in a day


class StoreFull(StoreError):
    """A limit of this volunteer was reached. `needed_bytes` and `available_bytes` are counted under that limit.

    missing: what would have to be freed, in bytes, or in places where the table of uploads is full. It is 0 when the
    system refused without a number.
    """

    def __init__(self, limit: Limit, needed_bytes: int, available_bytes: int) -> None:
        self.limit, self.needed_bytes, self.available_bytes = limit, needed_bytes, max(0, available_bytes)
        self.missing = needed_bytes - available_bytes
        numbers = f"{needed_bytes} bytes needed, {self.available_bytes} available"
        super().__init__(f"no room ({limit.value}): {'the file system is full' if self.is_the_systems else numbers}")

    @property
    def is_the_systems(self) -> bool:
        """Whether the system refused the bytes, although our own count had room: no space, no inode, a quota."""
        return self.limit is Limit.DISK and not self.needed_bytes


class GaveWay(StoreFull):
    """This upload was discarded: another one needed its room or its place, and had more claim to it."""

    def __init__(self, limit: Limit) -> None:
        super().__init__(limit, 0, 0)
        self.args = (f"this upload gave way to another: no room ({limit.value})",)


class LocalFailure(StoreError):
    """This machine failed; the message names the file and the system's reason."""


class DiskFailed(LocalFailure):
    """A file operation failed."""


class DatabaseFailed(LocalFailure):
    """SQLite could not do it: disk full, locked by another program, I/O error."""


class ShareDamaged(LocalFailure):
    """What is on disk is no longer what was stored. The bytes were not handed out."""

    def __init__(self, file_id: bytes, share_number: int, what: str) -> None:
        self.file_id, self.share_number = file_id, share_number
        super().__init__(f"share {share_number} of {file_id.hex()[:16]} is damaged on disk: {what}")


class ManifestDamaged(LocalFailure):
    """A manifest in the database is no longer what was stored."""

    def __init__(self, file_id: bytes) -> None:
        super().__init__(f"the manifest of {file_id.hex()[:16]} is damaged in the database")


class StoreUnusable(LocalFailure):
    """The store cannot be opened. It is no share store, damaged, or of a newer version. Nothing was changed."""


MEDIA_ERRORS = frozenset({errno.EIO, errno.EUCLEAN, errno.EBADMSG})  # this place on the disk cannot be read
NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@contextmanager
def disk_errors(what: str) -> Iterator[None]:
    """Translate OSError: a full disk into StoreFull, anything else into DiskFailed."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_SPACE:
            raise StoreFull(Limit.DISK, 0, 0) from error
        raise DiskFailed(f"{what}: {error.strerror or error}") from error


class _DatabaseErrors:
    """Translates sqlite3.Error in the same way. It is a class for speed: every query of the store uses it."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if not isinstance(error, sqlite3.Error):
            return
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            raise StoreFull(Limit.DISK, 0, 0) from error
        raise DatabaseFailed(f"share database: {error}") from error


database_errors = _DatabaseErrors()
