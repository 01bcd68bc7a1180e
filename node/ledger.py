"""This home's own list of what it has published: links with their keys, and the owner secrets that may delete.

Whoever reads this file reads everything in it, so it is 0600 in a 0700 folder. SQLite, because a list that is written
by several commands at once and must survive a crash is a database.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from shoal.erasure import ErasureError, parse_link
from shoal.node.errors import LocalError
from shoal.node.home import FILE_MODE
from shoal.node.results import Published, PublishedFile

SCHEMA_VERSION = 1
BUSY_TIMEOUT_S = 10.0  # another command is writing its line

_SCHEMA = """
CREATE TABLE IF NOT EXISTS published (
    file_id BLOB PRIMARY KEY,
    link TEXT NOT NULL,
    owner_secret BLOB NOT NULL,
    name BLOB,
    size INTEGER NOT NULL,
    k INTEGER NOT NULL,
    n INTEGER NOT NULL,
    shares INTEGER NOT NULL,
    published_at REAL NOT NULL,
    lease_end REAL NOT NULL
) STRICT
"""


class Ledger:
    """The list, in a file or (for a node without a home) in memory."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._memory = sqlite3.connect(":memory:", check_same_thread=False) if path is None else None
        if self._memory is not None:
            self._memory.execute(_SCHEMA)

    def add(self, published: Published, name: str | None, owner_secret: bytes, now: float, lease_end: float) -> None:
        """Note a publish durably; a second one of the same file (completed later) replaces the first."""
        row = (
            bytes(published.link.id),
            str(published.link),
            owner_secret,
            None if name is None else os.fsencode(name),
            published.size,
            published.k,
            published.n,
            published.shares,
            now,
            lease_end,
        )
        with self._open() as database, database:
            database.execute("INSERT OR REPLACE INTO published VALUES (?,?,?,?,?,?,?,?,?,?)", row)

    def files(self) -> list[PublishedFile]:
        """All publishes, the latest last."""
        if self._path is not None and not self._path.exists():
            return []
        query = "SELECT link, name, size, k, n, shares, published_at, lease_end FROM published ORDER BY published_at"
        with self._open() as database:
            return [_file(row) for row in database.execute(query)]

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            if self._memory is not None:
                yield self._memory
                return
            assert self._path is not None, "a ledger is in a file or in memory"
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, FILE_MODE))
            with closing(sqlite3.connect(self._path, timeout=BUSY_TIMEOUT_S)) as database:
                database.execute("PRAGMA synchronous = FULL")
                _prepare(database)
                yield database
        except (sqlite3.Error, OSError, ErasureError) as error:
            raise LocalError(f"Cannot use the list of published files {self._path}: {error}.") from error


def _prepare(database: sqlite3.Connection) -> None:
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA_VERSION:
        raise sqlite3.DatabaseError("it was written by a newer version of Shoal")
    if version < SCHEMA_VERSION:
        with database:
            database.execute(_SCHEMA)
            database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _file(row: tuple[str, bytes | None, int, int, int, int, float, float]) -> PublishedFile:
    link, name, size, k, n, shares, published_at, lease_end = row
    shown = None if name is None else os.fsdecode(name)
    return PublishedFile(parse_link(link), shown, size, k, n, shares, published_at, lease_end)
