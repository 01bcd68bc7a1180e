"""What follows from a look: what to tell the other holders, what to make again, and when to come back. Plain rules."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from shoal.dht import NodeId
from shoal.node.care.findings import Findings
from shoal.node.holders.announcers import announcers
from shoal.node.holders.outcome import Outcome
from shoal.node.holders.statements import HolderStatement
from shoal.node.holders.tally import kth_longest
from shoal.node.repairing.repair import RepairJob
from shoal.values import dataclass

NEWER_S = 86400.0  # a statement that is newer by less is not worth a message to every holder


@dataclass(frozen=True, slots=True)
class Handover:
    """Which nodes take the place of announcers that are gone.

    `successors` are the nodes that have to announce now. `patient` says that most announcers are still there, so that
    a successor may wait: what the others announced stays for a while.
    """

    successors: tuple[NodeId, ...]
    patient: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """What follows from the findings.

    news: statements that most holders do not know yet.
    job: what is to be made again; None where no repair is due, or none is possible.
    absent_until: when to ask the absent holders again (monotonic); None where none is in its grace, or a repair is due.
    """

    findings: Findings
    news: tuple[HolderStatement, ...]
    job: RepairJob | None
    absent_until: float | None

    def after_repair(self, made: Iterable[HolderStatement]) -> "Verdict":
        """The same with the holders of the shares that were made again."""
        findings = self.findings.with_statements((*self.findings.statements, *made))
        return replace(self, findings=findings)


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What the verdict on a file depends on besides the findings.

    now: our wall clock.
    may_repair: whether our clock can be trusted, and the shares of the file can be mended at all.
    is_begun: whether a repair of the file placed fewer shares than were missing.
    grace_ends: when the grace of a holder ends (monotonic); None for one that is neither away nor in doubt.
    """

    now: float
    may_repair: bool
    is_begun: bool
    grace_ends: Callable[[NodeId], float | None]


def judge(findings: Findings, news: Sequence[HolderStatement], given: Circumstances) -> Verdict:
    """The verdict on one file. `news` are the statements that are worth telling, already checked."""
    health = findings.health
    lease_end = leased_until(findings)
    is_due = health.needs_repair or (given.is_begun and health.can_repair and bool(health.missing))
    if is_due and given.may_repair and lease_end > given.now:
        return Verdict(findings, tuple(news), _job(findings, int(lease_end)), None)
    return Verdict(findings, tuple(news), None, _absent_until(findings, given.grace_ends))


def leased_until(findings: Findings) -> float:
    """Until when at least k shares are promised. After that the file need not be kept alive."""
    longest: dict[int, int] = {}
    for each in findings.statements:
        longest[each.share] = max(each.lease_end, longest.get(each.share, each.lease_end))
    return kth_longest(longest.values(), findings.file.manifest.k) or 0.0


def is_news(statement: HolderStatement, known: HolderStatement | None, findings: Findings) -> bool:
    """Whether a statement says more than what most holders know. `known` is what we know in its place."""
    if known is None or (not statement.reach.is_found_by(known.reach) and statement.issued > known.issued):
        return True
    return statement.issued > findings.commonly_issued(known) + NEWER_S


def hand_over(findings: Findings, me: NodeId) -> Handover:
    """Which nodes take the place of announcers that are gone."""
    everybody = sorted({each.node_id for each in findings.statements})
    living = sorted({each.node_id for each in findings.living(me)} | {me})
    before, now = announcers(findings.file_id, everybody), announcers(findings.file_id, living)
    successors = {node_id for number in now for node_id in now[number] if node_id not in before[number]}
    first = {node_id for number in before for node_id in before[number]}
    return Handover(tuple(sorted(successors)), 2 * len(first.intersection(living)) >= len(first))


def _absent_until(findings: Findings, grace_ends: Callable[[NodeId], float | None]) -> float | None:
    """When the last grace ends of those holders whose shares still count although they showed nothing."""
    waited_for = [each.holder for each in findings.observations if each.outcome is not Outcome.OK and each.counts]
    return max((ends for holder in waited_for if (ends := grace_ends(holder)) is not None), default=None)


def _job(findings: Findings, lease_end: int) -> RepairJob:
    observations, statements = findings.observations, findings.statements
    healthy = [each for each in statements if (each.share, each.node_id) in findings.there]
    missing = {each.holder for each in observations if each.outcome is Outcome.MISSING}
    failed = {each.holder for each in observations if each.outcome is not Outcome.OK} - missing
    avoid, reluctant = ([each.contact for each in statements if each.node_id in ids] for ids in (failed, missing))
    answered = {(each.holder, each.host) for each in observations if each.outcome is not Outcome.OFFLINE}
    return RepairJob(
        findings.file.manifest, healthy, findings.health.missing, lease_end, (), avoid, reluctant, answered
    )
