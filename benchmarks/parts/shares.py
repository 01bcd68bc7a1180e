"""How a share store grows: 10 to 100,000 small shares in one store."""

import gc
import multiprocessing
import os
import random
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import astuple, dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from parts.figures import Cell, folder_bytes, growth_row, memory_mib, percentile, table

from shoal.erasure import BLOCK_BYTES, Manifest, ShareEncoder, best_codec
from shoal.node.store import KeptStatement, RealDisk, ShareStore

T = TypeVar("T")
Teller = Callable[[bytes, Sequence[int]], Iterable[KeptStatement]]
"""What other holders say of a file, given its id and their share numbers."""

NOW = 1_800_000_000.0
LEASE_S = 90 * 86_400
CAPACITY_BYTES = 10**12
SOURCE = b"\x7f\x00\x00"
METADATA_BYTES = 256 + 40  # of a short name, sealed
STATEMENT_BYTES = 173  # of a holder with an IPv4 address
PUTS = 100  # at most; no more than there are shares, so that the next size is not passed
STATUS_ROUNDS = 9
UNLIMITED_BYTES = 2**62
PAGE = 1000

HEAD = (
    "shares",
    "start ms",
    "status ms",
    "put ms",
    "put p95",
    "list us/share",
    "scrub us/share",
    "memory MiB",
    "peak MiB",
    "disk KiB/share",
)


class HastyDisk(RealDisk):
    """The real disk but for the syncs of its databases: to build a large store soon, not to keep it."""

    def database(self, path: Path) -> sqlite3.Connection:
        """See Disk."""
        connection = super().database(path)
        connection.execute("PRAGMA synchronous=OFF")
        return connection


class Files:
    """As many published files as wanted, all of one block per share: the same data, under manifests of their own."""

    def __init__(self, k: int, n: int, block_bytes: int, now: float = NOW) -> None:
        self._k, self._n, self._now = k, n, now
        encoder = ShareEncoder(k, n, best_codec())
        segment = encoder.add_segment(random.Random(1).randbytes(k * block_bytes), True)
        self._roots = encoder.finish()
        self._blocks = [bytes(block) for block in segment.blocks]
        self._data_leaf = segment.data_leaf

    def put(self, store: ShareStore, number: int) -> None:
        """Store one share of file `number`: three calls, as a publisher makes them."""
        share, upload = number % self._n, number.to_bytes(16, "big")
        manifest = self._manifest(number).encode()
        store.begin(upload, SOURCE, len(self._blocks[share]), self._now)
        store.write(upload, 0, [self._blocks[share]], [self._data_leaf], self._now)
        store.commit(upload, share, manifest, int(self._now) + LEASE_S, self._now)

    def tell(self, store: ShareStore, number: int, teller: Teller) -> None:
        """What the other holders tell afterwards: a statement each."""
        others = [share for share in range(self._n) if share != number % self._n]
        file_id = bytes(self._manifest(number).id)
        store.add_statements(file_id, teller(file_id, others), self._now)

    def _manifest(self, number: int) -> Manifest:
        return Manifest(
            k=self._k,
            n=self._n,
            block_bytes=BLOCK_BYTES,
            ciphertext_bytes=self._roots.ciphertext_bytes,
            data_root=self._roots.data_root,
            share_roots=tuple(self._roots.share_roots),
            metadata=random.Random(f"metadata {number}").randbytes(METADATA_BYTES),
            key_commitment=bytes(32),
            owner_key=bytes(32),
        )


def noise(file_id: bytes, shares: Sequence[int]) -> list[KeptStatement]:
    """Statements as the store sees them: so many bytes. A Teller."""
    rng, end = random.Random(file_id), int(NOW) + LEASE_S
    return [KeptStatement(share, rng.randbytes(32), end, end, rng.randbytes(STATEMENT_BYTES)) for share in shares]


@dataclass(frozen=True, slots=True)
class Setting:
    """Which shares, and where: each of a k-of-n file of its own, one block."""

    folder: Path
    k: int = 4
    n: int = 12
    block_bytes: int = 1024
    now: float = NOW

    def files(self) -> Files:
        """The files."""
        return Files(self.k, self.n, self.block_bytes, self.now)

    def open(self, disk: RealDisk) -> ShareStore:
        """The store."""
        return ShareStore(disk, self.folder, capacity_bytes=CAPACITY_BYTES, reserve_bytes=0, now=self.now, private=True)


@dataclass(frozen=True, slots=True)
class Measured:
    """One row. Times in milliseconds, but of listing and scrubbing a share in microseconds.

    start: opening the store.  status: what `shoal node status` asks the store.  put: one share, with its sync.
    memory, peak: of the process at the end and at most, over what it had before the store was opened.
    """

    shares: int
    start_ms: float
    status_ms: float
    put_ms: float
    put_p95_ms: float
    list_us: float
    scrub_us: float
    memory_mib: float
    peak_mib: float
    disk_kib: float


def build(setting: Setting, upto: int, teller: Teller = noise) -> float:
    """Fill the store up to so many shares, its database not synced meanwhile; seconds per share."""
    files, store = setting.files(), setting.open(HastyDisk())
    have, began = store.usage().shares, time.perf_counter()
    for number in range(have, upto):
        files.put(store, number)
        files.tell(store, number, teller)
    store.close()
    os.sync()  # or what was written lazily would be written during what is measured next
    return (time.perf_counter() - began) / max(1, upto - have)


def measure(setting: Setting) -> Measured:
    """All figures of the store as it is, and then of some shares more."""
    files = setting.files()
    gc.collect()
    pid, before = os.getpid(), memory_mib(os.getpid())
    start_s, store = timed(lambda: setting.open(RealDisk()))
    status_s = statistics.median(timed(lambda: (store.usage(), store.health()))[0] for _ in range(STATUS_ROUNDS))
    shares = store.usage().shares
    list_s, _ = timed(lambda: list_all(store))
    scrub_s, report = timed(lambda: store.scrub(NOW, UNLIMITED_BYTES))
    assert report.shares == shares, "a pass checks every share once"
    disk_bytes = folder_bytes(setting.folder)
    numbers = range(shares, shares + min(shares, PUTS))
    puts = [timed(partial(files.put, store, number))[0] for number in numbers]
    found = Measured(
        shares,
        1e3 * start_s,
        1e3 * status_s,
        1e3 * percentile(puts, 50),
        1e3 * percentile(puts, 95),
        1e6 * list_s / shares,
        1e6 * scrub_s / shares,
        memory_mib(pid) - before,
        memory_mib(pid, peak=True) - before,
        disk_bytes / 1024 / shares,
    )
    store.close()
    return found


def list_all(store: ShareStore) -> int:
    """Every file kept, page by page, as a start of the node lists them."""
    after, count = b"", 0
    while page := store.files(after, PAGE):
        after, count = page[-1], count + len(page)
    return count


def timed(work: Callable[[], T]) -> tuple[float, T]:
    """Seconds, and the result."""
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def apart(work: Callable[..., T], *arguments: object) -> T:
    """Call it in a process of its own, whose memory nothing else has used."""
    with ProcessPoolExecutor(max_workers=1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def run(sizes: Sequence[int], *, k: int, n: int, block_bytes: int, folder: Path | None) -> None:
    """Build and measure size after size in one growing store; print the table."""
    print(
        f"shares of {block_bytes} bytes, each of a {k}-of-{n} file of its own with {n - 1} statements; "
        "built through the store's calls, unsynced; then each size measured in a fresh process, synced"
    )
    with tempfile.TemporaryDirectory(prefix="shoal-scale-", dir=folder) as name:
        setting = Setting(Path(name) / "store", k, n, block_bytes)
        rows: list[tuple[Cell, ...]] = []
        for size in sorted(sizes):
            build_s = apart(build, setting, size)
            rows.append(astuple(apart(measure, setting)))
            print(f"  {size} shares: built at {1e6 * build_s:.0f} us each", flush=True)
    print(*table(HEAD, [*rows, growth_row(sorted(sizes), rows)]), sep="\n")
