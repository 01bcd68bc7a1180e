"""The chores of a node that keeps shares, at its slow beat."""

from pathlib import Path
from typing import Any

import pytest
import trio

from shoal.node.store import Limit, StoreFull
from shoal.simulation.world import Clock, Machine, World, run_world

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


@pytest.mark.parametrize("chore", ["note_uptime", "expire"])
def test_a_jump_while_the_disk_is_full_makes_no_upload_older(tmp_path: Path, chore: str) -> None:
    def full(*_: object) -> None:
        raise StoreFull(Limit.DISK, 0, 0)

    async def story(world: World) -> None:
        clock = Clock()
        machine = world.machine("node", clock=clock)
        await world.start("node")
        write(machine)
        store: Any = machine.serving.store
        setattr(store, chore, full)
        object.__setattr__(clock, "ahead_s", YEAR_S)
        await trio.sleep(5 * HOUR_S)
        delattr(store, chore)
        await trio.sleep(8 * HOUR_S)
        assert store.usage().uploads == 1
        await trio.sleep(27 * HOUR_S)
        assert store.usage().uploads == 0

    run_world(72, tmp_path, story)
