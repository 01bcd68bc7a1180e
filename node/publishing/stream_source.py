"""Sources that are read once, front to back: iterables of bytes, file objects, and bytes in memory."""

import inspect
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

from shoal.node.environment import Environment
from shoal.node.errors import LocalError, UsageError
from shoal.node.folders.index import IndexSummary
from shoal.node.publishing.sources import NoFolder

READ_BYTES = 2**20  # of a file object or of bytes in memory, at once
CHUNKS_AT_ONCE = 1_000  # of an iterable: a call to a worker costs as much as many small chunks


@runtime_checkable
class Readable(Protocol):
    """A binary file object, as of `open(path, "rb")`, `io.BytesIO` and `sys.stdin.buffer`."""

    def read(self, size: int, /) -> bytes: ...


class AsyncReadable(Protocol):
    """A file object of trio's, as of `trio.open_file(path, "rb")`."""

    async def read(self, size: int, /) -> bytes: ...


class StreamSource(NoFolder):
    """Bytes from an async iterable; read once, front to back. `peek` may find out the size."""

    identity: Sequence[str] | None = None
    shown = "The input"
    name: str | None = None
    claimed_size = 0

    def __init__(self, chunks: AsyncIterable[bytes], size: int | None = None) -> None:
        """`size`: where it is known before anything is read."""
        self.size = size
        self._chunks: AsyncIterator[bytes] = aiter(chunks)
        self._buffer = bytearray()
        self._ended = False

    async def peek(self, wanted: int) -> int | None:
        """The size where it is known, or of a stream that ends before `wanted` bytes; None for a longer one."""
        if self.size is None:
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

    def put_back(self, data: bytes) -> None:
        """Have `data`, which was read last, read once more."""
        self._buffer[:0] = data

    async def seek(self, offset: int) -> None:
        """A stream cannot go back."""
        raise UsageError("A stream cannot be read twice.")

    async def finish(self) -> None:
        """Nothing to compare with."""

    async def look(self) -> object:
        """Nothing to look at."""
        return None

    async def aclose(self) -> None:
        """The iterable belongs to the caller."""


class RepublishedSource(StreamSource):
    """A file or a folder as it comes from its holders. What there is to know of it is known."""

    def __init__(self, chunks: AsyncIterable[bytes], size: int, name: str | None, folder: IndexSummary | None) -> None:
        super().__init__(chunks, size)
        self.name = name
        self.folder = folder
        self.entries = None if folder is None else folder.entries


class MemoryChunks:
    """Bytes in memory, a part at a time."""

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        view = memoryview(data)
        self._view = view.cast("B") if view.c_contiguous else memoryview(view.tobytes())
        self.size = len(self._view)
        self._at = 0

    def __aiter__(self) -> "MemoryChunks":
        return self

    async def __anext__(self) -> bytes:
        if self._at >= self.size:
            raise StopAsyncIteration
        chunk = self._view[self._at : self._at + READ_BYTES]
        self._at += len(chunk)
        return bytes(chunk)


class FileChunks:
    """What a file object has left. One of trio's is awaited, any other is read in a worker."""

    def __init__(self, file: Readable | AsyncReadable, env: Environment) -> None:
        self._file = file
        self._env = env

    def __aiter__(self) -> "FileChunks":
        return self

    async def __anext__(self) -> bytes:
        try:
            chunk = await self._read()
        except ValueError as error:  # it is closed, or a text file that cannot decode what it reads
            raise UsageError(f"Cannot read the file object: {error}.") from error
        if chunk is None:
            raise UsageError("A file object to publish must block until there is something to read.")
        if not chunk:
            raise StopAsyncIteration
        return chunk

    async def _read(self) -> bytes | None:
        read: Any = self._file.read
        if inspect.iscoroutinefunction(read):
            awaited: bytes | None = await read(READ_BYTES)
            return awaited
        return await self._env.call(read, READ_BYTES)


class IterableChunks:
    """The chunks of an iterable. It runs in a worker, because it may read files itself."""

    def __init__(self, chunks: Iterable[bytes], env: Environment) -> None:
        self._chunks: Iterator[bytes] = iter(chunks)
        self._env = env
        self._ended = False

    def __aiter__(self) -> "IterableChunks":
        return self

    async def __anext__(self) -> bytes:
        if self._ended:
            raise StopAsyncIteration
        return await self._env.call(self._next)

    def _next(self) -> bytes:
        """Some chunks, joined."""
        gathered = bytearray()
        for _ in range(CHUNKS_AT_ONCE):
            chunk = next(self._chunks, self)
            if chunk is self:
                self._ended = True
                break
            if not isinstance(chunk, bytes | bytearray | memoryview):
                raise UsageError(f"An iterable to publish gives bytes, and not {type(chunk).__name__}.")
            gathered += chunk
            if len(gathered) >= READ_BYTES:
                break
        return bytes(gathered)
