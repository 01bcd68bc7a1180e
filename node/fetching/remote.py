"""A published file as an open file: read at any place, in any order, without fetching the whole of it."""

import os
from collections.abc import AsyncIterator

from shoal.node.errors import UsageError
from shoal.node.fetching.content import RemoteContent
from shoal.node.fetching.read_ahead import ReadAhead


class RemoteFile:
    """A file in the network, read as it is needed: any bytes of it, in any order, verified before they are handed out.

    Bytes come in segments of 64 KiB to 1 MiB for most files. Those that were used last are kept, in 64 MiB by default.
    While reads are in sequence, more and more is fetched ahead. After a seek only what is asked for is fetched. A
    cancelled read leaves nothing under way. Hosts that go away cost a pause while others can take their place.

    Its methods fail as `Node.fetch` does; each read may, and the next may succeed.
    """

    def __init__(self, content: RemoteContent, name: str | None, offset: int = 0, size: int | None = None) -> None:
        self._content = content
        self._name = name
        self._offset = offset
        self._size = content.size - offset if size is None else size
        self._position = 0
        self._ahead = ReadAhead()
        self._expected = (0, 0)  # from which segment on, and how many

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return self._size

    @property
    def name(self) -> str | None:
        """The name its publisher gave it. It may be no plain file name: never open it unchecked."""
        return self._name

    @property
    def received_bytes(self) -> int:
        """Share bytes received so far, for all that is read in the same block of `open_remote`."""
        return self._content.received_bytes

    async def read_at(self, offset: int, length: int) -> bytes:
        """`length` bytes from `offset` on; fewer at the end of the file, and none behind it.

        The position of `read` stays where it is. Several such reads may be under way at once.

        :raises UsageError: a number is negative, or the block of `open_remote` was left.
        """
        chunks = self.chunks(offset, length)
        if not length or offset >= self._size:
            return b""
        content = self._content
        start, end = self._offset + offset, self._offset + min(offset + length, self._size)
        first, last = start // content.step, (end - 1) // content.step
        more = self._ahead.note(first, last, content.most_ahead)
        if first == last:
            self._expect(first, 1 + more)
            segment = await self._segment(first)
            return segment[start - first * content.step : end - first * content.step]
        try:
            chunks.expect()  # first, so that what was fetched ahead is not ended
            self._expect(last + 1, more)
            return b"".join([chunk async for chunk in chunks])
        except BaseException:
            self._expect(0, 0)
            raise
        finally:
            await chunks.aclose()

    async def _segment(self, index: int) -> bytes:
        try:
            return await self._content.segment(index)
        except BaseException:
            self._expect(0, 0)
            raise

    def _expect(self, first: int, count: int) -> None:
        """Have these segments fetched; nothing to do for one more read of the same segment."""
        if self._expected != (first, count) or first not in self._content:
            self._expected = (first, count)
            self._content.expect(self, first, count, -(-(self._offset + self._size) // self._content.step))

    def chunks(self, offset: int = 0, length: int | None = None) -> "Chunks":
        """The bytes from `offset` on as an async iterator of pieces: `length` of them, or all to the end.

        Nothing is fetched beyond the range. Of one with a length a few MiB are fetched at once. To the end, more and
        more is fetched ahead, as the loop may end before. A loop that is left early should close the iterator:
        `async with aclosing(file.chunks(offset)) as chunks: async for chunk in chunks: …`

        :raises UsageError: a number is negative.
        """
        start = _checked(offset, "offset")
        end = self._size if length is None else min(self._size, start + _checked(length, "length"))
        return Chunks(self._content, self._offset + start, self._offset + end, wants_all=length is not None)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Have `read` go on at `offset`, and return where that is. `whence` is as for files: `os.SEEK_SET`,
        `os.SEEK_CUR` or `os.SEEK_END`.

        :raises UsageError: that is before the start of the file, or `whence` is unknown.
        """
        bases = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}
        if whence not in bases or not isinstance(offset, int):
            raise UsageError("seek takes a whole number, and one of os.SEEK_SET, os.SEEK_CUR and os.SEEK_END.")
        self._position = _checked(bases[whence] + offset, "position")
        return self._position

    def tell(self) -> int:
        """Where `read` goes on."""
        return self._position

    async def read(self, length: int = -1) -> bytes:
        """The next `length` bytes, fewer at the end of the file; by default all that are left.

        :raises UsageError: the length is less than -1, or the block of `open_remote` was left.
        """
        wanted = max(0, self._size - self._position) if length == -1 else length
        found = await self.read_at(self._position, wanted)
        self._position += len(found)
        return found


class Chunks(AsyncIterator[bytes]):
    """A range of a remote file, piece by piece. `aclose` ends what it has under way.

    wants_all: the whole range will be read, so that there is no need to begin with little.
    """

    def __init__(self, content: RemoteContent, position: int, end: int, *, wants_all: bool) -> None:
        self._content = content
        self._position = position
        self._end = end
        self._wants_all = wants_all
        self._ahead = ReadAhead()

    async def __anext__(self) -> bytes:
        if self._position >= self._end:
            raise StopAsyncIteration
        index, skipped = divmod(self._position, self._content.step)
        self.expect()
        try:
            segment = await self._content.segment(index)
        except BaseException:
            self._content.forget(self)
            raise
        chunk = segment[skipped : skipped + self._end - self._position]
        self._position += len(chunk)
        return chunk

    def expect(self) -> None:
        """Have the next pieces fetched."""
        content = self._content
        first, behind = self._position // content.step, -(-self._end // content.step)
        ahead = content.most_ahead if self._wants_all else self._ahead.note(first, first, content.most_ahead)
        content.expect(self, first, 1 + ahead, behind)

    async def aclose(self) -> None:
        """Fetch nothing more for this iteration."""
        self._end = self._position
        self._content.forget(self)


def _checked(number: object, what: str) -> int:
    if not isinstance(number, int) or number < 0:
        raise UsageError(f"The {what} is a whole number of bytes, and not negative.")
    return number


__all__ = ["Chunks", "RemoteFile"]
