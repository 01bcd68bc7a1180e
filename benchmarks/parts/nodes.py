"""How the DHT grows: 10 to 300 nodes on loopback, real services on real sockets, all in one process."""

import gc
import os
import random
import time
import tracemalloc
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import astuple, dataclass

import trio
from parts.figures import KIB, Cell, growth_row, memory_mib, percentile, table
from parts.shares import apart

from shoal.dht import Address, Contact, DhtService, Identity, K, NetworkParameters, NodeId, UdpNetwork, distance
from shoal.dht.routing import ContactTable

PARAMETERS = NetworkParameters("benchmark", 0, True)
SETTLED_S = 20.0  # what a young network looks around for, see SETTLING_S in dht/membership.py
NEWCOMERS = 10  # join the network at the end
TABLES, OFFERED = 50, 1000  # tables filled to see what a contact takes, and ids offered to each

HEAD = (
    "nodes",
    "join ms",
    "join max",
    "lookup ms",
    "lookup p95",
    "CPU ms",
    "messages",
    "KiB sent",
    "exact %",
    "contacts",
    "KiB/node",
)


class Services:
    """A network that runs; its nodes are tasks of `nursery`."""

    def __init__(self, nursery: trio.Nursery, rng: random.Random) -> None:
        self.nodes: list[DhtService] = []
        self._nursery = nursery
        self._rng = rng

    async def join(self) -> float:
        """One node more, through any of those there are; seconds until it knows its neighbours."""
        node = DhtService(
            PARAMETERS,
            Identity.create(0, os.urandom),
            UdpNetwork(),
            listen=[Address("127.0.0.1", 0)],
            rng=random.Random(self._rng.random()),
        )
        await self._nursery.start(node.run)
        began = time.perf_counter()
        if self.nodes:
            await node.bootstrap([self._rng.choice(self.nodes).addresses[0]])
        self.nodes.append(node)
        return time.perf_counter() - began

    def sent(self) -> tuple[int, int]:
        """Datagrams and bytes that all have sent so far, requests and replies."""
        found = [node.statistics() for node in self.nodes]
        return sum(each.datagrams_out for each in found), sum(each.bytes_out for each in found)

    def nearest(self, origin: DhtService, target: bytes) -> set[NodeId]:
        """The nodes that a lookup by `origin` should find."""
        others = [node.identity.node_id for node in self.nodes if node is not origin]
        return set(sorted(others, key=lambda node_id: distance(node_id, target))[:K])


@dataclass(frozen=True, slots=True)
class Lookups:
    """Some lookups of random targets: seconds of each, and per lookup CPU seconds, datagrams and bytes of all nodes.

    exact: the part that found just the K nearest nodes.
    """

    seconds: list[float]
    cpu_s: float
    messages: float
    sent_bytes: float
    exact: float


@dataclass(frozen=True, slots=True)
class Measured:
    """One row, see HEAD. Messages, bytes and CPU are those of a lookup, of all nodes together."""

    nodes: int
    join_ms: float
    join_max_ms: float
    lookup_ms: float
    lookup_p95_ms: float
    cpu_ms: float
    messages: float
    sent_kib: float
    exact_percent: float
    contacts: float
    node_kib: float


@asynccontextmanager
async def open_services(count: int, rng: random.Random) -> AsyncIterator[Services]:
    """A network of so many nodes that have looked around enough."""
    async with trio.open_nursery() as nursery:
        services = Services(nursery, rng)
        for _ in range(count):
            await services.join()
        await trio.sleep(SETTLED_S)
        yield services
        nursery.cancel_scope.cancel()


async def look_up(services: Services, count: int, rng: random.Random) -> Lookups:
    """One lookup after another, each by some node."""
    (messages, sent), cpu_s = services.sent(), time.process_time()
    seconds, exact = [], 0
    for _ in range(count):
        origin, target = rng.choice(services.nodes), rng.randbytes(32)
        began = time.perf_counter()
        found = await origin.find_closest(target)
        seconds.append(time.perf_counter() - began)
        exact += {contact.node_id for contact in found} == services.nearest(origin, target)
    cpu_s = time.process_time() - cpu_s
    messages_after, sent_after = services.sent()
    return Lookups(
        seconds, cpu_s / count, (messages_after - messages) / count, (sent_after - sent) / count, exact / count
    )


async def measure(count: int, lookups: int, seed: int) -> Measured:
    """One size."""
    rng = random.Random(seed)
    gc.collect()
    before = memory_mib(os.getpid())
    async with open_services(count, rng) as services:
        found = await look_up(services, lookups, rng)
        gc.collect()
        memory = memory_mib(os.getpid()) - before
        contacts = sum(len(node.contacts()) for node in services.nodes) / count
        joins = [await services.join() for _ in range(NEWCOMERS)]
        return Measured(
            count,
            1e3 * percentile(joins, 50),
            1e3 * max(joins),
            1e3 * percentile(found.seconds, 50),
            1e3 * percentile(found.seconds, 95),
            1e3 * found.cpu_s,
            found.messages,
            found.sent_bytes / KIB,
            100 * found.exact,
            contacts,
            memory * KIB / count,
        )


def measure_size(count: int, lookups: int, seed: int) -> Measured:
    """`measure`, to be called in a process of its own."""
    return trio.run(measure, count, lookups, seed)


def contact_bytes(rng: random.Random) -> float:
    """What a contact takes in a routing table that has met a thousand peers, the replacements it keeps included."""
    tracemalloc.start()
    tables = [_filled_table(rng) for _ in range(TABLES)]
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return taken / sum(len(each) for each in tables)


def _filled_table(rng: random.Random) -> ContactTable:
    filled = ContactTable(NodeId(rng.randbytes(32)), 0.0, private=True)
    for port in range(1, OFFERED + 1):
        filled.on_verified(Contact(NodeId(rng.randbytes(32)), Address(f"10.0.{port % 250}.1", port)), 0.0)
    return filled


def run(sizes: Sequence[int], *, lookups: int, seed: int) -> None:
    """Measure size after size; print the table."""
    print(
        "nodes of the DHT alone, all of one size in one process on one core, so that a time is the CPU time of all who "
        f"take part;\n{lookups} lookups one after another, {SETTLED_S:.0f} s after the last node has joined; then "
        f"{NEWCOMERS} nodes more join"
    )
    rows: list[tuple[Cell, ...]] = [astuple(apart(measure_size, size, lookups, seed)) for size in sorted(sizes)]
    print(*table(HEAD, [*rows, growth_row(sorted(sizes), rows)]), sep="\n")
    print(f"a contact in a routing table: {contact_bytes(random.Random(seed)):.0f} bytes, replacements included")
