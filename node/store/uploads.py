"""Receiving: uploads that have no id yet, from the first block to the moment before commit.

Blocks go to `<upload id>.upload` in the folder where the share will live. Leaf hashes of blocks that are not yet
durable wait in memory. A sync makes the blocks durable first. Then one database transaction saves their leaf hashes and
the count. So whatever the database calls durable is durable, and memory stays bounded.

A share of one small block stays in memory until its commit, or goes into the database at a sync.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import field
from functools import partial
from pathlib import Path

from shoal.erasure import BLOCK_BYTES, HASH_BYTES, Buffer, block_leaf
from shoal.node.formats import UPLOAD_ID_BYTES
from shoal.node.store.accounts import Accounts, undone_on_failure
from shoal.node.store.database import Database, Transaction
from shoal.node.store.disk import Disk, DiskFile
from shoal.node.store.errors import (
    BadUpload,
    DiskFailed,
    GaveWay,
    Limit,
    StoreError,
    StoreFull,
    UnknownUpload,
    UploadGap,
    disk_errors,
)
from shoal.node.store.intake import save_intake
from shoal.node.store.limits import (
    CLOCK_STEP_S,
    INLINE_BYTES,
    MAX_DISPLACED,
    MAX_READ_BLOCKS,
    UNSYNCED_KEEP_S,
    UPLOAD_KEEP_S,
    Bounds,
)
from shoal.node.store.shareformat import folder_of, folder_path, upload_name
from shoal.node.store.trees import LeafChunk
from shoal.values import dataclass


@dataclass(eq=False, slots=True)
class Upload:
    """One upload. Its fields change under `lock` only.

    blocks, received_bytes: so far.  durable_blocks: of these, what survives a power cut.
    small: the one small block held in memory.  file: open while blocks are not durable.
    on_disk: the file exists.  is_saved: the database has a row.
    is_closed: committed or discarded while another thread waited for the lock.
    block_leaves, data_leaves: hashes of the blocks that are not durable yet.
    """

    upload_id: bytes
    source: bytes
    bound: int
    touched: float
    blocks: int = 0
    received_bytes: int = 0
    durable_blocks: int = 0
    small: bytes | None = None
    file: DiskFile | None = None
    on_disk: bool = False
    is_saved: bool = False
    is_closed: bool = False
    block_leaves: bytearray = field(default_factory=bytearray)
    data_leaves: bytearray = field(default_factory=bytearray)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def is_small(self) -> bool:
        """Whether it is one block that never went to a file."""
        return self.blocks == 1 and not self.on_disk

    @property
    def is_complete(self) -> bool:
        """Whether a short block was received: it can only be the last."""
        return self.received_bytes < self.blocks * BLOCK_BYTES

    def expired(self, now: float) -> bool:
        """Whether it was left alone for too long."""
        keep_s = UPLOAD_KEEP_S if self.is_saved else UNSYNCED_KEEP_S
        return now - self.touched >= keep_s


class Uploads:
    """All open uploads of a store. Thread-safe.

    The class is whole because its methods share two levels of locks: each upload's own, taken first, and the
    table's.
    """

    def __init__(self, disk: Disk, root: Path, database: Database, accounts: Accounts, bounds: Bounds) -> None:
        self._disk = disk
        self._root = root
        self._database = database
        self._accounts = accounts
        self._bounds = bounds
        self._lock = threading.Lock()
        self.by_id: dict[bytes, Upload] = {}
        self._displaced: dict[bytes, Limit] = {}  # uploads that gave way, and at which limit; the oldest first

    def restore(self, upload: Upload) -> None:
        """Take over an upload of an earlier run."""
        self.by_id[upload.upload_id] = upload
        self._accounts.restore(upload.upload_id, upload.source, upload.bound, upload.received_bytes)

    def begin(self, upload_id: bytes, source: bytes, bound: int, now: float) -> int:
        """Open an upload, or find it again. Returns its durable blocks. Raises StoreFull when it is not admitted."""
        if len(upload_id) != UPLOAD_ID_BYTES or bound < 0:
            raise BadUpload("an upload id has 16 bytes and a size bound is not negative")
        upload = self.find(upload_id)
        if upload is None:
            self._with_room(partial(self._admit, upload_id, source, bound, now), upload_id, source, now)
            return 0
        upload.touched = now
        return self.sync(upload_id, now)

    def _admit(self, upload_id: bytes, source: bytes, bound: int, now: float) -> None:
        with self._lock:
            if upload_id not in self.by_id:  # else another thread was faster: it has received nothing yet
                self._accounts.admit(upload_id, source, bound, now)
                self.by_id[upload_id] = Upload(upload_id, source, bound, now)
                self._displaced.pop(upload_id, None)

    def write(
        self,
        upload_id: bytes,
        first_block: int,
        blocks: Sequence[Buffer],
        data_leaves: Sequence[bytes],
        now: float,
    ) -> int:
        """Take the next blocks, each with the data-tree leaf of its segment. Returns the blocks received so far.

        Blocks received before are skipped. Raises UploadGap, BadUpload or StoreFull, and leaves the upload as it was.
        When the disk fails, it raises LocalFailure and discards the upload.
        """
        upload = self.get(upload_id)
        with upload.lock:
            self._check_open(upload)
            skip = _check_blocks(upload, first_block, blocks, data_leaves)
            upload.touched = now
            if blocks[skip:]:
                self._append(upload, blocks[skip:], data_leaves[skip:], now)
            return upload.blocks

    def sync(self, upload_id: bytes, now: float) -> int:
        """Make durable what was received. Returns the durable blocks. A failed fsync discards the upload."""
        upload = self.get(upload_id)
        with upload.lock:
            self._check_open(upload)
            self._sync(upload, now)
            return upload.durable_blocks

    def durable_blocks(self, upload_id: bytes) -> int:
        """Return how many blocks survive a power cut. This makes no further block durable."""
        return self.get(upload_id).durable_blocks

    def abort(self, upload_id: bytes, now: float) -> None:
        """Give an upload up. An unknown one is no error: the publisher wanted it gone."""
        with self._lock:
            upload = self.by_id.get(upload_id)
        if upload:
            with upload.lock:
                self.discard(upload, now)

    def expire(self, now: float, jumped_s: float = 0.0) -> int:
        """Discard uploads left alone for too long. Returns how many. See `ShareStore.expire`."""
        with self._lock:
            uploads = list(self.by_id.values())
        self._follow_clock(uploads, now, jumped_s if jumped_s > CLOCK_STEP_S else 0.0)
        old = [upload for upload in uploads if upload.expired(now)]
        for upload in old:
            with upload.lock:
                if not upload.is_closed and upload.expired(now):
                    self.discard(upload, now)
        return len(old)

    def _follow_clock(self, uploads: Sequence[Upload], now: float, jumped_s: float) -> None:
        """Let no upload grow older by a jump of the clock. One that was touched in the future counts as touched now.

        The database is changed too, or each start would find the upload in the future again.
        """
        moved = [upload for upload in uploads if jumped_s or upload.touched > now + CLOCK_STEP_S]
        for upload in moved:
            with upload.lock:
                upload.touched = min(now, upload.touched + jumped_s)
        saved = [(int(upload.touched), upload.upload_id) for upload in moved if upload.is_saved]
        if saved:
            with self._database.transaction() as transaction:
                transaction.run_many("UPDATE uploads SET touched = ? WHERE upload_id = ?", saved)

    def close(self) -> None:
        """Close files without syncing: nothing more was promised than was synced."""
        for upload in self.by_id.values():
            with upload.lock:
                _close_file(upload)

    # for commit, under the upload's lock

    def find(self, upload_id: bytes) -> Upload | None:
        """The upload, if it is open."""
        with self._lock:
            return self.by_id.get(upload_id)

    def get(self, upload_id: bytes) -> Upload:
        """Return the upload. Raises GaveWay or UnknownUpload when there is none."""
        upload = self.find(upload_id)
        if upload is None:
            raise self.absent(upload_id)
        return upload

    def absent(self, upload_id: bytes) -> StoreError:
        """Return why no such upload is open."""
        with self._lock:
            limit = self._displaced.get(upload_id)
        return UnknownUpload("no such upload is open here") if limit is None else GaveWay(limit)

    def _check_open(self, upload: Upload) -> None:
        if upload.is_closed:  # committed or discarded while we waited for its lock
            raise self.absent(upload.upload_id)

    def path(self, upload: Upload) -> Path:
        """Where its blocks are."""
        return folder_path(self._root, folder_of(upload.upload_id)) / upload_name(upload.upload_id)

    def leaves(self, upload: Upload) -> Iterator[LeafChunk]:
        """Leaf hashes of all blocks in order: saved ones chunk by chunk, then those in memory."""
        if upload.is_saved:
            starts = self._database.rows(
                "SELECT first_block FROM upload_leaves WHERE upload_id = ? ORDER BY first_block",
                upload.upload_id,
            )
            for (first_block,) in starts:
                chunk = self._database.row(
                    "SELECT block_leaves, data_leaves FROM upload_leaves WHERE upload_id = ? AND first_block = ?",
                    upload.upload_id,
                    first_block,
                )
                if chunk:
                    yield chunk[0], chunk[1]
        if upload.block_leaves:
            yield bytes(upload.block_leaves), bytes(upload.data_leaves)

    def small_block(self, upload: Upload) -> bytes:
        """The block of a small upload, from memory or from the database."""
        if upload.small is not None:
            return upload.small
        row = self._database.row("SELECT data FROM uploads WHERE upload_id = ?", upload.upload_id)
        return row[0] if row else b""

    def open_file(self, upload: Upload) -> DiskFile:
        """The upload's file, ready to write behind the blocks received."""
        if upload.file is None:
            path = self.path(upload)
            if upload.on_disk:
                upload.file = self._disk.open(path, writable=True)
            else:
                self._disk.make_directories(path.parent)
                upload.file = self._disk.create(path)
                upload.on_disk = True
        return upload.file

    def discard(self, upload: Upload, now: float) -> None:
        """Forget an upload and remove what it left on disk. What cannot be removed now, start-up removes."""
        self.forget(upload, now)
        if upload.on_disk:
            with suppress(OSError):  # a broken disk; the upload is no longer counted on
                self._disk.unlink(self.path(upload))
        if upload.is_saved:
            with self._database.transaction() as transaction:
                forget_upload(transaction, upload.upload_id)

    def forget(self, upload: Upload, now: float) -> None:
        """Take an upload out of the table: it is committed, or about to be removed."""
        _close_file(upload)
        upload.is_closed = True
        with self._lock:
            self.by_id.pop(upload.upload_id, None)
        self._accounts.close(upload.upload_id)

    # room

    def _with_room(self, take: Callable[[], None], upload_id: bytes, source: bytes, now: float) -> None:
        """Call `take`. Where a limit is in its way, have uploads with less claim give way, and call it again."""
        try:
            take()
        except StoreFull as full:
            if not self._displace(upload_id, source, full, now):
                self._accounts.refuse(upload_id)
                raise
            take()

    def _displace(self, upload_id: bytes, source: bytes, full: StoreFull, now: float) -> bool:
        """Discard the uploads that give way to this one, if they free enough. Returns whether they did.

        The caller may hold its own upload's lock, and another thread may want that one. So nobody waits here: an upload
        that is being worked on is passed over.
        """
        missing = full.missing
        with ExitStack() as locks:
            chosen = []
            for other_id, freed in self._accounts.giving_way(upload_id, source, full, now):
                other = self.find(other_id)
                if other is None or not other.lock.acquire(blocking=False):
                    continue
                locks.callback(other.lock.release)
                if other.is_closed:
                    continue
                chosen.append(other)
                missing -= freed
                if missing <= 0:
                    break
            else:
                return False
            for other in chosen:
                self._note_displaced(other.upload_id, full.limit)
                self.discard(other, now)
        return True

    def _note_displaced(self, upload_id: bytes, limit: Limit) -> None:
        with self._lock:
            self._displaced.pop(upload_id, None)
            self._displaced[upload_id] = limit
            if len(self._displaced) > MAX_DISPLACED:
                del self._displaced[next(iter(self._displaced))]

    # inside the upload's lock

    def _append(self, upload: Upload, blocks: Sequence[Buffer], data_leaves: Sequence[bytes], now: float) -> None:
        length = sum(len(block) for block in blocks)
        if upload.bound and upload.received_bytes + length > upload.bound:
            raise BadUpload(f"{upload.received_bytes + length} bytes sent, {upload.bound} offered")
        leaves = [block_leaf(block) for block in blocks]
        count = partial(self._accounts.receive, upload.upload_id, length, now)
        self._with_room(count, upload.upload_id, upload.source, now)
        with undone_on_failure(self._accounts, upload.upload_id, length, now):
            self._store(upload, blocks, length, now)
        upload.blocks += len(blocks)
        upload.received_bytes += length
        upload.block_leaves += b"".join(leaves)
        upload.data_leaves += b"".join(data_leaves)
        if self._is_crowded(upload):
            self._sync(upload, now)

    def _store(self, upload: Upload, blocks: Sequence[Buffer], length: int, now: float) -> None:
        if upload.blocks == 0 and length <= INLINE_BYTES:
            upload.small = bytes(blocks[0])
            return
        try:
            with disk_errors(f"upload {upload.upload_id.hex()}"):
                self.open_file(upload).write_at(upload.received_bytes, blocks)
        except DiskFailed:
            self._discard_quietly(upload, now)
            raise

    def _is_crowded(self, upload: Upload) -> bool:
        """Whether this upload holds, or all together hold, more memory or descriptors than they may."""
        if upload.blocks - upload.durable_blocks >= self._bounds.auto_sync_blocks:
            return True
        with self._lock:
            others = list(self.by_id.values())
        if upload.small is not None:
            return sum(len(other.small or b"") for other in others) > self._bounds.memory_blocks_bytes
        return sum(other.file is not None for other in others) > self._bounds.open_upload_files

    def _sync(self, upload: Upload, now: float) -> None:
        if upload.blocks == upload.durable_blocks:
            return
        if upload.small is None:
            self._fsync(upload, now)
        self._save(upload, now)
        upload.is_saved = True
        upload.durable_blocks = upload.blocks
        upload.small = None
        upload.block_leaves.clear()
        upload.data_leaves.clear()
        _close_file(upload)

    def _fsync(self, upload: Upload, now: float) -> None:
        try:
            with disk_errors(f"upload {upload.upload_id.hex()}"):
                self.open_file(upload).fsync()
                if not upload.is_saved:
                    self._disk.fsync_directory(self.path(upload).parent)
        except StoreError:  # after a failed fsync nobody knows what the file holds
            self._discard_quietly(upload, now)
            raise

    def _save(self, upload: Upload, now: float) -> None:
        with self._database.transaction() as transaction:
            transaction.run(
                "INSERT INTO upload_leaves VALUES (?, ?, ?, ?)",
                upload.upload_id,
                upload.durable_blocks,
                bytes(upload.block_leaves),
                bytes(upload.data_leaves),
            )
            transaction.run(
                "INSERT INTO uploads VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (upload_id) DO UPDATE SET "
                "touched = excluded.touched, blocks = excluded.blocks, bytes = excluded.bytes",
                upload.upload_id,
                upload.source,
                upload.bound,
                int(upload.touched),
                upload.blocks,
                upload.received_bytes,
                upload.small,
            )
            save_intake(transaction, self._accounts.intake_changes(), now)

    def _discard_quietly(self, upload: Upload, now: float) -> None:
        """Discard while another error is on its way. That one matters more than an error of the discarding."""
        with suppress(StoreError):  # start-up finds the row without a file
            self.discard(upload, now)


def forget_upload(transaction: Transaction, upload_id: bytes) -> None:
    """Remove what the database has about an upload."""
    transaction.run("DELETE FROM uploads WHERE upload_id = ?", upload_id)
    transaction.run("DELETE FROM upload_leaves WHERE upload_id = ?", upload_id)


def split_blocks(payload: Buffer) -> list[memoryview]:
    """A payload of consecutive blocks as views of each: 64 KiB but for the last."""
    view = memoryview(payload)
    return [view[at : at + BLOCK_BYTES] for at in range(0, len(view), BLOCK_BYTES)]


def _check_blocks(upload: Upload, first_block: int, blocks: Sequence[Buffer], data_leaves: Sequence[bytes]) -> int:
    """Count the blocks that were received before. Raises UploadGap or BadUpload when the others cannot follow."""
    if not 1 <= len(blocks) <= MAX_READ_BLOCKS or len(data_leaves) != len(blocks):
        raise BadUpload(f"1 to {MAX_READ_BLOCKS} blocks at once, each with one data leaf")
    if any(len(leaf) != HASH_BYTES for leaf in data_leaves):
        raise BadUpload(f"a data leaf has {HASH_BYTES} bytes")
    if any(len(block) != BLOCK_BYTES for block in blocks[:-1]) or not 1 <= len(blocks[-1]) <= BLOCK_BYTES:
        raise BadUpload(f"every block but the very last has {BLOCK_BYTES} bytes, and none is empty")
    if not 0 <= first_block <= upload.blocks:
        raise UploadGap(upload.blocks, first_block)
    skip = min(len(blocks), upload.blocks - first_block)
    if upload.is_complete and blocks[skip:]:
        raise BadUpload("a short block was the last")
    return skip


def _close_file(upload: Upload) -> None:
    if upload.file is not None:
        upload.file.close()
        upload.file = None
