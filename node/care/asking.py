"""Asking the holders of some files what they keep of them.

A holder is asked once about all the files that it shares with us: by a poll, which is one datagram each way, and by the
channel where a poll does not do. What it answers is a claim; `proofs` tests a few of them.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import TypeAlias

import trio

from shoal.dht import Contact, NodeId, NoReplyError, QueryError
from shoal.erasure import FileId
from shoal.node.care.clocks import ClockComparison
from shoal.node.care.counts import RoundCounts
from shoal.node.care.doubts import Doubts
from shoal.node.care.findings import NOTHING_SHOWN, Answers, Findings, Shown, WatchedFile
from shoal.node.care.health import Observation
from shoal.node.care.polls import MAX_POLLED, MalformedPoll, Shares, poll
from shoal.node.care.presence import Presence
from shoal.node.channel import MAX_SURVEY_COUNT, PeerError
from shoal.node.context import Context
from shoal.node.holders.outcome import Outcome
from shoal.node.holders.placement import counted_host
from shoal.node.holders.refresh import refresh_horizon
from shoal.node.holders.relocation import relocate
from shoal.node.holders.statements import LIFETIME_S, HolderStatement
from shoal.node.holders.surveys import Entry, ask_survey, rows_of
from shoal.node.nursery import open_nursery
from shoal.node.repairing.audit import outcome_of
from shoal.values import dataclass

SURVEY_TIMEOUT_S = 20.0
# A peer may say that it keeps shares of a file for which it has signed nowhere. So many of them are noted: the peer is
# one host for one share, and each claim may cost an audit.
FURTHER_CLAIMS = 4


@dataclass(frozen=True, slots=True)
class Kept:
    """What one holder says that it keeps of one file, and what it showed along with it."""

    shares: Shares
    shown: Shown = NOTHING_SHOWN


Said: TypeAlias = Sequence[Kept] | Outcome
"""What a holder says of each file it was asked about, or why it says nothing."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What one holder's answer means for one file."""

    observations: tuple[Observation, ...]
    shown: Shown = NOTHING_SHOWN


class Asker:
    """Asks for one round. `limit` bounds what the round asks at once."""

    def __init__(
        self,
        context: Context,
        me: NodeId,
        presence: Presence,
        doubts: Doubts,
        clocks: ClockComparison,
        counts: RoundCounts,
        limit: trio.CapacityLimiter,
    ) -> None:
        self._context = context
        self._me = me
        self._presence = presence
        self._doubts = doubts
        self._clocks = clocks
        self._counts = counts
        self._limit = limit
        self._moved: dict[NodeId, Contact] = {}  # holders that were found at another address
        self._still_silent: dict[NodeId, Outcome] = {}  # holders that were asked again in vain; not once for each file

    async def survey(self, files: Sequence[WatchedFile], only: Collection[NodeId] | None = None) -> list[Answers]:
        """Ask each other holder once; where `only` is given, only those, and take it that the others are well."""
        heard: dict[FileId, list[Heard]] = defaultdict(list)  # in the order of the answers
        asked: dict[NodeId, tuple[Contact, dict[FileId, WatchedFile]]] = {}
        for file in files:
            for statement in file.statements:
                if statement.node_id == self._me or (only is not None and statement.node_id not in only):
                    heard[file.file_id].append(self._taken_for_granted(statement))
                else:
                    asked.setdefault(statement.node_id, (statement.contact, {}))[1].setdefault(file.file_id, file)
        async with open_nursery() as nursery:
            for contact, shared in asked.values():
                nursery.start_soon(self._survey, contact, list(shared.values()), heard)
        return [_answers(file, heard[file.file_id]) for file in files]

    async def ask_again(self, file: WatchedFile, silent: Collection[NodeId]) -> Answers:
        """Ask silent holders of a file by the channel; those not sought before in this absence wherever they are."""
        heard: list[Heard] = []

        async def ask(holder: NodeId) -> None:
            contact = self.where(holder, file)
            said: Said | None = self._still_silent.get(holder)
            if said is None and self._presence.seek(holder):
                said = await self._ask_wherever_it_is(contact, [file])
            elif said is None:
                said = await self._ask_by_channel(contact, [file])
            if isinstance(said, Outcome):
                self._presence.silent(holder, trio.current_time())
                self._still_silent[holder] = said
            heard.extend(self._heard(contact, [file], said))

        async with open_nursery() as nursery:
            for holder in sorted(silent):
                nursery.start_soon(ask, holder)
        return _answers(file, heard)

    def where(self, holder: NodeId, file: WatchedFile) -> Contact:
        """Where to reach a holder of a file: where it was found in this round, else where it states that it is."""
        if holder in self._moved:
            return self._moved[holder]
        return [each.contact for each in file.statements if each.node_id == holder][-1]

    def note_answer(self, contact: Contact, clock: int) -> None:
        """A peer has answered, and told its clock. A peer in doubt has no say about ours."""
        now = trio.current_time()
        self._counts.surveys += 1
        self._presence.answered(contact.node_id, now)
        if contact.node_id not in self._doubts:
            self._clocks.note(self._host(contact), float(clock), self._context.env.wall(), now)

    # --- asking one holder

    async def _survey(self, contact: Contact, files: Sequence[WatchedFile], heard: dict[FileId, list[Heard]]) -> None:
        """Add to `heard` what one holder answers about some files."""
        for at in range(0, len(files), MAX_SURVEY_COUNT):
            some = files[at : at + MAX_SURVEY_COUNT]
            said = await self._ask_well(contact, some)
            for file, each in zip(some, self._heard(contact, some, said), strict=True):
                heard[file.file_id].append(each)

    async def _ask_well(self, contact: Contact, files: Sequence[WatchedFile]) -> Said:
        """Ask a holder; where it is silent, ask in another way before its silence costs it anything."""
        said = await self._ask(contact, files)
        now = trio.current_time()
        if said is Outcome.OFFLINE and self._presence.is_to_be_sought(contact.node_id, now):
            said = await self._ask_wherever_it_is(contact, files)
        elif said is Outcome.OFFLINE and self._has_no_grace(contact.node_id, files, now):
            said = await self._ask_by_channel(contact, files)
        if isinstance(said, Outcome):
            self._presence.silent(contact.node_id, trio.current_time())
        return said

    def _has_no_grace(self, holder: NodeId, files: Sequence[WatchedFile], now: float) -> bool:
        """Whether a silent holder would be lost at once: it never answered us, and its share is long gone."""
        return any(
            self._presence.is_without_grace(file.file_id, each.share, holder, now)
            for file in files
            for each in file.statements
            if each.node_id == holder
        )

    async def _ask_wherever_it_is(self, contact: Contact, files: Sequence[WatchedFile]) -> Said:
        """Look for a holder in the DHT. One whose address has changed is asked for a statement with the new one."""
        found = await relocate(self._context, contact.node_id) or contact
        if found.address != contact.address:
            self._moved[contact.node_id] = found
        return await self._ask_by_channel(found, files, with_statements=contact.node_id in self._moved)

    async def _ask(self, contact: Contact, files: Sequence[WatchedFile]) -> Said:
        """Ask by poll where that will do, else by the channel."""
        if len(files) <= MAX_POLLED and not contact.is_relayed:  # no datagram reaches such a one
            async with self._limit:
                said = await self._poll(contact, [file.file_id for file in files])
            if isinstance(said, Outcome):
                return said
            if said is not None:
                return [Kept(shares) for shares in said]
        return await self._ask_by_channel(contact, files, with_statements=contact.node_id in self._moved)

    async def _poll(self, contact: Contact, file_ids: Sequence[FileId]) -> list[Shares] | Outcome | None:
        """What a peer answers to a poll; None where it has to be asked by the channel.

        That is so when it says that it keeps nothing of a file, since the owner may have deleted it. A silent peer
        counts as away; it is asked by the channel as well before it counts as lost.
        """
        try:
            clock, said = await poll(self._context, contact, file_ids)
        except NoReplyError:
            return Outcome.OFFLINE
        except (QueryError, MalformedPoll):
            return None
        if len(said) < len(file_ids) or not all(said):
            return None
        self.note_answer(contact, clock)
        return said

    async def _ask_by_channel(
        self, contact: Contact, files: Sequence[WatchedFile], *, with_statements: bool = False
    ) -> Said:
        """Ask by survey: the answer has room for statements and deletions."""
        ids = [file.file_id for file in files]
        async with self._limit:
            try:
                clock, entries = await ask_survey(
                    self._context,
                    contact,
                    ids,
                    with_statements=with_statements,
                    timeout_s=SURVEY_TIMEOUT_S,
                    patience_s=SURVEY_TIMEOUT_S,
                )
            except PeerError as error:
                return outcome_of(error, answered=False)
        self.note_answer(contact, clock)
        return [_kept(contact.node_id, entries, place) for place in range(len(files))]

    # --- what an answer means

    def _heard(self, contact: Contact, files: Sequence[WatchedFile], said: Said) -> list[Heard]:
        """What a holder's word means for each of the files."""
        host = self._host(self._moved.get(contact.node_id, contact))
        if isinstance(said, Outcome):
            return [self._silence(file, contact.node_id, said, host) for file in files]
        return [_claims(file, contact.node_id, kept, host) for file, kept in zip(files, said, strict=True)]

    def _silence(self, file: WatchedFile, holder: NodeId, outcome: Outcome, host: bytes) -> Heard:
        return Heard(
            tuple(
                Observation(share, holder, outcome, self._is_lost(file.file_id, share, holder), host)
                for share in sorted(_stated(file, holder))
            )
        )

    def _is_lost(self, file_id: FileId, share: int, holder: NodeId) -> bool:
        now = trio.current_time()
        return self._presence.is_lost(holder, now) or self._presence.is_without_grace(file_id, share, holder, now)

    def _taken_for_granted(self, statement: HolderStatement) -> Heard:
        host = self._host(statement.contact)
        return Heard((Observation(statement.share, statement.node_id, Outcome.OK, host=host),))

    def _host(self, contact: Contact) -> bytes:
        return counted_host(self._context, contact)

    # --- statements

    async def refresh(self, findings: Sequence[Findings]) -> dict[FileId, Shown]:
        """Ask holders that answered for new statements, of the files where that is worth a message to all holders."""
        shown: dict[FileId, Shown] = defaultdict(Shown)
        asked: dict[NodeId, tuple[Contact, list[WatchedFile]]] = {}
        for each in findings:
            for contact in self._to_refresh(each):
                asked.setdefault(contact.node_id, (contact, []))[1].append(each.file)

        async def ask(contact: Contact, files: Sequence[WatchedFile]) -> None:
            said = await self._ask_by_channel(contact, files, with_statements=True)
            if not isinstance(said, Outcome):  # else it is asked again at the next look
                for file, kept in zip(files, said, strict=True):
                    shown[file.file_id] += kept.shown

        async with open_nursery() as nursery:
            for contact, files in asked.values():
                for at in range(0, len(files), MAX_SURVEY_COUNT):
                    nursery.start_soon(ask, contact, files[at : at + MAX_SURVEY_COUNT])
        return shown

    def _to_refresh(self, findings: Findings) -> list[Contact]:
        """Which holders to ask for a new statement. One in doubt gives no occasion: it may never give a statement."""
        there, now = findings.there, self._context.env.wall()
        left = {
            each: findings.commonly_issued(each) + LIFETIME_S - now
            for each in findings.statements
            if each.node_id != self._me and (each.share, each.node_id) in there
        }
        trusted = [left_s for each, left_s in left.items() if each.node_id not in self._doubts]
        horizon = refresh_horizon(trusted, self._context.network.epoch_s)
        return list({each.node_id: each.contact for each, left_s in left.items() if left_s < horizon}.values())


def _kept(holder: NodeId, entries: Sequence[Entry], place: int) -> Kept:
    """What a survey's answer says of the file asked about at `place`. The answer may end before it."""
    entry = entries[place] if place < len(entries) else ()
    if isinstance(entry, bytes):
        return Kept((), Shown(deletions=(entry,)))
    rows = rows_of(entries, place)
    signed = tuple((holder, row.statement) for row in rows if row.statement)
    return Kept({row.share for row in rows}, Shown(signed))


def _claims(file: WatchedFile, holder: NodeId, kept: Kept, host: bytes) -> Heard:
    """The shares that a holder is known for, and a few more that it says it keeps."""
    stated = _stated(file, holder)
    claimed = set(range(file.manifest.n)).intersection(kept.shares)  # it may say anything
    further = sorted(claimed - stated)[:FURTHER_CLAIMS]
    observations = tuple(
        Observation(share, holder, Outcome.OK if share in kept.shares else Outcome.MISSING, host=host)
        for share in sorted(stated.union(further))
    )
    return Heard(observations, kept.shown)


def _stated(file: WatchedFile, holder: NodeId) -> set[int]:
    return {each.share for each in file.statements if each.node_id == holder}


def _answers(file: WatchedFile, heard: Iterable[Heard]) -> Answers:
    observations: list[Observation] = []
    shown = Shown()
    for each in heard:
        observations += each.observations
        shown += each.shown
    return Answers(file, tuple(observations), shown)
