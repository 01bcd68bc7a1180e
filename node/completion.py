"""The end of a publish: commit, replace lost holders, tell all holders of each other, announce.

Every step may be repeated: a commit that was acknowledged but not heard of is acknowledged again, and a publish that
was interrupted here, or that found too few hosts, is completed by the same command later.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from shoal.dht import Contact
from shoal.erasure import Link, LinkKind, Manifest
from shoal.node.announcers import CLASSES, announcers
from shoal.node.channel import Announce, PeerError, TellHolders
from shoal.node.context import Context
from shoal.node.errors import NoPeers, Refused, TooFewShares
from shoal.node.journal import JournalEntry
from shoal.node.lanes import Lane
from shoal.node.nursery import open_nursery
from shoal.node.placement import gather, host_of
from shoal.node.rebuild import rebuild_onto
from shoal.node.recruit import Recruiter
from shoal.node.results import Phase, Published
from shoal.node.statements import HolderStatement, pack_statements

ANNOUNCE_TIMEOUT_S = 45.0  # the holder runs three lookups and stores with each of their results
ANNOUNCE_ROUNDS = 3  # holders asked again, or the next ones in rank, before the publish is called hard to find

Report = Callable[[Phase, int], None]


@dataclass(frozen=True)
class Outcome:
    """What was reached."""

    entry: JournalEntry
    manifest: Manifest
    public: bool
    happy: int
    statements: dict[int, HolderStatement]
    hosts: int
    findable: bool
    refusals: Counter[str]

    @property
    def lease_end(self) -> float:
        """The k-th longest lease: until then at least k shares are promised."""
        ends = sorted((each.lease_end for each in self.statements.values()), reverse=True)
        return float(ends[self.entry.k - 1])

    @property
    def link(self) -> Link:
        """What the user gets."""
        if self.public:
            return Link(self.manifest.id, LinkKind.PUBLIC)
        return Link(self.manifest.id, LinkKind.PRIVATE, self.entry.file_key)

    def published(self, seconds: float, lanes: Iterable[Lane]) -> Published:
        """The result for the user."""
        lanes = list(lanes)
        return Published(
            link=self.link,
            size=self.entry.size,
            k=self.entry.k,
            n=self.entry.n,
            happy=self.happy,
            shares=len(self.statements),
            hosts=self.hosts,
            seconds=seconds,
            sent_bytes=sum(lane.sent_bytes for lane in lanes),
            resumed_bytes=sum(lane.resumed_bytes for lane in lanes),
            findable=self.findable,
            refusals=dict(self.refusals),
            holders={share: each.address for share, each in sorted(self.statements.items())},
        )


class Completion:
    """Brings a file whose blocks have been sent to its final state."""

    def __init__(
        self, context: Context, entry: JournalEntry, *, public: bool, happy: int, ttl_s: int, report: Report
    ) -> None:
        self._context = context
        self._entry = entry
        self._public = public
        self._happy = happy
        self._ttl_s = ttl_s
        self._report = report
        self._manifest = Manifest.decode(entry.manifest)
        self._statements: dict[int, HolderStatement] = {}

    async def run(self, lanes: list[Lane], candidates: list[Contact], refusals: Counter[str]) -> Outcome:
        """All steps. `Refused` or `NoPeers` when fewer than k shares are committed in the end."""
        refusals = Counter(refusals)
        await self._commit([lane for lane in lanes if lane.alive])
        refusals.update(lane.reason for lane in lanes if not lane.alive)
        if len(self._statements) < self._entry.k:
            raise self._not_kept(refusals)
        if len(self._statements) < self._entry.n:
            lanes += await self._replace_lost(candidates, refusals)
        await self._tell()
        findable = await self._announce()
        hosts = {host_of(contact, private=self._context.network.private) for contact in self._contacts()}
        return Outcome(
            self._entry,
            self._manifest,
            self._public,
            self._happy,
            self._statements,
            len(hosts),
            findable,
            refusals,
        )

    def _contacts(self) -> list[Contact]:
        return [Contact(each.node_id, each.address) for each in self._statements.values()]

    def _not_kept(self, refusals: Counter[str]) -> Refused | NoPeers:
        why = ", ".join(f"{count} {reason}" for reason, count in refusals.most_common())
        text = (
            f"Only {len(self._statements)} of the {self._entry.k} shares needed were kept ({why}), so there is no "
            "link. Run the same command again: what was sent is still there."
        )
        return NoPeers(text) if set(refusals) == {"no answer"} else Refused(text)

    async def _commit(self, lanes: list[Lane]) -> None:
        self._report(Phase.COMMITTING, 0)

        async def commit(lane: Lane) -> None:
            statement = await lane.commit(self._context, self._entry.manifest, self._manifest.id, self._ttl_s)
            if statement is not None:
                self._statements[lane.share] = statement
                self._report(Phase.COMMITTING, len(self._statements))

        async with open_nursery() as nursery:
            for lane in lanes:
                nursery.start_soon(commit, lane)

    async def _replace_lost(self, candidates: list[Contact], refusals: Counter[str]) -> list[Lane]:
        """Rebuild the shares that nobody holds, on hosts that hold none."""
        missing = [share for share in range(self._entry.n) if share not in self._statements]
        if not candidates:
            candidates = await gather(self._context, 2 * self._entry.n)
        share_bytes = self._manifest.layout.share_bytes
        recruiter = Recruiter(self._context, candidates, share_bytes, self._context.env.rng)
        recruiter.exclude(self._contacts())
        lanes = await recruiter.recruit(missing, share_bytes, self._ttl_s)
        for reason, count in recruiter.refusals.items():
            refusals[reason] = max(refusals[reason], count)
        if not lanes:
            return []
        try:
            await rebuild_onto(self._context, self._manifest, self._statements.values(), lanes)
        except TooFewShares:
            return []  # holders left while their file was being completed: what is placed is what is reported
        await self._commit([lane for lane in lanes if lane.alive])
        return lanes

    async def _tell(self) -> None:
        """Give every holder the list of all."""
        payload = pack_statements(each.signed for each in self._statements.values())

        async def tell(contact: Contact) -> None:
            try:
                await self._context.ask(contact, TellHolders(self._manifest.id), payload=[payload])
            except PeerError:
                return  # it learns of the others when they look after the file together

        async with open_nursery() as nursery:
            for contact in self._contacts():
                nursery.start_soon(tell, contact)

    async def _announce(self) -> bool:
        """Have the announcers announce; whether at least half of the nodes nearest to each class key stored it."""
        self._report(Phase.ANNOUNCING, len(self._statements))
        by_id = {contact.node_id: contact for contact in self._contacts()}
        silent: set[bytes] = set()
        reached: set[int] = set()
        for _ in range(ANNOUNCE_ROUNDS):
            living = [node_id for node_id in by_id if node_id not in silent]
            chosen = {node_id for ids in announcers(self._manifest.id, living).values() for node_id in ids}
            reports = await self._ask_announcers([by_id[node_id] for node_id in chosen])
            silent |= chosen - reports.keys()
            reached |= {
                number
                for rows in reports.values()
                for number, closest, stored in rows
                if stored and 2 * stored >= closest
            }
            if len(reached) == CLASSES or not living:
                break
        return len(reached) == CLASSES

    async def _ask_announcers(self, contacts: list[Contact]) -> "dict[bytes, tuple[tuple[int, ...], ...]]":
        reports: dict[bytes, tuple[tuple[int, ...], ...]] = {}

        async def ask(contact: Contact) -> None:
            try:
                reply = await self._context.ask(contact, Announce(self._manifest.id), timeout_s=ANNOUNCE_TIMEOUT_S)
            except PeerError:
                return
            reports[contact.node_id] = reply.classes

        async with open_nursery() as nursery:
            for contact in contacts:
                nursery.start_soon(ask, contact)
        return reports
