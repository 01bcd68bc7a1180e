"""The rules of looking after files: turns, grace, health, clocks."""

import random

from hypothesis import given
from hypothesis import strategies as st

from shoal.dht import NodeId
from shoal.erasure import FileId
from shoal.node.care.clocks import ClockComparison
from shoal.node.care.epochs import BACK_OFF_PARTS, MAX_RANK, epoch_of, may_act, next_turn, offset_of, rank_of
from shoal.node.care.health import Health, Observation, Outcome, emergency_at, repair_at
from shoal.node.care.presence import MAX_PEERS, Presence

DAY = 86400.0


def nodes(count: int, seed: int = 0) -> list[NodeId]:
    rng = random.Random(seed)
    return [NodeId(rng.randbytes(32)) for _ in range(count)]


FILE = FileId(bytes(range(32)))


@given(st.integers(1, 60), st.integers(0, 10**6))
def test_ranks_are_a_permutation_in_every_epoch(count: int, epoch: int) -> None:
    holders = nodes(count, epoch)
    assert sorted(rank_of(FILE, epoch, each, holders) for each in holders) == list(range(count))


def test_the_turn_goes_round() -> None:
    holders = nodes(20)
    firsts = {min(holders, key=lambda each: rank_of(FILE, epoch, each, holders)) for epoch in range(200)}
    assert len(firsts) == 20


@given(st.floats(1.7e9, 1.9e9), st.integers(1, 40))
def test_a_next_turn_lies_ahead_and_in_its_own_epoch(after: float, count: int) -> None:
    holders = nodes(count, count)
    turn = next_turn(FILE, holders[0], holders, after, DAY)
    assert turn.starts_at > after
    assert epoch_of(FILE, turn.starts_at + 1, DAY) == turn.epoch
    begins = offset_of(FILE, DAY) + turn.epoch * DAY
    assert 0 <= turn.starts_at - begins <= MAX_RANK / BACK_OFF_PARTS * DAY
    assert may_act(FILE, turn.epoch, holders[0], holders)


def test_a_stranger_has_no_turn() -> None:
    holders = nodes(20)
    assert not may_act(FILE, 5, nodes(1, seed=9)[0], holders)


def test_files_start_their_epochs_at_different_times() -> None:
    rng = random.Random(1)
    offsets = [offset_of(FileId(rng.randbytes(32)), DAY) for _ in range(200)]
    assert all(0 <= offset < DAY for offset in offsets)
    assert len({int(offset // (DAY / 8)) for offset in offsets}) == 8


def test_an_absent_peer_is_lost_only_after_its_grace() -> None:
    presence = Presence(DAY)
    (peer,) = nodes(1)
    presence.silent(peer, 10 * DAY)
    assert not presence.is_lost(peer, 12.8 * DAY)
    assert presence.is_lost(peer, 13 * DAY)
    assert presence.away() == [peer]
    presence.answered(peer, 13 * DAY)
    presence.silent(peer, 14 * DAY)
    assert not presence.is_lost(peer, 16 * DAY)


def test_presence_is_bounded() -> None:
    presence = Presence(DAY)
    for peer in nodes(MAX_PEERS + 50):
        presence.silent(peer, 0.0)
    assert len(presence) <= MAX_PEERS


OUTCOMES = st.builds(
    Observation, st.integers(0, 23), st.sampled_from(nodes(30)), st.sampled_from(list(Outcome)), st.booleans()
)


@given(st.lists(OUTCOMES, max_size=60))
def test_health_counts_distinct_shares(observations: list[Observation]) -> None:
    health = Health.of(8, 24, observations)
    assert health.readable <= health.counted
    assert set(health.missing) | health.counted == set(range(24))
    if health.needs_repair:
        assert len(health.readable) >= 8
        assert len(health.counted) <= 18


def test_thresholds() -> None:
    assert [(repair_at(*code), emergency_at(*code)) for code in ((16, 48), (8, 24), (4, 12), (2, 6), (1, 3))] == [
        (36, 18),
        (18, 10),
        (9, 6),
        (4, 3),
        (2, 1),
    ]
    assert (repair_at(1, 1), emergency_at(1, 1)) == (0, -1)
    assert repair_at(3, 3) == 2


def test_what_counts_and_what_does_not() -> None:
    (peer,) = nodes(1)
    counted = {
        (outcome, lost): Observation(0, peer, outcome, lost).counts for outcome in Outcome for lost in (False, True)
    }
    assert counted == {
        (Outcome.OK, False): True,
        (Outcome.OK, True): True,
        (Outcome.WRONG, False): False,
        (Outcome.WRONG, True): False,
        (Outcome.MISSING, False): False,
        (Outcome.MISSING, True): False,
        (Outcome.OFFLINE, False): True,
        (Outcome.OFFLINE, True): False,
        (Outcome.STALLED, False): True,
        (Outcome.STALLED, True): False,
    }


def test_a_clock_is_believed_only_with_enough_peers_that_agree() -> None:
    clocks = ClockComparison()
    peers = nodes(9)
    for peer in peers[:4]:
        clocks.note(peer, 1000.0, 1000.0, 0.0)
    assert not clocks.agrees(0.0)
    clocks.note(peers[4], 1000.0, 1000.0, 0.0)
    assert clocks.agrees(0.0)
    assert not clocks.agrees(10 * DAY)
    for peer in peers:
        clocks.note(peer, 1000.0 + 3 * DAY, 1000.0, 0.0)
    assert not clocks.agrees(0.0)


def test_two_liars_do_not_move_the_median() -> None:
    clocks = ClockComparison()
    for peer in nodes(5):
        clocks.note(peer, 1000.0, 1000.0, 0.0)
    for peer in nodes(4, seed=3):
        clocks.note(peer, 10**12, 1000.0, 0.0)
    assert clocks.agrees(0.0)
