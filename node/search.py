"""From a file's id to its manifest and its holders.

Three DHT keys are searched at once; each announcement found is used at once, while the search goes on. The manifest is
whatever hashes to the id, whoever sends it. Holders then name each other in signed statements.
"""

from dataclasses import dataclass, field

import trio

from shoal.dht import Contact, Record, RecordKey, RecordKind
from shoal.erasure import FileId, MalformedManifest, Manifest
from shoal.node.announcers import CLASSES, Hint, class_key, hints_of
from shoal.node.channel import GetHolders, GetManifest, PeerError
from shoal.node.context import Context
from shoal.node.errors import NoPeers, NotFound
from shoal.node.nursery import open_nursery
from shoal.node.results import Holder
from shoal.node.statements import HolderStatement, MalformedStatement, read_statement, unpack_statements

SEARCH_TIMEOUT_S = 30.0
MAX_ASKED_AT_ONCE = 4  # holders asked for the manifest at the same time
ENOUGH_LISTS = 3  # holder lists that are taken together; a liar among them can only add names
LISTS_TIMEOUT_S = 5.0
MAX_HINTS = 2048  # ours: 256 shares with a few claims each; a flood of announcements stops here


@dataclass
class Located:
    """A file's manifest and where its shares are said to be."""

    manifest: Manifest
    hints: list[Hint]
    statements: list[HolderStatement] = field(default_factory=list)

    def holders(self) -> tuple[Holder, ...]:
        """The signed part of what is known, by share."""
        return tuple(
            Holder(each.share, each.node_id, each.address, float(each.lease_end))
            for each in sorted(self.statements, key=lambda each: (each.share, each.node_id))
        )


class Search:
    """One search for one file."""

    def __init__(self, context: Context, file_id: FileId) -> None:
        self._context = context
        self._file_id = file_id
        self._hints: dict[tuple[int, bytes], Hint] = {}
        self._queue: list[Contact] = []
        self._seen: set[bytes] = set()
        self._scope: trio.CancelScope | None = None
        self._manifest: Manifest | None = None
        self._statements: dict[tuple[int, bytes], HolderStatement] = {}

    async def run(self, *, thorough: bool = False) -> Located:
        """Find the manifest and the holders; `thorough` hears every announcement. NotFound or NoPeers."""
        with trio.move_on_after(SEARCH_TIMEOUT_S):
            async with open_nursery() as nursery:
                self._scope = None if thorough else nursery.cancel_scope
                limit = trio.CapacityLimiter(MAX_ASKED_AT_ONCE)
                for number in range(CLASSES):
                    nursery.start_soon(self._search_class, number, thorough, nursery, limit)
        if self._manifest is None:
            raise self._not_found()
        await self._ask_for_lists()
        return Located(self._manifest, self._all_hints(), list(self._statements.values()))

    async def _search_class(
        self, number: int, thorough: bool, nursery: trio.Nursery, limit: trio.CapacityLimiter
    ) -> None:
        key = RecordKey(class_key(self._file_id, number))
        async with self._context.dht.search(RecordKind.PROVIDER, key, thorough=thorough) as records:
            async for record in records:
                for contact in self._take(record):
                    nursery.start_soon(self._ask_manifest, contact, limit)

    def _take(self, record: Record) -> list[Contact]:
        """Note what an announcement says; the contacts not met before, its signer first."""
        announcer = record.provider
        fresh = []
        for hint in [Hint(0, announcer), *hints_of(record, announcer)]:
            if bytes(hint.contact.node_id) not in self._seen and len(self._seen) < MAX_HINTS:
                self._seen.add(bytes(hint.contact.node_id))
                fresh.append(hint.contact)
        for hint in hints_of(record, announcer):
            if len(self._hints) < MAX_HINTS:
                self._hints.setdefault((hint.share, bytes(hint.contact.node_id)), hint)
        self._queue += fresh
        return fresh

    async def _ask_manifest(self, contact: Contact, limit: trio.CapacityLimiter) -> None:
        async with limit:
            if self._manifest is not None:
                return
            try:
                reply = await self._context.ask(contact, GetManifest(self._file_id))
                manifest = Manifest.decode(bytes(reply.payload))
            except (PeerError, MalformedManifest):
                return
        if manifest.id == self._file_id and self._manifest is None:
            self._manifest = manifest
            self._queue.insert(0, contact)
            if self._scope is not None:
                self._scope.cancel()

    async def _ask_for_lists(self) -> None:
        """Union of a few holders' lists. Who keeps what is in the hints already, so none of them is waited for long."""
        assert self._manifest is not None, "lists are asked for once there is a manifest to hold them against"
        lists = 0

        async def ask(contact: Contact) -> None:
            nonlocal lists
            try:
                reply = await self._context.ask(contact, GetHolders(self._file_id))
                signed = unpack_statements(bytes(reply.payload))
            except (PeerError, MalformedStatement):
                return
            if self._take_statements(signed):
                lists += 1
            if lists >= ENOUGH_LISTS:
                nursery.cancel_scope.cancel()

        with trio.move_on_after(LISTS_TIMEOUT_S):
            async with open_nursery() as nursery:
                for contact in _distinct(self._queue)[: 2 * ENOUGH_LISTS]:
                    nursery.start_soon(ask, contact)

    def _take_statements(self, signed: list[bytes]) -> int:
        env, network_id = self._context.env, self._context.network.network_id
        taken = 0
        for item in signed:
            try:
                statement = read_statement(item, network_id, env.scheme, env.wall())
            except MalformedStatement:
                continue
            if statement.file_id == self._file_id:
                taken += 1
                self._statements.setdefault((statement.share, bytes(statement.node_id)), statement)
        return taken

    def _all_hints(self) -> list[Hint]:
        hints = dict(self._hints)
        for key, statement in self._statements.items():
            hints[key] = Hint(statement.share, Contact(statement.node_id, statement.address))
        assert self._manifest is not None, "a search without a manifest has ended before"
        return [hint for hint in hints.values() if hint.share < self._manifest.n]

    def _not_found(self) -> NotFound | NoPeers:
        if not self._context.dht.contacts():
            return NoPeers(
                "No peer of the network answered. Check the connection, and name a peer with --bootstrap HOST:PORT."
            )
        if self._seen:
            return NotFound(
                f"{len(self._seen)} hosts are said to hold this file and none of them answered. Try again later."
            )
        return NotFound(
            "Nobody on this network announces this file: its holders are all away, it has expired, "
            "or it was published on another network."
        )


def _distinct(contacts: list[Contact]) -> list[Contact]:
    return list({contact.node_id: contact for contact in contacts}.values())
