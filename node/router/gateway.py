"""The default gateway, asked by PCP or NAT-PMP: one datagram there, one back, from its address alone."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from random import Random
from typing import TypeVar

import trio

from shoal.dht import Address
from shoal.node.router import natpmp, pcp
from shoal.node.router.transports import Transport
from shoal.node.router.values import (
    LEASE_S,
    LEAST_LEASE_S,
    PORT_TRIES,
    OpenedPort,
    RouterError,
    RouterProtocol,
    RouterRefused,
    outside_address,
)

T = TypeVar("T")

PORT = 5351  # of both protocols
PAUSES_S = (0.25, 0.5, 1.0)  # for an answer, each after sending once more: 1.75 s in all
MAX_STRAYS = 8  # answers to something else that are skipped; more are a flood
LEAST_PORT, MOST_PORT = 20_000, 60_000  # of outer ports that are asked for when the wished one is taken
UNDO_S = 1.0  # for taking back what was asked for, when it is not wanted after all
_BUFFER_BYTES = pcp.MAX_BYTES + 1


class Gateway:
    """Where the router is asked, and from where.

    host: its address, IPv4 or IPv6.    local_host: ours, where there are several; by IPv6 it has to be given.
    pauses_s: for an answer, each after a request.
    """

    def __init__(
        self, host: str, local_host: str | None = None, port: int = PORT, pauses_s: Sequence[float] = PAUSES_S
    ) -> None:
        self.host = host
        self.local_host = local_host
        self._port = port
        self._pauses_s = tuple(pauses_s)

    @property
    def is_ipv6(self) -> bool:
        """Whether it is asked by IPv6."""
        return ":" in self.host

    async def ask(self, request: Callable[[str], bytes], read: Callable[[bytes], T]) -> T:
        """Send a request, made for our address, until `read` takes an answer.

        :raises RouterRefused: the router said no.
        :raises RouterError: no valid answer came in time.
        """
        strays = 0
        try:
            family = trio.socket.AF_INET6 if self.is_ipv6 else trio.socket.AF_INET
            with trio.socket.socket(family, trio.socket.SOCK_DGRAM) as sock:
                if self.local_host is not None:
                    await sock.bind((self.local_host, 0))
                await sock.connect((self.host, self._port))  # the system drops what comes from elsewhere
                datagram = request(sock.getsockname()[0])
                for pause_s in self._pauses_s:
                    await sock.send(datagram)
                    with trio.move_on_after(pause_s):
                        while strays < MAX_STRAYS:
                            answer = await sock.recv(_BUFFER_BYTES)
                            try:
                                return read(answer)
                            except RouterRefused:
                                raise
                            except RouterError:
                                strays += 1
        except OSError as error:
            refused = isinstance(error, ConnectionRefusedError)  # its machine is there, and nothing listens
            raise RouterError("it does not answer" if refused else f"it cannot be asked: {error.strerror}") from error
        raise RouterError("it sends answers that make no sense" if strays else "it does not answer")


class _GatewayRouter(ABC):
    """What both protocols share: one outer port for UDP and TCP."""

    def __init__(self, gateway: Gateway, rng: Random) -> None:
        self._gateway = gateway
        self._rng = rng

    @property
    def host(self) -> str:
        """Its address in the home."""
        return self._gateway.host

    async def open_port(self, inner: int, outer: int) -> OpenedPort:
        """See Router."""
        for _ in range(PORT_TRIES):
            udp = None
            try:
                udp = await self._map(Transport.UDP, inner, outer)
                tcp = await self._map(Transport.TCP, inner, udp.external.port)
            except RouterError:
                if udp is not None:
                    await self._undo(inner)
                raise
            except trio.Cancelled:  # this node ends meanwhile
                await self._undo(inner)
                raise
            if tcp.external == udp.external:
                return OpenedPort(udp.external, min(udp.lease_s, tcp.lease_s))
            await self.close_port(inner, udp)
            outer = self._rng.randint(LEAST_PORT, MOST_PORT)
        raise RouterRefused("it gives UDP and TCP different ports")

    async def _undo(self, inner: int) -> None:
        with trio.move_on_after(UNDO_S, shield=True), suppress(RouterError):
            for transport in Transport:
                await self._unmap(transport, inner)

    async def look(self, inner: int, grant: OpenedPort) -> OpenedPort | None:
        """Renew: three datagrams tell all that there is to know. A router that lost its memory opens the port anew."""
        return await self.open_port(inner, grant.external.port)

    async def close_port(self, inner: int, grant: OpenedPort) -> None:
        """See Router. Each protocol tells a mapping by its inner port."""
        for transport in Transport:
            await self._unmap(transport, inner)

    @abstractmethod
    async def _map(self, transport: Transport, inner: int, outer: int) -> OpenedPort:
        """One transport of one port, for an hour."""

    @abstractmethod
    async def _unmap(self, transport: Transport, inner: int) -> None:
        """Its end."""


class PcpRouter(_GatewayRouter):
    """A gateway that speaks PCP. The nonce shows that an answer is one to us, and that a renewal is ours.

    By IPv6 it changes no address: what it opens is a hole in its firewall, for our own address and port.
    """

    protocol = RouterProtocol.PCP

    def __init__(self, gateway: Gateway, rng: Random, nonce: bytes) -> None:
        super().__init__(gateway, rng)
        self._nonce = nonce

    async def _map(self, transport: Transport, inner: int, outer: int) -> OpenedPort:
        mapped = await self._ask(transport, inner, outer, LEASE_S)
        if not self._gateway.is_ipv6:
            return _granted(outside_address(mapped.host, mapped.outer), mapped.lease_s)
        if (mapped.host, mapped.outer) != (self._gateway.local_host, inner):
            raise RouterError("it names another address than this machine's own")
        return _granted(Address(mapped.host, mapped.outer), mapped.lease_s)

    async def _unmap(self, transport: Transport, inner: int) -> None:
        await self._ask(transport, inner, 0, 0)

    async def _ask(self, transport: Transport, inner: int, outer: int, lease_s: int) -> pcp.PcpMapping:
        return await self._gateway.ask(
            lambda client: pcp.ask_port(self._nonce, client, transport, inner, outer, lease_s),
            lambda answer: pcp.read_port(answer, self._nonce, transport, inner),
        )


class NatPmpRouter(_GatewayRouter):
    """A gateway that speaks NAT-PMP."""

    protocol = RouterProtocol.NAT_PMP

    def __init__(self, gateway: Gateway, rng: Random) -> None:
        super().__init__(gateway, rng)
        self._outside_host = ""

    async def open_port(self, inner: int, outer: int) -> OpenedPort:
        """See Router."""
        self._outside_host = await self._gateway.ask(lambda _: natpmp.ask_address(), natpmp.read_address)
        return await super().open_port(inner, outer)

    async def _map(self, transport: Transport, inner: int, outer: int) -> OpenedPort:
        mapped = await self._ask(transport, inner, outer, LEASE_S)
        return _granted(outside_address(self._outside_host, mapped.outer), mapped.lease_s)

    async def _unmap(self, transport: Transport, inner: int) -> None:
        await self._ask(transport, inner, 0, 0)

    async def _ask(self, transport: Transport, inner: int, outer: int, lease_s: int) -> natpmp.MappedPort:
        return await self._gateway.ask(
            lambda _: natpmp.ask_port(transport, inner, outer, lease_s),
            lambda answer: natpmp.read_port(answer, transport, inner),
        )


def _granted(external: Address, lease_s: int) -> OpenedPort:
    """What the router says that it gave, if it is of use."""
    if lease_s < LEAST_LEASE_S:
        raise RouterError(f"it opens the port for {lease_s} s only")
    return OpenedPort(external, min(lease_s, LEASE_S))
