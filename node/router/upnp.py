"""A router that speaks UPnP-IGD: found by multicast, asked by HTTP. Whatever it sends is bounded in size and time."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from enum import Enum
from random import Random

import h11
import trio

from shoal.dht import Address
from shoal.node.router import igd
from shoal.node.router.gateway import LEAST_PORT, MOST_PORT, UNDO_S
from shoal.node.router.igd import HttpPlace, SoapFault, WanService
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
from shoal.values import dataclass

SEARCH_S = 2.0
SEARCH_AGAIN_S = 0.5  # datagrams get lost
MAX_DEVICES = 4  # of those that answer a search
EXCHANGE_S = 3.0  # for one HTTP request, all in all
MAX_HEAD_BYTES = 8192
NAME = "Shoal"  # what the router shows in its list
_TTL = 2


async def search(first_hosts: Sequence[str], local_host: str | None) -> list[HttpPlace]:
    """The descriptions of routers in this home, those of `first_hosts` first.

    It takes two seconds, or until one of these has answered.
    """
    found: dict[str, HttpPlace] = {}
    try:
        with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as sock:
            sock.setsockopt(trio.socket.IPPROTO_IP, trio.socket.IP_MULTICAST_TTL, _TTL)
            await sock.bind((local_host or "0.0.0.0", 0))
            if local_host is not None:
                interface = trio.socket.inet_aton(local_host)
                sock.setsockopt(trio.socket.IPPROTO_IP, trio.socket.IP_MULTICAST_IF, interface)
            with trio.move_on_after(SEARCH_S):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_call_out, sock)
                    await _listen(sock, found, first_hosts)
                    nursery.cancel_scope.cancel()
    except OSError:
        return []  # no network, or one without multicast
    return sorted(found.values(), key=lambda each: each.host not in first_hosts)


async def _call_out(sock: trio.socket.SocketType) -> None:
    for pause_s in (SEARCH_AGAIN_S, SEARCH_S):
        for target in igd.SEARCHED:
            with suppress(OSError):
                await sock.sendto(igd.search_request(target), igd.GROUP)
        await trio.sleep(pause_s)


async def _listen(sock: trio.socket.SocketType, found: dict[str, HttpPlace], first_hosts: Sequence[str]) -> None:
    """One description for each device, until the best has answered, or so many as are tried."""
    while len(found) < MAX_DEVICES and not any(each in found for each in first_hosts):
        datagram, source = await sock.recvfrom(igd.MAX_DATAGRAM_BYTES + 1)
        with suppress(RouterError):
            found.setdefault(source[0], igd.read_found(datagram, source[0]))


class UpnpRouter:
    """A device that says it is a router. `place`: where it describes itself. `exchange_s`: for each HTTP request."""

    protocol = RouterProtocol.UPNP

    def __init__(
        self, place: HttpPlace, rng: Random, local_host: str | None = None, exchange_s: float = EXCHANGE_S
    ) -> None:
        self._place = place
        self._rng = rng
        self._exchange_s = exchange_s
        self._local_host = local_host
        self._service: WanService | None = None
        self._client = ""  # this machine's address, as the router sees it

    @property
    def host(self) -> str:
        """Its address in the home."""
        return self._place.host

    async def open_port(self, inner: int, outer: int) -> OpenedPort:
        """See Router."""
        host = await self._outside()
        for _ in range(PORT_TRIES):
            external = outside_address(host, outer)
            try:
                return OpenedPort(external, await self._open_both(inner, outer))
            except SoapFault as fault:
                if fault.code not in igd.CONFLICTS:
                    raise
            outer = self._rng.randint(LEAST_PORT, MOST_PORT)
        raise RouterRefused("the outer ports that it was asked for are taken")

    async def look(self, inner: int, grant: OpenedPort) -> OpenedPort | None:
        """See Router. It is asked for the address outside, and for both mappings."""
        external = outside_address(await self._outside(), grant.external.port)
        for transport in Transport:
            if (await self._entry(external.port, transport, inner)).holder in (_Holder.NOBODY, _Holder.ANOTHER):
                return None
        return OpenedPort(external, grant.lease_s)

    async def close_port(self, inner: int, grant: OpenedPort) -> None:
        """See Router. Routers remove what any machine asks them to, so what has become another's is left alone."""
        for transport in Transport:
            if (await self._entry(grant.external.port, transport, inner)).holder is not _Holder.ANOTHER:
                await self._delete(grant.external.port, transport)

    async def _open_both(self, inner: int, outer: int) -> int:
        """Map UDP and TCP, or neither; for how long, 0 for until removed. Many routers let one machine take the port of
        another, so they are asked first.
        """
        for transport in Transport:
            if (await self._entry(outer, transport, inner)).holder is _Holder.ANOTHER:
                raise SoapFault(718)
        try:
            for transport in Transport:
                await self._add(inner, outer, transport)
            lease_s = min([(await self._entry(outer, transport, inner)).lease_s for transport in Transport])
            if 0 < lease_s < LEAST_LEASE_S:
                raise RouterError(f"it opens the port for {lease_s} s only")
        except BaseException:  # also when this node ends meanwhile
            with trio.move_on_after(UNDO_S, shield=True), suppress(RouterError):
                await self.close_port(inner, OpenedPort(Address("0.0.0.0", outer), 0))
            raise
        return min(lease_s, LEASE_S)

    async def _add(self, inner: int, outer: int, transport: Transport) -> None:
        arguments = {
            **_of_port(outer, transport),
            "NewInternalPort": inner,
            "NewInternalClient": self._client,
            "NewEnabled": 1,
            "NewPortMappingDescription": NAME,
            "NewLeaseDuration": LEASE_S,
        }
        try:
            await self._request("AddPortMapping", arguments)
        except SoapFault as fault:
            if fault.code != igd.ONLY_PERMANENT:
                raise
            await self._request("AddPortMapping", {**arguments, "NewLeaseDuration": 0})

    async def _delete(self, outer: int, transport: Transport) -> None:
        arguments = _of_port(outer, transport)
        try:
            await self._request("DeletePortMapping", arguments)
        except SoapFault as fault:
            if fault.code != igd.NO_SUCH_ENTRY:
                raise

    async def _entry(self, outer: int, transport: Transport, inner: int) -> "_Entry":
        """What the router has in its list for an outer port."""
        arguments = _of_port(outer, transport)
        try:
            found = await self._request("GetSpecificPortMappingEntry", arguments)
        except SoapFault as fault:  # some routers cannot tell
            return _Entry(_Holder.NOBODY if fault.code == igd.NO_SUCH_ENTRY else _Holder.UNKNOWN)
        ours = (found.get("NewInternalClient"), found.get("NewInternalPort")) == (self._client, str(inner))
        lease = found.get("NewLeaseDuration", "")
        lease_s = int(lease) if lease.isascii() and lease.isdigit() and len(lease) < 10 else LEASE_S
        return _Entry(_Holder.US if ours else _Holder.ANOTHER, lease_s)

    async def _outside(self) -> str:
        """The router's address outside, as it says. The first request finds the service."""
        if self._service is None:
            await self._describe()
        return (await self._request("GetExternalIPAddress", {})).get("NewExternalIPAddress", "")

    async def _describe(self) -> None:
        """Find the service that maps ports, and is connected: a router may have several."""
        status, document = await self._exchange(self._place, "GET")
        if status != 200:
            raise RouterError(f"it answered with HTTP status {status}")
        services = igd.read_description(document, self._place)
        for service in services:
            self._service = service
            with suppress(RouterError):
                outside_address(await self._outside(), 1)
                return
        self._service = services[0]

    async def _request(self, action: str, arguments: Mapping[str, str | int]) -> dict[str, str]:
        if self._service is None:
            raise RouterError("it has not been asked for its services")
        header, body = igd.soap_request(self._service.kind, action, arguments)
        headers = [("Content-Type", 'text/xml; charset="utf-8"'), ("SOAPAction", header)]
        status, document = await self._exchange(self._service.place, "POST", headers, body)
        return igd.read_reply(status, document, action)

    async def _exchange(
        self, place: HttpPlace, method: str, headers: Sequence[tuple[str, str]] = (), body: bytes = b""
    ) -> tuple[int, bytes]:
        """One HTTP request over a connection of its own: the status and the body.

        :raises RouterError: it failed, took too long, or is too long.
        """
        with trio.move_on_after(self._exchange_s):
            try:
                async with await trio.open_tcp_stream(place.host, place.port, local_address=self._local_host) as stream:
                    self._client = stream.socket.getsockname()[0]
                    return await _converse(stream, place, method, headers, body)
            except (OSError, trio.BrokenResourceError) as error:
                raise RouterError("it takes no connection, or breaks it") from error
            except h11.ProtocolError as error:
                raise RouterError("its answer is not HTTP") from error
        raise RouterError("it does not answer")


def _of_port(outer: int, transport: Transport) -> dict[str, str | int]:
    """What names a mapping in all requests."""
    return {"NewRemoteHost": "", "NewExternalPort": outer, "NewProtocol": transport.name}


class _Holder(Enum):
    """Where an outer port leads."""

    US = 1
    ANOTHER = 2
    NOBODY = 3
    UNKNOWN = 4


@dataclass(frozen=True, slots=True)
class _Entry:
    """A line of the router's list. `lease_s`: what is left; what was asked for where the router does not tell."""

    holder: _Holder
    lease_s: int = LEASE_S


async def _converse(
    stream: trio.SocketStream, place: HttpPlace, method: str, headers: Sequence[tuple[str, str]], body: bytes
) -> tuple[int, bytes]:
    """The status and the body of the answer to one request."""
    http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES)
    fixed = [("Host", f"{place.host}:{place.port}"), ("Connection", "close"), ("Content-Length", str(len(body)))]
    request = http.send(h11.Request(method=method, target=place.path, headers=[*fixed, *headers]))
    sent = [request, http.send(h11.Data(data=body)), http.send(h11.EndOfMessage())]
    await stream.send_all(b"".join(part for part in sent if part))
    status, document = 0, bytearray()
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            http.receive_data(await stream.receive_some(MAX_HEAD_BYTES))
        elif isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            document += event.data
            if len(document) > igd.MAX_DOCUMENT_BYTES:
                raise RouterError(f"it sends more than {igd.MAX_DOCUMENT_BYTES} bytes")
        elif isinstance(event, h11.EndOfMessage):
            return status, bytes(document)
        elif isinstance(event, h11.ConnectionClosed):
            raise RouterError("it broke the connection")
