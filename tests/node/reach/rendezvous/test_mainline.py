"""Nodes without any address find each other: in memory, and through foreign nodes of the Mainline DHT on loopback."""

import os
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import libtorrent
import pytest
import trio
from trio.testing import MockClock

from kit.mainline import MainlineNode, MainlineWorld
from shoal.dht import Address, DhtService, Identity, NetworkParameters, UdpNetwork
from shoal.node import Home, Network, NodeSettings, NoPeers, init_node, open_node, real_environment
from shoal.node.reach.rendezvous.bencode import Value
from shoal.node.reach.rendezvous.mainline import EVERY_S, MainlineRendezvous
from shoal.node.reach.rendezvous.search import MAX_FOUND, MAX_QUERIES
from shoal.simulation.datagrams import VirtualDatagrams

FOREIGN_NODES = 4
PARAMS = NetworkParameters("somewhere", 0, False)


# -- in memory -----------------------------------------------------------------------------------------


class Internet:
    """A Mainline DHT and nodes of ours, at public addresses of one virtual network."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.rng = random.Random(7)
        self.world = VirtualDatagrams(self.rng)
        self.mainline = MainlineWorld(self.rng, 60)
        self.network = Network(PARAMS, (), (str(min(self.mainline.nodes)),))
        self._nursery = nursery

    async def run_mainline(self) -> None:
        for address, node in self.mainline.nodes.items():
            self._nursery.start_soon(self._serve, address, node)
        await trio.sleep(0.1)

    async def _serve(self, address: Address, node: MainlineNode) -> None:
        sock = await self.world.at(address.host).bind(address)
        while True:
            data, source = await sock.receive()
            await sock.send(node.on_datagram(data, source), source)

    async def start(self, number: int, *, serves: bool = True) -> DhtService:
        network = self.world.at(f"9.9.{number}.9")
        dht = DhtService(
            PARAMS,
            Identity.create(0, self.rng.randbytes),
            network,
            listen=[Address("0.0.0.0", 4750)] if serves else [],
            rng=self.rng,
            entropy=self.rng.randbytes,
        )
        await self._nursery.start(dht.run)
        self._nursery.start_soon(MainlineRendezvous(network, dht, self.network, self.rng, has_doors=False).run)
        return dht

    def queries(self) -> int:
        return sum(node.queries for node in self.mainline.nodes.values())


async def all_know(nodes: Sequence[DhtService], count: int, within_s: float) -> None:
    """Wait until each knows so many."""
    with trio.fail_after(within_s):
        while not all(len(node.contacts()) >= count for node in nodes):  # noqa: ASYNC110 (there is no event for it)
            await trio.sleep(0.1)


async def test_three_nodes_and_a_client_meet(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    internet = Internet(nursery)
    await internet.run_mainline()
    nodes = [await internet.start(number) for number in range(3)]
    await all_know(nodes, 2, 60)
    client = await internet.start(9, serves=False)
    await client.wait_joined(10)
    assert not any(contact.node_id == client.identity.node_id for node in nodes for contact in node.contacts())
    await trio.sleep(60)
    before = internet.queries()
    await trio.sleep(EVERY_S / 2)
    assert internet.queries() == before, "those that have met are quiet"


async def test_what_liars_in_mainline_can_have_a_node_send(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    """All nodes of the Mainline DHT name a bystander's ports and network, as peers and as nodes."""
    internet = Internet(nursery)
    await internet.run_mainline()
    sent: Counter[str] = Counter()
    carry = internet.world.carry

    def count(data: bytes, source: Address, destination: Address) -> None:
        sent[destination.host] += destination.host.startswith("77.")
        carry(data, source, destination)

    def lie(node: MainlineNode, arguments: dict[bytes, Value]) -> dict[bytes, Value]:
        rng = random.Random(node.node_id)
        values: list[Value] = [bytes([77, 7, 7, 7]) + rng.randbytes(2) for _ in range(50)]
        nodes = [rng.randbytes(20) + bytes([77, 7, 7, rng.randrange(256)]) + rng.randbytes(2) for _ in range(8)]
        return {b"nodes": b"".join(nodes), b"values": values, b"token": b"t"}

    internet.world.carry = count  # type: ignore[method-assign]
    for node in internet.mainline.nodes.values():
        node.answer = lie
    await internet.start(1)
    await trio.sleep(30)
    first = sum(sent.values())
    assert sum(sent.values()) <= 4 + MAX_FOUND
    assert internet.queries() <= 10 * MAX_QUERIES
    await trio.sleep(600)
    assert sum(sent.values()) - first <= 150


# -- foreign nodes -------------------------------------------------------------------------------------


@pytest.fixture
def routers() -> Iterator[tuple[str, ...]]:
    """A Mainline DHT of libtorrent's nodes on this machine; the address of one."""
    settings: Any = {
        "listen_interfaces": "127.0.0.1:0",
        "enable_lsd": False,
        "enable_upnp": False,
        "enable_natpmp": False,
        "dht_bootstrap_nodes": "",
        "alert_mask": 0,
        # All are at one address, which they would take for an attack.
        "dht_restrict_routing_ips": False,
        "dht_restrict_search_ips": False,
        "dht_prefer_verified_node_ids": False,
        "dht_ignore_dark_internet": False,
    }
    sessions = [libtorrent.session(settings) for _ in range(FOREIGN_NODES)]
    ends_at = time.monotonic() + 10
    while not all(session.is_dht_running() and session.listen_port() for session in sessions):
        assert time.monotonic() < ends_at, "libtorrent did not start"
        time.sleep(0.02)
    for session in sessions:
        for other in sessions:
            session.add_dht_node(("127.0.0.1", other.listen_port()))
    yield (f"127.0.0.1:{sessions[0].listen_port()}",)
    for session in sessions:
        session.pause()


async def test_three_nodes_meet_through_foreign_nodes(routers: tuple[str, ...], tmp_path: Path) -> None:
    """Empty lists, no local network: a node, two more, and a client that knows as little."""
    network = Network(NetworkParameters("rendezvous", 0, True), (), routers)
    settings = NodeSettings(listen=(Address("127.0.0.1", 0),), lan=False)
    async with AsyncExitStack() as stack:
        nodes = []
        for number in range(3):
            home = Home.at(tmp_path / str(number))
            init_node(home, settings, network)
            nodes.append(await stack.enter_async_context(open_node(home, serve=True)))
        await all_know([node.context.dht for node in nodes], 2, 30)
        client = await stack.enter_async_context(
            open_node(tmp_path / "client", network=network, settings=replace(settings, listen=()))
        )
        await client.wait_joined()
        assert await client.publish(b"met", needed=1, total=3)
        other = replace(network, parameters=NetworkParameters("another", 0, True))
        async with open_node(tmp_path / "other", network=other, settings=replace(settings, listen=())) as lost:
            with pytest.raises(NoPeers, match="found in the Mainline DHT"):
                await lost.wait_joined(1)


async def test_a_router_that_nobody_may_ask(nursery: trio.Nursery) -> None:
    """It is on this machine, and the network is a public one: nothing comes of it, and no task ends by it."""
    dht = DhtService(PARAMS, Identity.create(0, os.urandom), UdpNetwork())
    await nursery.start(dht.run)
    network = Network(PARAMS, (), ("[::1]:9", "127.0.0.1:9"))
    env = real_environment()
    with trio.move_on_after(0.5):
        await MainlineRendezvous(env.datagrams, dht, network, env.rng, has_doors=False).run()
    assert not dht.contacts()
