"""The one place where trio's scheduler is made to repeat itself.

Trio runs the tasks that are ready in an order it draws at random, so that nobody relies on it. To replay a
simulation from its seed the draws must repeat. Trio has no public switch for that; this uses the one its own
tests use (test_scheduler_determinism). tests/simulation/test_scheduler.py fails if a new trio moves it.

What else a replay needs: an autojump clock, all randomness from the seed, work done in place and not in threads,
and no iteration over sets of bytes or strings, whose order changes from process to process.
"""

import gc
import heapq
import itertools
import math
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, TypeVarTuple
from weakref import WeakKeyDictionary

import trio
import trio.testing

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

TURNS_PER_LOOK = 256  # some milliseconds of real time
COLLECT_EVERY = (100_000, 2, 3)  # new objects, and collections of the younger generations

_run: Any = trio._core._run  # private, see above: the generator `_r`, the switch _ALLOW_DETERMINISTIC_SCHEDULING


@contextmanager
def seeded_scheduler(seed: int) -> Iterator[None]:
    """Inside the block, the order in which trio runs ready tasks depends on `seed` and on nothing else.

    For the whole process, so not for blocks that overlap. Works around trio.run as well as inside a running loop.
    """
    was_deterministic, state = _run._ALLOW_DETERMINISTIC_SCHEDULING, _run._r.getstate()
    _run._ALLOW_DETERMINISTIC_SCHEDULING = True
    _run._r.seed(seed)
    try:
        yield
    finally:
        _run._ALLOW_DETERMINISTIC_SCHEDULING = was_deterministic
        _run._r.setstate(state)


def run_seeded(seed: int, main: Callable[[*Ts], Awaitable[T]], *args: *Ts) -> T:
    """`trio.run(main, *args)` in virtual time, which jumps ahead when nothing is left to do, and replayable.

    `main` must not do any real input or output through trio, nor use threads: it is hardly ever looked for.
    """
    clock = trio.testing.MockClock(autojump_threshold=0)
    _stops[clock] = Stops(clock)

    async def without_sockets() -> T:
        runner = _run.GLOBAL_RUN_CONTEXT.runner
        runner.io_manager = _RareEvents(runner.io_manager)
        return await main(*args)

    with seeded_scheduler(seed), _rare_collections():
        return trio.run(without_sockets, clock=clock)


@contextmanager
def _rare_collections() -> Iterator[None]:
    """Look for garbage in cycles seldom: hundreds of nodes are many objects, and that was a sixth of the work."""
    before = gc.get_threshold()
    gc.set_threshold(*COLLECT_EVERY)
    try:
        yield
    finally:
        gc.set_threshold(*before)


class Stops:
    """Calls that a clock which jumps stops for, beside trio's deadlines: much cheaper than a task that sleeps."""

    def __init__(self, clock: trio.testing.MockClock) -> None:
        self._calls: list[tuple[float, int, Callable[[], object]]] = []  # a heap: when, in which order, what
        self._order = 0
        self._now = clock.current_time()
        hook: Any = clock  # private, see above: the loop calls it when nothing is left to do, the class is final
        hook._autojump = self._jump
        hook.current_time = lambda: self._now

    def call_at(self, when: float, call: Callable[[], object]) -> None:
        """Call `call` at `when`, or as soon as no task has anything left to do. It must not raise."""
        self._order += 1
        heapq.heappush(self._calls, (when, self._order, call))

    def _jump(self) -> None:
        calls = self._calls
        next_at = min(_run.GLOBAL_RUN_CONTEXT.runner.deadlines.next_deadline(), calls[0][0] if calls else math.inf)
        if self._now < next_at < math.inf:
            self._now = next_at
        while calls and calls[0][0] <= self._now:
            heapq.heappop(calls)[2]()


_stops: "WeakKeyDictionary[trio.abc.Clock, Stops]" = WeakKeyDictionary()


def stops_of_this_run() -> Stops | None:
    """Those of the clock, if it is one of `run_seeded`'s."""
    return _stops.get(trio.lowlevel.current_clock())


class _RareEvents:
    """Asks the system for events in one of many turns of trio's loop: only Ctrl-C can be among them.

    Each asking is a system call, in virtual time for nothing: up to a tenth of a simulation.
    """

    def __init__(self, manager: Any) -> None:
        self._manager = manager
        self._turns = itertools.cycle(range(TURNS_PER_LOOK))

    def get_events(self, timeout: float) -> Any:
        return [] if next(self._turns) else self._manager.get_events(timeout)

    def process_events(self, events: Any) -> None:
        if events:
            self._manager.process_events(events)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._manager, name)
