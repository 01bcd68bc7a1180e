"""A study: whole nodes through months of virtual time, and the question whether anything is lost.

Files are published in the first hour by clients that then vanish for ever. Machines go away and come back, lose power,
die and are replaced. `plan` says how often there are partitions, rot, full disks, wrong clocks and liars. A passing
client renews the leases once a month; they end after 90 days at the latest. The holders do everything else.

At random times other clients read files, and the study looks into the stores. In the end the network heals, and every
machine that lives is up. After some days everything is read back. By then every file that was worth a repair has had
one. The same plan gives the same report, bit for bit.
"""

import random
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path

import trio

from shoal.dht import Address
from shoal.node.errors import NoPeers, ShoalError
from shoal.node.formats import MAX_LEASE_S
from shoal.node.node import Node
from shoal.simulation.acked import Acked, AckedFiles, digest_of
from shoal.simulation.aftermath import Aftermath, FileState
from shoal.simulation.calamities import Calamities
from shoal.simulation.care_counts import CareCounts
from shoal.simulation.checks import StoreWatch, Violations
from shoal.simulation.churn import Change, life
from shoal.simulation.datagrams import Weather
from shoal.simulation.liars import Liars
from shoal.simulation.nat import Nat, drawn
from shoal.simulation.plan import DAY_S, GRAIN_S, HOUR_S, LEAST_DAYS, StudyPlan
from shoal.simulation.report import Report, Sample
from shoal.simulation.world import Clock, Machine, OnStart, World, run_world

OPENING_S = 300.0  # in which the first machines start, one after another
PUBLISH_FROM_S, PUBLISH_UNTIL_S = 600.0, HOUR_S
FILES_PER_CLIENT = 10
DOORS = 3  # addresses that a machine starts from: people tell each other
REPLACED_AFTER_S = DAY_S  # at most, after a death
READ_EVERY_S = 6 * HOUR_S  # on average
LOOK_EVERY_S = 6 * HOUR_S  # on average, into all stores
SAMPLE_EVERY_S = DAY_S
RENEW_EVERY_S = 30 * DAY_S
ENOUGH_AFTER_S = 60.0  # after each sample
RETRY_READ_S = 1800.0  # a holder may go away in the middle of a read; twice in a row is another matter
# Settling takes longer than planned only with bad luck. Liars may be first in rank for an epoch or two. A holder that
# stalls may add its own grace to another's, for all that wait.
MOST_PATIENCE_DAYS = 5
CAPACITY_FACTORS = (3.0, 12.0)  # of the mean of what a machine has to keep
CAPACITY_BYTES = 4 * 2**20  # for everybody besides, since the database takes some

Say = Callable[[str], None]


class Study:
    """One study in one world. `run` does it all; when `enough` says so, not to its planned end.

    The class is long because a study is one story: its parts share the machines, the files and the report.
    """

    def __init__(self, plan: StudyPlan, world: World, say: Say, enough: Callable[[], bool] = lambda: False) -> None:
        self._plan = plan
        self._enough = enough
        self.world = world
        self._say = say
        self._rng = random.Random(f"{plan.seed} study")
        self._over = trio.Event()
        self._violations = Violations(say)
        self._liars = Liars(world, plan.hazards.liars, random.Random(f"{plan.seed} liars"))
        self.watch = StoreWatch(self._violations, self._liars)
        self._files = AckedFiles()
        self._calamities = Calamities(
            plan, world, random.Random(f"{plan.seed} calamities"), self.watch, self._sleep_until
        )
        self._care = CareCounts()
        self._machines_made = self._clients_made = 0
        self._first: set[str] = set()  # machines of the beginning, dead or alive
        self._absences: dict[str, int] = {}
        self._started: dict[str, float] = {}
        self._report = Report(plan)

    async def run(self) -> Report:
        """From the first machine to the last read."""
        async with trio.open_nursery() as nursery:
            for slot in range(self._plan.nodes):
                nursery.start_soon(self._slot, slot)
            nursery.start_soon(self._publish_all)
            for task in (self._read_now_and_then, self._look_now_and_then, self._sample_daily, self._renew_monthly):
                nursery.start_soon(task)
            if await self._sleep_until(HOUR_S):
                nursery.start_soon(self._calamities.run)
            await self._wait_for_end()
            self._over.set()
        await self.heal()
        await self._conclude()
        return self._report

    async def _wait_for_end(self) -> None:
        """The planned one, or the end of the day when `enough` says so. Then the report is that of a shorter study, and
        replays as such: it wakes at the same times.
        """
        look_at = HOUR_S + ENOUGH_AFTER_S
        while self._plan.end_s - trio.current_time() > 1.0:
            await trio.sleep_until(min(look_at, self._plan.end_s))
            if LEAST_DAYS * DAY_S <= look_at < self._plan.end_s and self._enough():
                self._say("Ending early: the network heals, and all files are read back.")
                self._plan = self._report.plan = replace(self._plan, days=look_at / DAY_S)
            look_at += SAMPLE_EVERY_S

    async def _sleep_until(self, when: float) -> bool:
        """Whether the study still goes on then."""
        with trio.move_on_at(when):
            await self._over.wait()
        return not self._over.is_set()

    async def _pause(self, mean_s: float) -> bool:
        return await self._sleep_until(trio.current_time() + self._rng.expovariate(1.0 / mean_s))

    # --- machines

    async def _slot(self, slot: int) -> None:
        """One machine after another: when one dies, a fresh one takes its place."""
        born, newborn = slot * OPENING_S / self._plan.nodes, False
        while born < self._plan.end_s:
            name = f"machine-{self._machines_made:04d}"
            self._machines_made += 1
            if not newborn:
                self._first.add(name)
            rng = random.Random(f"{self._plan.seed} {name} life")
            for event in life(self._plan, rng, born, newborn=newborn):
                if not await self._sleep_until(event.at):
                    return
                await self._change(name, event.change, rng)
            born, newborn = trio.current_time() + rng.uniform(0.0, REPLACED_AFTER_S), True

    async def _change(self, name: str, change: Change, rng: random.Random) -> None:
        if change is Change.UP:
            await self._start(name, rng)
            return
        machine = self.world.machines.get(name)
        if machine is None:
            return  # it died before its first day
        if machine.running:
            self._note_down(machine)
        if change is Change.DEATH:
            self._report.deaths += 1
            self._report.first_deaths += name in self._first
            self.watch.forget(name)
            await self.world.retire(name)
            self._liars.forget(name)
            return
        self._absences[name] += 1
        self._report.absences += 1
        if change is Change.POWER_CUT:
            self._report.power_cuts += 1
            await self.world.crash(name)
        else:
            await self.world.stop(name)
            machine.disk.before = None

    async def _start(self, name: str, rng: random.Random) -> None:
        if name not in self.world.machines:
            self._absences[name] = 0
            mean_bytes = self._plan.expansion * self._plan.files * self._plan.size_bytes / self._plan.nodes
            capacity = CAPACITY_BYTES + int(mean_bytes * rng.uniform(*CAPACITY_FACTORS))
            self.world.machine(name, capacity_bytes=capacity, clock=self._clock(rng), nat=self._router(name))
            self._liars.draw(name)
        self._started[name] = trio.current_time()
        self._liars.bend(await self.world.start(name, doors=self._doors(rng)))

    def _clock(self, rng: random.Random) -> Clock:
        hazards = self._plan.hazards
        wild = rng.random() < hazards.wild_clocks
        most_s = hazards.wild_clock_s if wild else hazards.clock_s
        return Clock(rng.uniform(-most_s, most_s), rng.uniform(-hazards.drift, hazards.drift))

    def _router(self, name: str) -> Nat | None:
        """What a new machine stands behind. The first ones can be called, or nobody could join."""
        if not self._plan.nat or len(self.world.machines) < DOORS:
            return None
        router = drawn(random.Random(f"{self._plan.seed} {name} router"), self._plan.nat)
        self._report.natted += router is not None
        return router

    def _doors(self, rng: random.Random) -> list[Address]:
        running = [machine for machine in self.world.running() if machine.host not in self.world.streams.nats]
        return [machine.address for machine in rng.sample(running, min(DOORS, len(running)))]

    def _note_down(self, machine: Machine) -> None:
        """Count what its node has done, before it is gone."""
        self.watch.look(machine)
        self._care.add(machine.serving.care_statistics())
        if machine.serving.relay is not None:
            relayed = machine.serving.relay.statistics()
            self._report.relayed += relayed.circuits_made
            self._report.relayed_bytes += relayed.passed_bytes
        self._report.up_node_days += (trio.current_time() - self._started[machine.name]) / DAY_S

    # --- users

    async def _publish_all(self) -> None:
        """Clients come, publish some files each, and vanish."""
        left = self._plan.files
        clients = -(-left // FILES_PER_CLIENT)
        for number in range(clients):
            at = PUBLISH_FROM_S + number * (PUBLISH_UNTIL_S - PUBLISH_FROM_S) / clients
            if not await self._sleep_until(at):
                return
            while not self.world.running():
                if not await self._sleep_until(trio.current_time() + RETRY_READ_S):
                    return
            count = min(left, FILES_PER_CLIENT)
            left -= count
            async with self._client() as client:
                for _ in range(count):
                    await self._publish(client)

    async def _publish(self, client: Node) -> None:
        data = self._rng.randbytes(self._plan.size_bytes)
        try:
            published = await client.publish(_once(data), needed=self._plan.k, total=self._plan.n, ttl_s=MAX_LEASE_S)
        except ShoalError as error:
            self._report.refused_publishes += 1
            self._say(f"a publish was refused: {error}")
            return
        self._files.add(published.link, data, published.k, published.n)

    def _client(self) -> AbstractAsyncContextManager[Node]:
        self._clients_made += 1
        return self.world.client(f"client-{self._clients_made:05d}", doors=self._doors(self._rng))

    async def _read_now_and_then(self) -> None:
        await self._sleep_until(HOUR_S)
        while await self._pause(READ_EVERY_S):
            if len(self._files) and self.world.running():
                await self._read(self._files.at(self._rng.randrange(len(self._files))))

    async def _read(self, file: Acked) -> None:
        """Read a file as any client would. It must succeed if k good shares are up and all else is well."""
        self._report.reads += 1
        for _ in range(2):
            possible = self._is_possible(file)
            failure = await self._fetch(file)
            if failure is None:
                return
            if not (possible and self._is_possible(file)):
                self._report.reads_waited += 1
                return
            if not await self._sleep_until(trio.current_time() + RETRY_READ_S):
                return
        self._violations.add(f"{file.link.hash[:24]} cannot be read although k good shares are up: {failure}")

    def _is_possible(self, file: Acked) -> bool:
        calm = not self._calamities.severed and trio.current_time() - self._calamities.healed_at > HOUR_S
        return calm and len(self.watch.good_shares(file, self.world.running())) >= file.k

    async def _fetch(self, file: Acked) -> ShoalError | None:
        """Read and compare; the error where that failed."""
        if not self.world.running():
            return NoPeers("No machine is up.")
        try:
            async with self._client() as client, client.open_fetch(file.link) as stream:
                data = b"".join([chunk async for chunk in stream])
        except ShoalError as error:
            return error
        if digest_of(data) != file.digest:
            self._report.wrong_bytes += max(len(data), 1)
            self._violations.add(f"{file.link.hash[:24]} was read wrong")
        return None

    async def _renew_monthly(self) -> None:
        """A passing client renews all files. Those it cannot reach have their turn a day later."""
        waiting: list[Acked] = []
        next_round = RENEW_EVERY_S
        while await self._sleep_until(min(next_round, trio.current_time() + DAY_S) if waiting else next_round):
            if trio.current_time() >= next_round:
                waiting, next_round = list(self._files), next_round + RENEW_EVERY_S
            waiting = await self._renew(waiting)

    async def _renew(self, files: list[Acked]) -> list[Acked]:
        if not self.world.running():
            return files
        failed = []
        async with self._client() as client:
            for file in files:
                try:
                    await client.renew(file.link, MAX_LEASE_S)
                    self._report.renewals += 1
                except ShoalError:
                    failed.append(file)
        return failed

    # --- looking

    async def _look_now_and_then(self) -> None:
        while await self._pause(LOOK_EVERY_S):
            for machine in self.world.running():
                self.watch.look(machine)

    async def _sample_daily(self) -> None:
        day = 0
        while await self._sleep_until(HOUR_S + day * SAMPLE_EVERY_S):
            up = self.world.running()
            good = self.watch.all_good_shares(up)
            counts = [len(good[file.file_id]) for file in self._files]
            sample = Sample(float(day), len(up), min(counts, default=0), sum(counts) / len(counts) if counts else 0.0)
            self._report.samples.append(sample)
            self._say(
                f"day {day}: {sample.up} machines up, good shares per file: {sample.least} or more, "
                f"{sample.mean:.1f} on average"
            )
            day += 1

    # --- the end

    async def heal(self) -> None:
        """Calm weather, every living machine up, and some days for the holders to put things right."""
        self.world.heal()
        self.world.datagrams.weather = Weather()
        rng = random.Random(f"{self._plan.seed} healing")
        for machine in list(self.world.machines.values()):
            machine.disk.before = None
            if not machine.running:
                await self._start(machine.name, rng)
        await self._settle()

    async def _settle(self) -> None:
        """Wait until nothing is left to repair: for the planned time at least, and MOST_PATIENCE_DAYS more at most."""
        await trio.sleep(self._plan.settle_s)
        for _ in range(MOST_PATIENCE_DAYS):
            if not self._neglected():
                break
            await trio.sleep(DAY_S)
        self._report.all_repaired = not self._neglected()
        self._report.healing_days = trio.current_time() / DAY_S - self._plan.days

    def _neglected(self) -> dict[bytes, FileState]:
        """The files, by id, that should have been repaired. A study of hours is over before any grace has ended."""
        if self._plan.days < 1:
            return {}
        aftermath = Aftermath(self.world.running(), self._liars)
        states = {file.file_id: aftermath.state(file) for file in self._files}
        return {file_id: state for file_id, state in states.items() if state.is_neglected}

    async def _conclude(self) -> None:
        """Read everything back, check that repair has done its part, and fill in the report."""
        report = self._report
        neglected = self._neglected()
        for file in self._files:
            failure = await self._fetch(file)
            if failure is not None:
                report.lost_files += 1
                self._violations.add(f"{file.link.hash[:24]} is lost: {failure}")
            elif (state := neglected.get(file.file_id)) is not None:
                good = len(self.watch.good_shares(file, self.world.running()))
                self._violations.add(f"{file.link.hash[:24]}: {state.words(good)}, and nobody repaired it")
        for machine in self.world.running():
            self._note_down(machine)
        self._fill_in()

    def _fill_in(self) -> None:
        good = self.watch.all_good_shares(self.world.running())
        self._report.healed_shares = min((len(good[file.file_id]) for file in self._files), default=0)
        report, datagrams, streams = self._report, self.world.datagrams.statistics(), self.world.streams.statistics()
        report.published = len(self._files)
        if len(self._files):
            report.k, report.n = self._files.at(0).k, self._files.at(0).n
        self._care.fill_in(report)
        report.datagrams, report.datagram_bytes = datagrams.sent, datagrams.sent_bytes
        report.stream_messages, report.stream_bytes = streams.messages, streams.sent_bytes
        report.connections, report.punched = streams.connections, streams.punched
        counts = self._calamities.counts
        report.partitions, report.flipped_bits = counts.partitions, counts.flipped_bits
        report.full_disks = counts.full_disks
        report.liars = self._liars.count
        report.first_machines = len(self._first & self._absences.keys())
        alive = [self._absences[name] for name in self.world.machines if name in self._first]
        report.least_absences = min(alive, default=0)
        report.least_shares = min((sample.least for sample in report.samples), default=0)
        report.violation_count, report.violations = self._violations.count, self._violations.texts


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


def run_study(
    plan: StudyPlan,
    say: Say = lambda text: None,
    folder: Path | None = None,
    enough: Callable[[], bool] = lambda: False,
    on_start: OnStart = lambda stop: None,
) -> Report:
    """Do a study, with its homes below `folder` or in a temporary one. `say` hears how it goes; `enough` is asked every
    simulated day whether to end it early; `on_start` is given a function that ends it at once (see `run_world`).
    """
    started = time.process_time()
    with tempfile.TemporaryDirectory(prefix="shoal-study-", dir=folder) as name:
        report = run_world(
            plan.seed,
            Path(name),
            lambda world: Study(plan, world, say, enough).run(),
            weather=plan.hazards.weather,
            grain_s=GRAIN_S,
            on_start=on_start,
        )
    report.cpu_s = time.process_time() - started
    return report
