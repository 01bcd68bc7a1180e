"""The main job, measured: publish a file over a local network of real node processes and fetch it back.

    python benchmarks/transfer.py [--size 1GB] [--needed 3 --total 10] [--nodes 10] [--rounds 2] [--idle 30]

Publisher and fetcher are processes of their own (the `shoal` command), so what is printed is what a user waits for,
start-up of the interpreter included. CPU seconds are user and system time of the command and of all nodes together,
read from /proc (Linux). Afterwards the nodes idle, and what that costs is printed too.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import trio

from shoal.cli.local_network import LocalNetwork, Plan, open_local_network
from shoal.cli.units import parse_size
from shoal.node import NodeSettings

MIB = 2**20
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def node_cpu_s(network: LocalNetwork) -> float:
    """User and system time of all nodes so far."""
    total = 0
    for node in network.nodes:
        assert node.process is not None, "the network is up"
        fields = Path(f"/proc/{node.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS_PER_S


def resident_mib(network: LocalNetwork) -> float:
    """The largest node in memory."""
    return max(
        int(line.split()[1]) / 1024
        for node in network.nodes
        if node.process is not None
        for line in Path(f"/proc/{node.process.pid}/status").read_text().splitlines()
        if line.startswith("VmRSS")
    )


def command(network: LocalNetwork, home: str, *words: str) -> tuple[dict[str, object], tuple[float, float, float]]:
    """Run `shoal`; its JSON summary, wall seconds, and CPU seconds of the command, and of all nodes."""
    before, children = node_cpu_s(network), resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    options = ["--json", "--home", str(network.folder / home), "--network", str(network.network_file)]
    done = subprocess.run(
        [sys.executable, "-m", "shoal.cli", *options, *words], stdout=subprocess.PIPE, check=True, text=True
    )
    wall = time.perf_counter() - started
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    own = now.ru_utime + now.ru_stime - children.ru_utime - children.ru_stime
    return json.loads(done.stdout.splitlines()[-1]), (wall, own, node_cpu_s(network) - before)


def write_random(path: Path, size: int) -> None:
    """A file that nothing can compress or guess."""
    with open(path, "wb") as file:
        for start in range(0, size, 4 * MIB):
            file.write(os.urandom(min(4 * MIB, size - start)))


async def measure(arguments: argparse.Namespace, folder: Path) -> None:
    """Start the network, run the rounds, print."""
    size = parse_size(arguments.size)
    settings = NodeSettings(capacity_bytes=arguments.rounds * 4 * size + 10**9, reserve_bytes=0)
    plan = Plan(folder=folder, count=arguments.nodes, name="benchmark", settings=settings)
    source = folder / "source"
    await trio.to_thread.run_sync(write_random, source, size)
    async with open_local_network(plan, lambda text: None) as network:
        published: list[tuple[float, float, float]] = []
        fetched: list[tuple[float, float, float]] = []
        for number in range(arguments.rounds):
            code = ["--needed", str(arguments.needed), "--total", str(arguments.total)]
            summary, spent = await trio.to_thread.run_sync(command, network, "publisher", "publish", str(source), *code)
            published.append(spent)
            words = ["fetch", str(summary["link"]), "-o", str(folder / f"fetched-{number}")]
            _, spent = await trio.to_thread.run_sync(command, network, "fetcher", *words)
            fetched.append(spent)
            (folder / f"fetched-{number}").unlink()
        for name, rows in (("publish", published), ("fetch", fetched)):
            wall, own, nodes = (statistics.median(column) for column in zip(*rows, strict=True))
            own, nodes = own * 2**30 / size, nodes * 2**30 / size
            cpu = f"{own + nodes:6.1f} CPU-s per GiB ({own:.1f} the command, {nodes:.1f} all nodes)"
            print(f"{name:8} {wall:7.2f} s  {size / MIB / wall:7.1f} MiB/s  {cpu}")
        before = node_cpu_s(network)
        await trio.sleep(arguments.idle)
        idle = 100 * (node_cpu_s(network) - before) / arguments.idle / arguments.nodes
        print(f"idle     {idle:.2f} % of a core and at most {resident_mib(network):.0f} MiB resident, per node")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"peak     {peak:.0f} MiB resident, the largest process of all")


def main() -> None:
    """Parse the options and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="1GB")
    parser.add_argument("--needed", type=int, default=3)
    parser.add_argument("--total", type=int, default=10)
    parser.add_argument("--nodes", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--idle", type=float, default=30.0, help="seconds to watch the nodes afterwards")
    arguments = parser.parse_args()
    machine = f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(f"{machine}, load {os.getloadavg()[0]:.1f}")
    code = f"{arguments.needed} of {arguments.total}"
    print(f"{arguments.size}, {code}, {arguments.nodes} nodes, medians of {arguments.rounds}")
    with tempfile.TemporaryDirectory(prefix="shoal-transfer-") as name:
        trio.run(measure, arguments, Path(name))


if __name__ == "__main__":
    main()
