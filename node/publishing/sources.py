"""What a publish reads from, and the plainest of it: a regular file.

A folder (`folder_source`) and a file can be read again, a stream (`stream_source`) cannot. A source hands out plaintext
in pieces of exactly the size asked for (shorter only at the end). It knows how to start again at an offset, which is
what makes a publish resumable.
"""

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from shoal.node.environment import Environment
from shoal.node.errors import LocalError, UsageError
from shoal.node.fingerprints import Fingerprint
from shoal.node.folders.index import IndexSummary
from shoal.node.names import printable


class SourceChanged(LocalError):
    """The file did not stay as it was: what has been read of it is no file, and reading on cannot mend that."""


class Source(Protocol):
    """Plaintext to publish.

    :ivar identity: what names the source to the same command, run again; None for one that cannot be read twice.
    :ivar shown: what to call it in a message.
    :ivar name: the name for those who fetch it, unless the publisher chooses another.
    :ivar entries: how many entries a folder has; None for what is none.
    """

    identity: Sequence[str] | None
    shown: str
    name: str | None
    entries: int | None

    @property
    def size(self) -> int | None:
        """The bytes to read, as far as known."""
        ...

    @property
    def claimed_size(self) -> int:
        """The size that the system told at the start; 0 where it tells none."""
        ...

    @property
    def folder(self) -> IndexSummary | None:
        """Of a folder, once all of it was read: what the metadata tells of the index."""
        ...

    def files(self, read_bytes: int) -> tuple[int, int] | None:
        """Of a folder: how many files are within so many bytes, and how many there are."""
        ...

    async def peek(self, wanted: int) -> int | None:
        """The size, learned by reading up to `wanted` bytes ahead if need be; None for a stream that is as long or
        longer."""
        ...

    async def read(self, wanted: int) -> bytes:
        """The next `wanted` bytes; fewer only at the end, and b"" from then on."""
        ...

    async def seek(self, offset: int) -> None:
        """Go to an absolute offset; only for sources that can be read twice."""
        ...

    async def finish(self) -> None:
        """After the last byte: `SourceChanged` when the source changed while it was read."""
        ...

    async def look(self) -> object:
        """What the system tells of the source now. It is equal where nothing changed, not even a ctime."""
        ...

    async def aclose(self) -> None:
        """Let go of the file."""
        ...


class NoFolder:
    """What a source that is no folder tells of one."""

    entries: int | None = None
    folder: IndexSummary | None = None

    def files(self, read_bytes: int) -> tuple[int, int] | None:
        """It has no files in it."""
        return None


class FileSource(NoFolder):
    """A regular file. It must stay as it is until the publish ends, and that is checked.

    No more is read than it had at the start: a file that grows as fast as it is read would never end. It may end sooner
    than its size says, as files in /sys do. Then `size` becomes what was read.
    """

    def __init__(self, path: Path, descriptor: int, env: Environment) -> None:
        self.identity: Sequence[str] | None = [str(path.absolute())]
        self.shown = printable(path)
        self._descriptor = descriptor
        self._env = env
        self._offset = 0
        self._start = self._look()
        self._bytes = self._start.size
        self.name: str | None = path.name

    @property
    def size(self) -> int | None:
        """The size that the file had at the start, or the less that could be read."""
        return self._bytes

    @property
    def claimed_size(self) -> int:
        """The size that the file had at the start."""
        return self._start.size

    async def peek(self, wanted: int) -> int | None:
        """The size that the file had at the start."""
        return self.size

    async def read(self, wanted: int) -> bytes:
        """The next bytes, read in a worker."""
        wanted = max(0, min(wanted, self._bytes - self._offset))
        data = await self._pread(self._offset, wanted)
        self._offset += len(data)
        if len(data) < wanted:
            self._bytes = self._offset
        return data

    async def _pread(self, offset: int, wanted: int) -> bytes:
        try:
            return await self._env.call(read_fully, self._descriptor, offset, wanted)
        except OSError as error:
            raise LocalError(f"Cannot read {self.shown}: {error.strerror}. Nothing was published.") from error

    async def seek(self, offset: int) -> None:
        """Continue at `offset`."""
        self._offset = offset

    async def finish(self) -> None:
        """Compare the file with what it was at the start, but for its ctime, and see that it has no more bytes."""
        now = self._look()
        if not now.may_have_the_content_of(self._start) or self._offset < self._bytes:
            sizes = f" (it had {self._start.size} bytes, now {now.size})" if now.size != self._start.size else ""
            raise changed(self.shown, sizes)
        if not await self._pread(self._bytes, 1):
            return
        if self._bytes < self._start.size:
            raise changed(self.shown)
        raise SourceChanged(
            f"{self.shown} has more bytes than the {self._bytes} it claims, as files in /proc do. "
            "Nothing was published. Pipe it instead: shoal publish - --name NAME"
        )

    async def look(self) -> Fingerprint:
        """The fingerprint as it is now."""
        return self._look()

    def _look(self) -> Fingerprint:
        return Fingerprint.of(os.fstat(self._descriptor))

    async def aclose(self) -> None:
        """Close the descriptor."""
        os.close(self._descriptor)


def changed(shown: str, how: str = "") -> SourceChanged:
    """The error for a file that did not hold still. `how`: a remark in brackets, with a space before it."""
    return SourceChanged(
        f"{shown} changed while it was being read{how}. Nothing was published. Run the command again when the file no "
        "longer changes, or publish a copy."
    )


async def open_file_source(source: str | os.PathLike[str], env: Environment) -> FileSource:
    """A source for a regular file; `LocalError` or `UsageError` for anything else at this path, as it was typed."""
    path = Path(source)
    return FileSource(path, await env.call(_open_regular, path, printable(os.fspath(source))), env)


def _open_regular(path: Path, shown: str) -> int:
    """A descriptor of a regular file; never blocks on a FIFO or a device. Messages have the path as `shown`."""
    try:
        kind = _kind_of(os.stat(path).st_mode)
        if kind is not None:
            raise UsageError(kind.format(shown))
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a possible file name"
        raise LocalError(f"Cannot read {shown}: {reason}.") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UsageError(f"{shown} is not a regular file.")
    return descriptor


def _kind_of(mode: int) -> str | None:
    """A sentence on why a file of this mode cannot be published, or None for a regular file."""
    if stat.S_ISREG(mode):
        return None
    if stat.S_ISDIR(mode):
        return "{0} became a folder just now. Run the command again."
    if stat.S_ISFIFO(mode):
        return "{0} is a named pipe. Use standard input instead: shoal publish - < {0}"
    return "{0} is a socket or a device. Only regular files and pipes can be published."


def read_fully(descriptor: int, offset: int, wanted: int) -> bytes:
    """So many bytes from `offset`; fewer only at the end of the file."""
    pieces: list[bytes] = []
    while wanted:
        piece = os.pread(descriptor, wanted, offset)
        if not piece:
            break
        pieces.append(piece)
        offset += len(piece)
        wanted -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
