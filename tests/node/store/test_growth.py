"""What a store with many shares or uploads is asked often costs no look at each: indexes and totals answer it."""

import random
import sqlite3
from collections import Counter
from pathlib import Path

import pytest

from kit import stores
from kit.stores import Published
from shoal.node.store import RealDisk
from shoal.node.store.accounts import Accounts
from shoal.node.store.intake import Intake

BY_LEASE = "shares USING INDEX shares_by_lease"  # reads rows as well, but only up to the first whole share


class TracingDisk(RealDisk):
    """The real disk; notes the queries of the database it opens."""

    def __init__(self) -> None:
        self.queries: list[str] = []
        self.connection: sqlite3.Connection | None = None

    def database(self, path: Path) -> sqlite3.Connection:
        self.connection = super().database(path)
        self.connection.set_trace_callback(self.queries.append)
        return self.connection

    def plans(self) -> list[str]:
        """How SQLite goes about the queries noted, those about shares."""
        assert self.connection is not None
        self.connection.set_trace_callback(None)
        asked = [query for query in self.queries if query.startswith("SELECT") and "shares" in query]
        return [
            f"{row[3]}: {query}" for query in asked for row in self.connection.execute(f"EXPLAIN QUERY PLAN {query}")
        ]


@pytest.fixture
def disk(tmp_path: Path, small: Published, medium: Published) -> TracingDisk:
    """Under a store with a share in a file and one in the database, closed."""
    place = stores.Place(RealDisk(), tmp_path / "store")
    store = place.open()
    stores.put(store, small, 0, stores.upload_id(1))
    stores.put(store, medium, 0, stores.upload_id(2))
    store.close()
    return TracingDisk()


def check(disk: TracingDisk) -> None:
    plans = [plan for plan in disk.plans() if " shares" in plan.split(": ")[0]]
    assert plans, "there are such queries"
    assert [plan for plan in plans if "COVERING INDEX" not in plan.split(": ")[0] and BY_LEASE not in plan] == []


def test_a_start_reads_no_share_that_is_not_in_a_file(disk: TracingDisk, tmp_path: Path) -> None:
    store = stores.Place(disk, tmp_path / "store").open()
    check(disk)
    store.close()


def test_the_status_reads_no_share(disk: TracingDisk, tmp_path: Path) -> None:
    store = stores.Place(disk, tmp_path / "store").open()
    disk.queries.clear()
    usage, health = store.usage(), store.health()
    assert (usage.files, usage.shares, health.whole, health.oldest_check) == (2, 2, 2, 0)
    assert store.damaged() == []
    assert len(store.files()) == 2
    check(disk)
    store.close()


def test_what_is_asked_about_one_share_finds_it_by_its_names(
    disk: TracingDisk, tmp_path: Path, small: Published, medium: Published
) -> None:
    store = stores.Place(disk, tmp_path / "store").open()
    disk.queries.clear()
    stores.put(store, small, 1, stores.upload_id(3))
    stores.check_share(store, small, 1)
    store.read(medium.file_id, 0, 0, 1, True)
    plans = [plan for plan in disk.plans() if " shares" in plan.split(": ")[0]]
    assert len(plans) > 3
    assert [plan for plan in plans if "file_id=?" not in plan and "upload_id=?" not in plan] == []
    store.close()


def test_the_totals_are_those_of_the_uploads_that_are_open() -> None:
    """They are kept as uploads come and go, since summing up thousands at every offer takes milliseconds."""
    rng, now, sources = random.Random(5), 1_800_000_000.0, [b"a", b"b", b"c"]
    accounts = Accounts(
        capacity_bytes=1 << 40,
        reserve_bytes=0,
        free_bytes=lambda: 1 << 40,
        database_bytes=lambda: 0,
        intake=Intake(),
        private=False,
    )
    opened: list[bytes] = []
    for number in range(400):
        upload = number.to_bytes(16, "big")
        accounts.admit(upload, rng.choice(sources), rng.choice([0, 1, 1 << 20]), now)
        opened.append(upload)
        accounts.receive(rng.choice(opened), rng.randrange(1 << 20), now)
        accounts.receive(opened[0], 77, now)
        accounts.give_back(opened[0], 77, now)
        while len(opened) > rng.randrange(60):
            accounts.close(opened.pop(rng.randrange(len(opened))))
        accounts.close(b"no such upload")
        charges = accounts.charges.values()
        assert (accounts.used_bytes, accounts.promised_bytes) == (
            sum(charge.used for charge in charges),
            sum(charge.promised for charge in charges),
        )
        assert accounts.places.sources == Counter(charge.source for charge in charges)
        assert accounts.usage().uploads == len(opened)
