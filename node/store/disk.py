"""The disk seam: the few file operations the store is built from, and the real disk.

`shoal.simulation.disk` has a simulated disk, which forgets at a crash what was not made durable. Both disks pass one
test suite. Everything here blocks and may be called from any thread. Failures are OSError or sqlite3.Error. Paths are
absolute. A file is never reached through a directory that is a symbolic link.
"""

import errno
import fcntl
import os
import sqlite3
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Protocol

from shoal.erasure import Buffer
from shoal.node.durable import sync_folder

DIRECTORY_MODE = 0o700
FILE_MODE = 0o600
MAX_PIECES = 512  # buffers per system call; Linux takes 1024 (IOV_MAX)
# Writes from here on are of blocks, and long enough to be fast without a cache before the disk. Shorter ones, such as
# trees, go through the system's page cache and stay there: they are the first to be read.
DIRECT_LEAST_BYTES = 64 * 1024
DIRECT_UNIT_BYTES = 4096  # offset and length of a direct write are multiples of it; no disk has larger sectors
_NOT_DIRECT = frozenset({errno.EINVAL, errno.EOPNOTSUPP})
LOCK_WAIT_S = 5.0  # how long SQLite waits for another program (a backup, say) that locks the database
# A full disk has no room for the 32 KiB in which SQLite keeps the index of a database's log.
_NO_ROOM_FOR_INDEX = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE, sqlite3.SQLITE_IOERR_SHMOPEN})
DATABASE_SUFFIXES = ("", "-wal", "-shm")  # the files SQLite keeps for one database in WAL mode


class DiskEntryKind(Enum):
    """What a name in a directory stands for."""

    FILE = "file"
    FOLDER = "folder"
    OTHER = "other"  # symbolic links too: they are never followed


class DiskFile(Protocol):
    """An open file."""

    def write_at(self, offset: int, pieces: Sequence[Buffer]) -> None:
        """Write all pieces one after another from `offset` on. Raises OSError unless all were written."""
        ...

    def read_at(self, offset: int, length: int) -> bytes:
        """`length` bytes from `offset` on; fewer only where the file ends."""
        ...

    def read_into(self, offset: int, view: memoryview) -> int:
        """Fill `view` from `offset` on. Returns the bytes read, fewer only where the file ends."""
        ...

    def size(self) -> int:
        """Length in bytes."""
        ...

    def truncate(self, length: int) -> None:
        """Cut or extend the file to `length` bytes."""
        ...

    def fsync(self) -> None:
        """Return only when the file's bytes and length survive a power cut."""
        ...

    def close(self) -> None:
        """Give the descriptor back."""
        ...


class Disk(Protocol):
    """Files, directories and databases."""

    def make_directories(self, path: Path) -> None:
        """Create `path` and its parents where missing, 0700, durably."""
        ...

    def create(self, path: Path) -> DiskFile:
        """A new file to read and write; FileExistsError when the name is taken."""
        ...

    def open(self, path: Path, *, writable: bool = False) -> DiskFile:
        """An existing file. OSError for a symbolic link, a pipe or a device, without waiting for anybody."""
        ...

    def rename(self, old: Path, new: Path) -> None:
        """Give a file another name in one step. A file of that name is replaced. Durable after `fsync_directory`."""
        ...

    def fsync_directory(self, path: Path) -> None:
        """Return only when the names in this directory survive a power cut."""
        ...

    def unlink(self, path: Path) -> None:
        """Remove a name; durable after `fsync_directory`."""
        ...

    def list_directory(self, path: Path) -> dict[str, DiskEntryKind]:
        """Names in a directory, in no particular order, and what they stand for; none when it does not exist."""
        ...

    def size(self, path: Path) -> int:
        """Length in bytes of a file that is not open."""
        ...

    def free_bytes(self, path: Path) -> int:
        """Bytes that may still be written on the file system of this directory."""
        ...

    def database(self, path: Path) -> sqlite3.Connection:
        """Open or create an SQLite database in autocommit mode, usable from any thread, synchronous=FULL."""
        ...

    def database_bytes(self, path: Path) -> int:
        """Bytes on disk of a database with its log."""
        ...


class RealFile:
    """A file descriptor. Long writes do not pass through the system's page cache, or do not stay in it.

    What a volunteer keeps for others is seldom read soon, and would push the owner's own files out of memory. A write
    goes from its buffers to the disk (O_DIRECT) where the file system takes that. Else the sync drops its pages.
    `fsync` means the same in either case. One thread at a time writes.
    """

    __slots__ = ("_cached_end", "_descriptor", "_takes_direct")

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._takes_direct = hasattr(os, "O_DIRECT")  # until the file system, or a buffer, says otherwise
        self._cached_end = 0  # where the last long write that went through the page cache ended

    def write_at(self, offset: int, pieces: Sequence[Buffer]) -> None:
        """See DiskFile."""
        for first in range(0, len(pieces), MAX_PIECES):
            offset += self._write_some(offset, pieces[first : first + MAX_PIECES])

    def _write_some(self, offset: int, pieces: Sequence[Buffer]) -> int:
        total = sum(len(piece) for piece in pieces)
        is_long = total >= DIRECT_LEAST_BYTES
        written = self._write_direct(offset, pieces) if is_long and not (offset | total) % DIRECT_UNIT_BYTES else 0
        if is_long and not written:
            self._cached_end = max(self._cached_end, offset + total)
        written = written or os.pwritev(self._descriptor, pieces, offset)
        if written < total:  # a full disk or a signal: say why, or finish
            rest = memoryview(b"".join(pieces))
            while written < total:
                written += os.pwrite(self._descriptor, rest[written:], offset + written)
        return total

    def _write_direct(self, offset: int, pieces: Sequence[Buffer]) -> int:
        """Write without the page cache. Returns the bytes written: 0 where that is not possible.

        The file system says whether it is. A buffer that begins in the middle of a page is refused, too.
        """
        if not self._takes_direct:
            return 0
        try:
            flags = fcntl.fcntl(self._descriptor, fcntl.F_GETFL)
            fcntl.fcntl(self._descriptor, fcntl.F_SETFL, flags | os.O_DIRECT)
            try:
                return os.pwritev(self._descriptor, pieces, offset)
            finally:
                fcntl.fcntl(self._descriptor, fcntl.F_SETFL, flags)
        except OSError as error:
            if error.errno not in _NOT_DIRECT:
                raise
            self._takes_direct = False
            return 0

    def read_at(self, offset: int, length: int) -> bytes:
        """See DiskFile."""
        data = os.pread(self._descriptor, length, offset)
        while 0 < len(data) < length:
            more = os.pread(self._descriptor, length - len(data), offset + len(data))
            if not more:
                break
            data += more
        return data

    def read_into(self, offset: int, view: memoryview) -> int:
        """See DiskFile."""
        filled = 0
        while filled < len(view):
            count = os.preadv(self._descriptor, [view[filled:]], offset + filled)
            if not count:
                break
            filled += count
        return filled

    def size(self) -> int:
        """See DiskFile."""
        return os.fstat(self._descriptor).st_size

    def truncate(self, length: int) -> None:
        """See DiskFile."""
        os.ftruncate(self._descriptor, length)

    def fsync(self) -> None:
        """See DiskFile."""
        os.fsync(self._descriptor)
        if self._cached_end and hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._descriptor, 0, self._cached_end, os.POSIX_FADV_DONTNEED)
            self._cached_end = 0

    def close(self) -> None:
        """See DiskFile; closing twice is harmless."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


class RealDisk:
    """The file systems of this machine."""

    def make_directories(self, path: Path) -> None:
        """See Disk."""
        if path.is_dir():
            return
        self.make_directories(path.parent)
        path.mkdir(mode=DIRECTORY_MODE, exist_ok=True)
        self.fsync_directory(path.parent)

    def create(self, path: Path) -> DiskFile:
        """See Disk."""
        with _folder(path) as folder:
            return RealFile(_open(path.name, os.O_RDWR | os.O_CREAT | os.O_EXCL, folder))

    def open(self, path: Path, *, writable: bool = False) -> DiskFile:
        """See Disk."""
        with _folder(path) as folder:
            descriptor = _open(path.name, (os.O_RDWR if writable else os.O_RDONLY) | os.O_NONBLOCK, folder)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError(errno.EINVAL, "it is not a plain file", str(path))
        return RealFile(descriptor)

    def rename(self, old: Path, new: Path) -> None:
        """See Disk."""
        with _folder(old) as source, _folder(new) as destination:
            os.rename(old.name, new.name, src_dir_fd=source, dst_dir_fd=destination)

    def fsync_directory(self, path: Path) -> None:
        """See Disk."""
        sync_folder(path)

    def unlink(self, path: Path) -> None:
        """See Disk."""
        with _folder(path) as folder:
            os.unlink(path.name, dir_fd=folder)

    def list_directory(self, path: Path) -> dict[str, DiskEntryKind]:
        """See Disk."""
        try:
            with os.scandir(path) as entries:
                return {entry.name: _kind(entry) for entry in entries}
        except FileNotFoundError:
            return {}

    def size(self, path: Path) -> int:
        """See Disk."""
        return os.stat(path, follow_symlinks=False).st_size

    def free_bytes(self, path: Path) -> int:
        """See Disk: what an ordinary user may write, not what is kept for root. Nothing where no inode is left."""
        status = os.statvfs(path)
        if status.f_files and not status.f_favail:  # no such number: the file system makes inodes as it needs them
            return 0
        return status.f_bavail * status.f_frsize

    def database(self, path: Path) -> sqlite3.Connection:
        """See Disk. The file is made first, so that its mode is ours and SQLite's helpers inherit it."""
        is_new = not path.exists()
        os.close(_open(path, os.O_RDWR | os.O_CREAT))
        if is_new:
            self.fsync_directory(path.parent)
        try:
            return _connect(path, "NORMAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode not in _NO_ROOM_FOR_INDEX:
                raise
            return _connect(path, "EXCLUSIVE")  # the index is then in memory alone

    def database_bytes(self, path: Path) -> int:
        """See Disk."""
        return sum(_size_or_zero(f"{path}{suffix}") for suffix in DATABASE_SUFFIXES)


def _connect(path: Path, locking_mode: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=LOCK_WAIT_S, isolation_level=None, check_same_thread=False)
    try:
        connection.execute(f"PRAGMA locking_mode={locking_mode}")  # first: the first access opens the index
        connection.execute("PRAGMA synchronous=FULL")
    except BaseException:
        connection.close()
        raise
    return connection


def _kind(entry: os.DirEntry[str]) -> DiskEntryKind:
    if entry.is_file(follow_symlinks=False):
        return DiskEntryKind.FILE
    return DiskEntryKind.FOLDER if entry.is_dir(follow_symlinks=False) else DiskEntryKind.OTHER


@contextmanager
def _folder(path: Path) -> Iterator[int]:
    """The directory that `path` is in, open. A symbolic link in its place is refused: it may lead out of the store."""
    descriptor = _open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _open(path: Path | str, flags: int, folder: int | None = None) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE, dir_fd=folder)


def _size_or_zero(path: str) -> int:  # no Path: every write asks
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0
