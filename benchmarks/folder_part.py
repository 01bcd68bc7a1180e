"""One file of a large folder, fetched alone: what has to be received for it, on a local network of real node processes.

    python benchmarks/folder_part.py [--size 5GB] [--file 1MB] [--nodes 16]

The folder has files of `--file` bytes. Its bar: what is received for one of them is at most its segments, the segments
with the page table and the page of the index, and 10 %. The program ends with 1 where that is missed. Linux only.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import trio

from shoal.cli.local_network import LocalNetwork, Plan, open_local_network
from shoal.cli.units import format_size, parse_size
from shoal.erasure import BLOCK_BYTES, SEGMENT_OVERHEAD
from shoal.node import NodeSettings

PER_FOLDER = 500
INDEX_SEGMENTS = 2  # the page table with a page in front of it, at the border of two segments
BAR = 1.1
SAMPLES = 5


def run(network: LocalNetwork, *arguments: str) -> dict[str, Any]:
    """The summary of a command."""
    options = ["--json", "--home", str(network.folder / "client"), "--network", str(network.network_file)]
    command = [sys.executable, "-m", "shoal.cli", *options, *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    summary: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return summary


def measure_all(network: LocalNetwork, folder: Path, size: int, each: int) -> bool:
    """Publish the folder, fetch some files of it, and print a row for each. Whether every one is within the bar."""
    rng = random.Random(1)
    paths = [f"{at // PER_FOLDER:03d}/{at:06d}" for at in range(size // each)]
    for path in paths:
        (folder / "source" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "source" / path).write_bytes(rng.randbytes(each))
    started = time.perf_counter()
    published = run(network, "publish", str(folder / "source"))
    print(f"published {format_size(published['size'])} in {time.perf_counter() - started:.1f} s, any {published['k']}")
    segment = published["k"] * BLOCK_BYTES
    segments = -(-each // (segment - SEGMENT_OVERHEAD)) + 1
    bar = BAR * (segments + INDEX_SEGMENTS) * segment
    met = True
    for path in rng.sample(paths, SAMPLES):
        target = folder / "fetched"
        done = run(network, "fetch", f"{published['link']}/{path}", "-o", str(target), "--force")
        same = target.read_bytes() == (folder / "source" / path).read_bytes()
        received = done["received_bytes"]
        print(f"{path}: {format_size(received)} received, at most {format_size(bar)}, in {done['seconds']:.2f} s")
        met = met and same and received <= bar
    return met


async def measure(folder: Path, arguments: argparse.Namespace) -> bool:
    """Run the network meanwhile."""
    size, each = parse_size(arguments.size), parse_size(arguments.file)
    settings = NodeSettings(capacity_bytes=2 * size + 10**9, reserve_bytes=0)
    plan = Plan(folder=folder / "network", count=arguments.nodes, name="benchmark", settings=settings)
    async with open_local_network(plan, lambda text: None) as network:
        return await trio.to_thread.run_sync(measure_all, network, folder, size, each)


def main() -> None:
    """Parse the options and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="5GB", help="of the folder; the network takes three times as much on disk")
    parser.add_argument("--file", default="1MB", help="of each file in it")
    parser.add_argument("--nodes", type=int, default=16)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="shoal-folder-part-") as name:
        raise SystemExit(not trio.run(measure, Path(name), arguments))


if __name__ == "__main__":
    main()
