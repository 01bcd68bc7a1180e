"""Start-up: make database and files agree, both ways, without reading the shares.

Names are listed and compared with the database's rows. Only a share file that the database forgot is opened, for its
trailer and manifest. Nothing that could be somebody's data is removed. What is removed are files that a transaction
gave up, shares that their owner deleted, and uploads unknown to the database, which were promised to no publisher.
Whatever else is in the folders is left alone and never followed: folders, links and pipes, whatever their names.

A full disk keeps no store from opening. What cannot be written down then is found again at the next start.
"""

from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

from shoal.erasure import MalformedManifest, Manifest, manifest_id
from shoal.node.formats import MAX_LEASE_S
from shoal.node.store.catalogue import Catalogue, ShareKey, ShareRow, ShareState, insert_share
from shoal.node.store.database import Transaction
from shoal.node.store.disk import Disk, DiskEntryKind
from shoal.node.store.errors import StoreError, StoreFull, disk_errors
from shoal.node.store.limits import OWN_SOURCE, allocated_bytes
from shoal.node.store.quarantine import QuarantineStart
from shoal.node.store.removal import garbage_path, note_garbage, remove_garbage
from shoal.node.store.shareformat import (
    TRAILER_BYTES,
    NotAShareFile,
    Trailer,
    decode_trailer,
    folder_of,
    folder_path,
    is_folder_name,
    parse_quarantine_name,
    parse_share_name,
    parse_upload_name,
    share_name,
    upload_name,
)
from shoal.node.store.tombstones import is_deleted
from shoal.node.store.uploads import Upload, forget_upload
from shoal.values import dataclass


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What start-up found, in counts.

    indexed: share files the database had forgotten.  lost: rows newly without a file.  found: lost ones that
    are back. unreadable: files in our folders that are no readable share, left where they are.  stray_bytes:
    what those take.
    """

    indexed: int = 0
    lost: int = 0
    found: int = 0
    unreadable: int = 0
    stray_bytes: int = 0


@dataclass(slots=True)
class Found:
    """Files by kind: folders of shares by key and of uploads by name, paths of copies put aside, anything else."""

    shares: dict[ShareKey, list[str]]
    uploads: dict[str, str]
    asides: set[str]
    others: list[tuple[str, str]]


class Reconciler:
    """One pass over the store at `root`."""

    def __init__(self, disk: Disk, root: Path, catalogue: Catalogue) -> None:
        self._disk = disk
        self._root = root
        self._catalogue = catalogue

    def run(self, now: float) -> tuple[Reconciled, list[Upload]]:
        """Bring both in line. Returns what was found, and the uploads to go on with."""
        garbage = self._remove_garbage()
        with disk_errors("list the share folders"):
            found = self._list(garbage)
        with suppress(StoreFull):
            QuarantineStart(self._disk, self._root, self._catalogue.database, found.shares, found.asides).run()
        lost, back = self._compare(found)
        indexed, unreadable = self._index(found, now)
        strays = [*unreadable, *found.others]
        report = Reconciled(indexed, lost, back, len(strays), self._stray_bytes(strays))
        return report, self._uploads(found)

    def _remove_garbage(self) -> set[str]:
        """Remove files that finished transactions gave up. Returns the paths that stayed; they count as nobody's
        share.
        """
        left = set()
        for (path,) in self._catalogue.database.rows("SELECT path FROM garbage"):
            try:
                remove_garbage(self._disk, self._root, self._catalogue, path)
            except StoreError:
                left.add(path)
        return left

    def _list(self, garbage: set[str]) -> Found:
        found = Found({}, {}, set(), [])
        for folder, kind in self._disk.list_directory(self._root / "shares").items():
            if kind is not DiskEntryKind.FOLDER:
                found.others.append(("", folder))
                continue
            for name, what in self._names(folder).items():
                is_share_of_ours = what is DiskEntryKind.FILE and f"{folder}/{name}" not in garbage
                if not (is_share_of_ours and self._sort(found, folder, name)):
                    found.others.append((folder, name))
        return found

    def _names(self, folder: str) -> dict[str, DiskEntryKind]:
        """What is in a folder under shares/; nothing in one that is not ours and cannot be listed."""
        try:
            return self._disk.list_directory(folder_path(self._root, folder))
        except OSError:
            if is_folder_name(folder):
                raise
            return {}

    def _sort(self, found: Found, folder: str, name: str) -> bool:
        """Take one plain file into `found`; False when its name is none that the store gives."""
        key = parse_share_name(name)
        upload_id = parse_upload_name(name)
        if key is not None:
            found.shares.setdefault(key, []).append(folder)
        elif upload_id is not None and folder_of(upload_id) == folder:
            found.uploads[name] = folder
        elif parse_quarantine_name(name):
            found.asides.add(f"{folder}/{name}")
        else:
            return False
        return True

    def _compare(self, found: Found) -> tuple[int, int]:
        """Mark rows whose file is missing, unmark those whose file is back; take them out of `found`."""
        lost, back = [], []
        aside = {name[:2] for path in found.asides if (name := parse_quarantine_name(path.split("/")[1]))}
        for file_id, number, folder, state in self._catalogue.database.rows(
            "SELECT file_id, share_number, folder, state FROM shares WHERE folder IS NOT NULL"
        ):
            folders = found.shares.get((file_id, number), [])
            if state == ShareState.DAMAGED and (file_id, number) in aside:
                continue
            if folder not in folders:
                if state != ShareState.LOST:
                    lost.append((int(ShareState.LOST), file_id, number))
                continue
            folders.remove(folder)
            if state == ShareState.LOST:
                back.append((int(ShareState.WHOLE), file_id, number))
        if lost or back:
            with suppress(StoreFull), self._catalogue.database.transaction() as transaction:
                transaction.run_many("UPDATE shares SET state = ? WHERE file_id = ? AND share_number = ?", lost + back)
                for _, *key in back:  # its grace begins anew, and scrub has not read it for a while
                    transaction.run("DELETE FROM expired WHERE file_id = ? AND share_number = ?", *key)
                    transaction.run("INSERT OR REPLACE INTO scrubbed VALUES (?, ?, 0, 0, 0)", *key)
        return len(lost), len(back)

    def _index(self, found: Found, now: float) -> tuple[int, list[tuple[str, str]]]:
        """Enter share files that have no row, or that replace a lost or damaged share.

        Returns how many, and the unreadable files.
        """
        forgotten = [(key, folder) for key, folders in found.shares.items() for folder in folders]
        if not forgotten:
            return 0, []
        deleted: list[str] = []
        unreadable: list[tuple[str, str]] = []
        try:
            with self._catalogue.database.transaction() as transaction:
                indexed = sum(
                    self._index_one(transaction, key, folder, now, deleted, unreadable) for key, folder in forgotten
                )
        except StoreFull:
            return 0, unreadable
        for path in deleted:  # it was away when its owner deleted it
            with suppress(StoreError):
                remove_garbage(self._disk, self._root, self._catalogue, path)
        return indexed, unreadable

    def _index_one(
        self,
        transaction: Transaction,
        key: ShareKey,
        folder: str,
        now: float,
        deleted: list[str],
        unreadable: list[tuple[str, str]],
    ) -> bool:
        """Whether one share file without a row was entered; else it is put on one of the lists."""
        name = share_name(*key)
        if is_deleted(transaction, key[0]):
            deleted.append(note_garbage(transaction, garbage_path(folder, key), 0).path)
        elif self._enter(transaction, key, folder, name, now):
            return True
        else:
            unreadable.append((folder, name))
        return False

    def _enter(self, transaction: Transaction, key: ShareKey, folder: str, name: str, now: float) -> bool:
        rows = transaction.rows("SELECT state, lease_end FROM shares WHERE file_id = ? AND share_number = ?", *key)
        if rows and rows[0][0] == ShareState.WHOLE:
            return False  # a second copy; the one in the database is as good
        try:
            with disk_errors(f"share {name}"):
                trailer, manifest = self._describe(folder_path(self._root, folder) / name)
        except NotAShareFile:
            return False
        if (trailer.file_id, trailer.share_number) != key:
            return False
        # Its lease may have been renewed in a database that is gone. Nobody can renew further than this from
        # now.
        lease_end = max(trailer.lease_end, int(now + MAX_LEASE_S), *(row[1] for row in rows))
        insert_share(transaction, ShareRow.of_file(trailer, folder, lease_end), manifest)
        return True

    def _describe(self, path: Path) -> tuple[Trailer, bytes]:
        with closing(self._disk.open(path)) as file:
            size = file.size()
            if size < TRAILER_BYTES:
                raise NotAShareFile("too short")
            trailer = decode_trailer(file.read_at(size - TRAILER_BYTES, TRAILER_BYTES), size)
            encoded = file.read_at(trailer.manifest_offset, trailer.manifest_bytes)
        try:
            manifest = Manifest.decode(encoded)
        except MalformedManifest as error:
            raise NotAShareFile(str(error)) from error
        if manifest_id(encoded) != trailer.file_id or not trailer.share_number < manifest.n:
            raise NotAShareFile("the manifest is another file's")
        if manifest.layout.share_bytes != trailer.share_bytes:
            raise NotAShareFile("the length is not the manifest's")
        return trailer, encoded

    def _stray_bytes(self, strays: list[tuple[str, str]]) -> int:
        total = 0
        for folder, name in strays:
            with suppress(OSError):  # a directory, or gone meanwhile
                total += allocated_bytes(self._disk.size(folder_path(self._root, folder) / name))
        return total

    def _uploads(self, found: Found) -> list[Upload]:
        """Uploads that can go on; rows without their file and files without a row are removed."""
        uploads = list(self._saved_uploads(found))
        known = {upload_name(upload.upload_id) for upload in uploads}
        for name, folder in found.uploads.items():
            if name not in known:
                with suppress(OSError):
                    self._disk.unlink(folder_path(self._root, folder) / name)
        return uploads

    def _saved_uploads(self, found: Found) -> Iterator[Upload]:
        rows = self._catalogue.database.rows(
            "SELECT upload_id, source, size_bound, touched, blocks, bytes, data IS NOT NULL FROM uploads"
        )
        broken = []
        for upload_id, source, bound, touched, blocks, length, is_small in rows:
            if source != OWN_SOURCE and (is_small or self._has_blocks(upload_id, length, found)):
                yield Upload(
                    upload_id,
                    source,
                    bound,
                    touched,
                    blocks,
                    length,
                    blocks,
                    on_disk=not is_small,
                    is_saved=True,
                )
            else:
                broken.append(upload_id)
        if broken:
            with suppress(StoreFull), self._catalogue.database.transaction() as transaction:
                for upload_id in broken:
                    forget_upload(transaction, upload_id)

    def _has_blocks(self, upload_id: bytes, length: int, found: Found) -> bool:
        name = upload_name(upload_id)
        folder = found.uploads.get(name)
        if folder is None:
            return False
        with disk_errors(f"upload {name}"):
            return self._disk.size(folder_path(self._root, folder) / name) >= length
