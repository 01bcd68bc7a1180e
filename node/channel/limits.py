"""Bounds on what peers can take: bytes per second, and patience with the slow."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from shoal.node.channel.errors import TimedOut

T = TypeVar("T")

BURST_S = 0.05  # what an idle limit may let through at once; short enough to look smooth on a progress bar
MIN_SLICE_BYTES = 1_024  # below this the cost of a wake-up is larger than that of the bytes
UNLIMITED_SLICE_BYTES = 2**62

PATIENCE_S = 30.0  # without a byte; TCP sends a lost packet again after 1, 3, 7 and 15 s
MIN_RATE_BYTES_PER_S = 1_024  # 48 uploads over a 1 Mbit/s line get 2,604 each; a TLS record of 16 KiB comes within 30 s


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
    """How far a peer may fall behind the least rate. It holds for one direction of one connection.

    Waiting for the peer uses it up, and every byte that moves brings some of it back. Only time spent in `wait` counts:
    the time in which we ourselves hold the peer back does not.
    """

    __slots__ = ("_left_s",)

    def __init__(self) -> None:
        self._left_s = PATIENCE_S

    async def wait(self, operation: Callable[[], Awaitable[T]], moved: Callable[[], int]) -> T:
        """Await `operation`, which loses nothing when it is cancelled and begun again. `moved` counts bytes.

        Raises TimedOut when the peer has fallen behind too far.
        """
        while self._left_s > 0:
            begun, before = trio.current_time(), moved()
            with trio.move_on_after(self._left_s) as scope:
                result = await operation()
            if not scope.cancelled_caught:
                self._left_s -= trio.current_time() - begun
                self._credit(moved() - before)
                return result
            self._left_s = 0.0  # all of it, even where it was too little for the clock to show
            self._credit(moved() - before)
        raise TimedOut(f"the peer moves less than {MIN_RATE_BYTES_PER_S} bytes per second")

    def _credit(self, count: int) -> None:
        self._left_s = min(PATIENCE_S, self._left_s + count / MIN_RATE_BYTES_PER_S)
