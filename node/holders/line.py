"""Is it them, or is it our line? Publish, check, fetch, audit and repair ask this one judge.

Over a busy line, or one that our caps hold back, all peers are slow together, and none is to blame. No fixed deadline
fits all lines. The judge knows four things instead, each from times and byte counts alone:

* `Meter`: whether our line was idle since the last look.
* `Durations`: how long requests take at the moment.
* `Waits`: which of the peers that are waited for have stalled. A peer stalls when our line is idle for its whole
  patience, or when it takes far longer than most of those that were asked with it.
* `Headway`: whether a long job gets on.

`Line` waits for peers by these rules; only it knows tasks and clocks. A byte counts wherever it moves: our own server,
or another transfer of the user, may be what keeps the line busy.
"""

import statistics
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import trio

from shoal.erasure import BLOCK_BYTES
from shoal.node.channel import Throttle, TimedOut
from shoal.node.nursery import open_nursery
from shoal.values import dataclass

# Speeds, the lowest first.
SLOWEST_BYTES_PER_S = 4 * 1024  # no slower line is waited for while there is nothing to compare with
BUSY_BYTES_PER_S = 8 * 1024  # our line is at work; stalling holders let less than this trickle
SLOW_LINE_BYTES_PER_S = 64_000.0  # what a slow home line of 0.5 Mbit/s moves when it is full

# Times of one request.
STALL_S = 30.0  # a block or a batch may take so long of an idle line; over a busy one it is not looked at sooner
STALL_FACTOR = 8.0  # times what most others take, and it has stalled
LONGEST_S = 300.0  # the last resort: 1 MiB over a sixteenth of a slow home line; servers give up then, too
SLOWEST_BLOCK_S = BLOCK_BYTES / SLOWEST_BYTES_PER_S

LOOK_EVERY_S = 0.25
LONGEST_LOOK_S = 1.0  # what counts of one look: nobody is to blame when this machine slept or was busy itself
TURNS = 16  # blocks under way at once: 1 MiB, what an idle line of 1 MB/s brings in QUICK_S
QUICK_S = 1.0  # a block that came so quickly leaves room for one more; one that did not come lends its turn to another
MOST_DURATIONS = 64


class Meter:
    """Tells whether our line was idle. `moved` is what the line has moved since the start of the node, in bytes."""

    def __init__(self, now: float, moved: int) -> None:
        self._looked = (now, moved)

    def look(self, now: float, moved: int, *, held_back: bool) -> float:
        """For how many seconds the line was idle since the last look: for all of them, or for none.

        `held_back`: our caps are what bytes wait for, so the line counts as busy.
        """
        passed_s, brought = now - self._looked[0], moved - self._looked[1]
        self._looked = (now, moved)
        return 0.0 if held_back or brought >= BUSY_BYTES_PER_S * passed_s else passed_s


class Durations:
    """How long the last requests of one kind took."""

    def __init__(self) -> None:
        self._last: deque[tuple[float, float]] = deque(maxlen=MOST_DURATIONS)  # since when, for how long

    def came(self, since: float, took_s: float) -> None:
        """A request that began at `since` was answered."""
        self._last.append((since, took_s))

    def usual_s(self, at_least: int, *, since: float = float("-inf")) -> float | None:
        """The median of those that began at `since` or later; None when fewer than `at_least` are known."""
        found = [took_s for begun, took_s in self._last if begun >= since]
        return statistics.median(found) if len(found) >= max(1, at_least) else None


@dataclass(eq=False)
class Wait:
    """A peer that is waited for, since when (monotonic), and how long at most while our line is idle.

    A request for blocks is compared with other such requests: then `asked_bytes` is how many bytes are under way.
    """

    since: float
    patience_s: float
    asked_bytes: int = 0
    idle_s: float = 0.0  # our line, meanwhile


class Waits:
    """Everybody who is waited for at the moment, and who of them has stalled."""

    def __init__(self, now: float, moved: int) -> None:
        self._meter = Meter(now, moved)
        self._durations = Durations()
        self._waits: dict[Wait, None] = {}

    def begin(self, wait: Wait) -> None:
        """Wait for one more."""
        self._waits[wait] = None

    def came(self, wait: Wait, now: float) -> None:
        """What was asked for is there."""
        self._durations.came(wait.since, now - wait.since)

    def end(self, wait: Wait) -> None:
        """It is waited for no more."""
        del self._waits[wait]

    def look(self, now: float, moved: int, *, held_back: bool) -> list[Wait]:
        """Count the time since the last look against those who are waited for, if our line was idle; the stalled."""
        idle_s = min(LONGEST_LOOK_S, self._meter.look(now, moved, held_back=held_back))
        for wait in self._waits:
            wait.idle_s += min(idle_s, now - wait.since)
        return [wait for wait in self._waits if wait.idle_s >= wait.patience_s or self._is_outrun(wait, now)]

    def _is_outrun(self, wait: Wait, now: float) -> bool:
        took_s = now - wait.since
        return wait.asked_bytes > 0 and took_s > STALL_S and took_s > self.longest_s(wait)

    def longest_s(self, wait: Wait) -> float:
        """What a request for blocks may take over a busy line.

        It is compared with those that began with it or later, since they shared the line with it. As many must have
        come as are under way still: the first to come are the quickest.
        """
        under_way = [each.asked_bytes for each in self._waits if each.asked_bytes]
        usual_s = self._durations.usual_s(min(len(under_way), MOST_DURATIONS), since=wait.since)
        if usual_s is None:
            return STALL_S + sum(under_way) / SLOWEST_BYTES_PER_S
        return max(STALL_S, STALL_FACTOR * usual_s)


class Headway:
    """Whether a job gets on: it has to move `least_bytes` in every `patience_s`. There is no longest time."""

    def __init__(self, least_bytes: float, patience_s: float, now: float, moved: int) -> None:
        self._least_bytes = least_bytes
        self._patience_s = patience_s
        self._seen = (now, moved)

    @property
    def deadline(self) -> float:
        """When the job is given up unless it moves more."""
        return self._seen[0] + self._patience_s

    def note(self, now: float, moved: int) -> None:
        """`moved` bytes are through in all."""
        if moved - self._seen[1] >= self._least_bytes:
            self.restart(now, moved)

    def restart(self, now: float, moved: int) -> None:
        """Something was done that counts by itself."""
        self._seen = (now, moved)


def full_bytes_per_s(throttle: Throttle) -> float:
    """What our line moves when it is full: like a slow home line, or half of the lower cap where that is less.

    An audit, and a repair for hours, ask whether the line is *full*. That takes more than being busy: audits alone
    keep it busy, and a holder that stalls must find no excuse in them.
    """
    caps = [each.bytes_per_s for each in (throttle.up, throttle.down)]
    return min([SLOW_LINE_BYTES_PER_S, *(cap / 2 for cap in caps if cap is not None)])


def capped_s(throttle: Throttle, asked_bytes: int) -> float:
    """Twice what our own cap takes to receive so much; nothing where there is no cap."""
    cap = throttle.down.bytes_per_s
    return 0.0 if cap is None else 2 * asked_bytes / cap


def moved_by_line(throttle: Throttle) -> int:
    """All bytes that this node has sent and received."""
    whole = throttle.outermost
    return whole.sent_bytes + whole.received_bytes


class Stalled(TimedOut):
    """A peer was given up, and it was not our line."""


class Line:
    """Our line, as far as `throttle` and those around it see it. Peers are judged for as long as `watch` runs."""

    def __init__(self, throttle: Throttle) -> None:
        self._throttle = throttle
        self._waits = Waits(trio.current_time(), moved_by_line(throttle))
        self._scopes: dict[Wait, trio.CancelScope] = {}
        self._turns = trio.Semaphore(TURNS)
        self._with_turn: set[Wait] = set()

    @asynccontextmanager
    async def watched(self) -> AsyncIterator["Line"]:
        """A block of code in which `watch` runs."""
        async with open_nursery() as nursery:
            nursery.start_soon(self.watch)
            yield self
            nursery.cancel_scope.cancel()

    async def watch(self) -> None:
        """Until cancelled: give up those who stall."""
        while True:
            await trio.sleep(LOOK_EVERY_S)
            now = trio.current_time()
            held_back = self._throttle.holds_back(now)
            for wait in self._waits.look(now, moved_by_line(self._throttle), held_back=held_back):
                self._scopes[wait].cancel()
            for wait in [each for each in self._with_turn if each.idle_s > QUICK_S]:
                self._give_turn(wait)

    @contextmanager
    def patience(self, idle_s: float, longest_s: float) -> Iterator[trio.CancelScope]:
        """A block of code that is given up once our line was idle for `idle_s` in it, or after `longest_s`."""
        with self._wait(Wait(trio.current_time(), idle_s), longest_s) as scope:
            yield scope

    @contextmanager
    def request(self, asked_bytes: int) -> Iterator[None]:
        """The same for a request that moves blocks, which is compared with the others.

        Raises Stalled when it takes far longer than they do, or when our line was idle for STALL_S.
        """
        with self._request(Wait(trio.current_time(), STALL_S, asked_bytes)):
            yield

    @asynccontextmanager
    async def turn(self, idle_s: float) -> AsyncIterator[None]:
        """The same for one block, from when its turn has come. Its patience is `idle_s`."""
        await self._turns.acquire()
        wait = Wait(trio.current_time(), idle_s, BLOCK_BYTES)
        self._with_turn.add(wait)
        try:
            with self._request(wait):
                yield
                if trio.current_time() - wait.since < QUICK_S:
                    self._turns.release()
        finally:
            self._give_turn(wait)

    @contextmanager
    def _request(self, wait: Wait) -> Iterator[None]:
        with self._wait(wait, LONGEST_S):
            yield
            self._waits.came(wait, trio.current_time())
            return
        raise Stalled("a peer took too long")

    @contextmanager
    def _wait(self, wait: Wait, longest_s: float) -> Iterator[trio.CancelScope]:
        self._scopes[wait] = trio.CancelScope(deadline=wait.since + longest_s)
        self._waits.begin(wait)
        try:
            with self._scopes[wait] as scope:
                yield scope
        finally:
            self._waits.end(wait)
            del self._scopes[wait]

    def _give_turn(self, wait: Wait) -> None:
        if wait in self._with_turn:
            self._with_turn.remove(wait)
            self._turns.release()
