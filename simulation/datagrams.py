"""Datagrams in memory: what the DHT's sockets are in a simulated world.

A `VirtualDatagrams` is the world; `at(host)` is what one machine sees of it, a `DatagramNetwork`. It delays,
loses, duplicates and reorders datagrams and cuts hosts off from each other; every choice comes from one seeded
generator. No task is ever started for a datagram under way: a courier puts it into its receiver's queue in time.
"""

import random
from collections import deque
from collections.abc import Callable
from functools import partial

import trio

from shoal.dht import Address, DatagramSocket, ListenError
from shoal.simulation.courier import Courier
from shoal.simulation.nat import HOME_HOST, Routers
from shoal.values import dataclass

# Datagrams a socket holds, under way and unread together; more are lost. As many full ones as fit into the 2 MiB
# that a real socket asks for.
QUEUE_DATAGRAMS = 1_700
FIRST_FREE_PORT = 49_152  # of the range for sockets that bind port 0
LAST_FREE_PORT = 65_535

Separated = Callable[[str, str], bool]
"""Whether nothing passes from the first host to the second. It need not be symmetric."""


@dataclass(frozen=True, slots=True)
class Weather:
    """How a network treats each datagram, independently of all others.

    latency_s: least and most of the delay; as each datagram draws its own, close ones overtake each other.
    loss, duplication: probabilities.    late: probability of being held back by up to late_s seconds more.
    """

    latency_s: tuple[float, float] = (0.005, 0.05)
    loss: float = 0.0
    duplication: float = 0.0
    late: float = 0.0
    late_s: float = 2.0


@dataclass(frozen=True, slots=True)
class DatagramStatistics:
    """Counted since the beginning. lost: by weather, partition, full queue or for want of a receiver."""

    sent: int
    sent_bytes: int
    lost: int
    duplicated: int


class VirtualDatagrams:
    """All datagram sockets of a simulated world."""

    def __init__(self, rng: random.Random, weather: Weather | None = None, courier: Courier | None = None) -> None:
        self.weather = weather or Weather()  # may be replaced at any time
        self._rng = rng
        self._courier = courier or Courier()
        self._sockets: dict[Address, VirtualSocket] = {}
        self._separated: Separated = _never_separated
        self.routers = Routers()
        self._sent = self._sent_bytes = self._lost = self._duplicated = 0

    def at(self, *hosts: str) -> "VirtualDatagramNetwork":
        """The network as the machine with these IP addresses (one, or one per family) sees it."""
        return VirtualDatagramNetwork(self, hosts)

    def separate(self, separated: Separated) -> None:
        """From now on nothing is sent from one host to another where this is true, until `heal` or the next
        call. What is under way arrives.
        """
        self._separated = separated

    def heal(self) -> None:
        """End all partitions."""
        self._separated = _never_separated

    def kill(self, host: str) -> None:
        """Close every socket of a host, as its kernel does when the process dies."""
        for socket in [each for place, each in self._sockets.items() if place.host == host]:
            socket.close()

    def statistics(self) -> DatagramStatistics:
        """A snapshot of the counters."""
        return DatagramStatistics(self._sent, self._sent_bytes, self._lost, self._duplicated)

    def carry(self, data: bytes, source: Address, destination: Address) -> None:
        """Take one datagram from a socket; it arrives some time later, once, twice or not at all."""
        self._sent += 1
        self._sent_bytes += len(data)
        weather = self.weather
        if self._separated(source.host, destination.host) or self._happens(weather.loss):
            self._lost += 1
            return
        if self.routers.kinds:
            source = self.routers.send(source, destination, trio.current_time())
        self._post(data, source, destination)
        if self._happens(weather.duplication):
            self._duplicated += 1
            self._post(data, source, destination)

    def open(self, place: Address, bound: Address) -> "VirtualSocket":
        """Open a socket at `place`; port 0 takes a free one. Raises ListenError if it is taken."""
        if not place.port:
            place = Address(place.host, self._free_port(place.host))
        elif place in self._sockets:
            raise ListenError(f"cannot listen on {place}: Address already in use")
        socket = VirtualSocket(self, place, Address(bound.host, place.port))
        self._sockets[place] = socket
        return socket

    def forget(self, place: Address) -> None:
        """A socket was closed."""
        self._sockets.pop(place, None)

    def move(self, before: str, host: str) -> None:
        """What is bound to all addresses of a machine is reached at another one from now on."""
        for place, socket in [each for each in self._sockets.items() if each[0].host == before]:
            if socket.address.is_wildcard:
                del self._sockets[place]
                socket.move_to(Address(host, place.port))
                self._sockets[Address(host, place.port)] = socket

    def _post(self, data: bytes, source: Address, destination: Address) -> None:
        weather = self.weather
        delay_s = self._rng.uniform(*weather.latency_s)
        if self._happens(weather.late):
            delay_s += self._rng.uniform(0.0, weather.late_s)
        inner = self.routers.admit(source, destination, trio.current_time() + delay_s)
        receiver = self._sockets.get(inner) if inner is not None else None
        if receiver is None or not receiver.expect():
            self._lost += 1
            return
        arrives_at = self._courier.arrival(trio.current_time() + delay_s)
        self._courier.call_at(arrives_at, partial(receiver.deliver, data, source))

    def _happens(self, probability: float) -> bool:
        return probability > 0.0 and self._rng.random() < probability

    def _free_port(self, host: str) -> int:
        for port in range(FIRST_FREE_PORT, LAST_FREE_PORT + 1):
            if Address(host, port) not in self._sockets:
                return port
        raise ListenError(f"cannot listen on {host}: no free port")


class VirtualDatagramNetwork:
    """A `DatagramNetwork`: one machine's door to the world."""

    def __init__(self, world: VirtualDatagrams, hosts: tuple[str, ...]) -> None:
        self._world = world
        self._hosts = hosts
        self._changed = trio.Event()
        self._is_plugged = True

    async def bind(self, address: Address) -> DatagramSocket:
        """See DatagramNetwork. The wildcard address of a family stands for the machine's own."""
        await trio.lowlevel.checkpoint()
        for host in self._hosts:
            own = Address(host, address.port)
            if own.is_ipv6 == address.is_ipv6 and (address.is_wildcard or own == address):
                return self._world.open(own, address)
        raise ListenError(f"cannot listen on {address}: Cannot assign requested address")

    def local_host(self, *, ipv6: bool, towards: str | None = None) -> str | None:
        """See DatagramNetwork."""
        host = next((host for host in self._hosts if self._is_plugged and (":" in host) == ipv6), None)
        return HOME_HOST if host in self._world.routers.kinds else host

    def unplug(self) -> None:
        """The machine has no address any more, as its system says; what is cut off is the world's to say."""
        self._is_plugged = False
        self.change()

    def plug_in(self) -> None:
        """It has its address again."""
        self._is_plugged = True
        self.change()

    async def wait_for_change(self) -> None:
        """See DatagramNetwork."""
        await self._changed.wait()
        self._changed = trio.Event()

    def change(self) -> None:
        """The system notices that it has slept, or that its address is another one."""
        self._changed.set()

    def move_to(self, host: str) -> None:
        """The machine, or its line, has another address of the same family; sockets that listen on all stay open."""
        for before in [each for each in self._hosts if (":" in each) == (":" in host)]:
            self._world.move(before, host)
        self._hosts = (*(each for each in self._hosts if (":" in each) != (":" in host)), host)


class VirtualSocket:
    """A `DatagramSocket`. When there is nothing to wait for, no other task gets a turn. That halves the cost."""

    def __init__(self, world: VirtualDatagrams, place: Address, bound: Address) -> None:
        self._world = world
        self._place = place
        self._bound = bound
        self._arrived: deque[tuple[bytes, Address]] = deque()
        self._under_way = 0
        self._changed = trio.Event()
        self._closed = False

    @property
    def address(self) -> Address:
        """As bound, like the system's: the wildcard stays the wildcard."""
        return self._bound

    async def send(self, data: bytes, address: Address) -> None:
        """See DatagramSocket."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._closed:
            raise trio.ClosedResourceError("the socket was closed")
        self._world.carry(bytes(data), self._place, address)

    async def receive(self) -> tuple[bytes, Address]:
        """See DatagramSocket. A cancelled receive loses nothing."""
        await trio.lowlevel.checkpoint_if_cancelled()
        while not self._closed:
            if self._arrived:
                return self._arrived.popleft()
            if self._changed.is_set():
                self._changed = trio.Event()
            await self._changed.wait()
        raise trio.ClosedResourceError("the socket was closed")

    def close(self) -> None:
        """See DatagramSocket."""
        self._closed = True
        self._arrived.clear()
        self._world.forget(self._place)
        self._changed.set()

    def move_to(self, place: Address) -> None:
        """It is reached elsewhere from now on."""
        self._place = place

    def expect(self) -> bool:
        """A datagram is under way. False if there is no room for it, and it is lost."""
        if len(self._arrived) + self._under_way >= QUEUE_DATAGRAMS:
            return False
        self._under_way += 1
        return True

    def deliver(self, data: bytes, source: Address) -> None:
        """A datagram that was under way has arrived."""
        self._under_way -= 1
        if not self._closed:
            self._arrived.append((data, source))
            self._changed.set()


def _never_separated(source: str, destination: str) -> bool:
    return False
