"""A folder as a tar archive, made while it is being fetched: nothing is on disk, and little in memory."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from blake3 import blake3

from shoal.node.fetching.selection import PathSelection
from shoal.node.folders.entries import BadEntry, Entry, EntryKind, shown
from shoal.node.folders.tar import END, header, padding
from shoal.node.folders.unpack import MOST_EXAMPLES, stays_inside
from shoal.node.names import name_bytes
from shoal.node.translate import translated

READ_BYTES = 2**20  # of a file's contents at a time
CHUNK_BYTES = 256 * 1024  # of the archive, handed out at once; a small file has no chunk of its own

OnBytes = Callable[[int], None]


class TarStream:
    """The archive of a selection. All paths in it are in a directory with the folder's name, if that is one.

    :ivar entries: how many are in the archive so far.
    :ivar files: how many of these are files.
    :ivar size: bytes of their contents.
    :ivar left_out: symbolic links that lead out of the folder, which are not in the archive.
    :ivar left_out_paths: the first of them.
    """

    def __init__(self, selection: PathSelection, now: float, on_bytes: OnBytes | None = None) -> None:
        self.entries = self.files = self.size = self.left_out = 0
        self.left_out_paths: list[bytes] = []
        self._selection = selection
        self._now_ns = int(now) * 10**9
        self._on_bytes = on_bytes

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The bytes of the archive. Fails as `Node.fetch`."""
        waiting = bytearray()
        async with aclosing(self._pieces()) as pieces:
            async for piece in pieces:
                waiting += piece
                if len(waiting) >= CHUNK_BYTES:
                    yield bytes(waiting)
                    waiting.clear()
        yield bytes(waiting)

    async def _pieces(self) -> AsyncGenerator[bytes, None]:
        folder = self._selection.folder
        prefix = _prefix(folder.name)
        if prefix:
            mtime_ns = self._now_ns if folder.mtime_ns is None else folder.mtime_ns
            yield header(Entry(prefix.rstrip(b"/"), EntryKind.DIRECTORY, mtime_ns=mtime_ns))
        async with aclosing(self._selection.batches()) as batches:
            async for batch in batches:
                for entry in batch:
                    async with aclosing(self._entry(entry, prefix)) as pieces:
                        async for piece in pieces:
                            yield piece
        yield END

    async def _entry(self, entry: Entry, prefix: bytes) -> AsyncGenerator[bytes, None]:
        if entry.kind is EntryKind.SYMLINK and not stays_inside(entry):
            self.left_out += 1
            if len(self.left_out_paths) < MOST_EXAMPLES:
                self.left_out_paths.append(entry.path)
            return
        self.entries += 1
        yield header(entry, prefix)
        if entry.kind is EntryKind.FILE:
            hasher = blake3()
            for offset in range(0, entry.size, READ_BYTES):
                piece = await self._selection.folder.read_entry(entry, offset, READ_BYTES)
                hasher.update(piece)
                self._count(len(piece))
                yield piece
            with translated():
                if hasher.digest() != entry.digest:
                    raise BadEntry(f"other contents than its digest says: {shown(entry.path)}")
            self.files += 1
            yield padding(entry.size)

    def _count(self, size: int) -> None:
        self.size += size
        if self._on_bytes is not None:
            self._on_bytes(size)


def _prefix(name: str | None) -> bytes:
    try:
        return name_bytes(name or "") + b"/"
    except ValueError:
        return b""
