"""From a share's name to a share open for reading. Damage found on the way puts the share aside."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from shoal.node.store.catalogue import Catalogue, ShareKey, ShareRow, ShareState
from shoal.node.store.disk import Disk
from shoal.node.store.errors import NotHeld, ShareDamaged
from shoal.node.store.quarantine import Quarantine
from shoal.node.store.reading import HandleCache, OpenShare, open_share
from shoal.node.store.shareformat import folder_path, share_name


class Opener:
    """Opens shares. Thread-safe. Everything raises NotHeld, ShareDamaged or DiskFailed."""

    def __init__(
        self, disk: Disk, root: Path, catalogue: Catalogue, handles: HandleCache, quarantine: Quarantine
    ) -> None:
        self._disk = disk
        self._root = root
        self._catalogue = catalogue
        self._handles = handles
        self._quarantine = quarantine

    @contextmanager
    def kept(self, key: ShareKey) -> Iterator[OpenShare]:
        """A share for a peer: its file stays open for the next read."""
        with self._handles.pinned(key, lambda: self._open(key)) as share, self._isolating(share.row):
            yield share

    @contextmanager
    def fresh(self, key: ShareKey) -> Iterator[OpenShare]:
        """A share for one pass over it, which must not push others' files out."""
        with closing(self._open(key)) as share, self._isolating(share.row):
            yield share

    def _open(self, key: ShareKey) -> OpenShare:
        row = self._catalogue.share(key)
        if row is None or row.state == ShareState.LOST:
            raise NotHeld("this share is not kept here")
        manifest = self._catalogue.manifest(row.file_id) or b""
        try:
            with self._isolating(row):
                return open_share(self._disk, self._path(row), row, manifest)
        except ShareDamaged:
            if self._catalogue.share(key) is None:  # given up between two of our steps
                raise NotHeld("this share is not kept here") from None
            raise

    def _path(self, row: ShareRow) -> Path | None:
        if row.folder is None:
            return None
        aside = self._quarantine.path(row.key) if row.state == ShareState.DAMAGED else None
        return aside or folder_path(self._root, row.folder) / share_name(*row.key)

    @contextmanager
    def _isolating(self, row: ShareRow) -> Iterator[None]:
        try:
            yield
        except ShareDamaged:
            self._quarantine.isolate(row)
            raise
