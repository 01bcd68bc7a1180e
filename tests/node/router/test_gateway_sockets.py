"""A gateway asked by real datagrams: one on loopback that grants, refuses, is silent, or lies."""

import struct
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from random import Random

import pytest
import trio

from shoal.dht import Address
from shoal.node.router import RouterError, RouterRefused
from shoal.node.router.gateway import PAUSES_S, Gateway, NatPmpRouter, PcpRouter

OUTSIDE = bytes([203, 0, 113, 9])
NONCE = bytes(range(12))
Answers = Callable[[bytes], list[bytes]]


class Responder:
    """A router as the RFCs want it, written down apart from the code under test."""

    def __init__(self) -> None:
        self.open: dict[tuple[int, int], tuple[int, int]] = {}  # protocol and inner port: outer port and lease
        self.taken: set[int] = set()  # outer ports that others have
        self.outside = OUTSIDE
        self.outside_ipv6 = bytes(15) + b"\1"  # it changes no address
        self.lease_s = 7200
        self.splits = False  # UDP and TCP get different ports
        self.asked = 0

    def _grant(self, protocol: int, inner: int, outer: int, lease_s: int) -> tuple[int, int]:
        if lease_s == 0:
            self.open.pop((protocol, inner), None)
            return 0, 0
        if (protocol, inner) in self.open:
            outer = self.open[protocol, inner][0]
        while outer in self.taken or (self.splits and protocol == 6):
            outer, self.taken = outer + 1, self.taken - {outer}
            if self.splits:
                break
        self.open[protocol, inner] = outer, min(lease_s, self.lease_s)
        return self.open[protocol, inner]

    def answer(self, request: bytes) -> list[bytes]:
        """What it sends back."""
        self.asked += 1
        if request == b"\0\0":
            return [struct.pack("!BBHI4s", 0, 128, 0, 9, self.outside)]
        if request[0] == 0 and len(request) == 12:
            _, opcode, _, inner, outer, lease_s = struct.unpack("!BBHHHI", request)
            outer, lease_s = self._grant({1: 17, 2: 6}[opcode], inner, outer, lease_s)
            return [struct.pack("!BBHIHHI", 0, 128 + opcode, 0, 9, inner, outer, lease_s)]
        assert request[0] == 2
        assert len(request) == 60
        by_ipv6 = request[8:24] == bytes(15) + b"\1"
        assert by_ipv6 or request[8:24] == bytes(10) + b"\xff\xff\x7f\0\0\1"  # the client's own address
        lease_s = struct.unpack_from("!I", request, 4)[0]
        nonce, protocol, inner, outer = struct.unpack_from("!12sB3xHH", request, 24)
        outer, lease_s = self._grant(protocol, inner, outer, lease_s)
        head = struct.pack("!BBBBII12x", 2, 129, 0, 0, lease_s, 9)
        outside = self.outside_ipv6 if by_ipv6 else bytes(10) + b"\xff\xff" + self.outside
        return [head + struct.pack("!12sB3xHH16s", nonce, protocol, inner, outer, outside)]


@asynccontextmanager
async def gateway(
    answers: Answers, pauses_s: Sequence[float] = PAUSES_S, host: str = "127.0.0.1"
) -> AsyncIterator[Gateway]:
    family = trio.socket.AF_INET6 if ":" in host else trio.socket.AF_INET
    with trio.socket.socket(family, trio.socket.SOCK_DGRAM) as sock:
        await sock.bind((host, 0))

        async def serve() -> None:
            while True:
                request, source = await sock.recvfrom(2048)
                for answer in answers(request):
                    await sock.sendto(answer, source)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            yield Gateway(host, host if ":" in host else None, sock.getsockname()[1], pauses_s)
            nursery.cancel_scope.cancel()


def routers(place: Gateway) -> list[PcpRouter | NatPmpRouter]:
    return [PcpRouter(place, Random(1), NONCE), NatPmpRouter(place, Random(1))]


@pytest.mark.parametrize("which", [0, 1])
async def test_a_port_is_opened_renewed_and_closed(which: int) -> None:
    responder = Responder()
    async with gateway(responder.answer) as place:
        router = routers(place)[which]
        grant = await router.open_port(4750, 4750)
        assert (grant.external, grant.lease_s) == (Address("203.0.113.9", 4750), 3600)
        assert responder.open == {(17, 4750): (4750, 3600), (6, 4750): (4750, 3600)}
        responder.open.clear()  # it has started again, with another address
        responder.outside = bytes([203, 0, 113, 10])
        looked = await router.look(4750, grant)
        assert looked is not None
        assert looked.external == Address("203.0.113.10", 4750)
        assert len(responder.open) == 2
        await router.close_port(4750, looked)
        assert responder.open == {}


@pytest.mark.parametrize("which", [0, 1])
async def test_a_port_that_another_has_gives_another_one_for_both(which: int) -> None:
    responder = Responder()
    responder.taken = {4750, 4751}
    async with gateway(responder.answer) as place:
        grant = await routers(place)[which].open_port(4750, 4750)
    assert grant.external.port == 4752
    assert {outer for outer, _ in responder.open.values()} == {4752}


@pytest.mark.parametrize("which", [0, 1])
async def test_a_router_that_splits_udp_and_tcp_is_left_with_nothing_open(which: int) -> None:
    responder = Responder()
    responder.splits = True
    async with gateway(responder.answer) as place:
        with pytest.raises(RouterRefused, match="different ports"):
            await routers(place)[which].open_port(4750, 4750)
    assert responder.open == {}
    assert responder.asked <= 4 * 4 + 1


@pytest.mark.parametrize(
    ("outside", "lease_s"),
    [(bytes(4), 3600), (bytes([127, 0, 0, 1]), 3600), (bytes([224, 0, 0, 1]), 3600), (OUTSIDE, 5)],
)
async def test_addresses_and_leases_that_cannot_be_are_refused(outside: bytes, lease_s: int) -> None:
    responder = Responder()
    responder.outside, responder.lease_s = outside, lease_s
    async with gateway(responder.answer) as place:
        for router in routers(place):
            with pytest.raises(RouterError):
                await router.open_port(4750, 4750)


@pytest.mark.needs_ipv6
async def test_by_ipv6_a_firewall_is_opened_for_our_own_address_and_no_other() -> None:
    responder = Responder()
    async with gateway(responder.answer, host="::1") as place:
        router = PcpRouter(place, Random(1), NONCE)
        assert (await router.open_port(4750, 4750)).external == Address("::1", 4750)
        assert set(responder.open) == {(17, 4750), (6, 4750)}
        responder.outside_ipv6 = bytes.fromhex("2a05" + "0" * 27 + "9")
        with pytest.raises(RouterError, match="another address"):
            await router.open_port(4750, 4750)


async def test_silence_and_floods_of_nonsense_end_in_time() -> None:
    sent = 0

    def nonsense(request: bytes) -> list[bytes]:
        nonlocal sent
        sent += 1
        return [b"\x02\x81" + bytes(200), b"", Responder().answer(b"\0\0")[0][:-1]] * 20

    silent: Answers = lambda request: []  # noqa: E731
    for answers in (silent, nonsense):
        async with gateway(answers, (0.05, 0.05, 0.05)) as place:
            with trio.fail_after(2):
                for router in routers(place):
                    with pytest.raises(RouterError):
                        await router.open_port(4750, 4750)
    assert sent <= 12


async def test_where_nothing_listens_the_system_says_so_at_once() -> None:
    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as sock:
        await sock.bind(("127.0.0.1", 0))
        free = sock.getsockname()[1]
    with trio.fail_after(1), pytest.raises(RouterError, match="does not answer"):
        await NatPmpRouter(Gateway("127.0.0.1", None, free), Random(1)).open_port(4750, 4750)
