"""The share store of one volunteer: safe against kill -9 and power cuts.

    disk           the disk seam and the real disk
    errors         the error family; OSError and sqlite3.Error are translated there
    limits         every bound, with its reason
    shareformat    the share file;  trees: what stands behind the blocks in it
    schema         tables, version by version;  database: transactions;  catalogue: typed queries
    intake         bytes per address prefix and day;  accounts: capacity and limits
    displacing     which uploads give way where room is short;  outlook: what they take for nothing
    uploads        receiving;  commit: the order of events of a share put
    reading        checked reads;  opening: from a share's name to a share to read
    leases         when a share may be dropped;  tombstones: what owners deleted
    sources        which host brought each file
    removal        giving shares up; one thing at a time per file
    scrub          looking for bit rot;  quarantine: damaged copies are put aside
    reconcile      start-up;  health: shares by state;  store: ShareStore, the face of it all

The store imports `shoal.erasure` and `shoal.node.formats`, and nothing else of this project. Everything here blocks and
knows no trio. docs/store.md describes the bytes on disk and the orders of events.
"""

from shoal.node.store.accounts import Usage
from shoal.node.store.catalogue import HeldFile, HeldShare, KeptStatement, ShareKey
from shoal.node.store.disk import Disk, DiskEntryKind, DiskFile, RealDisk
from shoal.node.store.errors import (
    BadManifest,
    BadRange,
    BadShare,
    BadUpload,
    DatabaseFailed,
    DiskFailed,
    FileDeleted,
    GaveWay,
    Limit,
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
from shoal.node.store.health import StoreHealth
from shoal.node.store.limits import GRACE_S, MAX_READ_BLOCKS, OWN_SOURCE
from shoal.node.store.reading import ReadResult
from shoal.node.store.reconcile import Reconciled
from shoal.node.store.scrub import ScrubReport, scrub_budget_bytes
from shoal.node.store.store import ShareStore
from shoal.node.store.uploads import split_blocks

__all__ = [
    "GRACE_S",
    "MAX_READ_BLOCKS",
    "OWN_SOURCE",
    "BadManifest",
    "BadRange",
    "BadShare",
    "BadUpload",
    "DatabaseFailed",
    "Disk",
    "DiskEntryKind",
    "DiskFailed",
    "DiskFile",
    "FileDeleted",
    "GaveWay",
    "HeldFile",
    "HeldShare",
    "KeptStatement",
    "Limit",
    "LocalFailure",
    "NotHeld",
    "PeerMistake",
    "ReadResult",
    "RealDisk",
    "Reconciled",
    "ScrubReport",
    "ShareDamaged",
    "ShareKey",
    "ShareStore",
    "StoreError",
    "StoreFull",
    "StoreHealth",
    "StoreUnusable",
    "UnknownUpload",
    "UploadGap",
    "Usage",
    "scrub_budget_bytes",
    "split_blocks",
]
