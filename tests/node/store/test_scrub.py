"""Scrub finds every kind of rot, reads everything in turn however small the steps, and puts aside what is damaged."""

import errno
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from kit import stores
from kit.stores import Place, Published
from shoal.erasure import BLOCK_BYTES
from shoal.node.store import DatabaseFailed, HeldShare, NotHeld, RealDisk, ShareDamaged, ShareStore, scrub_budget_bytes
from shoal.simulation.disk import PowerCut

DAY_S = 86400
ALL = 1 << 40
NODES = 11 + 6 + 3 + 2 + 1  # of one tree over 11 blocks


def test_a_healthy_store_is_read_once(place: Place, small: Published, medium: Published) -> None:
    store = place.open()
    assert store.health().oldest_check is None
    for share in range(3):
        stores.put(store, medium, share)
        stores.put(store, small, share, stores.upload_id(100 + share))
    assert store.health().oldest_check == 0
    report = store.scrub(stores.NOW + 7, ALL)
    assert (report.shares, report.damaged, report.failed) == (6, (), ())
    manifest_bytes = len(medium.encoded)
    frame = 2 * 32 * NODES + manifest_bytes + 128
    assert report.checked_bytes == 3 * (medium.manifest.layout.share_bytes + frame + 1000)
    assert store.health().oldest_check == int(stores.NOW) + 7
    assert store.scrub(stores.NOW, ALL).shares == 6  # the next pass


OFFSETS = {
    "first block": 3,
    "middle block": 5 * BLOCK_BYTES + 1,
    "last block": 10 * BLOCK_BYTES + 776,
    "block leaf": 10 * BLOCK_BYTES + 777 + 32 * 3,
    "inner node": 10 * BLOCK_BYTES + 777 + 32 * 12,
    "root": 10 * BLOCK_BYTES + 777 + 32 * NODES - 1,
    "data leaf": 10 * BLOCK_BYTES + 777 + 32 * NODES,
    "inner data node": 10 * BLOCK_BYTES + 777 + 32 * (NODES + 18),
    "data root": 10 * BLOCK_BYTES + 777 + 32 * 2 * NODES - 1,
    "manifest": 10 * BLOCK_BYTES + 777 + 32 * 2 * NODES + 40,
    "trailer": -100,
    "trailer's end": -1,
}


@pytest.mark.parametrize("region", OFFSETS)
def test_rot_anywhere_in_the_file_is_found(place: Place, medium: Published, region: str) -> None:
    store = place.open()
    stores.put(store, medium, 0)
    stores.put(store, medium, 1)
    path = place.share_path(medium, 0)
    stores.flip(place, path, OFFSETS[region] % place.disk.size(path))
    used = store.usage().share_bytes
    report = store.scrub(stores.NOW, ALL)
    assert report.damaged == ((medium.file_id, 0),) == tuple(store.damaged())
    assert report.shares == 1
    assert [held.share_number for held in store.held(medium.file_id)] == [1]
    assert place.names() == [f"{medium.file_id.hex()}.0.1.damaged", f"{medium.file_id.hex()}.1"]
    assert store.usage().share_bytes == used == stores.used_on_disk(place)
    assert store.scrub(stores.NOW, ALL).damaged == ()
    stores.put(store, medium, 0, stores.upload_id(50))
    stores.check_share(store, medium, 0)
    assert store.usage().share_bytes == stores.used_on_disk(place) > used


def test_rot_in_the_database(place: Place, small: Published, medium: Published) -> None:
    """A small share, or a manifest: every share that needs it is damaged, and stored anew all is well again."""
    store = place.open()
    stores.put(store, small, 0)
    stores.put(store, medium, 0, stores.upload_id(2))
    with store.database.transaction() as transaction:
        transaction.run("UPDATE shares SET data = ? WHERE folder IS NULL", bytes(1000))
        transaction.run("UPDATE files SET manifest = ? WHERE file_id = ?", medium.encoded[:-1], medium.file_id)
    assert sorted(store.scrub(stores.NOW, ALL).damaged) == sorted([(small.file_id, 0), (medium.file_id, 0)])
    assert store.files() == []
    stores.put(store, small, 0, stores.upload_id(50))
    stores.put(store, medium, 0, stores.upload_id(51))
    stores.check_share(store, small, 0)
    stores.check_share(store, medium, 0)


def test_a_file_cut_short_or_gone(tmp_path: Path, medium: Published) -> None:
    place = stores.Place(RealDisk(), tmp_path / "store")
    store = place.open()
    for share in range(3):
        stores.put(store, medium, share)
    path, gone = place.share_path(medium, 0), place.share_path(medium, 1)
    path.write_bytes(path.read_bytes()[:-5000])
    gone.rename(tmp_path / "aside")
    assert store.scrub(stores.NOW, ALL).damaged == ((medium.file_id, 0), (medium.file_id, 1))
    health = store.health()
    assert (health.whole, health.damaged, health.lost, health.quarantined) == (1, 1, 1, 1)
    store.close()
    (tmp_path / "aside").rename(gone)
    store = place.open()
    assert store.reconciled.found == 1
    stores.check_share(store, medium, 1)
    assert 0 <= store.usage().share_bytes - stores.used_on_disk(place) <= 8192  # a copy counts with its full length
    store.close()


def test_small_steps_come_round_whatever_happens_between(place: Place) -> None:
    """Long and short shares, one piece at a time, with restarts and new shares: each is checked in its turn."""
    files = [stores.publish(count, 500, seed=count) for count in (1, 3, 40, 20)]
    store = place.open()
    for number, file in enumerate(files):
        stores.put(store, file, 0, stores.upload_id(number))
    total = sum(file.manifest.layout.share_bytes for file in files)
    steps, done = 0, 0
    while store.health().oldest_check == 0:
        report = store.scrub(stores.NOW + steps, 1)
        assert report.checked_bytes < (1 << 20) + 10_000
        done, steps = done + report.shares, steps + 1
        if steps % 2:
            store.close()
            store = place.open()
    assert done == 4
    assert steps == 1 + 1 + 3 + 2  # of 16 blocks each
    assert total < steps << 20
    newcomer = stores.publish(2, 77, seed=99)
    stores.put(store, newcomer, 0, stores.upload_id(77))
    stores.flip(place, place.share_path(newcomer, 0), 0)
    assert store.scrub(stores.NOW, 1).damaged == ((newcomer.file_id, 0),)


def test_a_whole_pass_within_thirty_days(store: ShareStore) -> None:
    files = [stores.publish(2, 500 * (1 + seed), seed=seed) for seed in range(20)]
    for number, file in enumerate(files):
        stores.put(store, file, 0, stores.upload_id(number))
    share_bytes = store.usage().share_bytes
    for day in range(30):
        store.scrub(stores.NOW + day * DAY_S, scrub_budget_bytes(share_bytes, DAY_S))
    oldest = store.health().oldest_check
    assert oldest is not None
    assert oldest >= stores.NOW
    assert scrub_budget_bytes(50 * 10**9, 600) < 14 * 10**6  # 50 GB, every ten minutes: 23 KB/s


def test_a_place_that_cannot_be_read_is_damage(sim: Callable[[], Place], medium: Published) -> None:
    place = sim()
    store = place.open()
    stores.put(store, medium, 0)
    place.sim.fail("read", 12)
    assert store.scrub(stores.NOW, ALL).damaged == ((medium.file_id, 0),)
    assert store.health().quarantined == 1


@pytest.mark.parametrize("step", ["open", "read"])
def test_other_failures_are_the_machines_and_do_not_stop_the_pass(
    sim: Callable[[], Place], medium: Published, step: str
) -> None:
    place = sim()
    store = place.open()
    for share in range(3):
        stores.put(store, medium, share)
    place.sim.fail(step, 1, errno.EMFILE)
    report = store.scrub(stores.NOW, ALL)
    assert report.failed == ((medium.file_id, 0),)
    assert (report.shares, report.damaged) == (2, ())
    assert len(store.held(medium.file_id)) == 3
    assert store.scrub(stores.NOW, ALL).shares == 3


def test_a_disk_that_is_gone_damages_nothing(sim: Callable[[], Place], medium: Published) -> None:
    """When not even the database can be written, the node says so instead of counting shares as damaged."""
    place = sim()
    store = place.open()
    for share in range(3):
        stores.put(store, medium, share)

    def before(operation: str, path: Path) -> None:
        raise OSError(errno.EIO, "gone", str(path))

    place.sim.before = before
    with pytest.raises(DatabaseFailed):
        store.scrub(stores.NOW, ALL)
    place.sim.before = None
    for share in range(3):
        stores.check_share(store, medium, share)
    assert store.damaged() == []


def test_the_note_comes_before_the_new_name(place: Place, medium: Published) -> None:
    recorded = stores.Recorded(place.disk)
    store = place.open(disk=recorded)
    stores.put(store, medium, 0)
    stores.flip(place, place.share_path(medium, 0), 9)
    recorded.log.clear()
    with pytest.raises(ShareDamaged):
        store.read(medium.file_id, 0, 0, 1, False)
    steps = [operation for operation, _ in recorded.log]
    note = steps.index("INSERT OR IGNORE INTO quarantine VALUES")
    assert steps[note:] == ["INSERT OR IGNORE INTO quarantine VALUES", "COMMIT", "rename", "fsync_directory"]


def test_a_copy_put_aside_stays_thirty_days_of_uptime(place: Place, medium: Published) -> None:
    """And longer while nothing better is there, however the wall clock jumps; its good blocks are served."""
    store = place.open()
    stores.put(store, medium, 0)
    stores.flip(place, place.share_path(medium, 0), 9)
    store.scrub(stores.NOW, ALL)
    store.note_uptime(400 * DAY_S, 0.0)
    store.drop_expired(stores.NOW, True)
    stores.check_result(medium, 0, 4, 5, store.read(medium.file_id, 0, 4, 5, True))
    with pytest.raises(ShareDamaged):
        store.read(medium.file_id, 0, 0, 1, True)
    stores.put(store, medium, 0, stores.upload_id(1))  # under the same name as before
    stores.flip(place, place.share_path(medium, 0), 5 * BLOCK_BYTES)
    store.scrub(stores.NOW, ALL)
    stores.put(store, medium, 0, stores.upload_id(3))
    store.drop_expired(stores.NOW + 10**9, False)
    name = medium.file_id.hex()
    assert place.names() == [f"{name}.0", f"{name}.0.2.damaged"]  # the first one had its 400 days
    store.note_uptime(30 * DAY_S - 1, 0.0)
    store.drop_expired(stores.NOW + 10**9, False)
    assert len(place.names()) == 2
    store.note_uptime(1, 0.0)
    store.drop_expired(stores.NOW - 10**9, False)
    assert place.names() == [f"{name}.0"]
    assert store.usage().share_bytes == stores.used_on_disk(place)
    stores.check_share(store, medium, 0)


def test_a_copy_whose_rename_failed_is_put_aside_by_the_next_put(sim: Callable[[], Place], medium: Published) -> None:
    place = sim()
    store = place.open()
    stores.put(store, medium, 0)
    stores.flip(place, place.share_path(medium, 0), 9)
    place.sim.fail("rename")
    assert len(store.scrub(stores.NOW, ALL).damaged) == 1
    assert store.held(medium.file_id) == []
    stores.put(store, medium, 0)  # same upload id, same folder, same name
    stores.check_share(store, medium, 0)
    assert sorted(place.names()) == [f"{medium.file_id.hex()}.0", f"{medium.file_id.hex()}.0.1.damaged"]
    assert store.usage().share_bytes == stores.used_on_disk(place)


def test_copies_that_a_lost_database_knew(tmp_path: Path, medium: Published) -> None:
    place = stores.Place(RealDisk(), tmp_path / "store")
    store = place.open()
    stores.put(store, medium, 0)
    stores.flip(place, place.share_path(medium, 0), 9)
    store.scrub(stores.NOW, ALL)
    store.close()
    for suffix in ("", "-wal", "-shm"):
        (place.root / f"shares.db{suffix}").unlink(missing_ok=True)
    store = place.open()
    assert store.held(medium.file_id) == []
    assert store.reconciled.indexed == 0
    assert store.health().quarantined == 1
    assert store.usage().share_bytes == stores.used_on_disk(place) > 0
    stores.put(store, medium, 0)
    store.note_uptime(30 * DAY_S, 0.0)
    store.drop_expired(stores.NOW, False)
    assert place.names() == [f"{medium.file_id.hex()}.0"]
    store.close()


def test_a_reader_of_the_old_copy_does_not_damage_the_new_one(place: Place, medium: Published) -> None:
    """Damage found late, in a copy that has been replaced meanwhile, says nothing about the new one."""
    store = place.open()
    stores.put(store, medium, 0)
    stores.flip(place, place.share_path(medium, 0), 9)

    def read_late() -> None:
        with store.opener.kept((medium.file_id, 0)) as old:
            with pytest.raises(ShareDamaged):
                store.read(medium.file_id, 0, 0, 1, False)
            stores.put(store, medium, 0, stores.upload_id(2))
            old.read(0, 1, False)

    with pytest.raises(ShareDamaged):
        read_late()
    stores.check_share(store, medium, 0)
    assert store.held(medium.file_id) == [HeldShare(0, stores.LEASE_END)]


def test_a_power_cut_before_every_operation_of_putting_aside(sim: Callable[[], Place], medium: Published) -> None:
    """The damaged share is never served as whole, its copy never removed, and the other share untouched."""
    for seed in range(3):
        number, finished = 0, False
        while not finished:
            place = sim()
            store = place.open()
            stores.put(store, medium, 0)
            stores.put(store, medium, 1)
            place.sim.flip_bit(place.share_path(medium, 0), 12345)
            place.sim.crash_at(number)
            try:
                assert len(store.scrub(stores.NOW, ALL).damaged) == 1
                finished = True
            except PowerCut:
                pass
            place.sim.crash(random.Random(f"{seed} {number}"))
            store = place.open()
            stores.check_share(store, medium, 1)
            store.scrub(stores.NOW, ALL)
            assert [held.share_number for held in store.held(medium.file_id)] == [1]
            assert place.names() == [f"{medium.file_id.hex()}.0.1.damaged", f"{medium.file_id.hex()}.1"]
            assert store.usage().share_bytes == stores.used_on_disk(place)
            with pytest.raises(ShareDamaged):
                store.read(medium.file_id, 0, 0, 1, False)
            with pytest.raises(NotHeld):
                store.renew(medium.file_id, 0, stores.LEASE_END)
            number += 1
        assert number > 20
