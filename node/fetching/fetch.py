"""Fetching: link in, verified plaintext out, as a stream or as a file that appears only when it is whole."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from shoal.erasure import Link, LinkKind, Manifest, block_leaf, data_leaf
from shoal.node.cipher import CipherError, FileCipher, FromLaterVersion, Metadata, check_padding
from shoal.node.context import Context
from shoal.node.errors import BadData, NeedsNewerShoal, UsageError, WrongKey
from shoal.node.fetching.reading import RUNS_AHEAD, FileReader, Run, in_order
from shoal.node.holders.announcers import Hint
from shoal.node.holders.relocation import moved
from shoal.node.holders.search import Located, Search
from shoal.node.nursery import open_nursery
from shoal.node.results import OnProgress, Phase, Progress
from shoal.values import dataclass


@dataclass(frozen=True)
class OpenedFile:
    """A file that was found and whose key fits."""

    located: Located
    cipher: FileCipher
    metadata: Metadata


def check_has_key(link: Link) -> None:
    """`UsageError` for the hash of a private file, which cannot be read without its key."""
    if link.kind is LinkKind.PRIVATE and link.key is None:
        raise UsageError(
            "This link has no key. It is enough to find the file and keep it alive. To read it you need the whole link."
        )


def check_is_file(opened: OpenedFile) -> None:
    """`UsageError` for a folder, whose bytes are no file that anybody wants."""
    if opened.metadata.folder is not None:
        raise UsageError("This link is of a folder, and not of a file. Fetch it to disk, or as an archive with --tar.")


async def open_file(context: Context, link: Link) -> OpenedFile:
    """Find a file and check the key. Raises as `unlock`, and what `Search.run` raises."""
    check_has_key(link)
    located = await Search(context, link.id).run()
    cipher, metadata = unlock(located.manifest, link)
    return OpenedFile(located, cipher, metadata)


def unlock(manifest: Manifest, link: Link) -> tuple[FileCipher, Metadata]:
    """What the key in the link, or in a public file's manifest, opens.

    Raises WrongKey when the key is another file's, BadData when no honest publisher writes such a manifest, and
    NeedsNewerShoal when the metadata has a kind or a version that is unknown here.
    """
    file_key = link.key if link.kind is LinkKind.PRIVATE else manifest.public_key_material
    if not file_key:
        raise BadData("The link says that the file is public, but its manifest holds no key. The file cannot be read.")
    cipher = FileCipher(file_key)
    if cipher.commitment != manifest.key_commitment:
        if link.kind is LinkKind.PUBLIC:
            raise BadData("The key in this public file's manifest does not fit the file. The file cannot be read.")
        raise WrongKey("The key in this link belongs to another file. Copy the whole link again, as it was printed.")
    try:
        metadata = cipher.open_metadata(manifest.metadata)
        check_padding(metadata.size, manifest.layout.padded_plain_bytes)
    except FromLaterVersion as error:
        raise NeedsNewerShoal(f"This needs a newer Shoal: this version does not know {error}.") from error
    except CipherError as error:
        raise BadData(f"The file's description is malformed: {error}. Its publisher made it so.") from error
    return cipher, metadata


class FetchStream:
    """The plaintext of one file, as an async iterator of verified chunks in order.

    The consumer sets the pace: only a few runs of segments are fetched ahead. `received_bytes` counts share bytes.
    """

    def __init__(
        self, opened: OpenedFile, reader: "FileReader[bytes]", chunks: "trio.MemoryReceiveChannel[bytes]", start: int
    ) -> None:
        self._opened = opened
        self._reader = reader
        self._chunks = chunks
        self._position = start

    @property
    def size(self) -> int:
        """True size of the file in bytes."""
        return self._opened.metadata.size

    @property
    def name(self) -> str | None:
        """The name its publisher gave it. It may be no plain file name: never open it unchecked."""
        return self._opened.metadata.name

    @property
    def media_type(self) -> str | None:
        """The media type its publisher gave it."""
        return self._opened.metadata.media_type

    @property
    def received_bytes(self) -> int:
        """Share bytes received so far."""
        return self._reader.received_bytes

    @property
    def proven(self) -> list[Hint]:
        """The holders that have delivered verified blocks so far, each with its share."""
        return self._reader.sources.proven()

    @property
    def finished(self) -> bool:
        """Whether all of the file has been handed out."""
        return self._position == self.size

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            chunk = await self._chunks.receive()
        except trio.EndOfChannel:
            await trio.lowlevel.checkpoint()  # where fetching failed, the failure comes first
            if self._position != self.size:
                raise RuntimeError(f"the stream ended at byte {self._position} of {self.size}") from None
            raise StopAsyncIteration from None
        self._position += len(chunk)
        return chunk


def make_reader(context: Context, located: Located) -> "FileReader[bytes]":
    """A reader of a file that was located; when sources run out it searches once more, thoroughly, and for holders that
    have moved."""

    async def more() -> list[Hint]:
        found = await Search(context, located.manifest.id, manifest=located.manifest).run(thorough=True)
        return [*found.hints, *await moved(context, [*located.hints, *found.hints])]

    return FileReader(context, located.manifest, located.hints, more)


@asynccontextmanager
async def open_stream(
    context: Context, opened: OpenedFile, *, first_segment: int = 0, on_progress: OnProgress | None = None
) -> AsyncIterator[FetchStream]:
    """Stream a file from a segment on. Leaving the block stops all fetching."""
    reader = make_reader(context, opened.located)
    report = _Reporter(opened, reader, on_progress)

    async def work(wanted: tuple[int, int]) -> bytes:
        plaintext = await reader.read(*wanted, lambda run: open_run(opened, run))
        report(len(plaintext))
        return plaintext

    send, receive = trio.open_memory_channel[bytes](0)
    needed = max(1, -(-opened.metadata.size // reader.layout.segment_plain_bytes))  # not the segments that only pad
    report.done = min(opened.metadata.size, first_segment * reader.layout.segment_plain_bytes)
    report(0)
    with receive:
        async with open_nursery() as nursery:
            nursery.start_soon(in_order, reader.runs(first_segment, needed), work, RUNS_AHEAD, send)
            yield FetchStream(opened, reader, receive, report.done)
            nursery.cancel_scope.cancel()


class _Reporter:
    """Turns finished runs into progress."""

    def __init__(self, opened: OpenedFile, reader: "FileReader[bytes]", on_progress: OnProgress | None) -> None:
        self._opened = opened
        self._reader = reader
        self._on_progress = on_progress
        self.done = 0

    def __call__(self, more: int) -> None:
        self.done += more
        if self._on_progress is None:
            return
        shares = self._reader.sources.usable_shares()
        manifest = self._opened.located.manifest
        size = self._opened.metadata.size
        self._on_progress(Progress(Phase.FETCHING, min(self.done, size), size, len(shares), manifest.k, len(shares)))


def open_run(opened: OpenedFile, run: Run) -> bytes:
    """Decode, decrypt and unpad a run; called in a worker."""
    layout = run.decoder.layout
    pieces = []
    for index in range(run.first, run.first + run.count):
        try:
            pieces.append(opened.cipher.open_segment(index, index == layout.segment_count - 1, run.segment(index)))
        except CipherError as error:
            raise BadData(
                f"Segment {index} arrived as it was published, but the key does not open it: {error}."
            ) from error
    plaintext = b"".join(pieces)
    room = opened.metadata.size - run.first * layout.segment_plain_bytes
    if len(plaintext) <= room:
        return plaintext
    keep = max(0, room)
    if plaintext.count(0, keep) != len(plaintext) - keep:
        raise BadData("The file's padding is not zeros. Its publisher made it so.")
    return plaintext[:keep]


def sealed_data_leaf(opened: OpenedFile, index: int, last: bool, plaintext: bytes) -> bytes:
    """The data-tree leaf that this plaintext would have as segment `index`: tells whether bytes on disk are right."""
    sealed = opened.cipher.seal_segment(index, last, plaintext)
    k = opened.located.manifest.k
    block = -(-len(sealed) // k)
    padded = sealed.ljust(k * block, b"\0")
    return data_leaf(index, [block_leaf(padded[at : at + block]) for at in range(0, k * block, block)])
