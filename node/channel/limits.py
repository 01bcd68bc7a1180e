"""Bounds on what peers can take: bytes per second, bytes of memory, and patience with the slow."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import trio

from shoal.node.channel.errors import TimedOut

T = TypeVar("T")

BURST_S = 0.05  # what an idle limit may let through at once; short enough to look smooth on a progress bar
MIN_SLICE_BYTES = 1_024  # below this the cost of a wake-up is larger than that of the bytes
UNLIMITED_SLICE_BYTES = 2**62

PATIENCE_S = 10.0  # for any frame, however small; covers a lost packet retried a few times
MIN_RATE_BYTES_PER_S = 1_024  # 48 uploads at once over a 0.5 Mbit/s line still pass, one byte per second does not

MAX_MEMORY_BYTES = 64 * 2**20  # payloads in memory for all connections of a server together
SQUEEZE_AGE_S = 20.0  # under memory pressure 1 MiB must move on within this time (52 KiB/s)


class RateLimit:
    """So many bytes per second. Pure: the caller gives the time and does the waiting.

    Turns are handed out in the order of the calls, so that users who take small slices in turn share fairly.
    """

    def __init__(self, bytes_per_s: float | None) -> None:
        """`bytes_per_s` None means no limit. Raises ValueError when it is not positive."""
        if bytes_per_s is not None and not bytes_per_s > 0:
            raise ValueError("a rate must be more than nothing")
        self.bytes_per_s = bytes_per_s
        self._paid_until_s = float("-inf")

    @property
    def slice_bytes(self) -> int:
        """How much to take in one turn."""
        if self.bytes_per_s is None:
            return UNLIMITED_SLICE_BYTES
        return max(MIN_SLICE_BYTES, int(self.bytes_per_s * BURST_S))

    def take(self, count: int, now: float) -> float:
        """Take a turn for `count` bytes; the seconds to wait before using it."""
        if self.bytes_per_s is None:
            return 0.0
        start = max(self._paid_until_s, now - BURST_S)
        self._paid_until_s = start + count / self.bytes_per_s
        return max(0.0, start - now)

    def is_spent(self, now: float) -> bool:
        """Whether a turn taken now has to be waited for."""
        return self._paid_until_s > now

    def give_back(self, count: int) -> None:
        """Undo a `take` whose bytes were not moved after all."""
        if self.bytes_per_s is not None:
            self._paid_until_s -= count / self.bytes_per_s


class Throttle:
    """The caps of one node on what its streams send and receive together (`--up`, `--down`).

    Shared by every reader and writer of frames, of the server and of the clients alike. What the kernel holds in its
    socket buffers is out of reach. So received bytes come in lumps of that size, and only the average is kept. With
    `within` the caps are a part of another throttle's: bytes count in both, and wait for both.
    """

    def __init__(
        self,
        up_bytes_per_s: float | None = None,
        down_bytes_per_s: float | None = None,
        *,
        within: "Throttle | None" = None,
    ) -> None:
        self._within = within
        self.up = RateLimit(up_bytes_per_s)
        self.down = RateLimit(down_bytes_per_s)
        self.sent_bytes = 0  # over the life of the node; also tells whether anything moves at all
        self.received_bytes = 0

    async def wait_to_send(self, count: int) -> None:
        """Wait for a turn to send `count` bytes; a wait that is cancelled gives the turn back."""
        if self._within is not None:
            await self._within.wait_to_send(count)
        self.sent_bytes += count
        delay_s = self.up.take(count, trio.current_time())
        if delay_s <= 0:
            return
        try:
            await trio.sleep(delay_s)
        except trio.Cancelled:
            self.up.give_back(count)
            raise

    async def wait_after_receiving(self, count: int) -> None:
        """Hold back the next receive after `count` bytes; the peer then finds its window full."""
        if self._within is not None:
            await self._within.wait_after_receiving(count)
        self.received_bytes += count
        delay_s = self.down.take(count, trio.current_time())
        if delay_s > 0:
            await trio.sleep(delay_s)

    @property
    def outermost(self) -> "Throttle":
        """The throttle in which the bytes of this one, and of all others within it, count: what our line moves."""
        return self if self._within is None else self._within.outermost

    def holds_back(self, now: float) -> bool:
        """Whether bytes wait for the caps at the moment, and not for peers or the line."""
        within = self._within is not None and self._within.holds_back(now)
        return within or self.up.is_spent(now) or self.down.is_spent(now)


async def acquire(turns: trio.Lock | trio.Semaphore) -> None:
    """Acquire, without the trip through the scheduler that trio makes even where there is nobody to wait for.

    No other task has a turn meanwhile. A caller that does this over and over must give the others one.
    """
    await trio.lowlevel.checkpoint_if_cancelled()  # a cancelled task has not had its turn
    try:
        turns.acquire_nowait()
    except trio.WouldBlock:
        await turns.acquire()


class Patience:
    """How long a peer may take over one frame. Time that we ourselves hold it back does not count."""

    __slots__ = ("_left_s",)

    def __init__(self, frame_bytes: int) -> None:
        self._left_s = PATIENCE_S + frame_bytes / MIN_RATE_BYTES_PER_S

    async def wait(self, operation: Awaitable[T]) -> T:
        """Await `operation`; raises TimedOut when the peer has used its time up."""
        begun = trio.current_time()
        with trio.move_on_after(self._left_s):
            result = await operation
            self._left_s -= trio.current_time() - begun
            return result
        raise TimedOut("the peer is too slow for a frame")


@dataclass(eq=False)
class Grant:
    """Some bytes of the budget. `evict` ends the connection that holds it."""

    bytes_count: int
    since: float
    evict: Callable[[], None]


class MemoryBudget:
    """How many bytes of payloads a server holds for all its connections together. Pure.

    There is no queue: a peer that finds it full is told that the node is busy. When others find no room, the connection
    that has held its bytes longest is given up. So a few slow peers cannot keep it full.
    """

    def __init__(self, limit_bytes: int = MAX_MEMORY_BYTES) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self._grants: dict[Grant, None] = {}  # oldest first

    def take(self, count: int, now: float, evict: Callable[[], None]) -> Grant | None:
        """Take `count` bytes, or None when there is no room. Give them back with `release`."""
        if self.used_bytes + count > self.limit_bytes:
            self._squeeze(now)
            return None
        grant = Grant(count, now, evict)
        self._grants[grant] = None
        self.used_bytes += count
        return grant

    def release(self, grant: Grant) -> None:
        """Give a grant back. Once only."""
        del self._grants[grant]
        self.used_bytes -= grant.bytes_count

    def _squeeze(self, now: float) -> None:
        oldest = next(iter(self._grants), None)
        if oldest is not None and now - oldest.since > SQUEEZE_AGE_S:
            oldest.evict()
