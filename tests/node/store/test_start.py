"""Start-up: database and files are brought in line, nothing is lost, nothing foreign is touched; damage is found."""

import random
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kit import stores
from kit.stores import Place, Published
from shoal.erasure import BLOCK_BYTES
from shoal.node.store import NotHeld, RealDisk, ShareDamaged, ShareStore, StoreUnusable
from shoal.node.store.schema import SCHEMA_VERSION

DAY_S = 86400


def forget_database(place: stores.Place) -> None:
    """Lose the database and keep the files."""
    for suffix in ("", "-wal", "-shm"):
        (place.root / f"shares.db{suffix}").unlink(missing_ok=True)


@pytest.fixture
def real(tmp_path: Path) -> Iterator[stores.Place]:
    place = stores.Place(RealDisk(), tmp_path / "store")
    yield place
    for store in place.opened:
        store.close()


def test_forgotten_share_files_are_indexed_again(real: stores.Place, medium: Published) -> None:
    store = real.open()
    for share in range(3):
        stores.put(store, medium, share)
    store.close()
    forget_database(real)
    store = real.open(now=stores.NOW + DAY_S)
    assert store.reconciled.indexed == 3
    for share in range(3):
        stores.check_share(store, medium, share)
    # its lease may have been renewed since: nothing may be dropped early
    assert store.held(medium.file_id)[0].lease_end == stores.NOW + 91 * DAY_S
    assert store.begin(stores.upload_id(1), stores.SOURCE, 0, stores.NOW) == medium.count
    assert store.usage().share_bytes > 3 * 11 * BLOCK_BYTES - 3 * BLOCK_BYTES


def test_a_row_without_its_file_is_lost_until_the_file_is_back(real: stores.Place, medium: Published) -> None:
    store = real.open()
    stores.put(store, medium, 0)
    path = real.share_path(medium, 0)
    store.close()
    path.rename(real.root / "aside")
    store = real.open()
    assert store.reconciled.lost == 1
    assert store.held(medium.file_id) == [] == store.files()
    assert store.damaged() == [(medium.file_id, 0)]
    assert store.usage().share_bytes == 0
    with pytest.raises(NotHeld):
        store.read(medium.file_id, 0, 0, 1, False)
    store.close()
    (real.root / "aside").rename(path)
    store = real.open()
    assert store.reconciled.found == 1
    stores.check_share(store, medium, 0)


def test_a_file_that_vanishes_while_running(real: stores.Place, medium: Published) -> None:
    store = real.open()
    stores.put(store, medium, 0)
    real.share_path(medium, 0).unlink()
    with pytest.raises(ShareDamaged):
        store.read(medium.file_id, 0, 0, 1, False)
    assert store.held(medium.file_id) == []
    stores.put(store, medium, 0, stores.upload_id(8))
    stores.check_share(store, medium, 0)


def test_uploads_survive_and_unpromised_files_do_not(place: Place, medium: Published) -> None:
    store = place.open()
    stores.send(store, medium, 0, stores.upload_id(1))
    store.sync(stores.upload_id(1), stores.NOW)
    stores.send(store, medium, 1, stores.upload_id(2))
    used = store.usage().upload_bytes
    store.close()
    assert len(place.names()) == 2
    store = place.open()
    assert place.names() == [f"{stores.upload_id(1).hex()}.upload"]
    assert 0 < store.usage().upload_bytes == used // 2
    store.commit(stores.upload_id(1), 0, medium.encoded, stores.LEASE_END, stores.NOW)
    stores.check_share(store, medium, 0)


def test_an_upload_whose_file_is_gone_starts_again(real: stores.Place, medium: Published) -> None:
    store = real.open()
    stores.send(store, medium, 0, stores.upload_id(1))
    store.sync(stores.upload_id(1), stores.NOW)
    store.close()
    next(real.root.glob("shares/*/*.upload")).unlink()
    store = real.open()
    assert store.begin(stores.upload_id(1), stores.SOURCE, 0, stores.NOW) == 0
    stores.put(store, medium, 0, stores.upload_id(1))
    stores.check_share(store, medium, 0)


@pytest.mark.parametrize("kind", ["empty", "noise", "torn", "cut", "other name"])
def test_files_that_are_no_shares_stay_and_are_counted(real: stores.Place, medium: Published, kind: str) -> None:
    store = real.open()
    stores.put(store, medium, 0)
    path = real.share_path(medium, 0)
    store.close()
    forget_database(real)
    whole = path.read_bytes()
    contents = {
        "empty": b"",
        "noise": random.Random(1).randbytes(len(whole)),
        "torn": whole[:-1] + bytes([whole[-1] ^ 1]),
        "cut": whole[:-200],
        "other name": whole,
    }[kind]
    path.write_bytes(contents)
    if kind == "other name":
        path = path.rename(path.with_name("0" * 64 + ".0"))
    store = real.open()
    assert store.reconciled.indexed == 0
    assert store.reconciled.unreadable == 1
    assert path.read_bytes() == contents
    assert store.usage().share_bytes == -(-len(contents) // 4096) * 4096
    stores.put(store, medium, 1)


def test_a_second_copy_is_left_alone(real: stores.Place, medium: Published) -> None:
    store = real.open()
    stores.put(store, medium, 0)
    path = real.share_path(medium, 0)
    store.close()
    other = real.root / "shares" / "zz"
    other.mkdir()
    (other / path.name).write_bytes(path.read_bytes())
    store = real.open()
    assert (store.reconciled.indexed, store.reconciled.unreadable) == (0, 1)
    stores.check_share(store, medium, 0)
    assert (other / path.name).exists()


REGIONS = ["block", "last block", "block leaf", "upper node", "data leaf", "data root"]


@pytest.mark.parametrize("region", REGIONS)
def test_bit_rot_is_found_and_never_served(place: Place, medium: Published, region: str) -> None:
    """A flipped bit anywhere that a read depends on; then the share can be stored anew."""
    store = place.open()
    stores.put(store, medium, 0)
    path = place.share_path(medium, 0)
    length = medium.manifest.layout.share_bytes
    offset = {
        "block": 4 * BLOCK_BYTES + 77,
        "last block": length - 1,
        "block leaf": length + 32 * 3,
        "upper node": length + 32 * 12,
        "data leaf": length + 32 * (11 + 6 + 3 + 2 + 1 + 4),
        "data root": length + 32 * 2 * (11 + 6 + 3 + 2 + 1) - 1,
    }[region]
    stores.flip(place, path, offset)
    wrong = [first for first in range(medium.count) if not reads_right(store, medium, first)]
    if region == "data root":  # nobody needs it: the reader has it in the manifest
        assert wrong == []
        return
    assert wrong
    assert store.held(medium.file_id) == []
    assert store.damaged() == [(medium.file_id, 0)]
    stores.put(store, medium, 0, stores.upload_id(77))
    stores.check_share(store, medium, 0)
    assert [name.count(".damaged") for name in place.names()] == [0, 1]
    store.close()
    store = place.open()
    stores.check_share(store, medium, 0)
    assert store.reconciled.unreadable == 0


def reads_right(store: ShareStore, file: stores.Published, first: int) -> bool:
    """Whether one block of share 0 is served, and then right; else the error names the share."""
    try:
        result = store.read(file.file_id, 0, first, 1, True)
    except ShareDamaged as damage:
        return (damage.file_id, damage.share_number) != (file.file_id, 0)
    stores.check_result(file, 0, first, 1, result)
    return True


def test_rot_in_a_small_share(real: stores.Place, small: Published) -> None:
    store = real.open()
    stores.put(store, small, 0)
    with store.database.transaction() as transaction:
        transaction.run("UPDATE shares SET data = ?", small.blocks[0][0][:-1] + b"\x00")
    with pytest.raises(ShareDamaged):
        store.read(small.file_id, 0, 0, 1, True)
    stores.put(store, small, 0, stores.upload_id(4))
    stores.check_share(store, small, 0)


def test_databases_we_cannot_use_are_left_alone(real: stores.Place) -> None:
    real.open().close()
    path = real.root / "shares.db"
    cases = {"newer": f"PRAGMA user_version={SCHEMA_VERSION + 1}", "foreign": "PRAGMA application_id=7"}
    for sql in cases.values():
        connection = sqlite3.connect(path)
        before_version, before_id = (
            connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("user_version", "application_id")
        )
        connection.execute(sql)
        connection.close()
        contents = path.read_bytes()
        with pytest.raises(StoreUnusable):
            real.open()
        assert path.read_bytes() == contents
        connection = sqlite3.connect(path)
        connection.execute(f"PRAGMA user_version={before_version}")
        connection.execute(f"PRAGMA application_id={before_id}")
        connection.close()
    real.open().close()


@pytest.mark.parametrize("contents", [b"not a database at all" * 100, b"SQLite format 3\x00" + bytes(84)])
def test_a_damaged_database_is_not_overwritten(real: stores.Place, contents: bytes) -> None:
    real.root.mkdir(parents=True)
    (real.root / "shares.db").write_bytes(contents)
    with pytest.raises(StoreUnusable, match="nothing was changed"):
        real.open()
    assert (real.root / "shares.db").read_bytes() == contents


def test_another_programs_database_is_not_touched(real: stores.Place) -> None:
    real.root.mkdir(parents=True)
    connection = sqlite3.connect(real.root / "shares.db")
    connection.execute("CREATE TABLE notes (text)")
    connection.commit()
    connection.close()
    contents = (real.root / "shares.db").read_bytes()
    with pytest.raises(StoreUnusable, match="another program"):
        real.open()
    assert (real.root / "shares.db").read_bytes() == contents


def test_ten_thousand_shares_open_within_a_second(real: stores.Place, medium: Published) -> None:
    store = real.open()
    stores.put(store, medium, 0)
    source = real.share_path(medium, 0)
    (row,) = store.database.rows("SELECT * FROM shares")
    rows = []
    for number in range(10_000):
        file_id, folder = random.Random(number).randbytes(32), f"{number % 256:02x}"
        path = real.root / "shares" / folder / f"{file_id.hex()}.0"
        path.parent.mkdir(exist_ok=True)
        path.hardlink_to(source) if number < 100 else path.touch()
        rows.append((file_id, 0, *row[2:4], random.Random(number).randbytes(16), *row[5:8], folder, None))
    with store.database.transaction() as transaction:
        transaction.run_many("INSERT INTO shares VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
    times_s = []
    for _ in range(3):
        store.close()
        begun = time.process_time()  # the machine may be busy with other things
        store = real.open()
        times_s.append(time.process_time() - begun)
    assert min(times_s) < 1.0
    assert store.usage().shares == 10_001
