"""Files with little to spare: their silent holders are asked once more, and then no longer waited for.

The rule is in `urgency`: the fewer shares answer, the shorter the grace. A silence is confirmed before it counts: each
holder is sought at another address and asked by the channel, and other peers are asked whether our own line is good.
"""

import logging
import math
from dataclasses import replace

import trio

from shoal.dht import NodeId
from shoal.erasure import FileId
from shoal.node.care.doubts import Doubts
from shoal.node.care.findings import Findings
from shoal.node.care.health import Observation
from shoal.node.care.own_line import OwnLine
from shoal.node.care.presence import Presence
from shoal.node.care.rounds import Round
from shoal.node.care.urgency import grace_epochs, growing_epochs, is_comfortable, pause_epochs
from shoal.node.context import Context
from shoal.node.holders.outcome import Outcome

log = logging.getLogger(__name__)


class Hurry:
    """Shortens graces, and says when to look again. `presence` and `doubts` say since when a holder shows nothing."""

    def __init__(self, context: Context, presence: Presence, doubts: Doubts) -> None:
        self._epoch_s = context.network.epoch_s
        self._presence = presence
        self._doubts = doubts
        self._line = OwnLine(context)
        self._idle_looks: dict[bytes, int] = {}  # in a row, at files whose danger nothing could be done about

    def forget(self, file_id: bytes) -> None:
        """Nothing of a file is kept here any more."""
        self._idle_looks.pop(file_id, None)

    async def confirm(self, findings: Findings, round_: Round) -> Findings:
        """Ask the holders once more whose shorter grace has ended, and mark those that are still silent as overdue.

        Where our own line is in doubt, nobody is marked.
        """
        silent = {each.holder for each in self._overdue(findings) if each.outcome is Outcome.OFFLINE}
        if silent:
            findings = await round_.ask_again(findings, silent)
        overdue = {each.holder for each in self._overdue(findings)}
        if overdue and not await self._line.is_good(overdue):
            log.info("%d holders of a file are silent, and so are most others: our own line is suspect", len(overdue))
            return findings
        return self.marked(findings)

    def marked(self, findings: Findings) -> Findings:
        """The same, with those holders marked as overdue that are so by what answers now."""
        overdue = self._overdue(findings)
        if not overdue and not any(each.overdue for each in findings.observations):
            return findings
        observations = tuple(replace(each, overdue=each in overdue) for each in findings.observations)
        return replace(findings, observations=observations)

    def pause_s(self, findings: Findings) -> float | None:
        """When to look at a file again, before anybody's turn; None where there is no hurry.

        A look that can change nothing is repeated after growing pauses, until turns are as frequent.
        """
        health, file_id = findings.health, findings.file_id
        waited_for = [each for each in findings.observations if each.is_waited_for and is_silent(each)]
        left = [self._left_s(each, findings) for each in waited_for]
        longest_s = pause_epochs(health.k, health.n, health.answering) * self._epoch_s
        if not left or longest_s == math.inf:
            self._idle_looks.pop(file_id, None)
            return None
        if not health.can_repair or min(left) <= 0:
            tries = self._idle_looks.get(file_id, 0)
            self._idle_looks[file_id] = tries + 1
            pause_s = growing_epochs(tries) * self._epoch_s
            return pause_s if pause_s < self._epoch_s else None
        self._idle_looks.pop(file_id, None)
        return max(growing_epochs(0) * self._epoch_s, min(longest_s, *left))

    def _overdue(self, findings: Findings) -> frozenset[Observation]:
        """What the file has too little to spare to wait for any longer."""
        health = findings.health
        if is_comfortable(health.k, health.n, health.answering):
            return frozenset()
        return frozenset(
            each
            for each in findings.observations
            if is_silent(each) and replace(each, overdue=False).is_waited_for and self._left_s(each, findings) <= 0
        )

    def _left_s(self, each: Observation, findings: Findings) -> float:
        """How much of the shorter grace is left to one holder."""
        health = findings.health
        since = self._since(each.holder, findings.file_id, each.outcome)
        grace_s = grace_epochs(health.k, health.n, health.answering) * self._epoch_s
        return since + grace_s - trio.current_time()

    def _since(self, holder: NodeId, file_id: FileId, outcome: Outcome) -> float:
        """Since when a holder shows nothing. Now, where that is not known."""
        absent, doubted = self._presence.away_since(holder), self._doubts.since(holder, file_id)
        since = absent if outcome is Outcome.OFFLINE else doubted
        return trio.current_time() if since is None else since


def is_silent(each: Observation) -> bool:
    """Whether a holder shows nothing of its share and does not say why. One that says that it is busy is there."""
    return each.outcome in (Outcome.OFFLINE, Outcome.STALLED)
