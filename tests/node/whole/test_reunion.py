"""Nodes that are found again: after their address has changed, after a sleep, and when a network has healed."""

from pathlib import Path

import pytest
import trio

from kit.worlds import Prepared, fetched, holders, node_id, publish
from shoal.dht import Address
from shoal.simulation.world import Machine, World, run_world

NODES = 12
BOUND_S = 180.0  # noticed within one minute, known to all two minutes later


async def prepare(world: World, *, everywhere: bool = False) -> Prepared:
    for number in range(NODES):
        await world.start(f"node-{number}", everywhere=everywhere)
    await trio.sleep(120)
    data = world.rng.randbytes(60_000)
    published = await publish(world, data, needed=4, total=8)
    await trio.sleep(1800)
    return Prepared(published, data, holders(world, published))


def places(one: Machine, other: Machine) -> list[Address]:
    """Where one machine's table has another."""
    assert one.node is not None
    contacts = one.node.context.dht.contacts()
    return [each.address for each in contacts if each.node_id == node_id(other)]


async def pass_hours(world: World, hours: int) -> None:
    """Let time pass, with a look-up by every node each hour: who is away is missed."""
    for _ in range(hours):
        async with trio.open_nursery() as nursery:
            for machine in world.running():
                assert machine.node is not None
                nursery.start_soon(machine.node.context.dht.find_closest, world.rng.randbytes(32))
        await trio.sleep(3600)


def strangers(world: World) -> list[tuple[str, str]]:
    """Pairs of machines of which the first does not know where the second is now."""
    return [
        (one.name, other.name)
        for one in world.running()
        for other in world.running()
        if one is not other and places(one, other) != [other.address]
    ]


async def check_found(world: World, prepared: Prepared, moved: Machine) -> None:
    """Everybody knows where a holder is, all other holders of its file too, and its share can be fetched."""
    assert strangers(world) == []
    file_id = prepared.published.link.id
    for machine in prepared.holders:
        known = await machine.serving.known_holders.known(file_id)
        assert [each.address for each in known if each.node_id == node_id(moved)] == [moved.address], machine.name
    for machine in [each for each in prepared.holders if each is not moved][3:]:
        await world.stop(machine.name)  # four are left, and all of them are needed
    other = next(each for each in world.running() if each is not moved)
    assert await fetched(world, prepared.published, through=other.name) == prepared.data


@pytest.mark.parametrize("unnoticed", [False, True], ids=["interface", "line"])
def test_an_address_that_changes_is_known_to_all_within_three_minutes(tmp_path: Path, unnoticed: bool) -> None:
    async def story(world: World) -> None:
        prepared = await prepare(world, everywhere=True)
        moved = prepared.holders[0]
        world.readdress(moved, unnoticed=unnoticed)
        await trio.sleep(BOUND_S)
        await check_found(world, prepared, moved)

    run_world(21, tmp_path, story)


@pytest.mark.parametrize("apart", [1, 3, NODES // 2])
def test_a_partition_that_heals_after_hours_is_forgotten_within_three_minutes(tmp_path: Path, apart: int) -> None:
    async def story(world: World) -> None:
        prepared = await prepare(world)
        island = {machine.host for machine in prepared.holders[:apart]}
        world.separate(lambda one, other: (one in island) != (other in island))
        await pass_hours(world, 4)
        assert strangers(world), "nobody missed anybody"
        world.heal()
        await trio.sleep(BOUND_S)
        assert strangers(world) == []
        assert await fetched(world, prepared.published) == prepared.data

    run_world(22, tmp_path, story)


def test_a_machine_that_slept_for_a_night_is_known_again_within_three_minutes(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        prepared = await prepare(world)
        sleeper = prepared.holders[0]
        world.suspend(sleeper)
        await pass_hours(world, 10)
        assert strangers(world), "nobody missed it"
        world.resume(sleeper)
        await trio.sleep(BOUND_S)
        await check_found(world, prepared, sleeper)

    run_world(23, tmp_path, story)
