"""The list of what a home has published: durable, private, shared by commands that run at once."""

import os
import sqlite3
import stat
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from shoal.erasure import FileId, Link, LinkKind
from shoal.node.errors import LocalError
from shoal.node.home.ledger import SCHEMA_VERSION, Ledger
from shoal.node.results import KeptFile, Published, PublishedFile

OWNER = bytes(range(32))


def published(number: int = 0, *, shares: int = 12, public: bool = False, size: int = 1000) -> Published:
    file_id = FileId(number.to_bytes(32, "big"))
    link = Link(file_id, LinkKind.PUBLIC) if public else Link(file_id, LinkKind.PRIVATE, bytes(32))
    return Published(link, size, 4, 12, 9, shares, shares, 1.0, 0, 0, 1_800_000_000.0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "published.db"


@pytest.fixture(params=["file", "memory"])
def ledger(request: pytest.FixtureRequest, path: Path) -> Ledger:
    return Ledger(path if request.param == "file" else None)


def test_nothing_published_leaves_no_file(path: Path) -> None:
    assert Ledger(path).files() == []
    assert not path.exists()


def test_what_was_added_is_listed_in_order_of_time(ledger: Ledger) -> None:
    ledger.add(published(1), "late.txt", OWNER, 30.0, 100.5)
    ledger.add(published(2, public=True, size=2**62), None, OWNER, 10.0, 90.0)
    assert ledger.files() == [
        PublishedFile(published(2, public=True).link, None, 2**62, 4, 12, 12, 10.0, 90.0),
        PublishedFile(published(1).link, "late.txt", 1000, 4, 12, 12, 30.0, 100.5),
    ]


def test_completing_a_file_replaces_its_line(ledger: Ledger) -> None:
    ledger.add(published(1, shares=7), "f", OWNER, 10.0, 90.0)
    ledger.add(published(1, shares=12), "f", OWNER, 20.0, 95.0)
    (line,) = ledger.files()
    assert (line.shares, line.published_at) == (12, 20.0)


@pytest.mark.parametrize("name", ["plain", "é", "\udcff\udcfe", "new\nline", "\x1b[31m", "n" * 255])
def test_names_keep_their_bytes(ledger: Ledger, name: str) -> None:
    ledger.add(published(), name, OWNER, 0.0, 0.0)
    assert ledger.files()[0].name == name


def test_only_its_user_may_read_it(path: Path) -> None:
    before = os.umask(0)
    try:
        Ledger(path).add(published(), "f", OWNER, 0.0, 0.0)
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert os.listdir(path.parent) == [path.name]


def test_the_owner_secret_is_kept(path: Path) -> None:
    Ledger(path).add(published(), "f", OWNER, 0.0, 0.0)
    database = sqlite3.connect(path)
    assert database.execute("SELECT owner_secret FROM published").fetchone() == (OWNER,)
    database.close()


def test_commands_at_once_all_get_their_line(path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda at: Ledger(path).add(published(at), f"{at}", OWNER, float(at), 0.0), range(24)))
    assert [line.name for line in Ledger(path).files()] == [str(at) for at in range(24)]


def test_a_damaged_file_is_named_and_left_alone(path: Path) -> None:
    path.write_bytes(b"this is no database" * 100)
    for use in (Ledger(path).files, lambda: Ledger(path).add(published(), "f", OWNER, 0.0, 0.0)):
        with pytest.raises(LocalError, match=r"published\.db"):
            use()
    assert path.read_bytes() == b"this is no database" * 100


def test_a_damaged_line_is_named(path: Path) -> None:
    Ledger(path).add(published(), "f", OWNER, 0.0, 0.0)
    database = sqlite3.connect(path)
    with database:
        database.execute("UPDATE published SET link = 'shoal:nonsense'")
    database.close()
    with pytest.raises(LocalError, match=r"published\.db"):
        Ledger(path).files()


def test_a_newer_file_is_not_touched(path: Path) -> None:
    Ledger(path).add(published(), "f", OWNER, 0.0, 0.0)
    database = sqlite3.connect(path)
    database.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    database.close()
    with pytest.raises(LocalError, match="newer version"):
        Ledger(path).files()


def test_no_link_is_followed(path: Path, tmp_path: Path) -> None:
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LocalError):
        Ledger(path).add(published(), "f", OWNER, 0.0, 0.0)
    assert not (tmp_path / "elsewhere").exists()


def test_a_folder_in_its_place_is_named(path: Path) -> None:
    path.mkdir()
    with pytest.raises(LocalError, match=r"published\.db"):
        Ledger(path).files()


def test_the_owner_secret_is_found_and_a_deletion_noted(ledger: Ledger) -> None:
    assert ledger.owner_secret(FileId(bytes(32))) is None
    ledger.add(published(1), "f", OWNER, 10.0, 90.0)
    assert ledger.owner_secret(published(1).link.id) == OWNER
    assert ledger.files()[0].deleted_at is None
    ledger.mark_deleted(published(1).link.id, 50.0)
    assert ledger.files()[0].deleted_at == 50.0
    assert ledger.owner_secret(published(1).link.id) == OWNER


def test_a_lease_moves_on_and_never_back(ledger: Ledger) -> None:
    ledger.add(published(1), "f", OWNER, 10.0, 90.0)
    ledger.add(published(2), "f", OWNER, 11.0, 90.0)
    ledger.extend(published(1).link.id, 100.0)
    ledger.extend(published(1).link.id, 95.0)
    assert [file.lease_end for file in ledger.files()] == [100.0, 90.0]
    ledger.keep(published(2).link, 20.0, 110.0)
    ledger.note_renewal(published(2).link, 30.0, 120.0)
    assert [file.lease_end for file in ledger.files()] == [100.0, 120.0]


def test_what_the_hosts_say_of_a_lease_is_believed(ledger: Ledger) -> None:
    link = published(1).link
    ledger.add(published(1), "f", OWNER, 10.0, 90.0)
    ledger.keep(link, 20.0, 95.0)
    ledger.extend(link.id, 120.0)
    assert (ledger.files()[0].lease_end, ledger.kept()[0].lease_until) == (120.0, 120.0)
    ledger.see(link.id, 80.0)
    assert (ledger.files()[0].lease_end, ledger.kept()[0].lease_until) == (80.0, 80.0)
    assert ledger.kept()[0].renewed_at == 20.0


def test_what_was_not_published_here_makes_no_list(path: Path) -> None:
    ledger = Ledger(path)
    ledger.extend(published(1).link.id, 100.0)
    ledger.see(published(1).link.id, 100.0)
    ledger.note_renewal(published(1).link, 10.0, 100.0)
    ledger.mark_deleted(published(1).link.id, 100.0)
    assert not path.exists()


def test_kept_files_are_listed_by_their_hash_alone(ledger: Ledger, path: Path) -> None:
    link = published(1).link
    assert ledger.kept() == []
    assert not ledger.unkeep(link)
    ledger.keep(link, 10.0, 90.0)
    ledger.keep(link, 20.0, 100.0)
    assert ledger.kept() == [KeptFile(Link(link.id), 10.0, 20.0, 100.0)]
    ledger.note_renewal(link, 30.0, 110.0)
    assert ledger.kept() == [KeptFile(Link(link.id), 10.0, 30.0, 110.0)]
    if path.exists():
        assert str(link).partition("#")[2].encode() not in path.read_bytes()
    assert ledger.unkeep(link)
    ledger.note_renewal(link, 40.0, 120.0)
    assert ledger.kept() == []


def test_a_list_of_version_1_is_brought_up_to_date(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(
            "CREATE TABLE published (file_id BLOB PRIMARY KEY, link TEXT NOT NULL, owner_secret BLOB NOT NULL, "
            "name BLOB, size INTEGER NOT NULL, k INTEGER NOT NULL, n INTEGER NOT NULL, shares INTEGER NOT NULL, "
            "published_at REAL NOT NULL, lease_end REAL NOT NULL) STRICT"
        )
        link = published(3).link
        row = (bytes(link.id), str(link), OWNER, b"old", 7, 4, 12, 12, 1.0, 2.0)
        database.execute("INSERT INTO published VALUES (?,?,?,?,?,?,?,?,?,?)", row)
        database.execute("PRAGMA user_version = 1")
    with ThreadPoolExecutor(4) as pool:
        lists = list(pool.map(lambda _: Ledger(path).files(), range(4)))
    assert all(files == [PublishedFile(link, "old", 7, 4, 12, 12, 1.0, 2.0)] for files in lists)
    Ledger(path).keep(link, 1.0, 2.0)
    assert len(Ledger(path).kept()) == 1


def test_a_list_that_cannot_even_be_looked_for_is_told(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / ("x" * 300))  # as on a disk that fails: another error than that it is not there
    for use in (ledger.files, ledger.kept, lambda: ledger.owner_secret(published().link.id), ledger.check):
        with pytest.raises(LocalError, match="Cannot use the list"):
            use()
