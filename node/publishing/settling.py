"""What a publish and a repair have in common: shares are committed, lost ones made again on other hosts, all holders
told of each other, and the file announced.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

from shoal.dht import Contact, K, NodeId
from shoal.erasure import Manifest
from shoal.node.channel import MAX_SETTLE_BYTES, Announce, PeerError, Settle, TellHolders
from shoal.node.context import BUSY_PATIENCE_S, Context
from shoal.node.holders.announcers import CLASSES, Hint, announcers
from shoal.node.holders.statements import HolderStatement, pack_statements
from shoal.node.nursery import open_nursery
from shoal.node.publishing.lanes import DropReason, Lane, reasons_of
from shoal.node.publishing.rebuild import rebuild_onto
from shoal.node.publishing.recruit import Recruiter

ANNOUNCE_TIMEOUT_S = 45.0  # the holder runs three lookups and stores with each of their results
REPLACE_ROUNDS = 5  # hosts that take over from those who failed, and from those who failed after them
ANNOUNCE_ROUNDS = 3  # holders asked again, or the next ones in rank, before the file is called hard to find

Reports: TypeAlias = dict[NodeId, tuple[tuple[int, ...], ...]]
"""What holders say of their announcements: rows of (class, closest nodes, of these stored)."""


class Settling:
    """One file and its holders, brought together step by step. `lease_s` is what new holders are asked to promise."""

    def __init__(
        self,
        context: Context,
        manifest: Manifest,
        *,
        lease_s: int,
        statements: Iterable[HolderStatement] = (),
        on_commit: Callable[[int], None] = lambda shares: None,
    ) -> None:
        self._context = context
        self._manifest = manifest
        self._encoded = manifest.encode()
        self._lease_s = lease_s
        self._on_commit = on_commit
        self._statements: dict[tuple[int, NodeId], HolderStatement] = {}
        self._hosts: list[Contact] = []  # where shares were committed, whatever address their holders state
        self._lost: list[Contact] = []  # hosts that failed us; they are not asked again
        self.take(statements)

    @property
    def statements(self) -> list[HolderStatement]:
        """All that is promised, by share."""
        return [self._statements[key] for key in sorted(self._statements)]

    @property
    def shares(self) -> set[int]:
        """Distinct shares that somebody promises."""
        return {share for share, _ in self._statements}

    @property
    def contacts(self) -> list[Contact]:
        """All holders."""
        return list({each.node_id: each.contact for each in self.statements}.values())

    def exclude_from(self, recruiter: Recruiter) -> None:
        """Have no holder asked again, nor anybody at the hosts where shares were committed."""
        recruiter.exclude(self._hosts)
        recruiter.exclude_ids(node_id for _, node_id in self._statements)

    def take(self, statements: Iterable[HolderStatement]) -> None:
        """Add promises that were made elsewhere."""
        for each in statements:
            self._statements[each.share, each.node_id] = each

    async def commit(self, lanes: Iterable[Lane]) -> None:
        """Have each living lane's holder make its share durable."""

        async def commit(lane: Lane) -> None:
            await lane.commit(self._context, self._encoded, self._manifest.id, self._lease_s)
            if lane.statement is not None:
                self.take([lane.statement])
                self._hosts.append(lane.contact)
                self._on_commit(len(self.shares))

        lanes = list(lanes)
        async with open_nursery() as nursery:
            for lane in lanes:
                if lane.alive:
                    nursery.start_soon(commit, lane)
        self._lost += [lane.contact for lane in lanes if not lane.alive]

    async def replace(self, missing: list[int], candidates: list[Contact], refusals: Counter[DropReason]) -> list[Lane]:
        """Rebuild shares from those that are promised, on hosts that hold none; the lanes that were tried.

        Those who fail are replaced in turn, a few times. TooFewShares, BadData.
        """
        share_bytes = self._manifest.layout.share_bytes
        recruiter = Recruiter(self._context, candidates, share_bytes, self._context.env.rng)
        recruiter.exclude(self._lost)
        tried: list[Lane] = []
        for _ in range(REPLACE_ROUNDS):
            self.exclude_from(recruiter)
            wanted = [share for share in missing if share not in self.shares]
            lanes = await recruiter.recruit(wanted, share_bytes, self._lease_s)
            for reason, count in recruiter.refusals.items():
                refusals[reason] = max(refusals[reason], count)
            if not lanes:
                break
            tried += lanes
            await rebuild_onto(self._context, self._manifest, self.hints(), lanes)
            await self.commit(lanes)
            refusals.update(reasons_of(lanes))
        return tried

    def hints(self) -> list[Hint]:
        """Where the promised shares are."""
        return [Hint(each.share, each.contact) for each in self.statements]

    async def settle(self) -> bool:
        """Give every holder the list of all, and have the announcers announce; whether at least half of the nodes
        nearest to each class key stored it.

        Who is to announce is clear from the list, so that goes in one request. Where an announcer is silent, others
        are asked.
        """
        payload = pack_statements(each.signed for each in self.statements)
        if len(payload) > MAX_SETTLE_BYTES:  # a file with several holders of many shares
            await self.tell()
            return await self._announce({}, ANNOUNCE_ROUNDS)
        return await self._announce(await self._ask_to_settle(payload), ANNOUNCE_ROUNDS - 1)

    async def _ask_to_settle(self, payload: bytes) -> "Reports":
        reports: Reports = {}

        async def ask(contact: Contact) -> None:
            try:
                reply = await self._context.ask(
                    contact,
                    Settle(self._manifest.id),
                    payload=[payload],
                    timeout_s=ANNOUNCE_TIMEOUT_S,
                    patience_s=BUSY_PATIENCE_S,
                )
            except PeerError:
                return  # it learns of the others when they look after the file together
            reports[contact.node_id] = reply.classes

        async with open_nursery() as nursery:
            for contact in self.contacts:
                nursery.start_soon(ask, contact)
        return reports

    async def tell(self) -> None:
        """Give every holder the list of all."""
        payload = pack_statements(each.signed for each in self.statements)

        async def tell(contact: Contact) -> None:
            try:
                await self._context.ask(
                    contact, TellHolders(self._manifest.id), payload=[payload], patience_s=BUSY_PATIENCE_S
                )
            except PeerError:
                return  # it learns of the others when they look after the file together

        async with open_nursery() as nursery:
            for contact in self.contacts:
                nursery.start_soon(tell, contact)

    async def _announce(self, reports: "Reports", rounds: int) -> bool:
        """Have announced what `reports` do not show as announced, by those next in rank in further rounds."""
        by_id = {contact.node_id: contact for contact in self.contacts}
        useless: set[NodeId] = set()
        unheard = set(range(CLASSES))
        if reports:
            self._judge(reports, announcers(self._manifest.id, list(by_id)), unheard, useless)
        for _ in range(rounds):
            if not unheard:
                break
            if len(useless) == len(by_id):
                useless.clear()  # perhaps the second time
            duties = announcers(self._manifest.id, [node_id for node_id in by_id if node_id not in useless])
            asked = dict.fromkeys(node_id for number in sorted(unheard) for node_id in duties[number])
            self._judge(await self._ask_announcers([by_id[each] for each in asked]), duties, unheard, useless)
        return not unheard

    def _judge(
        self, reports: "Reports", duties: Mapping[int, list[NodeId]], unheard: set[int], useless: set[NodeId]
    ) -> None:
        """Note which classes have been announced well, and who was no use."""
        for number in sorted(unheard):
            if any(_well_stored(reports.get(node_id, ()), number) for node_id in duties[number]):
                unheard.discard(number)
            else:
                useless.update(duties[number])

    async def _ask_announcers(self, contacts: list[Contact]) -> "Reports":
        reports: Reports = {}

        async def ask(contact: Contact) -> None:
            try:
                reply = await self._context.ask(
                    contact,
                    Announce(self._manifest.id, False),
                    timeout_s=ANNOUNCE_TIMEOUT_S,
                    patience_s=BUSY_PATIENCE_S,
                )
            except PeerError:
                return
            reports[contact.node_id] = reply.classes

        async with open_nursery() as nursery:
            for contact in contacts:
                nursery.start_soon(ask, contact)
        return reports


def _well_stored(rows: "tuple[tuple[int, ...], ...]", number: int) -> bool:
    """Whether a holder's report says that half of the nodes nearest to a class's key stored the record.

    What cannot be true, as more stored than there were, says nothing.
    """
    return any(
        each == number and 0 < closest <= K and stored <= closest <= 2 * stored for each, closest, stored in rows
    )
