"""A disk in memory that forgets, at a crash, what was not made durable.

The model, after what file systems promise (POSIX; Pillai et al., OSDI 2014):

* File contents: each write since the file's last fsync is kept, lost, or torn (only its first bytes arrive),
each for
  itself and in any combination; holes read as zeros.
* Names: in each directory the changes since its last fsync survive up to some point and not beyond it
(journalled
  metadata, as ext4 and xfs). A rename is one change.
* SQLite (WAL, synchronous=FULL): a committed transaction survives, an open one does not.

On demand it runs full, fails chosen operations, crashes in the middle of a call, and flips bits. It is used
by one thread at a time, as simulations are.
"""

import errno
import random
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import field
from pathlib import Path
from typing import Any

from shoal.erasure import Buffer
from shoal.node.store import DiskEntryKind
from shoal.values import dataclass

DEFAULT_TOTAL_BYTES = 1 << 40


class PowerCut(BaseException):
    """The machine stops here. Not an Exception: no handler of the code under test may see it."""


@dataclass(eq=False)
class Inode:
    """A file's contents: now, as of the last fsync, and the changes between.

    A change is (offset, bytes), or (-1, new length as 8 bytes).
    """

    data: bytearray = field(default_factory=bytearray)
    durable: bytes = b""
    pending: list[tuple[int, bytes]] = field(default_factory=list)

    def write(self, offset: int, piece: bytes) -> None:
        """Change the contents now."""
        _apply_write(self.data, offset, piece)
        self.pending.append((offset, piece))

    def truncate(self, length: int) -> None:
        """Cut or extend now."""
        _apply_truncate(self.data, length)
        self.pending.append((-1, length.to_bytes(8, "big")))

    def fsync(self) -> None:
        """What is there now survives."""
        if self.pending:
            self.durable = bytes(self.data)
            self.pending.clear()

    def crash(self, rng: random.Random) -> None:
        """Keep an arbitrary part of the pending changes."""
        survived = bytearray(self.durable)
        for offset, piece in self.pending:
            fate = rng.choice(("kept", "lost", "torn"))
            if fate == "lost":
                continue
            if offset < 0:
                _apply_truncate(survived, int.from_bytes(piece, "big"))
            else:
                kept = len(piece) if fate == "kept" else rng.randrange(len(piece) + 1)
                _apply_write(survived, offset, piece[:kept])
        self.data, self.durable = survived, bytes(survived)
        self.pending.clear()


def _apply_write(data: bytearray, offset: int, piece: bytes) -> None:
    if len(data) < offset:
        data.extend(bytes(offset - len(data)))
    data[offset : offset + len(piece)] = piece


def _apply_truncate(data: bytearray, length: int) -> None:
    del data[length:]
    data.extend(bytes(length - len(data)))


Change = tuple[str | None, str | None, Inode]
"""(name that goes, name that comes, the file)."""


@dataclass
class Directory:
    """Names now, names as of the last fsync, and the changes between."""

    names: dict[str, Inode] = field(default_factory=dict)
    durable: dict[str, Inode] = field(default_factory=dict)
    pending: list[Change] = field(default_factory=list)

    def change(self, gone: str | None, come: str | None, inode: Inode) -> None:
        """Apply a change now."""
        _apply_change(self.names, (gone, come, inode))
        self.pending.append((gone, come, inode))

    def fsync(self) -> None:
        """The names there now survive."""
        self.durable = dict(self.names)
        self.pending.clear()

    def crash(self, rng: random.Random) -> None:
        """Keep the changes up to some point."""
        survived = dict(self.durable)
        for change in self.pending[: rng.randint(0, len(self.pending))]:
            _apply_change(survived, change)
        self.names, self.durable = survived, dict(survived)
        self.pending.clear()


def _apply_change(names: dict[str, Inode], change: Change) -> None:
    gone, come, inode = change
    if gone is not None:
        names.pop(gone, None)
    if come is not None:
        names[come] = inode


class SimFile:
    """An open file of a SimDisk."""

    def __init__(self, disk: "SimDisk", path: Path, inode: Inode, writable: bool) -> None:
        self._disk = disk
        self._path = path
        self._inode = inode
        self._writable = writable
        self._boot = disk.boots

    def write_at(self, offset: int, pieces: Sequence[Buffer]) -> None:
        """See DiskFile."""
        self._check("write")
        if not self._writable:
            raise OSError(errno.EBADF, "not open for writing")
        for piece in pieces:
            self._disk.grow(offset + len(piece) - len(self._inode.data))
            self._inode.write(offset, bytes(piece))
            offset += len(piece)

    def read_at(self, offset: int, length: int) -> bytes:
        """See DiskFile."""
        self._check("read")
        return bytes(self._inode.data[offset : offset + length])

    def read_into(self, offset: int, view: memoryview) -> int:
        """See DiskFile."""
        data = self.read_at(offset, len(view))
        view[: len(data)] = data
        return len(data)

    def size(self) -> int:
        """See DiskFile."""
        self._check("size")
        return len(self._inode.data)

    def truncate(self, length: int) -> None:
        """See DiskFile."""
        self._check("truncate")
        growth = length - len(self._inode.data)
        self._disk.grow(growth)
        self._disk.shrink(-growth)
        self._inode.truncate(length)

    def fsync(self) -> None:
        """See DiskFile."""
        self._check("fsync")
        self._inode.fsync()

    def close(self) -> None:
        """See DiskFile."""
        self._boot = -1

    def _check(self, operation: str) -> None:
        if self._boot != self._disk.boots:
            raise OSError(errno.EBADF, "the file is closed")
        self._disk.step(operation, self._path)


class SimDisk:
    """See the module. `before` is called before every operation with its name and path, and may raise.

    Operations: create, open, write, read, size, truncate, fsync, rename, fsync_directory, unlink, list,
    commit.
    """

    def __init__(self, total_bytes: int = DEFAULT_TOTAL_BYTES) -> None:
        self.total_bytes = total_bytes
        self.boots = 0
        self.operations = 0
        self.before: Callable[[str, Path], None] | None = None
        self._directories: dict[Path, Directory] = {}
        self._file_bytes = 0
        self._databases: dict[Path, bytes] = {}
        self._connections: dict[Path, SimConnection] = {}

    # faults

    def crash(self, rng: random.Random) -> None:
        """Cut the power: what was not durable is at the mercy of `rng`; open files and databases are gone."""
        self.boots += 1
        self.before = None
        inodes = {
            id(inode): inode
            for directory in self._directories.values()
            for inode in (*directory.names.values(), *directory.durable.values(), *_files(directory.pending))
        }
        for inode in inodes.values():
            inode.crash(rng)
        for directory in self._directories.values():
            directory.crash(rng)
        self._file_bytes = sum(
            len(inode.data) for directory in self._directories.values() for inode in directory.names.values()
        )
        for path, connection in self._connections.items():
            self._databases[path] = connection.power_cut()
        self._connections.clear()

    def fail(self, operation: str, number: int = 1, code: int = errno.EIO) -> None:
        """Let the `number`-th coming operation of this name fail, once."""
        left = number

        def before(name: str, path: Path) -> None:
            nonlocal left
            left -= name == operation
            if left == 0 and name == operation:
                raise OSError(code, errno.errorcode[code], str(path))

        self.before = before

    def crash_at(self, number: int) -> None:
        """Raise PowerCut before the `number`-th coming operation, and at all later ones."""
        last = self.operations + number

        def before(_name: str, _path: Path) -> None:
            if self.operations >= last:
                raise PowerCut

        self.before = before

    def files(self) -> list[Path]:
        """Every file there is now, in order."""
        return sorted(folder / name for folder, each in self._directories.items() for name in each.names)

    def flip_bit(self, path: Path, bit: int) -> None:
        """Let one bit rot."""
        inode = self._inode(path)
        inode.data[bit // 8] ^= 1 << (bit % 8)
        inode.durable = bytes(inode.data)

    def open_database(self, path: Path) -> sqlite3.Connection:
        """The connection of a program that has this database open, for looking and for spoiling. KeyError."""
        return self._connections[path]

    def step(self, operation: str, path: Path) -> None:
        """Count an operation; injected faults happen here."""
        self.operations += 1
        if self.before is not None:
            self.before(operation, path)

    def grow(self, count_bytes: int) -> None:
        """Take bytes for a file, or ENOSPC; nothing when not positive."""
        if count_bytes > 0:
            if count_bytes > self.free_bytes(Path()):
                raise OSError(errno.ENOSPC, "No space left on device")
            self._file_bytes += count_bytes

    def shrink(self, count_bytes: int) -> None:
        """Give bytes of a file back; nothing when not positive."""
        self._file_bytes -= max(0, count_bytes)

    # the disk

    def make_directories(self, path: Path) -> None:
        """See Disk; durable at once."""
        for part in (path, *path.parents):
            self._directories.setdefault(part, Directory())

    def create(self, path: Path) -> SimFile:
        """See Disk."""
        self.step("create", path)
        directory = self._directory(path)
        if path.name in directory.names:
            raise FileExistsError(errno.EEXIST, "File exists", str(path))
        inode = Inode()
        directory.change(None, path.name, inode)
        return SimFile(self, path, inode, writable=True)

    def open(self, path: Path, *, writable: bool = False) -> SimFile:
        """See Disk."""
        self.step("open", path)
        return SimFile(self, path, self._inode(path), writable)

    def rename(self, old: Path, new: Path) -> None:
        """See Disk. Within one directory only, which is all the store does."""
        self.step("rename", new)
        if old.parent != new.parent:
            raise OSError(errno.EXDEV, "the simulated disk renames within one directory")
        directory = self._directory(old)
        inode = self._inode(old)
        if new.name in directory.names:
            self.shrink(len(directory.names[new.name].data))
        directory.change(old.name, new.name, inode)

    def fsync_directory(self, path: Path) -> None:
        """See Disk."""
        self.step("fsync_directory", path)
        self._directory(path / "x").fsync()

    def unlink(self, path: Path) -> None:
        """See Disk."""
        self.step("unlink", path)
        inode = self._inode(path)
        self._directory(path).change(path.name, None, inode)
        self.shrink(len(inode.data))

    def list_directory(self, path: Path) -> dict[str, DiskEntryKind]:
        """See Disk."""
        self.step("list", path)
        files = self._directories.get(path, Directory()).names
        children = [child.name for child in self._directories if child.parent == path and child != path]
        return dict.fromkeys(files, DiskEntryKind.FILE) | dict.fromkeys(children, DiskEntryKind.FOLDER)

    def size(self, path: Path) -> int:
        """See Disk."""
        self.step("size", path)
        return len(self._inode(path).data)

    def free_bytes(self, path: Path) -> int:
        """See Disk: one file system for everything."""
        del path
        return max(
            0,
            self.total_bytes - self._file_bytes - sum(self.database_bytes(each) for each in self._connections),
        )

    def database(self, path: Path) -> sqlite3.Connection:
        """See Disk."""
        connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False, factory=SimConnection)
        if path in self._databases:
            connection.deserialize(self._databases[path])
        connection.attach_to(self, path)
        self._connections[path] = connection
        return connection

    def database_bytes(self, path: Path) -> int:
        """See Disk."""
        connection = self._connections.get(path)
        return connection.length() if connection else len(self._databases.get(path, b""))

    def keep(self, path: Path, contents: bytes) -> None:
        """A database was closed in good order."""
        self._databases[path] = contents
        self._connections.pop(path, None)

    # inside

    def _directory(self, path: Path) -> Directory:
        try:
            return self._directories[path.parent]
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, "No such directory", str(path.parent)) from None

    def _inode(self, path: Path) -> Inode:
        try:
            return self._directory(path).names[path.name]
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, "No such file", str(path)) from None


def _files(changes: Sequence[Change]) -> list[Inode]:
    return [inode for _, _, inode in changes]


def _sqlite_error(error: OSError) -> sqlite3.OperationalError:
    """What SQLite makes of a disk's error, in its own words."""
    is_full = error.errno == errno.ENOSPC
    failure = sqlite3.OperationalError("database or disk is full" if is_full else "disk I/O error")
    failure.sqlite_errorcode = sqlite3.SQLITE_FULL if is_full else sqlite3.SQLITE_IOERR
    return failure


class SimConnection(sqlite3.Connection):
    """A database in memory whose commits are steps of the disk."""

    _disk: SimDisk | None = None
    _path = Path()
    _page_bytes = 0
    _length: int | None = None  # as long as nothing is written

    def attach_to(self, disk: SimDisk, path: Path) -> None:
        """Belong to a disk from now on."""
        self._disk, self._path = disk, path
        (self._page_bytes,) = super().execute("PRAGMA page_size").fetchone()

    def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
        """As in sqlite3, but a commit can fail as a disk does."""
        if sql == "COMMIT" and self._disk is not None:
            try:
                self._disk.step("commit", self._path)
            except OSError as error:
                raise _sqlite_error(error) from error
        if not sql.startswith("SELECT"):
            self._length = None
        return super().execute(sql, *values)

    def executemany(self, sql: str, rows: Iterable[Any], /) -> sqlite3.Cursor:
        """As in sqlite3."""
        self._length = None
        return super().executemany(sql, rows)

    def executescript(self, script: str, /) -> sqlite3.Cursor:
        """As in sqlite3."""
        self._length = None
        return super().executescript(script)

    def length(self) -> int:
        """Bytes the database would take on disk."""
        if self._length is None:
            (pages,) = super().execute("PRAGMA page_count").fetchone()
            self._length = int(pages) * self._page_bytes
        return self._length

    def close(self) -> None:
        """Close in good order: an open transaction is rolled back."""
        if self._disk is not None:
            self._disk.keep(self._path, self.power_cut())

    def power_cut(self) -> bytes:
        """What survives; the connection is unusable from now on."""
        self._disk = None
        with suppress(sqlite3.OperationalError):  # no transaction was open
            self.rollback()
        contents = self.serialize()
        super().close()
        return contents
