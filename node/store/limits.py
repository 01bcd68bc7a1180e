"""Every number the store is bounded by."""

from shoal.erasure import BLOCK_BYTES
from shoal.values import dataclass

INLINE_BYTES = 32 * 1024  # shares up to this live in SQLite: below it, one sync instead of three
MAX_READ_BLOCKS = 16  # blocks in one read, and in one write: a frame carries 1 MiB
SHARE_HANDLES = 64  # shares kept open for reading; descriptors are scarce (1024 by default), opening costs 10 µs

MAX_UPLOADS = 4096  # open uploads in all: about 1 KiB of memory each
MAX_UPLOADS_PER_SOURCE = 64  # of one /24 (/48); lifted in a private network
OWN_SOURCE = b"this node"  # of shares made again here; no address is so long
IPV4_HOST_BYTES, IPV4_PREFIX_BYTES = 4, 3  # of a source, and of the sources that count as one
IPV6_HOST_BYTES, IPV6_PREFIX_BYTES = 8, 6
MAX_DISPLACED = 4096  # ids of uploads that gave way, remembered so that their publishers are told why
SPARE_CANDIDATES = 16  # uploads found to give way beyond those needed: some may be at work that moment
MAX_FOUND = 256  # uploads that one look at all of them finds to give up their place
LOOK_AGAIN_S = 1.0  # so long a look at more than a few uploads serves: with thousands it takes milliseconds
FEW_UPLOADS = 64
UPLOAD_KEEP_S = 24 * 3600.0  # how long an uncommitted upload outlives its last block
UNSYNCED_KEEP_S = 600.0  # an upload without a durable block: its publisher was promised nothing
CLOCK_STEP_S = 300.0  # a smaller step of the clock changes nothing that matters to an upload
FIRST_BYTE_S = 30.0  # an upload that has sent nothing in this time is idle
MIN_UPLOAD_BYTES_PER_S = 1024  # one that sends less is idle too; 48 of them over a 0.5 Mbit/s line are not
MOST_AHEAD_S = 1034.0  # for which bytes that came may count: as long as the channel lets a write of 1 MiB take
AUTO_SYNC_BLOCKS = 1024  # 64 MiB: bounds dirty pages and unsaved leaf hashes (64 bytes a block) per upload
MAX_OPEN_UPLOAD_FILES = 128  # above this an upload syncs and closes its file after each write
MAX_MEMORY_BLOCKS_BYTES = 8 << 20  # small shares waiting in memory for their commit; above it they are saved

SOURCE_DIVISOR = 10  # one /24 (/48) may take a tenth of the free space a day
SOURCE_WINDOW_HOURS = 24
MAX_SOURCES = 65536  # prefixes remembered for that; later ones share one allowance

MAX_STATEMENTS_PER_SHARE = 4  # room for one that replaces another, and no more: strangers bring them
MAX_PAGE = 1000  # files in one page of a listing

GRACE_S = 14 * 86400  # after its lease a share stays so long by the wall clock, and by our own uptime
MAX_DROPS = 1000  # shares dropped in one call: each costs a few syncs, about 10 ms

MAX_TOMBSTONES = 100_000  # about 20 MB; each cost its owner an upload here. Those of the group with most go first
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
