"""Where files came from, and whose tombstones make room where there are too many."""

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from kit import stores
from kit.stores import Place, Published
from shoal.node.store import RealDisk, ShareStore
from shoal.node.store.database import APPLICATION_ID
from shoal.node.store.limits import Bounds
from shoal.node.store.schema import STEPS

DAY_S = 86400
UNTIL = int(stores.NOW) + 200 * DAY_S
STONE = b"signed by its owner"
HONEST, STRANGER, NEIGHBOUR = bytes([44, 0, 1, 9]), bytes([66, 0, 1, 1]), bytes([66, 0, 1, 2])


def deleted(store: ShareStore, source: bytes, seeds: range, until: int = UNTIL) -> list[bytes]:
    """Files of one block that came from a source, and that their owner has deleted, by id."""
    files = [stores.publish(1, 50, k=1, n=2, seed=seed) for seed in seeds]
    for seed, file in zip(seeds, files, strict=True):
        stores.put(store, file, 0, stores.upload_id(seed + 1), source=source)
        store.delete(file.file_id, STONE, until, stores.NOW)
    return [file.file_id for file in files]


def kept(store: ShareStore, ids: Sequence[bytes]) -> list[bool]:
    return [store.tombstone(file_id) is not None for file_id in ids]


@pytest.mark.parametrize("shape", ["small", "medium"])
def test_a_file_is_of_the_host_that_brought_its_first_share(
    place: Place, request: pytest.FixtureRequest, shape: str
) -> None:
    file = request.getfixturevalue(shape)
    store = place.open(private=False)
    stores.put(store, file, 1, source=HONEST)
    stores.put(store, file, 0, source=STRANGER)
    for _ in range(2):
        assert store.source_groups([file.file_id, bytes(32)]) == {file.file_id: HONEST[:3], bytes(32): b""}
        store.close()
        store = place.open(private=False)
    store.close()
    store = place.open(private=True)  # where each host stands for itself
    assert store.source_groups([file.file_id]) == {file.file_id: HONEST}
    store.delete(file.file_id, STONE, UNTIL, stores.NOW)
    assert store.source_groups([file.file_id]) == {file.file_id: b""}


def test_many_files_are_asked_for_together(sim: Callable[[], Place], small: Published) -> None:
    store = sim().open()
    stores.put(store, small, 0, source=HONEST)
    ids = [number.to_bytes(32, "big") for number in range(2000)]
    groups = store.source_groups([*ids, small.file_id])
    assert len(groups) == 2001
    assert groups[small.file_id] == HONEST


def test_one_caller_that_stores_and_deletes_pushes_out_its_own_tombstones_alone(sim: Callable[[], Place]) -> None:
    """The honest ones end sooner, so that they would be the first to go."""
    store = sim().open(private=False, bounds=Bounds(tombstones=12))
    honest = deleted(store, HONEST, range(6), UNTIL - DAY_S)
    flood = deleted(store, STRANGER, range(100, 120)) + deleted(store, NEIGHBOUR, range(200, 220))
    assert kept(store, honest) == [True] * 6
    assert sum(kept(store, flood)) == 6
    assert store.health().tombstones == 12


def test_of_the_group_with_most_the_tombstone_that_ends_soonest_goes(sim: Callable[[], Place]) -> None:
    store = sim().open(private=True, bounds=Bounds(tombstones=4))
    late, soon = deleted(store, HONEST, range(2)), deleted(store, HONEST, range(2, 4), UNTIL - 5)
    (new,) = deleted(store, STRANGER, range(100, 101), UNTIL - 9)  # the newest stays even when it ends first
    assert kept(store, [*late, *soon, new]) == [True, True, False, True, True]
    more = deleted(store, NEIGHBOUR, range(200, 201))  # another host
    assert kept(store, [*late, *soon, new, *more]) == [True, True, False, False, True, True]


def test_tombstones_that_are_forgotten_or_outlasted_count_no_more(sim: Callable[[], Place]) -> None:
    place = sim()
    store = place.open(bounds=Bounds(tombstones=4))
    flood = deleted(store, STRANGER, range(100, 104), UNTIL - DAY_S)
    store.delete(flood[0], b"longer", UNTIL, stores.NOW)
    store.drop_expired(UNTIL - 1, True)
    assert kept(store, flood) == [True, False, False, False]
    honest = deleted(store, HONEST, range(2))
    store.close()
    store = place.open(bounds=Bounds(tombstones=4))
    more = deleted(store, STRANGER, range(200, 203), UNTIL + DAY_S)
    assert kept(store, honest) == [True] * 2
    assert not any(kept(store, flood))
    assert sum(kept(store, more)) == 2


def test_tombstones_of_an_older_store_count_as_those_of_one_source(tmp_path: Path) -> None:
    place = Place(RealDisk(), tmp_path / "store")
    place.root.mkdir()
    old = sqlite3.connect(place.root / "shares.db")
    for step in STEPS[:4]:
        old.executescript(step)
    rows = [(bytes([number]) * 32, int(stores.NOW), UNTIL + number, STONE) for number in range(3)]
    old.executemany("INSERT INTO tombstones VALUES (?, ?, ?, ?)", rows)
    old.executescript(f"PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version=4; PRAGMA journal_mode=WAL")
    old.commit()
    old.close()
    store = place.open(private=True, bounds=Bounds(tombstones=4))
    honest = deleted(store, HONEST, range(2))
    assert kept(store, [file_id for file_id, *_ in rows]) == [False, True, True]
    assert kept(store, honest) == [True] * 2
    store.close()
