"""Small files: how long one publish and one fetch of 1 KiB take, how many files of 4 KiB a second go in a loop.

    python benchmarks/small.py [--rounds 12] [--files 200 --at-once 8] [--commands 5] [--nodes 10]

The nodes are processes of their own. Publisher and fetcher are open nodes in this process (*library*), or the `shoal`
command (*command*), with the start of the interpreter. CPU is user and system time of all processes together, from
/proc (Linux): other work on the machine changes it less than it changes wall time. The loop publishes through one open
node, so many files at a time; each file is new.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

import trio
from transfer import command, node_cpu_s

from shoal.cli.local_network import LocalNetwork, Plan, open_local_network
from shoal.node import Node, NodeSettings, Published, open_node

ONE_BYTES = 1024
LOOP_BYTES = 4096

T = TypeVar("T")
Row = tuple[float, float]  # wall and CPU seconds


class Rig:
    """A running network, a publisher and a fetcher."""

    def __init__(self, network: LocalNetwork, publisher: Node, fetcher: Node, arguments: argparse.Namespace) -> None:
        self._network, self._publisher, self._fetcher = network, publisher, fetcher
        self._arguments = arguments
        self._names = self._name_files()

    def _name_files(self) -> Iterator[Path]:
        number = 0
        while True:
            number += 1
            yield self._network.folder / f"file-{number}"

    async def _measured(self, work: Callable[[], Awaitable[T]]) -> tuple[T, Row]:
        cpu, wall = node_cpu_s(self._network) + time.process_time(), time.perf_counter()
        done = await work()
        took = time.perf_counter() - wall
        return done, (took, node_cpu_s(self._network) + time.process_time() - cpu)

    def _new_file(self, size: int) -> Path:
        path = next(self._names)
        path.write_bytes(os.urandom(size))
        return path

    async def _publish(self, path: Path) -> Published:
        published = await self._publisher.publish(path, needed=self._arguments.needed, total=self._arguments.total)
        if not published.complete:
            raise RuntimeError(f"{path} was not published completely")
        return published

    async def library(self) -> None:
        """Single files of 1 KiB, publish and fetch by turns."""
        publishes, fetches = [], []
        for _ in range(self._arguments.rounds + 1):
            path, target = self._new_file(ONE_BYTES), next(self._names)
            published, spent = await self._measured(partial(self._publish, path))
            publishes.append(spent)
            _, spent = await self._measured(partial(self._fetcher.fetch, published.link, target))
            fetches.append(spent)
            if target.read_bytes() != path.read_bytes():
                raise RuntimeError("other bytes came back")
        _print_row("publish 1 KiB, library", publishes[1:])  # the first one meets everybody
        _print_row("fetch 1 KiB, library", fetches[1:])

    async def loop(self) -> None:
        """Many files of 4 KiB through one open node."""
        count, at_once = self._arguments.files, self._arguments.at_once
        paths = iter([self._new_file(LOOP_BYTES) for _ in range(count)])

        async def work() -> None:
            for path in paths:
                await self._publish(path)

        async def run() -> None:
            async with trio.open_nursery() as nursery:
                for _ in range(at_once):
                    nursery.start_soon(work)

        _, (wall, cpu) = await self._measured(run)
        what = f"{count} publishes of 4 KiB, {at_once} at a time:"
        print(f"{what} {count / wall:6.1f} files/s {1e3 * cpu / count:6.0f} CPU-ms each", flush=True)

    async def commands(self) -> None:
        """The same single files by the command line."""
        starts, publishes, fetches = [], [], []
        for number in range(self._arguments.commands):
            starts.append(await trio.to_thread.run_sync(start))
            path, target = self._new_file(ONE_BYTES), self._network.folder / f"out-{number}"
            code = ["--needed", str(self._arguments.needed), "--total", str(self._arguments.total)]
            summary, spent = await trio.to_thread.run_sync(
                command, self._network, "by-command", "publish", str(path), *code
            )
            publishes.append((spent[0], spent[1] + spent[2]))
            _, spent = await trio.to_thread.run_sync(
                command, self._network, "by-command", "fetch", str(summary["link"]), "-o", str(target)
            )
            fetches.append((spent[0], spent[1] + spent[2]))
        _print_row("start: shoal info of a wrong link", starts)
        _print_row("publish 1 KiB, command", publishes)
        _print_row("fetch 1 KiB, command", fetches)


def start() -> Row:
    """A command that loads little and ends: what the parser alone takes."""
    before, begun = os.times(), time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "shoal.cli", "info", "shoal:nonsense"], stderr=subprocess.DEVNULL, check=False
    )
    now = os.times()
    spent = now.children_user + now.children_system - before.children_user - before.children_system
    return time.perf_counter() - begun, spent


def _print_row(what: str, rows: list[Row]) -> None:
    walls, cpus = ([1e3 * value for value in column] for column in zip(*rows, strict=True))
    print(
        f"{what:36} {statistics.median(walls):6.0f} ms (least {min(walls):.0f}), "
        f"{statistics.median(cpus):6.0f} CPU-ms (mean {statistics.mean(cpus):.0f})",
        flush=True,
    )


async def measure(arguments: argparse.Namespace, folder: Path) -> None:
    """Start the network, and measure what was asked for."""
    plan = Plan(folder=folder, count=arguments.nodes, name="benchmark", settings=NodeSettings(reserve_bytes=0))
    async with open_local_network(plan, lambda text: None) as network:
        file = network.network_file
        async with (
            open_node(folder / "publisher", network=file) as publisher,
            open_node(folder / "fetcher", network=file) as fetcher,
        ):
            rig = Rig(network, publisher, fetcher, arguments)
            if arguments.rounds:
                await rig.library()
            if arguments.files:
                await rig.loop()
            if arguments.commands:
                await rig.commands()


def main() -> None:
    """Parse the options and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=10)
    parser.add_argument("--needed", type=int, default=3)
    parser.add_argument("--total", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=12, help="of single files; 0 for none")
    parser.add_argument("--files", type=int, default=200, help="in the loop; 0 for no loop")
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--commands", type=int, default=5, help="of each kind; 0 for none")
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {arguments.needed} of {arguments.total}")
    with tempfile.TemporaryDirectory(prefix="shoal-small-") as name:
        trio.run(measure, arguments, Path(name))


if __name__ == "__main__":
    main()
