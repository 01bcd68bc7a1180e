"""Nodes of a private network find each other in a local network, without knowing an address.

A node calls out an open ping by multicast. Nodes of the same network answer with a pong from the address at which they
serve. The caller pings that address in the usual way, and nothing else comes of an answer. Only addresses of the same
link count, on both sides.
"""

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import field
from random import Random

import trio

from shoal.dht import Address, DhtService, LanLink, LanNetwork, ListenError, NetworkParameters, OpenPing, QueryError
from shoal.dht.transport import DatagramSocket
from shoal.node.nursery import open_nursery
from shoal.values import dataclass

CALLS_S = (0.0, 1.0, 3.0)  # after a start, and after a change of links: one datagram for each link
ALONE_S = 15.0  # between later calls of a node that knows nobody
PATIENCE_S = 4.0  # so long a node without any other way in waits for answers to its first calls
ACQUAINTED_S = 600.0  # of one that knows somebody: it joins halves of a network that do not know of each other
LINKS_S = 5.0  # how often the links are looked at
ANSWERS_S = 2.0  # how long answers to one call are taken
MAX_ANSWERS = 64  # of one call on one link: signatures that are checked
MAX_KNOCKS = 16  # addresses that one call on one link has us ping, at most three datagrams each
# Calls that we answer: of one host, and of all. Each answer has 192 bytes at most, and goes to an address of the link.
HOST_CALLS, HOST_CALLS_PER_S = 16.0, 2.0
ALL_CALLS, ALL_CALLS_PER_S = 64.0, 16.0
MAX_HOSTS = 256  # of which it is remembered how often they called


@dataclass(slots=True)
class _Bucket:
    """So many at once, then so many a second."""

    most: float
    per_s: float
    left: float
    at: float

    def take(self, now: float) -> bool:
        self.left = min(self.most, self.left + (now - self.at) * self.per_s)
        self.at = now
        if self.left < 1:
            return False
        self.left -= 1
        return True


class Answering:
    """Which calls are worth an answer. Pure; `now` is monotonic seconds."""

    def __init__(self, now: float) -> None:
        self._all = _Bucket(ALL_CALLS, ALL_CALLS_PER_S, ALL_CALLS, now)
        self._hosts: OrderedDict[str, _Bucket] = OrderedDict()

    def admits(self, source: Address, now: float) -> bool:
        """Whether to answer a call from this address of our link."""
        host = source.host  # not the /64, which all of a local network share
        bucket = self._hosts.setdefault(host, _Bucket(HOST_CALLS, HOST_CALLS_PER_S, HOST_CALLS, now))
        self._hosts.move_to_end(host)
        if len(self._hosts) > MAX_HOSTS:
            self._hosts.popitem(last=False)
        return bucket.take(now) and self._all.take(now)


@dataclass(slots=True)
class CallAnswers:
    """What the answers to one call on one link may have us do. Pure."""

    link: LanLink
    ours: frozenset[Address]  # our own addresses
    checks: int = 0
    found: set[Address] = field(default_factory=set)

    def is_over(self) -> bool:
        """Whether no further answer is looked at."""
        return self.checks >= MAX_ANSWERS or len(self.found) >= MAX_KNOCKS

    def may_be(self, source: Address) -> bool:
        """Whether an answer from there is worth a signature check."""
        if self.is_over() or source in self.found or source in self.ours or not self.link.has(source):
            return False
        self.checks += 1
        return True


class Lan:
    """Calls, and answers calls, for one node. A client only calls, and only until it has met somebody."""

    def __init__(self, network: LanNetwork, dht: DhtService, params: NetworkParameters, rng: Random) -> None:
        self._network = network
        self._dht = dht
        self._params = params
        self._rng = rng
        self._answering = Answering(trio.current_time())
        self._links: tuple[LanLink, ...] = ()

    async def run(self) -> None:
        """Until cancelled."""
        async with open_nursery() as nursery:
            listening: dict[LanLink, trio.CancelScope] = {}
            calls = trio.CancelScope()
            while True:
                links = self.links()
                if links != self._links:
                    self._links = links
                    for link in set(listening) - set(links):
                        listening.pop(link).cancel()
                    for link in set(links) - set(listening) if self._dht.serving else ():
                        listening[link] = trio.CancelScope()
                        nursery.start_soon(self._listen, link, listening[link])
                    calls.cancel()
                    calls = trio.CancelScope()
                    nursery.start_soon(self._call_again_and_again, links, calls)
                await trio.sleep(LINKS_S)

    def links(self) -> tuple[LanLink, ...]:
        """The local networks in which somebody could call us back now."""
        bound, links = self._dht.addresses, self._network.links()
        if not self._dht.serving:
            return links
        return tuple(
            link
            for link in links
            if any(each.host == link.host or (each.is_wildcard and each.is_ipv6 == link.is_ipv6) for each in bound)
        )

    # -- calling ---------------------------------------------------------------------------------------

    async def _call_again_and_again(self, links: Sequence[LanLink], scope: trio.CancelScope) -> None:
        begun = trio.current_time()
        with scope:
            async with open_nursery() as nursery:  # the answers to one call hold up no other
                for after_s in CALLS_S if links else ():
                    await trio.sleep_until(begun + after_s * self._rng.uniform(0.8, 1.2))
                    self._call_everywhere(nursery, links)
                while links:
                    pause_s = ACQUAINTED_S if self._dht.contacts() else ALONE_S
                    with trio.move_on_after(pause_s * self._rng.uniform(0.8, 1.2)):
                        await self._until_alone(math.inf if not self._dht.contacts() else ALONE_S)
                    self._call_everywhere(nursery, links)

    async def _until_alone(self, look_every_s: float) -> None:
        """Return when the last contact is gone."""
        while True:
            await trio.sleep(look_every_s)
            if not self._dht.contacts():
                return

    def _call_everywhere(self, nursery: trio.Nursery, links: Sequence[LanLink]) -> None:
        if self._dht.serving or not self._dht.contacts():
            for link in links:
                nursery.start_soon(self._call, link)

    async def _call(self, link: LanLink) -> None:
        """Call once, and ping those that answer within the time."""
        ping = OpenPing(self._params, self._dht.identity, self._dht.entropy)
        answers = CallAnswers(link, frozenset(self._dht.addresses))
        try:
            sock = await self._network.caller(link)
        except ListenError:
            return
        try:
            async with open_nursery() as nursery:
                with trio.move_on_after(ANSWERS_S):
                    await sock.send(ping.datagram, self._network.group[link.is_ipv6])
                    while not answers.is_over():
                        data, source = await sock.receive()
                        node_id = ping.is_answered_by(data) if answers.may_be(source) else None
                        if node_id is not None:
                            answers.found.add(source)
                            if not self._dht.has_met(node_id, source):
                                nursery.start_soon(self._knock, source)
        except trio.ClosedResourceError:
            return
        finally:
            sock.close()

    async def _knock(self, address: Address) -> None:
        try:
            await self._dht.peers.knock(address)
        except QueryError:
            return

    # -- answering -------------------------------------------------------------------------------------

    async def _listen(self, link: LanLink, scope: trio.CancelScope) -> None:
        """Answer calls on one link until it is gone."""
        with scope:
            while True:
                try:
                    sock = await self._network.listener(link)
                except ListenError:  # another program has the port, or the link has just gone
                    await trio.sleep(ALONE_S)
                    continue
                try:
                    await self._answer(link, sock)
                except trio.ClosedResourceError:
                    await trio.sleep(LINKS_S)
                finally:
                    sock.close()

    async def _answer(self, link: LanLink, sock: DatagramSocket) -> None:
        while True:
            data, source = await sock.receive()
            if link.has(source) and self._answering.admits(source, trio.current_time()):
                await self._dht.answer_open_ping(data, source)


def looks_around(params: NetworkParameters, doors: Sequence[str]) -> bool:
    """Whether a client looks in its local network: of a private network, unless all known of it is on this machine."""
    return params.private and not (doors and all(map(_is_local, doors)))


def _is_local(door: str) -> bool:
    host = door.rpartition(":")[0].strip("[]")
    return host in ("localhost", "::1") or host.startswith("127.")
