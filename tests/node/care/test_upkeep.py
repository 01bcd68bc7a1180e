"""The chores of a node that keeps shares, at its slow beat."""

from pathlib import Path

import pytest
import trio

from shoal.node.simulation.world import Clock, Machine, World, run_world

HOUR_S = 3600.0
YEAR_S = 365 * 86400.0
UPLOAD = bytes(16)


def write(machine: Machine) -> None:
    """The first block of an upload, and a promise that it is safe."""
    store, now = machine.serving.store, machine.environment.wall()
    store.begin(UPLOAD, b"a prefix", 0, now)
    store.write(UPLOAD, 0, [bytes(1000)], [bytes(32)], now)
    store.sync(UPLOAD, now)


@pytest.mark.parametrize("ahead_s", [YEAR_S, -YEAR_S])
def test_an_upload_stays_for_a_day_while_the_clock_jumps_and_jumps_back(tmp_path: Path, ahead_s: float) -> None:
    async def story(world: World) -> None:
        clock = Clock()
        machine = world.machine("node", clock=clock)
        await world.start("node")
        write(machine)
        await trio.sleep(HOUR_S)
        for jump_s in (ahead_s, 0.0):
            object.__setattr__(clock, "ahead_s", jump_s)
            await trio.sleep(8 * HOUR_S)
            assert machine.serving.store.usage().uploads == 1
        await trio.sleep(20 * HOUR_S)
        assert machine.serving.store.usage().uploads == 0

    run_world(71, tmp_path, story)
