"""The task that looks after the files kept here, in turn with their other holders.

It sleeps until the next file's turn, looks at all files whose turn comes about then, and goes back to sleep. Time is
the wall clock's, because holders must agree on it roughly; a clock that jumps costs a turn or repeats one, and nothing
else. docs/protocol.md, "Staying alive", has the rules.
"""

import itertools
import logging
import math
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import trio

from shoal.dht import Address, NodeId
from shoal.erasure import FileId, Manifest
from shoal.node.care.after_absence import AfterAbsence
from shoal.node.care.agenda import Agenda, Errand
from shoal.node.care.clocks import ClockComparison
from shoal.node.care.comparing import ListComparison
from shoal.node.care.doubts import Doubts
from shoal.node.care.epochs import BACK_OFF_PARTS, end_of_epoch, epoch_of, may_act, next_turn
from shoal.node.care.health import repair_at
from shoal.node.care.mending import Mender
from shoal.node.care.own_shares import OwnShares
from shoal.node.care.polls import Polls
from shoal.node.care.presence import Presence
from shoal.node.care.rounds import Charge, Round, RoundCounts
from shoal.node.care.telling import Teller
from shoal.node.channel import RequestError
from shoal.node.context import Context
from shoal.node.holders.companions import Companions
from shoal.node.holders.deletion import Deletion, MalformedDeletion, read_deletion
from shoal.node.holders.outcome import Outcome
from shoal.node.holders.refresh import long_absence_s
from shoal.node.holders.statements import MAX_SKEW_S, HolderStatement
from shoal.node.nursery import open_nursery
from shoal.node.store import ShareStore, StoreError

BATCH_FILES = 256  # looked at together at most; their manifests and statements are in memory meanwhile
TOGETHER_PARTS = 64  # of an epoch: turns that come so soon after one another are taken together
LONGEST_SLEEP_S = 3600.0  # so that a wall clock that was set back is noticed
EARLY_PARTS = 4  # of an epoch: turns come in its first half; a clock that is fast, or a turn taken along, counts for it
FOLLOW_UP_SPREAD = 0.5  # of an epoch: watchers of a lost holder do not all come back at once
PAGE_FILES = 500
NOTICED_S = 2 * LONGEST_SLEEP_S  # of absence, by our clock
PROVE_EPOCHS = 7.0  # all claims on a file are audited before a repair, so often at most: it may wait for hosts for long
ROOM_WAIT_S = 600.0  # for room for one more repair, of all files that are looked at together
MAX_CLAIMS = 16  # remembered of one file; who floods us with surveys has us look ourselves


log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Claim:
    """Somebody surveyed a file: in which epoch of it, who, and when (our wall clock)."""

    epoch: int
    caller: NodeId
    at: float


@dataclass(frozen=True, slots=True)
class CareStatistics:
    """For the status: what was done since the start."""

    turns: int = 0
    repairs: int = 0
    rebuilt_shares: int = 0
    surveys: int = 0
    audits_passed: int = 0
    audits_failed: int = 0
    audit_bytes: int = 0
    repair_bytes: int = 0  # of shares, fetched and sent


class Caretaker:
    """Looks after every file of one store.

    The connections of `context` prove who we are, since a stranger's surveys count for nothing. `delete` obeys an
    owner's deletion, if it is one.
    """

    def __init__(
        self,
        context: Context,
        me: NodeId,
        store: ShareStore,
        companions: Companions,
        delete: Callable[[Deletion], Awaitable[bool]],
    ) -> None:
        self._context = context
        self._env = context.env
        self._epoch_s = context.network.epoch_s
        self._ahead_s = self._epoch_s / TOGETHER_PARTS
        self._me = me
        self._store = store
        self._companions = companions
        self._delete = delete
        self.clocks = ClockComparison()
        self._teller = Teller(context, me, companions, self.clocks)
        self._agenda = Agenda()
        self._unfinished: dict[bytes, None] = {}  # repairs that placed fewer shares than were missing
        self._claims: dict[bytes, list[Claim]] = {}  # who looked after a file lately; all of one epoch
        self._proved: dict[bytes, float] = {}  # when all claims on a file were last audited (monotonic)
        self._no_file: set[bytes] = set()  # whose shares are no file, by their publisher's doing: nothing can mend them
        self._mender = Mender(context, self._no_file)
        self._new: dict[bytes, None] = {}
        self._wake = trio.Event()
        self._mends: trio.Nursery
        self.presence = Presence(self._epoch_s)
        self.doubts = Doubts(self._epoch_s)
        self._comparison = ListComparison(context, me, companions, self._teller, self.clocks)
        self._after_absence = AfterAbsence(context, companions, self._comparison)
        self.own_shares = OwnShares(context, me, store, self.clocks, self._no_file, delete, self._on_own_share)
        self._up_at = 0.0  # when we last ran (wall clock)
        self._address: Address | None = None  # which we take care that the others know
        self.polls = Polls(context.env, me, store, self._on_poll)
        self._counts = RoundCounts()
        self._turn_count = 0

    def statistics(self) -> CareStatistics:
        """A snapshot."""
        counts = self._counts
        return CareStatistics(
            self._turn_count,
            self._mender.repairs + self.own_shares.made,
            self._mender.rebuilt + self.own_shares.made,
            counts.surveys,
            counts.audits_passed,
            counts.audits_failed,
            counts.audit_bytes,
            self._mender.moved_bytes + self.own_shares.received_bytes,
        )

    # --- what others tell

    def on_file(self, file_id: FileId) -> None:
        """A share of this file is kept here from now on."""
        self._new[bytes(file_id)] = None
        self._wake.set()

    def _on_own_share(self, file_id: FileId) -> None:
        """A share that was damaged here is whole again. The others may have come to forget us meanwhile."""
        self._after_absence.plan([file_id], ask_anyway=False)
        self.on_file(file_id)

    def on_survey(self, caller: NodeId | None, file_ids: Iterable[FileId]) -> None:
        """A peer that has proven who it is looks after these files. Whether its turn it can be is seen at ours."""
        if caller is None:
            return
        now = self._env.wall()
        for file_id in file_ids:
            if self._agenda.has(Errand.TURN, file_id):
                epoch = epoch_of(file_id, now + self._epoch_s / EARLY_PARTS, self._epoch_s)
                claims = self._claims.setdefault(bytes(file_id), [])
                if claims and claims[0].epoch != epoch:
                    claims.clear()
                if len(claims) < MAX_CLAIMS:
                    claims.append(Claim(epoch, caller, now))

    def _on_poll(self, caller: NodeId, clock: int, file_ids: Collection[FileId]) -> None:
        """A datagram may be kept and sent again by others, so it is heeded only about when it was made."""
        if abs(clock - self._env.wall()) <= self._epoch_s / EARLY_PARTS:
            self.on_survey(caller, file_ids)

    # --- the task

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled."""
        async with open_nursery() as self._mends:
            task_status.started()
            while True:
                try:
                    await self._load()
                    while True:
                        await self._take_turns()
                except StoreError as error:  # our disk: what it is too full or too ill for is tried again later
                    log.warning("looking after files failed: %s", error)
                    await trio.sleep(min(LONGEST_SLEEP_S, self._epoch_s))

    async def _take_turns(self) -> None:
        """Sleep until something is to be done, and do it."""
        await self._sleep()
        woken_at = trio.current_time()
        await self._notice_absence()
        await self._take_new()
        due, missed = await self._take_due()
        due += await self._worse(missed)
        await self._companions.review()
        self.doubts.review(trio.current_time())
        now = self._env.wall()
        await self._schedule({file_id: self._epoch_end(file_id, now) for file_id in due})
        due = [file_id for file_id in due if bytes(file_id) not in self._mender.busy]
        for at in range(0, len(due), BATCH_FILES):
            await self._look_after(due[at : at + BATCH_FILES])
        await self._after_absence.tell_due(self._charge)
        self._up_at += trio.current_time() - woken_at  # what we did was no absence, except where the machine slept

    async def _load(self) -> None:
        self._up_at = self._up_at or await self._env.call(self._store.last_up)
        await self._schedule_all(self._env.wall())
        await self._notice_absence()

    async def _schedule_all(self, now: float) -> None:
        for files in await self._pages():
            await self._schedule(dict.fromkeys(files, now))
            for file_id in files:
                self.polls.keep(file_id)

    async def _pages(self) -> list[list[FileId]]:
        """All files that are kept here, by pages."""
        pages: list[list[FileId]] = []
        while page := await self._env.call(self._store.files, pages[-1][-1] if pages else b"", PAGE_FILES):
            pages.append([FileId(raw) for raw in page])
        return pages

    async def _notice_absence(self) -> None:
        """Were we down or asleep, or does the clock only now tell so: then others may have forgotten us. Where we have
        another address, as maybe after every start, they do not know it.

        A clock that was set back has us schedule anew what was to be done at times that it will not see for long.
        """
        now = self._env.wall()
        away_s = now - self._up_at
        was_ahead = away_s < -min(self._epoch_s / EARLY_PARTS, MAX_SKEW_S)
        was_away = was_ahead or away_s >= NOTICED_S
        address = next(iter(self._context.dht.own_addresses()), self._address)
        if was_ahead:
            await self._schedule_all(now)
        if was_away:
            self.clocks.forget()
        if was_away or address != self._address:
            files = list(itertools.chain.from_iterable(await self._pages()))
            self._after_absence.plan(files, ask_anyway=was_ahead or away_s > long_absence_s(self._epoch_s))
        self._up_at, self._address = now, address

    async def _take_new(self) -> None:
        """Files that we have come to keep: whoever published or mended them was there just now, so their next epoch is
        soon enough.
        """
        fresh = [FileId(raw) for raw in self._new if self._agenda.when(Errand.TURN, raw) is None]
        self._new.clear()
        for file_id in fresh:
            self.polls.keep(file_id)
        if fresh:
            now = self._env.wall()
            await self._schedule({file_id: self._epoch_end(file_id, now) for file_id in fresh})

    def _holders(self, file_id: FileId) -> list[NodeId]:
        """Whom we know to keep shares of a file; ourselves too. Blocking."""
        return sorted({NodeId(each) for each in self._store.holders(file_id)} | {self._me})

    async def _schedule(self, files: Mapping[FileId, float]) -> None:
        """Set the next turn of each file: the first one from the given time on."""

        def turns() -> list[float]:
            return [
                next_turn(file_id, self._me, self._holders(file_id), after, self._epoch_s).starts_at
                for file_id, after in files.items()
            ]

        for file_id, when in zip(files, await self._env.call(turns), strict=True):
            self._agenda.put(Errand.TURN, file_id, when)

    def _epoch_end(self, file_id: FileId, when: float) -> float:
        """Just before the end of the epoch that a turn at `when` belongs to, taken a little early or not."""
        return end_of_epoch(file_id, when + self._ahead_s, self._epoch_s) - 0.5 * self._ahead_s

    async def _is_too_early(self, file_id: FileId, when: float, until: float) -> bool:
        """Whether the turn that was to come at `when` has moved beyond `until`, by the holders that are known now."""
        await self._schedule({file_id: self._epoch_end(file_id, when) - self._epoch_s})
        return (self._agenda.when(Errand.TURN, file_id) or until) > until

    async def _sleep(self) -> None:
        """Until the next turn, or until there is a new file."""
        if not self._new:
            self._wake = trio.Event()
        coming = [at for at in (self._agenda.next_at(), self._after_absence.next_at()) if at is not None]
        left = min(coming, default=math.inf) - self._env.wall()
        with trio.move_on_after(min(max(left, 0.0), LONGEST_SLEEP_S)):
            await self._wake.wait()

    async def _take_due(self) -> tuple[list[FileId], list[FileId]]:
        """The files whose turn has come or comes very soon, and which nobody has looked after this epoch; and those
        whose absent holders are to be asked again.
        """
        now, next_at = self._env.wall(), self._agenda.next_at()
        if next_at is None or next_at > now:
            return [], []
        due: dict[FileId, None] = {}
        missed: dict[FileId, None] = {}
        until = now + self._ahead_s
        taken = self._agenda.take(until)
        for when, errand, raw in taken:
            file_id = FileId(raw)
            if errand is Errand.ABSENT:
                missed[file_id] = None
            elif errand is not Errand.TURN or await self._is_due(file_id, when, until, taken):
                due[file_id] = None
        return list(due), [file_id for file_id in missed if file_id not in due]

    async def _is_due(
        self, file_id: FileId, when: float, until: float, taken: Sequence[tuple[float, Errand, bytes]]
    ) -> bool:
        """Whether it is our turn; else the next one is set. Where our disk fails, nothing that was taken is lost."""
        try:
            if await self._is_cared_for(file_id, when):
                await self._schedule({file_id: self._epoch_end(file_id, when)})
                return False
            return not await self._is_too_early(file_id, when, until)  # others may come first meanwhile
        except StoreError:
            for at, errand, raw in taken:
                self._agenda.put(errand, raw, at)
            raise

    async def _worse(self, files: Sequence[FileId]) -> list[FileId]:
        """Of files whose holders were not all there, those to be looked at in full now, since too many stayed away.

        Only the absent are asked again, and those not who have answered meanwhile, about whatever file.
        """
        absent = {*self.presence.away(), *self.doubts.peers()}
        charges = await self._charges(files)
        for at in range(0, len(charges), BATCH_FILES):
            await self._round().look_for(absent, charges[at : at + BATCH_FILES])
        return [charge.file_id for charge in charges if charge.health.needs_repair]

    def _round(self) -> Round:
        return Round(self._context, self._me, self.presence, self.doubts, self.clocks, self._counts)

    async def _is_cared_for(self, file_id: FileId, when: float) -> bool:
        """Whether somebody whose turn it can be has looked after a file in the epoch of our turn."""
        epoch = epoch_of(file_id, when, self._epoch_s)
        claims = [claim for claim in self._claims.pop(bytes(file_id), ()) if claim.epoch == epoch]
        if not claims:
            return False
        holders = await self._env.call(self._holders, file_id)
        return any(may_act(file_id, epoch, each.caller, holders, each.at, self._epoch_s) for each in claims)

    # --- a turn

    async def _look_after(self, files: list[FileId]) -> None:
        """Look at some files, spread what is new, and begin repairs: they go on by themselves."""
        charges = await self._charges(files)
        self._turn_count += len(charges)
        looker = self._round()
        await looker.look(charges)
        charges = [charge for charge in charges if await self._compare(charge, looker)]
        await looker.refresh(charges)
        wait_until = trio.current_time() + ROOM_WAIT_S
        for charge in charges:
            try:
                if not await self._drop_deleted(charge):
                    await self._prove(charge, looker)
                    await self._act(charge, wait_until)
            except StoreError as error:  # of ours; the others' disks may well do
                log.warning("looking after a file failed: %s", error)

    def _forget(self, file_id: bytes) -> None:
        """Nothing of a file is kept here any more."""
        self._agenda.forget(file_id)
        self.polls.forget(FileId(file_id))
        for kept in (self._claims, self._unfinished, self._proved):
            kept.pop(file_id, None)
        self._no_file.discard(file_id)
        self._comparison.forget(file_id)
        self._after_absence.forget(file_id)

    async def _compare(self, charge: Charge, looker: Round) -> bool:
        """Learn of holders that we do not know, and look at those as well; before a repair, everybody who can be found.

        False where our disk fails.
        """
        try:
            await self._comparison.compare(charge, looker)
            few = len(charge.health.counted) <= repair_at(charge.manifest.k, charge.manifest.n)
            if few and bytes(charge.file_id) not in self._no_file:
                await self._comparison.search(charge, looker)
        except StoreError as error:  # of ours; the others' disks may well do
            log.warning("looking after a file failed: %s", error)
            return False
        return True

    async def _drop_deleted(self, charge: Charge) -> bool:
        """Whether another holder showed that the file's owner has deleted it; then we drop it as well."""
        for shown in dict.fromkeys(charge.deletions):
            try:
                if await self._delete(read_deletion(shown, charge.file_id)):
                    return True
            except (MalformedDeletion, RequestError):
                continue  # not the owner's word, or our disk failed: the next survey tells it again
        return False

    async def _prove(self, charge: Charge, looker: Round) -> None:
        """Before a repair nobody is believed without proof."""
        now = trio.current_time()
        last = self._proved.get(bytes(charge.file_id), float("-inf"))
        mendable = charge.health.needs_repair and bytes(charge.file_id) not in self._no_file
        if mendable and now - last >= PROVE_EPOCHS * self._epoch_s:
            self._proved[bytes(charge.file_id)] = now
            await looker.prove(charge)

    async def _charges(self, files: Iterable[FileId]) -> list[Charge]:
        """The files of which something is kept; the others are forgotten. What our disk fails to tell is left out."""
        charges = []
        for file_id in files:
            try:
                charge = await self._charge(file_id)
            except StoreError as error:
                log.warning("looking after a file failed: %s", error)
                continue
            if charge is None:
                self._forget(bytes(file_id))
            else:
                charges.append(charge)
        return charges

    async def _charge(self, file_id: FileId) -> Charge | None:
        """A file with what is known of it; None when nothing of it is kept any more. StoreError."""
        manifest = await self._env.call(self._store.manifest, file_id)
        statements = await self._companions.known(file_id)
        if manifest is None or not statements:
            return None
        return Charge(file_id, Manifest.decode(manifest), statements)

    async def _act(self, charge: Charge, wait_until: float = math.inf) -> None:
        """Spread what is new of a file, after a repair where it needs one, which goes on by itself once there is room
        for it, by `wait_until` (monotonic); else we come back to it soon.
        """
        now = self._env.wall()
        health = charge.health
        news = await self._env.call(self._teller.news, charge)
        begun = bytes(charge.file_id) in self._unfinished and health.can_repair and bool(health.missing)
        mendable = bytes(charge.file_id) not in self._no_file and self._leased(charge, health.k) > now
        if (health.needs_repair or begun) and mendable and not self.clocks.misleads(trio.current_time()):
            if await self._mender.reserve(bytes(charge.file_id), wait_until):
                self._mends.start_soon(self._mend, charge, news)
                return
            self._return_to(charge, soon=True)
        else:
            self._follow_up(charge, now)
        await self._spread(charge, news)

    async def _spread(self, charge: Charge, news: list[HolderStatement]) -> None:
        await self._teller.spread_news(charge, news)
        await self._teller.see_to_announcers(charge)

    def _leased(self, charge: Charge, k: int) -> float:
        """Until when at least k shares are promised: after that the file need not be kept alive."""
        ends = sorted((each.lease_end for each in _one_per_share(charge)), reverse=True)
        return float(ends[k - 1]) if len(ends) >= k else 0.0

    def _follow_up(self, charge: Charge, now: float) -> None:
        """Ask those who are away once more when their grace has ended, whoever's turn it is then."""
        ends = [
            lost_at
            for each in charge.observations
            if each.outcome is not Outcome.OK
            and each.counts
            and (lost_at := self._lost_at(each.holder, charge.file_id)) is not None
        ]
        if ends:
            jitter = self._env.rng.random() * FOLLOW_UP_SPREAD * self._epoch_s
            when = now + max(ends) - trio.current_time() + jitter
            self._agenda.put(Errand.ABSENT, charge.file_id, when)

    def _lost_at(self, holder: NodeId, file_id: FileId) -> float | None:
        """When the grace of a holder ends that is away, or claims and stalls."""
        away = self.presence.lost_at(holder)
        return away if away is not None else self.doubts.lost_at(holder, file_id)

    async def _mend(self, charge: Charge, news: list[HolderStatement]) -> None:
        """In a task of its own: where holders are slow, nothing else waits for them."""
        file_id = bytes(charge.file_id)
        try:
            if await self._mender.mend(charge, int(self._leased(charge, charge.manifest.k))):
                self._unfinished.pop(file_id, None)
            else:
                self._unfinished[file_id] = None
                self._return_to(charge, soon=charge.health.is_emergency)
            await self._spread(charge, news)
        except StoreError as error:
            log.warning("looking after a file failed: %s", error)
        finally:
            self._mender.release(file_id)

    def _return_to(self, charge: Charge, *, soon: bool) -> None:
        """Look at a file again in the next epoch, or soon."""
        parts = BACK_OFF_PARTS if soon else 1
        self._agenda.put(Errand.RETURN, charge.file_id, self._env.wall() + self._epoch_s / parts)


def _one_per_share(charge: Charge) -> list[HolderStatement]:
    """The longest promise for each share."""
    longest: dict[int, HolderStatement] = {}
    for each in charge.statements:
        if each.share not in longest or longest[each.share].lease_end < each.lease_end:
            longest[each.share] = each
    return list(longest.values())
