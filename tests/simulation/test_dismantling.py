"""A node that has ended leaves its memory at once, and nothing that others use is taken apart with it."""

import gc
import weakref
from pathlib import Path

import trio

from kit.worlds import caretaker_of
from shoal.simulation.world import World, run_world


async def ending(world: World) -> None:
    for name in ("one", "two", "three"):
        await world.start(name)
    await trio.sleep(30)
    machine = world.machines["three"]
    serving, node = machine.serving, machine.node
    assert node is not None
    parts = [weakref.ref(part) for part in (serving.store, serving.caretaker, node._context.dht._table)]
    del serving, node
    lent = dict(vars(machine.environment))
    gc.disable()
    try:
        await world.stop("three")
        await trio.sleep(1)
        assert [part() for part in parts[::2]] == [None, None]
        caretaker = parts[1]()  # frames of its cancelled tasks may know it: an empty shell
        assert caretaker is None or not vars(caretaker)
    finally:
        gc.enable()
    assert vars(machine.environment) == lent
    await world.start("three")
    await trio.sleep(30)
    assert len(caretaker_of(machine)._context.dht.contacts()) == 2


def test_a_node_that_ended_is_no_garbage(tmp_path: Path) -> None:
    run_world(5, tmp_path, ending)
