"""Rates, memory and slots: pure objects, and the throttle that waits."""

import random

import pytest
import trio
import trio.testing

from shoal.dht import Address
from shoal.node.channel import ConnectionSlots, MemoryBudget, RateLimit, Throttle, TimedOut
from shoal.node.channel.limits import MIN_RATE_BYTES_PER_S, PATIENCE_S, SQUEEZE_AGE_S, Patience


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


async def nothing_for(seconds: float) -> None:
    await trio.sleep(seconds)


async def test_patience_counts_only_time_spent_waiting(autojump_clock: trio.testing.MockClock) -> None:
    patience = Patience(MIN_RATE_BYTES_PER_S)
    await patience.wait(nothing_for(PATIENCE_S))
    await trio.sleep(100)
    with pytest.raises(TimedOut):
        await patience.wait(nothing_for(2))


def test_memory_is_bounded_and_given_back() -> None:
    budget = MemoryBudget(100)
    first = budget.take(60, 0.0, lambda: None)
    assert first is not None
    assert budget.take(41, 0.0, lambda: None) is None
    assert budget.take(40, 0.0, lambda: None) is not None
    budget.release(first)
    assert budget.used_bytes == 40


def test_the_oldest_holder_is_evicted_only_under_pressure_and_when_slow() -> None:
    budget, evicted = MemoryBudget(100), list[str]()
    budget.take(50, 0.0, lambda: evicted.append("old"))
    budget.take(50, 1.0, lambda: evicted.append("young"))
    assert budget.take(1, SQUEEZE_AGE_S - 1, lambda: None) is None
    assert evicted == []
    assert budget.take(1, SQUEEZE_AGE_S + 0.5, lambda: None) is None
    assert evicted == ["old"]


LOCAL, FAR, OTHER = Address("10.1.0.1", 1), Address("10.2.0.1", 5), Address("10.3.0.1", 5)


def test_slots_are_counted_per_host_and_in_all() -> None:
    slots = ConnectionSlots(total=3, per_host=2)
    taken = [slots.take(FAR, LOCAL), slots.take(FAR._replace(port=6), LOCAL)]
    assert None not in taken
    assert slots.take(FAR, LOCAL) is None
    assert slots.take(OTHER, LOCAL) is not None
    assert slots.take(Address("10.4.0.1", 5), LOCAL) is None
    assert taken[0] is not None
    slots.release(taken[0])
    assert slots.take(FAR, LOCAL) is not None


def test_one_slot_is_kept_for_this_machine() -> None:
    slots = ConnectionSlots(total=1)
    assert slots.take(FAR, LOCAL) is not None
    reserved = slots.take(Address("127.0.0.1", 9), LOCAL)
    assert reserved is not None
    assert reserved.reserved
    assert slots.take(LOCAL._replace(port=9), LOCAL) is None
    slots.release(reserved)
    assert slots.take(LOCAL._replace(port=9), LOCAL) is not None


def test_private_networks_count_no_hosts() -> None:
    slots = ConnectionSlots(total=50, per_host=None)
    assert all(slots.take(FAR, LOCAL) for _ in range(50))
