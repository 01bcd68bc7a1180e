"""A holder that comes back after a long absence makes itself known again."""

import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio

from shoal.erasure import FileId
from shoal.node.care.acquaintances import Acquaintances
from shoal.node.care.agenda import Errand
from shoal.node.care.caretaker import REUNION_TRIES, Caretaker
from shoal.node.care.rounds import Charge
from shoal.node.simulation.world import Machine, World, run_world
from shoal.node.store import StoreError

DAY_S = 86400.0
EPOCH_S = 3600.0
K, N = 3, 6


async def chunks(data: bytes) -> AsyncIterator[bytes]:
    yield data


def known_to(machine: Machine, other: Machine, file_id: bytes) -> bool:
    assert other.node is not None
    now = machine.clock.read()
    kept = machine.serving.store.statements(file_id)
    return any(each.holder_id == other.node.node_id and each.expires > now for each in kept)


async def prepare(world: World) -> tuple[FileId, Machine, list[Machine]]:
    """A published file of K of N, one of its holders, and the others."""
    for number in range(N):
        await world.start(f"node-{number}")
    await trio.sleep(60)
    async with world.client("publisher") as client:
        published = await client.publish(chunks(world.rng.randbytes(20_000)), needed=K, total=N)
    assert published.complete
    await trio.sleep(60)
    one, *others = world.machines.values()
    return FileId(published.link.id), one, others


@pytest.fixture
def no_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody learns or tells anything in looks."""

    async def nothing(self: Caretaker, files: list[FileId]) -> None:
        pass

    monkeypatch.setattr(Caretaker, "_look_after", nothing)


@pytest.mark.usefixtures("no_looks")
def test_a_holder_that_all_others_have_forgotten_tells_them_when_it_is_back(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        file_id, away, others = await prepare(world)
        await world.stop(away.name)
        await trio.sleep(10 * DAY_S)
        await world.start(away.name, doors=[others[0].address])
        await trio.sleep(2 * 3600)
        assert all(known_to(machine, away, file_id) for machine in others)
        assert all(known_to(away, machine, file_id) for machine in others)

    run_world(7, tmp_path, story)


@pytest.mark.usefixtures("no_looks")
def test_it_tells_them_later_where_it_finds_nobody_at_first(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        file_id, away, others = await prepare(world)
        await world.stop(away.name)
        await trio.sleep(10 * DAY_S)
        for machine in others:
            await world.stop(machine.name)
        await world.start(away.name, doors=[others[0].address])
        await trio.sleep(3 * 3600)
        for machine in others:
            await world.start(machine.name, doors=[others[0].address])
        await trio.sleep(4 * 3600)
        assert all(known_to(machine, away, file_id) for machine in others)

    run_world(9, tmp_path, story)


@pytest.mark.usefixtures("no_looks")
def test_where_nobody_is_left_it_gives_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried_at: list[float] = []
    rejoin = Acquaintances.rejoin

    async def noted(self: Acquaintances, charge: Charge) -> bool:
        tried_at.append(trio.current_time())
        return await rejoin(self, charge)

    monkeypatch.setattr(Acquaintances, "rejoin", noted)

    async def story(world: World) -> None:
        _, left, others = await prepare(world)
        for machine in world.machines.values():
            await world.stop(machine.name)
        await trio.sleep(3 * DAY_S)
        await world.start(left.name, doors=[others[0].address])
        await trio.sleep(10 * DAY_S)

    run_world(11, tmp_path, story)
    pauses = [later - at for at, later in itertools.pairwise(tried_at)]
    assert len(tried_at) == REUNION_TRIES
    assert pauses == sorted(pauses)


def test_a_disk_that_fails_once_takes_no_file_out_of_care(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        file_id, one, _ = await prepare(world)
        store: Any = one.serving.store
        care: Any = one.serving.caretaker
        read = store.manifest

        def fail(file_id: bytes) -> bytes:
            store.manifest = read
            raise StoreError("an error of the disk")

        store.manifest = fail
        assert await care._charges([file_id]) == []
        assert care._agenda.has(Errand.TURN, file_id)
        assert len(await care._charges([file_id])) == 1

    run_world(12, tmp_path, story)


@pytest.mark.usefixtures("no_looks")
def test_so_does_one_whose_clock_tells_only_later_that_it_was_away(tmp_path: Path) -> None:
    """As where a machine slept, or starts with the time at which it was switched off until the network tells it."""

    async def story(world: World) -> None:
        file_id, away, others = await prepare(world)
        object.__setattr__(away.clock, "ahead_s", -3 * DAY_S)
        await trio.sleep(2 * 3600)
        for machine in others:
            forget(machine, away, file_id)
        object.__setattr__(away.clock, "ahead_s", 0.0)
        await trio.sleep(3 * 3600)
        assert all(known_to(machine, away, file_id) for machine in others)

    run_world(10, tmp_path, story)


def test_a_holder_that_is_in_nobodys_list_says_so_when_it_looks_itself(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        file_id, forgotten, others = await prepare(world)
        for machine in others:
            forget(machine, forgotten, file_id)
        assert not any(known_to(machine, forgotten, file_id) for machine in others)
        await trio.sleep(40 * EPOCH_S)
        assert all(known_to(machine, forgotten, file_id) for machine in others)

    run_world(8, tmp_path, story, epoch_s=EPOCH_S)


def forget(machine: Machine, other: Machine, file_id: bytes) -> None:
    assert other.node is not None
    store: Any = machine.serving.store
    with store._database.transaction() as transaction:
        transaction.run("DELETE FROM statements WHERE file_id = ? AND holder_id = ?", file_id, other.node.node_id)
