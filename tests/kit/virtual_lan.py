"""Local networks in memory: what is called out on one reaches every node that listens there."""

from shoal.dht import Address, DatagramSocket, LanLink
from shoal.simulation.datagrams import VirtualDatagramNetwork, VirtualDatagrams

PORT = 4749
GROUP = Address("239.255.71.71", PORT)
NETWORK = "10.0.0.0/24"


class VirtualLans:
    """All calls of one world. `calls` counts them."""

    def __init__(self, world: VirtualDatagrams) -> None:
        self.world = world
        self.listening: set[str] = set()
        self.calls = 0

    def at(self, host: str) -> "VirtualLan":
        """The local network as one machine sees it."""
        return VirtualLan(self, host, self.world.at(host))

    def call(self, data: bytes, source: Address) -> None:
        self.calls += 1
        for host in sorted(self.listening):
            self.world.carry(data, source, Address(host, PORT))


class VirtualLan:
    """A `LanNetwork` with one link, until the machine is unplugged."""

    def __init__(self, lans: VirtualLans, host: str, network: VirtualDatagramNetwork) -> None:
        self.group = {False: GROUP}
        self._lans = lans
        self._host = host
        self._network = network
        self.is_plugged = True

    def links(self) -> tuple[LanLink, ...]:
        return (LanLink(self._host, 1, (NETWORK,)),) if self.is_plugged else ()

    async def caller(self, link: LanLink) -> DatagramSocket:
        return _Socket(self._lans, await self._network.bind(Address(link.host, 0)))

    async def listener(self, link: LanLink) -> DatagramSocket:
        self._lans.listening.add(link.host)
        return await self._network.bind(Address(link.host, PORT))


class _Socket:
    """Sends to the group as the system does: to everybody."""

    def __init__(self, lans: VirtualLans, inner: DatagramSocket) -> None:
        self._lans = lans
        self._inner = inner

    @property
    def address(self) -> Address:
        return self._inner.address

    async def send(self, data: bytes, address: Address) -> None:
        if address == GROUP:
            self._lans.call(data, self._inner.address)
        else:
            await self._inner.send(data, address)

    async def receive(self) -> tuple[bytes, Address]:
        return await self._inner.receive()

    def close(self) -> None:
        self._inner.close()
