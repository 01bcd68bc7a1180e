"""How one node serves many: 1 to 64 fetches at once of a file whose one share it keeps."""

import multiprocessing
import os
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import astuple, dataclass, replace
from multiprocessing.synchronize import Barrier
from pathlib import Path

import trio
from parts.figures import MIB, Cell, cpu_s, growth_row, memory_mib, reset_peak, table

from shoal.cli.local_network import LocalNetwork, Plan, open_local_network
from shoal.node import Network, Node, NodeSettings, open_node
from shoal.node.environment import Environment, real_environment

FETCHES_MIN = 16  # a size of few fetches at once is measured over several rounds
WRITE_BYTES = 4 * MIB
START_LIMIT_S = 120.0  # for a process of clients to have joined: when one fails, the others do not wait for ever

HEAD = (
    "fetches",
    "MiB/s",
    "fastest s",
    "slowest s",
    "slow/fast",
    "node CPU-s/GiB",
    "node % of a core",
    "node MiB",
    "clients CPU-s/GiB",
    "clients MiB",
)


@dataclass(frozen=True, slots=True)
class Measured:
    """One row, see HEAD. Megabytes of file, start of a fetch to its last byte; memory is the peak."""

    fetches: int
    mib_s: float
    fastest_s: float
    slowest_s: float
    ratio: float
    node_cpu_s_gib: float
    node_core_percent: float
    node_mib: float
    clients_cpu_s_gib: float
    clients_mib: float


async def publish(network: LocalNetwork, size_bytes: int) -> str:
    """A file of noise, its one share on the one node; the link."""

    async def noise() -> AsyncIterator[bytes]:
        for start in range(0, size_bytes, WRITE_BYTES):
            yield os.urandom(min(WRITE_BYTES, size_bytes - start))
            await trio.lowlevel.checkpoint()

    with tempfile.TemporaryDirectory(prefix="shoal-scale-") as home:
        async with open_node(Path(home), network=Network.load(network.network_file)) as node:
            return str((await node.publish(noise(), needed=1, total=1)).link)


async def fetch(node: Node, link: str, seconds: list[float]) -> None:
    """One fetch, as a stream that is thrown away: no disk of ours."""
    began = time.perf_counter()
    async with node.open_fetch(link) as file:
        got = 0
        async for chunk in file:
            got += len(chunk)
    assert got == file.size, "all of it came"
    seconds.append(time.perf_counter() - began)


async def open_clients(stack: AsyncExitStack, count: int, network_file: Path, folder: Path) -> list[Node]:
    """Clients with homes, identities and connections of their own; they share what a process has once, its threads."""
    environment: Environment = real_environment()
    network = Network.load(network_file)
    nodes = []
    for number in range(count):
        opened = open_node(folder / f"client-{number}", network=network, environment=environment)
        nodes.append(await stack.enter_async_context(opened))
    for node in nodes:
        await node.wait_joined()
    return nodes


@dataclass(frozen=True, slots=True)
class Crowd:
    """What one process of clients is to do: `rounds` times `count` fetches at once."""

    count: int
    rounds: int
    link: str
    network_file: Path
    server_pid: int


@dataclass(frozen=True, slots=True)
class Fetched:
    """What one process of clients saw. Times are of the machine's one monotonic clock; memory is the peak."""

    seconds: list[float]
    begun: float
    ended: float
    server_cpu_s: float
    cpu_s: float
    memory_mib: float


_together: list[Barrier] = []  # in a process of clients: where it waits for the others


def wait_for(barrier: Barrier) -> None:
    """Called first in each process of clients: all of them begin at once."""
    _together.append(barrier)


async def fetch_all(crowd: Crowd) -> Fetched:
    """Open the clients, wait for the other processes, and fetch."""
    seconds: list[float] = []
    with tempfile.TemporaryDirectory(prefix="shoal-scale-") as folder:
        async with AsyncExitStack() as stack:
            clients = await open_clients(stack, crowd.count, crowd.network_file, Path(folder))
            await trio.to_thread.run_sync(_together[0].wait, START_LIMIT_S)
            server_s, own_s, began = cpu_s(crowd.server_pid), time.process_time(), time.perf_counter()
            for _ in range(crowd.rounds):
                async with trio.open_nursery() as nursery:
                    for node in clients:
                        nursery.start_soon(fetch, node, crowd.link, seconds)
            ended = time.perf_counter()
            server_s, own_s = cpu_s(crowd.server_pid) - server_s, time.process_time() - own_s
    return Fetched(seconds, began, ended, server_s, own_s, memory_mib(os.getpid(), peak=True))


def fetch_crowd(crowd: Crowd) -> Fetched:
    """`fetch_all`, to be called in a process of its own."""
    return trio.run(fetch_all, crowd)


def measure(count: int, crowd: Crowd, size_bytes: int) -> Measured:
    """`count` fetches at once, by as many processes as there are cores."""
    processes = min(count, os.cpu_count() or 1)
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(processes)
    crowds = [replace(crowd, count=len(range(at, count, processes))) for at in range(processes)]
    reset_peak(crowd.server_pid)
    with ProcessPoolExecutor(
        max_workers=processes, mp_context=context, initializer=wait_for, initargs=(barrier,)
    ) as pool:
        fetched = list(pool.map(fetch_crowd, crowds))
    return summary(count, crowd, size_bytes, fetched)


def summary(count: int, crowd: Crowd, size_bytes: int, fetched: Sequence[Fetched]) -> Measured:
    """One row of what the processes saw."""
    seconds = [each for one in fetched for each in one.seconds]
    wall_s = max(one.ended for one in fetched) - min(one.begun for one in fetched)
    server_s = max(one.server_cpu_s for one in fetched)
    gib = len(seconds) * size_bytes / 2**30
    return Measured(
        count,
        1024 * gib / wall_s,
        min(seconds),
        max(seconds),
        max(seconds) / min(seconds),
        server_s / gib,
        100 * server_s / wall_s,
        memory_mib(crowd.server_pid, peak=True),
        sum(one.cpu_s for one in fetched) / gib,
        sum(one.memory_mib for one in fetched),
    )


async def measure_all(sizes: Sequence[int], size_bytes: int, folder: Path) -> list[tuple[Cell, ...]]:
    """Start the node, publish, and fetch in ever larger crowds."""
    settings = NodeSettings(capacity_bytes=10**9 + 4 * size_bytes, reserve_bytes=0)
    plan = Plan(folder=folder, count=1, name="benchmark", settings=settings)
    async with open_local_network(plan, lambda text: None) as network:
        process = network.nodes[0].process
        assert process is not None, "the network is up"
        link = await publish(network, size_bytes)
        rows: list[tuple[Cell, ...]] = []
        for count in sizes:
            crowd = Crowd(count, max(1, FETCHES_MIN // count), link, network.network_file, process.pid)
            rows.append(astuple(await trio.to_thread.run_sync(measure, count, crowd, size_bytes)))
        return rows


def run(sizes: Sequence[int], *, size_bytes: int) -> None:
    """Measure size after size; print the table."""
    print(
        f"fetches at once of a file of {size_bytes / MIB:g} MiB from one node (1-of-1), a process of its own;\n"
        "the clients, each with its own connection, share as many processes as there are cores, decrypt and discard; "
        f"{FETCHES_MIN} fetches at least"
    )
    with tempfile.TemporaryDirectory(prefix="shoal-scale-") as name:
        rows = trio.run(measure_all, sorted(sizes), size_bytes, Path(name))
    print(*table(HEAD, [*rows, growth_row(sorted(sizes), rows)]), sep="\n")
