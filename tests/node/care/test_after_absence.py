"""A holder that comes back after a long absence makes itself known again."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import trio

from kit import worlds
from shoal.dht import Address, DhtService
from shoal.erasure import FileId
from shoal.node.care.after_absence import TRIES
from shoal.node.care.caretaker import Caretaker
from shoal.node.care.comparing import ListComparison
from shoal.node.care.findings import WatchedFile
from shoal.node.store import StoreError
from shoal.simulation.world import Machine, World, run_world

DAY_S = 86400.0
EPOCH_S = 3600.0
K, N = 3, 6


def known_to(machine: Machine, other: Machine, file_id: bytes) -> bool:
    assert other.node is not None
    now = machine.clock.read()
    kept = machine.serving.store.statements(file_id)
    return any(each.holder_id == other.node.node_id and each.expires > now for each in kept)


async def prepare(world: World) -> tuple[FileId, Machine, list[Machine]]:
    """A published file of K of N, one of its holders, and the others."""
    published, _, _ = await worlds.prepare(world, N, 20_000, needed=K, total=N)
    await trio.sleep(60)
    one, *others = world.machines.values()
    return FileId(published.link.id), one, others


@pytest.fixture
def no_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody learns or tells anything in looks."""

    async def nothing(self: Caretaker, files: list[FileId]) -> None:
        pass

    monkeypatch.setattr(Caretaker, "look_after", nothing)


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


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Whose holders others were asked for, each time: file ids."""
    files: list[bytes] = []
    rejoin = ListComparison.rejoin

    async def noted(self: ListComparison, file: WatchedFile) -> bool:
        files.append(file.file_id)
        return await rejoin(self, file)

    monkeypatch.setattr(ListComparison, "rejoin", noted)
    return files


@pytest.mark.usefixtures("no_looks")
@pytest.mark.parametrize(
    ("known_days", "away_days", "times"),
    [(0.0, 2.0, 0), (3.5, 1.5, 0), (4.5, 1.5, 1), (0.0, 3.0, 1)],
    ids=["told lately", "good for a while", "about to end", "away too long to believe it"],
)
def test_nobody_is_asked_while_what_the_others_were_told_is_good(
    tmp_path: Path, asked: list[bytes], known_days: float, away_days: float, times: int
) -> None:
    async def story(world: World) -> None:
        file_id, away, others = await prepare(world)
        await trio.sleep(3 * 3600 + known_days * DAY_S)  # when it was up last is noted every two hours
        assert all(known_to(machine, away, file_id) for machine in others)
        for machine in others:
            forget(machine, away, file_id)
        await world.stop(away.name)
        await trio.sleep(away_days * DAY_S)
        await world.start(away.name, doors=[others[0].address])
        await trio.sleep(3 * 3600)
        assert all(known_to(machine, away, file_id) == bool(times) for machine in others)
        assert asked == [file_id] * times
        await world.stop(away.name)  # what they were told now need not be told again
        await world.start(away.name, doors=[others[0].address])
        await trio.sleep(2 * 3600)
        assert len(asked) == times

    run_world(13, tmp_path, story)


@pytest.mark.usefixtures("no_looks")
def test_a_holder_that_has_moved_tells_the_others_at_once(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        file_id, moved, others = await prepare(world)
        await world.stop(moved.name)
        world.move(moved)
        await world.start(moved.name, doors=[others[0].address])
        await trio.sleep(2 * 3600)
        for machine in others:
            statements = await machine.serving.known_holders.known(file_id)
            assert moved.address in [each.address for each in statements]

    run_world(14, tmp_path, story)


@pytest.mark.usefixtures("no_looks")
def test_so_does_one_whose_line_gets_another_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new, moved = Address("10.9.9.9", 4000), set[int]()
    own_addresses = DhtService.own_addresses

    def addresses(self: DhtService) -> tuple[Address, ...]:
        return (new,) if id(self) in moved else own_addresses(self)

    monkeypatch.setattr(DhtService, "own_addresses", addresses)

    async def story(world: World) -> None:
        file_id, one, others = await prepare(world)
        await trio.sleep(DAY_S)
        node: Any = one.node
        moved.add(id(node.context.dht))
        await trio.sleep(3 * 3600)
        for machine in others:
            statements = await machine.serving.known_holders.known(file_id)
            assert new in [each.address for each in statements]

    run_world(17, tmp_path, story)


@pytest.mark.usefixtures("no_looks")
@pytest.mark.parametrize(("hearing", "times"), [(5, 1), (1, 2)], ids=["all", "one of five"])
def test_it_need_not_be_told_again_once_most_have_heard_it(
    tmp_path: Path, asked: list[bytes], hearing: int, times: int
) -> None:
    async def story(world: World) -> None:
        _, away, others = await prepare(world)
        await trio.sleep(3.2 * DAY_S)
        await world.stop(away.name)
        await trio.sleep(3 * DAY_S)
        for machine in others[hearing:]:
            await world.stop(machine.name)
        for _ in range(2):
            await world.start(away.name, doors=[others[0].address])
            await trio.sleep(3 * 3600)
            await world.stop(away.name)
        assert len(asked) == times

    run_world(15, tmp_path, story)


@pytest.mark.usefixtures("no_looks")
def test_it_waits_until_it_knows_its_own_address(
    tmp_path: Path, asked: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As behind a router, or where it listens on all addresses."""
    own_addresses, is_known = DhtService.own_addresses, True

    def addresses(self: DhtService) -> tuple[Address, ...]:
        return own_addresses(self) if is_known else ()

    monkeypatch.setattr(DhtService, "own_addresses", addresses)

    async def story(world: World) -> None:
        nonlocal is_known
        file_id, away, others = await prepare(world)
        await world.stop(away.name)
        await trio.sleep(10 * DAY_S)
        is_known = False
        await world.start(away.name, doors=[others[0].address])
        await trio.sleep(10 * 3600)
        assert asked == []
        is_known = True
        await trio.sleep(2 * 3600)
        assert asked == [file_id]
        for machine in others:
            statements = await machine.serving.known_holders.known(file_id)
            assert away.address in [each.address for each in statements]

    run_world(16, tmp_path, story)


@pytest.mark.usefixtures("no_looks")
def test_it_tells_them_later_where_it_finds_nobody_at_first(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        file_id, away, others = await prepare(world)
        await world.stop(away.name)
        await trio.sleep(10 * DAY_S)
        world.separate(lambda one, other: away.host in (one, other))
        await world.start(away.name, doors=[others[0].address])
        await trio.sleep(3 * 3600)
        world.heal()
        await trio.sleep(4 * 3600)
        assert all(known_to(machine, away, file_id) for machine in others)

    run_world(9, tmp_path, story)


@pytest.mark.usefixtures("no_looks")
def test_where_nobody_is_left_it_gives_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried_at: list[float] = []
    rejoin = ListComparison.rejoin

    async def noted(self: ListComparison, file: WatchedFile) -> bool:
        tried_at.append(trio.current_time())
        return await rejoin(self, file)

    monkeypatch.setattr(ListComparison, "rejoin", noted)

    async def story(world: World) -> None:
        _, left, others = await prepare(world)
        for machine in world.machines.values():
            await world.stop(machine.name)
        await trio.sleep(3 * DAY_S)
        await world.start(left.name, doors=[others[0].address])
        await trio.sleep(10 * DAY_S)

    run_world(11, tmp_path, story)
    pauses = [later - at for at, later in itertools.pairwise(tried_at)]
    assert len(tried_at) == TRIES
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
        assert await care.read_all([file_id]) == []
        assert care.turns.knows(file_id)
        assert len(await care.read_all([file_id])) == 1

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
    with store.database.transaction() as transaction:
        transaction.run("DELETE FROM statements WHERE file_id = ? AND holder_id = ?", file_id, other.node.node_id)
