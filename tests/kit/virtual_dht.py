"""A virtual datagram network, cheap signatures, and services made from a seed."""

import heapq
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import trio
from blake3 import blake3

from shoal.dht import Address, DhtService, Identity, NetworkParameters
from shoal.dht.errors import ListenError

HOST_OPTIONS = ("knows_itself", "interface")
QUEUE = 2_000  # datagrams a virtual socket holds unread


class CheapSignatures:
    """Stands in for Ed25519 where hundreds of thousands of signatures are needed. Anyone could forge these."""

    def public_key(self, secret: bytes) -> bytes:
        return blake3(b"public" + secret).digest()

    def sign(self, secret: bytes, message: bytes) -> bytes:
        return self._signature(self.public_key(secret), message)

    def verify(self, public_key: bytes, message: bytes, signature: bytes) -> bool:
        return signature == self._signature(public_key, message)

    def _signature(self, public_key: bytes, message: bytes) -> bytes:
        return blake3(public_key + message).digest(length=64)


@dataclass
class VirtualSocket:
    """`place` is where it is; `address` is what it says of itself."""

    network: "VirtualNetwork"
    place: Address
    address: Address
    inbox: Any = None

    def __post_init__(self) -> None:
        self._send, self.inbox = trio.open_memory_channel(QUEUE)

    async def send(self, data: bytes, address: Address) -> None:
        await trio.lowlevel.checkpoint()
        if self.network.sockets.get(self.place) is not self:
            raise trio.ClosedResourceError("closed")
        self.network.carry(data, self.place, address)

    async def receive(self) -> tuple[bytes, Address]:
        received: tuple[bytes, Address] = await self.inbox.receive()
        return received

    def deliver(self, data: bytes, source: Address) -> None:
        try:
            self._send.send_nowait((data, source))
        except (trio.WouldBlock, trio.BrokenResourceError):
            self.network.lost += 1

    def close(self) -> None:
        self.network.sockets.pop(self.place, None)
        self.inbox.close()


@dataclass
class VirtualHost:
    """One machine: what is bound to the wildcard address is reached at its own.

    knows_itself: sockets say where they are reached. Real ones do not: they say that they are bound to the wildcard.
    interface: the address that the system names as the machine's own.
    """

    network: "VirtualNetwork"
    ip: str
    knows_itself: bool = True
    interface: str | None = None

    def local_host(self, *, ipv6: bool, towards: str | None = None) -> str | None:
        return None if self.interface is None or (":" in self.interface) != ipv6 else self.interface

    async def wait_for_change(self) -> None:
        await trio.sleep_forever()

    async def bind(self, address: Address) -> VirtualSocket:
        await trio.lowlevel.checkpoint()
        host = self.ip if address.is_wildcard else address.host
        if address.is_ipv6 != (":" in self.ip):
            raise ListenError("this host has one family only")
        port = address.port or self.network.free_port(host)
        place = Address.of(host, port)
        if place in self.network.sockets:
            raise ListenError(f"{place} is in use")
        said = place if self.knows_itself else Address(address.host, place.port)
        self.network.sockets[place] = VirtualSocket(self.network, place, said)
        return self.network.sockets[place]


@dataclass
class VirtualNetwork:
    """Carries datagrams with loss, delay and duplication from a seed. `cut` holds unreachable IPs."""

    rng: Random
    loss: float = 0.0
    duplication: float = 0.0
    delay_s: tuple[float, float] = (0.001, 0.02)
    sockets: dict[Address, VirtualSocket] = field(default_factory=dict)
    cut: set[str] = field(default_factory=set)
    sent: list[tuple[Address, Address, int]] = field(default_factory=list)
    tap: Callable[[bytes, Address, Address], None] | None = None
    lost: int = 0

    def __post_init__(self) -> None:
        self._queue: list[tuple[float, int, bytes, Address, Address]] = []
        self._count = 0
        self._more = trio.Event()

    def host(self, ip: str, *, knows_itself: bool = True, interface: str | None = None) -> VirtualHost:
        return VirtualHost(self, ip, knows_itself, interface)

    def free_port(self, host: str) -> int:
        return next(port for port in range(4000, 60000) if Address.of(host, port) not in self.sockets)

    def carry(self, data: bytes, source: Address, destination: Address) -> None:
        self.sent.append((source, destination, len(data)))
        if self.tap is not None:
            self.tap(data, source, destination)
        if self.rng.random() < self.loss or source.host in self.cut or destination.host in self.cut:
            self.lost += 1
            return
        for _ in range(1 + (self.rng.random() < self.duplication)):
            self._count += 1
            at = trio.current_time() + self.rng.uniform(*self.delay_s)
            heapq.heappush(self._queue, (at, self._count, data, source, destination))
        self._more.set()

    async def run(self) -> None:
        while True:
            self._more = trio.Event()
            now = trio.current_time()
            while self._queue and self._queue[0][0] <= now:
                _, _, data, source, destination = heapq.heappop(self._queue)
                if destination in self.sockets:
                    self.sockets[destination].deliver(data, source)
            with trio.move_on_at(self._queue[0][0] if self._queue else math.inf):
                await self._more.wait()


@dataclass
class Lab:
    """Makes services on one virtual network, everything from one seed."""

    nursery: trio.Nursery
    network: VirtualNetwork
    params: NetworkParameters
    rng: Random
    scheme: Any
    services: list[DhtService] = field(default_factory=list)
    scopes: dict[DhtService, trio.CancelScope] = field(default_factory=dict)

    def identity(self) -> Identity:
        return Identity.create(self.params.pow_bits, self.rng.randbytes, self.scheme)

    async def node(self, ip: str | None = None, port: int = 4100, **options: Any) -> DhtService:
        """Start a serving node at an address of its own."""
        number = len(self.services) + 1
        default = f"10.{number // 250}.{number % 250}.1" if self.params.private else public_ip(number)
        ip = ip or default
        wildcard = Address("::" if ":" in ip else "0.0.0.0", port)
        return await self._start(ip, listen=[wildcard], **options)

    async def client(self, ip: str = "10.250.0.1", **options: Any) -> DhtService:
        return await self._start(ip, **options)

    async def _start(self, ip: str, **options: Any) -> DhtService:
        options.setdefault("identity", self.identity())
        options.setdefault("wall", lambda: 1.8e9 + trio.current_time())
        service = DhtService(
            self.params,
            options.pop("identity"),
            self.network.host(ip, **{name: options.pop(name) for name in HOST_OPTIONS if name in options}),
            rng=Random(self.rng.random()),
            entropy=self.rng.randbytes,
            **options,
        )
        scope = self.scopes[service] = trio.CancelScope()

        async def run(task_status: trio.TaskStatus[None]) -> None:
            with scope:
                await service.run(task_status=task_status)

        await self.nursery.start(run)
        self.services.append(service)
        return service

    def stop(self, service: DhtService) -> None:
        self.scopes[service].cancel()

    async def grid(self, count: int, **options: Any) -> list[DhtService]:
        """`count` nodes that have all joined through the first."""
        nodes = [await self.node(**options) for _ in range(count)]
        for node in nodes[1:]:
            await node.bootstrap([nodes[0].addresses[0]])
            await node.wait_joined(60)  # where datagrams are lost the first three may all be
        await trio.sleep(60)
        return nodes


def public_ip(number: int) -> str:
    """Addresses of which no two share a /16."""
    return f"{20 + number // 200}.{number % 200 + 10}.7.9"
