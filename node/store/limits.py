"""Every number the store is bounded by."""

from dataclasses import dataclass

from shoal.erasure import BLOCK_BYTES

INLINE_BYTES = 32 * 1024  # shares up to this live in SQLite: below it, one sync instead of three
MAX_READ_BLOCKS = 16  # blocks in one read, and in one write: a frame carries 1 MiB
SHARE_HANDLES = 64  # shares kept open for reading; descriptors are scarce (1024 by default), opening costs 10 µs

MAX_UPLOADS = 4096  # open uploads in all: about 1 KiB of memory each
MAX_UPLOADS_PER_SOURCE = 64  # of one /24 (/48); lifted in a private network
OWN_SOURCE = b"this node"  # of shares made again here; no prefix of an address is so long
UPLOAD_KEEP_S = 24 * 3600.0  # how long an uncommitted upload outlives its last block
UNSYNCED_KEEP_S = 600.0  # an upload without a durable block: its publisher was promised nothing
CLOCK_STEP_S = 300.0  # a smaller step of the clock changes nothing that matters to an upload
AUTO_SYNC_BLOCKS = 1024  # 64 MiB: bounds dirty pages and unsaved leaf hashes (64 bytes a block) per upload
MAX_OPEN_UPLOAD_FILES = 128  # above this an upload syncs and closes its file after each write
MAX_MEMORY_BLOCKS_BYTES = 8 << 20  # small shares waiting in memory for their commit; above it they are saved

SOURCE_DIVISOR = 10  # one /24 (/48) may take a tenth of the free space a day
SOURCE_WINDOW_HOURS = 24
MAX_SOURCES = 65536  # prefixes remembered for that; later ones share one allowance

UNCOMMITTED_DIVISOR = 20  # uncommitted uploads take at most 5 % of the capacity, but see below
UNCOMMITTED_FLOOR_BYTES = 1 << 30  # … 1 GiB where capacity allows, so that 5 % of a small volunteer is useful
UNCOMMITTED_FLOOR_DIVISOR = 2  # … and never more than half of a very small one

MAX_STATEMENTS_PER_SHARE = 4  # room for one that replaces another, and no more: strangers bring them
MAX_PAGE = 1000  # files in one page of a listing

GRACE_S = 14 * 86400  # after its lease a share stays so long by the wall clock, and by our own uptime
MAX_DROPS = 1000  # shares dropped in one call: each costs a few syncs, about 10 ms

MAX_TOMBSTONES = 100_000  # about 20 MB; each cost its owner an upload here. The ones that end soonest go first
MAX_TOMBSTONE_BYTES = 512  # a time and a signature are 72; room for other signatures

QUARANTINE_UPTIME_S = 30 * 86400  # uptime for which a damaged copy stays at least: the fault may be elsewhere

SCRUB_PASS_S = 25 * 86400  # at this pace every share is read once in 30 days, even with some days missed
SCRUB_BATCH = 64  # shares looked up, and noted as checked, in one transaction
SCRUB_MIN_BYTES = 4096  # what the smallest share costs of a budget: opening it is work, too

ALLOCATION_BYTES = 4096  # file systems hand out space in such pieces
TREE_BYTES_PER_BLOCK = 128  # two trees of at most two 32-byte nodes per block
SHARE_OVERHEAD_BYTES = 20 * 1024  # manifest (≤ 16 KiB), the tops of the trees, trailer, rounding


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much a store keeps open or in memory, how much it drops in one call, and how many tombstones it keeps."""

    share_handles: int = SHARE_HANDLES
    open_upload_files: int = MAX_OPEN_UPLOAD_FILES
    memory_blocks_bytes: int = MAX_MEMORY_BLOCKS_BYTES
    auto_sync_blocks: int = AUTO_SYNC_BLOCKS
    drops: int = MAX_DROPS
    tombstones: int = MAX_TOMBSTONES


USUAL_BOUNDS = Bounds()


def allocated_bytes(length: int) -> int:
    """What a file of this length takes from the disk."""
    return -(-length // ALLOCATION_BYTES) * ALLOCATION_BYTES


def share_cost_bytes(share_bytes: int) -> int:
    """What to set aside for a share of this length, trees and all; rather too much than too little."""
    blocks = -(-share_bytes // BLOCK_BYTES)
    return share_bytes + blocks * TREE_BYTES_PER_BLOCK + SHARE_OVERHEAD_BYTES


def uncommitted_limit_bytes(capacity_bytes: int) -> int:
    """Uncommitted bytes at which no further upload is admitted.

    5 % of 50 GB is 2.5 GB: three shares of a 2 GB file at 3-of-10. 5 % of a 300 MB test volunteer is 15 MB,
    less than one share of a 64 MB file: there the floor applies. An upload already admitted may pass the
    limit, and the oldest one always may, so the limit never makes a single publish impossible; capacity still
    binds.
    """
    floor = min(UNCOMMITTED_FLOOR_BYTES, capacity_bytes // UNCOMMITTED_FLOOR_DIVISOR)
    return max(capacity_bytes // UNCOMMITTED_DIVISOR, floor)
