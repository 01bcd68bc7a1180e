"""What follows from the findings of a look: plain rules."""

from dataclasses import replace

import pytest

from kit.stages import DAY_S, ME, NODES, NOW, findings, observation, statement
from shoal.dht import Address, NodeId, Reach
from shoal.node.care.findings import NOTHING_SHOWN, Answers, Findings, Shown
from shoal.node.care.verdict import NEWER_S, Circumstances, hand_over, is_news, judge, leased_until
from shoal.node.holders.announcers import announcers
from shoal.node.holders.outcome import Outcome

LOST = dict.fromkeys(range(6, 12), Outcome.MISSING)  # six of twelve shares: a repair is due


def circumstances(
    *, now: float = NOW, may_repair: bool = True, is_begun: bool = False, ends: dict[NodeId, float] | None = None
) -> Circumstances:
    return Circumstances(now, may_repair, is_begun, (ends or {}).get)


def test_nothing_follows_where_all_is_well() -> None:
    found = findings()
    verdict = judge(found, (), circumstances())
    assert (verdict.job, verdict.absent_until, verdict.news) == (None, None, ())
    assert hand_over(found, ME).successors == ()


def test_lost_shares_are_to_be_made_again_from_the_good_ones() -> None:
    outcomes = {**LOST, 11: Outcome.WRONG}
    verdict = judge(findings(outcomes=outcomes), (), circumstances())
    assert verdict.job is not None
    assert list(verdict.job.missing) == list(range(6, 12))
    assert [each.share for each in verdict.job.healthy] == list(range(6))
    assert [each.node_id for each in verdict.job.avoid] == [NODES[11]], "it gave a wrong block"
    assert [each.node_id for each in verdict.job.reluctant] == NODES[6:11], "they answer, and have lost theirs"
    assert verdict.job.lease_end == NOW + 30 * DAY_S


@pytest.mark.parametrize(
    ("given", "case"),
    [
        (circumstances(may_repair=False), "our clock is wrong, or the shares are no file"),
        (circumstances(now=NOW + 31 * DAY_S), "the lease is over"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_some_circumstances_forbid_a_repair(given: Circumstances, case: str) -> None:
    assert judge(findings(outcomes=LOST), (), given).job is None, case


def test_what_cannot_be_read_cannot_be_repaired() -> None:
    outcomes = dict.fromkeys(range(3, 12), Outcome.MISSING)
    assert judge(findings(k=4, outcomes=outcomes), (), circumstances(is_begun=True)).job is None


def test_a_repair_that_was_begun_goes_on_where_none_would_begin() -> None:
    found = findings(outcomes={11: Outcome.MISSING})
    assert judge(found, (), circumstances()).job is None
    begun = judge(found, (), circumstances(is_begun=True))
    assert begun.job is not None
    assert list(begun.job.missing) == [11]
    assert judge(findings(), (), circumstances(is_begun=True)).job is None, "nothing is missing any more"


def test_absent_holders_are_asked_again_when_the_last_grace_ends() -> None:
    found = findings(outcomes={10: Outcome.OFFLINE, 11: Outcome.STALLED, 9: Outcome.MISSING})
    ends = {NODES[9]: 99.0, NODES[10]: 5.0, NODES[11]: 7.0}
    assert judge(found, (), circumstances(ends=ends)).absent_until == 7.0
    assert judge(found, (), circumstances()).absent_until is None, "nobody knows when"
    lost = (*found.observations[:11], observation(11, NODES[11], Outcome.STALLED, lost=True))
    assert judge(replace(found, observations=lost), (), circumstances(ends=ends)).absent_until == 5.0


def test_a_lease_lasts_while_k_shares_are_promised() -> None:
    ends = [NOW + days * DAY_S for days in (9, 8, 7, 6)]
    stated = [statement(share, NODES[share], lease_end=end) for share, end in enumerate(ends)]
    longer = statement(3, NODES[5], lease_end=NOW + 20 * DAY_S)
    found = findings(4, k=2)
    assert leased_until(found.with_statements(stated)) == ends[1]
    assert leased_until(found.with_statements([*stated, longer])) == ends[0], "the longest promise for each share"
    assert leased_until(found.with_statements(stated[:1])) == 0.0


def test_news_is_what_most_holders_do_not_know() -> None:
    found = findings()
    known = found.statements[3]
    assert is_news(statement(3, NODES[15]), None, found)
    assert not is_news(replace(known, issued=known.issued + int(NEWER_S)), known, found)
    assert is_news(replace(known, issued=known.issued + int(NEWER_S) + 1), known, found)
    moved = replace(known, reach=Reach.of(Address("44.9.9.9", 4000)))
    assert not is_news(moved, known, found), "as old as what is known"
    assert is_news(replace(moved, issued=known.issued + 1), known, found)
    others = replace(found, common={(3, NODES[3]): known.issued - 86_400})
    assert is_news(replace(known, issued=known.issued + 1), known, others), "the others know an older one"


def test_the_next_in_rank_take_the_place_of_announcers_that_are_gone() -> None:
    everybody = NODES[:12]
    first = announcers(findings().file_id, everybody)
    gone = next(node_id for node_id in first[0] if node_id != ME)
    found = findings(outcomes={everybody.index(gone): Outcome.OFFLINE})
    handover = hand_over(found, ME)
    expected = announcers(found.file_id, [each for each in everybody if each != gone])
    assert set(handover.successors) == {each for at in expected for each in expected[at] if each not in first[at]}
    assert handover.successors
    assert handover.patient, "most announcers are there"
    all_gone = {everybody.index(each): Outcome.OFFLINE for at in first for each in first[at] if each != ME}
    assert not hand_over(findings(outcomes=all_gone), ME).patient


def test_new_holders_count_after_a_repair_and_the_verdict_before_stays_as_it_was() -> None:
    verdict = judge(findings(outcomes=LOST), (), circumstances())
    made = [statement(6, NODES[14])]
    after = verdict.after_repair(made)
    assert after.findings.statements[-1] == made[0]
    assert made[0] in after.findings.living(ME)
    assert made[0] not in verdict.findings.statements


def test_findings_of_holders_that_became_known_later_are_added_in_their_places() -> None:
    found = replace(findings(), proven=frozenset([2]))
    late = statement(3, NODES[15])
    shown = Shown(((NODES[15], b"statement"),), (b"deletion",))
    answers = Answers(replace(found.file, statements=(late,)), (observation(3, NODES[15]),), shown)
    both = found.with_more(replace(Findings.of(answers), proven=frozenset([0])))
    assert both.proven == {2, 12}
    assert both.observations[12].holder == NODES[15]
    assert both.statements == (*found.statements, late)
    assert both.shown == shown
    assert found.shown == NOTHING_SHOWN
