"""Leaving in order: a volunteer that goes for good hands its shares over first, so that nothing has to be rebuilt.

A share is copied from the own disk, under its lease, to a host that keeps nothing of the file, and the other holders
are told. One that another host has proven to keep needs no second copy: so a leave that was interrupted goes on where
it stopped. What nobody takes stays here, and the others rebuild it in time as after any loss.

Whoever believed its clock alone would leave everything behind where that is far ahead. So the peers' clocks are asked
for first: only where they bear out that a lease has ended is its share left; and where ours misleads, theirs are used.
"""

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from enum import Enum, auto
from typing import TypeAlias

import trio

from shoal.dht import Contact
from shoal.erasure import FileId, Manifest, split_nodes
from shoal.node.care.clocks import ask_clocks
from shoal.node.channel import Buffer
from shoal.node.context import Context
from shoal.node.errors import NotOneFile
from shoal.node.formats import MAX_LEASE_S
from shoal.node.holders.announcers import Hint
from shoal.node.holders.known import KnownHolders
from shoal.node.holders.line import Line
from shoal.node.holders.outcome import Outcome
from shoal.node.holders.placement import counted_host, gather
from shoal.node.holders.search import Search
from shoal.node.holders.statements import MAX_SKEW_S, HolderStatement, MalformedStatement, pack_statements
from shoal.node.holders.tally import Finding, Tally
from shoal.node.nursery import open_nursery
from shoal.node.publishing.lanes import DropReason, Lane
from shoal.node.publishing.recruit import Recruiter
from shoal.node.publishing.sealing import Batch
from shoal.node.publishing.settling import Settling
from shoal.node.repairing.audit import Audit
from shoal.node.results import Left, OnProgress, Phase, Progress
from shoal.node.store import MAX_READ_BLOCKS, HeldFile, HeldShare, ShareStore, StoreError, split_blocks
from shoal.values import dataclass

PAGE_FILES = 100  # between two looks at who has room
LEAST_LEASE_S = 3600  # a share whose lease ends sooner is not worth the way; and the least that others are asked for
CANDIDATES = 100
HOSTS_TRIED = 4  # for one share, of those that agreed to take it; so many failures in a row are more likely ours
FILES_AT_ONCE = 4  # a small share is mostly waiting: for its host's disk, for those who are told, for the announcers


Task: TypeAlias = tuple[HeldFile, list[Contact]]
"""A file, and the hosts to choose from for its shares; the list is the same one for all files of a page."""


class Fate(Enum):
    """What becomes of a share."""

    HANDED_OVER = auto()
    ELSEWHERE = auto()  # another host has proven to keep it
    ENDING = auto()  # so is its lease, by our clock and those of our peers: nobody misses it
    REMAINING = auto()


@dataclass(frozen=True)
class StoredColumn:
    """One segment of one share, as it lies in the store."""

    blocks: Mapping[int, Buffer]
    data_leaf: bytes


class Leaver:
    """Hands over everything that a store keeps. The node goes on serving meanwhile."""

    def __init__(
        self, context: Context, store: ShareStore, known_holders: KnownHolders, on_progress: OnProgress | None
    ) -> None:
        self._context = context
        self._env = context.env
        self._store = store
        self._known_holders = known_holders
        self._on_progress = on_progress
        self._fates: Counter[Fate] = Counter()
        self._sent_bytes = 0
        self._refusals: Counter[DropReason] = Counter()
        # One sends at a time, in turns: together they get no more out of our line, and one that stalls is told by an
        # idle line, which others that send would hide.
        self._turns = trio.CapacityLimiter(1)
        self._ahead_s = 0.0  # by so much our clock misleads
        self._is_clock_borne_out = False

    async def run(self) -> Left:
        """All shares: a few files at a time, the shares of one file one after another, on a host each."""
        await self._compare_clocks()
        total = (await self._env.call(self._store.usage)).shares
        send, receive = trio.open_memory_channel[Task](0)
        with receive:
            async with open_nursery() as nursery:
                for _ in range(FILES_AT_ONCE):
                    nursery.start_soon(self._work, receive, total)
                with send:
                    async for page in self._pages():
                        candidates = await gather(self._context, CANDIDATES)
                        for file in page:
                            await send.send((file, candidates))
        return Left(
            handed_over=self._fates[Fate.HANDED_OVER],
            elsewhere=self._fates[Fate.ELSEWHERE],
            ending=self._fates[Fate.ENDING],
            remaining=self._fates[Fate.REMAINING],
            sent_bytes=self._sent_bytes,
            refusals={reason.value: count for reason, count in self._refusals.items()},
        )

    async def _compare_clocks(self) -> None:
        """Ask some peers. What even a few say of the time is better for promises than a clock that they contradict."""
        clocks, now = await ask_clocks(self._context), trio.current_time()
        self._is_clock_borne_out = clocks.agrees(now)
        peers_ahead_s = clocks.peers_ahead_s(now, least=1) or 0.0
        if abs(peers_ahead_s) > MAX_SKEW_S:
            self._ahead_s, ours = -peers_ahead_s, self._env.wall
            self._env = replace(self._env, wall=lambda: ours() + peers_ahead_s)
            self._context = replace(self._context, env=self._env)
            self._known_holders = self._known_holders.by_clock(self._context)

    def _left_s(self, held: HeldShare) -> int:
        """Of a share's lease: by our own clock or the peers', whichever says more."""
        return int(held.lease_end - self._env.wall() - min(0.0, self._ahead_s))

    async def _work(self, tasks: "trio.MemoryReceiveChannel[Task]", total: int) -> None:
        async for file, candidates in tasks:
            for held in file.shares:
                fate = await self._leave(FileId(file.file_id), held, candidates)
                self._fates[fate] += 1
                self._report(total)

    def _report(self, total: int) -> None:
        if self._on_progress is not None:
            done = self._fates.total() - self._fates[Fate.REMAINING]
            self._on_progress(Progress(Phase.SENDING, self._sent_bytes, shares=done, wanted_shares=total))

    async def _pages(self) -> AsyncIterator[list[HeldFile]]:
        after = b""
        while page := await self._env.call(self._store.files_page, after, PAGE_FILES):
            yield page
            after = page[-1].file_id

    async def _leave(self, file_id: FileId, held: HeldShare, candidates: list[Contact]) -> Fate:
        """See to one share."""
        left_s = self._left_s(held)
        if left_s < LEAST_LEASE_S and self._is_clock_borne_out:
            return Fate.ENDING
        lease_s = max(LEAST_LEASE_S, min(MAX_LEASE_S, left_s))
        try:
            encoded = await self._env.call(self._store.manifest, file_id)
            known = await self._known_holders.known(file_id)
        except StoreError:
            return Fate.REMAINING
        if encoded is None:  # given up meanwhile: its owner has deleted it, say
            return Fate.ENDING
        manifest = Manifest.decode(encoded)
        if self._ahead_s and not self._others(known):
            known = [*known, *await self._sought(manifest)]
        if await self._is_elsewhere(manifest, held.share_number, self._others(known)):
            return Fate.ELSEWHERE
        is_taken = await self._hand_over(manifest, held.share_number, lease_s, known, candidates)
        return Fate.HANDED_OVER if is_taken else Fate.REMAINING

    async def _sought(self, manifest: Manifest) -> list[HolderStatement]:
        """What others state: by our clock it was all old, and may not have been kept."""
        return (await Search(self._context, manifest.id, manifest=manifest).run(thorough=True)).statements

    async def _is_elsewhere(self, manifest: Manifest, share: int, others: Sequence[HolderStatement]) -> bool:
        """Whether the share has a host of its own without us, which proves it by a block."""
        said = [Finding(each.share, each.contact, Outcome.OK) for each in others]
        if share not in Tally(manifest.k, manifest.n, said, self._context.network.private).placed():
            return False
        hints = [Hint(share, each.contact) for each in others if each.share == share]
        try:
            audited = await Audit(self._context, manifest).run(hints, look_further=False)
        except NotOneFile:
            return True  # no file at all: no copy is worth making
        return any(each.share == share for each in audited.tally.good)

    async def _hand_over(
        self,
        manifest: Manifest,
        share: int,
        lease_s: int,
        known: Sequence[HolderStatement],
        candidates: list[Contact],
    ) -> bool:
        """Whether another host keeps the share now: one that nobody names, or else one that is named falsely."""
        settling = Settling(self._context, manifest, lease_s=lease_s, statements=self._others(known))
        named = [each.contact for each in known]
        is_taken = await self._hand_to_one_of(candidates, named, settling, manifest, share, lease_s)
        if is_taken is None:
            free = await self._named_falsely(manifest, candidates, known)
            is_taken = bool(free) and await self._hand_to_one_of(free, (), settling, manifest, share, lease_s)
        return bool(is_taken)

    async def _named_falsely(
        self, manifest: Manifest, candidates: Iterable[Contact], known: Sequence[HolderStatement]
    ) -> list[Contact]:
        """Candidates at whose hosts others are said to keep something, where none of those answers.

        Anybody can state any address, and would keep everybody at it from being asked.
        """
        names = {each.node_id for each in known}
        others = [each for each in candidates if each.node_id not in names]
        hosts = {self._host(each) for each in others}
        said = [each for each in self._others(known) if self._host(each.contact) in hosts]
        if not said:
            return []
        try:
            audit = Audit(self._context, manifest)
            audited = await audit.run([Hint(each.share, each.contact) for each in said], look_further=False)
        except NotOneFile:
            return []  # no copy is worth making
        answered = {
            self._host(each.contact) for each in audited.tally.findings if each.outcome is not Outcome.OFFLINE
        } | {self._host(each.contact) for each in known if each.node_id == self._context.dht.identity.node_id}
        return [each for each in others if self._host(each) not in answered]

    def _host(self, contact: Contact) -> bytes:
        return counted_host(self._context, contact)

    async def _hand_to_one_of(
        self,
        candidates: list[Contact],
        taken: Sequence[Contact],
        settling: Settling,
        manifest: Manifest,
        share: int,
        lease_s: int,
    ) -> bool | None:
        """Whether a host that is not `taken` keeps the share now; None where none agrees.

        One that agrees and then fails is taken off the candidates.
        """
        share_bytes = manifest.layout.share_bytes
        recruiter = Recruiter(self._context, candidates, share_bytes, self._env.rng, once=True)
        recruiter.exclude(taken)
        recruiter.exclude_ids(each.node_id for each in taken)
        for _ in range(HOSTS_TRIED):
            lanes = await recruiter.recruit([share], share_bytes, lease_s)
            if not lanes:
                self._refusals |= recruiter.refusals
                return None
            lane = lanes[0]
            await self._send(manifest, lane)
            await settling.commit(lanes)
            self._sent_bytes += lane.sent_bytes
            if lane.alive:
                await self._make_known(manifest.id, settling)
                return True
            if lane.reason == DropReason.OUR_DISK_FAILED:
                return False
            candidates[:] = [each for each in candidates if each.node_id != lane.contact.node_id]
        return False

    def _others(self, known: Iterable[HolderStatement]) -> list[HolderStatement]:
        return [each for each in known if each.node_id != self._context.dht.identity.node_id]

    async def _make_known(self, file_id: FileId, settling: Settling) -> None:
        """Tell the holders and the network who has taken the share, and note it: nobody is asked a second time."""
        with suppress(StoreError, MalformedStatement):  # then the next look asks the holders
            await self._known_holders.learn(file_id, pack_statements(each.signed for each in settling.statements))
        await settling.settle()

    async def _send(self, manifest: Manifest, lane: Lane) -> None:
        """The share's blocks, from our disk into the lane; a disk that fails ends the lane."""
        total = manifest.layout.segment_count
        async with Line(self._context.throttle).watched() as line, open_nursery() as nursery:
            await nursery.start(lane.run, self._context, self._turns, line)
            for first in range(0, total, MAX_READ_BLOCKS):
                try:
                    await lane.put(await self._batch(manifest, lane.share, first, total), False)
                except StoreError:
                    lane.drop(DropReason.OUR_DISK_FAILED)
                    break
            lane.close()

    async def _batch(self, manifest: Manifest, share: int, first: int, total: int) -> Batch:
        count = min(MAX_READ_BLOCKS, total - first)
        found = await self._env.call(self._store.read, manifest.id, share, first, count, True)
        leaves = split_nodes(found.data_leaves)
        blocks = split_blocks(found.blocks)
        columns = [StoredColumn({share: block}, leaf) for block, leaf in zip(blocks, leaves, strict=True)]
        return Batch(first, columns, [], 0)
