"""What owners had deleted. It is remembered so that no repair brings it back. The store reads no tombstone.

Each counts for the group of sources that its file came from. Where the table is full, the group that has most loses
its tombstone that ends soonest. So a stranger that stores and deletes files pushes out its own.
"""

from shoal.node.store.database import Database, Transaction
from shoal.node.store.limits import MAX_TOMBSTONE_BYTES
from shoal.values import dataclass


class Tombstones:
    """Thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, file_id: bytes) -> bytes | None:
        """The tombstone of a file, or None."""
        row = self._database.row("SELECT tombstone FROM tombstones WHERE file_id = ?", file_id)
        return row[0] if row else None

    def forget(self, now: float) -> None:
        """Drop tombstones whose time is over. The clock must agree with others: a wrong one would bring files back."""
        with self._database.transaction() as transaction:
            over = transaction.rows("SELECT source, count(*) FROM tombstones WHERE until < ? GROUP BY source", now)
            transaction.run("DELETE FROM tombstones WHERE until < ?", now)
            for source, gone in over:
                _count(transaction, source, -gone)


@dataclass(frozen=True, slots=True)
class Tombstone:
    """An owner's word about a file, kept until then. `source` is the group of sources that it counts for."""

    file_id: bytes
    word: bytes
    until: int
    source: bytes


def keep_tombstone(transaction: Transaction, new: Tombstone, now: float, max_count: int) -> None:
    """Enter a tombstone. Of two for one file the one that lasts longer stays. At most `max_count` stay.

    Raises ValueError when it is too long.
    """
    if len(new.word) > MAX_TOMBSTONE_BYTES:
        raise ValueError(f"a tombstone has at most {MAX_TOMBSTONE_BYTES} bytes")
    if is_deleted(transaction, new.file_id):
        transaction.run(
            "UPDATE tombstones SET until = ?, tombstone = ? WHERE file_id = ? AND until < ?",
            new.until,
            new.word,
            new.file_id,
            new.until,
        )
        return
    transaction.run(
        "INSERT INTO tombstones (file_id, deleted_at, until, tombstone, source) VALUES (?, ?, ?, ?, ?)",
        new.file_id,
        int(now),
        new.until,
        new.word,
        new.source,
    )
    _count(transaction, new.source, 1)
    ((kept,),) = transaction.rows("SELECT sum(kept) FROM tombstone_sources")
    for _ in range(kept - max_count):
        _push_out(transaction, new)


def _push_out(transaction: Transaction, new: Tombstone) -> None:
    """Make room: of the group that has most, the tombstone that ends soonest, and never the new one."""
    ((most_of, most),) = transaction.rows("SELECT source, kept FROM tombstone_sources ORDER BY kept DESC LIMIT 1")
    ((own,),) = transaction.rows("SELECT kept FROM tombstone_sources WHERE source = ?", new.source)
    source = new.source if own == most > 1 else most_of  # of equals the one that brings more
    transaction.run(
        "DELETE FROM tombstones WHERE file_id = "
        "(SELECT file_id FROM tombstones WHERE source = ? AND file_id != ? ORDER BY until LIMIT 1)",
        source,
        new.file_id,
    )
    _count(transaction, source, -1)


def _count(transaction: Transaction, source: bytes, change: int) -> None:
    """Count tombstones of a group that came or went. Nothing is remembered of one that has none."""
    transaction.run(
        "INSERT INTO tombstone_sources VALUES (?, ?) ON CONFLICT (source) DO UPDATE SET kept = kept + excluded.kept",
        source,
        change,
    )
    transaction.run("DELETE FROM tombstone_sources WHERE source = ? AND kept = 0", source)


def is_deleted(transaction: Transaction, file_id: bytes) -> bool:
    """Whether a tombstone of this file is kept."""
    return bool(transaction.rows("SELECT 1 FROM tombstones WHERE file_id = ?", file_id))
