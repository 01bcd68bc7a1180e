"""What a publish and a repair have in common: shares are committed, lost ones made again on other hosts, all holders
told of each other, and the file announced.
"""

from collections import Counter
from collections.abc import Callable, Iterable

from shoal.dht import Contact, NodeId
from shoal.erasure import Manifest
from shoal.node.announcers import CLASSES, Hint, announcers
from shoal.node.channel import Announce, PeerError, TellHolders
from shoal.node.context import Context
from shoal.node.lanes import Lane
from shoal.node.nursery import open_nursery
from shoal.node.rebuild import rebuild_onto
from shoal.node.recruit import Recruiter
from shoal.node.statements import HolderStatement, pack_statements

ANNOUNCE_TIMEOUT_S = 45.0  # the holder runs three lookups and stores with each of their results
ANNOUNCE_ROUNDS = 3  # holders asked again, or the next ones in rank, before the file is called hard to find


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
        return list({each.node_id: Contact(each.node_id, each.address) for each in self.statements}.values())

    def take(self, statements: Iterable[HolderStatement]) -> None:
        """Add promises that were made elsewhere."""
        for each in statements:
            self._statements[each.share, each.node_id] = each

    async def commit(self, lanes: Iterable[Lane]) -> None:
        """Have each living lane's holder make its share durable."""

        async def commit(lane: Lane) -> None:
            statement = await lane.commit(self._context, self._encoded, self._manifest.id, self._lease_s)
            if statement is not None:
                self.take([statement])
                self._on_commit(len(self.shares))

        async with open_nursery() as nursery:
            for lane in lanes:
                if lane.alive:
                    nursery.start_soon(commit, lane)

    async def replace(self, missing: list[int], candidates: list[Contact], refusals: Counter[str]) -> list[Lane]:
        """Rebuild shares from those that are promised, on hosts that hold none; the lanes that were tried.

        TooFewShares, BadData.
        """
        share_bytes = self._manifest.layout.share_bytes
        recruiter = Recruiter(self._context, candidates, share_bytes, self._context.env.rng)
        recruiter.exclude(self.contacts)
        lanes = await recruiter.recruit(missing, share_bytes, self._lease_s)
        for reason, count in recruiter.refusals.items():
            refusals[reason] = max(refusals[reason], count)
        if lanes:
            await rebuild_onto(self._context, self._manifest, self.hints(), lanes)
            await self.commit(lanes)
        return lanes

    def hints(self) -> list[Hint]:
        """Where the promised shares are."""
        return [Hint(each.share, Contact(each.node_id, each.address)) for each in self.statements]

    async def tell(self) -> None:
        """Give every holder the list of all."""
        payload = pack_statements(each.signed for each in self.statements)

        async def tell(contact: Contact) -> None:
            try:
                await self._context.ask(contact, TellHolders(self._manifest.id), payload=[payload])
            except PeerError:
                return  # it learns of the others when they look after the file together

        async with open_nursery() as nursery:
            for contact in self.contacts:
                nursery.start_soon(tell, contact)

    async def announce(self) -> bool:
        """Have the announcers announce; whether at least half of the nodes nearest to each class key stored it."""
        by_id = {contact.node_id: contact for contact in self.contacts}
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
