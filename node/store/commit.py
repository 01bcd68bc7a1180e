"""Share put: the order of events that makes an acknowledgement true (docs/store.md).

    blocks are in the temporary file (O_EXCL, same folder)
    → trees, manifest and trailer behind them → fsync file → both roots equal the manifest's → rename
    → fsync folder → database commit (WAL, synchronous=FULL) → return

A small share is checked and committed in the database: one transaction, one sync, no file at any time.
"""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from shoal.erasure import MalformedManifest, Manifest
from shoal.node.store.accounts import Accounts
from shoal.node.store.catalogue import Catalogue, ShareKey, ShareRow, ShareState, insert_share
from shoal.node.store.database import Transaction
from shoal.node.store.disk import Disk
from shoal.node.store.errors import BadManifest, BadShare, FileDeleted, StoreError, disk_errors
from shoal.node.store.intake import save_intake
from shoal.node.store.quarantine import Quarantine
from shoal.node.store.removal import FileLocks, garbage_path
from shoal.node.store.shareformat import folder_of, folder_path, share_name
from shoal.node.store.sources import note_source
from shoal.node.store.tombstones import Tombstones
from shoal.node.store.trees import write_tail
from shoal.node.store.uploads import Upload, Uploads, forget_upload
from shoal.values import dataclass


@dataclass(frozen=True, slots=True)
class Promise:
    """What a commit asks for: to keep this share of this file until the lease ends."""

    manifest: Manifest
    encoded: bytes
    file_id: bytes
    share_number: int
    lease_end: int

    @property
    def key(self) -> ShareKey:
        """What names the share."""
        return self.file_id, self.share_number

    @property
    def roots(self) -> tuple[bytes, bytes]:
        """(share root, data root): what the received leaf hashes must come to."""
        return self.manifest.share_roots[self.share_number], self.manifest.data_root


def read_promise(encoded: bytes, share_number: int, lease_end: int) -> Promise:
    """Check the manifest and the number. Raises BadManifest when it does not decode or has no such share."""
    try:
        manifest = Manifest.decode(encoded)
    except MalformedManifest as error:
        raise BadManifest(str(error)) from error
    if not 0 <= share_number < manifest.n:
        raise BadManifest(f"there is no share {share_number} of {manifest.n}")
    return Promise(manifest, encoded, bytes(manifest.id), share_number, lease_end)


class Committer:
    """Turns uploads into shares. Thread-safe."""

    def __init__(
        self,
        disk: Disk,
        root: Path,
        catalogue: Catalogue,
        accounts: Accounts,
        uploads: Uploads,
        quarantine: Quarantine,
        tombstones: Tombstones,
        locks: FileLocks,
    ) -> None:
        self._disk = disk
        self._root = root
        self._catalogue = catalogue
        self._accounts = accounts
        self._uploads = uploads
        self._quarantine = quarantine
        self._tombstones = tombstones
        self._locks = locks

    def commit(self, upload_id: bytes, promise: Promise, now: float) -> int:
        """Keep the upload as the promised share. Returns its lease end. Repeating it is harmless.

        Raises BadShare when the blocks are not that share, and Deleted when the owner had the file deleted; both
        discard the upload. Raises UnknownUpload or GaveWay when no such upload is open. Raises StoreFull or
        LocalFailure when the disk failed: then nothing is kept.
        """
        upload = self._uploads.find(upload_id)
        if upload is None:
            return self._answer_again(upload_id, promise)
        with upload.lock, self._locks.of(promise.file_id):
            if upload.is_closed:  # the same commit in another thread was faster
                return self._answer_again(upload_id, promise)
            return self._commit(upload, promise, now)

    def _answer_again(self, upload_id: bytes, promise: Promise) -> int:
        """Answer a commit without an upload. The share may be held already: then the promise is true."""
        lease_end = self._catalogue.extend_lease(promise.key, promise.lease_end)
        if lease_end is None:
            self._check_deleted(promise)
            raise self._uploads.absent(upload_id)
        return lease_end

    def _commit(self, upload: Upload, promise: Promise, now: float) -> int:
        try:
            self._check_deleted(promise)
        except FileDeleted:
            self._uploads.discard(upload, now)
            raise
        known = self._catalogue.extend_lease(promise.key, promise.lease_end)
        if known is not None:  # held already, from this or another publisher
            self._merge(upload, promise, now)
            return known
        self._check_length(upload, promise, now)
        make_row = self._small_row if upload.is_small else self._put_file
        row = make_row(upload, promise, now)
        return self._enter(upload, row, promise, now)

    def _check_deleted(self, promise: Promise) -> None:
        if self._tombstones.get(promise.file_id) is not None:
            raise FileDeleted("this file was deleted by its owner")

    def _merge(self, upload: Upload, promise: Promise, now: float) -> None:
        """Give up an upload whose share is held. When its publisher comes back, it finds the upload complete."""
        with self._catalogue.database.transaction() as transaction:
            transaction.run(
                "UPDATE shares SET upload_id = ? WHERE file_id = ? AND share_number = ?",
                upload.upload_id,
                *promise.key,
            )
            forget_upload(transaction, upload.upload_id)
        upload.is_saved = False
        self._uploads.discard(upload, now)

    def _check_length(self, upload: Upload, promise: Promise, now: float) -> None:
        expected = promise.manifest.layout.share_bytes
        if upload.received_bytes != expected:
            self._refuse(upload, f"{upload.received_bytes} bytes were received, the share has {expected}", now)

    def _refuse(self, upload: Upload, what: str, now: float) -> None:
        self._uploads.discard(upload, now)
        raise BadShare(what)

    def _small_row(self, upload: Upload, promise: Promise, now: float) -> ShareRow:
        leaves = list(self._uploads.leaves(upload))
        if leaves != [promise.roots]:  # a tree of one block: its leaf is the root
            self._refuse(upload, "the block received does not hash to the manifest's roots", now)
        return _row(upload, promise, now, data=self._uploads.small_block(upload))

    def _put_file(self, upload: Upload, promise: Promise, now: float) -> ShareRow:
        folder = folder_path(self._root, folder_of(upload.upload_id))
        final = folder / share_name(*promise.key)
        row = _row(upload, promise, now)
        with disk_errors(f"put the damaged share {final.name} aside"):  # it may still have the name we need
            self._quarantine.settle(promise.key)
        try:
            with disk_errors(f"share {final.name}"):
                self._write(upload, promise, row, now)
                self._disk.rename(self._uploads.path(upload), final)
                self._disk.fsync_directory(folder)
        except BadShare:
            raise
        except StoreError:
            self._drop(upload, final, now)
            raise
        return row

    def _write(self, upload: Upload, promise: Promise, row: ShareRow, now: float) -> None:
        trailer = row.trailer(len(promise.encoded))
        file = self._uploads.open_file(upload)
        roots = write_tail(file, trailer, promise.encoded, self._uploads.leaves(upload))
        file.truncate(trailer.file_bytes)  # a write that failed half-way may have left bytes behind the end
        file.fsync()
        if roots != promise.roots:
            self._refuse(upload, "the blocks received do not hash to the manifest's roots", now)

    def _enter(self, upload: Upload, row: ShareRow, promise: Promise, now: float) -> int:
        try:
            with self._catalogue.database.transaction() as transaction:
                row = replace(row, lease_end=max(row.lease_end, _old_lease(transaction, row)))
                note_source(transaction, row.file_id, upload.source)
                insert_share(transaction, row, promise.encoded)
                forget_upload(transaction, upload.upload_id)
                save_intake(transaction, self._accounts.intake_changes(), now)
        except StoreError:
            if row.folder is not None:
                self._drop(upload, folder_path(self._root, row.folder) / share_name(*row.key), now)
            raise
        self._accounts.add_share(row.file_bytes)
        self._uploads.forget(upload, now)
        return row.lease_end

    def _drop(self, upload: Upload, final: Path, now: float) -> None:
        """Remove the upload under both its names: after a failed fsync or commit nothing of it is trusted."""
        with suppress(OSError):
            self._disk.unlink(final)
        with suppress(StoreError):
            self._uploads.discard(upload, now)


def _row(upload: Upload, promise: Promise, now: float, data: bytes | None = None) -> ShareRow:
    row = ShareRow(
        file_id=promise.file_id,
        share_number=promise.share_number,
        lease_end=promise.lease_end,
        stored_at=int(now),
        upload_id=upload.upload_id,
        share_bytes=upload.received_bytes,
        file_bytes=0,  # inside the database, whose size is counted as a whole
        state=ShareState.WHOLE,
        folder=None,
        data=data,
    )
    if data is not None:
        return row
    trailer = row.trailer(len(promise.encoded))
    return ShareRow.of_file(trailer, folder_of(upload.upload_id), row.lease_end)


def _old_lease(transaction: Transaction, row: ShareRow) -> int:
    """Return the lease end of the lost or damaged share that `row` replaces. Storing a share anew shortens no lease."""
    if row.folder is not None:  # what was to be removed there has just been replaced
        transaction.run("DELETE FROM garbage WHERE path = ?", garbage_path(row.folder, row.key))
    old = transaction.rows("SELECT lease_end FROM shares WHERE file_id = ? AND share_number = ?", *row.key)
    return old[0][0] if old else row.lease_end
