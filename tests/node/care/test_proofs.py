"""Which claims are audited, and what a failed audit means: plain rules, seeded."""

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.stages import DAY_S, FILE, ME, NODES, findings, observation
from shoal.node.care.doubts import Doubts
from shoal.node.care.proofs import AUDIT_EPOCHS, DOUBTED_AUDITS, DOUBTED_CLAIMS, MORE_AUDITS, AuditChoice
from shoal.node.holders.outcome import Outcome


def choice(doubts: Doubts, seed: int = 1) -> AuditChoice:
    return AuditChoice(ME, doubts, random.Random(seed))


def test_each_claim_is_audited_about_once_in_seven_looks() -> None:
    found, chooser = findings(12), choice(Doubts(DAY_S))
    count = sum(len(chooser.sample(found).places) for _ in range(700))
    assert count / 700 == pytest.approx(11 / AUDIT_EPOCHS, rel=0.1), "ours is no claim"


@given(st.integers(2, 12), st.integers(0, 99))
def test_our_own_share_what_is_proven_and_what_failed_are_not_audited(n: int, seed: int) -> None:
    found = findings(n)
    observations = (*found.observations[:-1], replace(found.observations[-1], outcome=Outcome.MISSING))
    found = replace(found, observations=observations, proven=frozenset([1]))
    chooser = choice(Doubts(DAY_S), seed)
    wanted = set(range(n)) - {0, 1, n - 1}
    assert chooser.everything(found).places == wanted
    assert chooser.sample(found).places <= wanted
    assert chooser.doubted(found).places == set()


def test_after_a_false_claim_at_least_a_few_and_a_quarter_of_the_others_are_audited() -> None:
    chooser = choice(Doubts(DAY_S))
    assert len(chooser.further(findings(12)).places) == MORE_AUDITS
    assert len(chooser.further(findings(4)).places) == 3
    many = findings(12)
    many = replace(many, observations=tuple(observation(at % 12, NODES[1 + at % 11]) for at in range(60)))
    assert len(chooser.further(many).places) == 15


def test_a_peer_in_doubt_has_to_show_the_share_it_could_not_show_and_few_others_count() -> None:
    doubts = Doubts(DAY_S)
    doubts.failed(NODES[1], FILE, 7, 0.0)
    found = findings(12)
    found = replace(found, observations=tuple(observation(share, NODES[1]) for share in range(12)))
    chosen = choice(doubts).doubted(found)
    assert len(chosen.places) == DOUBTED_CLAIMS
    assert 7 in chosen.places
    counted = {at for at, each in enumerate(chosen.findings.observations) if each.outcome is Outcome.OK}
    assert counted == chosen.places, "what it was not asked to show counts as missing"
    assert all(each.outcome is Outcome.OK for each in found.observations), "the value before stays as it was"


def test_audits_of_one_peer_in_doubt_are_bounded_in_a_round() -> None:
    doubts = Doubts(DAY_S)
    doubts.failed(NODES[1], FILE, 0, 0.0)
    found = replace(findings(12), observations=tuple(observation(share, NODES[1]) for share in range(12)))
    chooser = choice(doubts)
    counts = [len(chooser.doubted(found).places) for _ in range(2 * DOUBTED_AUDITS // DOUBTED_CLAIMS)]
    assert sum(counts) == DOUBTED_AUDITS
    assert counts[-1] == 0


def test_a_peer_that_failed_once_in_a_round_stays_in_doubt_whatever_it_shows() -> None:
    doubts = Doubts(DAY_S)
    chooser = choice(doubts)
    claim = observation(3, NODES[1])
    assert chooser.judge(claim, FILE, Outcome.WRONG, 0.0).outcome is Outcome.WRONG
    assert chooser.judge(claim, FILE, Outcome.OK, 1.0).outcome is Outcome.OK
    assert NODES[1] in doubts
    choice(doubts).judge(claim, FILE, Outcome.OK, 2.0)
    assert NODES[1] not in doubts, "another round clears it"


def test_a_peer_that_stalls_for_its_whole_grace_has_lost_its_share() -> None:
    doubts = Doubts(DAY_S)
    claim = observation(3, NODES[1])
    assert not choice(doubts).judge(claim, FILE, Outcome.STALLED, 0.0).lost
    assert not choice(doubts).judge(claim, FILE, Outcome.STALLED, 2 * DAY_S).lost
    assert choice(doubts).judge(claim, FILE, Outcome.STALLED, 3 * DAY_S).lost
