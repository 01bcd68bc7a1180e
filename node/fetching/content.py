"""The plaintext of one published file, read a segment at a time in any order: verified, cached, fetched once.

Each run of segments under way is a task of the block that opened the content. A reader waits for it, or expects to want
it soon. A run that nobody wants any more is cancelled at once.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import field

import trio

from shoal.node.context import Context
from shoal.node.errors import BadData, NoPeers, NotFound, ShoalError, TooFewShares, UsageError
from shoal.node.fetching.fetch import OpenedFile, make_reader, open_run
from shoal.node.fetching.gathering import PROGRESS_TIMEOUT_S
from shoal.node.fetching.read_ahead import SegmentCache
from shoal.node.fetching.reading import RUN_BYTES, RUNS_AHEAD, FileReader
from shoal.node.holders.announcers import Hint
from shoal.node.holders.search import Located, Search
from shoal.node.nursery import open_nursery
from shoal.node.translate import translated
from shoal.values import dataclass

CACHE_BYTES = 64 * 2**20  # of plaintext that was read and may be read again
EXPECTED_BYTES = RUNS_AHEAD * RUN_BYTES  # nothing is fetched ahead while so much is under way: 24 MiB
CACHE_PART = 4  # one reader fetches ahead no more than this part of the cache, or it would push out what it needs next
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 8.0  # before holders are looked for once more
RUNS_AT_ONCE = 16  # of one content; half of them may be ahead of their readers

CLOSED = "This remote file is closed. Read it inside its block: async with node.open_remote(link) as file: ..."


def check_cache(cache_bytes: object) -> None:
    """UsageError for what is no size of a cache."""
    if not isinstance(cache_bytes, int) or cache_bytes < 0:
        raise UsageError(f"A cache has a whole number of bytes, and not {cache_bytes!r}.")


@dataclass(eq=False)
class _Fetch:
    """A run of segments under way. `waiting` readers need it now, those in `expecting` soon."""

    first: int
    count: int
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    done: trio.Event = field(default_factory=trio.Event)
    waiting: int = 0
    expecting: set[object] = field(default_factory=set)
    segments: list[bytes] = field(default_factory=list)
    error: ShoalError | None = None

    @property
    def indexes(self) -> range:
        return range(self.first, self.first + self.count)


class RemoteContent:
    """All bytes of a published file. In memory are at most the cache, what is fetched ahead, and the runs under way.

    size: of the plaintext.    step: bytes of every segment but the last.    segments: those with any plaintext.
    """

    def __init__(self, context: Context, opened: OpenedFile, nursery: trio.Nursery, cache_bytes: int) -> None:
        self.opened = opened
        self.size = opened.metadata.size
        self.step = opened.located.manifest.layout.segment_plain_bytes
        self.segments = -(-self.size // self.step)
        self._context = context
        self._nursery = nursery
        self._cache = SegmentCache(cache_bytes)
        self._most_ahead = max(1, cache_bytes // CACHE_PART // self.step)
        self._under_way: dict[int, _Fetch] = {}  # by each of their segments
        self._turns = trio.Semaphore(RUNS_AT_ONCE)
        self._reader: FileReader[bytes] | None = make_reader(context, opened.located)
        self._renewing = trio.Lock()
        self._run_segments = 1
        self._received_before = 0
        self._is_bad = False
        self._has_delivered = False
        self._is_closed = False

    def __contains__(self, index: int) -> bool:
        """Whether a segment is in the cache."""
        return index in self._cache

    @property
    def received_bytes(self) -> int:
        """Share bytes received so far."""
        return self._received_before + (0 if self._reader is None else self._reader.received_bytes)

    def proven(self) -> list[Hint]:
        """The holders that have delivered verified blocks, each with its share, as far as they are still asked."""
        return [] if self._reader is None else self._reader.sources.proven()

    def usable_shares(self) -> int:
        """How many shares somebody may still deliver."""
        return 0 if self._reader is None else len(self._reader.sources.usable_shares())

    @property
    def reads_under_way(self) -> int:
        """How many runs of segments are being fetched."""
        return len(self._fetches())

    @property
    def most_ahead(self) -> int:
        """So many segments may be fetched ahead of one reader: three runs at the speed of the line, bounded by the
        cache."""
        return min(RUNS_AHEAD * self._run_length(), self._most_ahead)

    def close(self) -> None:
        """Answer no reader any more."""
        self._is_closed = True

    async def segment(self, index: int) -> bytes:
        """The plaintext of one segment; from the cache, or from a run that is under way or begins now.

        Raises what `Node.fetch` raises for a file that was found.
        """
        await trio.lowlevel.checkpoint()
        while (segment := self._cache.get(index)) is None:
            fetch = self._under_way.get(index) or self._start(index, 1)
            fetch.waiting += 1
            try:
                await fetch.done.wait()
            finally:
                fetch.waiting -= 1
                self._cancel_unwanted(fetch)
            if fetch.error is None:
                return fetch.segments[index - fetch.first]
            if not isinstance(fetch.error, BadData) or fetch.count == 1:
                raise fetch.error
            self._is_bad = True  # from now on segments come one by one, so that a bad one spoils no good one
        if self._is_closed:
            raise UsageError(CLOSED)
        return segment

    def expect(self, reader: object, first: int, count: int, end: int) -> None:
        """`reader` will want `count` segments from `first` on, but none from `end` on, and no others that it expected
        before. Where there is room, they are fetched.

        As a reader goes on, what it expects grows by one segment at a time. So at the far side a run begins only when
        half of what is expected is missing there, or a whole run; else all runs would be short.
        """
        last = min(end, first + count)
        for fetch in self._fetches():
            if fetch.first < last and first < fetch.first + fetch.count:
                fetch.expecting.add(reader)
            elif reader in fetch.expecting:
                fetch.expecting.discard(reader)
                self._cancel_unwanted(fetch)
        enough = max(1, min(self._run_length(), count // 2))
        index = first
        while index < last and self._has_room():
            missing = self._missing(index, min(last, index + self._run_length()))
            if missing >= enough or (missing and (index == first or index + missing == end)):
                self._start(index, missing).expecting.add(reader)
            index += max(1, missing)

    def forget(self, reader: object) -> None:
        """`reader` expects nothing any more."""
        self.expect(reader, 0, 0, 0)

    def _fetches(self) -> list[_Fetch]:
        return list(dict.fromkeys(self._under_way.values()))

    def _run_length(self) -> int:
        if self._is_bad:
            return 1
        if self._reader is not None:
            self._run_segments = self._reader.run_segments
        return self._run_segments

    def _has_room(self) -> bool:
        if self._is_closed or len(self._under_way) * self.step >= EXPECTED_BYTES:
            return False
        return self.reads_under_way < RUNS_AT_ONCE // 2

    def _missing(self, first: int, end: int) -> int:
        """How many segments from `first` on are neither there nor under way."""
        index = first
        while index < end and index not in self._cache and index not in self._under_way:
            index += 1
        return index - first

    def _start(self, first: int, count: int) -> _Fetch:
        if self._is_closed:
            raise UsageError(CLOSED)
        fetch = _Fetch(first, count)
        self._under_way.update(dict.fromkeys(fetch.indexes, fetch))
        self._nursery.start_soon(self._run, fetch)
        return fetch

    def _cancel_unwanted(self, fetch: _Fetch) -> None:
        if not fetch.waiting and not fetch.expecting and not fetch.done.is_set():
            self._end(fetch)
            fetch.scope.cancel()

    def _end(self, fetch: _Fetch) -> None:
        for index in fetch.indexes:
            if self._under_way.get(index) is fetch:
                del self._under_way[index]

    async def _run(self, fetch: _Fetch) -> None:
        """Fetch a run for those who want it. Its failure is theirs alone; a failure of our own ends the content."""
        fetch.error = UsageError(CLOSED)  # unless something else comes of it
        try:
            with fetch.scope:
                async with self._turns:
                    with translated():
                        plaintext = await self._read(fetch.first, fetch.count)
                segments = [plaintext[at : at + self.step] for at in range(0, len(plaintext), self.step)]
                for index, segment in zip(fetch.indexes, segments, strict=True):
                    self._cache.put(index, segment)
                fetch.segments, fetch.error = segments, None
        except ShoalError as error:
            fetch.error = error
        finally:
            self._end(fetch)
            fetch.done.set()

    # --- holders that go, and others that come

    async def _read(self, first: int, count: int) -> bytes:
        """A run from the holders that are known. When too few of them are left, holders are looked for anew, and again
        until nothing has come for so long that this is more than a pause.
        """
        begun, pause_s = trio.current_time(), FIRST_PAUSE_S
        while True:
            reader = self._reader or await self._renewed()
            try:
                plaintext = await reader.read(first, count, lambda run: open_run(self.opened, run))
            except TooFewShares:
                self._drop(reader)
                if not self._has_delivered or trio.current_time() > begun + PROGRESS_TIMEOUT_S:
                    raise
                await trio.sleep(pause_s)
                pause_s = min(LONGEST_PAUSE_S, 2 * pause_s)
            else:
                self._has_delivered = True
                return plaintext

    def _drop(self, reader: "FileReader[bytes]") -> None:
        """Read from these sources no more: the next read looks for holders."""
        if self._reader is reader:
            self._received_before += reader.received_bytes
            self._reader = None

    async def _renewed(self) -> "FileReader[bytes]":
        """A reader that knows who announces the file now, in place of one that was dropped."""
        async with self._renewing:
            if self._reader is None:
                known = self.opened.located
                try:
                    search = Search(self._context, known.manifest.id, manifest=known.manifest)
                    found = (await search.run(thorough=True)).hints
                except (NotFound, NoPeers):
                    found = []  # those that were known at first may be back
                self._reader = make_reader(self._context, Located(known.manifest, [*found, *known.hints]))
            return self._reader


@asynccontextmanager
async def open_content(
    context: Context, opened: OpenedFile, cache_bytes: int = CACHE_BYTES
) -> AsyncIterator[RemoteContent]:
    """The content of a file that was found. Leaving the block stops all fetching."""
    async with open_nursery() as nursery:
        content = RemoteContent(context, opened, nursery, cache_bytes)
        try:
            yield content
        finally:
            content.close()
        nursery.cancel_scope.cancel()
