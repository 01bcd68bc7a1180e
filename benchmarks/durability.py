"""What happens to files when 40 % of the nodes vanish at once and half of those come back two days later.

    python benchmarks/durability.py [--nodes 60] [--files 40] [--size 128KiB] [--needed 8 --total 24] [--seed 1]
    python benchmarks/durability.py --curve [--old OTHER_TREE/.venv/bin/python] [--seed 1]

Whole nodes run on virtual networks and disks, in virtual time, and look after files as they always do. Clients publish
the files and vanish. A day later the chosen nodes vanish in one moment. Two days later every second of them is back;
the others never return. Every few hours every file must have at least k good shares on nodes that are up. Some files
are read then, and all of them right after the loss and at the end.

What is measured of repair:

  lost for good    bytes of the shares on machines that never come back
  placed           bytes of the shares that nodes which had none of the file keep at the end: what repair has made
  in vain          those of them of which another copy lives: the original came back, or two repairers made the same
  traffic          share bytes that repairs fetched and sent, as the nodes count them themselves: the k shares read for
                   each repair, and the placed ones
  bar              traffic / lost for good < 2. The ratio of placed to lost for good is printed beside it

Exits with 1 if a file could not be read or the bar is missed.

The nodes that vanish lose power: connections are reset and what was not on disk is lost.

With --curve, machines die for good all the time instead, each replaced at once by an empty one, and none comes back.
How many files are lost, at which rate of deaths? A model fills the table, with the rules of care that the code has and
nothing else (parts/deaths.py). Whole nodes are run at some places of the table, by this tree and by that of --old.
"""

import argparse
import random
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path

import trio
from parts.curve import Size, print_curve

from shoal.cli.units import parse_size
from shoal.dht import Address
from shoal.erasure import Manifest
from shoal.node.errors import ShoalError
from shoal.node.node import Node
from shoal.simulation.acked import Acked, AckedFiles, digest_of
from shoal.simulation.checks import Key, StoreWatch, Violations, shares_of
from shoal.simulation.plan import DAY_S, HOUR_S, Hazards
from shoal.simulation.world import Machine, World, run_world

BAR = 2.0  # bytes fetched and sent by repairs for each byte lost for good
OPENING_S = 300.0  # in which the machines start, one after another
PUBLISH_FROM_S = 600.0
FILES_PER_CLIENT = 10
TTL_S = 90 * 86_400
DOORS = 3  # addresses that a machine which comes back starts from, besides whom it met before
READ_AT_ONCE = 3  # files, at each check

Copy = tuple[str, Key]
"""A share on a machine, by its name."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Disaster:
    """The scenario. Times are in epochs of care (`epoch_s`; a day), from the beginning.

    gone: share of the nodes that vanishes at `gone_at`.  back: share of those that returns at `back_at`.
    needed, total: the code, None for the network's own choice.
    """

    seed: int = 1
    nodes: int = 60
    files: int = 40
    size_bytes: int = 128 * 1024
    needed: int | None = None
    total: int | None = None
    gone: float = 0.4
    back: float = 0.5
    gone_at: float = 1.0
    back_at: float = 3.0
    end_at: float = 12.0
    epoch_s: float = DAY_S
    check_every_s: float = 4 * HOUR_S


@dataclass
class Findings:
    """What was found. Bytes and shares as the module says.

    codes: how many files have which k and n: the network may choose a narrower one for some.  least_spare: the fewest
    good shares more than k that any file had at any check.  final: good shares of each file at the end, and its n.
    failures: sentences, each about a file that could not be read, or was read wrong.
    datagrams to audit_bytes: from the loss to the end.
    """

    codes: Counter[tuple[int, int]] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    checks: int = 0
    reads: int = 0
    read_bytes: int = 0
    least_spare: int = 256
    lost_shares: int = 0
    lost_bytes: int = 0
    placed_shares: int = 0
    placed_bytes: int = 0
    vain_shares: int = 0
    repairs: int = 0
    traffic_bytes: int = 0
    final: list[tuple[int, int]] = field(default_factory=list)
    datagrams: int = 0
    datagram_bytes: int = 0
    stream_messages: int = 0
    stream_bytes: int = 0
    audit_bytes: int = 0
    up_node_days: float = 0.0

    @property
    def ratio(self) -> float:
        """Bytes placed for each byte lost for good."""
        return self.placed_bytes / max(1, self.lost_bytes)

    @property
    def traffic_ratio(self) -> float:
        """Bytes fetched and sent by repairs for each byte lost for good."""
        return self.traffic_bytes / max(1, self.lost_bytes)

    @property
    def good(self) -> bool:
        """Whether every file was readable all along, and the bar is met."""
        return not self.failures and self.traffic_ratio < BAR


class Story:
    """One disaster in one world. `run` tells it from beginning to end."""

    def __init__(self, disaster: Disaster, world: World, say: Say) -> None:
        self._plan = disaster
        self._world = world
        self._say = say
        self._rng = random.Random(f"{disaster.seed} durability")
        self._watch = StoreWatch(Violations())
        self._files = AckedFiles()
        self._findings = Findings()
        self._share_bytes: dict[bytes, int] = {}  # of each file
        self._before: set[Copy] = set()
        self._doomed: set[str] = set()
        self._clients = 0

    async def run(self) -> Findings:
        """Publish, lose, return, wait; look on all the way."""
        plan = self._plan
        for number in range(plan.nodes):
            await self._world.start(f"machine-{number:03d}")
            await trio.sleep(OPENING_S / plan.nodes)
        await trio.sleep_until(PUBLISH_FROM_S)
        await self._publish_all()
        self._say(f"{'day':>5} {'up':>4} {'least':>6} {'mean':>6} {'placed':>7}   good shares of a file, shares placed")
        await self._look_until(plan.gone_at)
        returning = await self._lose()
        start = self._traffic()
        await self._check(self._files)
        await self._look_until(plan.back_at)
        for name in returning:
            await self._world.start(name, doors=self._doors())
        await self._look_until(plan.end_at)
        self._note_traffic(start)
        await self._check(self._files)
        self._conclude()
        return self._findings

    # --- the scenario

    async def _publish_all(self) -> None:
        for first in range(0, self._plan.files, FILES_PER_CLIENT):
            async with self._client() as client:
                for _ in range(first, min(self._plan.files, first + FILES_PER_CLIENT)):
                    data = self._rng.randbytes(self._plan.size_bytes)
                    published = await client.publish(
                        _once(data), needed=self._plan.needed, total=self._plan.total, ttl_s=TTL_S
                    )
                    self._files.add(published.link, data, published.k, published.n)
        for file in self._files:
            self._findings.codes[file.k, file.n] += 1
            manifests = (machine.serving.store.manifest(file.file_id) for machine in self._world.running())
            self._share_bytes[file.file_id] = Manifest.decode(next(filter(None, manifests))).layout.share_bytes

    async def _lose(self) -> list[str]:
        """Let all chosen nodes vanish at once. Returns the names of those that will return."""
        self._before = self._copies(self._world.running())
        names = [machine.name for machine in self._world.running()]
        gone = self._rng.sample(names, round(self._plan.gone * len(names)))
        returning = gone[: round(self._plan.back * len(gone))]
        self._doomed = set(gone[len(returning) :])
        async with trio.open_nursery() as nursery:
            for name in gone:
                nursery.start_soon(self._world.crash if name in returning else self._world.retire, name)
        return returning

    def _doors(self) -> list[Address]:
        return [machine.address for machine in self._rng.sample(self._world.running(), DOORS)]

    def _client(self) -> AbstractAsyncContextManager[Node]:
        self._clients += 1
        door = self._rng.choice(self._world.running())
        return self._world.client(f"client-{self._clients:04d}", through=door.name)

    def _copies(self, machines: Iterable[Machine]) -> set[Copy]:
        return {(machine.name, key) for machine in machines for key in shares_of(machine.serving.store)}

    # --- looking

    async def _look_until(self, epoch: float) -> None:
        """Check everything now and then until an epoch begins."""
        until = epoch * self._plan.epoch_s
        while trio.current_time() < until:
            some = self._rng.sample(list(self._files), min(READ_AT_ONCE, len(self._files)))
            await self._check(some)
            await trio.sleep_until(min(until, trio.current_time() + self._plan.check_every_s))

    async def _check(self, to_read: Iterable[Acked]) -> None:
        """Count the good shares of every file, read some, and tell."""
        up = self._world.running()
        counts = [len(self._watch.good_shares(file, up)) for file in self._files]
        findings = self._findings
        findings.checks += 1
        for file, count in zip(self._files, counts, strict=True):
            findings.least_spare = min(findings.least_spare, count - file.k)
            if count < file.k:
                findings.failures.append(self._dated(file, f"{count} good shares are up, {file.k} are needed"))
        placed = len(self._copies(up) - self._before) if self._before else 0
        day, mean = trio.current_time() / DAY_S, sum(counts) / len(counts)
        self._say(f"{day:5.2f} {len(up):4} {min(counts):6} {mean:6.1f} {placed:7}")
        for file in to_read:
            await self._read(file)

    async def _read(self, file: Acked) -> None:
        self._findings.reads += 1
        try:
            async with self._client() as client, client.open_fetch(file.link) as stream:
                data = b"".join([chunk async for chunk in stream])
        except ShoalError as error:
            self._findings.failures.append(self._dated(file, f"cannot be read: {error}"))
            return
        self._findings.read_bytes += len(data)
        if digest_of(data) != file.digest:
            self._findings.failures.append(self._dated(file, "was read wrong"))

    def _dated(self, file: Acked, text: str) -> str:
        return f"day {trio.current_time() / DAY_S:.2f}: {file.link.hash[:24]}: {text}"

    # --- counting

    def _traffic(self) -> Counter[str]:
        datagrams, streams = self._world.datagrams.statistics(), self._world.streams.statistics()
        return Counter(
            datagrams=datagrams.sent,
            datagram_bytes=datagrams.sent_bytes,
            stream_messages=streams.messages,
            stream_bytes=streams.sent_bytes,
            audit_bytes=sum(each.serving.care_statistics().audit_bytes for each in self._world.running()),
        )

    def _note_traffic(self, start: Counter[str]) -> None:
        for name, count in self._traffic().items():
            setattr(self._findings, name, count - start[name])
        plan = self._plan
        staying = plan.nodes - round(plan.gone * plan.nodes)
        days = plan.epoch_s / DAY_S
        returned = len(self._world.running()) - staying
        up = staying * (plan.end_at - plan.gone_at) + returned * (plan.end_at - plan.back_at)
        self._findings.up_node_days = up * days

    def _conclude(self) -> None:
        findings, running = self._findings, self._world.running()
        now = self._copies(running)
        placed = now - self._before
        lost = [copy for copy in self._before if copy[0] in self._doomed]
        alive = Counter(key for _, key in now)
        findings.lost_shares, findings.lost_bytes = len(lost), self._bytes_of(lost)
        findings.placed_shares, findings.placed_bytes = len(placed), self._bytes_of(placed)
        findings.vain_shares = sum(alive[key] - 1 for key in {key for _, key in placed})
        for machine in running:
            care = machine.serving.care_statistics()
            findings.repairs += care.repairs
            findings.traffic_bytes += care.repair_bytes
        findings.final = [(len(self._watch.good_shares(file, running)), file.n) for file in self._files]

    def _bytes_of(self, copies: Iterable[Copy]) -> int:
        return sum(self._share_bytes[file_id] for _, (file_id, _) in copies)


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


def run_disaster(disaster: Disaster, say: Say = lambda text: None) -> Findings:
    """Tell one story, replayable from its seed."""
    with tempfile.TemporaryDirectory(prefix="shoal-durability-") as name:
        return run_world(
            disaster.seed,
            Path(name),
            lambda world: Story(disaster, world, say).run(),
            weather=Hazards().weather,
            epoch_s=disaster.epoch_s,
        )


def describe(disaster: Disaster, found: Findings) -> list[str]:
    """What was found, in lines."""
    codes = ", ".join(f"{count} as {k} of {n}" for (k, n), count in sorted(found.codes.items()))
    missing = [n - good for good, n in found.final]
    per_day = max(found.up_node_days, 1e-9)
    readable = "all, all along" if not found.failures else f"{len(found.failures)} FAILURES"
    return [
        f"files                  {disaster.size_bytes} bytes each, {codes}",
        f"readable               {readable}: {found.checks} checks of all shares, {found.reads} reads",
        f"fewest shares to spare {found.least_spare} good ones up, more than the k needed",
        f"lost for good          {found.lost_shares} shares, {found.lost_bytes} bytes",
        f"placed by repair       {found.placed_shares} shares, {found.placed_bytes} bytes, in {found.repairs} repairs",
        f"in vain                {found.vain_shares} shares of those",
        f"repair traffic         {found.traffic_bytes} bytes fetched and sent",
        f"placed / lost          {found.ratio:.2f}",
        f"traffic / lost         {found.traffic_ratio:.2f} (bar: below {BAR})",
        f"missing at the end     {max(missing)} shares of a file at most, {sum(missing) / len(missing):.1f} on average",
        f"DHT                    {found.datagrams / per_day:.0f} datagrams, {found.datagram_bytes / per_day:.0f} bytes "
        "per node and day, our reads included",
        f"streams                {found.stream_messages / per_day:.0f} messages, {found.stream_bytes / per_day:.0f} "
        f"bytes per node and day; in all {found.audit_bytes} bytes of audits, {found.read_bytes} of our reads",
        *found.failures,
    ]


def main() -> None:
    """Parse the options, tell the story, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=60)
    parser.add_argument("--files", type=int, default=40)
    parser.add_argument("--size", default="128KiB", help="of a file")
    parser.add_argument("--needed", type=int, help="k; the network's own choice by default, with n")
    parser.add_argument("--total", type=int, help="n")
    parser.add_argument("--days", type=float, default=12.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--curve", action="store_true", help="deaths without end instead of one disaster")
    parser.add_argument("--old", metavar="PYTHON", help="with --curve: an interpreter that has another tree installed")
    options = parser.parse_args()
    if options.curve:
        print_curve(Size(seed=options.seed), options.old, lambda text: print(text, flush=True))
        return
    disaster = Disaster(
        seed=options.seed,
        nodes=options.nodes,
        files=options.files,
        size_bytes=parse_size(options.size),
        needed=options.needed,
        total=options.total,
        end_at=options.days,
    )
    print(f"{disaster.nodes} nodes, {disaster.end_at:g} days, seed {disaster.seed}")
    started = time.process_time()
    found = run_disaster(disaster, lambda text: print(text, flush=True))
    print(*describe(disaster, found), sep="\n")
    print(f"{time.process_time() - started:.0f} CPU seconds")
    raise SystemExit(not found.good)


if __name__ == "__main__":
    main()
