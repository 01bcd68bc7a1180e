"""Start-up of the quarantine: what a crash or a failed rename left between the database and the files."""

from contextlib import suppress
from pathlib import Path

from shoal.node.store.catalogue import ShareKey, ShareState
from shoal.node.store.database import Database
from shoal.node.store.disk import Disk
from shoal.node.store.errors import disk_errors
from shoal.node.store.limits import allocated_bytes
from shoal.node.store.quarantine import Aside, all_asides, forget_aside, keep_aside, move_aside, note_aside
from shoal.node.store.shareformat import parse_quarantine_name

ShareFiles = dict[ShareKey, list[str]]
"""Folders in which a file with a share's name was found."""


class QuarantineStart:
    """One pass. `shares`: share files found, out of which those that are put aside are taken."""

    def __init__(self, disk: Disk, root: Path, database: Database, shares: ShareFiles, asides: set[str]) -> None:
        self._disk = disk
        self._root = root
        self._database = database
        self._shares = shares
        self._asides = asides

    def run(self) -> None:
        """Finish renames, forget copies that are gone, take up those the database does not know."""
        self._note_damaged()
        noted = all_asides(self._database)
        for aside in noted:
            if aside.path not in self._asides:
                self._finish(aside)
        self._adopt({aside.path for aside in noted})

    def _note_damaged(self) -> None:
        """Damaged shares that no rename was noted for, as version 1 of the database left them."""
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
        """The noted file is not there: still under its old name, or gone."""
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
        """Copies put aside that a lost database knew: counted, and kept for 30 days from now."""
        found = [(path, parse_quarantine_name(path.split("/")[1])) for path in sorted(self._asides - noted)]
        asides = [Aside(path, name[:2], self._size(path)) for path, name in found if name]
        if asides:
            with self._database.transaction() as transaction:
                for aside in asides:
                    keep_aside(transaction, aside)

    def _size(self, path: str) -> int:
        with disk_errors(path):
            return allocated_bytes(self._disk.size(self._root / "shares" / path))
