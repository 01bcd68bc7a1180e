"""How long a file waits for silent holders, and when it is looked at again: plain rules."""

import math
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.node.care.health import repair_at
from shoal.node.care.presence import GRACE_EPOCHS, SLACK_EPOCHS
from shoal.node.care.urgency import HURRIED_PARTS, grace_epochs, growing_epochs, is_comfortable, pause_epochs

FULL = GRACE_EPOCHS - SLACK_EPOCHS
CODES = st.integers(1, 85).flatmap(lambda k: st.tuples(st.just(k), st.integers(k + 1, 3 * k)))


@given(CODES)
def test_the_less_is_left_the_shorter_the_grace(code: tuple[int, int]) -> None:
    k, n = code
    graces = [grace_epochs(k, n, answering) for answering in range(n + 1)]
    assert graces == sorted(graces)
    assert graces[: k + 1] == [0.0] * (k + 1)
    assert graces[n] == FULL
    if n > k + 1:
        assert graces[k + 1] == pytest.approx(1 / HURRIED_PARTS)


@given(CODES)
def test_pauses_are_never_shorter_than_minutes_and_always_shorter_than_an_epoch(code: tuple[int, int]) -> None:
    k, n = code
    for answering in range(n + 1):
        pause = pause_epochs(k, n, answering)
        assert pause == math.inf or 1 / HURRIED_PARTS <= pause <= 0.5
        if pause == math.inf:
            assert is_comfortable(k, n, answering)
            assert 2 * (n - answering) <= n - k + 1


@given(CODES)
def test_a_file_that_nobody_waits_for_is_due_for_repair(code: tuple[int, int]) -> None:
    """Where the grace is hours at most, the shares that answer are few enough for a repair."""
    k, n = code
    for answering in range(k, n):
        if grace_epochs(k, n, answering) < 1:
            assert answering <= repair_at(k, n)


def test_the_graces_of_the_usual_codes_in_hours() -> None:
    def hours(k: int, n: int) -> list[float]:
        return [round(24 * grace_epochs(k, n, answering), 1) for answering in range(k, n + 1)]

    assert hours(1, 3) == [0.0, 0.2, 69.6]
    assert hours(2, 6) == [0.0, 0.2, 69.6, 69.6, 69.6]
    assert hours(4, 12)[:4] == [0.0, 0.2, 13.9, 69.6]
    assert hours(8, 24)[:6] == [0.0, 0.2, 1.1, 4.8, 21.3, 69.6]
    assert hours(16, 48)[:11] == [0.0, 0.2, 0.5, 0.9, 1.8, 3.4, 6.6, 12.7, 24.4, 47.0, 69.6]


def test_the_pauses_of_a_file_of_twelve_in_hours() -> None:
    found = [round(24 * pause_epochs(4, 12, answering), 1) for answering in range(4, 9)]
    assert found == [0.2, 0.2, 1.7, 7.2, math.inf]


def hurried_traffic(k: int, n: int, away: float, days: float) -> float:
    """What repairs move that would have waited, where a part of all machines is away for some days, and half of those
    for ever: in shares, for each share that is lost for good. Each file is repaired once, whatever comes back.
    """
    chances = {
        answering: comb(n, answering) * (1 - away) ** answering * away ** (n - answering) for answering in range(n)
    }
    hurried = [answering for answering in range(k, n) if grace_epochs(k, n, answering) < days]
    return sum(chances[answering] * (k + n - answering) for answering in hurried) / (away / 2 * n)


@pytest.mark.parametrize(
    ("code", "most"), [((16, 48), 1.0), ((8, 24), 1.0), ((4, 12), 1.5), ((2, 6), 2.0), ((1, 3), 3.0)]
)
def test_forty_percent_that_are_away_for_two_days_make_no_storm(code: tuple[int, int], most: float) -> None:
    assert 0.5 < hurried_traffic(*code, away=0.4, days=2) <= most


def test_a_tenth_that_is_away_hurries_hardly_any_wide_file() -> None:
    assert [round(hurried_traffic(*code, away=0.1, days=2), 2) for code in ((4, 12), (8, 24), (16, 48))] == [0.01, 0, 0]


def test_looks_in_vain_come_after_growing_pauses() -> None:
    assert [growing_epochs(tries) * HURRIED_PARTS for tries in range(5)] == [1, 2, 4, 8, 16]
    assert growing_epochs(10**6) < math.inf
