"""How shares can be written and read on this machine's disk, so that the choice can be judged on another one.

    python benchmarks/disk.py FOLDER [--mib 200] [--files 10] [--rounds 3]

Files grow side by side in writes of 1 MiB, as shares do on a machine with several uploads: 16 blocks at a time. FOLDER
is on the disk to be measured. Everything in it that this makes is removed at the end. Each way ends with an fsync of
every file.

    plain            writes through the page cache, and no sync before the end
    synced           fdatasync after every 8 MiB of a file
    synced, dropped  the same, then posix_fadvise(DONTNEED): what the store does where the next way is refused
    direct           O_DIRECT from whole pages, fdatasync after every 32 MiB: what the store does
    store            the same by way of the store's own disk (node/store/disk.py)

Then reads of 1 MiB, one file after the other, as fetches do: first from the disk, then from the page cache.

CPU is of this process. `machine` is of the whole machine: the kernel writes pages in threads of its own. Linux only.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from parts.figures import MIB, Cell, heading, table

from shoal.erasure import payload_memory
from shoal.node.store import RealDisk, split_blocks

GIB = 2**30
HEAD = ("way", "wall s/GiB", "CPU-s/GiB", "machine", "slowest ms")
IDLE_COLUMNS = (4, 5)  # of the first line of /proc/stat: idle, iowait

Figures = tuple[float, float, float, float]


def machine_s() -> float:
    """CPU time of the whole machine since its start."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    busy = (int(each) for at, each in enumerate(fields, 1) if at not in IDLE_COLUMNS)
    return sum(busy) / os.sysconf("SC_CLK_TCK")


def measured(steps: Iterator[None], size: int) -> Figures:
    """Wall, CPU and machine seconds per GiB of all steps, and the milliseconds of the slowest."""
    begun, cpu, machine, slowest = time.perf_counter(), time.process_time(), machine_s(), 0.0
    before = begun
    for _ in steps:
        now = time.perf_counter()
        slowest, before = max(slowest, now - before), now
    spent = (time.perf_counter() - begun, time.process_time() - cpu, machine_s() - machine)
    wall_s, cpu_s, all_s = (each * GIB / size for each in spent)
    return wall_s, cpu_s, all_s, slowest * 1e3


class Files:
    """The files of one folder, and the ways to write and read them."""

    def __init__(self, folder: Path, count: int, length: int) -> None:
        self._paths = [folder / f"share-{number}" for number in range(count)]
        self._length = length
        self.size = count * length
        self._payload = payload_memory.view(MIB)
        self._payload[:] = os.urandom(MIB)

    def clear(self) -> None:
        """Remove them."""
        for path in self._paths:
            path.unlink(missing_ok=True)

    def written(self, *, every: int = 0, drop: bool = False, direct: bool = False) -> Iterator[None]:
        """Write all of them by system calls, synced after each `every` bytes."""
        blocks, flags = split_blocks(self._payload), os.O_RDWR | os.O_CREAT | (os.O_DIRECT if direct else 0)
        with ExitStack() as stack:
            files = [stack.enter_context(open(os.open(path, flags, 0o600), "wb", buffering=0)) for path in self._paths]
            for end in range(MIB, self._length + 1, MIB):
                for file in files:
                    os.pwritev(file.fileno(), blocks, end - MIB)
                    if every and end % every == 0:
                        os.fdatasync(file.fileno())
                        if drop:
                            os.posix_fadvise(file.fileno(), 0, end, os.POSIX_FADV_DONTNEED)
                    yield
            for file in files:
                os.fsync(file.fileno())
                yield

    def stored(self, every: int) -> Iterator[None]:
        """Write all of them by way of the store's disk."""
        disk, blocks = RealDisk(), split_blocks(self._payload)
        files = [disk.create(path) for path in self._paths]
        for end in range(MIB, self._length + 1, MIB):
            for file in files:
                file.write_at(end - MIB, blocks)
                if end % every == 0 or end == self._length:
                    file.fsync()
                yield
        for file in files:
            file.close()

    def read(self, *, cold: bool) -> Iterator[None]:
        """Read all of them into one buffer. They are on the disk; `cold` forgets what the page cache has of them."""
        disk = RealDisk()
        for path in self._paths:
            with open(path, "rb", buffering=0) as opened:
                if cold:
                    os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            file = disk.open(path)
            for at in range(0, self._length, MIB):
                file.read_into(at, self._payload)
                yield
            file.close()


def main() -> None:
    """Measure every way in turn, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--mib", type=int, default=200, help="of each file")
    parser.add_argument("--files", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(heading())
    with tempfile.TemporaryDirectory(prefix="shoal-disk-", dir=options.folder) as name:
        files = Files(Path(name), options.files, options.mib * MIB)
        ways: dict[str, Callable[[], Iterator[None]]] = {
            "plain": lambda: files.written(),
            "synced": lambda: files.written(every=8 * MIB),
            "synced, dropped": lambda: files.written(every=8 * MIB, drop=True),
            "direct": lambda: files.written(every=32 * MIB, direct=True),
            "store": lambda: files.stored(32 * MIB),
            "read, from the disk": lambda: files.read(cold=True),
            "read, from the cache": lambda: files.read(cold=False),
        }
        found: dict[str, list[Figures]] = {way: [] for way in ways}
        for _ in range(options.rounds):
            for way, steps in ways.items():
                if not way.startswith("read"):
                    files.clear()
                found[way].append(measured(steps(), files.size))
    rows: list[Sequence[Cell]] = [
        (way, *(median(column) for column in zip(*each, strict=True))) for way, each in found.items()
    ]
    print(*table(HEAD, rows), sep="\n")


if __name__ == "__main__":
    main()
