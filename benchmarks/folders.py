"""Folders, measured on a local network of real node processes, beside one file of the same size.

    python benchmarks/folders.py [--nodes 16] [--files 20000] [--mean 20KiB] [--small 10000] [--rounds 2]

Two folders are published, each by a process of its own that does nothing else:

* a tree of `--files` files from 0 bytes up, 60 directories deep, with odd names; its bar is 1.5 times what one file of
  its size takes, and one second more for each 10,000 files;
* `--small` files of 1 KiB in one directory; its bar is 15 s and 200 MiB of memory.

The program ends with 1 where a bar is missed. Linux only.
"""

import argparse
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import trio

from shoal.cli.local_network import LocalNetwork, Plan, open_local_network
from shoal.cli.units import parse_size
from shoal.node import NodeSettings

MIB = 2**20
DEPTH = 60
PER_FOLDER = 100
LARGEST = 2**20
SMALL_BYTES = 2**10
BAR_TIMES, BAR_S_PER_FILE = 1.5, 1 / 10_000
SMALL_BAR_S, SMALL_BAR_MIB = 15.0, 200.0
ODD = ("plain", "with space", "líne\nbreak", "\udcff\udcfe", "\x1b[31m", "n" * 200, "...", "-rf")


@dataclass(frozen=True)
class Took:
    """What one publish took: seconds of the publish, of the whole process, and the most memory that it had."""

    publish_s: float
    process_s: float
    peak_mib: float
    size: int


def make_tree(root: Path, files: int, mean: int, rng: random.Random) -> None:
    """Files of 0 bytes to 1 MB, most of them small, some in a directory 60 levels down."""
    root.mkdir()
    deep = root.joinpath(*["d"] * (DEPTH - 2))
    pool = rng.randbytes(LARGEST)
    folder = root
    for number in range(files):
        if number % PER_FOLDER == 0:
            folder = (deep if number % 1_000 == 0 else root) / f"{number // PER_FOLDER:04}"
            folder.mkdir(parents=True)
        size = min(LARGEST, int(rng.expovariate(1 / mean))) if number % 50 else 0
        start = rng.randrange(LARGEST - size + 1)
        (folder / f"{number:06} {ODD[number % len(ODD)]}").write_bytes(pool[start : start + size])


def make_small(root: Path, files: int, rng: random.Random) -> None:
    """Many files of 1 KiB in one directory."""
    root.mkdir()
    for number in range(files):
        (root / f"{number:06}").write_bytes(rng.randbytes(SMALL_BYTES))


def publish(network: LocalNetwork, path: Path) -> Took:
    """Publish a path by the `shoal` command, in a process whose memory is looked at."""
    options = ["--json", "--home", str(network.folder / "publisher"), "--network", str(network.network_file)]
    words = [sys.executable, "-m", "shoal.cli", *options, "publish", str(path)]
    started = time.perf_counter()
    process = subprocess.Popen(words, stdout=subprocess.PIPE)
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    took = time.perf_counter() - started
    if status:
        raise SystemExit(f"shoal publish ended with {os.waitstatus_to_exitcode(status)}")
    summary = json.loads(output.splitlines()[-1])
    return Took(float(summary["seconds"]), took, usage.ru_maxrss / 1024, int(summary["size"]))


def best(network: LocalNetwork, path: Path, rounds: int) -> Took:
    """The fastest of some publishes: the machine's other work makes them slower, and nothing makes them faster."""
    return min((publish(network, path) for _ in range(rounds)), key=lambda took: took.process_s)


def measure_all(network: LocalNetwork, arguments: argparse.Namespace, folder: Path) -> bool:
    """Make the trees, publish them and one file as large; print a row each. Return whether every bar is met."""
    rng = random.Random(1)
    tree, small, single = folder / "tree", folder / "small", folder / "single"
    make_tree(tree, arguments.files, parse_size(arguments.mean), rng)
    make_small(small, arguments.small, rng)
    rows = {f"tree of {arguments.files} files": best(network, tree, arguments.rounds)}
    of_tree = next(iter(rows.values()))
    with open(single, "wb") as file:
        for start in range(0, of_tree.size, MIB):
            file.write(rng.randbytes(min(MIB, of_tree.size - start)))
    of_single = rows["one file of its size"] = best(network, single, arguments.rounds)
    of_small = rows[f"{arguments.small} files of 1 KiB"] = best(network, small, arguments.rounds)
    for name, took in rows.items():
        print(
            f"{name:28} {took.size / MIB:8.1f} MiB  {took.publish_s:7.2f} s  {took.process_s:7.2f} s in all  "
            f"{took.peak_mib:6.1f} MiB of memory"
        )
    bar = BAR_TIMES * of_single.process_s + BAR_S_PER_FILE * arguments.files
    print(f"the tree: {of_tree.process_s:.2f} s, and at most {bar:.2f} s")
    print(f"the small files: {of_small.process_s:.2f} s and {of_small.peak_mib:.0f} MiB, at most 15 s and 200 MiB")
    in_bars = of_small.process_s <= SMALL_BAR_S and of_small.peak_mib <= SMALL_BAR_MIB
    return of_tree.process_s <= bar and in_bars


async def measure(arguments: argparse.Namespace, folder: Path) -> bool:
    """Run the network meanwhile."""
    capacity = 20 * arguments.rounds * (arguments.files * parse_size(arguments.mean) + arguments.small * SMALL_BYTES)
    settings = NodeSettings(capacity_bytes=capacity + 10**9, reserve_bytes=0)
    plan = Plan(folder=folder / "network", count=arguments.nodes, name="benchmark", settings=settings)
    async with open_local_network(plan, lambda text: None) as network:
        return await trio.to_thread.run_sync(measure_all, network, arguments, folder)


def main() -> None:
    """Parse the options and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=16)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--mean", default="20KiB", help="of the sizes of files in the tree, which go from 0 to 1 MiB")
    parser.add_argument("--small", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    machine = f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(f"{machine}, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory(prefix="shoal-folders-") as name:
        met = trio.run(measure, arguments, Path(name))
    raise SystemExit(not met)


if __name__ == "__main__":
    main()
