"""The network in memory: delays, bounds, partitions, death, and the same story from the same seed."""

import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing

from shoal.dht import Address, Identity
from shoal.node.channel import ByteStream, Disconnected, GetHeld, TimedOut, Unreachable, open_connection
from shoal.node.channel.limits import PATIENCE_S
from shoal.simulation.streams import WINDOW_BYTES, VirtualStreams

Clock = trio.testing.MockClock
Serve = Callable[..., Awaitable[Any]]
FINE = GetHeld(bytes(32))
HOST = "10.0.0.1"


@pytest.fixture
def pair(nursery: trio.Nursery, identity: Identity) -> Callable[[VirtualStreams], Awaitable[Any]]:
    """Both ends of a connection."""

    async def connect(world: VirtualStreams) -> tuple[ByteStream, ByteStream]:
        ends = trio.open_memory_channel[ByteStream](1)

        async def handler(stream: ByteStream) -> None:
            await ends[0].send(stream)
            await trio.sleep_forever()

        async def run(task_status: trio.TaskStatus[Address]) -> None:
            await world.at(HOST).serve(Address(HOST, 0), identity, handler, task_status=task_status)

        caller = await world.at("10.0.0.2").connect(await nursery.start(run))
        return caller, await ends[1].receive()

    return connect


async def test_bytes_take_their_time(autojump_clock: Clock, pair: Any, rng: random.Random, identity: Identity) -> None:
    world = VirtualStreams(rng, latency_s=(0.2, 0.2), bytes_per_s=1000)
    begun = trio.current_time()
    caller, server = await pair(world)
    assert trio.current_time() - begun == pytest.approx(0.8)
    assert (caller.peer_key, server.peer_key) == (identity.public_key, None)
    view = memoryview(bytearray(2000))
    begun = trio.current_time()
    await caller.send(b"a" * 500, b"b" * 500)
    assert await server.receive_into(view) == 500
    assert trio.current_time() - begun == pytest.approx(0.7)
    assert await server.receive_into(view) == 500
    assert trio.current_time() - begun == pytest.approx(1.2)


async def test_the_window_is_bounded(autojump_clock: Clock, pair: Any, world: VirtualStreams) -> None:
    caller, _ = await pair(world)
    await caller.send(bytes(WINDOW_BYTES))
    with trio.move_on_after(PATIENCE_S - 1) as scope:
        await caller.send(b"x")
    assert scope.cancelled_caught
    with pytest.raises(Disconnected):
        await caller.send(b"x")


async def test_a_peer_that_takes_nothing_times_out(autojump_clock: Clock, pair: Any, world: VirtualStreams) -> None:
    caller, _ = await pair(world)
    await caller.send(bytes(WINDOW_BYTES))
    begun = trio.current_time()
    with pytest.raises(TimedOut):
        await caller.send(b"x")
    assert trio.current_time() - begun == pytest.approx(PATIENCE_S)


async def test_what_was_sent_before_the_end_arrives(autojump_clock: Clock, pair: Any, world: VirtualStreams) -> None:
    caller, server = await pair(world)
    await caller.send(b"last")
    await caller.aclose()
    view = memoryview(bytearray(10))
    assert await server.receive_into(view) == 4
    assert await server.receive_into(view) == 0
    with pytest.raises(Disconnected):
        await server.send(b"x")


async def test_a_partition_holds_bytes_up_and_healing_lets_them_through(
    autojump_clock: Clock, serve_virtual: Serve, world: VirtualStreams
) -> None:
    served = await serve_virtual()
    async with open_connection(served.network, served.address) as peer:
        assert await peer.request(FINE, timeout_s=5)
        world.separate(lambda one, other: HOST in (one, other))
        with pytest.raises(TimedOut):
            await peer.request(FINE, timeout_s=5)
        with pytest.raises(Unreachable):
            await served.network.connect(served.address)
        world.heal()
        assert await peer.request(FINE, timeout_s=5)


async def test_death_resets_connections(autojump_clock: Clock, pair: Any, world: VirtualStreams) -> None:
    caller, _ = await pair(world)
    async with trio.open_nursery() as nursery:

        async def receive() -> None:
            with pytest.raises(Disconnected):
                await caller.receive_into(memoryview(bytearray(1)))

        nursery.start_soon(receive)
        await trio.sleep(1)
        world.kill(HOST)


async def test_nobody_listens_after_the_server_has_gone(
    autojump_clock: Clock, world: VirtualStreams, identity: Identity
) -> None:
    async def handler(stream: ByteStream) -> None: ...

    async with trio.open_nursery() as nursery:
        address = await nursery.start(world.at(HOST).serve, Address(HOST, 700), identity, handler)
        with pytest.raises(OSError, match="in use"):
            await world.at(HOST).serve(address, identity, handler)
        nursery.cancel_scope.cancel()
    with pytest.raises(Unreachable):
        await world.at("10.0.0.2").connect(address)


async def test_the_same_seed_tells_the_same_story(
    autojump_clock: Clock, serve_virtual: Serve, world: VirtualStreams
) -> None:
    async def story() -> list[float]:
        world.rng.seed(5)
        begun, times = trio.current_time(), []
        for _ in range(20):
            async with open_connection(served.network, served.address) as peer:
                await peer.request(FINE, timeout_s=5)
            times.append(round(trio.current_time() - begun, 6))
        return times

    served = await serve_virtual()
    assert await story() == await story()


async def test_a_round_trip_is_cheap(autojump_clock: Clock, serve_virtual: Serve) -> None:
    served = await serve_virtual()
    async with open_connection(served.network, served.address) as peer:
        begun = time.process_time()
        for _ in range(500):
            await peer.request(FINE, timeout_s=5)
        assert (time.process_time() - begun) / 500 < 0.002  # measured: see docs/channel.md; here only the order
