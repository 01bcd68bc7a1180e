"""The task that looks after the files kept here, in turn with their other holders.

It sleeps until the next file's turn, looks at all files whose turn comes about then, and goes back to sleep. Time is
the wall clock's, because holders must agree on it roughly. A clock that jumps costs a turn or repeats one, and nothing
else. docs/care.md has the rules; `turns` keeps the plan, and `looks` does a look.
"""

import itertools
import logging
import math
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence

import trio

from shoal.dht import NodeId, Reach
from shoal.erasure import FileId
from shoal.node.care.after_absence import MOVED_WITHIN_S, WITHIN_S, AfterAbsence
from shoal.node.care.agenda import Errand
from shoal.node.care.clocks import ClockComparison
from shoal.node.care.counts import CareStatistics
from shoal.node.care.doubts import Doubts
from shoal.node.care.findings import WatchedFile
from shoal.node.care.looks import Looks
from shoal.node.care.no_hosts import CHANGED_PARTS
from shoal.node.care.own_shares import OwnShares
from shoal.node.care.polls import Polls
from shoal.node.care.presence import Presence
from shoal.node.care.stored_files import StoredFiles
from shoal.node.care.turns import EARLY_PARTS, Taken, Turns
from shoal.node.context import Context
from shoal.node.holders.announcing import Announcing
from shoal.node.holders.deletion import Deletion
from shoal.node.holders.known import KnownHolders
from shoal.node.holders.refresh import long_absence_s
from shoal.node.holders.statements import MAX_SKEW_S
from shoal.node.nursery import open_nursery
from shoal.node.store import ShareStore, StoreError

BATCH_FILES = 256  # looked at together at most; their manifests and statements are in memory meanwhile
LONGEST_SLEEP_S = 3600.0  # so that a wall clock that was set back is noticed
GATHER_S = 1.0  # new files that come within this time are taken together,
GATHER_PARTS = 32  # or within this part of an epoch, where that is shorter
NOTICED_S = 2 * LONGEST_SLEEP_S  # of absence, by our clock

log = logging.getLogger(__name__)


class Caretaker:
    """Looks after every file of one store. The class is long because all its methods share one plan of what is due.

    The connections of `context` prove which node we are, since a stranger's surveys count for nothing. `delete` obeys
    an owner's deletion, if it is one.
    """

    def __init__(
        self,
        context: Context,
        me: NodeId,
        store: ShareStore,
        known_holders: KnownHolders,
        announcing: Announcing,
        delete: Callable[[Deletion], Awaitable[bool]],
    ) -> None:
        self.context = context
        self._env = context.env
        self._epoch_s = context.network.epoch_s
        self._store = store
        self._known_holders = known_holders
        self._announcing = announcing
        self._new: dict[FileId, None] = {}
        self._wake = trio.Event()
        self._mends: trio.Nursery
        self._up_at = 0.0  # when we last ran (wall clock)
        self._reach: Reach | None = None  # which we take care that the others know
        self._turn_count = 0
        self.files = StoredFiles(context.env, me, store, known_holders)
        self.clocks = ClockComparison()
        self.presence = Presence(self._epoch_s)
        self.doubts = Doubts(self._epoch_s)
        self.turns = Turns(me, self._epoch_s, self._on_return)
        self.looks = Looks(
            context, me, known_holders, announcing, self.turns, self.presence, self.doubts, self.clocks, delete
        )
        self._after_absence = AfterAbsence(context, known_holders, self.looks.comparison)
        self.own_shares = OwnShares(context, me, store, self.clocks, self.looks.no_file, delete, self._on_own_share)
        self.polls = Polls(context.env, me, store, self._on_poll)

    def statistics(self) -> CareStatistics:
        """A snapshot."""
        counts, mender = self.looks.counts, self.looks.mender
        return CareStatistics(
            self._turn_count,
            mender.repairs + self.own_shares.made,
            mender.rebuilt + self.own_shares.made,
            counts.surveys,
            counts.audits_passed,
            counts.audits_failed,
            counts.audit_bytes,
            mender.moved_bytes + self.own_shares.received_bytes,
        )

    # --- what others tell

    def on_file(self, file_id: FileId) -> None:
        """A share of this file is kept here from now on."""
        self.polls.keep(file_id)
        self._new[file_id] = None
        self._wake.set()

    def _on_return(self) -> None:
        self._wake.set()

    def _on_own_share(self, file_id: FileId) -> None:
        """A share that was damaged here is whole again. The others may have come to forget us meanwhile."""
        self._after_absence.plan([file_id], ask_anyway=False)
        self.on_file(file_id)

    def on_survey(self, caller: NodeId | None, file_ids: Iterable[FileId]) -> None:
        """A peer asks about these files. It looks after them, if it has proven which node it is."""
        if caller is not None:
            self.turns.note_claim(caller, file_ids, self._env.wall())

    def _on_poll(self, caller: NodeId, clock: int, file_ids: Collection[FileId]) -> None:
        """A datagram may be kept and sent again by others, so it is heeded only about when it was made."""
        if abs(clock - self._env.wall()) <= self._epoch_s / EARLY_PARTS:
            self.on_survey(caller, file_ids)
            self.turns.note_polls(caller, file_ids, self._env.wall())

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
        self._notice_hosts()
        due, missed = await self._take_due()
        due += await self.find_worse(await self._first(missed, self.turns.ask_absent))
        await self._announcing.review()
        self.doubts.review(trio.current_time())
        await self._schedule_after_epoch(due)
        due = [file_id for file_id in due if file_id not in self.looks.mender.busy]
        await self.look_after(await self._first(due, self.turns.return_to))
        await self._after_absence.tell_due(self.files.read)
        self._up_at += trio.current_time() - woken_at  # what we did was no absence, except where the machine slept

    async def _first(self, files: Sequence[FileId], put_back: Callable[[FileId, float], None]) -> Sequence[FileId]:
        """The files to go on with: those of every source in turn. The rest is put back, and done with what is due then.

        So however many files of one source are due together, those of others wait for one batch of them.
        """
        if len(files) <= BATCH_FILES:
            return files
        ordered = await self.files.in_turn(files)
        for file_id in ordered[BATCH_FILES:]:
            put_back(file_id, self._env.wall())
        return ordered[:BATCH_FILES]

    async def look_after(self, files: Sequence[FileId]) -> None:
        """Look at some files now. Repairs that are due go on by themselves."""
        watched = await self.read_all(files)
        self._turn_count += len(watched)
        await self.looks.look(watched, self._mends)

    async def find_worse(self, files: Sequence[FileId]) -> list[FileId]:
        """Of files whose holders were not all there, those that need a full look, since too many stayed away."""
        return await self.looks.find_worse(await self.read_all(files))

    async def _sleep(self) -> None:
        """Until the next turn, or until there is a new file or something to come back to.

        Files that come one after another are taken together: their turns are hours away.
        """
        if not self._new:
            self._wake = trio.Event()
        coming = [at for at in (self.turns.next_at(), self._after_absence.next_at()) if at is not None]
        left = min(coming, default=math.inf) - self._env.wall()
        longest_s = self._epoch_s / CHANGED_PARTS if len(self.looks.no_hosts) else LONGEST_SLEEP_S
        with trio.move_on_after(min(max(left, 0.0), longest_s, LONGEST_SLEEP_S)):
            await self._wake.wait()
        if self._new:
            await trio.sleep(min(GATHER_S, self._epoch_s / GATHER_PARTS))

    # --- what is to be done, and when

    async def _load(self) -> None:
        self._up_at = self._up_at or await self._env.call(self._store.last_up)
        self.context.dht.on_moved = self._on_return
        await self._schedule_all(self._env.wall())
        await self._notice_absence()

    async def _schedule_all(self, now: float) -> None:
        for files in await self.files.pages():
            await self._schedule(dict.fromkeys(files, now))
            for file_id in files:
                self.polls.keep(file_id)

    async def _notice_absence(self) -> None:
        """Plan to make ourselves known again, where the others may not know us.

        We may have been down or asleep, as the clock tells; then they may have forgotten us. After a start we may have
        another address, which they do not know. Where the clock was set back, everything is scheduled anew: it was to
        be done at times that the clock will not see for long.
        """
        now = self._env.wall()
        away_s = now - self._up_at
        was_ahead = away_s < -min(self._epoch_s / EARLY_PARTS, MAX_SKEW_S)
        was_away = was_ahead or away_s >= NOTICED_S
        reach = self.context.dht.own_reach() or self._reach
        if was_ahead:
            await self._schedule_all(now)
        if was_away:
            self.clocks.forget()
        # while we ran: nobody knows yet
        has_moved = self._reach is not None and reach is not None and not reach.is_found_by(self._reach)
        if was_away or has_moved or (self._reach is None and reach is not None):
            self._reach = reach  # a change of one relay among others is told with the next statement
            files = await self.files.in_turn(list(itertools.chain.from_iterable(await self.files.pages())))
            ask_anyway = was_ahead or away_s > long_absence_s(self._epoch_s)
            self._after_absence.plan(files, ask_anyway=ask_anyway, within_s=MOVED_WITHIN_S if has_moved else WITHIN_S)
        self._up_at = now

    def _notice_hosts(self) -> None:
        """Plan to look at files that lacked hosts, where peers have come that may be some. Nobody is asked for that."""
        now, within_s = self._env.wall(), self._epoch_s / CHANGED_PARTS
        for file_id in self.looks.no_hosts.due(self.looks.hosts(), trio.current_time()):
            coming = self.turns.returns_at(file_id)
            if coming is None or coming > now + within_s:
                self.turns.return_to(file_id, now + within_s * self._env.rng.random())

    async def _take_new(self) -> None:
        """Schedule files that we have come to keep. Their next epoch is soon enough: the peer that published or mended
        them was there just now.
        """
        fresh = [file_id for file_id in self._new if not self.turns.knows(file_id)]
        self._new.clear()
        await self._schedule_after_epoch(fresh)

    async def _schedule_after_epoch(self, files: Sequence[FileId]) -> None:
        """Set the next turn of each file, after its present epoch."""
        now = self._env.wall()
        if files:
            await self._schedule({file_id: self.turns.end_of_epoch(file_id, now) for file_id in files})

    async def _schedule(self, files: Mapping[FileId, float]) -> None:
        """Set the next turn of each file: the first one from the given time on."""

        def turns() -> list[float]:
            return [self.turns.next_turn(each, self.files.holders(each), after) for each, after in files.items()]

        for file_id, when in zip(files, await self._env.call(turns), strict=True):
            self.turns.put(file_id, when)

    async def _take_due(self) -> tuple[list[FileId], list[FileId]]:
        """The files to look at now, and those whose absent holders are to be asked again.

        A file is to be looked at when its turn has come or comes very soon, and no other holder has looked this epoch.
        """
        due: dict[FileId, None] = {}
        missed: dict[FileId, None] = {}
        taken = self.turns.take(self._env.wall())
        for when, errand, file_id in taken.errands:
            if errand is Errand.ABSENT:
                missed[file_id] = None
            elif errand is not Errand.TURN or await self._is_due(file_id, when, taken):
                due[file_id] = None
        return list(due), [file_id for file_id in missed if file_id not in due]

    async def _is_due(self, file_id: FileId, when: float, taken: Taken) -> bool:
        """Whether it is our turn. Where our disk fails, nothing that was taken is lost."""
        try:
            holders = await self._env.call(self.files.holders, file_id)
        except StoreError:
            self.turns.put_back(taken)
            raise
        return self.turns.is_due(file_id, when, taken.until, holders)

    # --- what the store knows

    async def read_all(self, files: Iterable[FileId]) -> list[WatchedFile]:
        """The files of which something is kept; the others are forgotten. What our disk fails to tell is left out."""
        watched = []
        for file_id in files:
            try:
                file = await self.files.read(file_id)
            except StoreError as error:
                log.warning("looking after a file failed: %s", error)
                continue
            if file is None:
                self._forget(file_id)
            else:
                watched.append(file)
        return watched

    def _forget(self, file_id: FileId) -> None:
        """Nothing of a file is kept here any more."""
        self.turns.forget(file_id)
        self.polls.forget(file_id)
        self.looks.forget(file_id)
        self._after_absence.forget(file_id)
