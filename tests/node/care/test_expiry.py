"""A lease that nobody renews ends: the shares go, and nothing points to them any more."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import trio

from shoal.erasure import FileId
from shoal.node.announcers import CLASSES, class_key
from shoal.node.simulation.world import World, run_world

DAY_S = 86_400.0
NODES = 8


async def content() -> AsyncIterator[bytes]:
    yield b"for a day"


def announcing(world: World, file_id: FileId) -> int:
    """How many announcements of a file the machines keep alive."""
    keys = {class_key(file_id, number) for number in range(CLASSES)}
    nodes: list[Any] = [machine.node for machine in world.running()]
    return sum(key in keys for node in nodes for _, key in node._context.dht._announcer._kept)


async def expiring(world: World) -> None:
    for number in range(NODES):
        await world.start(f"node-{number}")
    await trio.sleep(60)
    async with world.client("publisher") as client:
        published = await client.publish(content(), needed=2, total=6, ttl_s=int(DAY_S))
        lasting = await client.publish(content(), needed=2, total=8)  # over it the clocks are compared all the while
    file_id = FileId(published.link.id)
    await trio.sleep(14 * DAY_S)
    assert sum(len(machine.serving.store.held(file_id)) for machine in world.running()) == 6
    assert announcing(world, file_id) == 6
    await trio.sleep(3 * DAY_S)
    assert not any(machine.serving.store.held(file_id) for machine in world.running())
    assert announcing(world, file_id) == 0
    assert announcing(world, FileId(lasting.link.id)) == 6


def test_what_has_expired_is_dropped_and_announced_no_longer(tmp_path: Path) -> None:
    run_world(3, tmp_path, expiring, epoch_s=DAY_S / 6)
