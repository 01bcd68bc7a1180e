"""Reading a file's segments back from its holders: any k good shares, verified before use.

A run of segments is fetched from k shares at once, data shares first, so that a healthy fetch decodes nothing
(`gathering.py` says who is asked and when). Everything is checked against the manifest, so a holder can withhold and
nothing more.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Generic, TypeVar

import trio

from shoal.erasure import (
    BLOCK_BYTES,
    BadShareNumbers,
    CorruptBlock,
    CorruptDataLeaf,
    Manifest,
    NotACodeword,
    SegmentDecoder,
    split_nodes,
)
from shoal.node.channel import Blocks, Buffer
from shoal.node.context import Context
from shoal.node.errors import NotOneFile
from shoal.node.fetching.gathering import Gathering, More, SourceTable, Swarm
from shoal.node.holders.announcers import Hint
from shoal.node.nursery import open_nursery
from shoal.values import dataclass

T = TypeVar("T")
J = TypeVar("J")
C = TypeVar("C")

RUN_BYTES = 8 * 2**20  # ciphertext of the longest run of segments; RUNS_AHEAD are in memory, twice while decoding
FIRST_RUN_BYTES = 2**20  # of the first run, before the line's speed is known
LONG_RUN_S, SHORT_RUN_S = 5.0, 1.5  # runs that take longer are made shorter, and the other way round
MAX_RUN_SEGMENTS = 16  # blocks of one share in one read request: 1 MiB
RUNS_AHEAD = 3


def run_segments(k: int, run_bytes: int) -> int:
    """How many segments make a run of about `run_bytes` for k needed shares."""
    return max(1, min(MAX_RUN_SEGMENTS, run_bytes // (k * BLOCK_BYTES)))


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


@dataclass(frozen=True)
class _Corrupt:
    shares: list[int]


@dataclass(frozen=True)
class _Value(Generic[T]):
    value: T


class FileReader(Generic[T]):
    """Fetches runs of segments. `more` finds further holders when the known ones do not suffice."""

    def __init__(self, context: Context, manifest: Manifest, hints: Iterable[Hint], more: More) -> None:
        self._env = context.env
        self._k = manifest.k
        self._swarm = Swarm(context, manifest, hints, more)
        self.decoder = SegmentDecoder(manifest, context.codec)
        self.layout = manifest.layout
        self._run_segments = run_segments(manifest.k, FIRST_RUN_BYTES)

    @property
    def sources(self) -> SourceTable:
        """The peers that may deliver shares, and which."""
        return self._swarm.sources

    @property
    def received_bytes(self) -> int:
        """Share bytes received, right and wrong."""
        return self._swarm.received_bytes

    @property
    def run_segments(self) -> int:
        """How many segments make a run at the speed of the line."""
        return self._run_segments

    async def read(self, first: int, count: int, work: Callable[[Run], T]) -> T:
        """`work(run)` on verified blocks, called in a worker. TooFewShares or BadData when it cannot be had."""
        started = trio.current_time()
        gathering = Gathering(self._swarm, first, count, needed=self._k)
        result = await self._checked(gathering, lambda replies: self._verify_and(work, first, count, replies))
        self._adapt(trio.current_time() - started)
        return result

    async def read_data_leaves(self, first: int, count: int) -> list[bytes]:
        """Leaves of the data tree alone, proven; from whichever source answers first. TooFewShares when none does."""
        gathering = Gathering(self._swarm, first, count, needed=1, want_data=False)
        return await self._checked(gathering, lambda replies: self._verify_leaves(first, count, replies))

    async def _checked(self, gathering: Gathering, check: Callable[[Mapping[int, Blocks]], _Value[C] | _Corrupt]) -> C:
        """Collect and check, in a worker, until what was collected is right."""
        while True:
            await gathering.collect()
            replies = {share: answer.reply for share, answer in gathering.answers.items()}
            outcome = await self._env.call(check, replies)
            if not isinstance(outcome, _Corrupt):
                gathering.confirm()
                return outcome.value
            gathering.blame(outcome.shares)

    def runs(self, first: int, end: int) -> Iterator[tuple[int, int]]:
        """(first segment, count) of successive runs up to `end`; their length follows the speed of the line."""
        while first < end:
            count = min(self._run_segments, end - first)
            yield first, count
            first += count

    def _adapt(self, took_s: float) -> None:
        self._swarm.pace.note_progress()
        longest = run_segments(self._k, RUN_BYTES)
        if took_s > LONG_RUN_S:
            self._run_segments = max(1, self._run_segments // 2)
        elif took_s < SHORT_RUN_S:
            self._run_segments = min(longest, 2 * self._run_segments)

    def _verify_and(
        self, work: Callable[[Run], T], first: int, count: int, replies: Mapping[int, Blocks]
    ) -> _Value[T] | _Corrupt:
        """Check all blocks and the data leaves; then `work`. Runs in a worker."""
        blocks: dict[int, list[Buffer]] = {}
        leaves: dict[int, list[bytes]] = {}
        data_leaves: list[bytes] | None = None
        corrupt: list[int] = []
        for share, reply in replies.items():
            try:
                column = cut(reply.payload, [self.layout.block_bytes(first + at) for at in range(count)])
                leaves[share] = self.decoder.check_blocks(share, first, column, reply.share_proof)
                if data_leaves is None:
                    data_leaves = self._check_data(first, count, reply)
                blocks[share] = column
            except (CorruptBlock, CorruptDataLeaf, BadShareNumbers):
                corrupt.append(share)
        if corrupt or data_leaves is None:
            return _Corrupt(corrupt)
        try:
            return _Value(work(Run(self.decoder, first, count, blocks, leaves, data_leaves)))
        except NotACodeword as error:
            raise NotOneFile from error

    def _verify_leaves(self, first: int, count: int, replies: Mapping[int, Blocks]) -> _Value[list[bytes]] | _Corrupt:
        ((share, reply),) = replies.items()
        try:
            return _Value(self._check_data(first, count, reply))
        except CorruptDataLeaf:
            return _Corrupt([share])

    def _check_data(self, first: int, count: int, reply: Blocks) -> list[bytes]:
        leaves = split_nodes(reply.data_leaves)
        if len(leaves) != count:  # a proof of fewer may be valid
            raise CorruptDataLeaf(first, count)
        self.decoder.check_data_leaves(first, leaves, reply.data_proof)
        return leaves


def cut(payload: Buffer, sizes: Sequence[int]) -> list[Buffer]:
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
