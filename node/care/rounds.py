"""One round: ask the holders of some files what they keep, and audit a few of their claims.

Each peer is asked once, about all the files it shares with us (`asking`). What it says are claims; a few of them are
put to the proof (`proofs`). The result is one `Findings` for each file.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace

import trio

from shoal.dht import NodeId
from shoal.node.care.asking import Asker
from shoal.node.care.clocks import ClockComparison
from shoal.node.care.counts import RoundCounts
from shoal.node.care.doubts import Doubts
from shoal.node.care.findings import Findings, WatchedFile
from shoal.node.care.presence import Presence
from shoal.node.care.proofs import ASKED_AT_ONCE, AuditChoice, Prover
from shoal.node.context import Context
from shoal.node.holders.outcome import Outcome
from shoal.node.holders.statements import HolderStatement


class Round:
    """Asks and audits. What it learns of a peer at one file it remembers for the others of the round."""

    def __init__(
        self,
        context: Context,
        me: NodeId,
        presence: Presence,
        doubts: Doubts,
        clocks: ClockComparison,
        counts: RoundCounts,
    ) -> None:
        self._presence = presence
        self._doubts = doubts
        limit = trio.CapacityLimiter(ASKED_AT_ONCE)
        self._choice = AuditChoice(me, doubts, context.env.rng)
        self._asker = Asker(context, me, presence, doubts, clocks, counts, limit)
        self._prover = Prover(context, self._choice, doubts, counts, limit, self._asker.where)

    async def survey(self, files: Sequence[WatchedFile]) -> list[Findings]:
        """Ask every other holder once, and believe what it says."""
        return [Findings.of(each) for each in await self._asker.survey(files)]

    async def look(self, files: Sequence[WatchedFile]) -> list[Findings]:
        """Ask every other holder once, then audit a sample."""
        found = await self._prover.audit(await self.survey(files), self._choice.sample)
        for each in found:
            self._note_shares(each)
        return found

    async def look_for(self, absent: Collection[NodeId], files: Sequence[WatchedFile]) -> list[Findings]:
        """Ask only those of the holders that are `absent`, and take it that the others are well."""
        answers = await self._asker.survey(files, absent)
        return await self._prover.audit([Findings.of(each) for each in answers], self._choice.doubted)

    async def look_also(self, findings: Findings, statements: Sequence[HolderStatement]) -> Findings:
        """Ask holders of a file that have become known only now, too."""
        surveyed = await self.survey([replace(findings.file, statements=tuple(statements))])
        (more,) = await self._prover.audit(surveyed, self._choice.doubted)
        findings = findings.with_more(more)
        self._note_shares(findings)
        return findings

    async def ask_again(self, findings: Findings, silent: Collection[NodeId]) -> Findings:
        """Ask some silent holders of a file once more, wherever they are. What they claim is not audited here."""
        findings = findings.with_answers(await self._asker.ask_again(findings.file, silent))
        self._note_shares(findings)
        return findings

    async def prove(self, findings: Findings) -> Findings:
        """Audit every claim on a file that is not proven, so that nobody is believed without proof."""
        (proven,) = await self._prover.audit([findings], self._choice.everything)
        return proven

    async def refresh(self, found: Sequence[Findings]) -> list[Findings]:
        """Ask for new statements of the files where it is time for that."""
        shown = await self._asker.refresh(found)
        return [
            replace(each, shown=each.shown + shown[each.file_id]) if each.file_id in shown else each for each in found
        ]

    def _note_shares(self, findings: Findings) -> None:
        """Note which shares were there. Mere claims of peers in doubt do not count: one liar would claim them all."""
        there = {
            each.share
            for at, each in enumerate(findings.observations)
            if each.outcome is Outcome.OK and (at in findings.proven or each.holder not in self._doubts)
        }
        self._presence.note_shares(findings.file_id, findings.file.manifest.n, there, trio.current_time())
