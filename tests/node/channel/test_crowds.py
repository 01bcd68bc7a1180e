"""Peers that take connections and memory and give nothing: what is left for the others."""

import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
import trio
import trio.testing

from shoal.dht import Address, NetworkParameters
from shoal.node.channel import (
    ConnectionSlots,
    GetHeld,
    GetStatus,
    PeerConnection,
    PeerError,
    Read,
    Role,
    open_connection,
)
from shoal.node.channel import messages as m
from shoal.node.channel.certificates import client_context
from shoal.node.channel.hello import client_hello
from shoal.node.channel.memory import MAX_MEMORY_BYTES
from shoal.node.channel.slots import MAX_CONNECTIONS_COUNT, MAX_NEWCOMERS_COUNT
from shoal.node.channel.tls import TlsStream
from shoal.simulation.streams import VirtualStreams

Clock = trio.testing.MockClock
Serve = Callable[..., Awaitable[Any]]
FINE, SLOW = GetHeld(bytes(32)), GetHeld(bytes([4]) * 32)
CALLING = client_context()
READ = Read(bytes(32), 0, 0, 16, True)


def frame(header: bytes) -> bytes:
    return struct.pack(">II", len(header), 0) + header


GREETING = frame(m.encode_hello(client_hello()))


async def test_32_networks_of_one_48_shut_nobody_out(
    autojump_clock: Clock, serve_virtual: Serve, world: VirtualStreams, params: NetworkParameters
) -> None:
    """Each has 16 connections, all of them at work; then somebody from elsewhere asks, and the administrator."""
    served = await serve_virtual(slots=ConnectionSlots())
    async with trio.open_nursery() as nursery:

        async def work(network: Any) -> None:
            with suppress(PeerError):
                async with open_connection(network, served.address) as peer:
                    while True:
                        await peer.request(SLOW, timeout_s=60)

        for number in range(MAX_CONNECTIONS_COUNT):
            nursery.start_soon(work, world.at(f"2a00:1:1:{number % 32:x}::1"))
        await trio.sleep(1)
        for host in ("198.51.100.7", "2a00:2:1::1", "2a00:1:2::1"):
            async with open_connection(world.at(host), served.address) as peer:
                assert await peer.request(FINE, timeout_s=5)
        async with open_connection(world.at("2a00:1:1:1::1"), served.address) as peer:
            await peer.identify(served.identity, params, Role.ADMIN, timeout_s=5)
            assert (await peer.request(GetStatus(), timeout_s=5)).payload == b"fine"
        assert served.server.statistics().connections <= 64 + MAX_NEWCOMERS_COUNT
        nursery.cancel_scope.cancel()


async def connect_with_a_tiny_window(host: str, address: Address) -> TlsStream:
    """A connection from another address of this machine, whose peer may hardly send ahead."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    sock.bind((host, 0))
    sock.setblocking(False)
    with suppress(BlockingIOError):
        sock.connect(tuple(address))
    stream = TlsStream(sock, address, CALLING, None)
    try:
        await stream.handshake()
    except BaseException:
        stream.abort()
        raise
    return stream


async def test_the_kernel_keeps_little_for_a_peer_that_does_not_read(serve_tls: Serve) -> None:
    """Of 4 MiB all but some hundred KiB stay where they count against the peer."""
    served = await serve_tls()
    stream = await connect_with_a_tiny_window("127.0.0.1", served.address)
    await stream.send(GREETING, *(frame(m.encode_request(number, READ)) for number in range(4)))
    with trio.move_on_after(1):
        while served.server.memory.used_bytes < 4 * 2**20:  # noqa: ASYNC110 - no event tells this
            await trio.sleep(0.01)
    await trio.sleep(0.5)
    assert served.server.memory.used_bytes == 4 * 2**20
    stream.abort()


async def read_slowly(host: str, address: Address) -> None:
    """Ask for as much as a connection may, take a few bytes now and then, and come again when it is closed."""
    requests = [frame(m.encode_request(number, READ)) for number in range(8)]
    view = memoryview(bytearray(2000))
    while True:
        with suppress(PeerError):
            stream = await connect_with_a_tiny_window(host, address)
            try:
                await stream.send(GREETING, *requests)
                while await stream.receive_into(view):  # noqa: ASYNC110 - it is slow on purpose
                    await trio.sleep(0.2)
            finally:
                stream.abort()
        await trio.sleep(0.05)


async def read_fast(peer: PeerConnection, count: int) -> None:
    """So many reads of 1 MiB, four at a time; RemoteError when one of them is told that the node is busy."""
    left = iter(range(count))

    async def reader() -> None:
        for _ in left:
            assert len((await peer.request(READ, timeout_s=20)).payload) == 2**20

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(reader)


@pytest.mark.parametrize("attacker", ["127.0.0.2", "127.0.0.1"], ids=["from elsewhere", "from the same host"])
async def test_slow_readers_leave_memory_to_the_fast(serve_tls: Serve, attacker: str) -> None:
    """A third of the memory is all that one host has, and its slowest give way when others of that host wait."""
    served = await serve_tls(slots=ConnectionSlots(private=True))
    async with trio.open_nursery() as nursery, open_connection(served.network, served.address) as peer:
        for _ in range(40):
            nursery.start_soon(read_slowly, attacker, served.address)
        with trio.fail_after(20):
            while served.server.memory.used_bytes < MAX_MEMORY_BYTES / 4:  # noqa: ASYNC110 - no event tells this
                await trio.sleep(0.01)
        with trio.fail_after(60):
            await read_fast(peer, 40)
        assert served.server.memory.used_bytes <= MAX_MEMORY_BYTES / 2
        nursery.cancel_scope.cancel()
