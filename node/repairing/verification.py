"""Reading every block of every share that was found good, in bounded memory: `shoal check --verify`.

All holders are read at the same time, a run of blocks each, and only so many runs are in memory. A run is proven and
forgotten. No deadline fits all lines, so a holder is given up when it takes far longer than the others do, or when
nothing moves at all.
"""

import statistics
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import trio

from shoal.erasure import CorruptBlock, SegmentDecoder
from shoal.node.channel import MAX_BLOCKS_COUNT, Blocks, PeerError, Read
from shoal.node.context import Context
from shoal.node.fetching.reading import cut
from shoal.node.holders.outcome import Outcome
from shoal.node.holders.tally import Finding
from shoal.node.nursery import open_nursery
from shoal.node.repairing.audit import Audited, outcome_of

READS_AT_ONCE = 24  # runs in memory: 24 MiB, and as much again while they are hashed
READ_TIMEOUT_S = 300.0  # the last resort
STALL_S = 30.0  # a read that takes longer is looked at
STALL_FACTOR = 8.0  # times what reads take at the moment
LOOK_EVERY_S = 5.0
TRICKLE_BYTES = 16 * 1024  # less than this in LOOK_EVERY_S, and our line is idle


@dataclass(eq=False)
class _Read:
    since: float
    scope: trio.CancelScope


class Verification:
    """Goes through the good findings of an audit and corrects them. `on_bytes` hears of every run that was proven."""

    def __init__(self, context: Context, audited: Audited, on_bytes: Callable[[int], None]) -> None:
        self._context = context
        self._audited = audited
        self._on_bytes = on_bytes
        self._layout = audited.manifest.layout
        self._decoder = SegmentDecoder(audited.manifest, context.codec)
        self._turns = trio.CapacityLimiter(READS_AT_ONCE)
        self._durations: deque[float] = deque(maxlen=64)
        self._reads: set[_Read] = set()

    async def run(self) -> None:
        """Until every share is through."""
        async with open_nursery() as watch:
            watch.start_soon(self._give_up_stalled)
            async with open_nursery() as nursery:
                for finding in self._audited.tally.good:
                    nursery.start_soon(self._verify, finding)
            watch.cancel_scope.cancel()

    async def _verify(self, finding: Finding) -> None:
        for first in range(0, self._layout.segment_count, MAX_BLOCKS_COUNT):
            count = min(MAX_BLOCKS_COUNT, self._layout.segment_count - first)
            async with self._turns:
                outcome = await self._read(finding, first, count)
            if outcome is not Outcome.OK:
                self._audited.note(Finding(finding.share, finding.contact, outcome, finding.lease_end))
                return

    async def _read(self, finding: Finding, first: int, count: int) -> Outcome:
        request = Read(self._audited.manifest.id, finding.share, first, count, True)
        read = _Read(trio.current_time(), trio.CancelScope())
        self._reads.add(read)
        try:
            with read.scope:
                reply = await self._context.ask(finding.contact, request, timeout_s=READ_TIMEOUT_S)
                self._durations.append(trio.current_time() - read.since)
                outcome = await self._context.env.call(self._judge, finding.share, first, count, reply)
                self._audited.read_bytes += len(reply.payload)
                self._on_bytes(len(reply.payload))
                return outcome
            return Outcome.STALLED
        except PeerError as error:
            return outcome_of(error, answered=True)
        finally:
            self._reads.discard(read)

    def _judge(self, share: int, first: int, count: int, reply: Blocks) -> Outcome:
        """Called in a worker."""
        try:
            blocks = cut(reply.payload, [self._layout.block_bytes(first + at) for at in range(count)])
            self._decoder.check_blocks(share, first, blocks, reply.share_proof)
        except CorruptBlock:
            return Outcome.WRONG
        return Outcome.OK

    async def _give_up_stalled(self) -> None:
        received = self._context.throttle.received_bytes
        while True:
            await trio.sleep(LOOK_EVERY_S)
            is_idle = self._context.throttle.received_bytes - received < TRICKLE_BYTES
            received = self._context.throttle.received_bytes
            usual_s = statistics.median(self._durations) if self._durations else READ_TIMEOUT_S
            limit = STALL_S if is_idle else max(STALL_S, STALL_FACTOR * usual_s)
            for read in self._reads:
                if trio.current_time() - read.since > limit:
                    read.scope.cancel()
