"""What is in a folder: entries, their order, and the rules of names and paths that every index keeps.

A path is bytes as the publisher's system had them, relative, with "/" between names. It is refused and never repaired:
what a reader would have to repair, an enemy has written.
"""

import os
from collections.abc import Iterator
from enum import IntEnum

from shoal.node.names import MAX_NAME_BYTES, printable
from shoal.values import dataclass

MAX_PATH_BYTES = 4_096  # what Linux takes, less nothing: a path is walked name by name, never given to the system whole
MAX_DEPTH = 64  # names in a path: so many directory handles are open at most
MAX_TARGET_BYTES = 4_095  # of a symbolic link, what Linux takes
DIGEST_BYTES = 32  # BLAKE3
SHOWN_BYTES = 120  # of a path in a message

_TIMES = range(-(2**63), 2**63)
_SIZES = range(2**63)


class BadEntry(ValueError):
    """An entry or an index that no honest publisher writes. The text says which rule it breaks, and where."""


class EntryKind(IntEnum):
    """What an entry is. Numbers are never reused."""

    FILE = 0
    DIRECTORY = 1
    SYMLINK = 2


@dataclass(frozen=True, slots=True)
class Entry:
    """One file, directory or symbolic link of a folder. Fields that a kind does not have keep their default.

    :ivar path: relative, "/" between names, without a slash at either end.
    :ivar size: bytes of a file's contents.
    :ivar offset: where a file's contents begin in the plaintext.
    :ivar mtime_ns: the time of modification, nanoseconds since the Unix epoch.
    :ivar executable: whether its owner may run a file.
    :ivar digest: BLAKE3 of a file's contents.
    :ivar target: what a symbolic link points to, as it was.
    """

    path: bytes
    kind: EntryKind
    size: int = 0
    offset: int = 0
    mtime_ns: int = 0
    executable: bool = False
    digest: bytes = b""
    target: bytes = b""

    @property
    def name(self) -> bytes:
        """The last name of the path."""
        return self.path.rpartition(b"/")[2]

    @property
    def parent(self) -> bytes:
        """The path of the directory that it is in; empty at the top."""
        return self.path.rpartition(b"/")[0]


def shown(path: bytes) -> str:
    """A path for a message: escaped, and cut where it is long."""
    text = printable(os.fsdecode(path[:SHOWN_BYTES]))
    return f"{text}…" if len(path) > SHOWN_BYTES else text


def order_key(path: bytes) -> bytes:
    """Paths are ordered by this, which is by their names one after another: a directory comes right before what is in
    it. No name has a zero byte, so it sorts before all that a name can go on with."""
    return path.replace(b"/", b"\0")


def ancestors(path: bytes) -> Iterator[bytes]:
    """The directories that a path is in, the outermost first."""
    at = path.find(b"/")
    while at >= 0:
        yield path[:at]
        at = path.find(b"/", at + 1)


def check_path(path: bytes) -> None:
    """Raises `BadEntry` unless this is a path that an entry may have."""
    if len(path) > MAX_PATH_BYTES:
        raise BadEntry(f"a path of {len(path)} bytes, more than {MAX_PATH_BYTES}: {shown(path)}")
    if b"\0" in path:
        raise BadEntry(f"a zero byte in the path {shown(path)}")
    names = path.split(b"/")
    if len(names) > MAX_DEPTH:
        raise BadEntry(f"a path of {len(names)} names, more than {MAX_DEPTH}: {shown(path)}")
    for name in names:
        if name in (b"", b".", b".."):
            which = f"the name {name.decode()}" if name else "an empty name"
            raise BadEntry(f"{which} in the path {shown(path)!r}")
        if len(name) > MAX_NAME_BYTES:
            raise BadEntry(f"a name of {len(name)} bytes, more than {MAX_NAME_BYTES}: {shown(path)}")


def check_entry(entry: Entry) -> None:
    """Raises `BadEntry` unless each field has a value that an entry of this kind may have."""
    check_path(entry.path)
    where = shown(entry.path)
    if entry.mtime_ns not in _TIMES:
        raise BadEntry(f"a time out of range: {where}")
    is_file, is_link = entry.kind is EntryKind.FILE, entry.kind is EntryKind.SYMLINK
    if is_file and (entry.size not in _SIZES or entry.offset not in _SIZES):
        raise BadEntry(f"a size out of range: {where}")
    if len(entry.digest) != (DIGEST_BYTES if is_file else 0):
        raise BadEntry(f"a digest of {len(entry.digest)} bytes: {where}")
    if not is_file and (entry.size or entry.offset or entry.executable):
        raise BadEntry(f"no file, and contents: {where}")
    if is_link != (0 < len(entry.target) <= MAX_TARGET_BYTES) or (entry.target and not is_link):
        raise BadEntry(f"a target of {len(entry.target)} bytes: {where}")
    if b"\0" in entry.target:
        raise BadEntry(f"a zero byte in the target of {where}")


class EntryOrder:
    """Checks that entries come in order, each within a directory that came before. It remembers at most one path for
    each level of depth."""

    def __init__(self) -> None:
        self._last: bytes | None = None
        self._open: list[bytes] = []

    @classmethod
    def beginning_at(cls, path: bytes) -> "EntryOrder":
        """The check of entries from this one on. That it lies within directories is taken for granted."""
        order = cls()
        order._open = list(ancestors(path))
        return order

    def check(self, entry: Entry) -> None:
        """Raises `BadEntry` when this entry may not follow those before."""
        path, parent = entry.path, entry.parent
        key = order_key(path)
        if self._last is not None and key <= self._last:
            words = "twice the path" if key == self._last else "not in order:"
            raise BadEntry(f"{words} {shown(path)}")
        while self._open and self._open[-1] != parent and not parent.startswith(self._open[-1] + b"/"):
            self._open.pop()
        if parent and (not self._open or self._open[-1] != parent):
            raise BadEntry(f"not in a directory that has an entry: {shown(path)}")
        if entry.kind is EntryKind.DIRECTORY:
            self._open.append(path)
        self._last = key
