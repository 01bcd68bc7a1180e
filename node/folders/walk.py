"""Reads a tree on disk: which files, directories and links a folder will have, and which are left out.

The walk goes from directory handle to directory handle. It never follows a symbolic link unless it was told to, so a
tree that changes meanwhile cannot lead it elsewhere. It goes name by name in the order of an index, so the same tree
gives the same folder. Contents are read later; the walk opens each file only to see that it can be read.

Memory, with a million entries: 54 bytes and the name for each that was found (`FoundList`), and of each directory on
the way down the names that are still to come, 41 bytes and the name. So 150 MB with names of 20 bytes. At most 64
directories are open at once.
"""

import errno
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from pathlib import Path

from shoal.node.errors import LocalError, UsageError
from shoal.node.fingerprints import Fingerprint
from shoal.node.folders.entries import BadEntry, EntryKind, check_path, shown
from shoal.node.folders.exclusion import IGNORE_FILE, MAX_PATTERN_FILE_BYTES, Exclusion, given_patterns
from shoal.node.folders.found import FoundList
from shoal.node.folders.index import MAX_ENTRIES, MAX_INDEX_BYTES
from shoal.node.folders.tree import Skipped, Tree
from shoal.node.names import printable
from shoal.values import dataclass

MAX_SKIPPED = 10_000  # left out because they cannot be read; where there are more, something else is wrong
MAX_TOLD = 20  # of them in one message
STEPS = 500  # that `advance` takes by itself: some ms, so that a publish can be stopped in between
ENTRY_BYTES = 60  # of an index for each entry beside path and target: 52 at most, and its part of the page table

_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOCTTY
_HANDLE_FLAGS = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC  # needs no permission to list
_FILE_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY  # a pipe in the place of a file blocks nobody


class Symlinks(StrEnum):
    """What becomes of symbolic links."""

    STORE = "store"  # as links
    SKIP = "skip"  # left out
    FOLLOW = "follow"  # as what they lead to


@dataclass(frozen=True, slots=True)
class WalkChoices:
    """What a publisher chose to have in a folder.

    :ivar exclude: patterns as in a `.gitignore`, about paths in the folder. The last one that matches decides.
    :ivar gitignore: leave out what each `.gitignore` in the tree names, within its directory.
    :ivar one_file_system: do not enter a directory of another file system than that of the path given. It stays empty.
    :ivar skip_unreadable: leave out what cannot be read or published, instead of publishing nothing.
    """

    exclude: tuple[str | bytes, ...] = ()
    gitignore: bool = False
    symlinks: Symlinks = Symlinks.STORE
    one_file_system: bool = False
    skip_unreadable: bool = False

    def fields(self) -> list[str]:
        """The choices as text: another choice is another folder."""
        patterns = [os.fsdecode(pattern) for pattern in self.exclude]
        flags = (self.gitignore, self.one_file_system, self.skip_unreadable)
        return [str(self.symlinks), *(str(int(flag)) for flag in flags), *patterns]


@dataclass(slots=True)
class _Level:
    """A directory on the way down.

    :ivar number: of its entry: what is in it has this for its parent.
    :ivar status: what was told of it; None above a path that was given, which is not part of the tree.
    :ivar device: of the path that was given; None where that is still to be looked at.
    :ivar names: what is still to be looked at, the next one last.
    """

    descriptor: int
    path: bytes
    root: bytes
    number: int
    status: os.stat_result | None
    device: int | None
    exclusion: Exclusion
    names: list[bytes]

    def path_of(self, name: bytes) -> bytes:
        """The path in the folder of what has this name here."""
        return self.path + b"/" + name if self.path else name


@dataclass(frozen=True, slots=True)
class _Start:
    """A path that was given: the directory on disk that it is in, and its name. None: that directory is the folder."""

    root: bytes
    name: bytes | None


class TreeWalk:
    """A walk in steps: `advance` until it gives True, then take the `tree`. Close it in any case."""

    def __init__(self, paths: Sequence[str | Path], choices: WalkChoices) -> None:
        """Look at the paths themselves. A single directory is the folder; anything else is in a folder of its own.

        Raises UsageError for paths that cannot be in one folder and for patterns that mean nothing, and LocalError for
        a path that is not there.
        """
        self._choices = choices
        self._exclusion = given_patterns(choices.exclude)
        self._name, self._starts = _starts(paths)
        self._identity = [*sorted(os.path.abspath(path) for path in paths), "", *choices.fields()]
        self._found = FoundList()
        self._listed = 0  # what was found or skipped, and names that are still to be looked at
        self._index_bytes = 0
        self._skipped: list[Skipped] = []
        self._levels: list[_Level] = []
        self._steps = self._walk()

    @property
    def entries(self) -> int:
        """How many were found so far."""
        return len(self._found)

    def advance(self, steps: int = STEPS) -> bool:
        """Look at so many more names. Gives True when all were looked at.

        Raises LocalError when the tree is too large or has patterns that cannot be read; and at the end, when something
        cannot be read or published, and is not to be left out.
        """
        for _ in range(steps):
            if next(self._steps, None) is None:
                self._require_all()
                return True
        return False

    @property
    def tree(self) -> Tree:
        """What was found."""
        return Tree(self._found, self._identity, self._name, tuple(self._skipped))

    def close(self) -> None:
        """Close the directories that are open."""
        while self._levels:
            os.close(self._levels.pop().descriptor)

    def _walk(self) -> Iterator[bool]:
        """One step for each name, in the order of an index."""
        for start in self._starts:
            self._begin(start)
            while self._levels:
                level = self._levels[-1]
                if not level.names:
                    os.close(self._levels.pop().descriptor)
                    continue
                self._visit(level, level.names.pop())
                yield True

    def _begin(self, start: _Start) -> None:
        """Begin with a path that was given. It may be a symbolic link: what it leads to is meant."""
        number = self._found.add_root(start.root)
        try:
            flags = _FOLDER_FLAGS if start.name is None else _HANDLE_FLAGS
            descriptor = os.open(start.root, flags)
        except OSError as error:
            raise LocalError(f"Cannot read {shown(start.root)}: {error.strerror}.") from error
        level = _Level(descriptor, b"", start.root, number, None, None, self._exclusion, [])
        self._levels.append(level)
        if start.name is not None:
            self._choose(level, [(start.name, os.path.isdir(os.path.join(start.root, start.name)))])
            return
        level.status = os.fstat(descriptor)
        level.device = level.status.st_dev
        self._list(level)

    def _list(self, level: _Level) -> None:
        """Take down the names in a directory, but for those that are left out."""
        if self._choices.gitignore:
            text = self._ignore_file(level)
            level.exclusion = level.exclusion.with_ignore_file(level.path, text) if text else level.exclusion
        with os.scandir(level.descriptor) as listing:
            self._choose(level, ((os.fsencode(each.name), self._is_directory(each)) for each in listing))
        level.names.sort(reverse=True)

    def _is_directory(self, listed: "os.DirEntry[str]") -> bool:
        try:
            return listed.is_dir(follow_symlinks=self._choices.symlinks is Symlinks.FOLLOW)
        except OSError:
            return False

    def _choose(self, level: _Level, names: Iterable[tuple[bytes, bool]]) -> None:
        """Take down those names that no pattern leaves out. Each comes with whether it is of a directory."""
        for name, is_directory in names:
            if level.exclusion.covers(level.path_of(name), is_directory=is_directory):
                continue
            level.names.append(name)
            self._listed += 1
            if self._listed > MAX_ENTRIES:
                raise LocalError(f"A folder has at most {MAX_ENTRIES:,} entries, and {shown(level.root)} has more.")

    def _ignore_file(self, level: _Level) -> bytes:
        """The text of the `.gitignore` of a directory; nothing where there is none.

        Raises LocalError where it cannot be read: then nobody knows what is to be left out.
        """
        where = shown(os.path.join(level.root, level.path_of(IGNORE_FILE)))
        try:
            descriptor = self._open(level, IGNORE_FILE, _FILE_FLAGS)
        except FileNotFoundError:
            return b""
        except OSError as error:
            reason = "it is a symbolic link" if error.errno == errno.ELOOP else error.strerror
            raise LocalError(f"Cannot read {where}: {reason}. So nobody knows what it leaves out.") from error
        try:
            is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
            return os.read(descriptor, MAX_PATTERN_FILE_BYTES + 1) if is_file else b""
        except OSError as error:
            raise LocalError(f"Cannot read {where}: {error.strerror}. So nobody knows what it leaves out.") from error
        finally:
            os.close(descriptor)

    def _open(self, level: _Level, name: bytes, flags: int) -> int:
        """A descriptor of what has this name. A symbolic link is followed only where links are."""
        return os.open(name, flags if self._follows(level) else flags | os.O_NOFOLLOW, dir_fd=level.descriptor)

    def _follows(self, level: _Level) -> bool:
        return level.status is None or self._choices.symlinks is Symlinks.FOLLOW

    def _visit(self, level: _Level, name: bytes) -> None:
        """Look at one name, and add what it is."""
        try:
            check_path(level.path_of(name))
            status = os.stat(name, dir_fd=level.descriptor, follow_symlinks=self._follows(level))
            self._add(level, name, status)
        except BadEntry as error:
            self._skip(level, name, str(error).partition(":")[0].capitalize())
        except OverflowError:
            self._skip(level, name, "Its time of modification is out of range")
        except OSError as error:
            is_broken = error.errno in (errno.ENOENT, errno.ELOOP) and _is_link(level, name)
            self._skip(level, name, "A link that leads nowhere" if is_broken else _reason(error))

    def _add(self, level: _Level, name: bytes, status: os.stat_result) -> None:
        if level.device is None:
            level.device = status.st_dev
        stays = not self._choices.one_file_system or status.st_dev == level.device
        if stat.S_ISLNK(status.st_mode):
            self._add_link(level, name, status)
        elif stat.S_ISDIR(status.st_mode) and stays:
            self._enter(level, name)
        elif stat.S_ISDIR(status.st_mode):
            self._record(level, name, EntryKind.DIRECTORY, status)
        elif not stays:
            self._listed -= 1
        elif stat.S_ISREG(status.st_mode):
            self._add_file(level, name)
        else:
            self._skip(level, name, _special(status.st_mode))

    def _add_link(self, level: _Level, name: bytes, status: os.stat_result) -> None:
        if self._choices.symlinks is Symlinks.SKIP:
            self._listed -= 1
            return
        target = os.readlink(name, dir_fd=level.descriptor)
        self._record(level, name, EntryKind.SYMLINK, status, target=target)

    def _add_file(self, level: _Level, name: bytes) -> None:
        """Add a file that can be opened."""
        descriptor = self._open(level, name, _FILE_FLAGS)
        try:
            status = os.fstat(descriptor)
        finally:
            os.close(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "Changed while it was looked at")
        self._record(level, name, EntryKind.FILE, status, executable=bool(status.st_mode & stat.S_IXUSR))

    def _enter(self, level: _Level, name: bytes) -> None:
        """Add a directory that can be listed. The walk goes on within it."""
        descriptor = self._open(level, name, _FOLDER_FLAGS)
        below = _Level(descriptor, level.path_of(name), level.root, 0, None, level.device, level.exclusion, [])
        self._levels.append(below)
        try:
            below.status = os.fstat(descriptor)
            if any(above.status and os.path.samestat(below.status, above.status) for above in self._levels[:-1]):
                raise OSError(errno.EINVAL, "A folder that lies within itself")
            self._list(below)
            below.number = self._record(level, name, EntryKind.DIRECTORY, below.status)
        except (OSError, OverflowError):
            os.close(self._levels.pop().descriptor)
            self._listed -= len(below.names)
            raise

    def _record(
        self,
        level: _Level,
        name: bytes,
        kind: EntryKind,
        status: os.stat_result,
        *,
        executable: bool = False,
        target: bytes = b"",
    ) -> int:
        self._index_bytes += ENTRY_BYTES + len(level.path_of(name)) + len(target)
        if self._index_bytes > MAX_INDEX_BYTES:
            raise LocalError(
                f"The names in {shown(level.root)} take more room than the {MAX_INDEX_BYTES} bytes of an index."
            )
        fingerprint = Fingerprint.of(status)
        return self._found.add(level.number, name, kind, fingerprint, executable=executable, target=target)

    def _skip(self, level: _Level, name: bytes, reason: str) -> None:
        """Note what cannot be read or published."""
        if len(self._skipped) == MAX_SKIPPED:
            raise LocalError(f"In {shown(level.root)} more than {MAX_SKIPPED:,} things cannot be read.")
        self._skipped.append(Skipped(os.path.join(level.root, level.path_of(name)), reason))

    def _require_all(self) -> None:
        """Raises LocalError where something was skipped against the publisher's wish."""
        if not self._skipped or self._choices.skip_unreadable:
            return
        lines = [str(skipped) for skipped in self._skipped[:MAX_TOLD]]
        if len(self._skipped) > MAX_TOLD:
            lines.append(f"and {len(self._skipped) - MAX_TOLD:,} more")
        raise LocalError(
            "Nothing was published, because this cannot be read or published:\n"
            + "".join(f"  {line}\n" for line in lines)
            + "Leave it out with --exclude, or with --skip-unreadable."
        )


def walk_tree(paths: Sequence[str | Path], choices: WalkChoices | None = None) -> Tree:
    """Walk to the end at once. Raises what `TreeWalk` raises."""
    walk = TreeWalk(paths, choices or WalkChoices())
    try:
        while not walk.advance():
            pass
        return walk.tree
    finally:
        walk.close()


def _starts(paths: Sequence[str | Path]) -> tuple[str | None, list[_Start]]:
    """The name of the folder, if it has one, and where to begin, in the order of an index.

    Several paths are in a folder that has the name of the directory that all of them are in.
    """
    if len(paths) == 1 and _is_directory(paths[0]):
        start = _start(paths[0])
        name = None if start.name is None else os.fsdecode(start.name)
        return name, [_Start(os.fsencode(os.path.abspath(paths[0])), None)]
    starts: dict[bytes, _Start] = {}
    for path in paths:
        _is_directory(path)
        start = _start(path)
        if start.name is None:
            raise UsageError(f"{printable(path)} has no name that it could have in a folder.")
        if start.name in starts:
            raise UsageError(f"Two of the paths would be {shown(start.name)!r} in the folder. Name one of them alone.")
        starts[start.name] = start
    homes = {start.root for start in starts.values()}
    shared = os.path.basename(homes.pop()) if len(homes) == 1 else b""
    return os.fsdecode(shared) or None, [starts[name] for name in sorted(starts)]


def _is_directory(path: str | Path) -> bool:
    """Whether a path that was given is a directory. Raises LocalError where nothing is there."""
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a possible file name"
        raise LocalError(f"Cannot read {printable(path)}: {reason}.") from error


def _start(path: str | Path) -> _Start:
    """In which directory a path is, and under which name. `.` and `..` have the name of what they are."""
    absolute = os.path.join(os.getcwdb(), os.fsencode(path)).rstrip(b"/") or b"/"
    if os.path.basename(absolute) in (b"", b".", b".."):
        absolute = os.path.realpath(absolute)
    root, name = os.path.split(absolute)
    return _Start(root, name or None)


def _is_link(level: _Level, name: bytes) -> bool:
    try:
        return stat.S_ISLNK(os.stat(name, dir_fd=level.descriptor, follow_symlinks=False).st_mode)
    except OSError:
        return False


def _special(mode: int) -> str:
    """What a file is that has no contents of its own."""
    if stat.S_ISFIFO(mode):
        return "A named pipe"
    return "A socket" if stat.S_ISSOCK(mode) else "A device"


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__
