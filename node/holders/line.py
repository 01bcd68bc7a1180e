"""Patience with many peers at once, of which none runs out because it is our own line that is slow.

Over a busy line, or one that our caps hold back, everybody is slow together and nobody is to blame. So time counts
against those who are waited for only while our line is idle. They are asked for a few blocks at a time, and for more
where those come quickly. Where something else keeps the line busy, blocks are compared with each other.
"""

import statistics
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

import trio

from shoal.node.channel import Throttle, TimedOut

LOOK_EVERY_S = 0.25
LONGEST_LOOK_S = 1.0  # what counts of one look: where the machine itself slept or was busy, nobody is to blame
BUSY_BYTES_PER_S = 8 * 1024  # our line is at work; less is what stalling holders let trickle
TURNS = 16  # blocks under way at once: 1 MiB, what an idle line of 1 MB/s brings in QUICK_S
QUICK_S = 1.0  # a block that came so quickly leaves room for one more; one that did not come lends its turn to another
SLOWEST_BLOCK_S = 16.0  # 64 KiB at 4 KiB/s: no slower line is waited for
LONGEST_BLOCK_S = 300.0  # TURNS of them, and what else the line may be busy with
STALL_S = 30.0  # a block that takes longer, however busy the line, is compared with the others
STALL_FACTOR = 8.0  # times what blocks take at the moment


@dataclass(eq=False)
class _Wait:
    """Somebody who is waited for, since when (monotonic), and how long at most while our line is idle."""

    since: float
    patience_s: float
    idle_s: float = 0.0  # our line, meanwhile
    has_turn: bool = False  # it is a block, and counts as one of those under way
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)


class Line:
    """Our line, as far as `throttle` and those around it see it. `watch` must run while somebody is waited for."""

    def __init__(self, throttle: Throttle) -> None:
        self._throttle = throttle
        self._waits: dict[_Wait, None] = {}
        self._blocks: dict[_Wait, None] = {}  # of those, whoever is asked for a block
        self._turns = trio.Semaphore(TURNS)
        self._durations: deque[float] = deque(maxlen=64)
        self._looked = (trio.current_time(), self._moved_bytes())

    async def watch(self) -> None:
        """Until cancelled."""
        self._looked = (trio.current_time(), self._moved_bytes())
        while True:
            await trio.sleep(LOOK_EVERY_S)
            self._look()

    @contextmanager
    def patience(self, idle_s: float, longest_s: float) -> Iterator[trio.CancelScope]:
        """A block of code that is given up once our line was idle for `idle_s` in it, or after `longest_s`."""
        with self._wait(_Wait(trio.current_time(), idle_s), longest_s) as scope:
            yield scope

    @asynccontextmanager
    async def turn(self, idle_s: float) -> AsyncIterator[None]:
        """The same for a block that a holder is asked for, from when its turn has come. TimedOut where it is given up,
        since our line was idle for `idle_s` or it takes far longer than the others'."""
        await self._turns.acquire()
        wait = _Wait(trio.current_time(), idle_s, has_turn=True)
        self._blocks[wait] = None
        try:
            with self._wait(wait, LONGEST_BLOCK_S):
                yield
                self._came(trio.current_time() - wait.since)
                return
        finally:
            del self._blocks[wait]
            self._give_turn(wait)
        raise TimedOut("a block did not come")

    @contextmanager
    def _wait(self, wait: _Wait, longest_s: float) -> Iterator[trio.CancelScope]:
        wait.scope.deadline = wait.since + longest_s
        self._waits[wait] = None
        try:
            with wait.scope:
                yield wait.scope
        finally:
            del self._waits[wait]

    def _came(self, took_s: float) -> None:
        self._durations.append(took_s)
        if took_s < QUICK_S:
            self._turns.release()

    def _give_turn(self, wait: _Wait) -> None:
        if wait.has_turn:
            wait.has_turn = False
            self._turns.release()

    def _moved_bytes(self) -> int:
        line = self._throttle.outermost  # our server, or a user's transfer, may be what keeps it busy
        return line.sent_bytes + line.received_bytes

    def _look(self) -> None:
        """Count the time since the last look against those who are waited for, if the line was idle."""
        now, moved = trio.current_time(), self._moved_bytes()
        passed_s, brought = now - self._looked[0], moved - self._looked[1]
        self._looked = (now, moved)
        if not self._throttle.holds_back(now) and brought < BUSY_BYTES_PER_S * passed_s:
            for wait in self._waits:
                self._count(wait, min(passed_s, LONGEST_LOOK_S, now - wait.since))
        limit_s = self._longest_s()
        for wait in self._blocks:
            if now - wait.since > limit_s:
                wait.scope.cancel()

    def _longest_s(self) -> float:
        """What a block may take over a busy line: by the others that came, or else by how many are under way."""
        if self._durations:
            return max(STALL_S, STALL_FACTOR * statistics.median(self._durations))
        return STALL_S + len(self._blocks) * SLOWEST_BLOCK_S

    def _count(self, wait: _Wait, idle_s: float) -> None:
        wait.idle_s += idle_s
        if wait.idle_s >= wait.patience_s:
            wait.scope.cancel()
        elif wait.idle_s > QUICK_S:
            self._give_turn(wait)
