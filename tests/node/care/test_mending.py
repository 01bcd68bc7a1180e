"""Which repairs are given up: those that do not get on, and no others, however long they take."""

import pytest
import trio
import trio.testing

from shoal.node.care.mending import MENDS_AT_ONCE, PATIENCE_S, RepairPatience
from shoal.node.channel import Throttle
from shoal.node.holders.line import full_bytes_per_s

K, LANES = 4, 3
LEAST_BYTES_PER_S = full_bytes_per_s(Throttle()) / MENDS_AT_ONCE
LEAST = PATIENCE_S * LEAST_BYTES_PER_S


async def drip(patience: RepairPatience, made_per_minute: float, minutes: int) -> float:
    """Make so many bytes of each share a minute; for how many minutes that went on."""
    for minute in range(1, minutes + 1):
        await trio.sleep(60)
        patience.on_bytes(int(minute * made_per_minute), LANES)
    return minutes


@pytest.mark.parametrize(("factor", "is_given_up"), [(1.1, False), (0.9, True)])
async def test_a_repair_goes_on_for_as_long_as_it_gets_on(
    autojump_clock: trio.testing.MockClock, factor: float, is_given_up: bool
) -> None:
    patience = RepairPatience(K, LEAST)
    a_minute = factor * 60 * LEAST_BYTES_PER_S / (K + LANES)
    with patience.scope:
        await drip(patience, a_minute, 60 * 24)  # a day: there is no longest time
    assert patience.scope.cancelled_caught is is_given_up
    assert trio.current_time() == pytest.approx(PATIENCE_S if is_given_up else 86400, abs=1)


async def test_a_second_round_counts_on(autojump_clock: trio.testing.MockClock) -> None:
    patience = RepairPatience(K, LEAST)
    enough = int(0.6 * LEAST / (K + LANES))
    with patience.scope:
        for _ in range(20):
            await trio.sleep(0.4 * PATIENCE_S)
            patience.on_bytes(enough // 2, LANES)
            patience.on_bytes(enough, LANES)
            await trio.sleep(0.1)
            patience.on_bytes(0, LANES)
    assert not patience.scope.cancelled_caught
