"""The tasks of a rendezvous: search, ping what was found in our own DHT, announce ourselves, again and again.

What the Mainline DHT says of us is an address to ping, and nothing else. A node of the network answers such a ping with
a signature for this network; whatever else is there costs us three datagrams.
"""

import math
from collections.abc import Sequence
from functools import partial
from random import Random

import trio

from shoal.dht import (
    Address,
    AddressError,
    DatagramNetwork,
    DatagramSocket,
    DhtService,
    ListenError,
    QueryError,
    labelled_hash,
)
from shoal.node.home.network import Network, split_host_port
from shoal.node.nursery import open_nursery
from shoal.node.reach.rendezvous.search import MAX_FOUND, MainlineSearch, new_id

GRACE_S = 2.0  # for the doors, where there are any
EVERY_S = 1500.0  # between the searches of a node that is in its network. Announcements are kept for 30 minutes or more
FIRST_ALONE_S, MAX_ALONE_S, GROWTH = 2.5, 600.0, 1.6  # of one that knows nobody
ENOUGH = 24  # others found: then we need not be found as well
KNOCKS_IN = 4  # addresses that a node in its network pings of one search: so halves of a network meet
RESOLVE_S = 5.0
LOOK_S = 0.25  # for queries that have failed meanwhile
REMEMBERED = 16  # nodes of the last search of a family, so that the routers can be gone
PATIENCE_S = 12.0  # so long a node without any other way in waits

_key = labelled_hash("mainline rendezvous")


def rendezvous_key(network_id: bytes) -> bytes:
    """Under which key of the Mainline DHT the nodes of a network are: 20 bytes."""
    return _key(network_id)[:20]


class MainlineRendezvous:
    """Finds nodes of the network through the Mainline DHT. A serving node announces itself there; a client only looks,
    and only while it knows nobody."""

    def __init__(
        self, datagrams: DatagramNetwork, dht: DhtService, network: Network, rng: Random, *, has_doors: bool
    ) -> None:
        self._datagrams = datagrams
        self._dht = dht
        self._parameters = network.parameters
        self._routers = network.rendezvous or ()
        self._rng = rng
        self._has_doors = has_doors
        self._own_id = new_id(rng)
        self._remembered: dict[bool, list[Address]] = {False: [], True: []}

    async def run(self) -> None:
        """Until cancelled."""
        alone_s = FIRST_ALONE_S
        await trio.sleep(GRACE_S if self._has_doors else 0.0)
        while True:
            if self._dht.serving or not self._dht.contacts():
                async with open_nursery() as nursery:
                    for ipv6 in (False, True):
                        nursery.start_soon(self._meet, ipv6)
            is_in = bool(self._dht.contacts())
            with trio.move_on_after((EVERY_S if is_in else alone_s) * self._rng.uniform(0.8, 1.2)):
                await self._until_alone(FIRST_ALONE_S if is_in else math.inf)
            alone_s = FIRST_ALONE_S if is_in else min(alone_s * GROWTH, MAX_ALONE_S)

    async def _until_alone(self, look_every_s: float) -> None:
        """Return when the last contact is gone."""
        while True:
            await trio.sleep(look_every_s)
            if not self._dht.contacts():
                return

    async def _meet(self, ipv6: bool) -> None:
        """One search in one family, and all that comes of it."""
        starts = [*self._remembered[ipv6], *await self._resolved(ipv6)]
        if not starts:
            return
        try:
            sock = await self._datagrams.bind(Address("::" if ipv6 else "0.0.0.0", 0))
        except ListenError:
            return
        async with open_nursery() as nursery:
            knocking = _Knocking(self._dht, nursery)
            try:
                search = self._new_search(starts, ipv6)
                await self._go_on(search, sock, knocking)
                self._remembered[ipv6] = search.answered()[:REMEMBERED]
                found = search.found()
                port = self._port(ipv6) if len(found) < ENOUGH else None
                if port is not None:
                    for address, datagram in search.announcements(port):
                        await sock.send(datagram, address)
            finally:
                sock.close()
            knocking.at(found, KNOCKS_IN if self._dht.contacts() else MAX_FOUND)

    def _new_search(self, starts: Sequence[Address], ipv6: bool) -> MainlineSearch:
        # A test has routers on its own machine. From the real ones nobody leads us to addresses of a home.
        is_local = not any(start.is_public for start in starts)
        return MainlineSearch(
            rendezvous_key(self._parameters.network_id),
            self._own_id,
            list(dict.fromkeys(starts)),
            ipv6=ipv6,
            now=trio.current_time(),
            rng=self._rng,
            allows=lambda address: self._parameters.allows(address) and (is_local or address.is_public),
        )

    async def _go_on(self, search: MainlineSearch, sock: DatagramSocket, knocking: "_Knocking") -> None:
        """Until a search is over, or a client has what it wants. A node that is alone pings what it hears at once."""
        answered = trio.Event()

        async def receive() -> None:
            nonlocal answered
            while True:
                data, source = await sock.receive()
                if search.on_datagram(data, source):
                    answered.set()

        async with open_nursery() as nursery:
            nursery.start_soon(receive)
            while not search.is_over(trio.current_time()) and (self._dht.serving or not self._dht.contacts()):
                answered = trio.Event()
                knocking.at(search.first_words(), 0 if self._dht.contacts() else MAX_FOUND)
                for address, query in search.due(trio.current_time()):
                    await sock.send(query, address)
                with trio.move_on_after(LOOK_S):
                    await answered.wait()
            nursery.cancel_scope.cancel()

    def _port(self, ipv6: bool) -> int | None:
        """The port at which others reach us; None where they do not. The Mainline DHT sees the rest of the address.

        A node that is alone has nobody to tell it, and tries the port at which it listens.
        """
        if not self._dht.serving:
            return None
        known = self._dht.own_addresses() or (() if self._dht.contacts() else self._dht.addresses)
        return next((each.port for each in known if each.is_ipv6 == ipv6 and each.port), None)

    async def _resolved(self, ipv6: bool) -> list[Address]:
        """The addresses of the routers in one family."""
        found: list[Address] = []
        async with open_nursery() as nursery:
            for router in self._routers:
                nursery.start_soon(partial(self._resolve, router, ipv6, found))
        return found

    async def _resolve(self, router: str, ipv6: bool, found: list[Address]) -> None:
        host, port = split_host_port(router)
        with trio.move_on_after(RESOLVE_S):
            try:
                entries = await trio.socket.getaddrinfo(host, port, type=trio.socket.SOCK_DGRAM)
                addresses = [Address.of(str(entry[4][0]), port) for entry in entries]
            except (OSError, AddressError, UnicodeError):
                return
            usable = [each for each in addresses if each.is_ipv6 == ipv6 and self._parameters.allows(each)]
            found.extend(usable[:2])


class _Knocking:
    """Pings in our own DHT what one search brings, each address once. The DHT bounds what a silent host gets."""

    def __init__(self, dht: DhtService, nursery: trio.Nursery) -> None:
        self._dht = dht
        self._nursery = nursery
        self._own = {*dht.own_addresses(), *dht.addresses}
        self._done: set[Address] = set()

    def at(self, addresses: Sequence[Address], most: int) -> None:
        """Ping these, in this order, until the search has had so many pinged in all."""
        for address in addresses:
            if address not in self._own | self._done and len(self._done) < most:
                self._done.add(address)
                self._nursery.start_soon(self._knock, address)

    async def _knock(self, address: Address) -> None:
        try:
            await self._dht.peers.knock(address)
        except QueryError:
            return
