"""A share that its own holder finds damaged or lost is made again where it was promised."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from kit.worlds import fetched, prepare, shares_of, until
from shoal.erasure import FileId
from shoal.node.store.errors import ManifestDamaged
from shoal.node.store.store import DATABASE_NAME
from shoal.simulation.world import Machine, World, run_world

EPOCH_S = 3600.0
K, N = 4, 12
LARGE, SMALL = 400_000, 3000  # shares in files; in the database


def rot(machine: Machine, share: int, size: int) -> None:
    """Flip one bit of its only share."""
    if size == LARGE:
        (path,) = machine.disk.files()
        machine.disk.flip_bit(path, 12_345)
        return
    database = machine.disk.open_database(machine.home.store_folder / DATABASE_NAME)
    ((data,),) = database.execute("SELECT data FROM shares WHERE share_number = ?", (share,)).fetchall()
    database.execute("UPDATE shares SET data = ? WHERE share_number = ?", (bytes([data[0] ^ 1]) + data[1:], share))


def lose(machine: Machine) -> None:
    """Somebody removes the file of its only share."""
    (path,) = machine.disk.files()
    machine.disk.unlink(path)


def states(machine: Machine) -> tuple[int, int, int]:
    """Shares that are whole, damaged, lost."""
    health = machine.serving.store.health()
    return health.whole, health.damaged, health.lost


def block(machine: Machine, file_id: bytes, share: int) -> bytes:
    return bytes(machine.serving.store.read(file_id, share, 0, 1, True).blocks)


def find_damage(machine: Machine) -> None:
    """Have the store read all its shares now, and not when their turn comes."""
    machine.serving.store.scrub(0.0, 1 << 30)
    assert states(machine) == (0, 1, 0)


async def made_again(machine: Machine, most_epochs: float) -> None:
    """Wait until it has made its share again. How long it was known to be damaged may be shorter than any look here."""
    await until(lambda: machine.serving.care_statistics().rebuilt_shares > 0, most_epochs * EPOCH_S, EPOCH_S / 8)
    assert states(machine) == (1, 0, 0)


def tries(world: World) -> int:
    """How often nodes have tried to mend a share of their own."""
    found = 0
    for machine in world.running():
        own: Any = machine.serving.caretaker
        found += sum(count for count, _ in own.own_shares.tried.values())
    return found


@pytest.mark.parametrize(("harm", "size"), [("rot", LARGE), ("rot", SMALL), ("loss", LARGE)])
def test_a_share_that_the_scrub_finds_damaged_or_lost_is_made_again_where_it_was(
    tmp_path: Path, harm: str, size: int
) -> None:
    async def story(world: World) -> None:
        published, data, holders = await prepare(world, 14, size)
        file_id, victim = published.link.id, holders[2]
        good, lease = block(victim, file_id, 2), victim.serving.store.held(file_id)[0].lease_end
        if harm == "rot":
            rot(victim, 2, size)
        else:
            lose(victim)
        await made_again(victim, 2)
        assert shares_of(victim, file_id) == [2]
        assert block(victim, file_id, 2) == good
        assert victim.serving.store.held(file_id)[0].lease_end >= lease
        assert [shares_of(each, file_id) for each in holders] == [[share] for share in range(N)]
        care = victim.serving.care_statistics()
        assert (care.repairs, care.rebuilt_shares) == (1, 1)
        assert care.repair_bytes >= len(good)
        assert victim.serving.store.usage().uploads == 0
        assert victim.serving.store.health().quarantined == (harm == "rot" and size == LARGE)
        assert tries(world) == 1
        await trio.sleep(2 * EPOCH_S)
        assert sum(each.serving.care_statistics().rebuilt_shares for each in world.running()) == 1
        for each in holders[:2] + holders[3 + K - 1 :]:  # it is read when it is needed
            await world.crash(each.name)
        assert await fetched(world, published, through=victim.name) == data

    run_world(71, tmp_path, story, epoch_s=EPOCH_S)


def test_the_holder_of_a_share_made_again_looks_after_the_file_as_before(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        published, _, holders = await prepare(world, 14, LARGE)
        victim = holders[5]
        rot(victim, 5, LARGE)
        await made_again(victim, 2)
        before = victim.serving.care_statistics().turns
        await until(lambda: victim.serving.care_statistics().turns > before, 40 * EPOCH_S, EPOCH_S / 8)
        others: Any = holders[0].serving.known_holders
        known = await others.known(FileId(published.link.id))
        assert 5 in {each.share for each in known if each.contact.address.host == victim.host}

    run_world(72, tmp_path, story, epoch_s=EPOCH_S)


def test_a_damaged_share_is_made_again_behind_a_low_cap(tmp_path: Path) -> None:
    """Care has a quarter of it: a block of each share takes many seconds, and no holder is to blame for that."""

    async def story(world: World) -> None:
        _, _, holders = await prepare(world, 14, LARGE)
        victim = holders[3]
        await world.stop(victim.name)
        victim.settings = replace(victim.settings, down_bytes_per_s=80_000)
        await world.start(victim.name)
        rot(victim, 3, LARGE)
        await until(lambda: tries(world) > 0, 2 * EPOCH_S, EPOCH_S / 8)
        await until(lambda: states(victim) == (1, 0, 0), 0.5 * EPOCH_S, EPOCH_S / 8)
        assert victim.serving.care_statistics().rebuilt_shares == 1

    run_world(73, tmp_path, story, epoch_s=EPOCH_S)


def test_while_fewer_than_k_others_answer_a_damaged_share_is_seldom_tried_and_made_later(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        published, _, holders = await prepare(world, 14, LARGE)
        victim, away = holders[0], holders[K:]
        for each in away:
            await world.crash(each.name)
        rot(victim, 0, LARGE)
        await trio.sleep(8 * EPOCH_S)
        assert states(victim) == (0, 1, 0)
        assert 1 <= tries(world) <= 4  # after 0, 1, 3 and 7 epochs
        assert victim.serving.care_statistics().repair_bytes == 0
        assert victim.serving.store.usage().uploads == 0
        for each in away:
            await world.start(each.name)
        await until(lambda: states(victim) == (1, 0, 0), 9 * EPOCH_S, EPOCH_S / 8)
        assert shares_of(victim, published.link.id) == [0]

    run_world(73, tmp_path, story, epoch_s=EPOCH_S)


def test_a_share_that_others_have_made_again_meanwhile_is_not_made_twice(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        published, _, holders = await prepare(world, 16, LARGE)
        file_id, victim = published.link.id, holders[0]
        rot(victim, 0, LARGE)
        find_damage(victim)
        async with world.client("helper", through=holders[1].name) as client:
            assert (await client.repair(published.link)).rebuilt == (0,)
        assert states(victim) == (0, 1, 0)  # with this seed another host was asked to keep it
        await trio.sleep(2 * EPOCH_S)
        assert tries(world) >= 1
        assert shares_of(victim, file_id) == []
        assert victim.serving.care_statistics().repair_bytes == 0
        assert victim.serving.store.usage().uploads == 0

    run_world(80, tmp_path, story, epoch_s=EPOCH_S)


def test_a_holder_that_dies_while_it_makes_its_share_again_makes_it_after_its_start(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        published, _, holders = await prepare(world, 14, 8 * LARGE)
        victim = holders[0]
        (path,) = victim.disk.files()
        victim.disk.flip_bit(path, 12_345)
        find_damage(victim)
        await until(lambda: victim.serving.store.usage().upload_bytes > 0, 1.5 * EPOCH_S, 0.02)
        await world.crash(victim.name)
        await world.start(victim.name)
        assert states(victim) == (0, 1, 0)
        assert victim.serving.store.usage().upload_bytes == 0
        await until(lambda: states(victim) == (1, 0, 0), 1 * EPOCH_S, EPOCH_S / 8)
        assert shares_of(victim, published.link.id) == [0]

    run_world(78, tmp_path, story, epoch_s=EPOCH_S)


def test_a_share_whose_lease_is_over_is_not_made_again(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        _, _, holders = await prepare(world, 14, LARGE)
        victim = holders[0]
        victim.disk.open_database(victim.home.store_folder / DATABASE_NAME).execute("UPDATE shares SET lease_end = 1")
        rot(victim, 0, LARGE)
        await trio.sleep(2 * EPOCH_S)
        assert states(victim) == (0, 1, 0)
        assert victim.serving.care_statistics().repair_bytes == 0

    run_world(75, tmp_path, story, epoch_s=EPOCH_S)


def test_a_disk_without_room_is_asked_again_later(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        _, _, holders = await prepare(world, 14, LARGE)
        victim = holders[0]
        victim.disk.total_bytes = 10_000
        rot(victim, 0, LARGE)
        await trio.sleep(2 * EPOCH_S)
        assert states(victim) == (0, 1, 0)
        assert victim.serving.care_statistics().repair_bytes == 0  # nothing was fetched for nothing
        victim.disk.total_bytes = 1 << 40
        await until(lambda: states(victim) == (1, 0, 0), 5 * EPOCH_S, EPOCH_S / 8)

    run_world(76, tmp_path, story, epoch_s=EPOCH_S)


def spoil_manifest(machine: Machine) -> None:
    """Flip one bit of the only manifest in the database."""
    database = machine.disk.open_database(machine.home.store_folder / DATABASE_NAME)
    ((manifest,),) = database.execute("SELECT manifest FROM files").fetchall()
    database.execute("UPDATE files SET manifest = ?", (bytes([manifest[0] ^ 1]) + manifest[1:],))


def test_a_damaged_manifest_ends_no_node_and_comes_back_with_the_share(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        published, data, holders = await prepare(world, 14, LARGE)
        victim = holders[0]
        spoil_manifest(victim)
        with pytest.raises(ManifestDamaged):
            victim.serving.store.manifest(published.link.id)
        care: Any = victim.serving.caretaker
        assert await care.read_all([FileId(published.link.id)]) == []
        await made_again(victim, 45)
        assert victim.running
        assert victim.serving.store.manifest(published.link.id) is not None
        assert await fetched(world, published, through=victim.name) == data

    run_world(77, tmp_path, story, epoch_s=EPOCH_S)


def test_on_a_public_network_a_large_share_of_our_own_is_no_strangers(tmp_path: Path) -> None:
    """A stranger may send a tenth of the free space a day; this share is more than that."""

    async def story(world: World) -> None:
        _, _, holders = await prepare(world, 14, LARGE)
        victim = holders[0]
        usage = victim.serving.store.usage()
        victim.disk.total_bytes -= usage.free_disk_bytes - usage.reserve_bytes - 2 * LARGE // K
        assert victim.serving.store.usage().available_bytes == 2 * LARGE // K
        rot(victim, 0, LARGE)
        await made_again(victim, 7)

    run_world(78, tmp_path, story, epoch_s=EPOCH_S, private=False)
