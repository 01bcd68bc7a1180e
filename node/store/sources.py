"""Which host each file came from: that of the upload which brought its first share.

What a file costs this node beyond its room is shared out by that, so that one stranger's files stand in the way of no
other's. Later shares change nothing: else a stranger could make somebody's file count as its own.
"""

from collections.abc import Callable, Iterable

from shoal.node.store.database import Database, Transaction

UNKNOWN_SOURCE = b""  # of files that came before sources were noted, or that were found on the disk: they count as one
ASKED_TOGETHER = 500  # files in one query: SQLite allows 999 values in older versions


class Sources:
    """Thread-safe. `group` gives the group that a source belongs to."""

    def __init__(self, database: Database, group: Callable[[bytes], bytes]) -> None:
        self._database = database
        self._group = group

    def groups(self, file_ids: Iterable[bytes]) -> dict[bytes, bytes]:
        """The group of sources that each file came from."""
        ids = list(file_ids)
        found: dict[bytes, bytes] = dict.fromkeys(ids, UNKNOWN_SOURCE)
        for at in range(0, len(ids), ASKED_TOGETHER):
            some = ids[at : at + ASKED_TOGETHER]
            places = ", ".join("?" * len(some))
            rows = self._database.rows(f"SELECT file_id, source FROM sources WHERE file_id IN ({places})", *some)
            found.update((file_id, self._group(source)) for file_id, source in rows)
        return found


def note_source(transaction: Transaction, file_id: bytes, source: bytes) -> None:
    """Note where the first share of a file comes from, in the transaction that enters it, and before it is entered."""
    transaction.run(
        "INSERT OR IGNORE INTO sources SELECT ?, ? WHERE NOT EXISTS (SELECT 1 FROM files WHERE file_id = ?)",
        file_id,
        source,
        file_id,
    )


def source_of(transaction: Transaction, file_id: bytes) -> bytes:
    """Where a file came from."""
    rows = transaction.rows("SELECT source FROM sources WHERE file_id = ?", file_id)
    return bytes(rows[0][0]) if rows else UNKNOWN_SOURCE


def forget_source(transaction: Transaction, file_id: bytes) -> None:
    """No share of a file is kept any more."""
    transaction.run("DELETE FROM sources WHERE file_id = ?", file_id)
