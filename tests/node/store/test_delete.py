"""An owner's delete: everything of the file goes, nothing of it comes back, and others' shares stay."""

import random
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from kit import stores
from kit.stores import Place, Published
from shoal.node.store import FileDeleted, NotHeld, RealDisk, ShareDamaged, ShareStore
from shoal.node.store.limits import Bounds
from shoal.simulation.disk import PowerCut

DAY_S = 86400
STONE = b"signed by its owner"


@pytest.fixture
def until() -> int:
    """Later than any lease may end."""
    return int(stores.NOW) + 200 * DAY_S


@pytest.mark.parametrize("shape", ["small", "medium"])
def test_delete_drops_and_remembers(place: Place, request: pytest.FixtureRequest, shape: str, until: int) -> None:
    file, other = request.getfixturevalue(shape), stores.publish(2, 50)
    store = place.open()
    for share in range(3):
        stores.put(store, file, share)
    stores.put(store, other, 0, stores.upload_id(9))
    stores.check_share(store, file, 0)  # its file is open now
    assert store.delete(file.file_id, STONE, until, stores.NOW) == [0, 1, 2]
    for _ in range(2):
        assert store.tombstone(file.file_id) == STONE
        assert store.held(file.file_id) == []
        assert store.manifest(file.file_id) is None
        assert store.files() == [other.file_id]
        with pytest.raises(NotHeld):
            store.read(file.file_id, 0, 0, 1, True)
        assert store.usage().share_bytes == stores.used_on_disk(place)
        assert len(place.names()) == 1
        assert store.health().tombstones == 1
        stores.check_share(store, other, 0)
        store.close()
        store = place.open()
    assert store.delete(file.file_id, STONE, until, stores.NOW) == []


@pytest.mark.parametrize("shape", ["small", "medium"])
def test_a_deleted_file_is_not_taken_again(
    place: Place, request: pytest.FixtureRequest, shape: str, until: int
) -> None:
    file = request.getfixturevalue(shape)
    store = place.open()
    upload = stores.put(store, file, 0)
    stores.send(store, file, 1, stores.upload_id(5))
    store.sync(stores.upload_id(5), stores.NOW)
    store.delete(file.file_id, STONE, until, stores.NOW)
    for again in (upload, stores.upload_id(5)):
        with pytest.raises(FileDeleted):
            store.commit(again, 1, file.encoded, stores.LEASE_END, stores.NOW)
    assert place.names() == []
    usage = store.usage()
    assert (usage.uploads, usage.upload_bytes, usage.promised_bytes, usage.share_bytes) == (0, 0, 0, 0)
    assert store.drop_expired(until + DAY_S, False) == []  # a clock that may be wrong forgets nothing
    assert store.tombstone(file.file_id) == STONE
    store.drop_expired(until, True)
    assert store.tombstone(file.file_id) == STONE
    store.drop_expired(until + 1, True)
    assert store.tombstone(file.file_id) is None
    stores.put(store, file, 1, stores.upload_id(5))
    stores.check_share(store, file, 1)


def test_the_tombstone_that_lasts_longer_stays(store: ShareStore, small: Published, until: int) -> None:
    store.delete(small.file_id, b"first", until, stores.NOW)
    store.delete(small.file_id, b"shorter", until - 1, stores.NOW)
    assert store.tombstone(small.file_id) == b"first"
    store.delete(small.file_id, b"longer", until + 1, stores.NOW)
    assert store.tombstone(small.file_id) == b"longer"
    with pytest.raises(ValueError, match="512"):
        store.delete(small.file_id, bytes(513), until, stores.NOW)


def test_tombstones_have_a_ceiling(place: Place, until: int) -> None:
    store = place.open(bounds=Bounds(tombstones=3))
    ids = [bytes([number]) * 32 for number in range(6)]
    for number, file_id in enumerate(ids):
        store.delete(file_id, STONE, until + number, stores.NOW)
    assert [store.tombstone(file_id) for file_id in ids] == [None] * 3 + [STONE] * 3
    store.delete(bytes(32), STONE, until - 1, stores.NOW)  # the newest stays even when it ends first
    assert store.tombstone(bytes(32)) == STONE
    assert store.health().tombstones == 3


def test_damaged_copies_go_too_and_lost_files_do_not_come_back(tmp_path: Path, medium: Published, until: int) -> None:
    place = stores.Place(RealDisk(), tmp_path / "store")
    store = place.open()
    for share in range(3):
        stores.put(store, medium, share)
    stores.flip(place, place.share_path(medium, 0), 7)
    with pytest.raises(ShareDamaged):
        store.read(medium.file_id, 0, 0, 1, False)
    away, aside = place.share_path(medium, 1), tmp_path / "aside"
    away.rename(aside)
    store.close()
    store = place.open()
    assert sorted(store.damaged()) == [(medium.file_id, 0), (medium.file_id, 1)]
    assert store.delete(medium.file_id, STONE, until, stores.NOW) == [0, 1, 2]
    assert place.names() == []
    assert store.usage().share_bytes == 0
    store.close()
    aside.rename(away)  # the disk it was on is back
    store = place.open()
    assert store.held(medium.file_id) == []
    assert place.names() == []
    assert store.reconciled.indexed == 0
    store.close()


def test_commits_racing_with_a_delete(tmp_path: Path, until: int) -> None:
    """Whatever comes first: in the end nothing of the file is held or left on disk."""
    place = stores.Place(RealDisk(), tmp_path / "store")
    store = place.open()
    for seed in range(12):
        file = stores.publish(1 if seed % 2 else 2, 100 + seed, seed=seed)
        for share in range(3):
            stores.send(store, file, share, stores.upload_id(10 * seed + share + 1))

        def commit(share: int, file: Published = file, seed: int = seed) -> None:
            try:
                upload = stores.upload_id(10 * seed + share + 1)
                store.commit(upload, share, file.encoded, stores.LEASE_END, stores.NOW)
                store.read(file.file_id, share, 0, 1, True)
            except (FileDeleted, NotHeld):
                pass

        with ThreadPoolExecutor(4) as pool:
            work: list[Future[Any]] = [pool.submit(commit, share) for share in range(3)]
            work.append(pool.submit(store.delete, file.file_id, STONE, until, stores.NOW))
            for each in work:
                each.result()
        assert store.held(file.file_id) == []
        for share in range(3):
            with pytest.raises(NotHeld):
                store.read(file.file_id, share, 0, 1, True)
    assert place.names() == []
    assert store.usage().share_bytes == store.usage().upload_bytes == 0
    store.close()


@pytest.mark.parametrize("shape", ["small", "medium"])
def test_a_power_cut_before_every_operation_of_a_delete(
    sim: Callable[[], Place], request: pytest.FixtureRequest, shape: str, until: int
) -> None:
    """All shares and no tombstone, or none and the tombstone; one of the shares is a damaged copy."""
    file = request.getfixturevalue(shape)
    for seed in range(3):
        number, finished = 0, False
        while not finished:
            place = sim()
            store = place.open()
            for share in range(3):
                stores.put(store, file, share)
            if shape == "medium":
                stores.flip(place, place.share_path(file, 2), 7)
                store.scrub(stores.NOW, 1 << 30)
            before = len(store.held(file.file_id))
            place.sim.crash_at(number)
            try:
                assert store.delete(file.file_id, STONE, until, stores.NOW) == [0, 1, 2]
                finished = True
            except PowerCut:
                pass
            place.sim.crash(random.Random(f"{seed} {number}"))
            store = place.open()
            deleted = store.tombstone(file.file_id) is not None
            assert deleted >= finished
            assert len(store.held(file.file_id)) == (0 if deleted else before)
            for held in store.held(file.file_id):
                stores.check_share(store, file, held.share_number)
            if deleted:
                assert place.names() == []
            assert store.usage().share_bytes == stores.used_on_disk(place)
            number += 1
        assert number >= (1 if shape == "small" else 8)
