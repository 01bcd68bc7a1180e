"""What owners had deleted. It is remembered so that no repair brings it back. The store reads no tombstone."""

from shoal.node.store.database import Database, Transaction
from shoal.node.store.limits import MAX_TOMBSTONE_BYTES


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
            transaction.run("DELETE FROM tombstones WHERE until < ?", now)


def keep_tombstone(
    transaction: Transaction, file_id: bytes, tombstone: bytes, until: int, now: float, max_count: int
) -> None:
    """Enter a tombstone. Of two for one file the one that lasts longer stays. At most `max_count` stay, by the same
    rule.

    Raises ValueError when it is too long.
    """
    if len(tombstone) > MAX_TOMBSTONE_BYTES:
        raise ValueError(f"a tombstone has at most {MAX_TOMBSTONE_BYTES} bytes")
    transaction.run(
        "INSERT INTO tombstones VALUES (?, ?, ?, ?) ON CONFLICT (file_id) DO UPDATE SET "
        "until = excluded.until, tombstone = excluded.tombstone WHERE excluded.until > until",
        file_id,
        int(now),
        until,
        tombstone,
    )
    transaction.run(
        "DELETE FROM tombstones WHERE file_id IN (SELECT file_id FROM tombstones WHERE file_id != ? ORDER BY until "
        "LIMIT max(0, (SELECT count(*) FROM tombstones) - ?))",
        file_id,
        max_count,
    )


def is_deleted(transaction: Transaction, file_id: bytes) -> bool:
    """Whether a tombstone of this file is kept."""
    return bool(transaction.rows("SELECT 1 FROM tombstones WHERE file_id = ?", file_id))
