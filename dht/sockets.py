"""The sockets of one node: those it listens on, and those it opens only to send from."""

from collections.abc import Sequence

import trio

from shoal.dht.address import Address
from shoal.dht.errors import ListenError
from shoal.dht.transport import DatagramNetwork, DatagramSocket

REOPEN_S = 60.0  # a family that could not be bound (no IPv6 here) is not tried again before this


class SocketSet:
    """Listening sockets, and one ephemeral socket for each address family that has no listening one.

    Nothing is answered on an ephemeral socket, so nothing sent from one may claim to be serving.
    """

    def __init__(self, network: DatagramNetwork) -> None:
        self._network = network
        self._listening: list[DatagramSocket] = []
        self._ephemeral: dict[bool, DatagramSocket] = {}
        self._failed_at: dict[bool, float] = {}
        self._opening = trio.Lock()
        self.addresses: tuple[Address, ...] = ()  # where the listening sockets are bound

    async def listen(self, addresses: Sequence[Address]) -> None:
        """Bind all listen addresses, or none: raises ListenError."""
        try:
            for address in addresses:
                self._listening.append(await self._network.bind(address))
                self.addresses = tuple(sock.address for sock in self._listening)
        except ListenError:
            self.close()
            raise

    @property
    def listening(self) -> tuple[DatagramSocket, ...]:
        """The sockets to serve on."""
        return tuple(self._listening)

    def is_listening(self, sock: DatagramSocket) -> bool:
        return sock in self._listening

    def existing(self, destination: Address) -> DatagramSocket | None:
        """The socket to send to `destination` from, if one is open."""
        if len(self._listening) == 1 and self._listening[0].address.is_ipv6 == destination.is_ipv6:
            return self._listening[0]
        fitting = [sock for sock in self._listening if sock.address.is_ipv6 == destination.is_ipv6]
        if fitting:
            return min(fitting, key=lambda sock: _unfitness(sock.address, destination))
        return self._ephemeral.get(destination.is_ipv6)

    async def open_ephemeral(self, destination: Address) -> DatagramSocket | None:
        """A new ephemeral socket of the destination's family; None when there cannot be one, or one is there
        already."""
        family, now = destination.is_ipv6, trio.current_time()
        async with self._opening:
            if self.existing(destination) or now - self._failed_at.get(family, -REOPEN_S) < REOPEN_S:
                return None
            try:
                sock = await self._network.bind(Address("::" if family else "0.0.0.0", 0))
            except ListenError:
                self._failed_at[family] = now
                return None
            self._ephemeral[family] = sock
            return sock

    def close(self) -> None:
        """Close all; waiting receivers end."""
        for sock in (*self._listening, *self._ephemeral.values()):
            sock.close()
        self._listening.clear()
        self.addresses = ()
        self._ephemeral.clear()


def _unfitness(bound: Address, destination: Address) -> int:
    """0 is best: bound to the destination's own host, then to everything, then by whether both are
    loopback."""
    if bound.host == destination.host:
        return 0
    if bound.is_wildcard:
        return 1
    return 2 if bound.is_loopback == destination.is_loopback else 3
