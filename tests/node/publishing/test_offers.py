"""How long an offer may take, by how long those that were answered took."""

import pytest

from shoal.node.publishing.lanes import LONGEST_OFFER_S
from shoal.node.publishing.offers import LATE_S, LEAST_KNOWN, LONGEST_LATE_S, SILENT_S, OfferTimes


def times(*took_s: float) -> OfferTimes:
    made = OfferTimes()
    for each in took_s:
        made.came(10.0, 10.0 + each)
    return made


def test_until_a_few_have_answered_an_offer_has_the_longest_time() -> None:
    for known in range(LEAST_KNOWN):
        assert times(*known * [0.01]).late_s() == LATE_S[1]
        assert times(*known * [0.01]).silent_s(again=False) == LONGEST_OFFER_S


@pytest.mark.parametrize(
    ("usual_s", "late_s", "silent_s", "again_s"),
    [(0.01, 1.0, 5.0, 10.0), (0.5, 4.0, 5.0, 10.0), (1.0, 8.0, 8.0, 16.0), (20.0, LONGEST_LATE_S, 30.0, 30.0)],
)
def test_where_others_take_long_one_may_take_longer(
    usual_s: float, late_s: float, silent_s: float, again_s: float
) -> None:
    shown = times(*LEAST_KNOWN * [usual_s])
    assert (shown.late_s(), shown.silent_s(again=False), shown.silent_s(again=True)) == (late_s, silent_s, again_s)
    assert silent_s <= again_s <= SILENT_S[1]
