"""A small server to talk to, on a real or a virtual network."""

import random

import pytest
import trio

from kit.peers import SERVER_HOST, Serve, Served, make_server
from shoal.dht import Address, Identity, NetworkParameters
from shoal.node.channel import (
    ConnectionSlots,
    TlsNetwork,
)
from shoal.simulation.streams import VirtualStreams


@pytest.fixture
def rng() -> random.Random:
    return random.Random(20)


@pytest.fixture
def params() -> NetworkParameters:
    return NetworkParameters("test", pow_bits=0, private=True)


@pytest.fixture(scope="session")
def identity() -> Identity:
    return Identity.create(0, random.Random(1).randbytes)


@pytest.fixture
def world(rng: random.Random) -> VirtualStreams:
    return VirtualStreams(rng)


@pytest.fixture
def serve_virtual(nursery: trio.Nursery, world: VirtualStreams, identity: Identity, params: NetworkParameters) -> Serve:
    """Start a server in the virtual world."""

    async def serve(slots: ConnectionSlots | None = None, **options: object) -> Served:
        server = make_server(identity, params, **options)
        address = Address(SERVER_HOST, 0)

        async def run(task_status: trio.TaskStatus[Address]) -> None:
            network = world.at(SERVER_HOST)
            await network.serve(address, identity, server.serve_connection, slots=slots, task_status=task_status)

        bound = await nursery.start(run)
        return Served(server, bound, world.at("10.0.0.2"), identity)

    return serve


@pytest.fixture
def serve_tls(nursery: trio.Nursery, identity: Identity, params: NetworkParameters) -> Serve:
    """Start a server on loopback."""

    async def serve(slots: ConnectionSlots | None = None, host: str = "127.0.0.1", **options: object) -> Served:
        server = make_server(identity, params, **options)
        network = TlsNetwork()

        async def run(task_status: trio.TaskStatus[Address]) -> None:
            await network.serve(
                Address(host, 0), identity, server.serve_connection, slots=slots, task_status=task_status
            )

        return Served(server, await nursery.start(run), network, identity)

    return serve
