"""One look at some files: ask their holders what they keep, audit a few blocks, and mend what is lost.

Every peer is asked once, about all the files it shares with us. Of each file a few shares are audited, so that every
share is about once in seven epochs (a week, where an epoch is a day); an audit is a read of one random block, whose
path proves it against the manifest. (The block itself comes back, so a nonce would add nothing: it matters only where a
hash is sent in place of the bytes.) Where somebody is caught claiming what he cannot show, more claims on that file are
audited until all of those hold, and his own at every look from then on.
"""

import math
import random
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace

import trio

from shoal.dht import Contact, NodeId, NoReplyError, RequestError
from shoal.erasure import BLOCK_BYTES, CorruptBlock, FileId, Manifest, SegmentDecoder
from shoal.node.care.clocks import ClockComparison
from shoal.node.care.doubts import Doubts
from shoal.node.care.health import Health, Observation
from shoal.node.care.polls import MAX_POLLED, MalformedPoll, Shares, poll
from shoal.node.care.presence import Presence
from shoal.node.channel import MAX_SURVEY_COUNT, PeerError, Read
from shoal.node.context import Context
from shoal.node.holders.outcome import Outcome
from shoal.node.holders.placement import host_of
from shoal.node.holders.refresh import Place, refresh_horizon
from shoal.node.holders.relocation import relocate
from shoal.node.holders.statements import LIFETIME_S, HolderStatement
from shoal.node.holders.surveys import ask_survey, rows_of
from shoal.node.nursery import open_nursery
from shoal.node.repairing.audit import outcome_of

ASKED_AT_ONCE = 16  # peers surveyed, and blocks audited, at the same time
SURVEY_TIMEOUT_S = 20.0
AUDIT_TIMEOUT_S = 30.0  # or longer where our own cap is so low that the blocks asked for at once need more,
LONGEST_AUDIT_S = 600.0  # as over 3.5 kB/s
STALLED_S = 60.0  # so long nobody is asked again who did not answer: each time costs everybody half a minute
BUSY_BYTES_PER_S = 64_000.0  # moved by repairs meanwhile: then a silence says nothing
AUDIT_EPOCHS = 7.0  # between audits of one share: at most 64 KiB a week where an epoch is a day (DESIGN section 6)
MORE_AUDITS, MORE_PART = 4, 0.25  # of the other claims on a file, when one was false: so many at least, and such a part
DOUBTED_AUDITS = 64  # of one peer in doubt at one look: 4 MiB; what it claims beyond that waits for the next
# Of one peer in doubt on one file, a few as on a network with fewer hosts than shares: who claims them all is one host
# for one of them, and what it was not asked to show does not count.
DOUBTED_CLAIMS = 4
# Of what a peer says that it keeps of one file and has signed for nowhere: it is one host for one share, and each claim
# may cost an audit.
FURTHER_CLAIMS = 4


@dataclass
class Charge:
    """A file to look at. `statements` are what is known of its holders, ours among them."""

    file_id: FileId
    manifest: Manifest
    statements: list[HolderStatement]
    observations: list[Observation] = field(default_factory=list)
    fresh: list[tuple[NodeId, bytes]] = field(default_factory=list)  # statements, unchecked, and who showed them
    deletions: list[bytes] = field(default_factory=list)  # as others showed them, unchecked
    audited: set[int] = field(default_factory=set)  # places of observations
    common: dict[Place, int] = field(default_factory=dict)  # when the statement was issued that most holders know

    def commonly_issued(self, statement: HolderStatement) -> int:
        """When the statement was issued that most holders know in place of this one; this one where they know none."""
        return self.common.get((statement.share, statement.node_id), statement.issued)

    @property
    def there(self) -> set[Place]:
        """The shares that were there, with those who have them."""
        return {(each.share, each.holder) for each in self.observations if each.outcome is Outcome.OK}

    @property
    def health(self) -> Health:
        """What the observations amount to."""
        return Health.of(self.manifest.k, self.manifest.n, self.observations)


@dataclass
class RoundCounts:
    """What looking after files has cost and found, for the status."""

    surveys: int = 0
    audits_passed: int = 0
    audits_failed: int = 0
    audit_bytes: int = 0


class Round:
    """Looks at some charges and fills in their observations."""

    def __init__(
        self,
        context: Context,
        me: NodeId,
        presence: Presence,
        doubts: Doubts,
        clocks: ClockComparison,
        counts: RoundCounts,
    ) -> None:
        self._context = context
        self._me = me
        self._presence = presence
        self._doubts = doubts
        self._caught: set[tuple[NodeId, FileId]] = set()  # in this round
        self._doubted_audits: Counter[NodeId] = Counter()
        self._stalled: dict[NodeId, float] = {}  # who did not answer an audit in time, and when
        self._clocks = clocks
        self._counts = counts
        self._limit = trio.CapacityLimiter(ASKED_AT_ONCE)
        self._moved: dict[NodeId, Contact] = {}

    async def look(self, charges: Sequence[Charge]) -> None:
        """Survey every other holder once, then audit."""
        await self._survey_all(charges)
        await self._audit(charges, self._sample)
        self._note_shares(charges)

    async def look_for(self, absent: Collection[NodeId], charges: Sequence[Charge]) -> None:
        """Survey only those of the holders that are `absent`, and take it that the others are well."""
        await self._survey_all(charges, absent)
        await self._audit(charges, self._doubted)

    async def look_also(self, charge: Charge, statements: Sequence[HolderStatement]) -> None:
        """Survey holders of a file that have only now become known."""
        more = Charge(charge.file_id, charge.manifest, list(statements))
        await self._survey_all([more])
        await self._audit([more], self._doubted)
        charge.audited |= {len(charge.observations) + at for at in more.audited}
        charge.statements += more.statements
        charge.observations += more.observations
        charge.fresh += more.fresh
        charge.deletions += more.deletions
        self._note_shares([charge])

    async def prove(self, charge: Charge) -> None:
        """Audit every claim on a file that was not audited in this round, so that nobody is believed without proof."""
        await self._audit([charge], self._unproven)

    def _note_shares(self, charges: Sequence[Charge]) -> None:
        """Which shares were there. What a peer in doubt merely claims was not: one liar would have them all there."""
        for charge in charges:
            there = {
                each.share
                for at, each in enumerate(charge.observations)
                if each.outcome is Outcome.OK and (at in charge.audited or each.holder not in self._doubts)
            }
            self._presence.note_shares(charge.file_id, charge.manifest.n, there, trio.current_time())

    def _host(self, contact: Contact) -> bytes:
        return host_of(contact, private=self._context.network.private)

    async def _survey_all(self, charges: Sequence[Charge], only: Collection[NodeId] | None = None) -> None:
        asked: dict[NodeId, tuple[Contact, list[Charge]]] = {}
        for charge in charges:
            for statement in charge.statements:
                holder = statement.node_id
                if holder == self._me or (only is not None and holder not in only):
                    host = self._host(statement.contact)
                    charge.observations.append(Observation(statement.share, holder, Outcome.OK, host=host))
                    continue
                _, files = asked.setdefault(statement.node_id, (statement.contact, []))
                if charge not in files:
                    files.append(charge)
        async with open_nursery() as nursery:
            for contact, files in asked.values():
                nursery.start_soon(self._survey, contact, files)

    # --- surveys

    async def _survey(self, contact: Contact, charges: list[Charge]) -> None:
        for at in range(0, len(charges), MAX_SURVEY_COUNT):
            some = charges[at : at + MAX_SURVEY_COUNT]
            said = await self._ask(contact, some)
            now = trio.current_time()
            if said is Outcome.OFFLINE and self._presence.is_to_be_sought(contact.node_id, now):
                said = await self._ask_wherever_it_is(contact, some)
            elif said is Outcome.OFFLINE and self._has_no_grace(contact.node_id, some, now):
                said = await self._ask_by_channel(contact, some)
            if isinstance(said, Outcome):
                self._presence.silent(contact.node_id, trio.current_time())
            self._take(self._moved.get(contact.node_id, contact), some, said)

    def _has_no_grace(self, holder: NodeId, charges: Sequence[Charge], now: float) -> bool:
        """Whether a silent holder would be lost at once, since it never answered us and its share is long gone."""
        return any(
            self._presence.is_without_grace(charge.file_id, each.share, holder, now)
            for charge in charges
            for each in charge.statements
            if each.node_id == holder
        )

    async def _ask_wherever_it_is(self, contact: Contact, charges: Sequence[Charge]) -> list[Shares] | Outcome:
        """A holder whose line got another address says where it is now, and signs it."""
        found = await relocate(self._context, contact.node_id) or contact
        if found.address != contact.address:
            self._moved[contact.node_id] = found
        return await self._ask_by_channel(found, charges, with_statements=contact.node_id in self._moved)

    async def _ask(self, contact: Contact, charges: Sequence[Charge]) -> list[Shares] | Outcome:
        """What a peer says that it keeps of some files, or why it says nothing: by poll where that will do."""
        if len(charges) <= MAX_POLLED:
            async with self._limit:
                said = await self._poll(contact, [charge.file_id for charge in charges])
            if said is not None:
                return said
        return await self._ask_by_channel(contact, charges, with_statements=contact.node_id in self._moved)

    async def _poll(self, contact: Contact, file_ids: Sequence[FileId]) -> list[Shares] | Outcome | None:
        """What a peer answers to a poll; None where it has to be asked by the channel.

        That is so when it says that it keeps nothing, since the owner may have deleted it. Who is silent is taken for
        away: before it is lost it is asked by the channel as well.
        """
        try:
            clock, said = await poll(self._context, contact, file_ids)
        except NoReplyError:
            return Outcome.OFFLINE
        except (RequestError, MalformedPoll):
            return None
        if len(said) < len(file_ids) or not all(said):
            return None
        self._note_answer(contact, clock)
        return said

    async def _ask_by_channel(
        self, contact: Contact, charges: Sequence[Charge], *, with_statements: bool = False
    ) -> list[Shares] | Outcome:
        """The same by survey; statements and deletions that come along are noted with their files."""
        ids = [charge.file_id for charge in charges]
        async with self._limit:
            try:
                clock, entries = await ask_survey(
                    self._context, contact, ids, with_statements=with_statements, timeout_s=SURVEY_TIMEOUT_S
                )
            except PeerError as error:
                return outcome_of(error, answered=False)
        self._note_answer(contact, clock)
        for charge, entry in zip(charges, entries, strict=False):
            if isinstance(entry, bytes):
                charge.deletions.append(entry)
            else:
                charge.fresh += [(contact.node_id, row.statement) for row in entry if row.statement]
        return [{row.share for row in rows_of(entries, place)} for place in range(len(charges))]

    def _note_answer(self, contact: Contact, clock: int) -> None:
        now = trio.current_time()
        self._counts.surveys += 1
        self._presence.answered(contact.node_id, now)
        if contact.node_id not in self._doubts:
            self._clocks.note(self._host(contact), float(clock), self._context.env.wall(), now)

    def _take(self, contact: Contact, charges: Sequence[Charge], said: list[Shares] | Outcome) -> None:
        """Note what one peer said of some files."""
        holder, host = contact.node_id, self._host(contact)
        for place, charge in enumerate(charges):
            stated = {each.share for each in charge.statements if each.node_id == holder}
            if isinstance(said, Outcome):
                charge.observations += [
                    Observation(share, holder, said, self._is_lost(charge, share, holder), host)
                    for share in sorted(stated)
                ]
                continue
            kept = set(range(charge.manifest.n)).intersection(said[place])  # it may say anything
            further = sorted(kept - stated)[:FURTHER_CLAIMS]
            for share in sorted(stated.union(further)):
                outcome = Outcome.OK if share in said[place] else Outcome.MISSING
                charge.observations.append(Observation(share, holder, outcome, host=host))

    def _is_lost(self, charge: Charge, share: int, holder: NodeId) -> bool:
        now = trio.current_time()
        return self._presence.is_lost(holder, now) or self._presence.is_without_grace(
            charge.file_id, share, holder, now
        )

    # --- statements

    async def refresh(self, charges: Iterable[Charge]) -> None:
        """Ask holders that answered for new statements, of the files where that is worth a message to all holders."""
        asked: dict[NodeId, tuple[Contact, list[Charge]]] = {}
        for charge in charges:
            for contact in self._to_refresh(charge):
                asked.setdefault(contact.node_id, (contact, []))[1].append(charge)
        async with open_nursery() as nursery:
            for contact, files in asked.values():
                for at in range(0, len(files), MAX_SURVEY_COUNT):
                    nursery.start_soon(self._ask_statements, contact, files[at : at + MAX_SURVEY_COUNT])

    async def _ask_statements(self, contact: Contact, charges: Sequence[Charge]) -> None:
        """Whoever does not answer now is asked again at the next look."""
        await self._ask_by_channel(contact, charges, with_statements=True)

    def _to_refresh(self, charge: Charge) -> list[Contact]:
        """Whom to ask for a new statement of a file. Whoever is in doubt gives no occasion: it may never give one."""
        there, now = charge.there, self._context.env.wall()
        left = {
            each: charge.commonly_issued(each) + LIFETIME_S - now
            for each in charge.statements
            if each.node_id != self._me and (each.share, each.node_id) in there
        }
        trusted = [left_s for each, left_s in left.items() if each.node_id not in self._doubts]
        horizon = refresh_horizon(trusted, self._context.network.epoch_s)
        return list({each.node_id: each.contact for each, left_s in left.items() if left_s < horizon}.values())

    # --- audits

    async def _audit(self, charges: Iterable[Charge], choose: Callable[[Charge], Collection[int]]) -> None:
        """Audit the chosen observations of each file."""
        async with open_nursery() as nursery:
            for charge in charges:
                nursery.start_soon(self._audit_file, charge, choose)

    async def _audit_file(self, charge: Charge, choose: Callable[[Charge], Collection[int]]) -> None:
        """Audit what is chosen, and more for as long as somebody fails who was trusted: where many lie, all of it."""
        chosen = choose(charge)
        while chosen:
            trusted = [at for at in chosen if charge.observations[at].holder not in self._doubts]
            await self._audit_some(charge, sorted(chosen))
            if all(charge.observations[at].outcome in (Outcome.OK, Outcome.OFFLINE) for at in trusted):
                break
            rest = self._unproven(charge)
            more = max(MORE_AUDITS, math.ceil(len(rest) * MORE_PART))
            chosen = {*self._context.env.rng.sample(rest, min(more, len(rest))), *self._doubted(charge)}

    async def _audit_some(self, charge: Charge, chosen: Collection[int]) -> None:
        contacts = {each.node_id: each.contact for each in charge.statements} | self._moved
        charge.audited.update(chosen)
        async with open_nursery() as nursery:
            for at in chosen:
                nursery.start_soon(self._audit_one, charge, at, contacts[charge.observations[at].holder])

    def _unproven(self, charge: Charge) -> list[int]:
        """The places of observations that are claims of others, and not proofs."""
        return [
            at
            for at, each in enumerate(charge.observations)
            if each.outcome is Outcome.OK and each.holder != self._me and at not in charge.audited
        ]

    def _sample(self, charge: Charge) -> set[int]:
        """So many claims that each share's turn comes about once in seven epochs; those of peers in doubt besides."""
        rng: random.Random = self._context.env.rng
        candidates = self._unproven(charge)
        expected = len(candidates) * (1.0 / AUDIT_EPOCHS)
        count = math.floor(expected) + (rng.random() < expected % 1)
        return {*rng.sample(candidates, min(count, len(candidates))), *self._doubted(charge)}

    def _doubted(self, charge: Charge) -> list[int]:
        """Claims of peers in doubt, within a bound for each; the share that it could not show is among them."""
        claims: dict[NodeId, list[int]] = {}
        for at in self._unproven(charge):
            holder = charge.observations[at].holder
            if holder in self._doubts:
                claims.setdefault(holder, []).append(at)
        chosen = []
        for holder, places in claims.items():
            dubious = self._doubts.share(holder, charge.file_id)
            self._context.env.rng.shuffle(places)
            places.sort(key=lambda at: charge.observations[at].share != dubious)
            left = DOUBTED_AUDITS - self._doubted_audits[holder]
            asked = places[: min(left, DOUBTED_CLAIMS)]
            self._doubted_audits[holder] += len(asked)
            chosen += asked
            for at in places[len(asked) :] if asked else ():
                charge.observations[at] = replace(charge.observations[at], outcome=Outcome.MISSING)
        return chosen

    async def _audit_one(self, charge: Charge, at: int, contact: Contact) -> None:
        claim = charge.observations[at]
        async with self._limit:
            began, moved = trio.current_time(), self._moved_bytes()
            if began - self._stalled.get(claim.holder, -math.inf) < STALLED_S:
                outcome = Outcome.STALLED
            else:
                outcome = await self._read_block(charge.manifest, claim.share, contact)
        waited_s = trio.current_time() - began
        if outcome is Outcome.STALLED and waited_s >= self._audit_timeout_s():  # and did not say that it is busy
            if self._moved_bytes() - moved > waited_s * self._busy_bytes_per_s():
                charge.audited.discard(at)  # the repairs that go on beside this filled our line: as if we had not asked
                return
            self._stalled[claim.holder] = trio.current_time()
        self._counts.audits_passed += outcome is Outcome.OK
        self._counts.audits_failed += outcome is not Outcome.OK
        self._judge(claim, charge.file_id, outcome)
        charge.observations[at] = replace(claim, outcome=outcome, lost=self._is_doubted_lost(claim, charge))

    def _moved_bytes(self) -> int:
        """By the care of files, repairs among it; what our server does is nothing new to an audit."""
        return self._context.throttle.sent_bytes + self._context.throttle.received_bytes

    def _busy_bytes_per_s(self) -> float:
        """From when on our line may be what others' answers wait for."""
        cap = self._context.throttle.down.bytes_per_s or math.inf
        return min(BUSY_BYTES_PER_S, cap / 2)

    def _is_doubted_lost(self, claim: Observation, charge: Charge) -> bool:
        """Whether the holder has shown nothing of the file for its whole grace."""
        return self._doubts.is_lost(claim.holder, charge.file_id, trio.current_time())

    def _judge(self, claim: Observation, file_id: FileId, outcome: Outcome) -> None:
        """Whoever failed once in this round stays in doubt, whatever else of the file it shows."""
        if outcome is not Outcome.OK:
            self._caught.add((claim.holder, file_id))
            self._doubts.failed(claim.holder, file_id, claim.share, trio.current_time())
        elif (claim.holder, file_id) not in self._caught:
            self._doubts.passed(claim.holder, file_id, claim.share)

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

    def _audit_timeout_s(self) -> float:
        """Twice what our cap takes for all that is under way, so that nobody is in doubt because of it."""
        bytes_per_s = self._context.throttle.down.bytes_per_s or math.inf
        return min(LONGEST_AUDIT_S, max(AUDIT_TIMEOUT_S, 2 * ASKED_AT_ONCE * BLOCK_BYTES / bytes_per_s))
