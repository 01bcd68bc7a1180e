"""Making lost shares again from any k others, without a key, and putting them on new holders.

zfec is deterministic, so a rebuilt share is the share that was lost, byte for byte; the new holder checks it against
the manifest's root before it accepts it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import trio

from shoal.dht import Contact
from shoal.erasure import Manifest
from shoal.node.announcers import Hint
from shoal.node.channel import Buffer
from shoal.node.context import Context
from shoal.node.lanes import Lane
from shoal.node.nursery import open_nursery
from shoal.node.reading import FileReader, Run, in_order
from shoal.node.sealing import Batch
from shoal.node.stalls import SENDERS, drop_stalled
from shoal.node.statements import HolderStatement

RUNS_AHEAD = 2


@dataclass(frozen=True)
class RebuiltColumn:
    """One segment's rebuilt blocks, by share number."""

    blocks: Mapping[int, Buffer]
    data_leaf: bytes


async def rebuild_onto(
    context: Context, manifest: Manifest, holders: Iterable[HolderStatement], lanes: list[Lane]
) -> None:
    """Fill the lanes with their shares, read from `holders`. TooFewShares or BadData when those do not suffice.

    Commits nothing. A lane that fails has its reason set; the others go on.
    """
    hints = [Hint(each.share, Contact(each.node_id, each.address)) for each in holders]

    async def none() -> list[Hint]:
        return []

    reader: FileReader[Batch] = FileReader(context, manifest, hints, none)
    total = manifest.layout.segment_count
    wanted = [lane.share for lane in lanes]

    async def work(run: tuple[int, int]) -> Batch:
        return await reader.read(*run, lambda found: _rebuild(found, wanted))

    send, receive = trio.open_memory_channel[Batch](0)
    turns = trio.CapacityLimiter(SENDERS)
    async with open_nursery() as watch:
        watch.start_soon(drop_stalled, lanes, context.throttle)
        async with open_nursery() as nursery:
            for lane in lanes:
                await nursery.start(lane.run, context, turns)
            nursery.start_soon(in_order, reader.runs(0, total), work, RUNS_AHEAD, send)
            with receive:
                async for batch in receive:
                    for lane in lanes:
                        await lane.put(batch, False)
            for lane in lanes:
                lane.close()
        watch.cancel_scope.cancel()


def _rebuild(run: Run, wanted: list[int]) -> Batch:
    columns = []
    for index in range(run.first, run.first + run.count):
        at = index - run.first
        run.segment(index)  # the shares must be one codeword before anything is made of them
        blocks = {share: column[at] for share, column in run.blocks.items()}
        columns.append(RebuiltColumn(run.decoder.rebuild(index, blocks, wanted), run.data_leaves[at]))
    return Batch(run.first, columns, [], 0)
