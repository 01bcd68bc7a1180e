"""A folder as a source: the contents of all files of a tree end to end, and behind them the index.

The size is known before anything is read, because the index is as long for one digest as for another. Contents are
read front to back, as the digests need it. A file that is not what the walk found is refused by its name.
"""

import errno
import os
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate, repeat

from blake3 import blake3

from shoal.node.environment import Environment
from shoal.node.errors import LocalError, UsageError
from shoal.node.fingerprints import Fingerprint
from shoal.node.folders.entries import DIGEST_BYTES, BadEntry, EntryKind
from shoal.node.folders.index import IndexSummary, IndexWriter
from shoal.node.folders.tree import Tree, Walked, open_walked, stat_walked
from shoal.node.names import printable
from shoal.node.publishing.sources import SourceChanged, changed, read_fully

FILES_AT_ONCE = 1_000  # opened and read in one call to a worker, which cannot be cancelled: 50 ms
ENTRIES_AT_ONCE = 5_000  # written into the index, or looked at, in one call
SKIM_BYTES = 8 * 2**20  # read at once on the way to an offset


class Contents:
    """The contents of files, one after another. It blocks, and belongs into a worker.

    Each pass over them must find the same: `digests` has what the first one found.
    """

    def __init__(self, found: Sequence[Walked]) -> None:
        self._found = found
        self._digests = bytearray()
        self._at = 0  # number of what is being read, of all that was found
        self._files = 0  # that were read in this pass
        self._inner = 0  # offset in it
        self._hasher = blake3()
        self._descriptor: int | None = None

    @property
    def ended(self) -> bool:
        """Whether all files have been read in this pass."""
        return self._at == len(self._found)

    def digest(self, number: int) -> bytes:
        """The digest of a file that has been read."""
        return bytes(self._digests[number * DIGEST_BYTES : (number + 1) * DIGEST_BYTES])

    def rewind(self) -> None:
        """Begin another pass."""
        self.close()
        self._at = self._files = self._inner = 0
        self._hasher = blake3()

    def close(self) -> None:
        """Let go of the file that is open."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def read(self, wanted: int) -> bytes:
        """The next bytes, of `FILES_AT_ONCE` files at most: it may be fewer than wanted before the end.

        Raises `SourceChanged` or `LocalError` with the name of the file that it is about.
        """
        pieces: list[bytes] = []
        for at in range(self._at, min(self._at + FILES_AT_ONCE, len(self._found))):
            walked = self._found[at]
            if walked.kind is EntryKind.FILE:
                try:
                    piece = self._read_on(walked, wanted)
                except OSError as error:
                    raise _unreadable(walked, error) from error
                pieces.append(piece)
                wanted -= len(piece)
                if self._inner < walked.size:
                    break
                self._end(walked)
            self._at += 1
            if not wanted:
                break
        return b"".join(pieces)

    def _read_on(self, walked: Walked, wanted: int) -> bytes:
        """The next bytes of one file. At the end of it, see that it has no more."""
        if self._descriptor is None:
            self._descriptor = open_walked(walked)
            _compare(walked, Fingerprint.of(os.fstat(self._descriptor)))
        left = walked.size - self._inner
        piece = read_fully(self._descriptor, self._inner, left + 1 if left <= wanted else wanted)
        if len(piece) != min(left, wanted):
            raise _changed(walked, os.fstat(self._descriptor).st_size)
        self._inner += len(piece)
        self._hasher.update(piece)
        return piece

    def _end(self, walked: Walked) -> None:
        """Keep the digest of a file in the first pass, and compare it in every other."""
        self.close()
        digest = self._hasher.digest()
        if self._files * DIGEST_BYTES == len(self._digests):
            self._digests += digest
        elif digest != self.digest(self._files):
            raise _changed(walked, walked.size)
        self._files, self._inner = self._files + 1, 0
        self._hasher = blake3()


class FolderSource:
    """A tree to publish. Every file in it must stay as it is until the publish ends, and that is checked.

    It holds 40 bytes for each file, and the index, which is 256 MiB at most: 95 MiB for a million photos.
    """

    def __init__(self, tree: Tree, ends: "array[int]", index_bytes: int, env: Environment) -> None:
        """`ends` of the files in the contents, and the length of the index, as `open_folder_source` has found them."""
        self.identity: Sequence[str] | None = ["folder", *tree.identity]
        self.shown = printable(tree.name or "The folder")
        self.name: str | None = tree.name
        self.entries: int | None = len(tree.found)
        self.folder: IndexSummary | None = None
        self._tree = tree
        self._env = env
        self._ends = ends
        self._content_bytes = self._ends[-1] if self._ends else 0
        self._size = self._content_bytes + index_bytes
        self._contents = Contents(tree.found)
        self._index: list[bytes] = []
        self._starts = array("Q")  # offsets of the parts of the index
        self._position = 0

    @property
    def size(self) -> int | None:
        """Bytes of contents and index."""
        return self._size

    @property
    def claimed_size(self) -> int:
        """The same: a file that is not as long as the walk found is refused."""
        return self._size

    def files(self, read_bytes: int) -> tuple[int, int] | None:
        """How many files end within so many bytes, and how many there are."""
        return bisect_right(self._ends, read_bytes), len(self._ends)

    async def peek(self, wanted: int) -> int | None:
        """The size."""
        return self.size

    async def read(self, wanted: int) -> bytes:
        """The next bytes, read in a worker."""
        pieces: list[bytes] = []
        while wanted > 0 and not self._contents.ended:
            pieces.append(await self._env.call(self._contents.read, wanted))
            self._position += len(pieces[-1])
            wanted -= len(pieces[-1])
        if wanted > 0:
            if self.folder is None:
                await self._write_index()
            pieces.append(self._slice(wanted))
            self._position += len(pieces[-1])
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def _write_index(self) -> None:
        writer, digests = IndexWriter(), map(self._contents.digest, range(len(self._ends)))
        for part in _parts(self._tree.found):
            await self._env.call(_add, writer, self._tree.found, part, digests)
        self._index, self.folder = writer.finish()
        self._starts = array("Q", accumulate(map(len, self._index), initial=self._content_bytes))

    def _slice(self, wanted: int) -> bytes:
        """Bytes of the index from the position on."""
        pieces: list[bytes] = []
        part = bisect_right(self._starts, self._position) - 1
        inner = self._position - self._starts[part]
        while wanted > 0 and part < len(self._index):
            pieces.append(self._index[part][inner : inner + wanted])
            wanted -= len(pieces[-1])
            part, inner = part + 1, 0
        return b"".join(pieces)

    async def seek(self, offset: int) -> None:
        """Go to an offset: back to the start, and on from there by reading, because the index needs every digest."""
        if offset < self._position:
            await self._env.call(self._contents.rewind)
            self._position = 0
        while self._position < min(offset, self._size):
            await self.read(min(SKIM_BYTES, offset - self._position))

    async def finish(self) -> None:
        """See that the system tells of every file what it told the walk, but for the ctime."""
        await self._look()

    async def look(self) -> object:
        """A hash of all that the system tells now of the files."""
        return await self._look()

    async def _look(self) -> bytes:
        hasher = blake3()
        for part in _parts(self._tree.found):
            hasher.update(await self._env.call(_told, self._tree.found, part))
        return hasher.digest()

    async def aclose(self) -> None:
        """Close the file that is open."""
        self._contents.close()


async def open_folder_source(tree: Tree, env: Environment) -> FolderSource:
    """A source for a tree. `UsageError` when it has something that no folder can have, or too much."""
    measure, ends = IndexWriter(measure=True), array("Q")
    try:
        for part in _parts(tree.found):
            await env.call(_add, measure, tree.found, part, repeat(bytes(DIGEST_BYTES)), ends)
        _, summary = measure.finish()
    except BadEntry as error:
        raise UsageError(f"{printable(tree.name or 'This')} cannot be published as a folder: {error}.") from error
    return FolderSource(tree, ends, summary.length, env)


def _parts(found: Sequence[Walked]) -> Iterator[range]:
    """Numbers of what was found, so many at a time. A worker takes the things themselves, which are made as it does."""
    for first in range(0, len(found), ENTRIES_AT_ONCE):
        yield range(first, min(first + ENTRIES_AT_ONCE, len(found)))


def _add(
    writer: IndexWriter,
    found: Sequence[Walked],
    part: range,
    digests: Iterator[bytes],
    ends: "array[int] | None" = None,
) -> None:
    """Add entries to an index. Each file takes the next digest, and tells in `ends` where its contents end."""
    for number in part:
        walked = found[number]
        is_file = walked.kind is EntryKind.FILE
        writer.add(walked.entry(writer.content_bytes, next(digests) if is_file else b""))
        if is_file and ends is not None:
            ends.append(writer.content_bytes)


def _told(found: Sequence[Walked], part: range) -> bytes:
    """A hash of what the system tells of files, once that was compared."""
    hasher = blake3()
    for number in part:
        walked = found[number]
        if walked.kind is not EntryKind.FILE:
            continue
        try:
            now = stat_walked(walked)
        except OSError as error:
            raise _unreadable(walked, error) from error
        _compare(walked, now)
        hasher.update(now.ctime_ns.to_bytes(16, "big", signed=True))
    return hasher.digest()


def _compare(walked: Walked, now: Fingerprint) -> None:
    if not now.may_have_the_content_of(walked.fingerprint):
        raise _changed(walked, now.size)


def _changed(walked: Walked, size: int) -> SourceChanged:
    sizes = f" (it had {walked.size} bytes, now {size})" if size != walked.size else ""
    return changed(_shown(walked), sizes)


def _unreadable(walked: Walked, error: OSError) -> LocalError:
    """A file that is no longer there has changed; one that cannot be read may be read another time."""
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
        return changed(_shown(walked), f" ({error.strerror})")
    return LocalError(f"Cannot read {_shown(walked)}: {error.strerror}. Nothing was published.")


def _shown(walked: Walked) -> str:
    return printable(os.fsdecode(walked.where))
