"""Making lost shares again from any k others, without a key, and putting them on new holders.

zfec is deterministic, so a rebuilt share is the share that was lost, byte for byte; the new holder checks it against
the manifest's root before it accepts it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping

import trio

from shoal.erasure import Frontier, Manifest, block_leaf, block_node
from shoal.node.channel import Buffer
from shoal.node.context import Context
from shoal.node.errors import NotOneFile
from shoal.node.fetching.reading import FileReader, Run, in_order
from shoal.node.holders.announcers import Hint
from shoal.node.holders.line import Line
from shoal.node.nursery import open_nursery
from shoal.node.publishing.lanes import SENDERS, Lane
from shoal.node.publishing.sealing import Batch, batch_segments
from shoal.values import dataclass

RUNS_AHEAD = 2


@dataclass(frozen=True)
class RebuiltColumn:
    """One segment's rebuilt blocks and their hashes, by share number."""

    blocks: Mapping[int, Buffer]
    leaves: Mapping[int, bytes]
    data_leaf: bytes


async def rebuild_onto(
    context: Context,
    manifest: Manifest,
    hints: Iterable[Hint],
    lanes: list[Lane],
    on_segments: Callable[[int], None] = lambda done: None,
) -> int:
    """Fill the lanes with their shares, read from where `hints` say that others are; share bytes received.

    Commits nothing. A lane that fails has its reason set; the others go on. TooFewShares or BadData when the shares
    do not suffice; NotOneFile when they, or a share made of them, are not what the manifest promises. `on_segments`
    hears how many segments are through.
    """

    async def none() -> list[Hint]:
        return []

    reader: FileReader[Batch] = FileReader(context, manifest, hints, none)
    wanted = [lane.share for lane in lanes]
    roots = {share: Frontier(block_node) for share in wanted}

    async def work(run: tuple[int, int]) -> Batch:
        return await reader.read(*run, lambda found: _rebuild(found, wanted))

    send, receive = trio.open_memory_channel[Batch](0)
    turns = trio.CapacityLimiter(SENDERS)
    runs = _shortened(reader.runs(0, manifest.layout.segment_count), batch_segments(max(len(wanted), manifest.k)))
    async with Line(context.throttle).watched() as line, open_nursery() as nursery:
        for lane in lanes:
            await nursery.start(lane.run, context, turns, line)
        nursery.start_soon(in_order, runs, work, RUNS_AHEAD, send)
        with receive:
            async for batch in receive:
                if not any(lane.alive for lane in lanes):
                    nursery.cancel_scope.cancel()
                    break
                _grow(roots, batch)
                for lane in lanes:
                    await lane.put(batch, False)
                on_segments(batch.end)
        for lane in lanes:
            lane.close()
    if any(lane.alive for lane in lanes):
        _check_roots(manifest, roots)
    return reader.received_bytes


def _shortened(runs: Iterable[tuple[int, int]], most: int) -> Iterator[tuple[int, int]]:
    """The same runs in pieces of at most `most` segments: what is made of a run may be larger than the run."""
    for first, count in runs:
        for at in range(first, first + count, most):
            yield at, min(most, first + count - at)


def _rebuild(run: Run, wanted: list[int]) -> Batch:
    columns = []
    for index in range(run.first, run.first + run.count):
        at = index - run.first
        run.segment(index)  # the shares must be one codeword before anything is made of them
        blocks = {share: column[at] for share, column in run.blocks.items()}
        made = run.decoder.rebuild(index, blocks, wanted)
        leaves = {share: block_leaf(block) for share, block in made.items()}
        columns.append(RebuiltColumn(made, leaves, run.data_leaves[at]))
    return Batch(run.first, columns, [], 0)


def _grow(roots: Mapping[int, Frontier], batch: Batch) -> None:
    for column in batch.segments:
        assert isinstance(column, RebuiltColumn), "the batches of a rebuild are made by `_rebuild`"
        for share, leaf in column.leaves.items():
            roots[share].append(leaf)


def _check_roots(manifest: Manifest, roots: Mapping[int, Frontier]) -> None:
    """A share that was made of good ones and misses its root was never one codeword with them: nobody's fault but the
    publisher's, and no holder should be asked to take it."""
    if any(frontier.root() != manifest.share_root(share) for share, frontier in roots.items()):
        raise NotOneFile
