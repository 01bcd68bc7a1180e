"""Announcing the files kept here: which classes are this node's to announce, now and after others have gone.

The rules of who announces what are in `announcers.py`. The DHT repeats by itself what it was told to keep announced.
"""

from collections.abc import Iterable, Mapping, Sequence

import trio

from shoal.dht import Announcement, NodeId, RecordKey
from shoal.erasure import FileId
from shoal.node.context import Context
from shoal.node.holders.announcers import (
    CLASSES,
    STAND_INS_DEEP,
    Hint,
    announcers,
    class_key,
    pack_announcement,
    slice_for,
)
from shoal.node.holders.known import KnownHolders, as_kept
from shoal.node.holders.statements import HolderStatement
from shoal.node.store import ShareStore, StoreError
from shoal.values import dataclass

STARTUP_PAGE = 200  # files whose announcements are taken up again at once after a start
# Anybody may ask a holder to announce, and it costs lookups. So the same is said again only after a while: soon when
# few nodes have stored it, else after the 48 h that a record lives, in which the DHT has renewed it by itself.
REPEAT_S = 60.0
REPEAT_WELL_KEPT_S = 48 * 3600.0
STAND_IN_EPOCHS = 2.5  # while an announcer is away, the holder that looks after the file asks for a stand-in each epoch
# An announcer may be away for some days before another stands in, while most others are there. What it announced is
# found for 18 h at least, and the others announce all the while. Most absences are over by then.
PATIENCE_EPOCHS = 2.5
MAX_REMEMBERED_COUNT = 4096  # some 300 bytes each
MAX_ANNOUNCING_COUNT = 4  # at once: each is several lookups


@dataclass(frozen=True, slots=True)
class _Said:
    """What was announced of a file on request: its fingerprint, when, and class -> (closest nodes, these stored)."""

    fingerprint: int
    at: float
    reports: dict[int, tuple[int, int]]

    def is_good_at(self, now: float) -> bool:
        """Whether there is no need to say it again."""
        well_kept = all(closest and 2 * stored >= closest for closest, stored in self.reports.values())
        return now - self.at <= (REPEAT_WELL_KEPT_S if well_kept else REPEAT_S)


class Announcing:
    """What one holder announces. `known` tells of the other holders; `me` is this node's id."""

    def __init__(self, context: Context, me: NodeId, store: ShareStore, known: KnownHolders) -> None:
        self._context = context
        self._env = context.env
        self._me = me
        self._store = store
        self._known = known
        self._at_once = trio.CapacityLimiter(MAX_ANNOUNCING_COUNT)
        self._announced: dict[bytes, _Said] = {}
        self.standing_in: dict[bytes, float] = {}  # since when nobody has asked for it again; at most the files kept
        self._asked: dict[bytes, tuple[float, float]] = {}  # to stand in: when first, and when last; likewise
        self._judged: dict[bytes, int] = {}  # with which holders the duties of a file were last looked at
        self._forgotten = 0  # how many files: shows whether one was forgotten while a worker read of it

    # --- on request

    async def announce(
        self,
        file_id: FileId,
        *,
        patient: bool = False,
        deep: int = STAND_INS_DEEP,
        known: Sequence[HolderStatement] | None = None,
    ) -> dict[int, tuple[int, int]] | None:
        """Announce now what is this node's to announce: class -> (closest nodes, of these stored).

        The peer that asks knows which of the first announcers are gone, so those next in rank announce as well. If it
        is `patient`, they do so only when they are asked in a fourth epoch. With `deep` 1 the first alone announce.
        `known` are the statements that are known, where the caller has read them already. None when this node keeps
        nothing of the file. Raises StoreError where the disk fails.
        """
        async with self._at_once:
            statements = await self._known.known(file_id) if known is None else known
            if not statements:
                return None
            if patient and not self._is_time_to_stand_in(file_id):
                deep = 1
            mine = self.of_statements(file_id, statements, deep=deep)
            if not mine:
                return {}
            fingerprint = hash(tuple(mine.items()))
            said = self._announced.pop(file_id, None)
            if said is None or said.fingerprint != fingerprint or not said.is_good_at(trio.current_time()):
                said = _Said(fingerprint, trio.current_time(), await self._announce(mine))
            self._announced[file_id] = said
            while len(self._announced) > MAX_REMEMBERED_COUNT:
                del self._announced[next(iter(self._announced))]
            if mine.keys() - self._duties(file_id, [each.node_id for each in statements]):
                self.standing_in[file_id] = trio.current_time()
            return said.reports

    def _is_time_to_stand_in(self, file_id: FileId) -> bool:
        """Whether peers have asked for it for a while, and lately."""
        now, epoch_s = trio.current_time(), self._context.network.epoch_s
        first, last = self._asked.get(file_id, (now, now))
        if now - last > STAND_IN_EPOCHS * epoch_s:
            first = now
        self._asked[file_id] = (first, now)
        return now - first >= PATIENCE_EPOCHS * epoch_s

    async def _announce(self, mine: Mapping[int, Announcement]) -> dict[int, tuple[int, int]]:
        reports = await self._context.dht.announce(list(mine.values()), from_table=True)
        for announcement, report in zip(mine.values(), reports, strict=True):
            self._context.dht.keep_announced([announcement], announced=report.is_well_kept)
        return {number: (report.closest, report.stored) for number, report in zip(mine, reports, strict=True)}

    # --- by itself

    async def take_up(self, file_id: FileId, *, if_new: bool = False) -> None:
        """Announce from now on what is this node's to announce and is not announced yet.

        It is for a share that was made again: nobody asks its holder to announce. With `if_new` nothing is looked at
        unless the known holders have changed since the last time. Raises StoreError where the disk fails.
        """
        forgotten = self._forgotten
        holders = hash(tuple(await self._env.call(self._store.holders, file_id)))
        if if_new and self._judged.get(file_id) == holders:
            return
        owed = await self._env.call(self._owed, file_id)
        if self._forgotten != forgotten:
            return  # perhaps this file was forgotten; if not, the next time does it
        if len(self._judged) >= MAX_REMEMBERED_COUNT:
            self._judged.clear()
        self._judged[file_id] = holders
        fresh = [each for each in owed.values() if not self._context.dht.is_announcing(each.key)]
        if fresh:
            self._context.dht.keep_announced(fresh)

    def _owed(self, file_id: FileId) -> dict[int, Announcement]:
        """What this node has to announce; nothing while it knows no other holder. Blocking.

        A node that is alone, or has a wrong clock, would otherwise take all classes for its own.
        """
        now = self._env.wall()
        if all(each.expires <= now for each in self._known.kept_of_others(file_id)):
            return {}
        return self.as_kept(file_id)

    async def review(self) -> None:
        """Stop standing in for announcers that are back: nobody has asked for it lately, and it is no duty here."""
        limit = trio.current_time() - STAND_IN_EPOCHS * self._context.network.epoch_s
        for file_id, asked_at in [each for each in self.standing_in.items() if each[1] < limit]:
            try:
                duties = await self._env.call(self.as_kept, FileId(file_id))
            except StoreError:
                continue  # the disk failed: the next review sees to it
            if self.standing_in.get(file_id) != asked_at:
                continue  # somebody has just asked for it again, or it is kept no longer
            del self.standing_in[file_id]
            for number in range(CLASSES):
                if number in duties:
                    self._context.dht.keep_announced([duties[number]])
                else:
                    self._context.dht.stop_announcing(class_key(FileId(file_id), number))

    async def resume(self) -> None:
        """After a start: announce again everything kept, page by page, at the DHT's own pace."""
        after = b""
        while page := await self._env.call(self._store.files, after, STARTUP_PAGE):
            self._context.dht.keep_announced(await self._env.call(self._resumed, [FileId(raw) for raw in page]))
            after = page[-1]

    def _resumed(self, file_ids: Sequence[FileId]) -> list[Announcement]:
        """What is to be announced of some files, from what is kept about them. Blocking."""
        found: list[Announcement] = []
        for file_id in file_ids:
            try:
                found += self.as_kept(file_id).values()
            except StoreError:
                continue  # found damaged just now; the others are still to be announced
        return found

    def forget(self, file_id: FileId) -> None:
        """A file is kept here no longer: announce it no more, and forget this node's statements on it."""
        self._forgotten += 1
        self.standing_in.pop(file_id, None)
        self._asked.pop(file_id, None)
        self._judged.pop(file_id, None)
        for number in range(CLASSES):
            self._context.dht.stop_announcing(class_key(file_id, number))
        self._known.forget(file_id)

    # --- what there is to announce

    def as_kept(self, file_id: FileId) -> dict[int, Announcement]:
        """What this node has to announce of a file, by class, from what its disk holds. Blocking.

        The statements were checked when they came. To check thousands of signatures again would make a start long,
        and readers of an announcement believe nothing in it.
        """
        now = self._env.wall()
        kept = [each for each in self._known.kept_of_others(file_id) if each.expires > now]
        if not self._duties(file_id, [NodeId(each.holder_id) for each in kept]):
            return {}
        shares = [held.share_number for held in self._store.held(file_id)]
        return self._announcements(file_id, shares, as_kept(kept)) if shares else {}

    def of_statements(
        self, file_id: FileId, statements: Iterable[HolderStatement], *, deep: int = 1
    ) -> dict[int, Announcement]:
        """The same from valid statements, this node's among them. `deep`: see `announcers`."""
        statements = list(statements)
        own_shares = [each.share for each in statements if each.node_id == self._me]
        others = [each for each in statements if each.node_id != self._me]
        return self._announcements(file_id, own_shares, others, deep=deep)

    def _duties(self, file_id: FileId, others: Iterable[NodeId], *, deep: int = 1) -> set[int]:
        """The classes for which this node announces a file; empty when others do."""
        chosen = announcers(file_id, {*others, self._me}, deep=deep)
        return {number for number, ids in chosen.items() if self._me in ids}

    def _announcements(
        self, file_id: FileId, own_shares: Sequence[int], others: Sequence[HolderStatement], *, deep: int = 1
    ) -> dict[int, Announcement]:
        ids = {each.node_id for each in others}
        mine = self._duties(file_id, ids, deep=deep)
        if not mine:
            return {}
        chosen = announcers(file_id, ids | {self._me})
        order = list(dict.fromkeys(node_id for number in sorted(chosen) for node_id in chosen[number]))
        named = slice_for(self._me, order, [Hint(each.share, each.contact) for each in others])
        payload = pack_announcement(own_shares, named)
        return {number: Announcement(RecordKey(class_key(file_id, number)), payload) for number in sorted(mine)}
