"""The DHT node: sockets and tasks around the pure parts. Programs use this layer through `DhtService`.

service = DhtService(params, identity, UdpNetwork(), listen=[Address("0.0.0.0", 4100)])
async with trio.open_nursery() as nursery:
    await nursery.start(service.run)
    await service.bootstrap([Address.parse("192.0.2.7:4750")])
    async with service.search(key) as found:
        async for record in found: ...
"""

import math
import os
import random
import time
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
from shoal.dht.errors import ListenError, UnsupportedError
from shoal.dht.guard import CookieMint, RequestGuard
from shoal.dht.identity import Entropy, Identity, NodeId, has_proof
from shoal.dht.lookup import PATHS, THOROUGH_PATHS, Lookup
from shoal.dht.membership import Membership
from shoal.dht.messages import MAX_QUERY_BYTES, Answered, Query, QueryStatus, StoreStatus
from shoal.dht.own_address import AddressSource, Belief, OwnAddress, OwnAddresses
from shoal.dht.params import NetworkParameters
from shoal.dht.peers import Peers
from shoal.dht.reach import MAX_WAYS, Reach
from shoal.dht.records import Record, RecordKey, RecordKind
from shoal.dht.responder import QueryGate, QueryHandler, Responder, Table
from shoal.dht.reunion import Reunion
from shoal.dht.routing import ContactTable, K
from shoal.dht.store import RecordStore, StoreLimits
from shoal.dht.transport import DatagramNetwork

# For so long after a lookup that found fewer than K nodes, which is the whole network, our table counts as all of it.
WHOLE_S = 300.0
EXPIRY_SWEEP_S = 2700.0  # how often dead records are looked for at most; they are never handed out in between
# After a change of the own address all is announced again at once; after the next one not before so long.
MOVE_SPACING_S = 600.0


class DhtService:
    """One node of the DHT, or a client of it.

    params: the network.    identity: this node's; its id needs the proof of work if it serves.
    network: where sockets come from.    entropy: unpredictable bytes.    rng: for choices that need no secrecy.
    listen: addresses to serve on (port 0 for any). None: a client, which answers nothing and enters no table.
    advertise: where others reach us, at most one address per family, if they see another one.
    space: gives our space class at the moment (`space_class`).    wall: unix seconds.    limits: of the record store.

    The class is long because it is the face of the layer: it builds the parts, and most methods hand on to one of them.
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
        self._network = network
        self._listen = tuple(listen)
        self._advertise = tuple(advertise)
        self._space = space
        self._rng = rng or random.SystemRandom()
        self._entropy = entropy
        self._wall = wall
        self._limits = limits or (StoreLimits.private() if params.private else StoreLimits())
        self._endpoint = Endpoint(params, identity, network, entropy, lambda newcomer: self.peers.greet(newcomer))
        self._nursery: trio.Nursery | None = None
        self._assemble(trio.current_time())

    def _assemble(self, now: float) -> None:
        """Build the parts and connect them. Each knows the others by the calls that it is given."""
        params, identity = self._params, self._identity
        self._table = ContactTable(identity.node_id, now, private=params.private)
        self._store = RecordStore(self._limits)
        mint = CookieMint(self._entropy, now)
        guard = RequestGuard(mint, now, private=params.private)
        self._responder = Responder(params, identity, self._table, self._store, mint, guard, self._space)
        self.peers = self._make_peers()
        self._sweep_at = -math.inf
        self._relays: tuple[Contact, ...] = ()
        self._saw_all_at = -math.inf  # when a lookup last found all nodes that there are
        self._moved = trio.Event()
        self.on_moved: Callable[[], None] = lambda: None  # called when our own address may have changed
        self._mapped: Address | None = None
        self._own = OwnAddresses(
            params,
            self._network,
            self._advertise,
            lambda: self.addresses,
            lambda ipv6: self.peers.observed.best(ipv6=ipv6),
            lambda: self._mapped,
        )
        self._membership = Membership(
            identity.node_id,
            self._table,
            self.peers.ping,
            self.find_closest,
            self._rng,
            introduce=self.peers.introduce,
            serving=self.serving,
        )
        self._reunion = self._make_reunion()
        self._announcer = self._make_announcer()

    def _make_peers(self) -> Peers:
        return Peers(
            self._params,
            self._identity.node_id,
            self._table,
            self._endpoint.caller,
            lambda: self._endpoint.addresses,
            on_contact=lambda: self._membership.on_contact(),
            on_silence=lambda: self._membership.on_silence(),
            on_lost=self._on_lost,
            on_answer=lambda node_id: self._reunion.on_answer(node_id),
            on_moved=lambda: self._reunion.notice(),
            on_seen=lambda: self._own.belief.changed(),
        )

    def _make_reunion(self) -> Reunion:
        return Reunion(
            self._identity.node_id,
            self._table,
            self.peers,
            self.find_closest,
            self._membership.doors,
            self._rng,
            depends=self._depends_on_peers,
            on_done=self._on_known_again,
        )

    def _make_announcer(self) -> Announcer:
        return Announcer(
            self._params,
            self._identity,
            find_closest=self.find_closest,
            known_closest=self._known_closest,
            ask=self.peers.ask,
            own_reach=self.own_reach,
            store_own=self._store_own if self.serving else None,
            serves=lambda: any(self._own.belief.is_open(ipv6=each.is_ipv6) for each in self.addresses),
            wall=self._wall,
            rng=self._rng,
            nursery=self._running,
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
                self.peers.start(nursery)
                self._endpoint.start(nursery, self._responder)
                nursery.start_soon(self._membership.run_join)
                nursery.start_soon(self._membership.run_upkeep, self._on_tick)
                nursery.start_soon(self._keep_announcing)
                nursery.start_soon(self._announce_moves)
                if self.serving:
                    nursery.start_soon(self._reunion.run)
                    nursery.start_soon(self._watch_machine)
                task_status.started()
        finally:
            self._endpoint.close()

    @property
    def identity(self) -> Identity:
        """This node's identity."""
        return self._identity

    @property
    def entropy(self) -> Entropy:
        """Where unpredictable bytes come from."""
        return self._entropy

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

        They come from what `located` says, without saying how we know.
        """
        return tuple(each.address for each in self.located())

    def own_reach(self) -> Reach | None:
        """How others reach us: at our own addresses, or through the relays of `be_relayed`; None while nobody can."""
        direct = self.own_addresses()
        relays = self._relays[: MAX_WAYS - len(direct)]
        return Reach(direct, relays) if direct or relays else None

    def be_relayed(self, relays: Sequence[Contact]) -> None:
        """From now on these nodes ring us, at most three. What is announced goes out again where that changes it."""
        if tuple(relays) != self._relays:
            self._relays = tuple(relays)
            self._on_known_again()

    def located(self) -> tuple[OwnAddress, ...]:
        """Where others reach us, and how we know.

        The address that the user said comes first. Then comes the bound address, if it names one host that the network
        allows; then, in a public network, the public address of this machine; then the one of `be_mapped`, if most
        peers see us at its host; and then what most peers see.
        """
        return self._own.current() if self.serving else ()

    def observed(self, *, ipv6: bool) -> Address | None:
        """What most peers see us at, believed or not; None while they have not agreed on one."""
        return self.peers.observed.best(ipv6=ipv6)

    def be_mapped(self, external: Address | None) -> None:
        """A router says that this outer address leads here; None: none does any more.

        Where its host has changed, our line has another address, most likely. So we make ourselves known again.
        """
        before, self._mapped = self._mapped, external
        if before is not None and external is not None and before.host != external.host:
            self._reunion.notice()
        self._on_known_again()

    def candidates(self, *, ipv6: bool) -> list[OwnAddress]:
        """What may be our address, believed or not, the most trusted first; nothing for a client."""
        return self._own.candidates(ipv6=ipv6) if self.serving else []

    def trust(self, belief: Belief) -> None:
        """Name only those of our addresses to others that `belief` believes, and serve only where it says so."""
        self._own.belief = belief
        self._endpoint.is_open = lambda ipv6: belief.is_open(ipv6=ipv6)
        self._own.forget()

    def on_belief(self) -> None:
        """What is believed has changed: announce it."""
        self._own.forget()
        self._on_known_again()

    # -- joining ---------------------------------------------------------------------------------------

    async def bootstrap(
        self,
        addresses: Sequence[Address],
        cached: Sequence[Contact] = (),
        *,
        on_knocked: Callable[[], None] = lambda: None,
    ) -> int:
        """Try all addresses and cached contacts in parallel, then look around. Returns the contacts verified.

        `on_knocked` is called in between: at 0.3 s after the first answer at the latest.

        When it returns 0, the service goes on trying, at first every 0.5 s and later every 30 s. It also comes back to
        these addresses whenever its table runs empty.
        """
        usable = [address for address in addresses if self._params.allows(address)]
        known = [contact for contact in cached if self.peers.is_acceptable(contact)]
        return await self._membership.bootstrap(usable, known, on_knocked)

    async def wait_acquainted(self) -> None:
        """Wait until we have looked around once."""
        await self._membership.wait_acquainted()

    async def wait_joined(self, timeout_s: float) -> None:
        """Wait for the first verified contact. Raises NobodyAnsweredError after `timeout_s` seconds."""
        await self._membership.wait_joined(timeout_s)

    # -- looking up ------------------------------------------------------------------------------------

    async def find_closest(self, target: bytes, *, thorough: bool = False) -> list[Contact]:
        """The up to K nodes nearest to `target` (32 bytes) that answered, nearest first, with space classes.

        thorough: twice as many disjoint paths, against many liars, at twice the price.
        """
        found = await NodeCrawl(self._lookup(target, thorough), self.peers.ask, self.peers.is_acceptable).run()
        if 0 < len(found) < K:
            self._saw_all_at = trio.current_time()
        return found

    def _known_closest(self, key: bytes) -> list[Contact]:
        """The same without asking anybody: nothing where only a lookup can tell.

        Newcomers come into the table by asking us, and the silent leave it. So what a lookup has shown to be the whole
        network stays so for a while.
        """
        found = self._table.all_closest(key)
        if not found and trio.current_time() - self._saw_all_at < WHOLE_S and len(self._table) < K:
            return self._table.closest(key)
        return found

    @asynccontextmanager
    async def search(
        self, kind: int, key: bytes, *, thorough: bool = False
    ) -> AsyncIterator[trio.MemoryReceiveChannel[Record]]:
        """Search for the records of `kind` under `key` (32 bytes). The channel gives each verified record as it is
        found.

        The channel ends when the whole search has: only then does "nothing came" mean "nothing is there". Leaving the
        block early stops the search.
        """
        if kind != RecordKind.PROVIDER:
            raise ValueError(f"records of kind {kind} are not known")
        send, receive = trio.open_memory_channel[Record](MAX_FOUND)
        scope, finished = trio.CancelScope(), trio.Event()
        search = RecordSearch(
            self._lookup(key, thorough),
            kind,
            RecordKey(key),
            self.peers.ask,
            self.peers.is_acceptable,
            self._params,
            self._identity.scheme,
            send.send_nowait,
        )
        self._running().start_soon(self._search, search, send, scope, finished)
        try:
            yield receive
        finally:
            scope.cancel()
            with trio.CancelScope(shield=True):
                await finished.wait()
            receive.close()  # not before the search has ended: until then it sends

    async def _search(
        self,
        search: RecordSearch,
        send: trio.MemorySendChannel[Record],
        scope: trio.CancelScope,
        finished: trio.Event,
    ) -> None:
        """The task behind a search. It belongs to the service, so that errors in the caller's block stay bare."""
        try:
            with scope, send:
                for record in self._store.get(search.kind, search.key, trio.current_time()):
                    search.take(record.encoded)  # we may be one of the closest ourselves
                await search.run()
        finally:
            finished.set()

    async def answer_open_ping(self, datagram: bytes, source: Address) -> None:
        """Answer an open ping that came by another way than our sockets, from a socket of ours. Others are dropped."""
        await self._endpoint.answer_open_ping(datagram, self._responder, self._identity.node_id, source)

    # -- asking and answering for the layer above ------------------------------------------------------

    def serve(self, topic: int, handler: QueryHandler, gate: QueryGate = lambda source, size, now: True) -> None:
        """Let `handler(asker, payload)` answer the queries of one topic (u8).

        The asker has proven the key behind its id, and its address only where `gate` wants that. `gate` says of each
        query whether it may be worked on now. One without a cookie that it refuses comes again.
        """
        self._responder.serve(topic, handler, gate)

    async def query(self, contact: Contact, topic: int, payload: bytes) -> bytes:
        """Ask one contact a question of at most 1,024 bytes; so long may the answer be. Both are signed, not secret.

        Raises QueryError: NoReplyError after 9 s, or 18 s when the peer first sent a new cookie; UnsupportedError when
        the node does not answer this topic.
        """
        if len(payload) > MAX_QUERY_BYTES:
            raise ValueError(f"a query of {len(payload)} bytes is over the limit of {MAX_QUERY_BYTES}")
        answer = await self.peers.ask(contact, Query(topic, payload))
        assert isinstance(answer.reply, Answered), "the caller matches the kinds of request and reply"
        if answer.reply.status != QueryStatus.ANSWERED:
            raise UnsupportedError(f"the node at {contact.address} does not answer this query")
        return answer.reply.payload

    async def call(self, contact: Contact, topic: int, payload: bytes) -> None:
        """Send a query to where a node is said to be, and learn nothing from the answer: it enters no table.

        Two datagrams at most, which the caller has to count. Raises QueryError.
        """
        await self._endpoint.caller.request(contact.address, contact.node_id, Query(topic, payload), attempts=2)

    def serves(self, topic: int) -> bool:
        """Whether queries of a topic are answered."""
        return self._responder.serves(topic)

    def answer_lookups_from(self, table: Table) -> None:
        """Answer lookups with the contacts of another table. Simulated liars do this; honest nodes do not."""
        self._responder.table = table

    # -- announcing ------------------------------------------------------------------------------------

    async def announce(self, items: Sequence[Announcement], *, from_table: bool = False) -> list[StoreReport]:
        """Store each item on the K nodes closest to its key, once. One report per item, in order.

        from_table: leave the lookup out when our own table knows all nodes. Raises RecordTooLargeError or ValueError
        before anything is sent, see `Announcement.check`.
        """
        return await self._announcer.announce(items, from_table=from_table)

    def keep_announced(self, items: Sequence[Announcement], *, announced: bool = False) -> None:
        """Announce these now and about every 30 hours while the service runs.

        A new payload replaces the old one under the same key and goes out at once. `announced`: the caller
        has just announced them with `announce`, so the first time is in 30 hours.
        """
        self._announcer.keep(items, announced=announced)

    def is_announcing(self, key: bytes, kind: int = RecordKind.PROVIDER) -> bool:
        """Whether something is kept announced under a key, even if it has not gone out yet."""
        return self._announcer.keeps(RecordKey(key), kind)

    def kept_announcements(self) -> list[Announcement]:
        """All items that are kept announced."""
        return self._announcer.kept()

    def stop_announcing(self, key: bytes, kind: int = RecordKind.PROVIDER) -> None:
        """Stop renewing this. The network forgets it within its lifetime."""
        self._announcer.stop(RecordKey(key), kind)

    # -- knowing ---------------------------------------------------------------------------------------

    def contacts(self) -> tuple[Contact, ...]:
        """All verified contacts, those heard from most recently first."""
        return tuple(self._table.contacts())

    def has_met(self, node_id: NodeId, address: Address) -> bool:
        """Whether that node has answered us from that address: it is in our table, or was heard of minutes ago."""
        return self.peers.has_met(node_id, address)

    def lost_contacts(self) -> list[Contact]:
        """Contacts that fell silent and have not answered since, 256 at most. A client remembers none."""
        return self._reunion.lost()

    def answers(self, within_s: float) -> tuple[int, float | None]:
        """How many contacts have answered within so many seconds, and how long ago any peer last did; None: never."""
        now, at = trio.current_time(), self.peers.answered_at
        return self._table.answered_since(now - within_s), None if at == -math.inf else now - at

    def local_host(self, towards: Address) -> str | None:
        """The machine's own address from which it would send there; None when it has no way."""
        return self._network.local_host(ipv6=towards.is_ipv6, towards=towards.host)

    async def is_ours(self, address: Address) -> bool:
        """Whether the machine has the address that a socket is bound to."""
        try:
            (await self._network.bind(Address(address.host, 0))).close()
        except ListenError:
            return False
        return True

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

    async def _keep_announcing(self) -> None:
        await self._membership.wait_acquainted()  # on an empty table every lookup ends at once, with ourselves alone
        await self._announcer.run()

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

    def _store_own(self, record: Record) -> StoreStatus:
        return self._store.put(record, trio.current_time())

    def _on_lost(self, contact: Contact) -> None:
        self._membership.on_lost(contact)
        self._reunion.on_lost(contact)

    def _depends_on_peers(self) -> bool:
        """Whether only our peers can tell us that our address has changed."""
        located = self.located()
        from_peers = (AddressSource.OBSERVED, AddressSource.MAPPED)
        return not located or any(each.source in from_peers for each in located)

    async def _watch_machine(self) -> None:
        """Until cancelled: when the machine has slept or moved, make ourselves known."""
        while True:
            await self._network.wait_for_change()
            self._own.look_again()
            self._own.belief.changed()
            self._reunion.notice()

    def _on_known_again(self) -> None:
        self._moved.set()
        self._own.belief.changed()
        self.on_moved()

    async def _announce_moves(self) -> None:
        """Until cancelled: announce at a new address what was announced at another one."""
        while True:
            await self._moved.wait()
            self._moved = trio.Event()
            if self._announcer.on_tick():
                await trio.sleep(MOVE_SPACING_S)

    def _on_tick(self) -> None:
        now = trio.current_time()
        self._moved.set()
        if now >= self._sweep_at:
            self._sweep_at = now + EXPIRY_SWEEP_S
            self._store.expire(now)
