"""What a holder takes up again after a start from its own disk."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from kit.worlds import prepare
from shoal.dht import Announcement, RecordKey
from shoal.erasure import FileId
from shoal.node.holders.announcers import CLASSES, class_key
from shoal.node.store import DatabaseFailed, KeptStatement
from shoal.simulation.world import Machine, World, run_world

EPOCH_S = 3600.0


def test_what_is_announced_after_a_start_is_what_was_announced_before(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        published, _, holders = await prepare(world, 14, b"kept")
        file_id = FileId(published.link.id)
        await trio.sleep(60)
        announcers = 0
        for machine in holders:
            announces = machine.serving.announcing
            statements = await machine.serving.known_holders.known(file_id)
            expected = announces.of_statements(file_id, statements)
            assert announces.as_kept(file_id) == expected
            announcers += bool(expected)
            await world.crash(machine.name)
            await world.start(machine.name)
            await trio.sleep(1)
            assert announcing(machine) == {each.key: each for each in expected.values()}
        assert announcers >= 6

    run_world(71, tmp_path, story, epoch_s=EPOCH_S)


def test_a_statement_damaged_on_disk_is_left_out_and_harms_no_other(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        published, _, holders = await prepare(world, 14, b"kept")
        file_id = FileId(published.link.id)
        await trio.sleep(60)
        machine = next(each for each in holders if announced(each, file_id))
        store: Any = machine.serving.store
        kept: list[KeptStatement] = store.statements(file_id)
        store.statements = lambda file_id: [replace(kept[0], statement=b"\x00"), *kept[1:]]
        assert len(announced(machine, file_id)) >= 1

    run_world(72, tmp_path, story, epoch_s=EPOCH_S)


def announced(machine: Machine, file_id: FileId) -> dict[int, Announcement]:
    return machine.serving.announcing.as_kept(file_id)


def announcing(machine: Machine) -> dict[RecordKey, Announcement]:
    """What its DHT node keeps announced, by key."""
    assert machine.node is not None
    return {each.key: each for each in machine.node.context.dht.kept_announcements()}


def test_a_store_that_fails_for_a_moment_silences_nobody(tmp_path: Path) -> None:
    """A node that stands in for others stops once the store can tell again what its own duty is."""

    async def story(world: World) -> None:
        published, _, holders = await prepare(world, 14, b"kept")
        file_id = FileId(published.link.id)
        await trio.sleep(60)
        machine = next(each for each in holders if announced(each, file_id))
        announces, node, store = machine.serving.announcing, machine.node, machine.serving.store
        assert node is not None
        duties = announced(machine, file_id)

        def kept() -> set[RecordKey]:
            return set(announcing(machine))

        def fail(file_id: bytes) -> list[KeptStatement]:
            raise DatabaseFailed("share database: disk I/O error")

        stand_in = replace(duties[min(duties)], key=RecordKey(class_key(file_id, (max(duties) + 1) % CLASSES)))
        node.context.dht.keep_announced([stand_in])
        announces.standing_in[file_id] = float("-inf")
        before = kept()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(store, "statements", fail)
            await announces.review()
        assert kept() == before
        await announces.review()
        assert kept() == {each.key for each in duties.values()} < before
        await announces.review()
        assert not announces.standing_in

    run_world(73, tmp_path, story, epoch_s=EPOCH_S)
