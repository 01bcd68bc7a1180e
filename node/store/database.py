"""The share database: opened without harm, brought up from older versions, used from any thread.

WAL with synchronous=FULL: a transaction that returned survives a power cut. One connection, one lock: SQLite
has one writer anyway, and readers of share files need the database only to open them.
"""

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from shoal.node.store.disk import Disk
from shoal.node.store.errors import StoreUnusable, database_errors, disk_errors
from shoal.node.store.schema import SCHEMA_VERSION, STEPS

APPLICATION_ID = 0x53484F4C  # "SHOL": tells our databases from other programs'
WAL_LIMIT_BYTES = 16 << 20  # the log is cut back to this after a checkpoint

INCREMENTAL = 2  # SQLite's number for "free pages are given back when asked"
SPARE_PAGES = 256  # 1 MiB of free pages is kept: uploads and commits need some all the time
SHRINK_PAGES = 512  # given back at a time: on a full disk the log has to grow by this much first
SHRINK_STEPS = 32  # … and at most so often in one go, to keep others waiting a fraction of a second
REBUILD_LIMIT_BYTES = 64 << 20  # an old database up to this is rewritten at start-up, within about a second

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
        """Do all of the block or nothing. It is durable when the block has ended without an error."""
        with self._lock, database_errors:
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
        with self._lock, database_errors:
            return self._transaction.rows(sql, *values)

    def row(self, sql: str, *values: object) -> Row | None:
        """The first row of a query, if there is any."""
        with self._lock, database_errors:
            row: Row | None = self._connection.execute(sql, values).fetchone()
            return row

    def shrink(self) -> None:
        """Give free pages beyond a spare megabyte back to the disk, up to 64 MiB at a time."""
        for _ in range(SHRINK_STEPS):
            with self._lock, database_errors:
                if not self._shrink_step():
                    return

    def _shrink_step(self) -> bool:
        (free,) = self._connection.execute("PRAGMA freelist_count").fetchone()
        (mode,) = self._connection.execute("PRAGMA auto_vacuum").fetchone()
        if free <= SPARE_PAGES or mode != INCREMENTAL:
            return False
        # A script, because Python steps a single PRAGMA only once, and each step frees one page.
        self._connection.executescript(f"PRAGMA incremental_vacuum({min(SHRINK_PAGES, free - SPARE_PAGES)})")
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return True

    def close(self) -> None:
        """Let SQLite fold its log into the database and release the files."""
        with self._lock, database_errors:
            self._connection.close()


def open_database(disk: Disk, path: Path) -> Database:
    """Open or create the database. Raises StoreUnusable, and changes nothing, when it is none that we can use."""
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
    if not is_new and (application != APPLICATION_ID or version < 1):
        raise StoreUnusable(f"{path} is a database of another program; nothing was changed")
    if version > SCHEMA_VERSION:
        raise StoreUnusable(
            f"{path} was written by a newer version of shoal (schema {version}, not {SCHEMA_VERSION}); "
            "nothing was changed"
        )
    if is_new:  # before the first page is written, which the log's mode does
        connection.execute(f"PRAGMA auto_vacuum={INCREMENTAL}")
    _use_log(connection, path)
    if version < SCHEMA_VERSION:
        _bring_up(connection, version)
    _let_shrink(connection)


def _use_log(connection: sqlite3.Connection, path: Path) -> None:
    (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
    if mode not in ("wal", "memory"):  # "memory": a simulated disk, which has a crash model of its own
        raise StoreUnusable(f"the file system of {path} cannot carry an SQLite log (journal mode {mode})")
    connection.execute(f"PRAGMA journal_size_limit={WAL_LIMIT_BYTES}")


def _bring_up(connection: sqlite3.Connection, version: int) -> None:
    """Take all missing steps in one transaction. A crash leaves the old version or the new one, never a mix."""
    connection.execute("BEGIN IMMEDIATE")
    for step in STEPS[version:]:
        for statement in step.split(";"):
            if statement.strip():
                connection.execute(statement)
    connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
    connection.execute("COMMIT")


def _let_shrink(connection: sqlite3.Connection) -> None:
    """Rewrite a database of version 1, which could not give pages back, unless that would take long.

    A database that is not rewritten works as well. Its free pages count as used until they are used again.
    """
    (mode,) = connection.execute("PRAGMA auto_vacuum").fetchone()
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
    if mode != INCREMENTAL and pages * page_bytes <= REBUILD_LIMIT_BYTES:
        connection.execute(f"PRAGMA auto_vacuum={INCREMENTAL}")
        with suppress(sqlite3.Error):  # no room, say: the next start tries again
            connection.execute("VACUUM")
