"""A tree as a walk found it: what a publish of a folder reads. `walk_tree` makes one.

A tree names everything that will be in the folder, with what the file system told of each file then. Contents are read
later, and a file that is no longer what the walk found is refused.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import field

from shoal.node.fingerprints import Fingerprint
from shoal.node.folders.entries import Entry, EntryKind, order_key
from shoal.node.names import printable
from shoal.values import dataclass

PATH_AT_ONCE_BYTES = 2_048  # of a path given to the system in one call: it takes less than 4,096


@dataclass(frozen=True, slots=True)
class Walked:
    """One file, directory or symbolic link that a walk found.

    :ivar path: in the folder that is published, as in `Entry`.
    :ivar root: the directory on disk that `path` is relative to; empty for the current one.
    :ivar fingerprint: what the system told of it. The size and the time of modification come from here.
    """

    path: bytes
    kind: EntryKind
    root: bytes
    fingerprint: Fingerprint
    executable: bool = False
    target: bytes = b""

    @property
    def size(self) -> int:
        """Bytes of a file's contents."""
        return self.fingerprint.size if self.kind is EntryKind.FILE else 0

    @property
    def where(self) -> bytes:
        """Its path on disk, for messages. It may be longer than what the system takes: see `open_walked`."""
        return os.path.join(self.root, self.path)

    def entry(self, offset: int, digest: bytes) -> Entry:
        """The entry of it, with where its contents begin and what they hash to."""
        mtime_ns = self.fingerprint.mtime_ns
        if self.kind is EntryKind.FILE:
            return Entry(self.path, self.kind, self.size, offset, mtime_ns, self.executable, digest)
        return Entry(self.path, self.kind, mtime_ns=mtime_ns, target=self.target)


@dataclass(frozen=True, slots=True)
class Skipped:
    """Something that is not in the folder, because it cannot be read or published.

    :ivar path: on disk.
    """

    path: bytes
    reason: str

    def __str__(self) -> str:
        return f"{printable(os.fsdecode(self.path))}: {self.reason}"


@dataclass(frozen=True)
class Tree:
    """Everything that one publish of a folder will have in it.

    :ivar found: in the order of an index: a directory right before what is in it, and every directory is there.
    :ivar identity: what names the command that the tree is walked for: absolute paths, and all choices that say what is
        in it. The same identity takes an interrupted publish up again.
    :ivar name: the name of the folder; None where it has none, as of paths in several directories.
    :ivar skipped: what was left out because it cannot be read or published. Nothing, unless the publisher allowed it.
    """

    found: Sequence[Walked]
    identity: Sequence[str]
    name: str | None = None
    skipped: Sequence[Skipped] = field(default=())

    @property
    def files(self) -> int:
        """How many of `found` are files."""
        return sum(found.kind is EntryKind.FILE for found in self.found)


def sort_walked(walked: list[Walked]) -> None:
    """Bring them into the order of an index."""
    walked.sort(key=lambda each: order_key(each.path))


def open_walked(walked: Walked) -> int:
    """A descriptor of a file that a walk found, for reading. It never blocks on a pipe. Raises OSError.

    Symbolic links on the way are followed, as the walk did where it was told to. The caller compares the fingerprint.
    """
    with _at_hand(walked) as (folder, path):
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY, dir_fd=folder)


def stat_walked(walked: Walked) -> Fingerprint:
    """What the system tells now of a file that a walk found. Raises OSError."""
    with _at_hand(walked) as (folder, path):
        return Fingerprint.of(os.stat(path, dir_fd=folder))


@contextmanager
def _at_hand(walked: Walked) -> Iterator[tuple[int | None, bytes]]:
    """A path that the system takes, and the directory that it is relative to. A longer one is opened in steps."""
    if len(walked.where) < PATH_AT_ONCE_BYTES:
        yield None, walked.where
        return
    *parts, last = _steps(walked.path)
    folder = os.open(walked.root or b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts:
            inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
            os.close(folder)
            folder = inner
        yield folder, last
    finally:
        os.close(folder)


def _steps(path: bytes) -> list[bytes]:
    """The path in pieces that the system takes."""
    steps: list[bytes] = []
    for name in path.split(b"/"):
        if steps and len(steps[-1]) + len(name) < PATH_AT_ONCE_BYTES:
            steps[-1] += b"/" + name
        else:
            steps.append(name)
    return steps
