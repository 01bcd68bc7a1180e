"""Hosts whose address another node has now: they are gone, and nobody has lied."""

from pathlib import Path

import trio

from kit.worlds import prepare
from shoal.simulation.world import World, run_world

N = 6
HEIRS = 2


def test_a_node_that_took_over_an_address_is_not_said_to_have_lied(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        file = await prepare(world, N, needed=2, total=N)
        for dead in file.holders[-HEIRS:]:
            await world.retire(dead.name)
            heir = world.machine(f"heir of {dead.name}")
            world.move(heir, to=dead.host)
            await world.start(heir.name)
        await trio.sleep(1.0)
        async with world.client("publisher") as client:
            checked = await client.check(file.published.link)
            deleted = await client.delete(file.published.link)
        assert (checked.outcomes["ok"], checked.outcomes["offline"]) == (N - HEIRS, HEIRS)
        assert deleted.confirmed == N - HEIRS
        assert deleted.causes == {"silent": HEIRS}

    run_world(1, tmp_path, story)
