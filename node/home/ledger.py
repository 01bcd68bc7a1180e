"""This home's own lists: what it has published, with keys and owner secrets, and what it keeps alive.

Whoever reads this file reads everything in it, so it is 0600 in a 0700 folder. SQLite, because a list that is written
by several commands at once and must survive a crash is a database.
"""

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from shoal.erasure import ErasureError, FileId, Link, parse_link
from shoal.node.errors import LocalError
from shoal.node.home.home import FILE_MODE
from shoal.node.results import KeptFile, Published, PublishedFile

T = TypeVar("T")

SCHEMA_VERSION = 3
BUSY_TIMEOUT_S = 10.0  # another command is writing its line

_PUBLISHED = """
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
"""  # as in version 1
_STEPS = (  # the version that a step leads to, and the step
    (2, "ALTER TABLE published ADD COLUMN deleted_at REAL"),
    (
        2,
        """
CREATE TABLE kept (
    file_id BLOB PRIMARY KEY,
    hash TEXT NOT NULL,
    kept_since REAL NOT NULL,
    renewed_at REAL NOT NULL,
    lease_until REAL NOT NULL
) STRICT
""",
    ),
    (3, "ALTER TABLE published ADD COLUMN replaced_by TEXT"),
)


class Ledger:
    """The list, in a file or (for a node without a home) in memory."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._memory = sqlite3.connect(":memory:", check_same_thread=False) if path is None else None
        if self._memory is not None:
            _prepare(self._memory)

    def check(self) -> None:
        """`LocalError` when the list cannot be written: known before hours of sending, not after."""
        with self._open() as database, database:
            database.execute("BEGIN IMMEDIATE")

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
            database.execute("INSERT OR REPLACE INTO published VALUES (?,?,?,?,?,?,?,?,?,?,NULL,NULL)", row)

    def files(self) -> list[PublishedFile]:
        """All publishes, the latest last."""
        columns = "link, name, size, k, n, shares, published_at, lease_end, deleted_at, replaced_by"
        return self._rows(_file, f"SELECT {columns} FROM published ORDER BY published_at")

    def owner_secret(self, file_id: FileId) -> bytes | None:
        """The secret that may delete a file, if it was published from here."""
        query = "SELECT owner_secret FROM published WHERE file_id = ?"
        secrets = self._rows(lambda row: bytes(row[0]), query, file_id)
        return secrets[0] if secrets else None

    def extend(self, file_id: FileId, lease_end: float) -> None:
        """Note that a file on these lists is kept for longer; nothing for any other.

        A lease that is not of the keeper's own renewal makes it renew early after its next start, which does no harm.
        """
        self._note_lease("max({column}, ?)", file_id, lease_end)

    def see(self, file_id: FileId, lease_end: float) -> None:
        """Note until when the hosts of a file on these lists keep it, as they have just said; nothing for any other."""
        self._note_lease("?", file_id, lease_end)

    def _note_lease(self, value: str, file_id: FileId, lease_end: float) -> None:
        if not self._is_there():
            return
        with self._open() as database, database:
            for table, column in (("published", "lease_end"), ("kept", "lease_until")):
                statement = f"UPDATE {table} SET {column} = {value.format(column=column)} WHERE file_id = ?"
                database.execute(statement, (lease_end, file_id))

    def mark_deleted(self, file_id: FileId, now: float) -> None:
        """Note that a deletion went out. The line stays: it can be sent again, to those who were away. Nobody here
        keeps the file any more.
        """
        if not self._is_there():
            return
        with self._open() as database, database:
            database.execute("UPDATE published SET deleted_at = ? WHERE file_id = ?", (now, file_id))
            database.execute("DELETE FROM kept WHERE file_id = ?", (file_id,))

    def replace(self, old: Link, new: Link, now: float, lease_until: float) -> bool:
        """Note that a file was published again under another link. Whether the old one is kept: then the new one is
        kept from now on, too.
        """
        if not self._is_there():
            return False
        self._change("UPDATE published SET replaced_by = ? WHERE file_id = ?", new.hash, bytes(old.id))
        is_kept = any(file.link.id == old.id for file in self.kept())
        if is_kept:
            self.keep(new, now, lease_until)
        return is_kept

    # --- files that this home's node renews

    def keep(self, link: Link, now: float, lease_until: float) -> None:
        """Put a file on the list, or note a renewal of one that is there. Only its hash is written down."""
        self._change(
            "INSERT INTO kept VALUES (?1, ?2, ?3, ?3, ?4) "
            "ON CONFLICT (file_id) DO UPDATE SET renewed_at = ?3, lease_until = ?4",
            bytes(link.id),
            link.hash,
            now,
            lease_until,
        )

    def note_renewal(self, link: Link, now: float, lease_until: float) -> None:
        """Note a renewal, unless the file was taken off the list meanwhile."""
        if not self._is_there():
            return
        self.extend(link.id, lease_until)
        renewed = "UPDATE kept SET renewed_at = ?, lease_until = ? WHERE file_id = ?"
        self._change(renewed, now, lease_until, bytes(link.id))

    def unkeep(self, link: Link) -> bool:
        """Take a file off the list; whether it was on it."""
        return self._change("DELETE FROM kept WHERE file_id = ?", bytes(link.id)) > 0

    def kept(self) -> list[KeptFile]:
        """All that is kept, the latest last."""
        query = "SELECT hash, kept_since, renewed_at, lease_until FROM kept ORDER BY kept_since"
        return self._rows(lambda row: KeptFile(parse_link(row[0]), *row[1:]), query)

    def _rows(self, make: Callable[[tuple[Any, ...]], T], query: str, *values: object) -> list[T]:
        if not self._is_there():
            return []
        with self._open() as database:
            return [make(row) for row in database.execute(query, values)]

    def _change(self, statement: str, *values: object) -> int:
        with self._open() as database, database:
            return database.execute(statement, values).rowcount

    def _is_there(self) -> bool:
        """Whether anything was ever noted. A list is not made only to be found empty."""
        with self._told():
            return self._path is None or self._path.exists()

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with self._told():
            if self._memory is not None:
                yield self._memory
                return
            assert self._path is not None, "a ledger is in a file or in memory"
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, FILE_MODE))
            with closing(sqlite3.connect(self._path, timeout=BUSY_TIMEOUT_S)) as database:
                database.execute("PRAGMA synchronous = FULL")
                _prepare(database)
                yield database

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError, ErasureError) as error:
            raise LocalError(f"Cannot use the list of published files {self._path}: {error}.") from error


def _prepare(database: sqlite3.Connection) -> None:
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA_VERSION:
        raise sqlite3.DatabaseError("it was written by a newer version of Shoal")
    if version < SCHEMA_VERSION:
        with database:
            database.execute("BEGIN IMMEDIATE")  # of two commands that find an old list, one brings it up to date
            (version,) = database.execute("PRAGMA user_version").fetchone()
            if version < 1:
                database.execute(_PUBLISHED)
            for leads_to, step in _STEPS:
                if version < leads_to:
                    database.execute(step)
            database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _file(row: tuple[Any, ...]) -> PublishedFile:
    link, name, size, k, n, shares, published_at, lease_end, deleted_at, replaced_by = row
    shown = None if name is None else os.fsdecode(name)
    times = (published_at, lease_end, deleted_at)
    return PublishedFile(parse_link(link), shown, size, k, n, shares, *times, replaced_by=replaced_by)
