"""The DHT node: sockets and tasks around the pure parts. What a program uses of this layer.

service = DhtService(params, identity, UdpNetwork(), listen=[Address("0.0.0.0", 4100)])
async with trio.open_nursery() as nursery:
    await nursery.start(service.run)
    await service.bootstrap([Address.parse("192.0.2.7:4100")])
    async with service.search(key) as found:
        async for record in found: ...
"""

import os
import random
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from random import Random

import trio

from shoal.dht.address import Address
from shoal.dht.announcer import Announcement, Announcer, StoreReport
from shoal.dht.contact import Contact
from shoal.dht.counters import DhtStatistics
from shoal.dht.crawl import MAX_FOUND, NodeCrawl, RecordSearch
from shoal.dht.endpoint import Endpoint
from shoal.dht.errors import MisbehaviourError, NoReplyError, RequestError
from shoal.dht.guard import CookieMint, RequestGuard
from shoal.dht.hearsay import HearsayBook
from shoal.dht.identity import Entropy, Identity, NodeId, has_proof
from shoal.dht.lookup import PATHS, THOROUGH_PATHS, Lookup
from shoal.dht.membership import Membership
from shoal.dht.messages import Ping, StoreStatus
from shoal.dht.observed import ObservedAddresses
from shoal.dht.params import NetworkParameters
from shoal.dht.records import Record, RecordKey, RecordKind
from shoal.dht.responder import Responder
from shoal.dht.routing import ContactTable
from shoal.dht.rpc import Answer, RequestMessage
from shoal.dht.store import RecordStore, StoreLimits
from shoal.dht.transport import DatagramNetwork

MAX_BACKGROUND_PINGS = 32  # at the same time; a newcomer left out comes again with its next request
GREETING_SPACING_S = 600.0  # a node whose bucket is full is not pinged again for each of its requests
MAX_GREETED = 4_096


class DhtService:
    """One node of the DHT, or a client of it.

    params: the network.    identity: ours; its id needs the proof of work if we serve.    network: where
    sockets come from.    listen: addresses to serve on (port 0 for any); none makes this a client, which
    answers nothing and enters nobody's table.    advertise: where others reach us, at most one per family, if
    that is not what they see. space: gives our space class at the moment (`space_class`).    rng: choices
    that need no secrecy.    entropy: unpredictable bytes.    wall: unix seconds.    limits: of the record
    store.
    """

    def __init__(
        self,
        params: NetworkParameters,
        identity: Identity,
        network: DatagramNetwork,
        *,
        listen: Sequence[Address] = (),
        advertise: Sequence[Address] = (),
        space: Callable[[], int] = lambda: 0,
        rng: Random | None = None,
        entropy: Entropy = os.urandom,
        wall: Callable[[], float] = time.time,
        limits: StoreLimits | None = None,
    ) -> None:
        if listen and not has_proof(identity.node_id, params.pow_bits):
            raise ValueError(f"a serving node's identity needs a proof of {params.pow_bits} bits")
        self._params = params
        self._identity = identity
        self._listen = tuple(listen)
        self._advertise = tuple(advertise)
        self._space = space
        self._rng = rng or random.SystemRandom()
        self._entropy = entropy
        self._wall = wall
        self._limits = limits or (StoreLimits.private() if params.private else StoreLimits())
        self._endpoint = Endpoint(params, identity, network, entropy, self._greet)
        self._hearsay = HearsayBook(private=params.private)
        self._observed = ObservedAddresses(private=params.private)
        self._nursery: trio.Nursery | None = None
        self._background_pings = 0
        self._greeted: OrderedDict[Address, float] = OrderedDict()
        self._assemble(trio.current_time())

    def _assemble(self, now: float) -> None:
        """Build the parts and connect them."""
        params, identity = self._params, self._identity
        self._table = ContactTable(identity.node_id, now, private=params.private)
        self._store = RecordStore(identity.node_id, self._limits)
        mint = CookieMint(self._entropy, now)
        guard = RequestGuard(mint, now, private=params.private)
        self._responder = Responder(params, identity, self._table, self._store, mint, guard, self._space)
        self._membership = Membership(identity.node_id, self._table, self._ping, self.find_closest, self._rng)
        self._announcer = Announcer(
            params,
            identity,
            find_closest=self.find_closest,
            ask=self._ask,
            own_addresses=self.own_addresses,
            store_own=self._store_own if self.serving else None,
            wall=self._wall,
            rng=self._rng,
        )

    # -- running ---------------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Bind the sockets, report readiness, and serve until cancelled. Raises ListenError.

        A service runs once. All its tasks and sockets end with it.
        """
        if self._nursery is not None:
            raise RuntimeError("a service runs once")
        await self._endpoint.listen(self._listen)
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                self._endpoint.start(nursery, self._responder)
                nursery.start_soon(self._membership.run_join)
                nursery.start_soon(self._membership.run_upkeep, self._on_tick)
                nursery.start_soon(self._announcer.run)
                task_status.started()
        finally:
            self._endpoint.close()

    @property
    def identity(self) -> Identity:
        """Who we are."""
        return self._identity

    @property
    def serving(self) -> bool:
        """Whether we answer others."""
        return bool(self._listen)

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Where the listening sockets are bound, with their real ports."""
        return self._endpoint.addresses

    def own_addresses(self) -> tuple[Address, ...]:
        """Where others reach us, at most one address per family, IPv4 first; empty for a client.

        What the user said, else what most peers see, else the bound address if it names one host.
        """
        if not self.serving:
            return ()
        found = (self._own_address(ipv6=ipv6) for ipv6 in (False, True))
        return tuple(address for address in found if address is not None)

    # -- joining ---------------------------------------------------------------------------------------

    async def bootstrap(self, addresses: Sequence[Address], cached: Sequence[Contact] = ()) -> int:
        """Try all addresses and cached contacts in parallel, then look around. Returns the contacts verified.

        With 0 the service goes on trying by itself, from every 0.5 s to every 30 s. It also comes back to
        these addresses whenever its table runs empty.
        """
        usable = [address for address in addresses if self._params.allows(address)]
        return await self._membership.bootstrap(usable, [c for c in cached if self._is_acceptable(c)])

    async def wait_joined(self, timeout_s: float) -> None:
        """Wait for the first verified contact. Raises NoPeersError after `timeout_s` seconds."""
        await self._membership.wait_joined(timeout_s)

    # -- looking up ------------------------------------------------------------------------------------

    async def find_closest(self, target: bytes, *, thorough: bool = False) -> list[Contact]:
        """The up to K nodes nearest to `target` (32 bytes) that answered, nearest first, with space classes.

        thorough: twice as many disjoint paths, against many liars, at twice the price.
        """
        return await NodeCrawl(self._lookup(target, thorough), self._ask, self._is_acceptable).run()

    @asynccontextmanager
    async def search(
        self, kind: int, key: bytes, *, thorough: bool = False
    ) -> AsyncIterator[trio.MemoryReceiveChannel[Record]]:
        """Search for the records of `kind` under `key` (32 bytes): a channel of verified ones, each as it is
        found.

        The channel ends when the whole search has: only then does "nothing came" mean "nothing is there".
        Leaving the block early stops the search.
        """
        send, receive = trio.open_memory_channel[Record](MAX_FOUND)
        scope, finished = trio.CancelScope(), trio.Event()
        search = RecordSearch(
            self._lookup(key, thorough),
            kind,
            RecordKey(key),
            self._ask,
            self._is_acceptable,
            self._params,
            self._identity.scheme,
            send.send_nowait,
        )
        self._running().start_soon(self._search, search, send, scope, finished)
        try:
            with receive:
                yield receive
        finally:
            scope.cancel()
            with trio.CancelScope(shield=True):  # short: the search is cancelled already
                await finished.wait()

    async def _search(
        self,
        search: RecordSearch,
        send: trio.MemorySendChannel[Record],
        scope: trio.CancelScope,
        finished: trio.Event,
    ) -> None:
        """The task behind a search.

        It belongs to the service, so that errors in the caller's block stay bare.
        """
        try:
            with scope, send:
                for record in self._store.get(search.kind, search.key, trio.current_time()):
                    search.take(record.encoded)  # we may be one of the closest ourselves
                await search.run()
        finally:
            finished.set()

    # -- announcing ------------------------------------------------------------------------------------

    async def announce(self, items: Sequence[Announcement]) -> list[StoreReport]:
        """Store each item on the K nodes closest to its key, once. One report per item, in order.

        Raises RecordTooLargeError or ValueError before anything is sent.
        """
        return await self._announcer.announce(items)

    def keep_announced(self, items: Sequence[Announcement], *, announced: bool = False) -> None:
        """Announce these now and about every 12 hours while the service runs.

        A new payload replaces the old one under the same key and goes out at once. `announced`: the caller
        has just announced them with `announce`, so the first time is in 12 hours.
        """
        self._announcer.keep(items, announced=announced)

    def stop_announcing(self, key: bytes, kind: int = RecordKind.PROVIDER) -> None:
        """Renew this no longer; the network forgets it within its lifetime."""
        self._announcer.stop(RecordKey(key), kind)

    # -- knowing ---------------------------------------------------------------------------------------

    def contacts(self) -> tuple[Contact, ...]:
        """All verified contacts, those heard from most recently first."""
        return tuple(self._table.contacts())

    def sample(self, count: int) -> list[Contact]:
        """Up to `count` verified contacts, picked at random."""
        contacts = self._table.contacts()
        return self._rng.sample(contacts, min(count, len(contacts)))

    def statistics(self) -> DhtStatistics:
        """A snapshot of counts."""
        return self._endpoint.counters.snapshot(
            contacts=len(self._table),
            records=len(self._store),
            record_bytes=self._store.stored_bytes,
            pending=self._endpoint.caller.pending_count,
            kept=self._announcer.kept_count,
        )

    # -- inside ----------------------------------------------------------------------------------------

    def _running(self) -> trio.Nursery:
        if self._nursery is None:
            raise RuntimeError("the service is not running")
        return self._nursery

    def _lookup(self, target: bytes, thorough: bool) -> Lookup:
        self._table.on_looked_up(target, trio.current_time())
        return Lookup(
            target,
            self._table.closest(target),
            own_id=self._identity.node_id,
            private=self._params.private,
            paths=THOROUGH_PATHS if thorough else PATHS,
        )

    def _is_acceptable(self, contact: Contact) -> bool:
        """Whether a contact others told us of may be asked: allowed address, proof of work, not ourselves."""
        return (
            contact.node_id != self._identity.node_id
            and self._params.allows(contact.address)
            and contact.address not in self._endpoint.addresses
            and has_proof(contact.node_id, self._params.pow_bits)
        )

    async def _ask(self, contact: Contact, message: RequestMessage) -> Answer:
        """One request to a contact, verified or from hearsay; the table learns how it went.

        Raises RequestError.
        """
        known = self._table.get(contact.node_id)
        verified = known is not None and known.address == contact.address
        if not verified and not self._hearsay.allows(contact.address, trio.current_time()):
            raise NoReplyError(f"{contact.address} did not answer lately")
        try:
            answer = await self._endpoint.caller.request(contact.address, contact.node_id, message)
        except (NoReplyError, MisbehaviourError):
            self._note_failure(contact, verified)
            raise
        self._note_answer(answer)
        return answer

    async def _ping(self, address: Address, node_id: NodeId | None) -> Contact:
        """Ask an address we were given for a sign of life. Raises RequestError."""
        if node_id is not None:
            return (await self._ask(Contact(node_id, address), Ping())).contact
        answer = await self._endpoint.caller.request(address, None, Ping())
        if answer.contact.node_id == self._identity.node_id:
            raise NoReplyError(f"{address} is our own address")
        self._note_answer(answer)
        return answer.contact

    def _note_failure(self, contact: Contact, verified: bool) -> None:
        now = trio.current_time()
        self._table.on_failure(contact, now)
        self._greeted.pop(contact.address, None)  # if it comes back, it is welcome at once
        if verified:
            self._membership.on_silence()
        else:
            self._hearsay.note_silence(contact.address, now)

    def _note_answer(self, answer: Answer) -> None:
        """The peer answered from its address: the one way into the table."""
        self._hearsay.note_life(answer.contact.address)
        if any(bound.is_ipv6 == answer.contact.address.is_ipv6 for bound in self.addresses):
            self._observed.note(answer.contact.address, answer.head.observed)
        suspect = self._table.on_verified(answer.contact, trio.current_time())
        self._membership.on_contact()
        if suspect is not None:
            self._ping_soon(suspect)

    def _greet(self, newcomer: Contact) -> None:
        """A serving node asked us something from a proven address: ping it, for that is how it enters the
        table."""
        now = trio.current_time()
        self._hearsay.note_life(newcomer.address)
        known = self._table.get(newcomer.node_id)
        lately = now - self._greeted.get(newcomer.address, -GREETING_SPACING_S) < GREETING_SPACING_S
        if lately or (known is not None and known.address == newcomer.address):
            return
        if self._ping_soon(newcomer):
            self._greeted[newcomer.address] = now
            if len(self._greeted) > MAX_GREETED:
                self._greeted.popitem(last=False)

    def _ping_soon(self, contact: Contact) -> bool:
        """Ping in the background, unless too many such pings are under way."""
        if self._nursery is None or self._background_pings >= MAX_BACKGROUND_PINGS:
            return False
        self._background_pings += 1
        self._nursery.start_soon(self._ping_quietly, contact)
        return True

    async def _ping_quietly(self, contact: Contact) -> None:
        try:
            await self._ask(contact, Ping())
        except RequestError:
            pass  # the table has been told
        finally:
            self._background_pings -= 1

    def _store_own(self, record: Record) -> StoreStatus:
        return self._store.put(record, trio.current_time())

    def _own_address(self, *, ipv6: bool) -> Address | None:
        bound = [address for address in self.addresses if address.is_ipv6 == ipv6]
        said = [address for address in self._advertise if address.is_ipv6 == ipv6]
        seen = self._observed.best(ipv6=ipv6) if bound else None
        candidates = [*said, *([seen] if seen else []), *bound]
        return next((address for address in candidates if self._params.allows(address)), None)

    def _on_tick(self) -> None:
        self._store.expire(trio.current_time())
        self._announcer.on_tick()
