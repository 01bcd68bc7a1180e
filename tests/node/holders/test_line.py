"""Whose time it is that runs out: the peers', and not that of our own line."""

import pytest
import trio
import trio.testing

from shoal.erasure import BLOCK_BYTES
from shoal.node.channel import Throttle, TimedOut
from shoal.node.holders.line import (
    BUSY_BYTES_PER_S,
    SLOW_LINE_BYTES_PER_S,
    SLOWEST_BLOCK_S,
    STALL_FACTOR,
    STALL_S,
    TURNS,
    Durations,
    Headway,
    Line,
    Meter,
    Wait,
    Waits,
    capped_s,
    full_bytes_per_s,
)

PATIENCE_S = 4.0


async def bring(throttle: Throttle, bytes_per_s: float) -> None:
    while True:
        await trio.sleep(0.125)
        await throttle.wait_after_receiving(int(bytes_per_s / 8))


async def given_up_after(line: Line, longest_s: float = 1000.0) -> float:
    """How long somebody silent is waited for."""
    begun = trio.current_time()
    with line.patience(PATIENCE_S, longest_s):
        await trio.sleep_forever()
    return trio.current_time() - begun


async def test_who_is_silent_is_given_up_in_time_over_an_idle_line(autojump_clock: trio.testing.MockClock) -> None:
    throttle = Throttle()
    line = Line(throttle)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(line.watch)
        nursery.start_soon(bring, throttle, BUSY_BYTES_PER_S / 2)
        assert PATIENCE_S <= await given_up_after(line) < PATIENCE_S + 1
        nursery.cancel_scope.cancel()


async def test_over_a_busy_line_nobody_is_given_up_before_the_last_resort(
    autojump_clock: trio.testing.MockClock,
) -> None:
    throttle = Throttle()
    line = Line(throttle)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(line.watch)
        nursery.start_soon(bring, throttle, 2 * BUSY_BYTES_PER_S)
        assert await given_up_after(line, 60.0) >= 59.9
        nursery.cancel_scope.cancel()


async def test_our_own_cap_is_nobodys_fault_however_low_it_is(autojump_clock: trio.testing.MockClock) -> None:
    whole = Throttle(down_bytes_per_s=1000)
    part = Throttle(within=whole)
    line = Line(part)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(line.watch)
        for _ in range(3):
            nursery.start_soon(bring, part, 1000)
        assert await given_up_after(line, 60.0) >= 59.9
        nursery.cancel_scope.cancel()


async def test_a_line_that_others_of_this_node_keep_busy_is_not_idle(autojump_clock: trio.testing.MockClock) -> None:
    """Our own server, say, while the care for files has a throttle of its own within the same caps."""
    whole = Throttle()
    line = Line(Throttle(within=Throttle(within=whole)))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(line.watch)
        nursery.start_soon(bring, whole, 2 * BUSY_BYTES_PER_S)
        assert await given_up_after(line, 60.0) >= 59.9
        nursery.cancel_scope.cancel()


async def test_blocks_that_do_not_come_hold_up_no_others_and_quick_ones_make_room(
    autojump_clock: trio.testing.MockClock,
) -> None:
    line, begun, ends, late = Line(Throttle()), trio.current_time(), list[float](), list[float]()

    async def quick() -> None:
        async with line.turn(PATIENCE_S):
            await trio.sleep(0.1)
        ends.append(trio.current_time() - begun)

    async def silent() -> None:
        try:
            async with line.turn(PATIENCE_S):
                await trio.sleep_forever()
        except TimedOut:
            late.append(trio.current_time() - begun)

    async with trio.open_nursery() as watch:
        watch.start_soon(line.watch)
        async with trio.open_nursery() as nursery:
            for work in (silent, quick):
                for _ in range(3 * TURNS):
                    nursery.start_soon(work)
                await trio.sleep(0.01)
        watch.cancel_scope.cancel()
    assert len(ends) == len(late) == 3 * TURNS
    assert max(ends) < 5.0
    assert max(late) < 4.0 + PATIENCE_S + 1.0


async def test_beside_a_busy_line_a_block_is_compared_with_the_others(autojump_clock: trio.testing.MockClock) -> None:
    throttle = Throttle()
    line, late = Line(throttle), list[float]()

    async def ask(took_s: float) -> None:
        begun = trio.current_time()
        try:
            async with line.turn(PATIENCE_S):
                await trio.sleep(took_s)
        except TimedOut:
            late.append(trio.current_time() - begun)

    async with trio.open_nursery() as busy:
        busy.start_soon(line.watch)
        busy.start_soon(bring, throttle, 1e6)
        async with trio.open_nursery() as nursery:
            for took_s in (5.0, 6.0, 7.0, 25.0, 200.0):
                nursery.start_soon(ask, took_s)
        busy.cancel_scope.cancel()
    (only,) = late
    assert max(STALL_S, STALL_FACTOR * 6.5) <= only < STALL_FACTOR * 6.5 + 1


async def test_beside_a_busy_line_a_silent_holder_alone_is_given_up_sooner(
    autojump_clock: trio.testing.MockClock,
) -> None:
    throttle = Throttle()
    line, begun = Line(throttle), trio.current_time()
    async with trio.open_nursery() as busy:
        busy.start_soon(line.watch)
        busy.start_soon(bring, throttle, 1e6)
        with pytest.raises(TimedOut):
            async with line.turn(PATIENCE_S):
                await trio.sleep_forever()
        busy.cancel_scope.cancel()
    assert STALL_S <= trio.current_time() - begun <= STALL_S + SLOWEST_BLOCK_S + 1


# --- the plain parts


def test_a_meter_counts_idle_time_only_between_looks_that_brought_little() -> None:
    meter = Meter(0.0, 0)
    assert meter.look(1.0, int(BUSY_BYTES_PER_S) - 1, held_back=False) == 1.0
    assert meter.look(2.0, 3 * int(BUSY_BYTES_PER_S), held_back=False) == 0.0
    assert meter.look(4.0, 3 * int(BUSY_BYTES_PER_S), held_back=True) == 0.0
    assert meter.look(4.5, 3 * int(BUSY_BYTES_PER_S), held_back=False) == 0.5


def test_the_usual_duration_is_a_median_of_enough_requests_that_began_late_enough() -> None:
    durations = Durations()
    assert durations.usual_s(0) is None
    for since, took_s in ((0.0, 1.0), (1.0, 3.0), (2.0, 100.0)):
        durations.came(since, took_s)
    assert durations.usual_s(3) == 3.0
    assert durations.usual_s(4) is None
    assert durations.usual_s(1, since=2.0) == 100.0


def test_a_wait_is_outrun_only_when_as_many_came_as_are_under_way() -> None:
    waits = Waits(0.0, 0)
    slow = [Wait(0.0, 1e9, BLOCK_BYTES) for _ in range(2)]
    quick = [Wait(0.0, 1e9, BLOCK_BYTES) for _ in range(2)]
    for wait in (*slow, *quick):
        waits.begin(wait)
    for wait in quick:
        waits.came(wait, 5.0)
        waits.end(wait)
    busy = int(100 * BUSY_BYTES_PER_S)
    assert waits.look(STALL_FACTOR * 5.0 - 1, busy, held_back=True) == []
    assert set(waits.look(STALL_FACTOR * 5.0 + 1, 2 * busy, held_back=True)) == set(slow)


def test_one_long_look_blames_nobody() -> None:
    waits = Waits(0.0, 0)
    waits.begin(wait := Wait(0.0, 10.0))
    assert waits.look(3600.0, 0, held_back=False) == []  # the machine slept
    assert wait.idle_s <= 1.0


def test_progress_is_so_many_bytes_in_so_long() -> None:
    progress = Headway(100.0, 10.0, 0.0, 0)
    progress.note(5.0, 99)
    assert progress.deadline == 10.0
    progress.note(6.0, 100)
    assert progress.deadline == 16.0
    progress.restart(8.0, 100)
    assert progress.deadline == 18.0


def test_a_full_line_is_a_slow_home_line_or_half_of_the_lower_cap() -> None:
    assert full_bytes_per_s(Throttle()) == SLOW_LINE_BYTES_PER_S
    assert full_bytes_per_s(Throttle(10_000, 50_000)) == 5_000
    assert capped_s(Throttle(), 10**6) == 0.0
    assert capped_s(Throttle(None, 1000), 5000) == 10.0
