"""Asking every holder of a file what it keeps, and to prove it: one survey and one block of each share.

All prove a block of the same randomly chosen segment. A block with its path to the share's root is a proof of
possession (a nonce is needed only where a hash is sent in place of the bytes), and the blocks of one segment together
show whether the shares belong to one file, which the roots alone do not say.
"""

from collections.abc import Iterable, Sequence
from dataclasses import field

import trio

from shoal.dht import Contact, NodeId, reach_of
from shoal.erasure import (
    HASH_BYTES,
    CorruptBlock,
    CorruptDataLeaf,
    Manifest,
    NotACodeword,
    SegmentDecoder,
    block_leaf,
)
from shoal.node.channel import (
    Blocks,
    Buffer,
    MalformedMessage,
    PeerError,
    Read,
    Reason,
    RemoteError,
    Status,
    TimedOut,
    Unreachable,
)
from shoal.node.context import Context
from shoal.node.errors import NotOneFile
from shoal.node.fetching.reading import cut
from shoal.node.holders.announcers import Hint
from shoal.node.holders.deletion import Deletion, MalformedDeletion, read_deletion
from shoal.node.holders.everyone import by_node
from shoal.node.holders.line import LONGEST_S, SLOWEST_BLOCK_S, Line
from shoal.node.holders.outcome import Outcome
from shoal.node.holders.search import Search
from shoal.node.holders.statements import HolderStatement, MalformedStatement, check_statement
from shoal.node.holders.surveys import Entry, SurveyRow, ask_survey
from shoal.node.holders.tally import Finding, Tally
from shoal.node.nursery import open_nursery
from shoal.values import dataclass

# All of these while our line is idle, since over a busy one nobody can be blamed (`line.py`).
DEADLINE_S = 15.0  # of a whole audit of up to ASKED_AT_ONCE holders: a dial, a handshake and two answers
LONGEST_AUDIT_S = 60.0  # of one with more; those whose turn has not come by then are not counted at all
SURVEY_TIMEOUT_S = 4.0
BLOCK_TIMEOUT_S = 10.0
BUSY_SURVEY_S, BUSY_BLOCK_S = 2.0, 6.0  # a busy holder is asked again for so long, and is told from one that stalls

ASKED_AT_ONCE = 48  # of the 64 connections a node keeps
LONGEST_SURVEY_S = 30.0  # a few hundred bytes, over however busy a line
PATIENCE_S = 1.0  # most healthy files are through by then; else the search for more begins before dials time out


@dataclass(frozen=True, slots=True)
class Proof:
    """A block that was checked against its share's root, with its leaf hash, and the segment's proven data leaf."""

    block: Buffer
    leaf: bytes
    data_leaf: bytes


@dataclass
class Audited:
    """What came of it. `proofs` are of distinct shares, all for block `segment`."""

    manifest: Manifest
    segment: int
    private: bool
    findings: dict[tuple[int, NodeId], Finding] = field(default_factory=dict)
    proofs: dict[int, Proof] = field(default_factory=dict)
    deletion: Deletion | None = None
    read_bytes: int = 0

    @property
    def good_hints(self) -> list[Hint]:
        """Where proven shares are."""
        return [Hint(each.share, each.contact) for each in self.tally.good]

    @property
    def statements(self) -> list[HolderStatement]:
        """The signed promises of those who proved a share, where they were asked for."""
        return [each.statement for each in self.tally.good if each.statement is not None]

    @property
    def tally(self) -> Tally:
        """The findings, counted."""
        return Tally(self.manifest.k, self.manifest.n, list(self.findings.values()), self.private)

    def note(self, finding: Finding) -> None:
        """Enter or replace what is known of one share at one holder."""
        self.findings[finding.share, finding.contact.node_id] = finding


class Audit:
    """One look at one file's holders. `with_statements` gathers their signed promises too."""

    def __init__(self, context: Context, manifest: Manifest, *, with_statements: bool = False) -> None:
        self._context = context
        self._manifest = manifest
        self._with_statements = with_statements
        self._decoder = SegmentDecoder(manifest, context.codec)
        self._limit = trio.CapacityLimiter(ASKED_AT_ONCE)
        self._line = Line(context.throttle)
        self._asked: set[NodeId] = set()
        self._trouble = trio.Event()
        segment = context.env.rng.randrange(manifest.layout.segment_count)
        self.result = Audited(manifest, segment, context.network.private)

    async def run(self, hints: Sequence[Hint], *, look_further: bool = True) -> Audited:
        """Ask all known holders at once; where one is not as it should be, look for further ones meanwhile.

        `NotOneFile` when the shares are good and do not belong together.
        """
        waves = -(-len({hint.contact.node_id for hint in hints}) // ASKED_AT_ONCE)
        if len({hint.share for hint in hints}) < self._manifest.n:
            self._trouble.set()
        limit_s = min(LONGEST_AUDIT_S, DEADLINE_S * max(1, waves))
        longest_s = LONGEST_AUDIT_S + self._manifest.n * SLOWEST_BLOCK_S
        async with self._line.watched():
            with self._line.patience(limit_s, longest_s):
                await self._ask_and_look(hints, look_further=look_further)
        await self._context.env.call(self._check_codeword)
        return self.result

    async def _ask_and_look(self, hints: Sequence[Hint], *, look_further: bool) -> None:
        async with open_nursery() as nursery:
            if look_further:
                nursery.start_soon(self._look_further)
            await self._ask_all(hints)
            if not self._trouble.is_set():
                nursery.cancel_scope.cancel()

    async def _look_further(self) -> None:
        """Search thoroughly once it is clear, or likely, that what is known already does not suffice."""
        with trio.move_on_after(PATIENCE_S):
            await self._trouble.wait()
        found = await Search(self._context, self._manifest.id, manifest=self._manifest).run(thorough=True)
        await self._ask_all(found.hints)

    async def _ask_all(self, hints: Iterable[Hint]) -> None:
        """Examine every node that is named and was not asked before."""
        fresh = [hint for hint in hints if hint.contact.node_id not in self._asked]
        self._asked |= {hint.contact.node_id for hint in fresh}
        async with open_nursery() as nursery:
            for contacts, shares in by_node(fresh):
                nursery.start_soon(self._examine, contacts, shares)

    async def _examine(self, contacts: Sequence[Contact], shares: Iterable[int]) -> None:
        """Everything about one node."""
        async with self._limit:
            for share in shares:
                self.result.note(Finding(share, contacts[0], Outcome.OFFLINE))
            contact, entry = await self._survey(contacts)
            contact = self._context.counted(contact)
            if isinstance(entry, Outcome):
                for share in shares:
                    self.result.note(Finding(share, contact, entry))
                self._trouble.set()
                return
            if isinstance(entry, bytes):
                self._take_deletion(entry)
                entry = ()
            rows = {row.share: row for row in entry if row.share < self._manifest.n}
            for share in {*shares, *rows}:
                missing = share not in rows
                self.result.note(Finding(share, contact, Outcome.MISSING if missing else Outcome.STALLED))
                if missing:
                    self._trouble.set()
            for row in rows.values():
                await self._prove(contact, row)

    async def _survey(self, contacts: Sequence[Contact]) -> tuple[Contact, Entry | Outcome]:
        """What the node says it keeps of the file, from the address at which it answers."""
        contact, outcome = contacts[0], Outcome.OFFLINE
        for contact in contacts:
            try:
                return contact, await self._ask_survey(contact)
            except PeerError as error:
                outcome = outcome_of(error, answered=False)
                if outcome is not Outcome.OFFLINE:
                    break
        return contact, outcome

    async def _ask_survey(self, contact: Contact) -> Entry:
        """PeerError; a dial has its own time."""
        async with self._context.pool.connection(contact.node_id, reach_of(contact)):
            with self._line.patience(SURVEY_TIMEOUT_S, LONGEST_SURVEY_S):
                _, entries = await ask_survey(
                    self._context,
                    contact,
                    [self._manifest.id],
                    with_statements=self._with_statements,
                    timeout_s=LONGEST_SURVEY_S,
                    patience_s=BUSY_SURVEY_S,
                )
                return entries[0] if entries else ()
        raise TimedOut("a survey was not answered")

    async def _prove(self, contact: Contact, row: SurveyRow) -> None:
        """Have one share proven by its block."""
        request = Read(self._manifest.id, row.share, self.result.segment, 1, True)
        try:
            async with self._line.turn(BLOCK_TIMEOUT_S):
                reply = await self._context.ask(contact, request, timeout_s=LONGEST_S, patience_s=BUSY_BLOCK_S)
            self.result.read_bytes += len(reply.payload)
            outcome = await self._context.env.call(self._judge, row.share, reply)
        except PeerError as error:
            outcome = outcome_of(error, answered=True)
        statement = self._statement(contact, row) if outcome is Outcome.OK else None
        self.result.note(Finding(row.share, contact, outcome, float(row.lease_end), statement))
        if outcome is not Outcome.OK:
            self._trouble.set()

    def _judge(self, share: int, reply: Blocks) -> Outcome:
        """Whether a block is what the manifest promises; called in a worker."""
        segment = self.result.segment
        try:
            blocks = cut(reply.payload, [self._manifest.layout.block_bytes(segment)])
            (leaf,) = self._decoder.check_blocks(share, segment, blocks, reply.share_proof)
            if len(reply.data_leaves) != HASH_BYTES:
                return Outcome.WRONG
            self._decoder.check_data_leaves(segment, [reply.data_leaves], reply.data_proof)
        except (CorruptBlock, CorruptDataLeaf):
            return Outcome.WRONG
        self.result.proofs.setdefault(share, Proof(blocks[0], leaf, reply.data_leaves))
        return Outcome.OK

    def _statement(self, contact: Contact, row: SurveyRow) -> HolderStatement | None:
        if not row.statement:
            return None
        env = self._context.env
        try:
            found = check_statement(row.statement, self._context.network, env.scheme, env.wall())
        except MalformedStatement:
            return None
        ours = (self._manifest.id, row.share, contact.node_id)
        return found if (found.file_id, found.share, found.node_id) == ours else None

    def _take_deletion(self, packed: bytes) -> None:
        network_id, scheme = self._context.network.network_id, self._context.env.scheme
        try:
            deletion = read_deletion(packed, self._manifest.id)
        except MalformedDeletion:
            return
        if deletion.is_by_owner(self._manifest, network_id, scheme):
            self.result.deletion = deletion

    def _check_codeword(self) -> None:
        """Whether the proven blocks belong together: any k of them must give the segment, and it all others."""
        proofs, segment = self.result.proofs, self.result.segment
        if len(proofs) < self._manifest.k:
            return
        blocks = {share: proof.block for share, proof in proofs.items()}
        leaves = {share: proof.leaf for share, proof in proofs.items()}
        try:
            self._decoder.decode(segment, blocks, leaves, next(iter(proofs.values())).data_leaf)
        except NotACodeword as error:
            raise NotOneFile from error
        used = set(sorted(proofs)[: self._manifest.k])
        made = self._decoder.rebuild(segment, blocks, proofs.keys() - used)
        if any(block_leaf(block) != leaves[share] for share, block in made.items()):
            raise NotOneFile


def outcome_of(error: PeerError, *, answered: bool) -> Outcome:
    """What a failed request says of a holder. `answered`: it has just said that it keeps the share."""
    if error.is_busy:
        return Outcome.BUSY
    if isinstance(error, TimedOut):
        return Outcome.STALLED
    if isinstance(error, RemoteError):
        honest = error.status in (Status.NOT_FOUND, Status.INTERNAL) or error.reason == Reason.FROM_LATER
        return Outcome.MISSING if honest or not answered else Outcome.WRONG
    if isinstance(error, MalformedMessage):
        return Outcome.WRONG
    if isinstance(error, Unreachable) or not answered:
        return Outcome.OFFLINE  # also when another node answers at its address, or one of another network
    return Outcome.WRONG
