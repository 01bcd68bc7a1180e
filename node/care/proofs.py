"""Proofs: which claims of holders are audited, what a failed audit means, and the audits themselves.

An audit is a read of one random block. The block's path proves it against the manifest, and the block itself comes
back, so that nothing can be computed in its place. Of each file few claims are audited: each share about once in seven
epochs (a week, where an epoch is a day). Where a claim proves false, more claims on that file are audited until all of
those hold; and the claims of that peer are audited at every look from then on.
"""

import math
import random
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import TypeAlias

import trio

from shoal.dht import Contact, NodeId
from shoal.erasure import BLOCK_BYTES, CorruptBlock, FileId, Manifest, SegmentDecoder
from shoal.node.care.counts import RoundCounts
from shoal.node.care.doubts import Doubts
from shoal.node.care.findings import Findings, WatchedFile
from shoal.node.care.health import Observation
from shoal.node.channel import PeerError, Read
from shoal.node.context import Context
from shoal.node.holders.line import capped_s, full_bytes_per_s
from shoal.node.holders.outcome import Outcome
from shoal.node.nursery import open_nursery
from shoal.node.repairing.audit import outcome_of
from shoal.values import dataclass

ASKED_AT_ONCE = 16  # peers surveyed, and blocks audited, at the same time
AUDIT_TIMEOUT_S = 30.0  # or longer, where our own cap is so low that the blocks asked for at once need more,
LONGEST_AUDIT_S = 600.0  # as over 3.5 kB/s
TIMED_OUT_PART = 0.99  # of the time-out: differences of clock readings are rounded, and 30 s may come out as less
STALLED_S = 60.0  # a peer that did not answer is not asked again for so long: each time costs half a minute
AUDIT_EPOCHS = 7.0  # between audits of one share: at most 64 KiB a week where an epoch is a day
MORE_AUDITS, MORE_PART = 4, 0.25  # of the other claims on a file, when one was false: so many at least, and such a part
DOUBTED_AUDITS = 64  # of one peer in doubt at one look: 4 MiB; what it claims beyond that waits for the next
# Of one peer in doubt on one file. A peer that claims all shares is one host for one of them. What it was not asked to
# show does not count. A few are asked for, since a network may have fewer hosts than shares.
DOUBTED_CLAIMS = 4


@dataclass(frozen=True, slots=True)
class Chosen:
    """What to audit: `places` of observations of these findings."""

    findings: Findings
    places: frozenset[int]


Choose: TypeAlias = Callable[[Findings], Chosen]


class AuditChoice:
    """Which claims of one round are audited. Plain rules: `doubts` says whom not to believe, `rng` draws."""

    def __init__(self, me: NodeId, doubts: Doubts, rng: random.Random) -> None:
        self._me = me
        self._doubts = doubts
        self._rng = rng
        self._failed: set[tuple[NodeId, FileId]] = set()  # peers that failed an audit of a file in this round
        self._doubted_audits: Counter[NodeId] = Counter()  # by peer in doubt

    def everything(self, findings: Findings) -> Chosen:
        """All claims that are not proven."""
        return Chosen(findings, frozenset(self._unproven(findings)))

    def sample(self, findings: Findings) -> Chosen:
        """So many claims that each share's turn comes about once in seven epochs, and claims of peers in doubt."""
        candidates = self._unproven(findings)
        expected = len(candidates) * (1.0 / AUDIT_EPOCHS)
        count = math.floor(expected) + (self._rng.random() < expected % 1)
        return self._with_doubted(findings, self._rng.sample(candidates, min(count, len(candidates))))

    def doubted(self, findings: Findings) -> Chosen:
        """Claims of peers in doubt only."""
        return self._with_doubted(findings, ())

    def further(self, findings: Findings) -> Chosen:
        """After a claim on this file proved false: a part of the other claims on it, and claims of peers in doubt."""
        rest = self._unproven(findings)
        more = max(MORE_AUDITS, math.ceil(len(rest) * MORE_PART))
        return self._with_doubted(findings, self._rng.sample(rest, min(more, len(rest))))

    def judge(self, claim: Observation, file_id: FileId, outcome: Outcome, now: float) -> Observation:
        """What an audit of a claim has shown. A peer that failed once in this round stays in doubt, whatever else of
        the file it shows. One that has shown nothing of the file for its whole grace has lost its share.
        """
        if outcome is not Outcome.OK:
            self._failed.add((claim.holder, file_id))
            self._doubts.failed(claim.holder, file_id, claim.share, now)
        elif (claim.holder, file_id) not in self._failed:
            self._doubts.passed(claim.holder, file_id, claim.share)
        return replace(claim, outcome=outcome, lost=self._doubts.is_lost(claim.holder, file_id, now))

    def _unproven(self, findings: Findings) -> list[int]:
        """The places of observations that are claims of others, and not proofs."""
        return [
            at
            for at, each in enumerate(findings.observations)
            if each.outcome is Outcome.OK and each.holder != self._me and at not in findings.proven
        ]

    def _with_doubted(self, findings: Findings, places: Collection[int]) -> Chosen:
        """These places, and claims of peers in doubt, a few of each peer. The share that it could not show is among
        them. Its other claims on the file count as missing.
        """
        observations = list(findings.observations)
        claims: dict[NodeId, list[int]] = {}
        for at in self._unproven(findings):
            if observations[at].holder in self._doubts:
                claims.setdefault(observations[at].holder, []).append(at)
        chosen = set(places)
        for holder, doubted in claims.items():
            dubious = self._doubts.share(holder, findings.file_id)
            self._rng.shuffle(doubted)
            doubted.sort(key=lambda at: observations[at].share != dubious)
            left = DOUBTED_AUDITS - self._doubted_audits[holder]
            asked = doubted[: min(left, DOUBTED_CLAIMS)]
            self._doubted_audits[holder] += len(asked)
            chosen.update(asked)
            for at in doubted[len(asked) :] if asked else ():
                observations[at] = replace(observations[at], outcome=Outcome.MISSING)
        if claims:
            findings = replace(findings, observations=tuple(observations))
        return Chosen(findings, frozenset(chosen))


class Prover:
    """Audits for one round. `limit` bounds what the round asks at once.

    `where` says where a holder of a file is to be reached.
    """

    def __init__(
        self,
        context: Context,
        choice: AuditChoice,
        doubts: Doubts,
        counts: RoundCounts,
        limit: trio.CapacityLimiter,
        where: Callable[[NodeId, WatchedFile], Contact],
    ) -> None:
        self._context = context
        self._choice = choice
        self._doubts = doubts
        self._limit = limit
        self._counts = counts
        self._where = where
        self._stalled: dict[NodeId, float] = {}  # peers that did not answer an audit in time, and when
        self._asked: dict[NodeId, trio.Event] = {}  # holders that were asked, and whether the first read has ended

    async def audit(self, findings: Sequence[Findings], choose: Choose) -> list[Findings]:
        """Audit what `choose` picks of each file; the findings after that, in the same order."""
        audited = list(findings)

        async def audit(place: int) -> None:
            audited[place] = await self._audit_file(findings[place], choose)

        async with open_nursery() as nursery:
            for place in range(len(audited)):
                nursery.start_soon(audit, place)
        return audited

    async def _audit_file(self, findings: Findings, choose: Choose) -> Findings:
        """Audit what is chosen. While a peer fails that was trusted, audit more: where many lie, all of it."""
        chosen = choose(findings)
        while chosen.places:
            before = chosen.findings.observations
            trusted = [at for at in chosen.places if before[at].holder not in self._doubts]
            findings = await self._audit_some(chosen)
            if all(findings.observations[at].outcome in (Outcome.OK, Outcome.OFFLINE) for at in trusted):
                return findings
            chosen = self._choice.further(findings)
        return chosen.findings

    async def _audit_some(self, chosen: Chosen) -> Findings:
        findings, shown = chosen.findings, dict[int, Observation]()

        async def audit(place: int, contact: Contact) -> None:
            claim = findings.observations[place]
            outcome = await self._outcome_in_order(findings.file.manifest, claim, contact)
            if outcome is not None:
                shown[place] = self._choice.judge(claim, findings.file_id, outcome, trio.current_time())

        async with open_nursery() as nursery:
            for place in sorted(chosen.places):
                nursery.start_soon(audit, place, self._where(findings.observations[place].holder, findings.file))
        observations = tuple(shown.get(at, each) for at, each in enumerate(findings.observations))
        return replace(findings, observations=observations, proven=findings.proven.union(shown))

    async def _outcome_in_order(self, manifest: Manifest, claim: Observation, contact: Contact) -> Outcome | None:
        """As `_outcome`; the first read of each holder goes alone. One that is silent takes one place for one time-out,
        whatever it claims: with more, the silences of two holders would follow each other.
        """
        first = self._asked.get(claim.holder)
        if first is not None:
            await first.wait()
            return await self._outcome(manifest, claim, contact)
        self._asked[claim.holder] = ended = trio.Event()
        try:
            return await self._outcome(manifest, claim, contact)
        finally:
            ended.set()

    async def _outcome(self, manifest: Manifest, claim: Observation, contact: Contact) -> Outcome | None:
        """What an audit of one claim comes to; None where our own line was too busy to tell."""
        async with self._limit:
            began, moved = trio.current_time(), self._moved_bytes()
            if began - self._stalled.get(claim.holder, -math.inf) < STALLED_S:
                outcome = Outcome.STALLED
            else:
                outcome = await self._read_block(manifest, claim.share, contact)
        waited_s = trio.current_time() - began
        if outcome is Outcome.STALLED and waited_s >= TIMED_OUT_PART * self._audit_timeout_s():  # else it was not asked
            if self._moved_bytes() - moved > waited_s * full_bytes_per_s(self._context.throttle):
                return None  # the repairs that go on beside this filled our line
            self._stalled[claim.holder] = trio.current_time()
        self._counts.audits_passed += outcome is Outcome.OK
        self._counts.audits_failed += outcome is not Outcome.OK
        return outcome

    async def _read_block(self, manifest: Manifest, share: int, contact: Contact) -> Outcome:
        """Read one random block of a share and check it against the manifest."""
        decoder = SegmentDecoder(manifest, self._context.codec)
        index = self._context.env.rng.randrange(decoder.layout.segment_count)
        request = Read(manifest.id, share, index, 1, True)
        try:
            reply = await self._context.ask(contact, request, timeout_s=self._audit_timeout_s())
            self._counts.audit_bytes += len(reply.payload)
            await self._context.env.call(decoder.check_blocks, share, index, [reply.payload], reply.share_proof)
        except CorruptBlock:
            return Outcome.WRONG
        except PeerError as error:
            return outcome_of(error, answered=True)
        return Outcome.OK

    def _moved_bytes(self) -> int:
        """By the care of files, repairs among it; what our server does is nothing new to an audit."""
        return self._context.throttle.sent_bytes + self._context.throttle.received_bytes

    def _audit_timeout_s(self) -> float:
        """Twice what our cap takes for all that is under way, so that nobody is in doubt because of it."""
        return min(LONGEST_AUDIT_S, max(AUDIT_TIMEOUT_S, capped_s(self._context.throttle, ASKED_AT_ONCE * BLOCK_BYTES)))
