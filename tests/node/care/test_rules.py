"""The rules of looking after files: turns, grace, health, clocks."""

import random
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from shoal.dht import NodeId
from shoal.erasure import FileId
from shoal.node.care.clocks import ClockComparison
from shoal.node.care.doubts import MAX_PEERS as MAX_DOUBTED
from shoal.node.care.doubts import Doubts
from shoal.node.care.epochs import BACK_OFF_PARTS, MAX_RANK, epoch_of, may_act, next_turn, offset_of, rank_of
from shoal.node.care.health import FileHealth, Observation, emergency_at, repair_at
from shoal.node.care.presence import MAX_PEERS, Presence
from shoal.node.holders.outcome import Outcome

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
    assert may_act(FILE, turn.epoch, holders[0], holders, turn.starts_at, DAY)


def test_a_stranger_has_no_turn() -> None:
    holders = nodes(20)
    late = offset_of(FILE, DAY) + 5.9 * DAY
    assert not may_act(FILE, 5, nodes(1, seed=9)[0], holders, late, DAY)
    assert sum(may_act(FILE, 5, each, holders, late, DAY) for each in holders) == MAX_RANK


def test_a_look_before_ones_turn_counts_for_nothing() -> None:
    holders = nodes(20)
    begins = offset_of(FILE, DAY) + 5 * DAY
    for holder in holders:
        rank = rank_of(FILE, 5, holder, holders)
        turn = begins + rank / BACK_OFF_PARTS * DAY
        assert may_act(FILE, 5, holder, holders, turn - 3600, DAY) is (rank < MAX_RANK)  # clocks differ a little
        assert not may_act(FILE, 5, holder, holders, turn - 2 * 3600, DAY)


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


def test_a_name_nobody_has_met_has_no_more_grace_than_the_share_it_claims() -> None:
    presence = Presence(DAY)
    met, fresh = nodes(2)
    presence.answered(met, 0.0)
    presence.note_shares(FILE, 3, {1, 2}, 0.0)
    for peer, without in ((met, False), (fresh, True)):
        presence.silent(peer, 3 * DAY)
        assert presence.is_without_grace(FILE, 0, peer, 3 * DAY) is without
        assert not presence.is_without_grace(FILE, 0, peer, 2 * DAY)
        assert not presence.is_without_grace(FILE, 1, peer, 3 * DAY)
        assert not presence.is_lost(peer, 3 * DAY)
    presence.note_shares(FILE, 3, {0, 1, 2}, 3 * DAY)
    assert not presence.is_without_grace(FILE, 0, fresh, 4 * DAY)


def test_a_share_that_no_look_has_sought_for_long_has_its_whole_grace_again() -> None:
    """Others had made it again: the new holder, away for an hour, was lost at once by a note of weeks ago."""
    presence = Presence(DAY)
    (fresh,) = nodes(1)
    presence.note_shares(FILE, 1, set(), 0.0)
    presence.silent(fresh, 12 * DAY)
    assert not presence.is_without_grace(FILE, 0, fresh, 12 * DAY)
    presence.note_shares(FILE, 1, set(), 12 * DAY)
    assert not presence.is_without_grace(FILE, 0, fresh, 14 * DAY)
    assert presence.is_without_grace(FILE, 0, fresh, 15 * DAY)


def test_names_made_up_for_ever_get_one_grace_where_looks_follow_each_other() -> None:
    presence = Presence(DAY)
    for at, name in enumerate(nodes(4)):
        now = 3.4 * at * DAY
        presence.silent(name, now)
        assert presence.is_without_grace(FILE, 0, name, now) is (at > 0)
        presence.note_shares(FILE, 1, set(), now)


def test_a_silence_is_a_reason_to_search_once_in_an_absence() -> None:
    """Each silence of a holder was once a lookup in the DHT, for as long as it was away."""
    presence = Presence(DAY)
    (peer,) = nodes(1)
    for absence in range(2):
        begins = 100 * absence * DAY
        asked = []
        for day in range(10):
            presence.silent(peer, begins + day * DAY)
            asked.append(presence.is_to_be_sought(peer, begins + day * DAY))
        assert asked == [False] * 3 + [True] + [False] * 6
        presence.answered(peer, begins + 10 * DAY)


def test_presence_is_bounded() -> None:
    presence = Presence(DAY)
    for peer in nodes(MAX_PEERS + 50):
        presence.silent(peer, 0.0)
    assert len(presence) <= MAX_PEERS


# --- doubts


def test_a_peer_in_doubt_is_cleared_by_what_it_could_not_show_and_by_nothing_else() -> None:
    doubts, other = Doubts(DAY), FileId(bytes(32))
    (peer,) = nodes(1)
    doubts.failed(peer, FILE, 1, DAY)
    doubts.failed(peer, FILE, 7, 2 * DAY)
    doubts.passed(peer, other, 7)
    doubts.passed(peer, FILE, 1)
    assert peer in doubts
    assert [doubts.is_lost(peer, FILE, day * DAY) for day in (3, 4, 5)] == [False, True, True]
    assert not doubts.is_lost(peer, other, 5 * DAY)
    doubts.passed(peer, FILE, 7)
    assert peer not in doubts
    doubts.failed(peer, FILE, 7, 5 * DAY)
    assert not doubts.is_lost(peer, FILE, 6 * DAY)


def test_doubts_are_bounded_and_forgotten() -> None:
    doubts = Doubts(DAY)
    for peer in nodes(MAX_DOUBTED + 5):
        doubts.failed(peer, FILE, 7, 0.0)
    assert len(doubts) == MAX_DOUBTED
    assert doubts.peers()
    doubts.review(200 * DAY)
    assert doubts.peers() == []


OUTCOMES = st.builds(
    Observation, st.integers(0, 23), st.sampled_from(nodes(30)), st.sampled_from(list(Outcome)), st.booleans()
)


@given(st.lists(OUTCOMES, max_size=60))
def test_health_counts_distinct_shares(observations: list[Observation]) -> None:
    health = FileHealth.of(8, 24, observations)
    assert len(health.counted) <= len({each.holder for each in observations})
    assert set(health.missing) | health.counted == set(range(24))
    if health.needs_repair:
        assert len(health.readable) >= 8
        assert len(health.counted) <= 18


def test_who_claims_every_share_is_one_host_for_one_share() -> None:
    *honest, liar = nodes(9)
    seen = [Observation(share, holder, Outcome.OK) for share, holder in enumerate(honest)]
    seen += [Observation(share, liar, Outcome.OK) for share in range(12)]
    health = FileHealth.of(4, 12, seen)
    assert len(health.counted) == 9
    assert len(health.missing) == 3
    assert health.needs_repair


def test_many_names_at_one_address_are_one_host_in_a_public_network() -> None:
    honest = nodes(8)
    seen = [Observation(share, holder, Outcome.OK, host=bytes([share])) for share, holder in enumerate(honest)]
    seen += [Observation(8 + at, sybil, Outcome.OK, host=b"one address") for at, sybil in enumerate(nodes(4, seed=1))]
    assert FileHealth.of(4, 12, seen).needs_repair
    assert not FileHealth.of(4, 12, [replace(each, host=b"") for each in seen]).missing


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


def test_codes_with_little_to_spare_are_repaired_before_they_are_down_to_k() -> None:
    for n in range(1, 257):
        for k in range(1, n):
            assert min(k + (n - k) / 2, n - 1) <= repair_at(k, n) < n
            assert n - k < 3 or repair_at(k, n) > k
    assert [repair_at(*code) for code in ((10, 12), (9, 12), (200, 256))] == [11, 11, 228]
    assert [emergency_at(*code) for code in ((10, 11), (10, 12), (1, 2))] == [10, 10, 1]


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
        (Outcome.BUSY, False): True,
        (Outcome.BUSY, True): False,
    }


def test_a_busy_holder_answers_and_cannot_be_read() -> None:
    holders = nodes(6)
    seen = [Observation(share, holder, Outcome.OK) for share, holder in enumerate(holders[:3])]
    seen += [Observation(share, holders[share], Outcome.BUSY) for share in (3, 4)]
    seen += [Observation(5, holders[5], Outcome.OFFLINE, overdue=True)]
    health = FileHealth.of(2, 6, seen)
    assert (len(health.readable), health.answering, len(health.counted)) == (3, 5, 5)


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
