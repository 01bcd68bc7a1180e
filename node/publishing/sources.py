"""What a publish reads from: a file on disk, which can be read again, or a stream, which cannot.

A source hands out plaintext in pieces of exactly the size asked for (shorter only at the end) and knows how to start
again at an offset, which is what makes a publish resumable.
"""

import os
import stat
from collections.abc import AsyncIterable, AsyncIterator
from pathlib import Path
from typing import Protocol

from shoal.node.environment import Environment
from shoal.node.errors import LocalError, UsageError
from shoal.node.fingerprints import Fingerprint
from shoal.node.names import printable


class SourceChanged(LocalError):
    """The file did not stay as it was: what has been read of it is no file, and reading on cannot mend that."""


class Source(Protocol):
    """Plaintext to publish. `size` is None while unknown; `path` and `fingerprint` are None for a stream."""

    path: Path | None
    fingerprint: Fingerprint | None
    name: str | None

    @property
    def size(self) -> int | None:
        """The bytes to read, as far as known."""
        ...

    async def peek(self, wanted: int) -> int | None:
        """The size, learned by reading up to `wanted` bytes ahead if need be; None for a stream that is as long or
        longer."""
        ...

    async def read(self, wanted: int) -> bytes:
        """The next `wanted` bytes; fewer only at the end, and b"" from then on."""
        ...

    async def seek(self, offset: int) -> None:
        """Go to an absolute offset; only for sources with a fingerprint."""
        ...

    async def finish(self) -> None:
        """After the last byte: `SourceChanged` when the source changed while it was read."""
        ...

    def look(self) -> Fingerprint | None:
        """The fingerprint as it is now; None for a stream."""
        ...

    async def aclose(self) -> None:
        """Let go of the file."""
        ...


class FileSource:
    """A regular file. It must stay as it is until the publish ends, and that is checked.

    No more is read than it had at the start: a file that grows as fast as it is read would never end. It may end sooner
    than its size says, as files in /sys do. Then `size` becomes what was read.
    """

    def __init__(self, path: Path, descriptor: int, env: Environment) -> None:
        self.path: Path | None = path
        self._shown = printable(path)
        self._descriptor = descriptor
        self._env = env
        self._offset = 0
        self._start = self.look()
        self._bytes = self._start.size
        self.fingerprint: Fingerprint | None = self._start
        self.name: str | None = path.name

    @property
    def size(self) -> int | None:
        """The size that the file had at the start, or the less that could be read."""
        return self._bytes

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
            return await self._env.call(_read_fully, self._descriptor, offset, wanted)
        except OSError as error:
            raise LocalError(f"Cannot read {self._shown}: {error.strerror}. Nothing was published.") from error

    async def seek(self, offset: int) -> None:
        """Continue at `offset`."""
        self._offset = offset

    async def finish(self) -> None:
        """Compare the file with what it was at the start, but for its ctime, and see that it has no more bytes."""
        now = self.look()
        if not now.may_have_the_content_of(self._start) or self._offset < self._bytes:
            sizes = f" (it had {self._start.size} bytes, now {now.size})" if now.size != self._start.size else ""
            raise changed(self._shown, sizes)
        if not await self._pread(self._bytes, 1):
            return
        if self._bytes < self._start.size:
            raise changed(self._shown)
        raise SourceChanged(
            f"{self._shown} has more bytes than the {self._bytes} it claims, as files in /proc do. "
            "Nothing was published. Pipe it instead: shoal publish - --name NAME"
        )

    def look(self) -> Fingerprint:
        """The fingerprint as it is now."""
        return Fingerprint.of(os.fstat(self._descriptor))

    async def aclose(self) -> None:
        """Close the descriptor."""
        os.close(self._descriptor)


class StreamSource:
    """Bytes from an async iterable; read once, front to back. `peek` may find out the size."""

    path: Path | None = None
    fingerprint: Fingerprint | None = None
    size: int | None = None
    name: str | None = None

    def __init__(self, chunks: AsyncIterable[bytes]) -> None:
        self._chunks: AsyncIterator[bytes] = aiter(chunks)
        self._buffer = bytearray()
        self._ended = False

    async def peek(self, wanted: int) -> int | None:
        """The size of a stream that ends before `wanted` bytes; None for a longer one."""
        await self._fill(wanted)
        self.size = len(self._buffer) if len(self._buffer) < wanted else None
        return self.size

    async def read(self, wanted: int) -> bytes:
        """The next bytes, gathered over as many chunks as it takes."""
        await self._fill(wanted)
        data = bytes(self._buffer[:wanted])
        del self._buffer[:wanted]
        return data

    async def _fill(self, wanted: int) -> None:
        """Have `wanted` bytes in the buffer, fewer only at the end."""
        while len(self._buffer) < wanted and not self._ended:
            try:
                chunk = await anext(self._chunks)
                if not isinstance(chunk, bytes | bytearray | memoryview):
                    raise UsageError(f"A stream to publish gives bytes, and not {type(chunk).__name__}.")
                self._buffer += chunk
            except StopAsyncIteration:
                self._ended = True
            except OSError as error:
                raise LocalError(f"Cannot read the input: {error.strerror}. Nothing was published.") from error

    async def seek(self, offset: int) -> None:
        """A stream cannot go back."""
        raise UsageError("A stream cannot be read twice.")

    async def finish(self) -> None:
        """Nothing to compare with."""

    def look(self) -> Fingerprint | None:
        """Nothing to look at."""
        return None

    async def aclose(self) -> None:
        """The iterable belongs to the caller."""


def changed(shown: str, how: str = "") -> SourceChanged:
    """The error for a file that did not hold still. `how`: a remark in brackets, with a space before it."""
    return SourceChanged(
        f"{shown} changed while it was being read{how}. Nothing was published. Run the command again when the file no "
        "longer changes, or publish a copy."
    )


async def open_source(source: Path | str | AsyncIterable[bytes], env: Environment) -> Source:
    """A source for a path or a stream; `LocalError` or `UsageError` for anything that cannot be published."""
    if isinstance(source, AsyncIterable):
        return StreamSource(source)
    if not isinstance(source, str | Path):
        raise UsageError(f"A source is a path or an async iterable of bytes, and not of type {type(source).__name__}.")
    path = Path(source)
    return FileSource(path, await env.call(_open_regular, path, printable(source)), env)


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
        return "{0} is a folder. Shoal cannot publish folders yet. Pipe an archive instead: tar c DIR | shoal publish -"
    if stat.S_ISFIFO(mode):
        return "{0} is a named pipe. Use standard input instead: shoal publish - < {0}"
    return "{0} is a socket or a device. Only regular files and pipes can be published."


def _read_fully(descriptor: int, offset: int, wanted: int) -> bytes:
    pieces: list[bytes] = []
    while wanted:
        piece = os.pread(descriptor, wanted, offset)
        if not piece:
            break
        pieces.append(piece)
        offset += len(piece)
        wanted -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
