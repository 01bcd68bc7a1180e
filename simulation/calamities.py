"""What the world does to a study's machines besides their own coming and going: partitions, rot, full disks."""

import errno
import random
from collections.abc import Awaitable, Callable
from pathlib import Path

import trio

from shoal.node.store.shareformat import folder_path, share_name
from shoal.node.store.store import DATABASE_NAME
from shoal.simulation.checks import StoreWatch
from shoal.simulation.plan import DAY_S, HOUR_S, YEAR_DAYS, StudyPlan
from shoal.simulation.world import Machine, World
from shoal.values import dataclass

MOST_CUT_OFF = 0.5  # of the machines
LONGEST_FULL_S = DAY_S
WRITES = ("create", "write", "commit")

SleepUntil = Callable[[float], Awaitable[bool]]
"""Sleep until a time; whether the study still goes on then."""


@dataclass
class CalamityCounts:
    """What has happened."""

    partitions: int = 0
    flipped_bits: int = 0
    full_disks: int = 0


class Calamities:
    """Runs until `sleep_until` says that it is over. `severed` tells whether a partition is on."""

    def __init__(
        self, plan: StudyPlan, world: World, rng: random.Random, watch: StoreWatch, sleep_until: SleepUntil
    ) -> None:
        self._plan = plan
        self._hazards = plan.hazards
        self._world = world
        self._rng = rng
        self._watch = watch
        self._sleep_until = sleep_until
        self.counts = CalamityCounts()
        self.healed_at = 0.0
        self.severed = False

    async def run(self) -> None:
        """All of them, side by side."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._sever)
            nursery.start_soon(self._every, self._hazards.bit_flips, self._flip_bit)
            nursery.start_soon(self._every, self._hazards.full_disks, self._fill_disk, nursery)

    async def _every(self, per_machine_year: float, act: Callable[..., None], *args: object) -> None:
        """Do something to a random machine, so often on average."""
        rate = per_machine_year * self._plan.nodes / (YEAR_DAYS * DAY_S)
        while rate > 0 and await self._sleep_until(trio.current_time() + self._rng.expovariate(rate)):
            running = self._world.running()
            if running:
                act(self._rng.choice(running), *args)

    # --- partitions

    async def _sever(self) -> None:
        mean_s = self._hazards.severed_days * DAY_S
        while mean_s > 0 and await self._sleep_until(trio.current_time() + self._rng.expovariate(1.0 / mean_s)):
            hosts = [machine.host for machine in self._world.machines.values()]
            cut_off = set(self._rng.sample(hosts, int(len(hosts) * self._rng.uniform(0.05, MOST_CUT_OFF))))
            one_way = self._rng.random() < 0.5

            def separated(one: str, other: str, cut_off: set[str] = cut_off, one_way: bool = one_way) -> bool:
                if one in cut_off:
                    return other not in cut_off
                return other in cut_off and not one_way

            self._world.separate(separated)
            self.severed = True
            self.counts.partitions += 1
            await self._sleep_until(trio.current_time() + self._rng.uniform(0.1, self._hazards.severed_hours) * HOUR_S)
            self._world.heal()
            self.severed = False
            self.healed_at = trio.current_time()

    # --- disks

    def _flip_bit(self, machine: Machine) -> None:
        """Let one bit rot in one of its shares, wherever that lies."""
        root = machine.home.store_folder
        database = machine.disk.open_database(root / DATABASE_NAME)
        rows = database.execute(
            "SELECT file_id, share_number, share_bytes, folder, data FROM shares WHERE state = 0 "
            "AND share_bytes > 0 ORDER BY file_id, share_number"
        ).fetchall()
        if not rows:
            return
        file_id, number, share_bytes, folder, data = self._rng.choice(rows)
        bit = self._rng.randrange(8 * share_bytes)
        if data is not None:
            changed = bytearray(data)
            changed[bit // 8] ^= 1 << (bit % 8)
            place = "file_id = ? AND share_number = ?"
            database.execute(f"UPDATE shares SET data = ? WHERE {place}", (bytes(changed), file_id, number))
        else:
            machine.disk.flip_bit(folder_path(root, folder) / share_name(file_id, number), bit)
        self._watch.rotten.add((machine.name, (file_id, number)))
        self.counts.flipped_bits += 1

    def _fill_disk(self, machine: Machine, nursery: trio.Nursery) -> None:
        """Nothing can be written for some hours, or until the machine restarts."""

        def refuse(operation: str, path: Path) -> None:
            if operation in WRITES:
                raise OSError(errno.ENOSPC, "No space left on device", str(path))

        async def end() -> None:
            await self._sleep_until(trio.current_time() + self._rng.uniform(0.0, LONGEST_FULL_S))
            if machine.disk.before is refuse:
                machine.disk.before = None

        machine.disk.before = refuse
        self.counts.full_disks += 1
        nursery.start_soon(end)
