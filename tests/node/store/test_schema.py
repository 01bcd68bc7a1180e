"""A database of version 1, as its code left it, is carried over whole; so is its directory of shares."""

import random
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from kit import stores
from kit.stores import Place, Published
from shoal.node.store import HeldShare, ShareDamaged, ShareStore
from shoal.node.store.schema import SCHEMA_VERSION
from shoal.simulation.disk import PowerCut, SimDisk

VERSION_1 = Path(__file__).parent / "vectors" / "schema_1.sql"


def version_1_bytes() -> bytes:
    connection = sqlite3.connect(":memory:")
    connection.executescript(VERSION_1.read_text())
    return connection.serialize()


def share_file(file: stores.Published, share: int, upload: bytes) -> tuple[str, str, bytes]:
    """(folder, name, contents) of a share file."""
    place = stores.Place(SimDisk(), Path("/sim/other"))
    stores.put(place.open(), file, share, upload)
    path = place.share_path(file, share)
    return path.parent.name, path.name, place.disk.open(path).read_at(0, place.disk.size(path))


@pytest.fixture(scope="module")
def files(medium: Published) -> list[tuple[str, str, bytes]]:
    """The two share files that lay beside the database; the second one had rotted, a third was lost."""
    return [share_file(medium, share, stores.upload_id(10 + share)) for share in (0, 1)]


def lay_out(place: stores.Place, files: list[tuple[str, str, bytes]]) -> None:
    """Put the directory there as version 1 left it."""
    place.disk.make_directories(place.root)
    if isinstance(place.disk, SimDisk):
        place.disk.keep(place.root / "shares.db", version_1_bytes())
    else:
        (place.root / "shares.db").write_bytes(version_1_bytes())
        sqlite3.connect(place.root / "shares.db").execute("PRAGMA journal_mode=WAL")
    for folder, name, contents in files:
        path = place.root / "shares" / folder
        place.disk.make_directories(path)
        file = place.disk.create(path / name)
        file.write_at(0, [contents])
        file.fsync()
        file.close()
        place.disk.fsync_directory(path)


def check(place: stores.Place, store: ShareStore, small: stores.Published, medium: stores.Published) -> None:
    """Everything that was held is held, what was damaged is put aside, what was lost is lost."""
    stores.check_share(store, small, 0)
    stores.check_share(store, medium, 0)
    assert store.held(medium.file_id) == [HeldShare(0, stores.LEASE_END + 5)]
    assert sorted(store.damaged()) == [(medium.file_id, 1), (medium.file_id, 2)]
    assert [each.statement for each in store.statements(small.file_id)] == [b"a statement"]
    health = store.health()
    assert (health.whole, health.damaged, health.lost, health.quarantined) == (2, 1, 1, 1)
    assert (health.uptime_s, health.expired, health.tombstones) == (0, 0, 0)
    assert [name for name in place.names() if name.endswith(".damaged")] == [f"{medium.file_id.hex()}.1.1.damaged"]
    assert store.usage().share_bytes == stores.used_on_disk(place)
    assert set(store.source_groups([small.file_id, medium.file_id]).values()) == {b""}  # nobody noted it then
    store.read(medium.file_id, 1, 4, 1, True)  # a damaged share is better than none
    assert store.begin(stores.upload_id(2), stores.SOURCE, 0, stores.NOW) == 1  # an upload goes on


def test_a_directory_of_version_1_is_carried_over(
    place: Place, small: Published, medium: Published, files: list[tuple[str, str, bytes]]
) -> None:
    folder, name, contents = files[1]
    rotten = bytearray(contents)
    rotten[70_000] ^= 1
    lay_out(place, [files[0], (folder, name, bytes(rotten))])
    for _ in range(2):  # and is opened again as what it is now
        store = place.open()
        check(place, store, small, medium)
        with pytest.raises(ShareDamaged):
            store.read(medium.file_id, 1, 1, 1, False)
        assert store.database.rows("PRAGMA user_version") == [(SCHEMA_VERSION,)]
        assert store.database.rows("PRAGMA auto_vacuum") == [(2,)]
        store.close()
    store = place.open()
    store.commit(stores.upload_id(2), 1, small.encoded, stores.LEASE_END, stores.NOW)
    stores.put(store, medium, 1, stores.upload_id(30))
    stores.put(store, medium, 2, stores.upload_id(31))
    report = store.scrub(stores.NOW, 1 << 40)
    assert (report.shares, report.damaged) == (5, ())


def test_a_new_database_and_one_carried_over_have_the_same_tables(
    sim: Callable[[], Place], files: list[tuple[str, str, bytes]]
) -> None:
    old, new = sim(), sim()
    lay_out(old, files)
    tables = [
        place.open().database.rows("SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name")
        for place in (old, new)
    ]
    assert tables[0] == tables[1]
    assert len(tables[0]) > 12


def test_a_power_cut_before_every_operation_of_the_first_start(
    sim: Callable[[], Place], small: Published, medium: Published, files: list[tuple[str, str, bytes]]
) -> None:
    """Until it is through, the next start begins again with everything there."""
    number, finished = 0, False
    while not finished:
        place = sim()
        lay_out(place, files)
        place.sim.crash_at(number)
        try:
            place.open()
            finished = True
        except PowerCut:
            pass
        place.sim.crash(random.Random(number))
        check(place, place.open(), small, medium)
        number += 1
    assert number > 8
