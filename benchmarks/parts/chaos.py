"""The faults of benchmarks/hard_use.py: what happens to its machines, when, and how it heals."""

import random
import time
from collections.abc import Awaitable, Callable

import trio
from parts.machines import Machine, clock_library
from parts.stage import Stage

MARGIN = 1  # shares beyond k that no fault takes away
UP_LIMIT_S = 120.0  # until a daemon answers
GENTLE_S, MOVED_S = 60.0, 180.0  # until a machine that was restarted or asleep, or one that moved, is relied upon
MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
CLOCKS = (5 * MINUTE, -5 * MINUTE, 5 * HOUR, -5 * HOUR, 3 * DAY, -3 * DAY, 100 * DAY, 365 * DAY, -365 * DAY)


class Chaos:
    """Faults by chance. Each heals when its time is over, or the run is."""

    def __init__(self, stage: Stage) -> None:
        self.stage, self.park, self.rng = stage, stage.park, random.Random(stage.rng.random())
        self.put_off = 0
        self.acts: dict[str, Callable[[Machine], Awaitable[None]]] = {
            "kill": self._kill,
            "death": self._death,
            "sleep": self._sleep,
            "move": self._move,
        }
        self._can_fill = any(machine.has_disk for machine in self.park.machines)
        if self._can_fill:
            self.acts["full"] = self._fill
        if clock_library():
            self.acts["clock"] = self._clock

    async def run(self) -> None:
        """Until the run is over; all is healed when it returns."""
        async with trio.open_nursery() as nursery:
            while not self.stage.over.is_set():
                act = self.rng.choice(list(self.acts))
                machine = self.rng.choice(self.park.machines)
                if self._may(act, machine):
                    machine.trouble, machine.steady_from = act, time.monotonic()
                    nursery.start_soon(self._do, act, machine)
                else:
                    self.put_off += 1
                await self.stage.pause(self.rng.uniform(1, 7))

    def _may(self, act: str, machine: Machine) -> bool:
        """Whether every file bears it."""
        now, others = time.monotonic(), [each for each in self.park.machines if each is not machine]
        if machine.trouble or machine.steady_from > now:
            return False
        if (act == "full" and not machine.has_disk) or (act == "move" and machine.daemon.number < 4):
            return False
        if act == "clock" and any(each.trouble == "clock" for each in others):
            return False
        if act == "full":
            return True
        well = [each for each in others if each.is_up and each.trouble in ("", "full")]
        if len(well) * 3 < len(self.park.machines) * 2:
            return False
        return all(self.park.distinct(file.file_id, well) >= file.k + MARGIN for file in self.stage.files)

    async def _do(self, act: str, machine: Machine) -> None:
        self.stage.ledger.counts[f"fault: {act}"] += 1
        self.stage.ledger.say(f"{act} {machine.name}")
        await self.acts[act](machine)

    async def _up(self, machine: Machine, settle_s: float) -> None:
        try:
            await machine.daemon.wait_up(machine.start(), UP_LIMIT_S)
        except AssertionError as error:  # the warden starts one that ended once more
            self.park.ended.append(str(error))
        self._well(machine, settle_s)

    def _well(self, machine: Machine, settle_s: float) -> None:
        machine.trouble, machine.steady_from = "", time.monotonic() + settle_s

    async def _kill(self, machine: Machine) -> None:
        machine.kill()
        await self.stage.pause(self.rng.uniform(0, 40))
        await self._up(machine, GENTLE_S)

    async def _death(self, machine: Machine) -> None:
        new = self.park.replace(machine)
        new.trouble = "death"
        await self.stage.pause(self.rng.uniform(0, 20))
        await self._up(new, GENTLE_S)

    async def _sleep(self, machine: Machine) -> None:
        machine.pause()
        await self.stage.pause(self.rng.uniform(5, 60))
        machine.wake()
        self._well(machine, GENTLE_S)

    async def _move(self, machine: Machine) -> None:
        if (code := machine.stop()) != 130:
            self.park.ended.append(f"{machine.name} ended with {code} after SIGTERM")
        machine.daemon.address = self.park.new_address()
        await self.stage.pause(self.rng.uniform(0, 10))
        await self._up(machine, MOVED_S)

    async def _fill(self, machine: Machine) -> None:
        machine.fill()
        machine.full_since = time.monotonic()
        await self.stage.pause(self.rng.uniform(20, 90))
        machine.free()
        machine.full_since = None
        self._well(machine, 0.0)

    async def _clock(self, machine: Machine) -> None:
        ahead_s = self.rng.choice(CLOCKS)
        self.stage.ledger.say(f"{machine.name} has its clock moved by {ahead_s:+.0f} s")
        machine.set_clock(ahead_s)
        await self.stage.pause(self.rng.uniform(10, 180))
        machine.set_clock(0.0)
        self._well(machine, MOVED_S)
