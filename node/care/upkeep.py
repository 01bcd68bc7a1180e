"""The chores of a node that keeps shares: counting its uptime, ending leases, sweeping uploads, checking its disk.

None of them is urgent. They run one after another at a slow beat, so that an idle node sleeps.
"""

import logging
from collections.abc import Callable, Sequence

import trio

from shoal.erasure import FileId
from shoal.node.care.clocks import ClockComparison
from shoal.node.context import Context
from shoal.node.store import ShareKey, ShareStore, StoreError, scrub_budget_bytes
from shoal.node.trouble import Trouble

BEAT_S = 7200.0  # ours: the uptime that a crash may lose; leases are counted in weeks
BEATS_PER_EPOCH = 4.0  # where a network beats faster, so do the chores
LEASES_EVERY_BEATS = 3

log = logging.getLogger(__name__)


class Upkeep:
    """Runs the chores of one store. `clocks` says whether the wall clock may end a lease; `trouble` hears of a disk
    that fails, and of one that works again. `on_damaged` is told at each beat what is damaged or lost then,
    `on_dropped` of a file whose last share here was dropped.
    """

    def __init__(
        self,
        context: Context,
        store: ShareStore,
        clocks: ClockComparison,
        trouble: Trouble,
        on_damaged: Callable[[Sequence[ShareKey]], None],
        on_dropped: Callable[[FileId], None],
    ) -> None:
        self._env = context.env
        self._store = store
        self._clocks = clocks
        self._trouble = trouble
        self._on_damaged = on_damaged
        self._on_dropped = on_dropped
        self._gone: dict[FileId, None] = {}  # files that were dropped, not yet told
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
                damaged = await self._env.call(self._beat, agrees, beats % LEASES_EVERY_BEATS == 0)
                self._trouble.worked()
                self._on_damaged(damaged)
            except StoreError as error:  # the disk; what was not done is done at the next beat
                self._trouble.failed(error)
                log.warning("upkeep of the share store failed: %s", error)
            for file_id in self._gone:
                self._on_dropped(file_id)
            self._gone.clear()

    def _jumped_s(self) -> float:
        """By how much the wall clock was put ahead since the last call, or the machine slept; negative: put back."""
        ran_from, wall_from = self._read_at
        ran_to, wall_to = self._read_at = (trio.current_time(), self._env.wall())
        return (wall_to - wall_from) - (ran_to - ran_from)

    def _beat(self, clock_agrees: bool, look_at_leases: bool) -> list[ShareKey]:
        """All chores of a beat; what is damaged or lost after it. Called in a worker."""
        now = self._env.wall()
        self._store.note_uptime(self._beat_s, now)
        self._store.expire(now, self._unheeded_s)
        self._unheeded_s = 0.0  # only now: where it failed, the next beat must know of the same jump
        if look_at_leases:
            self._drop_expired(now, clock_agrees)
        report = self._store.scrub(now, scrub_budget_bytes(self._store.share_bytes, self._beat_s))
        self.damaged += len(report.damaged)
        return self._store.damaged()

    def _drop_expired(self, now: float, clock_agrees: bool) -> None:
        dropped = self._store.drop_expired(now, clock_agrees)
        self.dropped += len(dropped)
        files = dict.fromkeys(FileId(file_id) for file_id, _ in dropped)
        self._gone.update((file_id, None) for file_id in files if not self._store.held(file_id))
