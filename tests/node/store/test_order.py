"""The order of events of a share put, recorded at the disk, and what happens when a step fails."""

import errno
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from kit import stores
from kit.stores import Place, Published
from shoal.node.store import DatabaseFailed, LocalFailure, RealDisk, ShareStore, StoreError, StoreFull, UnknownUpload
from shoal.simulation.disk import PowerCut

STEPS = ["create", "write", "truncate", "fsync", "rename", "fsync_directory", "commit"]


def test_write_fsync_rename_fsync_directory_commit(place: Place, medium: Published) -> None:
    recorded = stores.Recorded(place.disk)
    store = place.open(disk=recorded)
    recorded.log.clear()
    stores.put(store, medium, 0)
    steps = [operation for operation, _ in recorded.log]
    order = [
        steps.index("create"),
        _last(steps, "write"),
        steps.index("truncate"),
        steps.index("fsync"),
        steps.index("rename"),
        steps.index("fsync_directory"),
        steps.index("INSERT OR REPLACE INTO shares"),
        _last(steps, "COMMIT"),
    ]
    assert order == sorted(order)
    assert order[-1] == len(steps) - 1, "nothing is left to be done after the database commit"
    assert {name for operation, name in recorded.log if operation in ("create", "write", "fsync")} == {
        f"{stores.upload_id(1).hex()}.upload"
    }


def test_a_sync_makes_blocks_durable_before_the_database_says_so(place: Place, medium: Published) -> None:
    recorded = stores.Recorded(place.disk)
    store = place.open(disk=recorded)
    stores.send(store, medium, 0, stores.upload_id(1))
    recorded.log.clear()
    store.sync(stores.upload_id(1), stores.NOW)
    steps = [operation for operation, _ in recorded.log]
    assert steps[:2] == ["fsync", "fsync_directory"]
    assert steps[-1] == "COMMIT"
    recorded.log.clear()
    store.sync(stores.upload_id(1), stores.NOW)
    assert recorded.log == [], "nothing new, nothing to do"


@pytest.mark.parametrize("put", [stores.put, stores.put_at_once])
def test_a_small_share_is_one_transaction_and_no_file(
    place: Place, small: Published, put: Callable[[ShareStore, Published, int], object]
) -> None:
    recorded = stores.Recorded(place.disk)
    store = place.open(disk=recorded)
    recorded.log.clear()
    put(store, small, 0)
    steps = [operation for operation, _ in recorded.log]
    writes = [step for step in steps if step.startswith("INSERT")]
    assert set(steps) == {"COMMIT", *writes}
    first_write = steps.index(writes[0])
    assert steps[first_write:].count("COMMIT") == 1


def test_fsync_reaches_file_and_directory(tmp_path: Path, medium: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the real disk: the system call, on those two descriptors, in that order."""
    synced: list[str] = []
    real_fsync = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        real_fsync(descriptor)

    place = stores.Place(RealDisk(), tmp_path / "store")
    store = place.open()
    stores.send(store, medium, 0, stores.upload_id(1))
    monkeypatch.setattr(os, "fsync", fsync)
    store.commit(stores.upload_id(1), 0, medium.encoded, stores.LEASE_END, stores.NOW)
    final = place.share_path(medium, 0)
    assert synced == [str(final.with_name(f"{stores.upload_id(1).hex()}.upload")), str(final.parent)]
    assert store.database.rows("PRAGMA synchronous") == [(2,)]  # FULL
    assert store.database.rows("PRAGMA journal_mode") == [("wal",)]
    store.close()


def test_files_are_private_and_links_are_not_followed(tmp_path: Path, medium: Published, small: Published) -> None:
    place = stores.Place(RealDisk(), tmp_path / "store")
    store = place.open()
    stores.put(store, medium, 0)
    stores.put(store, small, 0, stores.upload_id(5))
    for folder, folders, files in os.walk(place.root):
        assert os.stat(folder).st_mode & 0o777 == 0o700
        for name in files:
            assert os.stat(Path(folder, name)).st_mode & 0o777 == 0o600, name
        del folders
    path = place.share_path(medium, 0)
    target = tmp_path / "elsewhere"
    path.rename(target)
    path.symlink_to(target)
    with pytest.raises(LocalFailure):
        store.read(medium.file_id, 0, 0, 1, False)
    store.close()


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize("step", STEPS)
def test_a_failing_step_is_reported_and_nothing_is_kept(
    sim: Callable[[], Place], medium: Published, step: str, code: int
) -> None:
    """Whatever fails, there is no share, no stale byte in the accounts, and the next attempt works."""
    place = sim()
    store = place.open()
    upload = stores.upload_id(1)
    number = 2 if step == "commit" else 1  # the first commit only looks whether the share is held
    place.sim.fail(step, number, code)
    with pytest.raises(StoreFull if code == errno.ENOSPC else LocalFailure):
        stores.put(store, medium, 0, upload)
    assert store.held(medium.file_id) == []
    store.abort(upload, stores.NOW)
    usage = store.usage()
    assert usage.share_bytes == usage.upload_bytes == usage.promised_bytes == 0
    assert place.names() == []
    stores.put(store, medium, 0, stores.upload_id(2))
    stores.check_share(store, medium, 0)


def test_after_a_failed_fsync_the_upload_is_gone(sim: Callable[[], Place], medium: Published) -> None:
    place = sim()
    store = place.open()
    stores.send(store, medium, 0, stores.upload_id(1))
    place.sim.fail("fsync")
    with pytest.raises(LocalFailure):
        store.sync(stores.upload_id(1), stores.NOW)
    with pytest.raises(UnknownUpload):
        store.sync(stores.upload_id(1), stores.NOW)
    assert store.begin(stores.upload_id(1), stores.SOURCE, 0, stores.NOW) == 0


def test_a_full_disk_while_writing_keeps_what_was_there(sim: Callable[[], Place], medium: Published) -> None:
    place = sim()
    store = place.open()
    store.begin(stores.upload_id(1), stores.SOURCE, 0, stores.NOW)
    store.write(stores.upload_id(1), 0, medium.blocks[0][:4], medium.data_leaves[:4], stores.NOW)
    place.sim.fail("write", 1, errno.ENOSPC)
    with pytest.raises(StoreFull):
        store.write(stores.upload_id(1), 4, medium.blocks[0][4:], medium.data_leaves[4:], stores.NOW)
    assert store.sync(stores.upload_id(1), stores.NOW) == 4
    store.write(stores.upload_id(1), 4, medium.blocks[0][4:], medium.data_leaves[4:], stores.NOW)
    store.commit(stores.upload_id(1), 0, medium.encoded, stores.LEASE_END, stores.NOW)
    stores.check_share(store, medium, 0)


def test_a_small_share_whose_commit_fails_can_be_tried_again(sim: Callable[[], Place], small: Published) -> None:
    place = sim()
    store = place.open()
    stores.send(store, small, 0, stores.upload_id(1))
    place.sim.fail("commit", 2)
    with pytest.raises(DatabaseFailed):
        store.commit(stores.upload_id(1), 0, small.encoded, stores.LEASE_END, stores.NOW)
    store.commit(stores.upload_id(1), 0, small.encoded, stores.LEASE_END, stores.NOW)
    stores.check_share(store, small, 0)


@pytest.mark.parametrize("shape", ["small", "medium"])
def test_a_power_cut_before_every_single_operation(
    sim: Callable[[], Place], request: pytest.FixtureRequest, shape: str
) -> None:
    """Every prefix of the operations of: half an upload, a sync, the rest, the commit; several fates each."""
    file = request.getfixturevalue(shape)
    for seed in range(3):
        number = 0
        while not _cut_at(sim(), file, number, random.Random(f"{seed} {number}")):
            number += 1
        assert number > 3


def _cut_at(place: stores.Place, file: stores.Published, number: int, rng: random.Random) -> bool:
    """Cut before operation `number`; whether the work ended before it came to that."""
    store = place.open()
    upload, half = stores.upload_id(1), -(-file.count // 2)
    promised, acked = 0, False
    place.sim.crash_at(number)
    try:
        store.begin(upload, stores.SOURCE, 0, stores.NOW)
        store.write(upload, 0, file.blocks[0][:half], file.data_leaves[:half], stores.NOW)
        promised = store.sync(upload, stores.NOW)
        if half < file.count:
            store.write(upload, half, file.blocks[0][half:], file.data_leaves[half:], stores.NOW)
        store.commit(upload, 0, file.encoded, stores.LEASE_END, stores.NOW)
        acked = True
    except PowerCut:
        pass
    place.sim.crash(rng)
    store = place.open()
    durable = store.begin(upload, stores.SOURCE, 0, stores.NOW)
    if acked:
        stores.check_share(store, file, 0)
    assert durable >= promised
    if durable < file.count:
        store.write(upload, durable, file.blocks[0][durable:], file.data_leaves[durable:], stores.NOW)
    store.commit(upload, 0, file.encoded, stores.LEASE_END, stores.NOW)
    stores.check_share(store, file, 0)
    assert not [name for name in place.names() if name.endswith(".upload")]
    return acked


def test_a_power_cut_while_a_damaged_share_is_replaced(sim: Callable[[], Place], medium: Published) -> None:
    """The new share is in, or the old one still marked; never a row whose file the clean-up took, nor a file without a
    row: whoever stores the share once more would leave it there for ever."""
    number, finished = 0, False
    while not finished:
        place = sim()
        store = place.open()
        stores.put(store, medium, 0, stores.upload_id(1))
        place.sim.flip_bit(place.share_path(medium, 0), 12345)
        with pytest.raises(StoreError):
            store.read(medium.file_id, 0, 0, 1, False)
        stores.send(store, medium, 0, stores.upload_id(2))
        place.sim.crash_at(number)
        try:
            store.commit(stores.upload_id(2), 0, medium.encoded, stores.LEASE_END, stores.NOW)
            finished = True
        except PowerCut:
            pass
        place.sim.crash(random.Random(number))
        store = place.open()
        assert sum(name.endswith(".damaged") for name in place.names()) == 1, "the damaged copy is never removed"
        if finished:
            stores.check_share(store, medium, 0)
            assert len(place.names()) == 2
        elif store.held(medium.file_id):
            stores.check_share(store, medium, 0)
        assert store.reconciled.unreadable == 0
        stores.put(store, medium, 0, stores.upload_id(3))
        stores.check_share(store, medium, 0)
        store.expire(stores.NOW + 2 * 86400)
        assert len(place.names()) == 2
        assert store.usage().share_bytes == stores.used_on_disk(place)
        number += 1


def _last(steps: list[str], step: str) -> int:
    return len(steps) - 1 - steps[::-1].index(step)
