"""Two nodes with one key, as after a backup was restored on a second machine: both notice, and say so."""

import logging
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from kit.worlds import node_id, start_nodes
from shoal.dht import Address, Identity, NetworkParameters, NodeId
from shoal.node.care.problems import Problems
from shoal.node.channel import ByteStream, Dials, LeftAlone
from shoal.node.volunteer.twin import LOOK_EVERY_S, MAX_SUSPECTS, Myself, TwinWatch
from shoal.simulation.streams import VirtualStreams
from shoal.simulation.world import Machine, World, run_world

HOUR_S = 3600.0
BYSTANDER = Address("10.0.0.2", 1)
LIAR = Address("10.0.0.3", 1)


async def start_copy(world: World, original: Machine) -> Machine:
    """Another machine whose home has the key of the first."""
    copy = world.machine("copy")
    shutil.copy(original.home.key_file, copy.home.key_file)
    await world.start("copy")
    assert node_id(copy) == node_id(original)
    return copy


async def problems(machine: Machine) -> list[str]:
    assert machine.node is not None
    status: dict[str, Any] = await machine.node.status()
    return [text for text in status["problems"] if "this node's key" in text]


def test_both_say_so_with_both_addresses(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def story(world: World) -> None:
        await start_nodes(world, 6)
        original = world.machines["node-2"]
        copy = await start_copy(world, original)
        await trio.sleep(HOUR_S)
        for machine in (original, copy):
            (told,) = await problems(machine)
            assert str(original.address) in told
            assert str(copy.address) in told
            assert "Stop one of them" in told
        assert not await problems(world.machines["node-0"])
        warned = [each for each in caplog.records if "this node's key" in each.message]
        assert len(warned) == 2

        await world.stop("copy")
        await trio.sleep(3 * HOUR_S)
        assert not await problems(original)

    with caplog.at_level(logging.WARNING, "shoal.node.volunteer.twin"):
        run_world(71, tmp_path, story)


def test_a_node_that_has_moved_has_no_twin(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await start_nodes(world, 6)
        machine = world.machines["node-2"]
        await world.stop(machine.name)
        world.move(machine)
        await world.start(machine.name)
        await trio.sleep(2 * HOUR_S)
        assert not await problems(machine)

    run_world(72, tmp_path, story)


def test_liars_cannot_invent_a_twin_and_cost_a_call_a_minute(tmp_path: Path) -> None:
    """A liar says that our id is at its own address, at another node's, and at many where nobody is."""

    async def story(world: World) -> None:
        await start_nodes(world, 6)
        victim = world.machines["node-2"]
        assert victim.node is not None
        before = world.streams.statistics().connections
        heard = victim.node.context.dht.peers.on_own_id
        for other in world.running():
            heard(other.address, other.address)
        for _ in range(10):
            for port in range(1, 3 * MAX_SUSPECTS):
                heard(Address("10.8.0.1", port), Address.of(f"10.8.1.{port}", 1))
            await trio.sleep(LOOK_EVERY_S)
        assert not await problems(victim)
        assert world.streams.statistics().connections - before <= 60

    run_world(73, tmp_path, story)


def test_a_liar_that_never_stops_hides_no_twin(tmp_path: Path) -> None:
    """One host invents an address for our id all the time. Within minutes of an honest word the twin is known."""

    async def story(world: World) -> None:
        await start_nodes(world, 6)
        original = world.machines["node-2"]
        assert original.node is not None
        heard, liar = original.node.context.dht.peers.on_own_id, world.machines["node-4"].address

        async def lie() -> None:
            port = 1
            while True:
                port = port % 60_000 + 1
                heard(Address("10.8.0.1", port), liar)
                await trio.sleep(0.5)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(lie)
            await trio.sleep(MAX_SUSPECTS)
            await start_copy(world, original)
            await trio.sleep(HOUR_S)
            assert len(await problems(original)) == 1
            nursery.cancel_scope.cancel()

    run_world(74, tmp_path, story)


@pytest.fixture
async def watched(nursery: trio.Nursery, identity: Identity) -> tuple[TwinWatch, Dials, list[float]]:
    """A node's watch, the budget of its connections, and the times of its calls to a bystander that answers nothing."""
    streams, dials, called_at = VirtualStreams(random.Random(5)), Dials(private=True), list[float]()

    async def accept(stream: ByteStream) -> None:
        called_at.append(trio.current_time())
        stream.abort()

    async def serve(task_status: trio.TaskStatus[Address]) -> None:
        await streams.at(BYSTANDER.host).serve(BYSTANDER, identity, accept, task_status=task_status)

    await nursery.start(serve)
    here = Address("10.0.0.1", 1)
    myself = Myself(identity, NetworkParameters("test", 0, private=True), lambda: "this", lambda: [here])
    watch = TwinWatch(streams.at(here.host), dials, myself, Problems())
    nursery.start_soon(watch.run)
    return watch, dials, called_at


def use_up(dials: Dials) -> int:
    """How many connections to the bystander the budget still allowed."""
    for count in range(100):
        try:
            dials.begin(NodeId(bytes(32)), BYSTANDER)
        except LeftAlone:
            return count
    raise AssertionError("no bound")


async def test_calls_to_suspects_count_among_all_that_bring_no_peer(
    autojump_clock: MockClock, watched: tuple[TwinWatch, Dials, list[float]]
) -> None:
    """A liar has us knock at a bystander in every way that there is: 32 times in ten minutes, as for any host."""
    watch, dials, called_at = watched
    others = 0
    for _ in range(600):
        watch.heard(BYSTANDER, LIAR)
        others += use_up(dials)
        await trio.sleep(1)
    assert 16 <= others + len(called_at) <= 32


async def test_a_suspect_waits_until_its_host_may_be_called_again(
    autojump_clock: MockClock, watched: tuple[TwinWatch, Dials, list[float]]
) -> None:
    watch, dials, called_at = watched
    use_up(dials)
    begun = trio.current_time()
    watch.heard(BYSTANDER, LIAR)
    await trio.sleep(600)
    assert [at - begun for at in called_at] == [pytest.approx(LOOK_EVERY_S, abs=1)]
