"""Rates, patience, and the throttle that waits."""

import random
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from shoal.node.channel import RateLimit, Throttle, TimedOut
from shoal.node.channel.limits import MIN_RATE_BYTES_PER_S, PATIENCE_S, Patience


def test_a_rate_holds_over_time_whatever_the_sizes(rng: random.Random) -> None:
    limit, now, moved = RateLimit(100_000), 50.0, 0
    while now < 60.0:
        count = rng.randint(1, 20_000)
        now += limit.take(count, now)
        moved += count
    assert moved == pytest.approx(1_000_000, rel=0.04)


def test_an_idle_rate_saves_up_no_more_than_a_short_burst() -> None:
    limit = RateLimit(1000)
    limit.take(1, 0.0)
    assert limit.take(50, 1000.0) == 0.0
    assert limit.take(50, 1000.0) == 0.0
    assert limit.take(1, 1000.0) > 0.0


def test_no_limit_never_waits() -> None:
    assert RateLimit(None).take(10**12, 0.0) == 0.0


@pytest.mark.parametrize("rate", [0, -1])
def test_a_rate_of_nothing_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="more than nothing"):
        RateLimit(rate)


async def test_senders_share_a_throttle_fairly(autojump_clock: trio.testing.MockClock) -> None:
    throttle, moved = Throttle(up_bytes_per_s=1_000_000), [0, 0, 0]

    async def send(index: int) -> None:
        while True:
            await throttle.wait_to_send(throttle.up.slice_bytes)
            moved[index] += throttle.up.slice_bytes

    with trio.move_on_after(10):
        async with trio.open_nursery() as nursery:
            for index in range(3):
                nursery.start_soon(send, index)
    assert sum(moved) == pytest.approx(10_000_000, rel=0.03)
    assert max(moved) - min(moved) <= 4 * throttle.up.slice_bytes


async def test_a_cancelled_wait_gives_its_turn_back(autojump_clock: trio.testing.MockClock) -> None:
    throttle = Throttle(up_bytes_per_s=1000)
    await throttle.wait_to_send(1000)
    with trio.move_on_after(0.01):
        await throttle.wait_to_send(100_000)
    begun = trio.current_time()
    await throttle.wait_to_send(10)
    assert trio.current_time() - begun < 1.1


class Dripping:
    """A peer that moves so many bytes every second, and nothing more from some second on."""

    def __init__(self, bytes_per_s: int, until_s: float = float("inf")) -> None:
        self.bytes_per_s, self.until_s = bytes_per_s, until_s

    def moved(self) -> int:
        return int(self.bytes_per_s * min(trio.current_time(), self.until_s))


def until(moment_s: float) -> Callable[[], Awaitable[None]]:
    """Something that is over at that time, however often it is begun."""

    async def sleep() -> None:
        await trio.sleep_until(moment_s)

    return sleep


async def test_patience_counts_only_time_spent_waiting(autojump_clock: trio.testing.MockClock) -> None:
    patience, peer = Patience(), Dripping(0)
    await patience.wait(until(PATIENCE_S - 1), peer.moved)
    await trio.sleep(100)
    with pytest.raises(TimedOut):
        await patience.wait(until(1000), peer.moved)


@pytest.mark.parametrize(("bytes_per_s", "most_s"), [(MIN_RATE_BYTES_PER_S // 2, 2 * PATIENCE_S), (1, PATIENCE_S + 1)])
async def test_a_peer_below_the_least_rate_falls_behind(
    autojump_clock: trio.testing.MockClock, bytes_per_s: int, most_s: float
) -> None:
    with pytest.raises(TimedOut):
        await Patience().wait(until(10_000), Dripping(bytes_per_s).moved)
    assert trio.current_time() == pytest.approx(most_s, abs=1.1)


async def test_a_peer_above_the_least_rate_may_take_hours(autojump_clock: trio.testing.MockClock) -> None:
    await Patience().wait(until(10_000), Dripping(MIN_RATE_BYTES_PER_S + 1).moved)


async def test_what_moved_long_ago_buys_no_more_than_the_usual_patience(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Ten seconds at full speed do not pay for an hour of silence."""
    patience, peer = Patience(), Dripping(10**7, until_s=10)
    with pytest.raises(TimedOut):
        await patience.wait(until(10_000), peer.moved)
    assert trio.current_time() <= 10 + 2 * PATIENCE_S


async def test_patience_that_is_too_short_for_the_clock_is_over(mock_clock: trio.testing.MockClock) -> None:
    """One byte brings back a millisecond. Late in the life of a clock such steps are lost in rounding."""
    mock_clock.jump(2.0**44)
    mock_clock.autojump_threshold = 0
    tries = 0

    async def nothing() -> None:
        nonlocal tries
        tries += 1
        assert tries < 10
        await trio.sleep_forever()

    with pytest.raises(TimedOut):
        await Patience().wait(nothing, lambda: min(tries, 1))
