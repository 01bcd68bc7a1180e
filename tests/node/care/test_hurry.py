"""Files with little to spare: whole nodes in simulation, whose epochs are days and whose hours count."""

from pathlib import Path

import pytest
import trio

from kit.worlds import Prepared, caretaker_of, fetched, keepers, node_id, prepare, publish, until
from shoal.erasure import FileId
from shoal.node.care.caretaker import GATHER_S
from shoal.node.care.urgency import pause_epochs
from shoal.simulation.world import Machine, World, run_world

MINUTE_S = 60.0
HOUR_S = 3_600.0
DAY_S = 86_400.0


async def lose(world: World, some: list[Machine]) -> None:
    """Machines that die for good, all at once."""
    async with trio.open_nursery() as nursery:
        for machine in some:
            nursery.start_soon(world.retire, machine.name)


async def look(prepared: Prepared, machine: Machine) -> None:
    """One holder looks at the file now."""
    await caretaker_of(machine).look_after([FileId(prepared.published.link.id)])


def is_whole(world: World, prepared: Prepared) -> bool:
    return len(keepers(world, prepared.published)) == prepared.published.n


@pytest.mark.parametrize(
    ("needed", "total", "lost", "within_s"),
    [(4, 12, 7, 45 * MINUTE_S), (4, 12, 8, 10 * MINUTE_S), (1, 3, 2, 10 * MINUTE_S), (2, 6, 3, 45 * MINUTE_S)],
)
def test_a_file_with_little_to_spare_is_made_whole_within_minutes(
    tmp_path: Path, needed: int, total: int, lost: int, within_s: float
) -> None:
    """From the look that finds it. There are hosts enough, and most other peers answer."""

    async def story(world: World) -> None:
        prepared = await prepare(world, total + 8, needed=needed, total=total)
        await lose(world, prepared.holders[:lost])
        await look(prepared, prepared.holders[-1])
        await until(lambda: is_whole(world, prepared), within_s, 10.0)
        assert await fetched(world, prepared.published) == prepared.data

    run_world(61, tmp_path, story)


def test_the_next_in_rank_goes_on_where_the_holder_that_looked_dies(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        prepared = await prepare(world, 20)
        await trio.sleep(2 * GATHER_S)  # until the holders have set their turns
        await lose(world, prepared.holders[:7])
        await look(prepared, prepared.holders[-1])
        await trio.sleep(2 * MINUTE_S)
        await lose(world, prepared.holders[-1:])
        await until(lambda: is_whole(world, prepared), HOUR_S, 30.0)

    run_world(68, tmp_path, story)


def test_turns_find_a_file_with_little_to_spare_and_nobody_has_to_ask_for_it(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        prepared = await prepare(world, 20)
        await lose(world, prepared.holders[:7])
        await until(lambda: is_whole(world, prepared), 1.5 * DAY_S + 45 * MINUTE_S, 5 * MINUTE_S)

    run_world(62, tmp_path, story)


def test_the_last_copy_but_one_is_joined_by_others_while_deaths_go_on(tmp_path: Path) -> None:
    """A machine dies each eighth hour for five days, and another comes at once. Every file can be read at the end."""

    async def story(world: World) -> None:
        prepared = await prepare(world, 16)
        for number in range(15):
            await trio.sleep(8 * HOUR_S)
            await lose(world, [world.rng.choice(world.running())])
            doors = [each.address for each in world.running()[:3]]
            await world.start(f"fresh-{number}", doors=doors)
            assert len(keepers(world, prepared.published)) > prepared.published.k
        assert await fetched(world, prepared.published) == prepared.data

    run_world(63, tmp_path, story)


def test_a_node_that_hears_nobody_suspects_its_own_line(tmp_path: Path) -> None:
    """One of three copies is cut off for a day. Its holder does not believe that it is the last."""

    async def story(world: World) -> None:
        prepared = await prepare(world, 8, needed=1, total=3)
        alone = prepared.holders[0]
        world.separate(lambda one, other: (one == alone.host) != (other == alone.host))
        for _ in range(6):
            await look(prepared, alone)
            await trio.sleep(HOUR_S)
        looks = caretaker_of(alone).looks
        assert not looks.mender.busy
        assert len(looks.no_hosts) == 0
        assert looks.mender.moved_bytes == 0
        await trio.sleep(DAY_S - 6 * HOUR_S)
        world.heal()
        await trio.sleep(2 * DAY_S)
        assert caretaker_of(alone).looks.mender.repairs == 0

    run_world(64, tmp_path, story)


def test_surplus_that_returns_is_kept_and_nothing_goes_to_and_fro(tmp_path: Path) -> None:
    """Seven of twelve are away for a day. Their shares are made again; when they are back, all keep what they have."""

    async def story(world: World) -> None:
        prepared = await prepare(world, 20)
        away = prepared.holders[:7]
        for machine in away:
            await world.crash(machine.name)
        await look(prepared, prepared.holders[-1])
        await until(lambda: is_whole(world, prepared), 45 * MINUTE_S, 10.0)
        await trio.sleep(DAY_S)
        for machine in away:
            await world.start(machine.name, doors=[world.running()[0].address])
        repairs = sum(each.serving.care_statistics().repairs for each in world.running())
        await trio.sleep(5 * DAY_S)
        copies = keepers(world, prepared.published)
        assert sum(len(names) for names in copies.values()) == 12 + 7
        assert sum(each.serving.care_statistics().repairs for each in world.running()) == repairs

    run_world(65, tmp_path, story)


def test_a_file_with_enough_to_spare_waits_for_its_holders_as_before(tmp_path: Path) -> None:
    """Five of twelve are away for two days: seven are a comfortable number."""

    async def story(world: World) -> None:
        prepared = await prepare(world, 20)
        for machine in prepared.holders[:5]:
            await world.crash(machine.name)
        await look(prepared, prepared.holders[-1])
        turns = sum(each.serving.care_statistics().turns for each in world.running())
        await trio.sleep(2 * DAY_S)
        for machine in prepared.holders[:5]:
            await world.start(machine.name, doors=[world.running()[0].address])
        await trio.sleep(5 * DAY_S)
        statistics = [each.serving.care_statistics() for each in world.running()]
        assert sum(each.repairs for each in statistics) == 0
        pauses = 2 / pause_epochs(4, 12, 7)  # in two days: seven; each has the looker's look and two of its deputy
        assert sum(each.turns for each in statistics) - turns <= 3 * pauses + 9  # and a turn each day
        assert sorted(each.name for each in world.running() if node_id(each)) == sorted(world.machines)

    run_world(66, tmp_path, story)


def test_a_file_without_hosts_costs_at_most_twice_what_a_whole_one_does(tmp_path: Path) -> None:
    """Four of twelve machines die, and the others keep shares of the file already: there is nobody to repair onto.

    What a network without files costs is taken off. Then newcomers end it.
    """

    def cost(lost: int, files: int) -> int:
        async def story(world: World) -> int:
            for number in range(12):
                await world.start(f"node-{number}")
            await trio.sleep(60)
            prepared = [await publish(world, bytes([number]) * 60_000, needed=4, total=12) for number in range(files)]
            await lose(world, list(world.machines.values())[12 - lost :])
            await trio.sleep(4 * DAY_S)
            before = world.datagrams.statistics().sent
            await trio.sleep(6 * DAY_S)
            sent = world.datagrams.statistics().sent - before
            if lost and files:
                for number in range(4):
                    await world.start(f"fresh-{number}", doors=[world.running()[0].address])
                await until(lambda: all(len(keepers(world, each)) == 12 for each in prepared), 8 * HOUR_S, 600.0)
            return sent

        return run_world(67, tmp_path / f"{lost} {files}", story)

    assert cost(4, 2) - cost(4, 0) <= 2 * (cost(0, 2) - cost(0, 0))
