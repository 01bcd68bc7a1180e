"""Reading a file's segments back from its holders: any k good shares, verified before use, slow holders outrun.

A run of segments is fetched from k shares at once, data shares first, so that a healthy fetch decodes nothing. A holder
that fails is replaced at once; one that is merely slow gets company from another share after a while, and whichever k
arrive first are used. Everything is checked against the manifest, so a holder can withhold and nothing more.
"""

import math
import random
import statistics
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import trio

from shoal.dht import Contact
from shoal.erasure import (
    BLOCK_BYTES,
    BadShareNumbers,
    CorruptBlock,
    CorruptDataLeaf,
    Manifest,
    NotACodeword,
    SegmentDecoder,
)
from shoal.node.announcers import Hint
from shoal.node.channel import Blocks, Buffer, PeerError, Read
from shoal.node.context import Context
from shoal.node.errors import BadData, TooFewShares
from shoal.node.nursery import open_nursery

T = TypeVar("T")
J = TypeVar("J")

RUN_BYTES = 8 * 2**20  # ciphertext of the longest run of segments; RUNS_AHEAD are in memory, twice while decoding
FIRST_RUN_BYTES = 2**20  # of the first run, before the line's speed is known
LONG_RUN_S, SHORT_RUN_S = 5.0, 1.5  # runs that take longer are made shorter, and the other way round
MAX_RUN_SEGMENTS = 16  # blocks of one share in one read request: 1 MiB
RUNS_AHEAD = 3
READ_TIMEOUT_S = 300.0  # the last resort: over a slow line all holders are slow together, and none is to blame
PROGRESS_TIMEOUT_S = 60.0  # DESIGN section 5: give up, with numbers, after so long without any progress
PROGRESS_BYTES = 64 * 1024  # so much received counts as progress, even where no read has ended yet
FIRST_PATIENCE_S = 1.5  # before a slow holder gets company, while nothing is known of this network's speed
LEAST_PATIENCE_S = 0.25
PATIENCE_FACTOR = 4.0  # times the median of recent reads
CROWD_FACTOR = 4.0  # times that while most of a run is still outstanding: then it is the line that is slow
MAX_FAILURES = 2  # of one source, then it is asked no more


def run_segments(k: int, run_bytes: int) -> int:
    """How many segments make a run of about `run_bytes` for k needed shares."""
    return max(1, min(MAX_RUN_SEGMENTS, run_bytes // (k * BLOCK_BYTES)))


@dataclass(eq=False)
class Source:
    """One share at one holder."""

    share: int
    contact: Contact
    failures: int = 0
    pending: int = 0
    corrupt: bool = False
    typical_s: float = 0.0

    @property
    def usable(self) -> bool:
        """Whether it is still worth asking."""
        return not self.corrupt and self.failures < MAX_FAILURES


@dataclass(frozen=True)
class Run:
    """Verified blocks of k shares for a run of segments."""

    decoder: SegmentDecoder
    first: int
    count: int
    blocks: Mapping[int, Sequence[Buffer]]
    leaves: Mapping[int, Sequence[bytes]]
    data_leaves: Sequence[bytes]

    def segment(self, index: int) -> bytes:
        """Ciphertext of one segment; `NotACodeword` where the shares are not of one file."""
        at = index - self.first
        blocks = {share: column[at] for share, column in self.blocks.items()}
        leaves = {share: column[at] for share, column in self.leaves.items()}
        return self.decoder.decode(index, blocks, leaves, self.data_leaves[at])


@dataclass
class _Gathering:
    """One run under way: what came back so far, and from whom more may come."""

    first: int
    count: int
    replies: dict[int, Blocks] = field(default_factory=dict)
    asked: set[int] = field(default_factory=set)  # ids of Source objects


class SourceTable:
    """All known sources of a file, and the order in which they are asked."""

    def __init__(self, hints: Iterable[Hint], k: int, rng: random.Random) -> None:
        self._k = k
        self._rng = rng
        self._sources: dict[tuple[int, bytes], Source] = {}
        self.add(hints)

    def add(self, hints: Iterable[Hint]) -> bool:
        """Take further sources in; whether there was a new one."""
        before = len(self._sources)
        for hint in hints:
            key = (hint.share, bytes(hint.contact.node_id))
            self._sources.setdefault(key, Source(hint.share, hint.contact))
        return len(self._sources) > before

    def all(self) -> list[Source]:
        """Every source, usable or not."""
        return list(self._sources.values())

    def usable_shares(self) -> set[int]:
        """Distinct shares that somebody may still deliver."""
        return {source.share for source in self._sources.values() if source.usable}

    def corrupt_shares(self) -> set[int]:
        """Distinct shares of which only wrong bytes came."""
        return {source.share for source in self._sources.values() if source.corrupt} - self.usable_shares()

    def best(self, count: int, gathering: _Gathering, *, busy_shares: set[int]) -> list[Source]:
        """Up to `count` sources of shares not yet had or under way for this run."""
        ranked = sorted(
            (
                source
                for source in self._sources.values()
                if source.usable and id(source) not in gathering.asked and source.share not in busy_shares
            ),
            key=lambda source: (
                source.failures,
                source.share >= self._k,
                source.typical_s > 2.0,
                source.pending,
            ),
        )
        chosen: dict[int, Source] = {}
        for source in ranked:
            if source.share not in chosen and len(chosen) < count:
                chosen[source.share] = source
        return list(chosen.values())


class FileReader(Generic[T]):
    """Fetches runs of segments. `more` finds further holders when the known ones do not suffice."""

    def __init__(
        self,
        context: Context,
        manifest: Manifest,
        hints: Iterable[Hint],
        more: Callable[[], Awaitable[list[Hint]]],
    ) -> None:
        self._context = context
        self._more = more
        self._asked_for_more = False
        self._k = manifest.k
        self.decoder = SegmentDecoder(manifest, context.codec)
        self.layout = manifest.layout
        self.sources = SourceTable(hints, manifest.k, context.env.rng)
        self._durations: deque[float] = deque(maxlen=64)
        self._last_progress = (trio.current_time(), context.throttle.received_bytes)
        self._run_segments = run_segments(manifest.k, FIRST_RUN_BYTES)
        self._file_id = manifest.id
        self.received_bytes = 0

    async def read(self, first: int, count: int, work: Callable[[Run], T]) -> T:
        """`work(run)` on verified blocks, called in a worker. TooFewShares or BadData when it cannot be had."""
        gathering = _Gathering(first, count)
        started = trio.current_time()
        while True:
            await self._gather(gathering)
            replies = dict(gathering.replies)
            outcome = await self._context.env.call(self._verify_and, work, gathering, replies)
            if not isinstance(outcome, _Corrupt):
                self._adapt(trio.current_time() - started)
                return outcome.value
            self._blame(gathering, outcome.shares)

    def runs(self, first: int, end: int) -> Iterator[tuple[int, int]]:
        """(first segment, count) of successive runs up to `end`; their length follows the speed of the line."""
        while first < end:
            count = min(self._run_segments, end - first)
            yield first, count
            first += count

    def _adapt(self, took_s: float) -> None:
        self._note_progress()
        longest = run_segments(self._k, RUN_BYTES)
        if took_s > LONG_RUN_S:
            self._run_segments = max(1, self._run_segments // 2)
        elif took_s < SHORT_RUN_S:
            self._run_segments = min(longest, 2 * self._run_segments)

    def _note_progress(self) -> None:
        self._last_progress = (trio.current_time(), self._context.throttle.received_bytes)

    async def read_data_leaves(self, first: int, count: int) -> list[bytes]:
        """Leaves of the data tree alone, proven; from whichever source answers first. TooFewShares when none does."""
        for source in sorted(self.sources.all(), key=lambda each: (each.failures, each.share)):
            if not source.usable:
                continue
            try:
                reply = await self._context.ask(source.contact, Read(self._file_id, source.share, first, count, False))
                return self._check_data(first, reply)
            except PeerError:
                source.failures += 1
            except CorruptDataLeaf:
                source.corrupt = True
        raise self._too_few(0)

    def _blame(self, gathering: _Gathering, shares: Iterable[int]) -> None:
        for share in shares:
            del gathering.replies[share]
            for source in self.sources.all():
                if source.share == share and id(source) in gathering.asked:
                    source.corrupt = True

    def _verify_and(
        self, work: Callable[[Run], T], gathering: _Gathering, replies: dict[int, Blocks]
    ) -> "_Value[T] | _Corrupt":
        """Check all blocks and the data leaves; then `work`. Runs in a worker."""
        first, count = gathering.first, gathering.count
        blocks: dict[int, list[Buffer]] = {}
        leaves: dict[int, list[bytes]] = {}
        data_leaves: list[bytes] | None = None
        corrupt: list[int] = []
        for share, reply in replies.items():
            try:
                column = _cut(reply.payload, [self.layout.block_bytes(first + at) for at in range(count)])
                leaves[share] = self.decoder.check_blocks(share, first, column, reply.share_proof)
                if data_leaves is None:
                    data_leaves = self._check_data(first, reply)
                blocks[share] = column
            except (CorruptBlock, CorruptDataLeaf, BadShareNumbers):
                corrupt.append(share)
        if corrupt or data_leaves is None:
            return _Corrupt(corrupt)
        try:
            return _Value(work(Run(self.decoder, first, count, blocks, leaves, data_leaves)))
        except NotACodeword as error:
            raise BadData(
                "Enough good shares answered, but they do not belong to one file: whoever published it made it so, "
                "by fault or on purpose. No holder is to blame, and no other copy will be better."
            ) from error

    def _check_data(self, first: int, reply: Blocks) -> list[bytes]:
        leaves = [reply.data_leaves[at : at + 32] for at in range(0, len(reply.data_leaves), 32)]
        self.decoder.check_data_leaves(first, leaves, reply.data_proof)
        return leaves

    async def _gather(self, gathering: _Gathering) -> None:
        """Collect replies until k distinct shares have answered for this run."""
        send, receive = trio.open_memory_channel[tuple[Source, Blocks | None]](math.inf)  # ≤ one item per source
        async with open_nursery() as nursery:
            busy: dict[int, int] = {}

            def start(sources: list[Source]) -> None:
                for source in sources:
                    gathering.asked.add(id(source))
                    busy[source.share] = busy.get(source.share, 0) + 1
                    nursery.start_soon(self._attempt, source, gathering, send.clone())

            extra = 0
            while len(gathering.replies) < self._k:
                missing = self._k + extra - len(gathering.replies) - sum(busy.values())
                if missing > 0:
                    start(self.sources.best(missing, gathering, busy_shares={*busy, *gathering.replies}))
                if not busy:
                    await self._exhausted(gathering)
                    continue
                outstanding = sum(busy.values())
                with trio.move_on_after(self._patience(crowded=2 * outstanding > self._k)) as patience:
                    source, reply = await receive.receive()
                    busy[source.share] -= 1
                    if not busy[source.share]:
                        del busy[source.share]
                    if reply is not None:
                        gathering.replies.setdefault(source.share, reply)
                if patience.cancelled_caught:
                    self._check_progress(gathering)
                    extra = min(self._k, extra + outstanding)
            nursery.cancel_scope.cancel()

    async def _attempt(
        self,
        source: Source,
        gathering: _Gathering,
        done: "trio.MemorySendChannel[tuple[Source, Blocks | None]]",
    ) -> None:
        started = trio.current_time()
        source.pending += 1
        reply: Blocks | None = None
        try:
            request = Read(self._file_id, source.share, gathering.first, gathering.count, True)
            reply = await self._context.ask(source.contact, request, timeout_s=READ_TIMEOUT_S)
            took = trio.current_time() - started
            self._durations.append(took)
            source.typical_s = took if not source.typical_s else 0.7 * source.typical_s + 0.3 * took
            self.received_bytes += len(reply.payload)
            self._note_progress()
        except PeerError:
            source.failures += 1
        finally:
            source.pending -= 1
            done.send_nowait((source, reply))
            done.close()

    def _patience(self, *, crowded: bool) -> float:
        """How long to wait for holders that lag before others are asked as well."""
        factor = CROWD_FACTOR if crowded else 1.0
        if len(self._durations) < 8:
            return factor * FIRST_PATIENCE_S
        return factor * max(LEAST_PATIENCE_S, PATIENCE_FACTOR * statistics.median(self._durations))

    def _check_progress(self, gathering: _Gathering) -> None:
        at, received = self._last_progress
        if self._context.throttle.received_bytes - received >= PROGRESS_BYTES:
            self._note_progress()
        elif trio.current_time() - at > PROGRESS_TIMEOUT_S:
            raise self._too_few(len(gathering.replies))

    async def _exhausted(self, gathering: _Gathering) -> None:
        """Every source has been asked. Look for further ones once; give up when there are none."""
        if not self._asked_for_more:
            self._asked_for_more = True
            if self.sources.add(await self._more()):
                return
        retry = {id(source) for source in self.sources.all() if source.usable and source.failures}
        if retry & gathering.asked:
            gathering.asked -= retry
            return
        good, corrupt = len(gathering.replies), len(self.sources.corrupt_shares())
        if corrupt and good + corrupt >= self._k:
            raise BadData(
                f"{good + corrupt} shares answered where {self._k} are needed, but {corrupt} of them hold wrong bytes. "
                "Nothing wrong was written. Try again later, when other holders may be back."
            )
        raise self._too_few(good)

    def _too_few(self, found: int) -> TooFewShares:
        total = self.decoder.manifest.n
        return TooFewShares(
            f"Only {found} of the {self._k} shares needed could be reached (the file has {total} in all). "
            "The other holders may be away; run the same command again later, it goes on where it stopped.",
            needed=self._k,
            found=found,
        )


@dataclass(frozen=True)
class _Corrupt:
    shares: list[int]


@dataclass(frozen=True)
class _Value(Generic[T]):
    value: T


def _cut(payload: Buffer, sizes: Sequence[int]) -> list[Buffer]:
    """The payload as blocks of the given sizes; a wrong total shows as blocks of wrong length."""
    view = memoryview(payload)
    blocks: list[Buffer] = []
    at = 0
    for size in sizes:
        blocks.append(view[at : at + size])
        at += size
    if at != len(view):
        blocks.append(view[at:])
    return blocks


async def in_order(
    jobs: Iterable[J], work: Callable[[J], Awaitable[T]], depth: int, out: "trio.MemorySendChannel[T]"
) -> None:
    """Run `work` on up to `depth` jobs at once and send the results in the jobs' order."""
    waiting: deque[trio.MemoryReceiveChannel[T]] = deque()

    async def run(job: J, result: "trio.MemorySendChannel[T]") -> None:
        result.send_nowait(await work(job))  # not closed on failure: whoever waits is to see the failure itself

    # `with` and not `async with`: closing with a checkpoint would let a cancellation overtake the failure
    with out:
        async with open_nursery() as nursery:
            for job in jobs:
                if len(waiting) >= depth:
                    await out.send(await waiting.popleft().receive())
                send, receive = trio.open_memory_channel[T](1)
                waiting.append(receive)
                nursery.start_soon(run, job, send)
            while waiting:
                await out.send(await waiting.popleft().receive())
