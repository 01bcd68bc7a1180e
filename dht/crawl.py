"""Driving a lookup: the pure `Lookup` says whom to ask; the code here asks and reports back.

A search is a lookup that asks for records on the way. It hands out each verified record at once.
"""

from collections.abc import Awaitable, Callable, Sequence

import trio

from shoal.dht.address import Address
from shoal.dht.contact import Contact
from shoal.dht.errors import ProtocolError, QueryError
from shoal.dht.identity import NodeId
from shoal.dht.lookup import TIME_LIMIT_S, Lookup
from shoal.dht.messages import FindNode, GetRecords, KnownRequest, Nodes, Records
from shoal.dht.params import NetworkParameters
from shoal.dht.records import MAX_RECORDS_PER_KEY, Record, RecordKey
from shoal.dht.rpc import Answer
from shoal.dht.signatures import SignatureScheme

MAX_FOUND = 512  # records of one search: 20 honest nodes hold the same 64 at most, the rest is room for disagreement
MIN_PAUSE_S = 0.001  # between two looks at a lookup to which nothing has happened

Ask = Callable[[Contact, KnownRequest], Awaitable[Answer]]  # raises QueryError
Acceptable = Callable[[Contact], bool]  # whether a contact named by others may be asked at all


async def crawl(lookup: Lookup, query: Callable[[Contact], Awaitable[Sequence[Contact]]]) -> list[Contact]:
    """Run `lookup` to its end with `query(contact) -> contacts it named`. Returns the nearest that answered.

    A query that raises QueryError counts as failed. The lookup's own limits bound the time.
    """
    changed = trio.Event()

    async def ask(contact: Contact) -> None:
        try:
            named = await query(contact)
        except QueryError:
            lookup.on_failure(contact, trio.current_time())
        else:
            lookup.on_reply(contact, named, trio.current_time())
        changed.set()

    async with trio.open_nursery() as nursery:
        while True:
            changed = trio.Event()
            for contact in lookup.next_queries(trio.current_time()):
                nursery.start_soon(ask, contact)
            if lookup.done:
                break
            # Never a pause of nothing: under a virtual clock time would stand still and this would spin.
            with trio.move_on_at(max(lookup.next_deadline(), trio.current_time() + MIN_PAUSE_S)):
                await changed.wait()
        nursery.cancel_scope.cancel()
    return lookup.result()


class NodeCrawl:
    """A lookup with FIND_NODE. `run` returns the nearest nodes that answered, with their space classes."""

    def __init__(self, lookup: Lookup, ask: Ask, acceptable: Acceptable) -> None:
        self._lookup = lookup
        self._ask = ask
        self._acceptable = acceptable
        self._answered: dict[tuple[NodeId, Address], Contact] = {}

    async def run(self) -> list[Contact]:
        nearest = await crawl(self._lookup, self._query)
        return [self._answered[contact.node_id, contact.address] for contact in nearest]

    async def _query(self, contact: Contact) -> Sequence[Contact]:
        answer = await self._ask(contact, FindNode(self._lookup.target))
        self._answered[contact.node_id, contact.address] = answer.contact
        named = answer.reply.contacts if isinstance(answer.reply, Nodes) else ()
        return [other for other in named if self._acceptable(other)]


class RecordSearch:
    """A lookup with GET_RECORDS. Each verified record not seen before goes to `found`."""

    def __init__(
        self,
        lookup: Lookup,
        kind: int,
        key: RecordKey,
        ask: Ask,
        acceptable: Acceptable,
        params: NetworkParameters,
        scheme: SignatureScheme,
        found: Callable[[Record], None],
    ) -> None:
        self._lookup = lookup
        self.kind = kind
        self.key = key
        self._ask = ask
        self._acceptable = acceptable
        self._params = params
        self._scheme = scheme
        self._found = found
        self._tags: dict[bytes, None] = {}  # of verified records, in order of arrival
        self._newest: dict[tuple[NodeId, bool], int] = {}  # signer and address family -> highest sequence

    async def run(self) -> None:
        """Search to the end. Then read on at the nodes that had more records than fitted into their first answers."""
        async with trio.open_nursery() as pages:
            self._pages = pages
            await crawl(self._lookup, self._query)
            pages.cancel_scope.deadline = trio.current_time() + TIME_LIMIT_S

    def take(self, encoded: bytes) -> bool:
        """Check one record and hand it out if it is new. Returns False if it is bad: then so is its bringer."""
        try:
            record = Record.decode(encoded)
        except ProtocolError:
            return False
        if record.kind != self.kind or record.key != self.key:
            return False
        if record.tag in self._tags:
            return True
        if len(self._tags) >= MAX_FOUND or not record.is_authentic(self._params, self._scheme):
            return False
        self._tags[record.tag] = None
        place = (record.node_id, record.reach.where.is_ipv6)
        if record.sequence > self._newest.get(place, -1):
            self._newest[place] = record.sequence
            self._found(record)
        return True

    async def _query(self, contact: Contact) -> Sequence[Contact]:
        reply = await self._request(contact, want_contacts=True)
        if self._take_all(reply) and reply.remaining:
            self._pages.start_soon(self._read_on, contact, reply.remaining)
        return [other for other in reply.contacts if self._acceptable(other)]

    async def _read_on(self, contact: Contact, remaining: int) -> None:
        """Ask for further pages until nothing is left. A page that does not leave less than the one before ends it."""
        while remaining:
            try:
                reply = await self._request(contact, want_contacts=False)
            except QueryError:
                return
            if not self._take_all(reply) or not reply.records or reply.remaining >= remaining:
                return
            remaining = reply.remaining

    async def _request(self, contact: Contact, *, want_contacts: bool) -> Records:
        have = tuple(self._tags)[-MAX_RECORDS_PER_KEY:]
        answer = await self._ask(contact, GetRecords(self.kind, self.key, have, want_contacts))
        assert isinstance(answer.reply, Records), "the caller matches the kinds of request and reply"
        return answer.reply

    def _take_all(self, reply: Records) -> bool:
        """Take every record of a reply. Returns False if one of them is bad."""
        good = [self.take(encoded) for encoded in reply.records]
        return all(good)
