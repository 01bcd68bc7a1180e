"""The share database: schema, opening without harm, and transactions from any thread.

WAL with synchronous=FULL: a transaction that returned survives a power cut. One connection, one lock: SQLite
has one writer anyway, and readers of share files need the database only to open them.
"""

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from shoal.node.store.disk import Disk
from shoal.node.store.errors import StoreUnusable, database_errors, disk_errors

APPLICATION_ID = 0x53484F4C  # "SHOL": tells our databases from other programs'
SCHEMA_VERSION = 1
WAL_LIMIT_BYTES = 16 << 20  # the log is cut back to this after a checkpoint

SCHEMA = """
CREATE TABLE files (
    file_id BLOB PRIMARY KEY NOT NULL,
    manifest BLOB NOT NULL
);
CREATE TABLE shares (
    file_id BLOB NOT NULL,
    share_number INTEGER NOT NULL,
    lease_end INTEGER NOT NULL,
    stored_at INTEGER NOT NULL,
    upload_id BLOB NOT NULL,
    share_bytes INTEGER NOT NULL,
    file_bytes INTEGER NOT NULL,
    state INTEGER NOT NULL,
    folder TEXT,
    data BLOB,
    PRIMARY KEY (file_id, share_number)
);
CREATE INDEX shares_by_upload ON shares (upload_id);
CREATE INDEX shares_by_lease ON shares (lease_end);
CREATE TABLE uploads (
    upload_id BLOB PRIMARY KEY NOT NULL,
    source BLOB NOT NULL,
    size_bound INTEGER NOT NULL,
    touched INTEGER NOT NULL,
    blocks INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    data BLOB
);
CREATE TABLE upload_leaves (
    upload_id BLOB NOT NULL,
    first_block INTEGER NOT NULL,
    block_leaves BLOB NOT NULL,
    data_leaves BLOB NOT NULL,
    PRIMARY KEY (upload_id, first_block)
);
CREATE TABLE statements (
    file_id BLOB NOT NULL,
    share_number INTEGER NOT NULL,
    holder_id BLOB NOT NULL,
    expires INTEGER NOT NULL,
    lease_end INTEGER NOT NULL,
    statement BLOB NOT NULL,
    PRIMARY KEY (file_id, share_number, holder_id)
) WITHOUT ROWID;
CREATE TABLE intake (
    source BLOB NOT NULL,
    hour INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    PRIMARY KEY (source, hour)
) WITHOUT ROWID;
CREATE TABLE garbage (
    path TEXT PRIMARY KEY NOT NULL
) WITHOUT ROWID;
"""

Row = tuple[Any, ...]


class Transaction:
    """What may be done inside `Database.transaction`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def run(self, sql: str, *values: object) -> int:
        """Execute one statement; how many rows it changed."""
        return self._connection.execute(sql, values).rowcount

    def run_many(self, sql: str, rows: Iterable[Sequence[object]]) -> None:
        """Execute one statement per row."""
        self._connection.executemany(sql, rows)

    def rows(self, sql: str, *values: object) -> list[Row]:
        """All rows of a query."""
        return self._connection.execute(sql, values).fetchall()


class Database:
    """An open share database. Methods raise StoreFull or DatabaseFailed."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._transaction = Transaction(connection)
        self._lock = threading.Lock()

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """All or nothing; durable when the block has been left without an error."""
        with self._lock, database_errors():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._transaction
                self._connection.execute("COMMIT")
            except Exception:  # whatever it was, it passes on; half a transaction must not stay open
                self._roll_back()
                raise

    def _roll_back(self) -> None:
        if self._connection.in_transaction:  # SQLite ends it by itself after some errors
            self._connection.execute("ROLLBACK")

    def rows(self, sql: str, *values: object) -> list[Row]:
        """All rows of a query."""
        with self._lock, database_errors():
            return self._transaction.rows(sql, *values)

    def row(self, sql: str, *values: object) -> Row | None:
        """The first row of a query, if there is any."""
        with self._lock, database_errors():
            row: Row | None = self._connection.execute(sql, values).fetchone()
            return row

    def close(self) -> None:
        """Let SQLite fold its log into the database and release the files."""
        with self._lock, database_errors():
            self._connection.close()


def open_database(disk: Disk, path: Path) -> Database:
    """Open or create the database. StoreUnusable, and nothing changed, when it is not one we can use."""
    with disk_errors(f"share database {path}"), _unusable(path):
        connection = disk.database(path)
        try:
            _prepare(connection, path)
        except BaseException:
            connection.close()
            raise
    return Database(connection)


@contextmanager
def _unusable(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StoreUnusable(f"the share database {path} cannot be used ({error}); nothing was changed") from error


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (objects,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    is_new = (application, version, objects) == (0, 0, 0)
    if not is_new and application != APPLICATION_ID:
        raise StoreUnusable(f"{path} is a database of another program; nothing was changed")
    if version > SCHEMA_VERSION:
        raise StoreUnusable(
            f"{path} was written by a newer version of shoal (schema {version}, not {SCHEMA_VERSION}); "
            "nothing was changed"
        )
    _use_log(connection, path)
    if is_new:
        _create(connection)


def _use_log(connection: sqlite3.Connection, path: Path) -> None:
    (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
    if mode not in ("wal", "memory"):  # "memory": a simulated disk, which has a crash model of its own
        raise StoreUnusable(f"the file system of {path} cannot carry an SQLite log (journal mode {mode})")
    connection.execute(f"PRAGMA journal_size_limit={WAL_LIMIT_BYTES}")


def _create(connection: sqlite3.Connection) -> None:
    """All tables in one transaction, so that a crash leaves either a new database or an empty file."""
    connection.execute("BEGIN IMMEDIATE")
    for statement in SCHEMA.split(";"):
        if statement.strip():
            connection.execute(statement)
    connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
    connection.execute("COMMIT")
