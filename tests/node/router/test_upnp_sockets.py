"""A UPnP router on loopback over real connections: one as routers are, and some that no router should be."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from random import Random

import pytest
import trio

from shoal.dht import Address
from shoal.node.router import RouterError, RouterRefused
from shoal.node.router.igd import HttpPlace, SoapFault
from shoal.node.router.upnp import EXCHANGE_S, UpnpRouter

Serve = Callable[[trio.SocketStream], Awaitable[None]]
KIND = "urn:schemas-upnp-org:service:WANIPConnection:1"
DESCRIPTION = (
    "<root><device><serviceList><service><serviceType>" + KIND + "</serviceType><controlURL>/ctl</controlURL>"
    "</service></serviceList></device></root>"
)


class Device:
    """A router's list of ports, and its habits."""

    def __init__(self) -> None:
        self.entries: dict[tuple[int, str], dict[str, str]] = {}
        self.outside = "203.0.113.9"
        self.only_permanent = False
        self.tells_entries = True
        self.overwrites = False  # lets one machine take what another has, as many do
        self.refuses_tcp = False

    def act(self, action: str, given: dict[str, str]) -> dict[str, str] | int:
        """The reply's values, or the number of an error."""
        if action == "GetExternalIPAddress":
            return {"NewExternalIPAddress": self.outside}
        key = int(given["NewExternalPort"]), given["NewProtocol"]
        if action == "GetSpecificPortMappingEntry":
            return (self.entries.get(key) or 714) if self.tells_entries else 401
        if action == "DeletePortMapping":
            return {} if self.entries.pop(key, None) else 714
        if self.only_permanent and given["NewLeaseDuration"] != "0":
            return 725
        if self.refuses_tcp and key[1] == "TCP":
            return 501
        before = self.entries.get(key)
        if before and before["NewInternalClient"] != given["NewInternalClient"] and not self.overwrites:
            return 718
        self.entries[key] = given
        return {}

    async def serve(self, stream: trio.SocketStream) -> None:
        """One HTTP request, read without mercy for what is not as it should be."""
        data = b""
        while b"\r\n\r\n" not in data:
            data += await stream.receive_some(4096)
        head, _, body = data.partition(b"\r\n\r\n")
        size = int(re.search(rb"(?i)content-length: (\d+)", head)[1])  # type: ignore[index]
        while len(body) < size:
            body += await stream.receive_some(4096)
        if head.startswith(b"GET /root.xml HTTP/1.1"):
            await respond(stream, "200 OK", DESCRIPTION)
            return
        assert head.startswith(b"POST /ctl HTTP/1.1")
        action = re.search(rf'SOAPAction: "{KIND}#(\w+)"', head.decode())[1]  # type: ignore[index]
        given = dict(re.findall(r"<(New\w+)>([^<]*)</", body.decode()))
        done = self.act(action, given)
        if isinstance(done, int):
            text = f"<s:Fault xmlns:s='x'><UPnPError><errorCode>{done}</errorCode></UPnPError></s:Fault>"
            await respond(stream, "500 Internal Server Error", text)
        else:
            values = "".join(f"<{name}>{value}</{name}>" for name, value in done.items())
            await respond(stream, "200 OK", f"<u:{action}Response xmlns:u='{KIND}'>{values}</u:{action}Response>")


async def respond(stream: trio.SocketStream, status: str, text: str) -> None:
    await stream.send_all(f"HTTP/1.1 {status}\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode())


@asynccontextmanager
async def listening(serve: Serve, exchange_s: float = EXCHANGE_S) -> AsyncIterator[UpnpRouter]:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")

    async def one(stream: trio.SocketStream) -> None:
        try:
            async with stream:
                await serve(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, one, listeners)
        place = HttpPlace("127.0.0.1", listeners[0].socket.getsockname()[1], "/root.xml")
        yield UpnpRouter(place, Random(1), exchange_s=exchange_s)
        nursery.cancel_scope.cancel()


def other(device: Device, outer: int, protocol: str) -> dict[str, str]:
    """Have another machine of the home hold a port."""
    entry = {"NewInternalClient": "192.168.1.77", "NewInternalPort": "80", "NewLeaseDuration": "0"}
    device.entries[outer, protocol] = entry
    return entry


async def test_a_port_is_opened_watched_and_closed() -> None:
    device = Device()
    async with listening(device.serve) as router:
        grant = await router.open_port(4750, 4750)
        assert (grant.external, grant.lease_s) == (Address("203.0.113.9", 4750), 3600)
        assert set(device.entries) == {(4750, "UDP"), (4750, "TCP")}
        assert device.entries[4750, "TCP"]["NewInternalClient"] == "127.0.0.1"
        assert await router.look(4750, grant) == grant
        device.outside = "203.0.113.10"
        looked = await router.look(4750, grant)
        assert looked is not None
        assert looked.external.host == "203.0.113.10"
        del device.entries[4750, "UDP"]
        assert await router.look(4750, grant) is None
        await router.close_port(4750, grant)
        assert device.entries == {}


@pytest.mark.parametrize("protocol", ["UDP", "TCP"])
async def test_the_port_of_another_machine_is_never_taken_nor_closed(protocol: str) -> None:
    device = Device()
    device.overwrites = True
    entry = other(device, 4750, protocol)
    async with listening(device.serve) as router:
        grant = await router.open_port(4750, 4750)
        assert grant.external.port != 4750
        assert device.entries[4750, protocol] == entry
        theirs = other(device, grant.external.port, protocol)
        assert await router.look(4750, grant) is None
        await router.close_port(4750, grant)
        assert device.entries == {(4750, protocol): entry, (grant.external.port, protocol): theirs}


async def test_a_router_without_leases_opens_the_port_until_it_is_closed() -> None:
    device = Device()
    device.only_permanent = True
    async with listening(device.serve) as router:
        assert (await router.open_port(4750, 4750)).lease_s == 0


async def test_a_router_that_cannot_tell_its_list_is_believed() -> None:
    device = Device()
    device.tells_entries = False
    async with listening(device.serve) as router:
        grant = await router.open_port(4750, 4750)
        assert await router.look(4750, grant) == grant


async def test_half_a_mapping_is_taken_back() -> None:
    device = Device()
    device.refuses_tcp = True
    async with listening(device.serve) as router:
        with pytest.raises(SoapFault):
            await router.open_port(4750, 4750)
    assert device.entries == {}


@pytest.mark.parametrize("outside", ["", "0.0.0.0", "127.0.0.1", "fe80::1", "<a>", "1.2.3.4.5", "255.255.255.255"])
async def test_an_address_outside_that_cannot_be_opens_nothing(outside: str) -> None:
    device = Device()
    device.outside = outside
    async with listening(device.serve) as router:
        with pytest.raises(RouterError):
            await router.open_port(4750, 4750)
    assert device.entries == {}


async def test_all_ports_taken_is_a_refusal() -> None:
    class Full(Device):
        def act(self, action: str, given: dict[str, str]) -> dict[str, str] | int:
            return 718 if action == "AddPortMapping" else super().act(action, given)

    async with listening(Full().serve) as router:
        with pytest.raises(RouterRefused, match="taken"):
            await router.open_port(4750, 4750)


async def endless(stream: trio.SocketStream) -> None:
    await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        await stream.send_all(b"<a>" * 20_000)


async def endless_head(stream: trio.SocketStream) -> None:
    await stream.send_all(b"HTTP/1.1 200 OK\r\n")
    while True:
        await stream.send_all(b"X: " + b"y" * 1000 + b"\r\n")


async def lying_about_length(stream: trio.SocketStream) -> None:
    await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n<a/>")


async def chunks_without_end(stream: trio.SocketStream) -> None:
    await stream.send_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        await stream.send_all(b"4\r\n<a/>\r\n" * 5000)


async def no_http(stream: trio.SocketStream) -> None:
    await stream.send_all(b"SSH-2.0-OpenSSH_9.2\r\n")


async def nothing(stream: trio.SocketStream) -> None:
    await trio.lowlevel.checkpoint()


async def redirect(stream: trio.SocketStream) -> None:
    await stream.send_all(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n")


@pytest.mark.parametrize(
    "serve", [endless, endless_head, lying_about_length, chunks_without_end, no_http, nothing, redirect]
)
async def test_answers_of_no_router_end_at_once(serve: Serve) -> None:
    async with listening(serve) as router:
        with trio.fail_after(EXCHANGE_S / 2), pytest.raises(RouterError):
            await router.open_port(4750, 4750)


async def test_a_router_that_sends_a_byte_at_a_time_is_given_up() -> None:
    """A library for this waits for the next byte for ever, in a thread that nobody can end."""

    async def trickling(stream: trio.SocketStream) -> None:
        await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            await stream.send_all(b" ")
            await trio.sleep(0.2)

    async with listening(trickling, 0.5) as router:
        with trio.fail_after(EXCHANGE_S), pytest.raises(RouterError, match="does not answer"):
            await router.open_port(4750, 4750)
