"""Arrivals in virtual time: one courier wakes all receivers when something has arrived for them.

A timer for every datagram and every piece of a stream would be most of what a simulated network costs.
"""

import heapq
import math
from collections.abc import Callable

import trio

from shoal.simulation.scheduler import stops_of_this_run


class Courier:
    """Calls things when their time has come.

    In a run of `run_seeded` the clock itself does it; under any other clock a task does, which starts with the first
    call.  grain_s: times are rounded up to a multiple of it, so that a clock that jumps has fewer stops; 0 for none.
    """

    def __init__(self, grain_s: float = 0.0) -> None:
        self.grain_s = grain_s
        self._call_at: Callable[[float, Callable[[], object]], None] | None = None

    def arrival(self, when: float) -> float:
        """The moment at which what would arrive at `when` does."""
        return math.ceil(when / self.grain_s) * self.grain_s if self.grain_s else when

    def call_at(self, when: float, call: Callable[[], object]) -> None:
        """Call `call` at `when`, or as soon as can be. It must not raise or wait."""
        if self._call_at is None:
            stops = stops_of_this_run()
            self._call_at = stops.call_at if stops is not None else _Alarm().call_at
        self._call_at(when, call)

    async def sleep_until(self, when: float) -> None:
        """Like trio's, to the grain."""
        arrived = trio.Event()
        self.call_at(self.arrival(when), arrived.set)
        await arrived.wait()


class _Alarm:
    """A task that makes the calls."""

    def __init__(self) -> None:
        self._calls: list[tuple[float, int, Callable[[], object]]] = []  # a heap: when, in which order, what
        self._order = 0
        self._sleep: trio.CancelScope | None = None
        trio.lowlevel.spawn_system_task(self._run)

    def call_at(self, when: float, call: Callable[[], object]) -> None:
        self._order += 1
        heapq.heappush(self._calls, (when, self._order, call))
        if self._sleep is not None and when < self._sleep.deadline:
            self._sleep.deadline = when

    async def _run(self) -> None:
        while True:
            calls, now = self._calls, trio.current_time()
            while calls and calls[0][0] <= now:
                heapq.heappop(calls)[2]()
            with trio.CancelScope(deadline=calls[0][0] if calls else math.inf) as self._sleep:
                await trio.sleep_forever()
            self._sleep = None
