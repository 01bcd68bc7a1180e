"""Giving shares up for good: the order of events that neither loses a share half-way nor brings one back.

    one transaction: the share's row out, its file noted as garbage
    → the file is removed → fsync folder → the note is dropped → its bytes are counted as free

Until the transaction the share is held. After it the share is not held, and start-up finishes what was cut short. Bytes
are counted until their file is gone.
"""

import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from shoal.node.store.accounts import Accounts
from shoal.node.store.catalogue import Catalogue, ShareKey, ShareState
from shoal.node.store.database import Transaction
from shoal.node.store.disk import Disk
from shoal.node.store.errors import StoreError, disk_errors
from shoal.node.store.leases import is_due
from shoal.node.store.reading import HandleCache
from shoal.node.store.shareformat import folder_path, share_name
from shoal.node.store.sources import forget_source, source_of
from shoal.node.store.tombstones import Tombstone, keep_tombstone
from shoal.values import dataclass

LOCKS = 16  # files share them by chance; more would gain little on one disk


class FileLocks:
    """A fixed number of locks, spread over files by their id, so that one thing at a time happens to a share.

    A step that gives a share's file its name, another name or none holds the file's lock from its begin to its end.
    The lock is taken after an upload's lock, and before those of the database and the open handles.
    """

    def __init__(self) -> None:
        self._locks = [threading.Lock() for _ in range(LOCKS)]

    def of(self, file_id: bytes) -> threading.Lock:
        """The lock to hold for this file."""
        return self._locks[file_id[0] % LOCKS]


@dataclass(frozen=True, slots=True)
class Garbage:
    """A file noted for removal: folder/name, and what is counted for it."""

    path: str
    counted_bytes: int


class Remover:
    """Drops shares and deletes files. Thread-safe."""

    def __init__(
        self,
        disk: Disk,
        root: Path,
        catalogue: Catalogue,
        accounts: Accounts,
        handles: HandleCache,
        locks: FileLocks,
        max_tombstones: int,
    ) -> None:
        self._disk = disk
        self._root = root
        self._catalogue = catalogue
        self._accounts = accounts
        self._handles = handles
        self._locks = locks
        self._max_tombstones = max_tombstones

    def drop(self, keys: Iterable[ShareKey], now: float, on_dropped: Callable[[ShareKey], None]) -> list[ShareKey]:
        """Drop the shares whose time is really over. Returns which. What was dropped before an error stays dropped."""
        dropped = []
        for key in keys:
            if self.drop_one(key, now):
                dropped.append(key)
                on_dropped(key)
        if dropped:
            self._shrink()
        return dropped

    def drop_one(self, key: ShareKey, now: float) -> bool:
        with self._locks.of(key[0]):
            with self._catalogue.database.transaction() as transaction:
                if not is_due(transaction, key, now):  # renewed, or replaced, a moment ago
                    return False
                garbage = _give_up(transaction, key)
                forget_empty_file(transaction, key[0])
            self._handles.forget(key)
            self._remove(garbage)
        return True

    def delete(self, file_id: bytes, tombstone: bytes, until: int, now: float) -> list[int]:
        """Give up all shares of a file, damaged copies too, and keep its tombstone. Returns the share numbers."""
        with self._locks.of(file_id):
            with self._catalogue.database.transaction() as transaction:
                source = self._accounts.places.group(source_of(transaction, file_id))
                stone = Tombstone(file_id, tombstone, until, source)
                keep_tombstone(transaction, stone, now, self._max_tombstones)
                rows = transaction.rows("SELECT share_number FROM shares WHERE file_id = ? ORDER BY 1", file_id)
                numbers = [number for (number,) in rows]
                garbage = [each for number in numbers for each in _give_up(transaction, (file_id, number))]
                garbage += _give_up_quarantined(transaction, file_id)
                forget_empty_file(transaction, file_id)
            for number in numbers:
                self._handles.forget((file_id, number))
            self._remove(garbage)
        self._shrink()
        return numbers

    def discard(self, garbage: Garbage) -> None:
        """Remove a file that a finished transaction noted as garbage."""
        self._remove([garbage])

    def _remove(self, garbage: Iterable[Garbage]) -> None:
        for each in garbage:
            with suppress(StoreError):  # noted in the database, and counted: start-up tries again
                remove_garbage(self._disk, self._root, self._catalogue, each.path)
                self._accounts.add_share(-each.counted_bytes)

    def _shrink(self) -> None:
        with suppress(StoreError):  # a full disk, say: the shares are dropped all the same
            self._catalogue.database.shrink()


def _give_up(transaction: Transaction, key: ShareKey) -> list[Garbage]:
    """Take out one share's row and all that hangs on it."""
    rows = transaction.rows("SELECT folder, file_bytes, state FROM shares WHERE file_id = ? AND share_number = ?", *key)
    for table in ("shares", "expired", "scrubbed"):
        transaction.run(f"DELETE FROM {table} WHERE file_id = ? AND share_number = ?", *key)
    return [
        note_garbage(transaction, garbage_path(folder, key), file_bytes)
        for folder, file_bytes, state in rows
        if folder is not None and state == ShareState.WHOLE  # a damaged copy's file is the quarantine's
    ]


def _give_up_quarantined(transaction: Transaction, file_id: bytes) -> list[Garbage]:
    rows = transaction.rows("SELECT path, file_bytes FROM quarantine WHERE file_id = ?", file_id)
    transaction.run("DELETE FROM quarantine WHERE file_id = ?", file_id)
    return [note_garbage(transaction, path, file_bytes) for path, file_bytes in rows]


def forget_empty_file(transaction: Transaction, file_id: bytes) -> None:
    """Take out manifest, statements and source of a file when no share of it has a row any more."""
    if not transaction.rows("SELECT 1 FROM shares WHERE file_id = ? LIMIT 1", file_id):
        transaction.run("DELETE FROM files WHERE file_id = ?", file_id)
        transaction.run("DELETE FROM statements WHERE file_id = ?", file_id)
        forget_source(transaction, file_id)


def note_garbage(transaction: Transaction, path: str, counted_bytes: int) -> Garbage:
    """Note a file for removal as part of the transaction that gives it up."""
    transaction.run("INSERT OR IGNORE INTO garbage VALUES (?)", path)
    return Garbage(path, counted_bytes)


def garbage_path(folder: str, key: ShareKey) -> str:
    """How a share's file is noted: folder/name."""
    return f"{folder}/{share_name(*key)}"


def remove_garbage(disk: Disk, root: Path, catalogue: Catalogue, path: str) -> None:
    """Remove a file that a finished transaction gave up, durably. Only then remove its note."""
    folder, name = path.split("/")
    with disk_errors(f"remove {name}"):
        with suppress(FileNotFoundError):
            disk.unlink(folder_path(root, folder) / name)
        disk.fsync_directory(folder_path(root, folder))
    with catalogue.database.transaction() as transaction:
        transaction.run("DELETE FROM garbage WHERE path = ?", path)
