"""Uploads, commits and reads, on the real disk and on the simulated one."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kit import stores
from kit.stores import Place, Published
from shoal.erasure import BLOCK_BYTES
from shoal.node.store import (
    BadManifest,
    BadRange,
    BadShare,
    BadUpload,
    HeldShare,
    NotHeld,
    RealDisk,
    ShareStore,
    UnknownUpload,
    UploadGap,
)
from shoal.node.store.limits import Bounds

DAY_S = 86400.0
SHAPES = [(1, 21), (1, 32768), (1, 32769), (1, BLOCK_BYTES), (2, 21), (16, BLOCK_BYTES), (17, 25), (33, 1000)]


@pytest.mark.parametrize(("count", "last_bytes"), SHAPES)
def test_every_shape_of_share_comes_back(place: Place, count: int, last_bytes: int) -> None:
    file = stores.publish(count, last_bytes)
    store = place.open()
    for share in range(3):
        stores.put(store, file, share)
    store.close()
    store = place.open()
    for share in range(3):
        stores.check_share(store, file, share)
    assert store.files() == [file.file_id]
    assert store.reconciled.indexed == store.reconciled.lost == store.reconciled.unreadable == 0


def test_every_range_of_an_odd_tree_is_proved(store: ShareStore, medium: Published) -> None:
    stores.put(store, medium, 1)
    for first in range(medium.count):
        for count in range(1, medium.count - first + 1):
            result = store.read(medium.file_id, 1, first, count, True)
            stores.check_result(medium, 1, first, count, result)


@pytest.mark.parametrize("shape", ["small", "medium"])
def test_data_leaves_without_blocks(store: ShareStore, request: pytest.FixtureRequest, shape: str) -> None:
    file = request.getfixturevalue(shape)
    stores.put(store, file, 0)
    for first in range(file.count):
        result = store.read(file.file_id, 0, first, file.count - first, True)
        leaves = store.data_leaves(file.file_id, 0, first, file.count - first)
        assert leaves == (result.data_leaves, result.data_proof)
    with pytest.raises(BadRange):
        store.data_leaves(file.file_id, 0, file.count, 1)


def test_data_part_only_when_asked_for(store: ShareStore, medium: Published) -> None:
    stores.put(store, medium, 0)
    result = store.read(medium.file_id, 0, 2, 3, False)
    assert result.data_leaves == result.data_proof == b""
    assert result.blocks == b"".join(medium.blocks[0][2:5])


def test_small_shares_never_touch_a_file(place: Place, small: Published) -> None:
    store = place.open()
    stores.put(store, small, 0)
    assert place.names() == []
    stores.check_share(store, small, 0)


def test_a_large_share_is_one_file_and_no_upload_is_left(place: Place, medium: Published) -> None:
    store = place.open()
    stores.put(store, medium, 2)
    assert place.names() == [f"{medium.file_id.hex()}.2"]
    assert store.usage().uploads == 0


@pytest.mark.parametrize("shape", ["small", "medium"])
def test_commit_again_after_a_lost_answer(place: Place, request: pytest.FixtureRequest, shape: str) -> None:
    file = request.getfixturevalue(shape)
    store = place.open()
    upload = stores.put(store, file, 0)
    assert store.commit(upload, 0, file.encoded, stores.LEASE_END, stores.NOW) == stores.LEASE_END
    assert store.begin(upload, stores.SOURCE, 0, stores.NOW) == file.count
    store.close()
    store = place.open()
    assert store.begin(upload, stores.SOURCE, 0, stores.NOW) == file.count
    assert store.commit(upload, 0, file.encoded, stores.LEASE_END + 5, stores.NOW) == stores.LEASE_END + 5
    assert store.held(file.file_id) == [HeldShare(0, stores.LEASE_END + 5)]


def test_the_same_share_from_two_uploads_is_kept_once(place: Place, medium: Published) -> None:
    store = place.open()
    stores.put(store, medium, 0, stores.upload_id(1))
    used = store.usage().share_bytes
    stores.put(store, medium, 0, stores.upload_id(2))
    assert store.usage().share_bytes == used
    assert len(place.names()) == 1
    stores.check_share(store, medium, 0)


def test_blocks_may_be_sent_again_but_not_left_out(store: ShareStore, medium: Published) -> None:
    upload = stores.upload_id(7)
    blocks, leaves = medium.blocks[0], medium.data_leaves
    store.begin(upload, stores.SOURCE, 0, stores.NOW)
    assert store.write(upload, 0, blocks[:4], leaves[:4], stores.NOW) == 4
    with pytest.raises(UploadGap) as gap:
        store.write(upload, 5, blocks[5:6], leaves[5:6], stores.NOW)
    assert gap.value.expected == 4
    assert store.write(upload, 0, blocks[:4], leaves[:4], stores.NOW) == 4
    assert store.write(upload, 2, blocks[2:11], leaves[2:11], stores.NOW) == 11
    assert store.write(upload, 10, blocks[10:], leaves[10:], stores.NOW) == 11
    with pytest.raises(BadUpload):
        store.write(upload, 11, [b"x"], leaves[:1], stores.NOW)
    store.commit(upload, 0, medium.encoded, stores.LEASE_END, stores.NOW)
    stores.check_share(store, medium, 0)


def test_a_renewed_upload_goes_on_from_what_is_durable(place: Place, medium: Published) -> None:
    store = place.open()
    upload = stores.upload_id(9)
    store.begin(upload, stores.SOURCE, 0, stores.NOW)
    store.write(upload, 0, medium.blocks[0][:4], medium.data_leaves[:4], stores.NOW)
    assert store.durable_blocks(upload) == 0
    assert store.sync(upload, stores.NOW) == 4
    store.write(upload, 4, medium.blocks[0][4:6], medium.data_leaves[4:6], stores.NOW)
    store.close()  # what was not synced is not promised
    store = place.open()
    assert store.begin(upload, stores.SOURCE, 0, stores.NOW) == 4
    store.write(upload, 4, medium.blocks[0][4:8], medium.data_leaves[4:8], stores.NOW)
    assert store.begin(upload, stores.SOURCE, 0, stores.NOW) == 8  # renewing makes durable what is there
    store.write(upload, 8, medium.blocks[0][8:], medium.data_leaves[8:], stores.NOW)
    store.commit(upload, 0, medium.encoded, stores.LEASE_END, stores.NOW)
    stores.check_share(store, medium, 0)


def test_a_synced_small_upload_survives_a_restart(place: Place, small: Published) -> None:
    store = place.open()
    stores.send(store, small, 1, stores.upload_id(1))
    assert store.sync(stores.upload_id(1), stores.NOW) == 1
    store.close()
    store = place.open()
    assert store.begin(stores.upload_id(1), stores.SOURCE, 0, stores.NOW) == 1
    store.commit(stores.upload_id(1), 1, small.encoded, stores.LEASE_END, stores.NOW)
    stores.check_share(store, small, 1)


BAD_WRITES = {
    "nothing": ([], []),
    "no leaf": ([b"x"], []),
    "short leaf": ([b"x"], [b"l" * 31]),
    "empty block": ([b""], [b"l" * 32]),
    "long block": ([bytes(BLOCK_BYTES + 1)], [b"l" * 32]),
    "short block inside": ([b"x", b"y"], [b"l" * 32] * 2),
    "too many": ([bytes(BLOCK_BYTES)] * 17, [b"l" * 32] * 17),
}


@pytest.mark.parametrize("case", BAD_WRITES)
def test_malformed_writes_are_refused_and_change_nothing(store: ShareStore, medium: Published, case: str) -> None:
    store.begin(stores.upload_id(1), stores.SOURCE, 0, stores.NOW)
    with pytest.raises(BadUpload):
        store.write(stores.upload_id(1), 0, *BAD_WRITES[case], stores.NOW)
    stores.send(store, medium, 0, stores.upload_id(1))
    store.commit(stores.upload_id(1), 0, medium.encoded, stores.LEASE_END, stores.NOW)


def test_more_than_offered_is_refused(store: ShareStore, medium: Published) -> None:
    store.begin(stores.upload_id(1), stores.SOURCE, 3 * BLOCK_BYTES, stores.NOW)
    with pytest.raises(BadUpload):
        store.write(stores.upload_id(1), 0, medium.blocks[0][:4], medium.data_leaves[:4], stores.NOW)


@pytest.mark.parametrize("shape", ["small", "medium"])
@pytest.mark.parametrize("what", ["block", "data leaf", "share number", "length"])
def test_a_share_that_misses_its_manifest_is_discarded(
    place: Place, request: pytest.FixtureRequest, shape: str, what: str
) -> None:
    file = request.getfixturevalue(shape)
    store = place.open()
    upload, number = stores.upload_id(1), 0
    blocks, leaves = list(file.blocks[0]), list(file.data_leaves)
    if what == "block":
        blocks[-1] = bytes([blocks[-1][0] ^ 1]) + blocks[-1][1:]
    elif what == "data leaf":
        leaves[0] = bytes(32)
    elif what == "share number":
        number = 1
    else:
        blocks[-1] = blocks[-1][:-1]
    store.begin(upload, stores.SOURCE, 0, stores.NOW)
    store.write(upload, 0, blocks, leaves, stores.NOW)
    store.sync(upload, stores.NOW)
    with pytest.raises(BadShare):
        store.commit(upload, number, file.encoded, stores.LEASE_END, stores.NOW)
    assert place.names() == []
    assert store.held(file.file_id) == []
    assert store.usage().upload_bytes == store.usage().share_bytes == 0
    with pytest.raises(UnknownUpload):
        store.sync(upload, stores.NOW)


@pytest.mark.parametrize("length", [21, 32768, 32769, BLOCK_BYTES])
def test_a_share_of_one_block_is_put_at_once(place: Place, length: int) -> None:
    file = stores.publish(1, length)
    store = place.open()
    for _ in range(2):  # repeated after a lost answer
        assert stores.put_at_once(store, file, 0) == stores.LEASE_END
    stores.check_share(store, file, 0)
    assert store.begin(stores.upload_id(1), stores.SOURCE, 0, stores.NOW) == 1
    assert store.commit(stores.upload_id(1), 0, file.encoded, stores.LEASE_END, stores.NOW) == stores.LEASE_END
    store.close()
    stores.check_share(place.open(), file, 0)


def test_of_a_put_that_is_refused_nothing_stays(place: Place, small: Published, medium: Published) -> None:
    store = place.open()
    with pytest.raises(BadShare):
        stores.put_at_once(store, small, 0, bytes(len(small.blocks[0][0])))
    with pytest.raises(BadUpload):
        stores.put_at_once(store, small, 0, b"")
    with pytest.raises(BadManifest):
        stores.put_at_once(store, medium, 0)
    assert store.usage().upload_bytes == store.usage().uploads == 0
    assert place.names() == []
    assert store.held(small.file_id) == []


def test_bad_manifests_and_numbers_leave_the_upload_alone(store: ShareStore, medium: Published) -> None:
    stores.send(store, medium, 0, stores.upload_id(1))
    for encoded, number in [(b"", 0), (medium.encoded + b"x", 0), (medium.encoded, 3), (medium.encoded, -1)]:
        with pytest.raises(BadManifest):
            store.commit(stores.upload_id(1), number, encoded, stores.LEASE_END, stores.NOW)
    store.commit(stores.upload_id(1), 0, medium.encoded, stores.LEASE_END, stores.NOW)


def test_reads_that_cannot_be(store: ShareStore, medium: Published) -> None:
    stores.put(store, medium, 0)
    for first, count in [(-1, 1), (0, 0), (0, 17), (11, 1), (10, 2)]:
        with pytest.raises(BadRange):
            store.read(medium.file_id, 0, first, count, True)
    with pytest.raises(NotHeld):
        store.read(medium.file_id, 1, 0, 1, True)
    with pytest.raises(NotHeld):
        store.read(bytes(32), 0, 0, 1, True)
    assert store.manifest(bytes(32)) is None
    assert store.held(bytes(32)) == []


def test_leases_only_grow(store: ShareStore, medium: Published) -> None:
    stores.put(store, medium, 0)
    assert store.renew(medium.file_id, 0, stores.LEASE_END - 1) == stores.LEASE_END
    assert store.renew(medium.file_id, 0, stores.LEASE_END + 1) == stores.LEASE_END + 1
    with pytest.raises(NotHeld):
        store.renew(medium.file_id, 1, stores.LEASE_END)


def test_files_come_in_pages(store: ShareStore) -> None:
    files = [stores.publish(1, 100 + seed) for seed in range(7)]
    for number, file in enumerate(files):
        stores.put(store, file, 0, stores.upload_id(number))
    ids = sorted(file.file_id for file in files)
    assert store.files(limit=3) == ids[:3]
    assert store.files(after=ids[2]) == ids[3:]
    assert store.usage().files == store.usage().shares == 7


def test_abort_and_expire_remove_uploads(place: Place, medium: Published) -> None:
    store = place.open()
    for number in (1, 2, 3):
        stores.send(store, medium, 0, stores.upload_id(number))
    store.sync(stores.upload_id(2), stores.NOW)
    store.sync(stores.upload_id(3), stores.NOW)
    store.abort(stores.upload_id(3), stores.NOW)
    store.abort(stores.upload_id(99), stores.NOW)
    assert store.expire(stores.NOW + 500) == 0
    assert store.expire(stores.NOW + 700) == 1  # number 1: nothing of it was ever durable
    store.close()
    store = place.open(now=stores.NOW + 80_000)
    assert store.begin(stores.upload_id(2), stores.SOURCE, 0, stores.NOW + 80_000) == medium.count
    assert store.expire(stores.NOW + 86_400) == 0
    assert store.expire(stores.NOW + 80_000 + 86_400) == 1
    assert place.names() == []
    assert store.usage().upload_bytes == 0


def test_an_upload_of_a_clock_that_was_ahead_goes_a_day_after_it_was_put_right(place: Place, medium: Published) -> None:
    ahead = stores.NOW + 365 * DAY_S
    store = place.open()
    for number in (1, 2):
        stores.send(store, medium, number, stores.upload_id(number))
    store.sync(stores.upload_id(1), stores.NOW)
    assert store.write(stores.upload_id(2), 0, medium.blocks[2][:1], medium.data_leaves[:1], ahead) == medium.count
    store.sync(stores.upload_id(2), ahead)
    store.close()
    store = place.open()
    assert store.expire(stores.NOW + 10_000) == 0  # it is noticed here, and remembered
    store.close()
    store = place.open(now=stores.NOW + 80_000)
    assert store.expire(stores.NOW + 90_000) == 1  # number 1: it was saved before the clock went wrong
    assert store.expire(stores.NOW + 10_000 + DAY_S - 1) == 0
    assert store.expire(stores.NOW + 10_000 + DAY_S) == 1
    assert place.names() == []
    assert store.usage().upload_bytes == 0


def test_what_nothing_is_durable_of_goes_soon_after_the_clock_was_put_right(
    store: ShareStore, medium: Published
) -> None:
    stores.send(store, medium, 0, stores.upload_id(1))
    store.write(stores.upload_id(1), 0, medium.blocks[0][:1], medium.data_leaves[:1], stores.NOW + 365 * DAY_S)
    assert store.expire(stores.NOW) == 0
    assert store.expire(stores.NOW + 700) == 1


def test_no_upload_grows_older_by_a_jump_of_the_clock(place: Place, medium: Published) -> None:
    year = 365 * DAY_S
    store = place.open()
    for number in (1, 2):
        stores.send(store, medium, number, stores.upload_id(number))
    store.sync(stores.upload_id(2), stores.NOW)
    assert store.expire(stores.NOW + year + 500, year) == 0
    assert store.expire(stores.NOW + year + 700) == 1  # number 1: nothing of it was ever durable
    store.close()
    store = place.open(now=stores.NOW + year + 800)
    assert store.expire(stores.NOW + year + DAY_S - 1) == 0
    assert store.expire(stores.NOW + year + DAY_S) == 1


def test_many_threads_at_once(tmp_path: Path) -> None:
    """Uploads, commits of the same share, reads and syncs from eight threads on the real disk."""
    place = stores.Place(RealDisk(), tmp_path / "store")
    store = place.open()
    files = [stores.publish(5, 100, seed=seed) for seed in range(4)]
    barrier = threading.Barrier(8)

    def work(number: int) -> None:
        barrier.wait()
        for turn, file in enumerate(files):
            upload = stores.upload_id(100 * number + turn)
            stores.send(store, file, turn % 3, upload, step=2)
            if number % 2:
                store.sync(upload, stores.NOW)
            store.commit(upload, turn % 3, file.encoded, stores.LEASE_END, stores.NOW)
            stores.check_share(store, file, turn % 3)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert store.usage().shares == len(files)
    assert len(place.names()) == len(files)
    store.close()


def test_more_shares_than_handles(tmp_path: Path) -> None:
    place = stores.Place(RealDisk(), tmp_path / "store")
    store = place.open(bounds=Bounds(share_handles=2))
    files = [stores.publish(2, 50 + seed) for seed in range(5)]
    for number, file in enumerate(files):
        stores.put(store, file, 0, stores.upload_id(number))
    for _ in range(3):
        for file in files:
            stores.check_share(store, file, 0)
            assert len(store.handles) <= 2
    store.close()
