"""What the database knows: shares, files, statements. Each method is one query or one transaction."""

from collections.abc import Iterable
from enum import IntEnum

from shoal.node.formats import MAX_STATEMENT_BYTES
from shoal.node.store.database import Database, Row, Transaction
from shoal.node.store.limits import MAX_PAGE, MAX_STATEMENTS_PER_SHARE, allocated_bytes
from shoal.node.store.shareformat import Trailer
from shoal.values import dataclass

ShareKey = tuple[bytes, int]
"""(file id, share number)."""


class ShareState(IntEnum):
    """Whether a share counts as held."""

    WHOLE = 0
    LOST = 1  # its file is missing
    DAMAGED = 2  # something in it was found changed; its blocks may still be good. Its file is in quarantine


@dataclass(frozen=True, slots=True)
class ShareRow:
    """One share as the database has it. `folder` is None when `data` holds the whole share."""

    file_id: bytes
    share_number: int
    lease_end: int
    stored_at: int
    upload_id: bytes
    share_bytes: int
    file_bytes: int
    state: ShareState
    folder: str | None
    data: bytes | None

    @property
    def key(self) -> ShareKey:
        """What names the share."""
        return self.file_id, self.share_number

    @classmethod
    def of_file(cls, trailer: Trailer, folder: str, lease_end: int) -> "ShareRow":
        """The row of a whole share that lies in a file of this folder."""
        return cls(
            file_id=trailer.file_id,
            share_number=trailer.share_number,
            lease_end=lease_end,
            stored_at=trailer.stored_at,
            upload_id=trailer.upload_id,
            share_bytes=trailer.share_bytes,
            file_bytes=allocated_bytes(trailer.file_bytes),
            state=ShareState.WHOLE,
            folder=folder,
            data=None,
        )

    def trailer(self, manifest_bytes: int) -> Trailer:
        """The trailer of the share's file."""
        return Trailer(
            self.file_id,
            self.share_number,
            self.share_bytes,
            manifest_bytes,
            self.lease_end,
            self.stored_at,
            self.upload_id,
        )


@dataclass(frozen=True, slots=True)
class HeldShare:
    """A share this volunteer keeps; lease_end in seconds since the epoch."""

    share_number: int
    lease_end: int


@dataclass(frozen=True, slots=True)
class HeldFile:
    """A file and the shares of it that this volunteer keeps, by number."""

    file_id: bytes
    shares: tuple[HeldShare, ...]


@dataclass(frozen=True, slots=True)
class KeptStatement:
    """A holder statement about one share of a file. Verified elsewhere; here only its bytes are kept."""

    share_number: int
    holder_id: bytes
    expires: int
    lease_end: int
    statement: bytes


SHARE_COLUMNS = "file_id, share_number, lease_end, stored_at, upload_id, share_bytes, file_bytes, state, folder, data"


class Catalogue:
    """Typed access to the database."""

    def __init__(self, database: Database) -> None:
        self.database = database

    # shares

    def share(self, key: ShareKey) -> ShareRow | None:
        """The row of one share, whatever its state."""
        row = self.database.row(f"SELECT {SHARE_COLUMNS} FROM shares WHERE file_id = ? AND share_number = ?", *key)
        return _read_row(row) if row else None

    def committed_bytes(self, upload_id: bytes) -> int | None:
        """Return the length of the whole share that came from this upload, or None when there is no such share."""
        row = self.database.row("SELECT share_bytes FROM shares WHERE upload_id = ? AND state = 0", upload_id)
        return row[0] if row else None

    def manifest(self, file_id: bytes) -> bytes | None:
        """Return the manifest bytes of a file, if a share of it was ever kept."""
        row = self.database.row("SELECT manifest FROM files WHERE file_id = ?", file_id)
        return row[0] if row else None

    def held(self, file_id: bytes) -> list[HeldShare]:
        """The whole shares of a file."""
        rows = self.database.rows(
            "SELECT share_number, lease_end FROM shares WHERE file_id = ? AND state = 0 ORDER BY share_number",
            file_id,
        )
        return [HeldShare(*row) for row in rows]

    def damaged(self, limit: int = MAX_PAGE) -> list[ShareKey]:
        """Shares that are lost or damaged, for repair."""
        rows = self.database.rows("SELECT file_id, share_number FROM shares WHERE state != 0 LIMIT ?", limit)
        return [(file_id, number) for file_id, number in rows]

    def files(self, after: bytes, limit: int) -> list[bytes]:
        """Ids above `after`, in order, of files with a whole share."""
        rows = self.database.rows(
            "SELECT DISTINCT file_id FROM shares WHERE file_id > ? AND state = 0 ORDER BY file_id LIMIT ?",
            after,
            min(limit, MAX_PAGE),
        )
        return [row[0] for row in rows]

    def files_page(self, after: bytes, limit: int) -> list[HeldFile]:
        """As `files`, with the whole shares of each."""
        rows = self.database.rows(
            "SELECT file_id, share_number, lease_end FROM shares WHERE state = 0 AND file_id IN "
            "(SELECT DISTINCT file_id FROM shares WHERE file_id > ? AND state = 0 ORDER BY file_id LIMIT ?) "
            "ORDER BY file_id, share_number",
            after,
            min(limit, MAX_PAGE),
        )
        shares: dict[bytes, list[HeldShare]] = {}
        for file_id, number, lease_end in rows:
            shares.setdefault(file_id, []).append(HeldShare(number, lease_end))
        return [HeldFile(file_id, tuple(held)) for file_id, held in shares.items()]

    def counts(self) -> tuple[int, int]:
        """(files, shares) kept whole."""
        row = self.database.row(
            "SELECT (SELECT count(*) FROM (SELECT DISTINCT file_id FROM shares WHERE state = 0)), "
            "(SELECT count(*) FROM shares WHERE state = 0)"
        )
        return (row[0], row[1]) if row else (0, 0)

    def extend_lease(self, key: ShareKey, lease_end: int) -> int | None:
        """Move the lease end of a whole share forward, never back. Returns the lease end now; None when it is not
        held.
        """
        with self.database.transaction() as transaction:
            extended = transaction.run(
                "UPDATE shares SET lease_end = ? "
                "WHERE file_id = ? AND share_number = ? AND state = 0 AND lease_end < ?",
                lease_end,
                *key,
                lease_end,
            )
            if extended:  # whether the share is past its new lease end must be observed again
                transaction.run("DELETE FROM expired WHERE file_id = ? AND share_number = ?", *key)
            rows = transaction.rows(
                "SELECT lease_end FROM shares WHERE file_id = ? AND share_number = ? AND state = 0", *key
            )
        return rows[0][0] if rows else None

    def file_bytes(self) -> int:
        """What all share files take on disk, damaged copies put aside included."""
        row = self.database.row(
            "SELECT (SELECT coalesce(sum(file_bytes), 0) FROM shares WHERE state = 0 AND folder IS NOT NULL) "
            "+ (SELECT coalesce(sum(file_bytes), 0) FROM quarantine)"
        )
        return int(row[0]) if row else 0

    # statements

    def add_statements(self, file_id: bytes, statements: Iterable[KeptStatement], now: float) -> int:
        """Keep statements about a file we hold. Returns how many were taken.

        Each share number has four places for holders. A known holder's later statement replaces its earlier one. A new
        holder gets a place only while one is free or expired, so nobody pushes out honest holders by shouting.
        """
        with self.database.transaction() as transaction:
            places = transaction.rows(
                "SELECT share_number, holder_id, expires FROM statements WHERE file_id = ?", file_id
            )
            if not places and not transaction.rows("SELECT 1 FROM files WHERE file_id = ?", file_id):
                return 0
            good = [place for place in places if place[2] > int(now)]
            if len(good) < len(places):
                transaction.run("DELETE FROM statements WHERE file_id = ? AND expires <= ?", file_id, int(now))
            taken = _places_taken(good, statements, now)
            transaction.run_many(
                "INSERT OR REPLACE INTO statements VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (file_id, each.share_number, each.holder_id, each.expires, each.lease_end, each.statement)
                    for each in taken
                ],
            )
        return len(taken)

    def statements(self, file_id: bytes) -> list[KeptStatement]:
        """All statements kept about a file, by share number."""
        rows = self.database.rows(
            "SELECT share_number, holder_id, expires, lease_end, statement FROM statements WHERE file_id = ? "
            "ORDER BY share_number, holder_id",
            file_id,
        )
        return [KeptStatement(*row) for row in rows]

    def statement_count(self, file_id: bytes) -> int:
        """How many statements are kept about a file."""
        row = self.database.row("SELECT count(*) FROM statements WHERE file_id = ?", file_id)
        return row[0] if row else 0

    def holders(self, file_id: bytes) -> list[bytes]:
        """Return the ids of all nodes whose statements are kept."""
        rows = self.database.rows(
            "SELECT DISTINCT holder_id FROM statements WHERE file_id = ? ORDER BY holder_id", file_id
        )
        return [row[0] for row in rows]


def insert_share(transaction: Transaction, row: ShareRow, manifest: bytes) -> None:
    """Enter a share. It replaces a lost or damaged one, and its manifest replaces one that may be damaged."""
    transaction.run("DELETE FROM expired WHERE file_id = ? AND share_number = ?", *row.key)
    transaction.run("INSERT OR REPLACE INTO scrubbed VALUES (?, ?, 0, 0, 0)", *row.key)
    transaction.run(
        "INSERT INTO files VALUES (?, ?) ON CONFLICT (file_id) DO UPDATE SET manifest = excluded.manifest "
        "WHERE manifest != excluded.manifest",
        row.file_id,
        manifest,
    )
    transaction.run(
        f"INSERT OR REPLACE INTO shares ({SHARE_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        row.file_id,
        row.share_number,
        row.lease_end,
        row.stored_at,
        row.upload_id,
        row.share_bytes,
        row.file_bytes,
        int(row.state),
        row.folder,
        row.data,
    )


def _read_row(row: Row) -> ShareRow:
    file_id, number, lease_end, stored_at, upload_id, share_bytes, file_bytes, state, folder, data = row
    return ShareRow(
        file_id,
        number,
        lease_end,
        stored_at,
        upload_id,
        share_bytes,
        file_bytes,
        ShareState(state),
        folder,
        data,
    )


def _places_taken(places: Iterable[Row], statements: Iterable[KeptStatement], now: float) -> list[KeptStatement]:
    """Choose the statements that get a place. `places`: (share number, holder, expires) of those kept so far."""
    expires: dict[int, dict[bytes, int]] = {}
    for number, holder, end in places:
        expires.setdefault(number, {})[holder] = end
    taken = []
    for each in statements:
        known = expires.setdefault(each.share_number, {})
        is_full = each.holder_id not in known and len(known) >= MAX_STATEMENTS_PER_SHARE
        is_good = len(each.statement) <= MAX_STATEMENT_BYTES and each.expires > now
        if is_good and not is_full and known.get(each.holder_id, 0) < each.expires:
            known[each.holder_id] = each.expires
            taken.append(each)
    return taken
