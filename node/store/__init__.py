"""The share store of one volunteer: safe against kill -9 and power cuts.

    disk           the disk seam and the real disk
    errors         the error family; OSError and sqlite3.Error are translated there
    limits         every bound, with its reason
    shareformat    the share file;  trees: what stands behind the blocks in it
    database       schema and transactions;  catalogue: typed queries
    intake         bytes per address prefix and day;  accounts: capacity, promises, limits
    uploads        receiving;  commit: the order of events of a share put;  reading: checked reads
    reconcile      start-up;  store: ShareStore, the face of it all

Everything blocks and knows no trio; docs/store.md describes the bytes on disk and the orders of events.
"""

from shoal.node.store.accounts import Usage
from shoal.node.store.catalogue import HeldShare, KeptStatement
from shoal.node.store.disk import Disk, DiskFile, RealDisk
from shoal.node.store.errors import (
    BadManifest,
    BadRange,
    BadShare,
    BadUpload,
    DatabaseFailed,
    DiskFailed,
    LocalFailure,
    NotHeld,
    PeerMistake,
    ShareDamaged,
    StoreError,
    StoreFull,
    StoreUnusable,
    UnknownUpload,
    UploadGap,
)
from shoal.node.store.limits import MAX_READ_BLOCKS
from shoal.node.store.reading import ReadResult
from shoal.node.store.reconcile import Reconciled
from shoal.node.store.store import ShareStore
from shoal.node.store.uploads import split_blocks

__all__ = [
    "MAX_READ_BLOCKS",
    "BadManifest",
    "BadRange",
    "BadShare",
    "BadUpload",
    "DatabaseFailed",
    "Disk",
    "DiskFailed",
    "DiskFile",
    "HeldShare",
    "KeptStatement",
    "LocalFailure",
    "NotHeld",
    "PeerMistake",
    "ReadResult",
    "RealDisk",
    "Reconciled",
    "ShareDamaged",
    "ShareStore",
    "StoreError",
    "StoreFull",
    "StoreUnusable",
    "UnknownUpload",
    "UploadGap",
    "Usage",
    "split_blocks",
]
