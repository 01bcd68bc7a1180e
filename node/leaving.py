"""Leaving in order: a volunteer that goes for good hands its shares over first, so that nothing has to be rebuilt.

A share is copied from the own disk, under its lease, to a host that keeps nothing of the file, and the other holders
are told. What nobody takes stays here, and the others rebuild it in time as after any loss.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

import trio

from shoal.dht import Contact
from shoal.erasure import FileId, Manifest
from shoal.node.channel import Buffer
from shoal.node.companions import Companions
from shoal.node.context import Context
from shoal.node.lanes import Lane
from shoal.node.nursery import open_nursery
from shoal.node.placement import gather
from shoal.node.recruit import Recruiter
from shoal.node.results import Left, OnProgress, Phase, Progress
from shoal.node.sealing import Batch
from shoal.node.settling import Settling
from shoal.node.stalls import drop_stalled
from shoal.node.store import MAX_READ_BLOCKS, HeldFile, HeldShare, ShareStore, StoreError, split_blocks

PAGE_FILES = 100  # between two looks at who has room
LEAST_LEASE_S = 3600  # a share whose lease ends sooner is not worth the way
CANDIDATES = 100


@dataclass(frozen=True)
class StoredColumn:
    """One segment of one share, as it lies in the store."""

    blocks: Mapping[int, Buffer]
    data_leaf: bytes


class Leaver:
    """Hands over everything that a store keeps. The node goes on serving meanwhile."""

    def __init__(
        self, context: Context, store: ShareStore, companions: Companions, on_progress: OnProgress | None
    ) -> None:
        self._context = context
        self._env = context.env
        self._store = store
        self._companions = companions
        self._on_progress = on_progress
        self._handed = self._kept = self._sent_bytes = 0

    async def run(self) -> Left:
        """All shares, file by file."""
        async for page in self._pages():
            candidates = await gather(self._context, CANDIDATES)
            for file in page:
                for held in file.shares:
                    if await self._hand_over(FileId(file.file_id), held, candidates):
                        self._handed += 1
                    else:
                        self._kept += 1
                    self._report()
        return Left(self._handed, self._kept, self._sent_bytes)

    def _report(self) -> None:
        if self._on_progress is not None:
            total = self._handed + self._kept
            self._on_progress(Progress(Phase.SENDING, self._sent_bytes, None, self._handed, total, self._handed))

    async def _pages(self) -> AsyncIterator[list[HeldFile]]:
        after = b""
        while page := await self._env.call(self._store.files_page, after, PAGE_FILES):
            yield page
            after = page[-1].file_id

    async def _hand_over(self, file_id: FileId, held: HeldShare, candidates: list[Contact]) -> bool:
        """Whether another host keeps the share now."""
        lease_s = int(held.lease_end - self._env.wall())
        encoded = await self._env.call(self._store.manifest, file_id)
        if encoded is None or lease_s < LEAST_LEASE_S:
            return False
        manifest = Manifest.decode(encoded)
        others = await self._companions.known(file_id)
        share_bytes = manifest.layout.share_bytes
        recruiter = Recruiter(self._context, candidates, share_bytes, self._env.rng)
        recruiter.exclude(each.contact for each in others)
        lanes = await recruiter.recruit([held.share_number], share_bytes, lease_s)
        if not lanes:
            return False
        await self._send(manifest, lanes[0])
        me = self._context.dht.identity.node_id
        staying = [each for each in others if each.node_id != me]
        settling = Settling(self._context, manifest, lease_s=lease_s, statements=staying)
        await settling.commit(lanes)
        self._sent_bytes += lanes[0].sent_bytes
        if not lanes[0].alive:
            return False
        await settling.tell()
        await settling.announce()
        return True

    async def _send(self, manifest: Manifest, lane: Lane) -> None:
        """The share's blocks, from our disk into the lane; a disk that fails ends the lane."""
        total = manifest.layout.segment_count
        async with open_nursery() as watch:
            watch.start_soon(drop_stalled, [lane], self._context.throttle)
            async with open_nursery() as nursery:
                await nursery.start(lane.run, self._context, trio.CapacityLimiter(1))
                for first in range(0, total, MAX_READ_BLOCKS):
                    try:
                        await lane.put(await self._batch(manifest, lane.share, first, total), False)
                    except StoreError:
                        lane.drop("our disk failed")
                        break
                lane.close()
            watch.cancel_scope.cancel()

    async def _batch(self, manifest: Manifest, share: int, first: int, total: int) -> Batch:
        count = min(MAX_READ_BLOCKS, total - first)
        found = await self._env.call(self._store.read, manifest.id, share, first, count, True)
        leaves = [found.data_leaves[at : at + 32] for at in range(0, len(found.data_leaves), 32)]
        blocks = split_blocks(found.blocks)
        columns = [StoredColumn({share: block}, leaf) for block, leaf in zip(blocks, leaves, strict=True)]
        return Batch(first, columns, [], 0)
