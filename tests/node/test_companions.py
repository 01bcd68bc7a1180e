"""What a holder takes up again after a start from its own disk, and what it learns from others' lists."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import trio

from shoal.erasure import FileId
from shoal.node import Published
from shoal.node.simulation.world import Machine, World, run_world
from shoal.node.statements import pack_statements
from shoal.node.store import KeptStatement

EPOCH_S = 3600.0
DAY_S = 86400.0


async def chunks(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def prepare(world: World, nodes: int) -> tuple[Published, list[Machine]]:
    """A published file of 4 of 12 and its holders by share."""
    for number in range(nodes):
        await world.start(f"node-{number}")
    await trio.sleep(60)
    async with world.client("publisher") as client:
        published = await client.publish(chunks(b"kept"), needed=4, total=12)
    by_host = {machine.host: machine for machine in world.machines.values()}
    return published, [by_host[address.host] for _, address in sorted(published.holders.items())]


def test_what_is_announced_after_a_start_is_what_was_announced_before(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        published, holders = await prepare(world, 14)
        file_id = FileId(published.link.id)
        await trio.sleep(60)
        announcers = 0
        for machine in holders:
            companions: Any = machine.serving.companions
            shares, others = companions._apart(await companions.known(file_id))
            expected = companions._announcements(file_id, shares, others)
            assert companions._announcements_as_kept(file_id) == expected
            announcers += bool(expected)
            await world.crash(machine.name)
            await world.start(machine.name)
            node: Any = machine.node
            await trio.sleep(1)
            kept = {key: item.announcement for (_, key), item in node._context.dht._announcer._kept.items()}
            assert kept == {each.key: each for each in expected.values()}
        assert announcers >= 6

    run_world(71, tmp_path, story, epoch_s=EPOCH_S)


def test_a_statement_damaged_on_disk_is_left_out_and_harms_no_other(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        published, holders = await prepare(world, 14)
        file_id = FileId(published.link.id)
        await trio.sleep(60)
        machine = next(each for each in holders if announced(each, file_id))
        store: Any = machine.serving.store
        kept: list[KeptStatement] = store.statements(file_id)
        store.statements = lambda file_id: [replace(kept[0], statement=b"\x00"), *kept[1:]]
        assert len(announced(machine, file_id)) >= 1

    run_world(72, tmp_path, story, epoch_s=EPOCH_S)


def test_what_a_holder_says_of_itself_waits_for_all_to_hear_unless_it_is_new_or_about_to_end(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        published, (here, there, *_) = await prepare(world, 14)
        file_id = FileId(published.link.id)
        learning: Any = here.serving.companions
        saying: Any = there.serving.companions
        assert there.node is not None
        its_id = there.node.node_id

        def kept() -> bytes:
            return next(each.statement for each in here.serving.store.statements(file_id) if each.holder_id == its_id)

        async def hear(*, as_list: bool, lease_end: int | None = None) -> bytes:
            (held,) = there.serving.store.held(file_id)
            held = held if lease_end is None else replace(held, lease_end=lease_end)
            said: bytes = saying.own(file_id, held).signed
            await learning.learn(file_id, pack_statements([said]), said_by=its_id if as_list else None)
            return said

        await trio.sleep(60)
        first = kept()
        await trio.sleep(2 * DAY_S)
        assert await hear(as_list=True) != kept() == first
        renewed = await hear(as_list=True, lease_end=there.serving.store.held(file_id)[0].lease_end + 1)
        assert kept() == renewed != first
        await trio.sleep(60)
        assert await hear(as_list=False) == kept() != renewed
        await trio.sleep(5.6 * DAY_S)
        assert await hear(as_list=True) == kept()

    run_world(73, tmp_path, story, epoch_s=1000 * DAY_S)  # nobody looks


def announced(machine: Machine, file_id: FileId) -> dict[int, Any]:
    companions: Any = machine.serving.companions
    found: dict[int, Any] = companions._announcements_as_kept(file_id)
    return found
