"""The order of events of a share put (DESIGN §5), recorded at the disk, and what happens when a step fails."""

import errno
import os
import random
from pathlib import Path

import pytest

from shoal.node.store import DatabaseFailed, LocalFailure, RealDisk, StoreError, StoreFull, UnknownUpload
from shoal.simulation.disk import PowerCut

STEPS = ["create", "write", "truncate", "fsync", "rename", "fsync_directory", "commit"]


def test_write_fsync_rename_fsync_directory_commit(place, kit, medium):
    recorded = kit.Recorded(place.disk)
    store = place.open(disk=recorded)
    recorded.log.clear()
    kit.put(store, medium, 0)
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
        f"{kit.upload_id(1).hex()}.upload"
    }


def test_a_sync_makes_blocks_durable_before_the_database_says_so(place, kit, medium):
    recorded = kit.Recorded(place.disk)
    store = place.open(disk=recorded)
    kit.send(store, medium, 0, kit.upload_id(1))
    recorded.log.clear()
    store.sync(kit.upload_id(1), kit.NOW)
    steps = [operation for operation, _ in recorded.log]
    assert steps[:2] == ["fsync", "fsync_directory"]
    assert steps[-1] == "COMMIT"
    recorded.log.clear()
    store.sync(kit.upload_id(1), kit.NOW)
    assert recorded.log == [], "nothing new, nothing to do"


def test_a_small_share_is_one_transaction_and_no_file(place, kit, small):
    recorded = kit.Recorded(place.disk)
    store = place.open(disk=recorded)
    recorded.log.clear()
    kit.put(store, small, 0)
    steps = [operation for operation, _ in recorded.log]
    writes = [step for step in steps if step.startswith("INSERT")]
    assert set(steps) == {"COMMIT", *writes}
    first_write = steps.index(writes[0])
    assert steps[first_write:].count("COMMIT") == 1


def test_fsync_reaches_file_and_directory(tmp_path, kit, medium, monkeypatch):
    """On the real disk: the system call, on those two descriptors, in that order."""
    synced: list[str] = []
    real_fsync = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        real_fsync(descriptor)

    place = kit.Place(RealDisk(), tmp_path / "store")
    store = place.open()
    kit.send(store, medium, 0, kit.upload_id(1))
    monkeypatch.setattr(os, "fsync", fsync)
    store.commit(kit.upload_id(1), 0, medium.encoded, kit.LEASE_END, kit.NOW)
    final = place.share_path(medium, 0)
    assert synced == [str(final.with_name(f"{kit.upload_id(1).hex()}.upload")), str(final.parent)]
    assert store._database.rows("PRAGMA synchronous") == [(2,)]  # FULL
    assert store._database.rows("PRAGMA journal_mode") == [("wal",)]
    store.close()


def test_files_are_private_and_links_are_not_followed(tmp_path, kit, medium, small):
    place = kit.Place(RealDisk(), tmp_path / "store")
    store = place.open()
    kit.put(store, medium, 0)
    kit.put(store, small, 0, kit.upload_id(5))
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
def test_a_failing_step_is_reported_and_nothing_is_kept(sim, kit, medium, step, code):
    """Whatever fails, there is no share, no stale byte in the accounts, and the next attempt works."""
    place = sim()
    store = place.open()
    upload = kit.upload_id(1)
    number = 2 if step == "commit" else 1  # the first commit only looks whether the share is held
    place.disk.fail(step, number, code)
    with pytest.raises(StoreFull if code == errno.ENOSPC else LocalFailure):
        kit.put(store, medium, 0, upload)
    assert store.held(medium.file_id) == []
    store.abort(upload, kit.NOW)
    usage = store.usage()
    assert usage.share_bytes == usage.upload_bytes == usage.promised_bytes == 0
    assert place.names() == []
    kit.put(store, medium, 0, kit.upload_id(2))
    kit.check_share(store, medium, 0)


def test_after_a_failed_fsync_the_upload_is_gone(sim, kit, medium):
    place = sim()
    store = place.open()
    kit.send(store, medium, 0, kit.upload_id(1))
    place.disk.fail("fsync")
    with pytest.raises(LocalFailure):
        store.sync(kit.upload_id(1), kit.NOW)
    with pytest.raises(UnknownUpload):
        store.sync(kit.upload_id(1), kit.NOW)
    assert store.begin(kit.upload_id(1), kit.SOURCE, 0, kit.NOW) == 0


def test_a_full_disk_while_writing_keeps_what_was_there(sim, kit, medium):
    place = sim()
    store = place.open()
    store.begin(kit.upload_id(1), kit.SOURCE, 0, kit.NOW)
    store.write(kit.upload_id(1), 0, medium.blocks[0][:4], medium.data_leaves[:4], kit.NOW)
    place.disk.fail("write", 1, errno.ENOSPC)
    with pytest.raises(StoreFull):
        store.write(kit.upload_id(1), 4, medium.blocks[0][4:], medium.data_leaves[4:], kit.NOW)
    assert store.sync(kit.upload_id(1), kit.NOW) == 4
    store.write(kit.upload_id(1), 4, medium.blocks[0][4:], medium.data_leaves[4:], kit.NOW)
    store.commit(kit.upload_id(1), 0, medium.encoded, kit.LEASE_END, kit.NOW)
    kit.check_share(store, medium, 0)


def test_a_small_share_whose_commit_fails_can_be_tried_again(sim, kit, small):
    place = sim()
    store = place.open()
    kit.send(store, small, 0, kit.upload_id(1))
    place.disk.fail("commit", 2)
    with pytest.raises(DatabaseFailed):
        store.commit(kit.upload_id(1), 0, small.encoded, kit.LEASE_END, kit.NOW)
    store.commit(kit.upload_id(1), 0, small.encoded, kit.LEASE_END, kit.NOW)
    kit.check_share(store, small, 0)


@pytest.mark.parametrize("shape", ["small", "medium"])
def test_a_power_cut_before_every_single_operation(sim, kit, request, shape):
    """Every prefix of the operations of: half an upload, a sync, the rest, the commit; several fates each."""
    file = request.getfixturevalue(shape)
    for seed in range(3):
        number = 0
        while not _cut_at(sim(), kit, file, number, random.Random(f"{seed} {number}")):
            number += 1
        assert number > 3


def _cut_at(place, kit, file, number, rng):
    """Cut before operation `number`; whether the work ended before it came to that."""
    store = place.open()
    upload, half = kit.upload_id(1), -(-file.count // 2)
    promised, acked = 0, False
    place.disk.crash_at(number)
    try:
        store.begin(upload, kit.SOURCE, 0, kit.NOW)
        store.write(upload, 0, file.blocks[0][:half], file.data_leaves[:half], kit.NOW)
        promised = store.sync(upload, kit.NOW)
        if half < file.count:
            store.write(upload, half, file.blocks[0][half:], file.data_leaves[half:], kit.NOW)
        store.commit(upload, 0, file.encoded, kit.LEASE_END, kit.NOW)
        acked = True
    except PowerCut:
        pass
    place.disk.crash(rng)
    store = place.open()
    durable = store.begin(upload, kit.SOURCE, 0, kit.NOW)
    if acked:
        kit.check_share(store, file, 0)
    assert durable >= promised
    if durable < file.count:
        store.write(upload, durable, file.blocks[0][durable:], file.data_leaves[durable:], kit.NOW)
    store.commit(upload, 0, file.encoded, kit.LEASE_END, kit.NOW)
    kit.check_share(store, file, 0)
    assert not [name for name in place.names() if name.endswith(".upload")]
    return acked


def test_a_power_cut_while_a_damaged_share_is_replaced(sim, kit, medium):
    """The new share is in, or the old one still marked; never a row whose file the clean-up took, nor a file without a
    row: whoever stores the share once more would leave it there for ever."""
    number, finished = 0, False
    while not finished:
        place = sim()
        store = place.open()
        kit.put(store, medium, 0, kit.upload_id(1))
        place.disk.flip_bit(place.share_path(medium, 0), 12345)
        with pytest.raises(StoreError):
            store.read(medium.file_id, 0, 0, 1, False)
        kit.send(store, medium, 0, kit.upload_id(2))
        place.disk.crash_at(number)
        try:
            store.commit(kit.upload_id(2), 0, medium.encoded, kit.LEASE_END, kit.NOW)
            finished = True
        except PowerCut:
            pass
        place.disk.crash(random.Random(number))
        store = place.open()
        assert sum(name.endswith(".damaged") for name in place.names()) == 1, "the damaged copy is never removed"
        if finished:
            kit.check_share(store, medium, 0)
            assert len(place.names()) == 2
        elif store.held(medium.file_id):
            kit.check_share(store, medium, 0)
        assert store.reconciled.unreadable == 0
        kit.put(store, medium, 0, kit.upload_id(3))
        kit.check_share(store, medium, 0)
        store.expire(kit.NOW + 2 * 86400)
        assert len(place.names()) == 2
        assert store.usage().share_bytes == kit.used_on_disk(place)
        number += 1


def _last(steps: list[str], step: str) -> int:
    return len(steps) - 1 - steps[::-1].index(step)
