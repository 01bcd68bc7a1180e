"""Files that their holders keep alive: whole nodes in simulation, publishers gone, no keys."""

import errno
from pathlib import Path

import trio

from kit.worlds import chunks, fetched, start_nodes
from shoal.node import Published
from shoal.simulation.world import World, run_world

EPOCH_S = 3600.0  # a day of a network that beats faster


async def publish(world: World, size: int) -> tuple[Published, bytes]:
    data = world.rng.randbytes(size)
    async with world.client("publisher") as client:
        return await client.publish(chunks(data)), data


def keepers(world: World, published: Published) -> dict[str, list[int]]:
    """Machine -> the shares of the file that its store holds, running or not."""
    found = {}
    for machine in world.running():
        assert machine.node is not None
        serving = machine.node.serving
        assert serving is not None
        held = [each.share_number for each in serving.store.held(published.link.id)]
        if held:
            found[machine.name] = held
    return found


def test_lost_shares_are_made_again_when_their_holders_stay_away(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await start_nodes(world, 20)
        published, data = await publish(world, 60_000)
        assert (published.k, published.n) == (4, 12)
        victims = list(keepers(world, published))[:4]
        for name in victims:
            await world.crash(name)
        await trio.sleep(2 * EPOCH_S)
        assert len(keepers(world, published)) == 8  # in their grace: nothing is done
        await trio.sleep(6 * EPOCH_S)
        shares = {share for held in keepers(world, published).values() for share in held}
        assert shares == set(range(12))
        assert await fetched(world, published, "reader") == data

    for seed in (1, 2):
        run_world(seed, tmp_path / str(seed), story, epoch_s=EPOCH_S)


def test_holders_that_come_back_in_time_cost_nothing(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await start_nodes(world, 20)
        published, _ = await publish(world, 60_000)
        holders = list(keepers(world, published))
        for name in holders[:5]:
            await world.crash(name)
        await trio.sleep(2 * EPOCH_S)
        for name in holders[:5]:
            await world.start(name)
        await trio.sleep(10 * EPOCH_S)
        assert sorted(keepers(world, published)) == sorted(holders)

    run_world(3, tmp_path, story, epoch_s=EPOCH_S)


def test_a_file_outlives_most_of_its_first_holders(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await start_nodes(world, 24)
        published, data = await publish(world, 60_000)
        for _ in range(3):
            for name in list(keepers(world, published))[:4]:
                await world.crash(name)
            await trio.sleep(7 * EPOCH_S)
        left = {share for held in keepers(world, published).values() for share in held}
        assert left == set(range(12))
        assert await fetched(world, published, "reader") == data

    run_world(4, tmp_path, story, epoch_s=EPOCH_S)


def test_in_an_emergency_a_repair_that_finds_no_hosts_is_tried_again_soon(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await start_nodes(world, 12)
        published, _ = await publish(world, 60_000)
        assert (published.k, published.n) == (4, 12)
        for name in list(keepers(world, published))[:6]:
            await world.crash(name)
        await trio.sleep(6 * EPOCH_S)  # their grace is over, and every machine that is left keeps a share already
        assert len(keepers(world, published)) == 6
        doors = [machine.address for machine in world.running()]
        for number in range(8):
            await world.start(f"fresh-{number}", doors=doors)
        await trio.sleep(EPOCH_S / 10)
        assert {share for held in keepers(world, published).values() for share in held} == set(range(12))

    run_world(1, tmp_path, story, epoch_s=EPOCH_S)


def test_a_full_disk_stops_neither_the_node_nor_the_care_of_its_files(tmp_path: Path) -> None:
    """Seed of a study: a caretaker that could not write down what others stated took the whole node with it."""

    def refuse(operation: str, path: Path) -> None:
        if operation in ("create", "write", "commit"):
            raise OSError(errno.ENOSPC, "No space left on device", str(path))

    async def story(world: World) -> None:
        await start_nodes(world, 16)
        published, data = await publish(world, 60_000)
        full = list(keepers(world, published))[:6]
        for name in full:
            world.machines[name].disk.before = refuse
        await trio.sleep(100 * EPOCH_S)
        assert len(world.running()) == 16
        assert await fetched(world, published, "reader") == data

    run_world(5, tmp_path, story, epoch_s=EPOCH_S)


def test_who_missed_the_statements_of_others_does_not_take_their_shares_for_lost(tmp_path: Path) -> None:
    """Seed of a study: a holder that had been away made the shares again whose new statements it had not heard."""
    day_s = 86_400.0

    async def story(world: World) -> None:
        for number in range(8):
            await world.start(f"node-{number}")
        await trio.sleep(60)
        async with world.client("publisher") as client:
            published = await client.publish(chunks(b"kept"), needed=1, total=6)
        holders = keepers(world, published)
        absent = list(holders)[1]
        await trio.sleep(3.4 * day_s)
        await world.crash(absent)
        await trio.sleep(4.6 * day_s)
        await world.start(absent)
        await trio.sleep(2.4 * day_s)
        assert keepers(world, published) == holders
        assert not any(machine.serving.care_statistics().repairs for machine in world.running())

    run_world(6, tmp_path, story, epoch_s=6 * EPOCH_S)
