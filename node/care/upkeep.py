"""The chores of a node that keeps shares: counting its uptime, ending leases, sweeping uploads, checking its disk.

None of them is urgent. They run one after another at a slow beat, so that an idle node sleeps.
"""

import logging
from collections.abc import Callable, Sequence

import trio

from shoal.erasure import FileId
from shoal.node.care.clocks import ClockComparison
from shoal.node.care.problems import Problems
from shoal.node.context import Context
from shoal.node.store import ShareKey, ShareStore, StoreError, scrub_budget_bytes

BEAT_S = 7200.0  # a crash may lose so much uptime; leases are counted in weeks
BEATS_PER_EPOCH = 4.0  # where a network beats faster, so do the chores
LEASES_EVERY_BEATS = 3

log = logging.getLogger(__name__)


class Upkeep:
    """Runs the chores of one store.

    clocks: says whether the wall clock may end a lease.
    problems: hears of a disk that fails, and of one that works again.
    on_damaged: is told at each beat what is damaged or lost then.
    on_dropped: is told of a file whose last share here was dropped.
    """

    def __init__(
        self,
        context: Context,
        store: ShareStore,
        clocks: ClockComparison,
        problems: Problems,
        on_damaged: Callable[[Sequence[ShareKey]], None],
        on_dropped: Callable[[FileId], None],
    ) -> None:
        self._env = context.env
        self._store = store
        self._clocks = clocks
        self._problems = problems
        self._on_damaged = on_damaged
        self._on_dropped = on_dropped
        self._gone: dict[FileId, None] = {}  # files of which shares were dropped, not yet told
        self._beat_s = min(BEAT_S, context.network.epoch_s / BEATS_PER_EPOCH)
        self._read_at = (0.0, 0.0)
        self._unheeded_s = 0.0  # by which the clock jumped since uploads were last swept
        self.dropped = 0
        self.damaged = 0

    async def run(self) -> None:
        """Until cancelled."""
        beats = 0
        self._jumped_s()
        while True:
            await trio.sleep(self._beat_s)
            beats += 1
            agrees = self._clocks.agrees(trio.current_time())
            self._unheeded_s += self._jumped_s()
            try:
                damaged = await self._beat(agrees, look_at_leases=beats % LEASES_EVERY_BEATS == 0)
                self._problems.worked()
                self._on_damaged(damaged)
            except StoreError as error:  # the disk failed; what was not done is done at the next beat
                self._problems.failed(error)
                log.warning("upkeep of the share store failed: %s", error)

    def _jumped_s(self) -> float:
        """By how much the wall clock jumped ahead since the last call, as after a sleep; below 0 if it was put back."""
        ran_from, wall_from = self._read_at
        ran_to, wall_to = self._read_at = (trio.current_time(), self._env.wall())
        return (wall_to - wall_from) - (ran_to - ran_from)

    async def _beat(self, clock_agrees: bool, *, look_at_leases: bool) -> list[ShareKey]:
        """All chores of a beat; what is damaged or lost after it."""
        await self._env.call(self._count)
        try:
            if look_at_leases:
                await self._env.call(self._drop_expired, clock_agrees)
        finally:
            await self._tell_gone()
        return await self._env.call(self._scrub)

    def _count(self) -> None:
        """Called in a worker, as are the other chores."""
        now = self._env.wall()
        self._store.note_uptime(self._beat_s, now)
        self._store.expire(now, self._unheeded_s)
        self._unheeded_s = 0.0  # only now: where it failed, the next beat must know of the same jump

    def _drop_expired(self, clock_agrees: bool) -> None:
        self._store.drop_expired(self._env.wall(), clock_agrees, self._note_dropped)

    def _note_dropped(self, key: ShareKey) -> None:
        self.dropped += 1
        self._gone[FileId(key[0])] = None

    async def _tell_gone(self) -> None:
        """Tell of files of which nothing is left. Each is checked just before: a share may have come meanwhile."""
        for file_id in list(self._gone):
            if not await self._env.call(self._store.held, file_id):
                self._on_dropped(file_id)
            del self._gone[file_id]

    def _scrub(self) -> list[ShareKey]:
        report = self._store.scrub(self._env.wall(), scrub_budget_bytes(self._store.share_bytes, self._beat_s))
        self.damaged += len(report.damaged)
        return self._store.damaged()
