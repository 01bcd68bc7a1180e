"""The other holders of the files kept here: what this node knows of them, tells of itself, and announces.

Holders name each other in signed statements (`statements.py`). Whoever asks for a file's holders gets our own
statements, made now, and the newest valid ones of others.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import trio

from shoal.dht import Address, Announcement, Contact, Identity, NodeId, RecordKey
from shoal.erasure import MAX_SHARES, FileId, Manifest
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
from shoal.node.holders.refresh import GOOD_S, LOOKS
from shoal.node.holders.statements import (
    LIFETIME_S,
    MAX_STATEMENTS,
    HolderStatement,
    MalformedStatement,
    StatementChecker,
    make_statement,
    newest_by_share,
    unchecked_statement,
    unpack_statements,
)
from shoal.node.store import HeldShare, KeptStatement, ShareStore, StoreError

STARTUP_PAGE = 200  # files whose announcements are taken up again at once after a start
# Anybody may ask us to announce, and it costs lookups. The same again is said only so often: soon when few nodes have
# stored it, else not before its 48 h are over, in which the DHT has renewed it by itself.
REPEAT_S = 60.0
REPEAT_WELL_KEPT_S = 48 * 3600.0
STAND_IN_EPOCHS = 2.5  # whoever looks after a file asks for it in every epoch while an announcer is away
# An announcer that is away for some days has not to be stood in for while most others are there: what it announced is
# found for 18 h at least, and what they announce all the while. Most absences are over by then.
PATIENCE_EPOCHS = 2.5
MAX_REMEMBERED_COUNT = 4096  # ours: some 300 bytes each
MAX_ANNOUNCING_COUNT = 4
REUSE_S = LIFETIME_S / 7  # ours: a statement of ours is signed anew after a day, long before it expires
MAX_REUSED_COUNT = 4096  # ours: 250 bytes each; a node with more shares signs the others whenever it is asked


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


class Companions:
    """Statements and announcements of one holder. `own_address` gives the address to put into statements."""

    def __init__(
        self, context: Context, identity: Identity, store: ShareStore, own_address: Callable[[], Address]
    ) -> None:
        self._context = context
        self._env = context.env
        self._identity = identity
        self._store = store
        self._own_address = own_address
        self._checker = StatementChecker(context.network, context.env.scheme)
        self._announcing = trio.CapacityLimiter(MAX_ANNOUNCING_COUNT)
        self._announced: dict[bytes, _Said] = {}
        self.standing_in: dict[bytes, float] = {}  # since when nobody has asked for it again; at most the files kept
        self._asked: dict[bytes, tuple[float, float]] = {}  # to stand in: when first, and when last; likewise
        self._signed: dict[tuple[bytes, int], HolderStatement] = {}
        self._judged: dict[bytes, int] = {}  # of which holders it was last seen what is ours to announce
        self._widths: dict[bytes, int] = {}  # how many shares a file has
        self._forgotten = 0  # how many files: to tell whether one was while a worker read of it

    def by_clock(self, context: Context) -> "Companions":
        """The same holder by the clock of another context."""
        return Companions(context, self._identity, self._store, self._own_address)

    # --- statements

    def own(self, file_id: FileId, held: HeldShare) -> HolderStatement:
        """Our word that we keep a share; the same one for a day while nothing in it changes."""
        key, now = (file_id, held.share_number), self._env.wall()
        known = self._signed.get(key)
        says = (held.lease_end, self._own_address())
        if known is not None and (known.lease_end, known.address) == says and 0 <= now - known.issued < REUSE_S:
            return known
        self._signed.pop(key, None)
        while len(self._signed) >= MAX_REUSED_COUNT:
            del self._signed[next(iter(self._signed))]
        statement = make_statement(
            self._identity,
            self._context.network.network_id,
            file_id,
            held.share_number,
            self._own_address(),
            held.lease_end,
            now,
        )
        self._signed[key] = statement
        return statement

    async def known(self, file_id: FileId) -> list[HolderStatement]:
        """Our own statements and the newest valid ones of others; empty when we keep nothing. StoreError."""
        held, others = await self._env.call(self._kept, file_id)
        if not held:
            return []
        own = [self.own(file_id, each) for each in held]
        return list(newest_by_share([*own, *others]).values())

    def _kept(self, file_id: FileId) -> tuple[list[HeldShare], list[HolderStatement]]:
        """Our shares of a file, and the valid statements of others if there are any; called in a worker."""
        held = self._store.held(file_id)
        return held, self._valid([each.statement for each in self._of_others(file_id)] if held else [])

    def _of_others(self, file_id: FileId) -> list[KeptStatement]:
        me, width = self._identity.node_id, self._width(file_id)
        kept = self._store.statements(file_id)
        return [each for each in kept if each.holder_id != me and each.share_number < width]

    def _width(self, file_id: FileId) -> int:
        """How many shares a file has: nobody keeps one beyond that. 256, the most there can be, where its manifest is
        not at hand. Blocking.
        """
        width = self._widths.get(file_id)
        if width is None:
            try:
                encoded = self._store.manifest(file_id)
            except StoreError:
                encoded = None  # damaged; whoever needs it says so
            if encoded is None:
                return MAX_SHARES
            if len(self._widths) >= MAX_REMEMBERED_COUNT:
                self._widths.clear()  # at once: several workers may be here
            width = self._widths[file_id] = Manifest.decode(encoded).n
        return width

    async def learn(self, file_id: FileId, payload: bytes) -> int:
        """Keep the valid statements of a payload; how many are known now. MalformedStatement, StoreError."""
        return await self._env.call(self.take_in, file_id, payload)

    def take_in(self, file_id: FileId, payload: bytes) -> int:
        """The same, in a worker. Lists are mostly alike: what is kept is neither checked nor written again.

        Of ourselves is kept what others are told (see `was_told`).
        """
        signed = unpack_statements(payload)[:MAX_STATEMENTS]
        now = self._env.wall()
        known = {each.statement for each in self._store.statements(file_id) if each.expires > now}
        new = self._valid_on(file_id, [item for item in signed if item not in known])
        return self._keep(file_id, new) if new else len(known)

    async def read(self, file_id: FileId, payload: bytes) -> list[HolderStatement]:
        """The valid statements of another's list, ours too; nothing is kept. MalformedStatement."""
        return await self._env.call(self._valid_on, file_id, unpack_statements(payload)[:MAX_STATEMENTS])

    async def keep(self, file_id: FileId, valid: Sequence[HolderStatement]) -> None:
        """Keep what others state, or what they were told of us. StoreError."""
        if valid:
            await self._env.call(self._keep, file_id, valid)

    async def was_told(self, file_id: FileId) -> bool:
        """Whether the others were told that we keep what we keep of a file, so that they need not hear it now.

        By whoever told it to us as well. StoreError.
        """
        held, told = await self._env.call(self._told, file_id)
        return self.is_named(held, told)

    def _told(self, file_id: FileId) -> tuple[list[int], list[HolderStatement]]:
        kept = [each for each in self._store.statements(file_id) if each.holder_id == self._identity.node_id]
        held = [each.share_number for each in self._store.held(file_id)]
        return held, self._valid([each.statement for each in kept])

    def is_named(self, held: Iterable[int], said: Iterable[HolderStatement]) -> bool:
        """Whether a list has statements of ours on all shares `held` here, good for a while and with our address."""
        good_until = self._env.wall() + min(LOOKS * self._context.network.epoch_s, GOOD_S)
        named = {
            each.share
            for each in said
            if each.node_id == self._identity.node_id
            and each.address == self._own_address()
            and each.expires > good_until
        }
        return named.issuperset(held)

    def _keep(self, file_id: FileId, valid: Iterable[HolderStatement]) -> int:
        """Keep statements; how many are known now. Blocking."""
        width = self._width(file_id)
        kept = [
            KeptStatement(each.share, each.node_id, each.expires, each.lease_end, each.signed)
            for each in valid
            if each.share < width
        ]
        self._store.add_statements(file_id, kept, self._env.wall())
        return self._store.statement_count(file_id)

    def _valid_on(self, file_id: FileId, signed: Sequence[bytes]) -> list[HolderStatement]:
        width = self._width(file_id)
        return [each for each in self._valid(signed) if each.file_id == file_id and each.share < width]

    def _valid(self, signed: Sequence[bytes]) -> list[HolderStatement]:
        """Those that are valid here and now; called in a worker, since each costs a signature."""
        valid = []
        for item in signed:
            try:
                valid.append(self._checker.check(item, self._env.wall()))
            except MalformedStatement:
                continue  # broken, or expired since it was kept
        return valid

    # --- announcing

    async def announce(
        self, file_id: FileId, *, patient: bool = False, from_table: bool = False
    ) -> dict[int, tuple[int, int]] | None:
        """Announce now what is ours to announce: class -> (closest nodes, of these stored). None when we keep nothing.

        Whoever asks knows which of the first announcers are gone, so those next in rank announce as well; if it is
        `patient`, only once they are asked to in a fourth epoch. `from_table`: see `DhtService.announce`. StoreError.
        """
        async with self._announcing:
            statements = await self.known(file_id)
            if not statements:
                return None
            deep = 1 if patient and not self._is_time_to_stand_in(file_id) else STAND_INS_DEEP
            shares, others = self.apart(statements)
            mine = self.announcements(file_id, shares, others, deep=deep)
            if not mine:
                return {}
            fingerprint = hash(tuple(mine.items()))
            said = self._announced.pop(file_id, None)
            if said is None or said.fingerprint != fingerprint or not said.is_good_at(trio.current_time()):
                said = _Said(fingerprint, trio.current_time(), await self._announce(mine, from_table=from_table))
            self._announced[file_id] = said
            while len(self._announced) > MAX_REMEMBERED_COUNT:
                del self._announced[next(iter(self._announced))]
            if mine.keys() - self._duties(file_id, [each.node_id for each in others]).keys():
                self.standing_in[file_id] = trio.current_time()
            return said.reports

    def _is_time_to_stand_in(self, file_id: FileId) -> bool:
        """Whether somebody has asked for it for a while, and lately."""
        now, epoch_s = trio.current_time(), self._context.network.epoch_s
        first, last = self._asked.get(file_id, (now, now))
        if now - last > STAND_IN_EPOCHS * epoch_s:
            first = now
        self._asked[file_id] = (first, now)
        return now - first >= PATIENCE_EPOCHS * epoch_s

    async def _announce(self, mine: Mapping[int, Announcement], *, from_table: bool) -> dict[int, tuple[int, int]]:
        reports = await self._context.dht.announce(list(mine.values()), from_table=from_table)
        for announcement, report in zip(mine.values(), reports, strict=True):
            self._context.dht.keep_announced([announcement], announced=report.is_well_kept)
        return {number: (report.closest, report.stored) for number, report in zip(mine, reports, strict=True)}

    async def take_up(self, file_id: FileId, *, if_new: bool = False) -> None:
        """Announce from now on what is ours to announce and is not announced yet, as after a start: nobody asks the
        holder of a share that was made again to. What is announced already is left as it is. With `if_new` nothing is
        looked at unless other holders are known than the last time. StoreError.
        """
        forgotten = self._forgotten
        holders = hash(tuple(await self._env.call(self._store.holders, file_id)))
        if if_new and self._judged.get(file_id) == holders:
            return
        owed = await self._env.call(self._owed, file_id)
        if self._forgotten != forgotten:
            return  # perhaps this one: the next time does it
        if len(self._judged) >= MAX_REMEMBERED_COUNT:
            self._judged.clear()
        self._judged[file_id] = holders
        fresh = [each for each in owed.values() if not self._context.dht.is_announcing(each.key)]
        if fresh:
            self._context.dht.keep_announced(fresh)

    def _owed(self, file_id: FileId) -> dict[int, Announcement]:
        """Nothing while no other holder is known: whoever is alone, or has a wrong clock, would take all for its own.
        Blocking.
        """
        now = self._env.wall()
        if all(each.expires <= now for each in self._of_others(file_id)):
            return {}
        return self.announcements_as_kept(file_id)

    async def review(self) -> None:
        """Stop standing in for announcers that are back: nobody has asked for it lately, and it is not our duty."""
        limit = trio.current_time() - STAND_IN_EPOCHS * self._context.network.epoch_s
        for file_id, asked_at in [each for each in self.standing_in.items() if each[1] < limit]:
            try:
                duties = await self._env.call(self.announcements_as_kept, FileId(file_id))
            except StoreError:
                continue  # our disk: what is our duty is seen at the next review
            if self.standing_in.get(file_id) != asked_at:
                continue  # somebody has just asked for it again, or it is kept no longer
            del self.standing_in[file_id]
            for number in range(CLASSES):
                if number in duties:
                    self._context.dht.keep_announced([duties[number]])
                else:
                    self._context.dht.stop_announcing(class_key(FileId(file_id), number))

    async def resume(self) -> None:
        """After a start: everything kept is announced again, page by page, by the DHT's own rhythm."""
        after = b""
        while page := await self._env.call(self._store.files, after, STARTUP_PAGE):
            self._context.dht.keep_announced(await self._env.call(self._resumed, [FileId(raw) for raw in page]))
            after = page[-1]

    def _resumed(self, file_ids: Sequence[FileId]) -> list[Announcement]:
        """What is to be announced of some files, from what is kept about them; called in a worker."""
        found: list[Announcement] = []
        for file_id in file_ids:
            try:
                found += self.announcements_as_kept(file_id).values()
            except StoreError:
                continue  # found damaged just now; the others are still to be announced
        return found

    def announcements_as_kept(self, file_id: FileId) -> dict[int, Announcement]:
        """Statements were checked when they came. To check thousands of signatures again would make a start long, and
        whoever reads an announcement believes nothing in it.
        """
        now = self._env.wall()
        kept = [each for each in self._of_others(file_id) if each.expires > now]
        if not self._duties(file_id, [NodeId(each.holder_id) for each in kept]):
            return {}
        shares = [held.share_number for held in self._store.held(file_id)]
        others = newest_by_share(_as_kept(each.statement for each in kept))
        return self.announcements(file_id, shares, list(others.values())) if shares else {}

    def forget(self, file_id: FileId) -> None:
        """A file is kept here no longer: announce it no more."""
        self._forgotten += 1
        self.standing_in.pop(file_id, None)
        self._asked.pop(file_id, None)
        self._judged.pop(file_id, None)
        for number in range(CLASSES):
            self._context.dht.stop_announcing(class_key(file_id, number))
        for key in [key for key in self._signed if key[0] == file_id]:
            del self._signed[key]

    def _duties(self, file_id: FileId, others: Iterable[NodeId], *, deep: int = 1) -> dict[int, None]:
        """The classes for which this node announces a file; empty when that is others' business."""
        chosen = announcers(file_id, {*others, self._identity.node_id}, deep=deep)
        return {number: None for number, ids in chosen.items() if self._identity.node_id in ids}

    def announcements(
        self, file_id: FileId, own_shares: Sequence[int], others: Sequence[HolderStatement], *, deep: int = 1
    ) -> dict[int, Announcement]:
        """What this node has to announce of a file, by class."""
        ids = {each.node_id for each in others}
        mine = self._duties(file_id, ids, deep=deep)
        if not mine:
            return {}
        chosen = announcers(file_id, ids | {self._identity.node_id})
        payload = pack_announcement(own_shares, self._slice(others, chosen))
        return {number: Announcement(RecordKey(class_key(file_id, number)), payload) for number in mine}

    def _slice(self, others: Sequence[HolderStatement], chosen: Mapping[int, list[NodeId]]) -> list[Hint]:
        order = list(dict.fromkeys(node_id for number in sorted(chosen) for node_id in chosen[number]))
        hints = [Hint(each.share, Contact(each.node_id, each.address)) for each in others]
        return slice_for(self._identity.node_id, order, hints)

    def apart(self, statements: Iterable[HolderStatement]) -> tuple[list[int], list[HolderStatement]]:
        """Our own shares, and the statements of others."""
        shares: list[int] = []
        others: list[HolderStatement] = []
        for each in statements:
            if each.node_id == self._identity.node_id:
                shares.append(each.share)
            else:
                others.append(each)
        return shares, others


def _as_kept(signed: Iterable[bytes]) -> Iterator[HolderStatement]:
    for item in signed:
        try:
            yield unchecked_statement(item)
        except MalformedStatement:
            continue  # damaged on disk
