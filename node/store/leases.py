"""When a share may be dropped: three conditions, so that no wrong clock and no long absence ever costs a share.

A share is due when
  * the wall clock is more than 14 days past its lease end, and
  * 14 days of this node's own uptime have passed since it was first seen past its lease end, and
  * the caller says that its clock agrees with its peers'.

"First seen" is noted as a reading of the uptime counter, and only while the clock agrees. So a clock that is far ahead
for weeks starts nothing. The note is dropped when the lease is extended, when the share is replaced, or when the wall
clock is before the lease end again. So a jump of the clock can delay a drop, and never hasten it.
"""

from shoal.node.store.catalogue import ShareKey
from shoal.node.store.database import Database, Transaction
from shoal.node.store.limits import GRACE_S

DUE = """
FROM expired JOIN shares USING (file_id, share_number)
WHERE shares.lease_end < ? AND expired.uptime <= (SELECT max(seconds) FROM uptime) - ?
"""


class Leases:
    """The uptime counter and what was seen expired. Thread-safe."""

    def __init__(self, database: Database, max_drops: int) -> None:
        self._database = database
        self._max_drops = max_drops

    def note_uptime(self, seconds: float, now: float) -> float:
        """Add to the counter, durably, and remember the wall clock. Returns the total. Raises ValueError below zero."""
        if not 0 <= seconds < float("inf"):
            raise ValueError(f"{seconds} seconds of uptime")
        with self._database.transaction() as transaction:
            transaction.run("UPDATE uptime SET seconds = seconds + ?, noted_at = ?", seconds, now)
            return uptime(transaction)

    def last_up(self) -> float:
        """The wall clock when uptime was last noted; 0 where it never was."""
        return float(self._database.rows("SELECT max(noted_at) FROM uptime")[0][0])

    def observe(self, now: float, clock_agrees: bool) -> None:
        """Note which shares are past their lease end. Drop the notes of those that are not."""
        with self._database.transaction() as transaction:
            transaction.run(
                "DELETE FROM expired WHERE EXISTS (SELECT 1 FROM shares WHERE shares.file_id = expired.file_id "
                "AND shares.share_number = expired.share_number AND shares.lease_end >= ?)",
                now,
            )
            if clock_agrees:
                transaction.run(
                    "INSERT OR IGNORE INTO expired SELECT file_id, share_number, ? FROM shares WHERE lease_end < ?",
                    uptime(transaction),
                    now,
                )

    def due(self, now: float) -> list[ShareKey]:
        """Shares to be dropped if the clock agrees, at most 1000, the longest expired first."""
        rows = self._database.rows(
            f"SELECT file_id, share_number {DUE} ORDER BY shares.lease_end LIMIT {self._max_drops}",
            now - GRACE_S,
            GRACE_S,
        )
        return [(file_id, number) for file_id, number in rows]


def is_due(transaction: Transaction, key: ShareKey, now: float) -> bool:
    """Whether a share is still due. To be asked in the transaction that drops it."""
    return bool(
        transaction.rows(
            f"SELECT 1 {DUE} AND shares.file_id = ? AND shares.share_number = ?", now - GRACE_S, GRACE_S, *key
        )
    )


def uptime(transaction: Transaction) -> float:
    """The node's own uptime so far, in seconds."""
    return float(transaction.rows("SELECT max(seconds) FROM uptime")[0][0])
