"""Damaged copies are put aside and not removed. The fault may lie in memory or a cable; a part is better than none.

    one transaction: the share no longer counts as held, its file is noted under a new name
    → rename within its folder → fsync folder

A rename within one folder is one step in every file system's journal; a folder of its own would need two. Start-up
finishes a rename that was cut short. So does the next put of the share, before it takes the old name. The good blocks
of a copy put aside are still served until the share is stored anew.

A copy is removed after 30 days of the node's own uptime, but not while a share under lease has nothing else. A small
share lies in the database and is only marked.
"""

from contextlib import suppress
from pathlib import Path

from shoal.node.store.accounts import Accounts
from shoal.node.store.catalogue import Catalogue, ShareKey, ShareRow, ShareState
from shoal.node.store.database import Database, Transaction
from shoal.node.store.disk import Disk
from shoal.node.store.errors import disk_errors
from shoal.node.store.leases import uptime
from shoal.node.store.limits import MAX_DROPS, QUARANTINE_UPTIME_S, allocated_bytes
from shoal.node.store.reading import HandleCache
from shoal.node.store.removal import FileLocks, Remover, note_garbage
from shoal.node.store.shareformat import folder_path, parse_quarantine_name, quarantine_name, share_name
from shoal.values import dataclass

ShareFiles = dict[ShareKey, list[str]]
"""Folders in which a file with a share's name was found."""

OF_SHARE = "SELECT path, file_bytes FROM quarantine WHERE file_id = ? AND share_number = ?"

OVER = """
FROM quarantine WHERE uptime <= (SELECT max(seconds) FROM uptime) - ? AND NOT EXISTS (
    SELECT 1 FROM shares WHERE shares.file_id = quarantine.file_id
    AND shares.share_number = quarantine.share_number AND shares.state = ?)
"""
OVER_S = (QUARANTINE_UPTIME_S, int(ShareState.DAMAGED))


@dataclass(frozen=True, slots=True)
class Aside:
    """A copy put aside, or about to be: folder/name, and the share it was."""

    path: str
    key: ShareKey
    file_bytes: int

    @property
    def folder(self) -> str:
        """The folder it is in, before and after."""
        return self.path.split("/")[0]


class Quarantine:
    """Thread-safe."""

    def __init__(
        self,
        disk: Disk,
        root: Path,
        catalogue: Catalogue,
        accounts: Accounts,
        handles: HandleCache,
        locks: FileLocks,
        remover: Remover,
    ) -> None:
        self._disk = disk
        self._root = root
        self._database = catalogue.database
        self._accounts = accounts
        self._handles = handles
        self._locks = locks
        self._remover = remover

    def isolate(self, row: ShareRow) -> None:
        """Put a damaged share aside, unless it has been replaced or given up since `row` was read."""
        with self._locks.of(row.file_id):
            with self._database.transaction() as transaction:
                if not _mark_damaged(transaction, row):
                    return
                aside = None if row.folder is None else note_aside(transaction, row.key, row.folder, row.file_bytes)
            self._handles.forget(row.key)
            if aside:
                self._move_or_lose(aside)

    def path(self, key: ShareKey) -> Path | None:
        """Where the newest damaged copy of a share is, if there is one in a file."""
        newest = self._newest(key)
        return self._root / "shares" / newest.path if newest else None

    def settle(self, key: ShareKey) -> None:
        """Finish putting aside a copy of this share whose rename failed. The caller holds the file's lock.

        Raises OSError when it fails again.
        """
        newest = self._newest(key)
        if newest:
            with suppress(FileNotFoundError):  # done long ago, nearly always
                move_aside(self._disk, self._root, newest)

    def expire(self) -> int:
        """Remove copies put aside 30 days of uptime ago. Returns how many.

        A copy stays while a share under lease has nothing better.
        """
        rows = self._database.rows(f"SELECT path, file_id, share_number, file_bytes {OVER} LIMIT {MAX_DROPS}", *OVER_S)
        return sum(self._expire(Aside(path, (file_id, number), size)) for path, file_id, number, size in rows)

    def _expire(self, aside: Aside) -> bool:
        with self._locks.of(aside.key[0]):
            with self._database.transaction() as transaction:
                if not transaction.rows(f"SELECT 1 {OVER} AND path = ?", *OVER_S, aside.path):
                    return False
                forget_aside(transaction, aside)
                garbage = note_garbage(transaction, aside.path, aside.file_bytes)
            self._remover.discard(garbage)
        return True

    def _newest(self, key: ShareKey) -> Aside | None:
        asides = [Aside(path, key, size) for path, size in self._database.rows(OF_SHARE, *key)]
        return max(asides, key=lambda aside: _serial(aside.path), default=None)

    def _move_or_lose(self, aside: Aside) -> None:
        """Rename the file. When it is missing the share counts as lost, and as whole again once the file is back."""
        try:
            move_aside(self._disk, self._root, aside)
        except FileNotFoundError:
            with self._database.transaction() as transaction:
                forget_aside(transaction, aside)
                transaction.run(
                    "UPDATE shares SET state = ? WHERE file_id = ? AND share_number = ?",
                    int(ShareState.LOST),
                    *aside.key,
                )
            self._accounts.add_share(-aside.file_bytes)
        except OSError:
            pass  # noted: start-up or the next put of this share tries again


def _mark_damaged(transaction: Transaction, row: ShareRow) -> bool:
    """Whether the share was still the whole one that `row` describes."""
    changed = transaction.run(
        "UPDATE shares SET state = ? WHERE file_id = ? AND share_number = ? AND state = 0 "
        "AND upload_id = ? AND stored_at = ?",
        int(ShareState.DAMAGED),
        *row.key,
        row.upload_id,
        row.stored_at,
    )
    if changed:
        transaction.run("DELETE FROM scrubbed WHERE file_id = ? AND share_number = ?", *row.key)
    return bool(changed)


def note_aside(transaction: Transaction, key: ShareKey, folder: str, file_bytes: int) -> Aside:
    """Note that the share file in this folder is to be put aside, under a name that is free."""
    serial = max((_serial(path) for path, _ in transaction.rows(OF_SHARE, *key)), default=0) + 1
    aside = Aside(f"{folder}/{quarantine_name(*key, serial)}", key, file_bytes)
    transaction.run("DELETE FROM garbage WHERE path = ?", aside.path)  # what may still be there is replaced
    keep_aside(transaction, aside)
    return aside


def keep_aside(transaction: Transaction, aside: Aside) -> None:
    """Note a copy put aside; its 30 days of uptime begin."""
    transaction.run(
        "INSERT OR IGNORE INTO quarantine VALUES (?, ?, ?, ?, ?)",
        aside.path,
        *aside.key,
        aside.file_bytes,
        uptime(transaction),
    )


def forget_aside(transaction: Transaction, aside: Aside) -> None:
    """The copy is gone, or going."""
    transaction.run("DELETE FROM quarantine WHERE path = ?", aside.path)


def move_aside(disk: Disk, root: Path, aside: Aside) -> None:
    """Give a share's file the name noted for it, durably.

    Raises FileNotFoundError when the file has that name already, OSError when the disk fails.
    """
    folder = folder_path(root, aside.folder)
    disk.rename(folder / share_name(*aside.key), root / "shares" / aside.path)
    disk.fsync_directory(folder)


def all_asides(database: Database) -> list[Aside]:
    """Every copy noted."""
    rows = database.rows("SELECT path, file_id, share_number, file_bytes FROM quarantine")
    return [Aside(path, (file_id, number), file_bytes) for path, file_id, number, file_bytes in rows]


class QuarantineStart:
    """Start-up of the quarantine: what a crash or a failed rename left between the database and the files.

    shares: the share files found. Those to be put aside are taken out of it.    asides: paths of the copies put aside.
    """

    def __init__(self, disk: Disk, root: Path, database: Database, shares: ShareFiles, asides: set[str]) -> None:
        self._disk = disk
        self._root = root
        self._database = database
        self._shares = shares
        self._asides = asides

    def run(self) -> None:
        """Finish renames, forget copies that are gone, and enter copies that the database does not know."""
        self._note_damaged()
        noted = all_asides(self._database)
        for aside in noted:
            if aside.path not in self._asides:
                self._finish(aside)
        self._adopt({aside.path for aside in noted})

    def _note_damaged(self) -> None:
        """Put aside damaged shares for which no rename was noted, as version 1 of the database left them."""
        rows = self._database.rows(
            "SELECT file_id, share_number, folder, file_bytes FROM shares WHERE state = ? AND folder IS NOT NULL "
            "AND NOT EXISTS (SELECT 1 FROM quarantine WHERE quarantine.file_id = shares.file_id "
            "AND quarantine.share_number = shares.share_number)",
            int(ShareState.DAMAGED),
        )
        here = [row for row in rows if row[2] in self._shares.get((row[0], row[1]), [])]
        if here:
            with self._database.transaction() as transaction:
                for file_id, number, folder, file_bytes in here:
                    note_aside(transaction, (file_id, number), folder, file_bytes)

    def _finish(self, aside: Aside) -> None:
        """Deal with a noted file that is missing: it still has its old name, or is gone."""
        folders = self._shares.get(aside.key, [])
        if aside.folder not in folders or self._is_whole(aside):
            with self._database.transaction() as transaction:
                forget_aside(transaction, aside)
            return
        folders.remove(aside.folder)
        self._asides.add(aside.path)
        with suppress(OSError):  # noted: the next start tries again, and nobody takes it for a share meanwhile
            move_aside(self._disk, self._root, aside)

    def _is_whole(self, aside: Aside) -> bool:
        """Whether the file with the share's name is a newer one, stored anew."""
        row = self._database.row(
            "SELECT 1 FROM shares WHERE file_id = ? AND share_number = ? AND folder = ? AND state = ?",
            *aside.key,
            aside.folder,
            int(ShareState.WHOLE),
        )
        return row is not None

    def _adopt(self, noted: set[str]) -> None:
        """Enter copies that only a lost database knew. They are counted, and kept for 30 days from now."""
        found = [(path, parse_quarantine_name(path.split("/")[1])) for path in sorted(self._asides - noted)]
        asides = [Aside(path, name[:2], self._size(path)) for path, name in found if name]
        if asides:
            with self._database.transaction() as transaction:
                for aside in asides:
                    keep_aside(transaction, aside)

    def _size(self, path: str) -> int:
        with disk_errors(path):
            return allocated_bytes(self._disk.size(self._root / "shares" / path))


def _serial(path: str) -> int:
    name = parse_quarantine_name(path.split("/")[1])
    return name[2] if name else 0
