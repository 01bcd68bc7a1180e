"""What a node and a stored file cost a network of whole nodes per day, and how that grows with the network.

    python benchmarks/growth.py [--nodes 50 100 200 400 800] [--days 5] [--files-per-node 0.5] [--churn] [--seed 1]

Each size has two runs in virtual time, with the same machines, the same weather and the same seed. One has no files.
The other has some, published in the middle of the warm-up. The idle figures are those of the first. The cost of a file
is the difference of the two, divided by files and days. The warm-up (a day) is not counted.

Five days hold four announcements of a file (every 30 hours, the fourth with a lookup) and one renewal of its holders'
statements (every three to four days). They hold no refresh of a node's buckets: that is a lookup, every seven days, in
buckets without other searches.

A message of the DHT is a datagram sent, request or reply; one of the streams is a request or a reply between peers, or
a part of its start. Bytes are those of the payloads: IP, UDP, TCP and TLS come on top. No file is read.

Without --churn no machine ever goes away. With it machines go away, come back and die as in `shoal simulate`. Costs are
then per node and day up, and those of a file include its repairs.

    hops      from a node to the nearest to a random target: 1 if its own table has it, 2 if somebody there names it, …
    queries   of one lookup: twice as many messages
    memory    what the process grows by, per node, with the node's virtual disk; of the run without files

Each run has a process of its own, one at a time.
"""

import argparse
import gc
import heapq
import math
import multiprocessing
import os
import random
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import trio

from shoal.cli.units import parse_size
from shoal.dht import DhtService
from shoal.dht.contact import Contact
from shoal.dht.crawl import NodeCrawl
from shoal.dht.identity import NodeId, distance
from shoal.dht.lookup import Lookup
from shoal.dht.messages import KnownRequest, Nodes
from shoal.dht.routing import K
from shoal.dht.rpc import Answer
from shoal.node.care.counts import CareStatistics
from shoal.simulation.churn import Change, life
from shoal.simulation.plan import DAY_S, Hazards, StudyPlan
from shoal.simulation.world import Machine, World, run_world

OPENING_S = 300.0  # in which the first machines start, one after another
REPLACED_AFTER_S = DAY_S  # at most, after a death
FILES_PER_CLIENT = 10
TTL_S = 90 * 86_400
DOORS = 3  # addresses that a machine starts from
PUBLISH_AT = 0.5  # of the warm-up
CAPACITY_BYTES = 10**9
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Setting:
    """One run. Times are in days; needed, total are k and n."""

    seed: int = 1
    nodes: int = 50
    files: int = 0
    size_bytes: int = 64 * 1024
    needed: int = 8
    total: int = 24
    warm_up: float = 1.0
    days: float = 5.0
    churn: bool = False
    lookups: int = 200


@dataclass(frozen=True, slots=True)
class Measured:
    """What one run cost, in all: `counts` by name, while it was measured; and how its nodes were at the end.

    node_days: of nodes that were up.  contacts, memory_bytes: per node.  hops, queries: of a lookup, on average.
    """

    setting: Setting
    node_days: float
    counts: Counter[str]
    cpu_s: float
    contacts: float
    memory_bytes: float
    hops: float
    queries: float


# --- one run


class Story:
    """One network through its warm-up and the days that count."""

    def __init__(self, setting: Setting, world: World) -> None:
        self._setting = setting
        self._world = world
        self._rng = random.Random(f"{setting.seed} growth")
        self._plan = StudyPlan(seed=setting.seed, nodes=setting.nodes)
        self._started: dict[str, float] = {}
        self._made = self._clients = 0
        self._ended: Counter[str] = Counter()  # what nodes that are gone had counted

    async def run(self) -> Measured:
        """From the first machine to the last lookup."""
        setting = self._setting
        memory_before = resident_bytes()
        async with trio.open_nursery() as nursery:
            for slot in range(setting.nodes):
                nursery.start_soon(self._slot, slot)
            await trio.sleep_until(max(OPENING_S + 60.0, PUBLISH_AT * setting.warm_up * DAY_S))
            await self._publish_all()
            await trio.sleep_until(setting.warm_up * DAY_S)
            before, cpu_s = self._counts(), time.process_time()
            await trio.sleep(setting.days * DAY_S)
            after, cpu_s = self._counts(), time.process_time() - cpu_s
            after.subtract(before)
            memory = (resident_bytes() - memory_before) / setting.nodes
            hops, queries = await self._look_up_often()
            nursery.cancel_scope.cancel()
        running = self._world.running()
        contacts = sum(len(_dht(machine).contacts()) for machine in running) / len(running)
        node_days = after.pop("up_s") / DAY_S
        return Measured(setting, node_days, after, cpu_s, contacts, memory, hops, queries)

    # --- machines

    async def _slot(self, slot: int) -> None:
        """One machine after another, or one that never goes away."""
        born, newborn = slot * OPENING_S / self._setting.nodes, False
        if not self._setting.churn:
            await trio.sleep_until(born)
            await self._start(self._new_name())
            return
        while True:
            name = self._new_name()
            rng = random.Random(f"{self._setting.seed} {name} life")
            for event in life(self._plan, rng, born, newborn=newborn):
                await trio.sleep_until(event.at)
                await self._change(name, event.change)
            born, newborn = trio.current_time() + rng.uniform(0.0, REPLACED_AFTER_S), True

    def _new_name(self) -> str:
        self._made += 1
        return f"machine-{self._made:04d}"

    async def _start(self, name: str) -> None:
        running = self._world.running()
        doors = [each.address for each in self._rng.sample(running, min(DOORS, len(running)))]
        await self._world.start(name, doors=doors, capacity_bytes=CAPACITY_BYTES)
        self._started[name] = trio.current_time()

    async def _change(self, name: str, change: Change) -> None:
        if change is Change.UP:
            await self._start(name)
            return
        machine = self._world.machines.get(name)
        if machine is None:
            return  # it died before its first day
        if machine.running:
            self._ended.update(self._own_counts(machine))
        if change is Change.DEATH:
            await self._world.retire(name)
        elif change is Change.POWER_CUT:
            await self._world.crash(name)
        else:
            await self._world.stop(name)

    # --- users

    async def _publish_all(self) -> None:
        setting = self._setting
        for first in range(0, setting.files, FILES_PER_CLIENT):
            self._clients += 1
            door = self._rng.choice(self._world.running()).name
            async with self._world.client(f"client-{self._clients:04d}", through=door) as client:
                for _ in range(first, min(setting.files, first + FILES_PER_CLIENT)):
                    data = self._rng.randbytes(setting.size_bytes)
                    await client.publish(_once(data), needed=setting.needed, total=setting.total, ttl_s=TTL_S)

    async def _look_up_often(self) -> tuple[float, float]:
        """Mean hops to the node nearest to a random target, and mean queries of such a lookup."""
        count = max(1, self._setting.lookups)
        found = [await self._look_up(self._rng.choice(self._world.running())) for _ in range(count)]
        return sum(hops for hops, _ in found) / count, sum(queries for _, queries in found) / count

    async def _look_up(self, origin: Machine) -> tuple[int, int]:
        """A lookup as the node itself does it, with somebody looking on."""
        target, dht = self._rng.randbytes(32), _dht(origin)
        seeds = heapq.nsmallest(K, dht.contacts(), key=lambda each: distance(each.node_id, target))
        hops: dict[NodeId, int] = {seed.node_id: 1 for seed in seeds}

        async def ask(contact: Contact, request: KnownRequest) -> Answer:
            answer = await dht.peers.ask(contact, request)
            assert isinstance(answer.reply, Nodes), "the reply of a node that was asked for nodes"
            for named in answer.reply.contacts:
                hops.setdefault(named.node_id, hops[contact.node_id] + 1)
            return answer

        lookup = Lookup(target, seeds, own_id=dht.identity.node_id, private=True)
        nearest = await NodeCrawl(lookup, ask, dht.peers.is_acceptable).run()
        return hops[nearest[0].node_id], lookup.query_count

    # --- counting

    def _counts(self) -> Counter[str]:
        """What all nodes have done and sent since the beginning."""
        datagrams, streams = self._world.datagrams.statistics(), self._world.streams.statistics()
        counts = self._ended.copy()
        for machine in self._world.running():
            counts.update(self._own_counts(machine))
        counts.update(
            datagrams=datagrams.sent,
            datagram_bytes=datagrams.sent_bytes,
            connections=streams.connections,
            stream_messages=streams.messages,
            stream_bytes=streams.sent_bytes,
        )
        return counts

    def _own_counts(self, machine: Machine) -> Counter[str]:
        """What one node has done since it started."""
        care: CareStatistics = machine.serving.care_statistics()
        return Counter(
            surveys=care.surveys,
            audits=care.audits_passed + care.audits_failed,
            audit_bytes=care.audit_bytes,
            repairs=care.repairs,
            up_s=round(trio.current_time() - self._started[machine.name]),
        )


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


def _dht(machine: Machine) -> DhtService:
    """A running node's part in the DHT."""
    assert machine.node is not None, "only a running machine has one"
    return machine.node.context.dht


def resident_bytes() -> int:
    """Of this process (Linux)."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES


def measure(setting: Setting) -> Measured:
    """Do one run, replayable from its seed but for CPU and memory."""
    with tempfile.TemporaryDirectory(prefix="shoal-growth-") as name:
        return run_world(setting.seed, Path(name), lambda world: Story(setting, world).run(), weather=Hazards().weather)


# --- both runs of one size


@dataclass(frozen=True, slots=True)
class Pair:
    """The runs of one size, without and with files."""

    idle: Measured
    full: Measured

    def per_node(self, name: str) -> float:
        """Of the run without files, per node and day."""
        return self.idle.counts[name] / self.idle.node_days

    def per_file(self, name: str) -> float:
        """What the files made of it, per file and day."""
        return (self.full.counts[name] - self.idle.counts[name]) / self._file_days

    def __str__(self) -> str:
        idle = f"{self.per_node('datagrams'):.0f} DHT messages per idle node and day"
        files = f"{self.per_file('datagrams'):.0f} and {self.per_file('stream_messages'):.0f} of streams"
        return f"{idle}, {files} per file and day"

    @property
    def _file_days(self) -> float:
        return self.full.setting.files * self.full.setting.days

    @property
    def idle_cpu_ms(self) -> float:
        """Per node and day."""
        return 1000 * self.idle.cpu_s / self.idle.node_days

    @property
    def file_cpu_ms(self) -> float:
        """Per file and day."""
        return 1000 * (self.full.cpu_s - self.idle.cpu_s) / self._file_days


Row = tuple[str, Callable[[Pair], float]]

ROWS: Sequence[Row] = (
    ("contacts of a node", lambda pair: pair.idle.contacts),
    ("hops of a lookup", lambda pair: pair.idle.hops),
    ("queries of a lookup", lambda pair: pair.idle.queries),
    ("idle node and day: DHT messages", lambda pair: pair.per_node("datagrams")),
    ("idle node and day: DHT bytes", lambda pair: pair.per_node("datagram_bytes")),
    ("idle node and day: stream messages", lambda pair: pair.per_node("stream_messages")),
    ("idle node and day: CPU ms", lambda pair: pair.idle_cpu_ms),
    ("idle node: memory KiB", lambda pair: pair.idle.memory_bytes / 1024),
    ("file and day: DHT messages", lambda pair: pair.per_file("datagrams")),
    ("file and day: DHT bytes", lambda pair: pair.per_file("datagram_bytes")),
    ("file and day: connections", lambda pair: pair.per_file("connections")),
    ("file and day: stream messages", lambda pair: pair.per_file("stream_messages")),
    ("file and day: stream bytes", lambda pair: pair.per_file("stream_bytes")),
    ("file and day: surveys", lambda pair: pair.per_file("surveys")),
    ("file and day: audits", lambda pair: pair.per_file("audits")),
    ("file and day: audit bytes", lambda pair: pair.per_file("audit_bytes")),
    ("file and day: repairs", lambda pair: pair.per_file("repairs")),
    ("file and day: CPU ms", lambda pair: pair.file_cpu_ms),
)


def table(pairs: Sequence[Pair]) -> list[str]:
    """A line per figure and a column per size; then the exponents: how each grows from one size to the next."""
    sizes = [pair.idle.setting.nodes for pair in pairs]
    lines = [_line("nodes", (f"{size}" for size in sizes))]
    lines += [_line(name, (_short(figure(pair)) for pair in pairs)) for name, figure in ROWS]
    if len(pairs) > 1:
        steps = [f"{one}-{other}" for one, other in pairwise(sizes)]
        lines += ["", "growth: x of figure ~ nodes^x (0 is none, 1 is in proportion)"]
        lines.append(_line("nodes", [*steps, "all"]))
        for name, figure in ROWS:
            values = [figure(pair) for pair in pairs]
            ends = [*pairwise(range(len(values))), (0, len(values) - 1)]
            lines.append(_line(name, (_exponent(sizes, values, *each) for each in ends)))
    return lines


def _line(name: str, cells: Iterable[str]) -> str:
    return f"{name:36}" + "".join(f"{cell:>10}" for cell in cells)


def _short(value: float) -> str:
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.0f}"


def _exponent(sizes: Sequence[int], values: Sequence[float], one: int, other: int) -> str:
    if min(values[one], values[other]) <= 0:
        return "-"
    return f"{math.log(values[other] / values[one]) / math.log(sizes[other] / sizes[one]):.2f}"


def measure_apart(setting: Setting) -> Measured:
    """`measure` in a process of its own, whose memory nothing else has used."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        return pool.submit(measure, setting).result()


def measure_pair(nodes: int, options: argparse.Namespace) -> Pair:
    """Both runs of one size, and a line about them."""
    idle = Setting(
        seed=options.seed,
        nodes=nodes,
        size_bytes=parse_size(options.size),
        needed=options.needed,
        total=options.total,
        warm_up=options.warm_up,
        days=options.days,
        churn=options.churn,
        lookups=options.lookups,
    )
    full = replace(idle, files=max(1, round(options.files_per_node * nodes)))
    started = time.perf_counter()
    pair = Pair(measure_apart(idle), measure_apart(full))
    print(f"{nodes} nodes, {full.files} files, {time.perf_counter() - started:.0f} s: {pair}", flush=True)
    return pair


def main() -> None:
    """Parse the options, do all runs, and print the table; of those that are done, when interrupted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, nargs="+", default=[50, 100, 200, 400, 800])
    parser.add_argument("--days", type=float, default=5.0, help="that are measured")
    parser.add_argument("--warm-up", type=float, default=1.0, help="days before that")
    parser.add_argument("--files-per-node", type=float, default=0.5)
    parser.add_argument("--size", default="64KiB", help="of a file")
    parser.add_argument("--needed", type=int, default=8)
    parser.add_argument("--total", type=int, default=24)
    parser.add_argument("--lookups", type=int, default=200)
    parser.add_argument("--churn", action="store_true", help="machines go away, come back and die")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    churn = "machines come and go" if options.churn else "nobody goes away"
    print(f"{options.needed} of {options.total}, {options.size}, {options.days:g} days, seed {options.seed}, {churn}")
    pairs: list[Pair] = []
    try:
        for nodes in options.nodes:
            pairs.append(measure_pair(nodes, options))
    except KeyboardInterrupt:
        print("stopped: the sizes that are done")
    if pairs:
        print(*table(pairs), sep="\n")


if __name__ == "__main__":
    main()
