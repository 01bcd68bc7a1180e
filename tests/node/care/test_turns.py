"""Whose turn it is, and when another holder has looked already: plain bookkeeping with `now`."""

import random

import pytest

from shoal.dht import NodeId
from shoal.erasure import FileId
from shoal.node.care.agenda import Errand
from shoal.node.care.epochs import epoch_of, rank_of
from shoal.node.care.turns import EARLY_PARTS, MAX_CLAIMS, MAX_POLLERS, TOGETHER_PARTS, Turns

DAY_S = 86400.0
START = 1.8e9
FILE = FileId(b"f" * 32)
RNG = random.Random(4)
HOLDERS = [NodeId(RNG.randbytes(32)) for _ in range(6)]
ME = HOLDERS[0]
STRANGER = NodeId(RNG.randbytes(32))


def scheduled(after: float = START) -> tuple[Turns, float]:
    """The turns of a node that keeps one file, and when its next turn comes."""
    turns = Turns(ME, DAY_S)
    when = turns.next_turn(FILE, HOLDERS, after)
    turns.put(FILE, when)
    return turns, when


def second_turn() -> tuple[Turns, float, NodeId]:
    """A turn at which another holder comes first, and that holder."""
    after = START
    while True:
        turns, when = scheduled(after)
        epoch = epoch_of(FILE, when, DAY_S)
        first = min(HOLDERS, key=lambda each: rank_of(FILE, epoch, each, HOLDERS))
        if first != ME:
            return turns, when, first
        after = when + 1


def test_nothing_is_due_before_its_time_and_then_what_comes_soon_as_well() -> None:
    turns, when = scheduled()
    turns.ask_absent(FILE, when + 0.5 * DAY_S / TOGETHER_PARTS)
    turns.return_to(FILE, when + DAY_S)
    assert turns.next_at() == when
    assert turns.take(when - 1).errands == ()
    taken = turns.take(when)
    assert [errand for _, errand, _ in taken.errands] == [Errand.TURN, Errand.ABSENT]
    assert taken.until == when + DAY_S / TOGETHER_PARTS
    assert turns.next_at() == when + DAY_S


def test_a_turn_is_ours_where_nobody_has_looked() -> None:
    turns, when = scheduled()
    taken = turns.take(when)
    assert turns.is_due(FILE, when, taken.until, HOLDERS)


def test_the_look_of_a_holder_whose_turn_had_come_counts_once() -> None:
    turns, when, first = second_turn()
    turns.note_claim(first, [FILE], when - 60)
    assert [claim.caller for claim in turns.claims(FILE)] == [first]
    assert not turns.is_due(FILE, when, when, HOLDERS)
    assert turns.claims(FILE) == ()
    next_at = turns.next_at()
    assert next_at is not None
    (coming,) = [at for at, errand, _ in turns.take(when + 9 * DAY_S).errands if errand is Errand.TURN]
    assert epoch_of(FILE, coming, DAY_S) > epoch_of(FILE, when, DAY_S)


@pytest.mark.parametrize("early_s", [DAY_S / 8, DAY_S / EARLY_PARTS - 60])
def test_a_look_long_before_ones_turn_counts_for_nothing(early_s: float) -> None:
    turns, when, first = second_turn()
    begins = turns.end_of_epoch(FILE, when) - DAY_S
    turns.note_claim(first, [FILE], begins - early_s)
    assert len(turns.claims(FILE)) == 1
    assert turns.is_due(FILE, when, when, HOLDERS)


def test_the_look_of_a_stranger_counts_for_nothing() -> None:
    turns, when = scheduled()
    turns.note_claim(STRANGER, [FILE], when)
    assert turns.is_due(FILE, when, when, HOLDERS)


def test_claims_are_bounded_and_those_of_an_epoch_gone_by_forgotten() -> None:
    turns, when = scheduled()
    for _ in range(2 * MAX_CLAIMS):
        turns.note_claim(STRANGER, [FILE], when)
    assert len(turns.claims(FILE)) == MAX_CLAIMS
    turns.note_claim(HOLDERS[1], [FILE], when + DAY_S)
    assert [claim.caller for claim in turns.claims(FILE)] == [HOLDERS[1]]


def test_claims_on_files_that_are_not_kept_here_are_not_noted() -> None:
    turns, when = scheduled()
    other = FileId(b"o" * 32)
    turns.note_claim(HOLDERS[1], [other], when)
    assert turns.claims(other) == ()


def test_a_turn_moves_where_holders_became_known_that_come_before_us() -> None:
    turns, when = scheduled()
    epoch = epoch_of(FILE, when, DAY_S)
    more = [NodeId(RNG.randbytes(32)) for _ in range(60)]
    before = [each for each in more if rank_of(FILE, epoch, each, [*more, ME]) < rank_of(FILE, epoch, ME, [*more, ME])]
    assert before
    assert not turns.is_due(FILE, when, when, [*HOLDERS, *before])
    assert turns.take(when).errands == ()
    assert turns.knows(FILE)


def test_what_is_put_back_is_taken_again_and_what_is_forgotten_is_not() -> None:
    turns, when = scheduled()
    turns.ask_absent(FILE, when)
    taken = turns.take(when)
    turns.put_back(taken)
    assert turns.take(when) == taken
    turns.put_back(taken)
    turns.note_claim(HOLDERS[1], [FILE], when)
    turns.forget(FILE)
    assert turns.take(when + DAY_S).errands == ()
    assert turns.claims(FILE) == ()
    assert not turns.knows(FILE)


def test_a_return_comes_when_it_was_set_last() -> None:
    turns = Turns(ME, DAY_S)
    assert turns.returns_at(FILE) is None
    turns.return_to(FILE, START + DAY_S)
    turns.return_to(FILE, START + 60)
    assert turns.next_at() == turns.returns_at(FILE) == START + 60
    assert len(turns.take(START + 60).errands) == 1
    assert turns.returns_at(FILE) is None
    assert turns.take(START + 2 * DAY_S).errands == ()


def test_a_second_poll_within_minutes_asks_us_to_watch_a_file() -> None:
    minute_s = 60.0
    for first, second, gap_s, is_asked in (
        (HOLDERS[1], HOLDERS[1], minute_s, True),
        (HOLDERS[1], HOLDERS[1], 5.0, False),  # a repetition
        (HOLDERS[1], HOLDERS[1], 15 * minute_s, False),  # another look
        (HOLDERS[1], HOLDERS[2], minute_s, False),
    ):
        turns, _ = scheduled()
        turns.note_polls(first, [FILE], START)
        turns.note_polls(second, [FILE], START + gap_s)
        assert turns.returns_at(FILE) == (START + gap_s + 30 * minute_s if is_asked else None)
        turns.forget(FILE)
        turns.note_polls(first, [FILE], START)
        assert turns.returns_at(FILE) is None


@pytest.mark.parametrize(("between", "is_asked"), [(1, True), (MAX_POLLERS - 1, True), (MAX_POLLERS, False)])
def test_others_that_poll_in_between_hide_no_request_to_watch_a_file(between: int, is_asked: bool) -> None:
    """One stranger that polled between the two polls of an honest holder once hid its request."""
    turns, _ = scheduled()
    turns.note_polls(HOLDERS[1], [FILE], START)
    for number in range(between):
        for at in (1, 2, 3):  # as often as they like
            turns.note_polls(NodeId(bytes([number]) * 32), [FILE], START + at)
    turns.note_polls(HOLDERS[1], [FILE], START + 20.0)
    assert turns.watched_for(FILE) == (HOLDERS[1] if is_asked else None)


def test_pollers_that_were_here_long_ago_make_way_by_themselves() -> None:
    turns, _ = scheduled()
    for number in range(MAX_POLLERS):
        turns.note_polls(NodeId(bytes([number]) * 32), [FILE], START)
    for at in (1000.0, 1020.0):
        turns.note_polls(HOLDERS[1], [FILE], START + at)
    assert turns.watched_for(FILE) == HOLDERS[1]


def test_a_look_on_request_is_known_for_one_until_the_file_is_left_to_a_later_look() -> None:
    """Each watcher once asked the next one, and a file with little to spare was looked at each half hour for ever."""
    turns, _ = scheduled(START + 40 * DAY_S)
    turns.return_to(FILE, START + 3600.0)
    assert turns.watched_for(FILE) is None
    for at in (START, START + 20.0):
        turns.note_polls(HOLDERS[1], [FILE], at)
    assert turns.watched_for(FILE) == HOLDERS[1]
    assert turns.take(START + 1820.0).errands
    assert turns.watched_for(FILE) == HOLDERS[1]
    turns.return_to(FILE, START + 9000.0)
    assert turns.watched_for(FILE) is None


@pytest.mark.parametrize("every_s", [15.0, 60.0, 890.0])
@pytest.mark.parametrize("is_planned", [True, False])
def test_a_peer_that_polls_without_end_puts_off_no_look_for_long(every_s: float, is_planned: bool) -> None:
    """Whether we were to return soon by ourselves, or only watch the file since we were asked to."""
    turns, _ = scheduled(START + 40 * DAY_S)
    if is_planned:
        turns.return_to(FILE, START + 900.0, pause_s=900.0)
    now = START
    while not turns.take(now).errands:
        turns.note_claim(STRANGER, [FILE], now)
        turns.note_polls(STRANGER, [FILE], now)
        now += every_s
        assert now < START + 3 * (900.0 if is_planned else 1800.0) + 2 * 900.0


def test_a_return_is_put_off_twice_at_most_by_those_that_ask_meanwhile() -> None:
    turns, _ = scheduled(START + 40 * DAY_S)
    pause_s = 900.0
    turns.return_to(FILE, START, pause_s=pause_s)
    times = []
    now = START
    while True:
        turns.note_claim(STRANGER, [FILE], now - 60)
        if turns.take(now).errands:
            break
        coming = turns.returns_at(FILE)
        assert coming is not None
        times.append(coming - START)
        now = coming
    assert times == [pause_s, 2 * pause_s]
