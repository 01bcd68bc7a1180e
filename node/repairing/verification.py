"""Reading every block of every share that was found good, in bounded memory: `shoal check --verify`.

All holders are read at the same time, a run of blocks each, and only so many runs are in memory. A run is proven and
forgotten. `Line` says which holders stall.
"""

from collections.abc import Callable

import trio

from shoal.erasure import BLOCK_BYTES, CorruptBlock, SegmentDecoder
from shoal.node.channel import MAX_BLOCKS_COUNT, Blocks, PeerError, Read
from shoal.node.context import BUSY_PATIENCE_S, Context
from shoal.node.fetching.reading import cut
from shoal.node.holders.line import LONGEST_S, Line
from shoal.node.holders.outcome import Outcome
from shoal.node.holders.tally import Finding
from shoal.node.nursery import open_nursery
from shoal.node.repairing.audit import Audited, outcome_of

READS_AT_ONCE = 24  # runs in memory: 24 MiB, and as much again while they are hashed


class Verification:
    """Goes through the good findings of an audit and corrects them. `on_bytes` hears of every run that was proven."""

    def __init__(self, context: Context, audited: Audited, on_bytes: Callable[[int], None]) -> None:
        self._context = context
        self._audited = audited
        self._on_bytes = on_bytes
        self._layout = audited.manifest.layout
        self._decoder = SegmentDecoder(audited.manifest, context.codec)
        self._turns = trio.CapacityLimiter(READS_AT_ONCE)
        self._line = Line(context.throttle)

    async def run(self) -> None:
        """Until every share is through."""
        async with self._line.watched(), open_nursery() as nursery:
            for finding in self._audited.tally.good:
                nursery.start_soon(self._verify, finding)

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
        try:
            with self._line.request(count * BLOCK_BYTES):
                reply = await self._context.ask(
                    finding.contact, request, timeout_s=LONGEST_S, patience_s=BUSY_PATIENCE_S
                )
        except PeerError as error:
            return outcome_of(error, answered=True)
        outcome = await self._context.env.call(self._judge, finding.share, first, count, reply)
        self._audited.read_bytes += len(reply.payload)
        self._on_bytes(len(reply.payload))
        return outcome

    def _judge(self, share: int, first: int, count: int, reply: Blocks) -> Outcome:
        """Called in a worker."""
        try:
            blocks = cut(reply.payload, [self._layout.block_bytes(first + at) for at in range(count)])
            self._decoder.check_blocks(share, first, blocks, reply.share_proof)
        except CorruptBlock:
            return Outcome.WRONG
        return Outcome.OK
