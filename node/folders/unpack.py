"""Writing a tree to disk, by directory handles and never by joined paths. Blocking.

Each name is opened in the handle of its directory and no symbolic link is followed, so nothing is written outside the
root. What is new is made with O_EXCL. Two passes over the entries, both in the order of the index:

* `TreeWriter` makes directories, 0700, and files. It looks at what an earlier run has left: a file counts as there when
  its contents have the digest, and one that was cut short goes on where it ends.
* `TreeFinisher` makes symbolic links, and gives directories their modes and times, each when it is left for good.

Only the executable bit of a mode comes from the publisher. There are no devices, no pipes, no setuid and no owners.
"""

import errno
import os
import stat
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import field

from blake3 import blake3

from shoal.node.durable import sync_open_folder
from shoal.node.errors import MAKE_ROOM, LocalError, local_errors
from shoal.node.folders.entries import BadEntry, Entry, EntryKind, check_path, shown
from shoal.node.folders.part_folder import FOLDER_FLAGS, PRIVATE_MODE
from shoal.values import dataclass

CHECK_EVERY_BYTES = 64 * 2**20  # written, then the free space is looked at again
READ_BYTES = 2**20  # of a file on disk at a time, while it is being verified
MOST_EXAMPLES = 20  # of links that were left out, remembered by name
NOT_KEPT = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS})  # said by file systems without such a thing
LEAST_BLOCK_BYTES = 512  # what a file system says of its blocks is not believed below that

_NEW_FILE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OLD_FILE = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a pipe in its place must not make us wait


def stays_inside(entry: Entry) -> bool:
    """Whether a symbolic link leads nowhere but into the tree, whatever other links of that kind are in it.

    Its target is relative, and goes up only at its beginning, to a directory of the tree at most. Behind a name no `..`
    may stand: the name may be a link, and what is above that is somewhere else.
    """
    if entry.target.startswith(b"/"):
        return False
    names = [name for name in entry.target.split(b"/") if name not in (b"", b".")]
    ups = next((at for at, name in enumerate(names) if name != b".."), len(names))
    return ups <= entry.path.count(b"/") and b".." not in names[ups:]


@contextmanager
def _writing(path: bytes) -> Iterator[None]:
    with local_errors(f"Cannot write {shown(path) or 'the folder'}"):
        yield


@contextmanager
def _if_kept() -> Iterator[None]:
    """Set a mode or a time. Not every file system keeps these: the contents are good without."""
    try:
        yield
    except OSError as error:
        if error.errno not in NOT_KEPT:
            raise


class Handles:
    """Open handles of a directory and of those it is in, up to the root: one for each level of depth."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._names: list[bytes] = []
        self._open: list[int] = []

    def folder(self, path: bytes) -> int:
        """A handle of the directory at `path`, good until the next call. OSError where a name on the way is none."""
        names = path.split(b"/") if path else []
        pairs = enumerate(zip(self._names, names, strict=False))
        common = next((at for at, (old, new) in pairs if old != new), min(len(self._names), len(names)))
        self._close(common)
        for name in names[common:]:
            self._open.append(os.open(name, FOLDER_FLAGS, dir_fd=self._open[-1] if self._open else self._root))
            self._names.append(name)
        return self._open[-1] if self._open else self._root

    def close(self) -> None:
        """Close all but the root."""
        self._close(0)

    def _close(self, depth: int) -> None:
        while len(self._open) > depth:
            os.close(self._open.pop())
            self._names.pop()


class Room:
    """The free space of a file system, and how much of it the rest of a tree will take, in whole blocks.

    Declared sizes are not believed, nor that the space is ours alone: `check` is called again and again.
    """

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self._block = max(LEAST_BLOCK_BYTES, os.fstatvfs(handle).f_frsize)
        self.bytes = 0
        self.names = 0

    def whole(self, entry: Entry) -> int:
        """The bytes that an entry takes on disk. A directory and a link take a block."""
        size = entry.size if entry.kind is EntryKind.FILE else 1
        return -(-size // self._block) * self._block

    def add(self, entry: Entry) -> None:
        """This entry will be written."""
        self.bytes += self.whole(entry)
        self.names += 1

    def take(self, entry: Entry) -> None:
        """It is there."""
        self.bytes -= self.whole(entry)
        self.names -= 1

    def check(self) -> None:
        """LocalError unless there is room for all that is to be written."""
        status = os.fstatvfs(self._handle)
        free = status.f_bavail * status.f_frsize
        if self.bytes > free:
            raise LocalError(f"The folder needs {self.bytes} more bytes, and only {free} are free. {MAKE_ROOM}")
        if status.f_files and self.names > status.f_favail:  # no such number: names need no room of their own
            few = f"and the file system takes only {status.f_favail}"
            raise LocalError(f"The folder needs {self.names} more names, {few}. {MAKE_ROOM}")


@dataclass(slots=True)
class Missing:
    """A file whose contents are wanted.

    :ivar is_there: a file of this name is on disk.
    :ivar have: bytes that are in it, and need not be fetched.
    :ivar kept: so many of them an earlier run has written.
    :ivar hasher: has taken in what is there.
    """

    entry: Entry
    is_there: bool = False
    have: int = 0
    kept: int = 0
    hasher: blake3 = field(default_factory=blake3)

    @property
    def start(self) -> int:
        """Where what is wanted begins in the plaintext."""
        return self.entry.offset + self.have

    @property
    def end(self) -> int:
        """Where it ends."""
        return self.entry.offset + self.entry.size


class TreeWriter:
    """Makes the directories and files of a tree: `examine` entries, `begin` with what is missing, `write` plaintext.

    :ivar files_done: files that are whole.
    :ivar present_bytes: contents that an earlier run had written.
    :ivar written_bytes: contents that this one has.
    """

    def __init__(self, root: int, room: Room, *, was_there: bool) -> None:
        self.files_done = 0
        self.present_bytes = 0
        self.written_bytes = 0
        self._room = room
        self._was_there = was_there
        self._handles = Handles(root)
        self._found: list[Missing] = []
        self._wanted: deque[Missing] = deque()
        self._descriptor: int | None = None  # of the first file wanted, once its contents come
        self._unchecked = 0

    def close(self) -> None:
        """Close what is open. What was written stays."""
        self._handles.close()
        self._close_file()

    # --- what is there

    def examine(self, entries: Sequence[Entry]) -> Iterator[int]:
        """Make the directories and the empty files among the next entries, and look which files are whole already.

        It yields the bytes that it has read from disk, each time after `READ_BYTES` at most. Then `found` gives what
        is missing. Raises LocalError when the file system does not take a name, or has something else there.
        """
        for entry in entries:
            check_path(entry.path)  # as every reader of an index does; here a bad one could do harm
            with _writing(entry.path):
                if entry.kind is EntryKind.DIRECTORY:
                    self._make_directory(entry)
                    self._room.take(entry)
                elif entry.kind is EntryKind.FILE:
                    yield from self._examine_file(entry)

    def found(self) -> list[Missing]:
        """The files that were seen to be missing since the last call: among the entries examined, and those of which
        an earlier run had left wrong bytes, which shows at their end."""
        found, self._found = self._found, []
        return found

    def _make_directory(self, entry: Entry) -> None:
        folder = self._handles.folder(entry.parent)
        try:
            os.mkdir(entry.name, PRIVATE_MODE, dir_fd=folder)
        except FileExistsError:
            if not self._was_there:
                raise  # the file system takes two names of the folder for one
        self._handles.folder(entry.path)  # OSError unless it is a directory

    def _examine_file(self, entry: Entry) -> Iterator[int]:
        missing = Missing(entry)
        if self._was_there:
            yield from self._read_old(missing)
        missing.kept = missing.have
        self.present_bytes += missing.kept
        if missing.have < entry.size:
            self._room.bytes -= missing.kept
            self._found.append(missing)
        else:
            self._complete(missing, self._open(missing))

    def _read_old(self, missing: Missing) -> Iterator[int]:
        """Hash what an earlier run left of a file; what is seen to be wrong is thrown away."""
        entry = missing.entry
        try:
            descriptor = os.open(entry.name, _OLD_FILE, dir_fd=self._handles.folder(entry.parent))
        except FileNotFoundError:
            return
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
                raise LocalError(f"Something else is in the place of {shown(entry.path)}. Remove the .part folder.")
            missing.is_there = True
            if status.st_size <= entry.size:
                while piece := os.pread(descriptor, READ_BYTES, missing.have):
                    missing.hasher.update(piece)
                    missing.have += len(piece)
                    yield len(piece)
            if missing.have >= entry.size and missing.hasher.digest() != entry.digest:
                missing.have, missing.hasher = 0, blake3()
        finally:
            os.close(descriptor)

    def _create(self, entry: Entry) -> int:
        mode = 0o777 if entry.executable else 0o666  # less the user's mask
        return os.open(entry.name, _NEW_FILE, mode, dir_fd=self._handles.folder(entry.parent))

    # --- what comes

    def begin(self, wanted: Sequence[Missing]) -> None:
        """Write these files next. LocalError when there is no room for all that is still to come."""
        self._room.check()
        self._wanted.extend(wanted)

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Take plaintext from `offset` on. What comes before the next wanted byte is passed over.

        Raises BadEntry when a file's contents do not have its digest: then its publisher made it so.
        """
        view = memoryview(data)
        while view and self._wanted:
            first = self._wanted[0]
            passed = min(len(view), max(0, first.start - offset))
            offset, view = offset + passed, view[passed:]
            piece = view[: first.end - offset]
            if piece:
                with _writing(first.entry.path):
                    self._write_piece(first, piece)
                offset, view = offset + len(piece), view[len(piece) :]

    def _write_piece(self, first: Missing, piece: memoryview) -> None:
        if self._descriptor is None:
            self._descriptor = self._open(first)
        first.hasher.update(piece)
        self.written_bytes += len(piece)
        self._room.bytes -= len(piece)
        self._unchecked += len(piece)
        while piece:
            written = os.pwrite(self._descriptor, piece, first.have)
            first.have, piece = first.have + written, piece[written:]
        if self._unchecked >= CHECK_EVERY_BYTES:
            self._unchecked = 0
            self._room.check()
        if first.have == first.entry.size:
            descriptor, self._descriptor = self._descriptor, None
            self._wanted.popleft()
            self._room.bytes += first.entry.size  # what `take` takes off at once
            self._complete(first, descriptor)

    def _open(self, first: Missing) -> int:
        if not first.is_there:
            return self._create(first.entry)
        descriptor = os.open(first.entry.name, _OLD_FILE, dir_fd=self._handles.folder(first.entry.parent))
        os.ftruncate(descriptor, first.have)
        return descriptor

    def _complete(self, missing: Missing, descriptor: int) -> None:
        """Check the digest of a file of which all bytes are there, and give it its time. Closes the descriptor."""
        entry = missing.entry
        try:
            if missing.hasher.digest() == entry.digest:
                with _if_kept():
                    os.utime(descriptor, ns=(entry.mtime_ns, entry.mtime_ns))
                self._room.take(entry)
                self.files_done += 1
                return
        finally:
            os.close(descriptor)
        if not missing.kept:
            raise BadEntry(f"other contents than its digest says: {shown(entry.path)}")
        self.present_bytes -= missing.kept
        self._found.append(Missing(entry, is_there=True))  # what an earlier run left was wrong: all of it again

    def _close_file(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


@dataclass(slots=True)
class _Level:
    """A directory whose entries are being finished."""

    path: bytes
    handle: int
    mtime_ns: int | None
    names: int = 0  # that belong in it


class TreeFinisher:
    """Takes all entries of a tree that is written, in their order: makes its links, sets modes and times, syncs it.

    Call `sync_file_system` before, and the syncs of single files have little left to do.

    :ivar left_out: how many symbolic links were not made, because they lead out of the tree.
    :ivar examples: the first of them.
    """

    def __init__(self, root: int, folder_mode: int, root_mtime_ns: int | None = None) -> None:
        self.left_out = 0
        self.examples: list[bytes] = []
        self._mode = folder_mode
        self._levels = [_Level(b"", root, root_mtime_ns)]

    def close(self) -> None:
        """Close all handles but the root's."""
        while len(self._levels) > 1:
            os.close(self._levels.pop().handle)

    def take(self, entries: Sequence[Entry]) -> None:
        """Finish the next entries. A directory is finished when an entry comes that is not in it.

        Raises LocalError when the tree on disk is not what was written.
        """
        for entry in entries:
            with _writing(entry.path):
                check_path(entry.path)
                self._leave(entry.parent)
                self._take(entry, self._levels[-1])

    def _take(self, entry: Entry, folder: _Level) -> None:
        if folder.path != entry.parent:
            raise BadEntry(f"not in a directory that has an entry: {shown(entry.path)}")
        if entry.kind is EntryKind.SYMLINK and not stays_inside(entry):
            self.left_out += 1
            if len(self.examples) < MOST_EXAMPLES:
                self.examples.append(entry.path)
            return
        folder.names += 1
        if entry.kind is EntryKind.SYMLINK:
            _make_link(entry, folder.handle)
        elif entry.kind is EntryKind.DIRECTORY:
            handle = os.open(entry.name, FOLDER_FLAGS, dir_fd=folder.handle)
            self._levels.append(_Level(entry.path, handle, entry.mtime_ns))
        else:
            _sync_file(entry, folder.handle)

    def finish(self) -> None:
        """Finish the directories that are open, the root too."""
        with _writing(b""):
            self._leave(b"")
            self._finish_level(self._levels[0])

    def _leave(self, parent: bytes) -> None:
        """Finish directories until the one at `parent` is the innermost."""
        while len(self._levels) > 1 and self._levels[-1].path != parent:
            self._finish_level(self._levels[-1])
            os.close(self._levels.pop().handle)

    def _finish_level(self, level: _Level) -> None:
        with os.scandir(level.handle) as names:
            if sum(1 for _ in names) != level.names:
                where = shown(level.path) or "the folder"
                raise LocalError(f"There is something else in {where} than was published. Remove the .part folder.")
        with _if_kept():
            os.chmod(level.handle, self._mode)
        if level.mtime_ns is not None:
            with _if_kept():
                os.utime(level.handle, ns=(level.mtime_ns, level.mtime_ns))
        sync_open_folder(level.handle)


def _make_link(entry: Entry, folder: int) -> None:
    try:
        os.symlink(entry.target, entry.name, dir_fd=folder)
    except FileExistsError:  # an earlier run was stopped behind it
        if not _leads_to(entry, folder):
            raise
    except OSError as error:
        if error.errno not in NOT_KEPT:
            raise
        what = f"{shown(entry.path)} is a symbolic link, and this file system takes none."
        raise LocalError(f"{what} Fetch to another place with -o, or an archive with --tar.") from error
    with _if_kept():
        os.utime(entry.name, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=folder, follow_symlinks=False)


def _leads_to(entry: Entry, folder: int) -> bool:
    try:
        return os.readlink(entry.name, dir_fd=folder) == entry.target
    except OSError:
        return False  # no link


def _sync_file(entry: Entry, folder: int) -> None:
    """Have a file on disk, for certain."""
    descriptor = os.open(entry.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size != entry.size:
            raise LocalError(f"{shown(entry.path)} was changed while the folder was being fetched.")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
