"""A lease that nobody renews ends: the shares go, and nothing points to them any more."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio

from kit.worlds import caretaker_of
from shoal.erasure import FileId
from shoal.node.holders.announcers import CLASSES, class_key
from shoal.node.store import DiskFailed
from shoal.simulation.world import Machine, World, run_world

DAY_S = 86_400.0
NODES = 8


async def content() -> AsyncIterator[bytes]:
    yield b"for a day"


def announcing(world: World, file_id: FileId) -> int:
    """How many announcements of a file the machines keep alive."""
    keys = {class_key(file_id, number) for number in range(CLASSES)}
    nodes: list[Any] = [machine.node for machine in world.running()]
    return sum(each.key in keys for node in nodes for each in node.context.dht.kept_announcements())


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


async def alone(world: World, files: int) -> tuple[Machine, list[FileId]]:
    """Files for a day, all of them at one machine whose clock is believed."""
    machine = await world.start("node")
    clocks: Any = caretaker_of(machine).clocks
    clocks.agrees = lambda now: True
    await trio.sleep(60)
    async with world.client("publisher") as client:
        published = [await client.publish(content(), needed=1, total=1, ttl_s=int(DAY_S)) for _ in range(files)]
    return machine, [FileId(each.link.id) for each in published]


def test_what_was_dropped_before_the_disk_failed_is_announced_no_longer(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        machine, files = await alone(world, 3)
        store: Any = machine.serving.store
        drop, begun = store.remover.drop_one, list[float]()

        def drop_once_a_beat(*args: Any) -> Any:
            if begun[-1:] == [trio.current_time()]:
                raise DiskFailed("one was enough")
            begun.append(trio.current_time())
            return drop(*args)

        store.remover.drop_one = drop_once_a_beat
        kept = set(range(len(files)))
        while kept:
            await trio.sleep(DAY_S / 24)
            kept = {number for number, file_id in enumerate(files) if store.held(file_id)}
            assert {number for number, file_id in enumerate(files) if announcing(world, file_id)} == kept
        assert len(begun) == len(files)

    run_world(4, tmp_path, story, epoch_s=DAY_S / 6)


@pytest.mark.parametrize("during", ["drop_expired", "scrub"])
def test_a_file_that_comes_back_in_the_same_beat_stays_announced(tmp_path: Path, during: str) -> None:
    async def story(world: World) -> None:
        machine, (file_id,) = await alone(world, 1)
        store: Any = machine.serving.store
        announces: Any = machine.serving.announcing
        node: Any = machine.node
        chore, manifest, share = getattr(store, during), store.manifest(file_id), store.read(file_id, 0, 0, 1, True)
        came: list[float] = []

        def chore_and_commit(*args: Any) -> Any:
            result = chore(*args)
            if not store.held(file_id):
                now = machine.environment.wall()
                store.begin(bytes(16), b"a prefix", 0, now)
                store.write(bytes(16), 0, [share.blocks], [share.data_leaves], now)
                store.commit(bytes(16), 0, manifest, int(now + 90 * DAY_S), now)
                node.context.dht.keep_announced(list(announces.as_kept(file_id).values()))
                came.append(now)
            return result

        setattr(store, during, chore_and_commit)
        await trio.sleep(17 * DAY_S)
        assert len(came) == 1
        assert announcing(world, file_id) == CLASSES

    run_world(5, tmp_path, story, epoch_s=DAY_S / 6)
