"""A real node that strangers on its own machine fill with connections: others get in, and its administrator does."""

import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import trio

from shoal.dht import Address
from shoal.node import Home, Network, Node, NodeSettings, daemon_status, init_node, open_node, stop_daemon
from shoal.node.channel import (
    ByteStream,
    GetHeld,
    HeldShares,
    Occupied,
    PeerError,
    TlsNetwork,
    messages,
    open_connection,
)
from shoal.node.channel.hello import client_hello

NETWORK = Network.parse(b'network = "besieged"\npow_bits = 0\nprivate = true\n', "here")
HELLO = messages.encode_hello(client_hello())
CROWD = 520  # more than there are places for connections of all kinds but newcomers
PER_MINUTE = 2000


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    init_node(Home.at(tmp_path), NodeSettings(listen=(Address("127.0.0.1", 0),)), NETWORK.parameters)
    async with open_node(Home.at(tmp_path), network=NETWORK, serve=True) as node:
        yield node


async def greeted(address: Address) -> ByteStream:
    """A connection that has said hello, and says nothing more."""
    stream = await TlsNetwork().connect(address)
    await stream.send(struct.pack(">II", len(HELLO), 0) + HELLO)
    await stream.receive_into(memoryview(bytearray(1000)))
    return stream


async def asked_when_it_may(address: Address) -> HeldShares:
    """What is held, asked again and again while the crowd, on the same host, has used up what both may connect."""
    with trio.fail_after(10):
        while True:
            try:
                async with open_connection(TlsNetwork(), address) as peer:
                    return await peer.request(GetHeld(bytes(32)), timeout_s=10)
            except Occupied:
                await trio.sleep(0.1)


@asynccontextmanager
async def crowd(address: Address) -> AsyncIterator[None]:
    """So many of them at once, and then a new one every 30 ms: half of them say hello, half do not even shake hands."""
    streams: list[ByteStream | trio.SocketStream] = []

    async def come() -> None:
        with suppress(PeerError):
            streams.append(await greeted(address))

    async def go_on_coming() -> None:
        while True:
            await trio.sleep(2 * 60 / PER_MINUTE)
            await come()
            streams.append(await trio.open_tcp_stream(*address))

    try:
        for _ in range(CROWD // 8):
            async with trio.open_nursery() as nursery:
                for _ in range(8):
                    nursery.start_soon(come)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(go_on_coming)
            yield
            nursery.cancel_scope.cancel()
    finally:
        for stream in streams:
            with trio.CancelScope(shield=True, deadline=0):
                await stream.aclose()


async def test_a_crowd_that_asks_for_nothing_keeps_nobody_out(node: Node, tmp_path: Path) -> None:
    (address,) = node.addresses
    wanted = node.end_wanted()
    async with crowd(address):
        for _ in range(3):
            assert await asked_when_it_may(address) == HeldShares(())
            assert await daemon_status(Home.at(tmp_path), network=NETWORK)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: stop_daemon(Home.at(tmp_path), network=NETWORK))
            with trio.fail_after(10):
                await wanted.wait()
            nursery.cancel_scope.cancel()


async def test_a_flood_of_callers_leaves_the_administrator_a_way(node: Node, tmp_path: Path) -> None:
    """Another program on the machine has spent its share, which is that of the whole machine, and goes on."""
    assert node.serving is not None
    budgets, (address,) = node.serving.budgets, node.addresses
    there = Address("127.0.0.1", 1)
    while budgets.admits_connection(there, trio.current_time()):
        pass
    budgets.account(there, trio.current_time()).may_connect_at += 1.0
    with pytest.raises(PeerError) as caught:
        await TlsNetwork().connect(address)
    assert caught.value.is_busy
    with trio.fail_after(10):
        assert await daemon_status(Home.at(tmp_path), network=NETWORK)
