"""Which addresses are believed, before and after strangers have tried them: pure rules."""

import pytest

from shoal.dht import Address, AddressSource, OwnAddress
from shoal.node.reach.dial_back import CALLS_AT_ONCE, MAX_PLACES, Sparing
from shoal.node.reach.judgement import (
    AGAIN_BAD_S,
    AGAIN_S,
    DISAGREE_S,
    MAX_JUDGED,
    NOBODY_S,
    Judgement,
    Knocked,
    Openness,
    verdict_of,
)

HERE = Address("44.1.2.3", 4750)
OPEN, SHUT = Knocked(True, True, True), Knocked(True, False, False)
SEEN, MET = OwnAddress(HERE, AddressSource.OBSERVED), Knocked(False, True, True)


def judging(*candidates: OwnAddress, private: bool = False, voters: int = 3) -> Judgement:
    """A judgement of these candidates, of IPv4."""
    return Judgement(lambda ipv6: [] if ipv6 else candidates, lambda ipv6: 0 if ipv6 else voters, private=private)


@pytest.mark.parametrize(
    ("knocks", "verdict"),
    [
        ([], Openness.UNKNOWN),
        ([OPEN], Openness.OPEN),
        ([SHUT], Openness.SHUT),
        ([OPEN, SHUT], Openness.OPEN),
        ([SHUT, OPEN, SHUT], Openness.SHUT),
        ([OPEN, OPEN, SHUT], Openness.OPEN),
        ([Knocked(True, True, False)] * 3, Openness.SHUT),
        ([Knocked(True, False, True)] * 3, Openness.SHUT),
        ([MET, MET, MET, SHUT, SHUT], Openness.SHUT),
        ([MET, MET, OPEN, OPEN, SHUT], Openness.OPEN),
    ],
)
def test_two_of_three_strangers_decide(knocks: list[Knocked], verdict: Openness) -> None:
    assert verdict_of(knocks) is verdict


@pytest.mark.parametrize(
    ("source", "private", "believed"),
    [
        (AddressSource.ADVERTISED, False, True),
        (AddressSource.BOUND, False, True),
        (AddressSource.INTERFACE, False, True),
        (AddressSource.MAPPED, False, True),
        (AddressSource.OBSERVED, False, False),
        (AddressSource.OBSERVED, True, True),
    ],
)
def test_before_anybody_has_tried(source: AddressSource, private: bool, believed: bool) -> None:
    own = OwnAddress(HERE, source)
    judgement = judging(own, private=private)
    assert judgement.believes(own) is believed
    assert judgement.is_open(ipv6=False, now=0.0) is believed
    assert not judgement.is_shut(ipv6=False, now=0.0)


def test_what_strangers_found_counts_until_they_are_asked_again() -> None:
    judgement = judging(SEEN)
    assert judgement.next_due(0.0) == (HERE, 0.0)
    assert judgement.note(HERE, [OPEN] * 3, 0.0)
    assert judgement.believes(SEEN)
    assert judgement.next_due(1.0) == (HERE, AGAIN_S)
    assert not judgement.note(HERE, [], AGAIN_S)  # nobody to ask changes nothing
    assert judgement.believes(SEEN)
    assert judgement.next_due(AGAIN_S) == (HERE, AGAIN_S + NOBODY_S)
    assert judgement.note(HERE, [SHUT] * 3, AGAIN_S + NOBODY_S)
    assert judgement.is_shut(ipv6=False, now=AGAIN_S + NOBODY_S)
    assert judgement.next_due(AGAIN_S + 100.0) == (HERE, AGAIN_S + NOBODY_S + AGAIN_BAD_S)


def test_what_the_user_says_is_never_judged() -> None:
    said = OwnAddress(HERE, AddressSource.ADVERTISED)
    assert judging(said, OwnAddress(Address("44.9.9.9", 1), AddressSource.OBSERVED)).next_due(0.0)[0] is None


def test_a_mapped_port_at_which_nobody_gets_through_gives_way_to_what_peers_see() -> None:
    mapped = OwnAddress(Address("44.1.2.3", 9), AddressSource.MAPPED)
    judgement = judging(mapped, SEEN)
    assert judgement.next_due(0.0) == (mapped.address, 0.0)
    judgement.note(mapped.address, [SHUT], 0.0)
    assert not judgement.believes(mapped)
    assert judgement.next_due(0.0) == (HERE, 0.0)
    judgement.note(HERE, [OPEN], 0.0)
    assert judgement.is_open(ipv6=False, now=0.0)


def test_peers_that_each_see_us_elsewhere_show_that_nobody_can_dial_us() -> None:
    judgement = judging()
    address, due = judgement.next_due(5.0)
    assert (address, due) == (None, 5.0 + DISAGREE_S)
    assert not judgement.is_shut(ipv6=False, now=5.0)
    assert judgement.is_shut(ipv6=False, now=due)
    lonely = judging(voters=1)
    assert lonely.next_due(5.0) == (None, float("inf"))
    assert not lonely.is_shut(ipv6=False, now=10**6)


def test_what_was_found_before_a_router_opened_a_port_is_forgotten() -> None:
    judgement = judging(SEEN)
    judgement.note(HERE, [SHUT] * 3, 0.0)
    judgement.forget(ipv6=True)
    assert judgement.verdict(HERE) is Openness.SHUT
    judgement.forget(ipv6=False)
    assert judgement.verdict(HERE) is Openness.UNKNOWN
    assert judgement.next_due(1.0) == (HERE, 1.0)


def test_few_addresses_are_remembered() -> None:
    judgement = judging(SEEN)
    for number in range(2 * MAX_JUDGED):
        judgement.note(Address("44.1.2.3", number), [OPEN], 0.0)
    known = [judgement.verdict(Address("44.1.2.3", number)) for number in range(2 * MAX_JUDGED)]
    assert known == [Openness.UNKNOWN] * MAX_JUDGED + [Openness.OPEN] * MAX_JUDGED


def test_a_stranger_has_few_calls_made() -> None:
    sparing = Sparing(60.0)
    assert sparing.take(b"host", 0.0)
    assert not sparing.take(b"host", 59.9)
    assert sparing.take(b"host", 60.0)
    made = sum(sparing.take(b"%d" % number, 60.0) for number in range(100))
    assert made == CALLS_AT_ONCE - 1  # eight at once
    in_a_minute = sum(sparing.take(b"%d" % number, 60.0 + number / 10) for number in range(100, 700))
    assert in_a_minute <= 60 + CALLS_AT_ONCE
    full = Sparing(10.0**9)
    assert sum(full.take(b"%d" % number, 2.0 * number) for number in range(MAX_PLACES + 100)) == MAX_PLACES
