"""One way to measure, for every system: publish, fetch, compare the bytes; again; medians."""

import os
import statistics
import sys
import time
from pathlib import Path
from typing import Protocol

from .processes import MeasureError, Spent, cpu_s, memory_mib
from .results import CLIENT, FETCH, FETCH_LOST, MIB, PUBLISH, Idle, Row
from .tables import size_name

PIECE_BYTES = MIB
STAMP_BYTES = 16
ENOUGH_S = 30.0  # of publishing and fetching for one line; what takes so long moves little from round to round
SMALL_BYTES = MIB
SMALL_ROUNDS = 5  # at least, of files up to SMALL_BYTES: they cost nothing, and the first of them meets cold caches
SETTLE_S = 5.0  # after start, before idling is measured


class System(Protocol):
    """What can be measured: a network of storage nodes on this machine, and a client."""

    name: str
    code: tuple[int, int]  # (k, n); a system that chooses for itself says here what it chose last

    def publish(self, source: Path, through: str) -> tuple[str, Spent]:
        """Publish a file through CLIENT or COMMAND; what to fetch it by, and the cost."""

    def fetch(self, link: str, target: Path, through: str) -> Spent:
        """Fetch into a file that does not exist."""

    def lose(self) -> None:
        """Kill the holders of the first n-k shares of what was published last: only parity stays where it can."""

    def stored_bytes(self) -> int:
        """Bytes of shares on the disks of all storage nodes."""

    def storage_pids(self) -> list[int]:
        """The storage nodes' processes."""


class Named(Protocol):
    """What a row must know of a system."""

    name: str
    code: tuple[int, int]


class Source:
    """A file of random bytes. A few new bytes make it another file: Tahoe-LAFS would know the same one again."""

    def __init__(self, path: Path, size: int) -> None:
        self.path, self.size = path, size
        with open(path, "wb") as file:
            for start in range(0, size, PIECE_BYTES):
                file.write(os.urandom(min(PIECE_BYTES, size - start)))

    def renew(self) -> None:
        """Make it another file. Under a new key nothing of its shares stays the same, in either system."""
        with open(self.path, "r+b") as file:
            file.write(os.urandom(min(STAMP_BYTES, self.size)))


def same_bytes(first: Path, second: Path) -> bool:
    """Whether two files are equal (filecmp remembers files by size and time, which is not enough here)."""
    with open(first, "rb") as one, open(second, "rb") as other:
        while True:
            piece, twin = one.read(PIECE_BYTES), other.read(PIECE_BYTES)
            if piece != twin:
                return False
            if not piece:
                return True


def measure(system: System, source: Source, through: str, rounds: int) -> tuple[list[Row], str]:
    """Publish and fetch `rounds` times, or until ENOUGH_S; two rows, and the link of the last file published."""
    published: list[Spent] = []
    fetched: list[Spent] = []
    if source.size <= SMALL_BYTES and through == CLIENT:
        rounds = max(rounds, SMALL_ROUNDS)
    link, stored_before, spent_s = "", system.stored_bytes(), 0.0
    while len(published) < rounds and spent_s < ENOUGH_S:
        source.renew()
        os.sync()  # what the last round left for the disk is not the cost of this one
        link, spent = system.publish(source.path, through)
        published.append(spent)
        fetched.append(fetch_once(system, source, link, through))
        spent_s += published[-1].wall_s + fetched[-1].wall_s
    stored = (system.stored_bytes() - stored_before) / (source.size * len(published))
    is_counted = source.size >= SMALL_BYTES  # the database grows by whole pages, now and then
    put = row(system, PUBLISH, through, source.size, published, stored if is_counted else None)
    return [put, row(system, FETCH, through, source.size, fetched)], link


def measure_lost(system: System, source: Source, link: str, rounds: int) -> Row:
    """Kill holders of the file published last, which is what `source` still is, and fetch it."""
    system.lose()
    fetched: list[Spent] = []
    while len(fetched) < rounds and sum(spent.wall_s for spent in fetched) < ENOUGH_S:
        fetched.append(fetch_once(system, source, link, CLIENT))
    return row(system, FETCH_LOST, CLIENT, source.size, fetched)


def fetch_once(system: System, source: Source, link: str, through: str) -> Spent:
    """Fetch, compare, remove. MeasureError when the bytes differ."""
    target = source.path.with_suffix(".fetched")
    target.unlink(missing_ok=True)
    os.sync()
    try:
        spent = system.fetch(link, target, through)
        if not same_bytes(source.path, target):
            raise MeasureError(f"{system.name} gave other bytes than were put")
    finally:
        target.unlink(missing_ok=True)
    return spent


def row(
    system: Named, operation: str, through: str, size: int, all_spent: list[Spent], stored: float | None = None
) -> Row:
    """The medians, told to whoever waits; the peak is the highest of all."""
    wall_s = statistics.median(spent.wall_s for spent in all_spent)
    cpu = statistics.median(spent.cpu_s for spent in all_spent)
    peak_mib = max(spent.peak_mib for spent in all_spent)
    made = Row(system.name, operation, through, size, *system.code, len(all_spent), wall_s, cpu, peak_mib, stored)
    times = " ".join(f"{spent.wall_s:.3f}" for spent in all_spent)
    say(f"{system.name}: {operation} {size_name(size)} by {through}: {times} s")
    return made


def idle_start(system: System, seconds: float) -> Idle:
    """Let the network settle and then idle. `used_mib` is for `idle_end` to say."""
    time.sleep(SETTLE_S)
    pids = system.storage_pids()
    before, begun = cpu_s(pids), time.perf_counter()
    time.sleep(seconds)
    lasted_s = time.perf_counter() - begun
    percent = 100 * (cpu_s(pids) - before) / lasted_s / len(pids)
    say(f"{system.name}: idle for {lasted_s:.0f} s: {percent:.2f} % of a core per storage node")
    return Idle(system.name, lasted_s, percent, median_mib(pids), 0.0)


def median_mib(pids: list[int]) -> float:
    """What the median process has in memory now."""
    return statistics.median(memory_mib(pid) for pid in pids)


def say(text: str) -> None:
    """Progress, for whoever waits."""
    print(f"  {text}", file=sys.stderr, flush=True)
