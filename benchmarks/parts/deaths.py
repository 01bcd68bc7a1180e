"""Deaths without end: files whose machines die for good, one after another, and are replaced at once by empty ones.

`run_deaths` has whole nodes go through it, in virtual time. That is the real code, and dear: minutes for a network of
dozens. `Model` goes through the same with one file at a time and nothing but the rules of care: turns, looks, graces,
the limit of repair, pauses. It makes thousands of files cheap. benchmarks/durability.py runs both.
"""

import argparse
import heapq
import json
import math
import random
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path

import trio

from shoal.erasure import Manifest
from shoal.node.care.epochs import BACK_OFF_PARTS, MAX_RANK
from shoal.node.care.health import repair_at
from shoal.node.care.presence import GRACE_EPOCHS, SLACK_EPOCHS
from shoal.simulation.plan import DAY_S
from shoal.simulation.world import Machine, World, run_world

OPENING_S = 300.0
DOORS = 3
TTL_S = 90 * 86_400
LIFETIME_EPOCHS = 7.0  # of the statement of a holder that is dead: it ranks, and is asked, for so long
REPAIR_EPOCHS = 5 / 1440  # from a look to the new shares: turns by rank, and a short transfer
FOLLOW_UP_SPREAD = 0.5
FULL_EPOCHS = GRACE_EPOCHS - SLACK_EPOCHS


@dataclass(frozen=True, slots=True)
class Deaths:
    """One run of whole nodes. `per_100` machines die a day of each hundred; k and n are `needed` and `total`."""

    needed: int
    total: int
    per_100: float
    seed: int = 1
    files: int = 10
    days: float = 20.0
    size_bytes: int = 4_000
    spare_machines: float = 0.5

    @property
    def nodes(self) -> int:
        """Machines that run: those that keep a file's shares, and half as many more, at least four."""
        return self.total + max(4, round(self.spare_machines * self.total))


@dataclass
class Outcome:
    """What came of it. A share is counted in shares; `lost` files had fewer than k at some moment."""

    files: int
    days: float
    lost: int = 0
    moved_shares: float = 0.0

    @property
    def lost_part(self) -> float:
        """The part of the files that was lost."""
        return self.lost / self.files

    def moved_per_day(self, k: int) -> float:
        """What repairs fetched and sent per file and day, in parts of the file. Lost files count as if they lived."""
        return self.moved_shares / k / self.files / self.days


# --- whole nodes


class Story:
    """Publish, then let machines die until the end."""

    def __init__(self, plan: Deaths, world: World) -> None:
        self._plan = plan
        self._world = world
        self._rng = random.Random(f"{plan.seed} deaths")
        self._made = 0
        self._moved_bytes = 0

    async def run(self) -> Outcome:
        """The whole of it. The looks of the holders go on as they always do."""
        plan, world = self._plan, self._world
        for _ in range(plan.nodes):
            await self._start()
            await trio.sleep(OPENING_S / plan.nodes)
        await trio.sleep(OPENING_S)
        files = [await self._publish(number) for number in range(plan.files)]
        share_bytes = self._share_bytes(files[0])
        until = trio.current_time() + plan.days * DAY_S
        living = dict.fromkeys(files)
        while (pause := self._rng.expovariate(plan.per_100 / 100 * plan.nodes / DAY_S)) < until - trio.current_time():
            await trio.sleep(pause)
            victim = self._rng.choice(world.running())
            self._moved_bytes += victim.serving.care_statistics().repair_bytes
            await world.retire(victim.name)
            await self._start()
            for file_id in [each for each in living if self._shares(each) < plan.needed]:
                del living[file_id]
        await trio.sleep_until(until)
        moved = self._moved_bytes + sum(each.serving.care_statistics().repair_bytes for each in world.running())
        return Outcome(plan.files, plan.days, plan.files - len(living), moved / share_bytes)

    async def _start(self) -> Machine:
        running = self._world.running()
        doors = [each.address for each in self._rng.sample(running, min(DOORS, len(running)))]
        self._made += 1
        return await self._world.start(f"machine-{self._made:04d}", doors=doors)

    async def _publish(self, number: int) -> bytes:
        plan = self._plan
        async with self._world.client(f"client-{number}") as client:
            published = await client.publish(
                _once(self._rng.randbytes(plan.size_bytes)), needed=plan.needed, total=plan.total, ttl_s=TTL_S
            )
        return bytes(published.link.id)

    def _share_bytes(self, file_id: bytes) -> int:
        manifests = (machine.serving.store.manifest(file_id) for machine in self._world.running())
        return Manifest.decode(next(filter(None, manifests))).layout.share_bytes

    def _shares(self, file_id: bytes) -> int:
        stores = (machine.serving.store for machine in self._world.running())
        return len({each.share_number for store in stores for each in store.held(file_id)})


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


def run_deaths(plan: Deaths) -> Outcome:
    """Whole nodes; replayable from the seed."""
    with tempfile.TemporaryDirectory(prefix="shoal-deaths-") as name:
        return run_world(plan.seed, Path(name), lambda world: Story(plan, world).run())


# --- the model


@dataclass(frozen=True, slots=True)
class Rule:
    """How long a silent holder is waited for, and when the looker returns: in epochs, by k, n and what answers."""

    grace: Callable[[int, int, int], float]
    pause: Callable[[int, int, int], float]


FIXED = Rule(lambda k, n, answering: FULL_EPOCHS, lambda k, n, answering: math.inf)
"""The same patience with every file, as it once was."""


@dataclass(slots=True)
class _Holder:
    share: int
    died_at: float = math.inf
    noticed: dict[int, float] = field(default_factory=dict)  # whose absence it has seen, and when


class Model:
    """One file, by the rules of care alone. Times are in epochs of a day. All hosts are up, free and quick."""

    def __init__(self, k: int, n: int, deaths_per_day: float, rule: Rule, rng: random.Random) -> None:
        """`deaths_per_day`: of each holder."""
        self._k, self._n, self._rate, self._rule, self._rng = k, n, deaths_per_day, rule, rng
        self._holders: dict[int, _Holder] = {}
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._returns: dict[int, float] = {}
        self._serial = 0
        self.moved_shares = 0

    def run(self, days: float) -> bool:
        """Whether the file lives to the end."""
        for share in range(self._n):
            self._add(share, 0.0)
        self._at(self._rng.random(), self._begin_epoch)
        while self._events:
            now, _, act = heapq.heappop(self._events)
            if now >= days:
                return True
            act(now)
            if len({each.share for each in self._living().values()}) < self._k:
                return False
        return True

    def _at(self, when: float, act: Callable[[float], None]) -> None:
        self._serial += 1
        heapq.heappush(self._events, (when, self._serial, act))

    def _add(self, share: int, now: float) -> None:
        self._serial += 1
        name = self._serial
        self._holders[name] = _Holder(share)
        self._at(now + self._rng.expovariate(self._rate), lambda at: self._die(name, at))

    def _die(self, name: int, now: float) -> None:
        self._holders[name].died_at = now

    def _living(self) -> dict[int, _Holder]:
        return {name: each for name, each in self._holders.items() if each.died_at == math.inf}

    def _begin_epoch(self, now: float) -> None:
        self._at(now + 1, self._begin_epoch)
        self._holders = {name: each for name, each in self._holders.items() if now < each.died_at + LIFETIME_EPOCHS}
        order = self._rng.sample(list(self._holders), len(self._holders))
        self._take_turn(order[:MAX_RANK], now)

    def _take_turn(self, order: list[int], now: float) -> None:
        if not order:
            return
        first = self._holders.get(order[0])
        if first is not None and first.died_at == math.inf:
            self._look(order[0], now)
        else:
            self._at(now + 1 / BACK_OFF_PARTS, lambda at: self._take_turn(order[1:], at))

    def _return_to(self, name: int, when: float) -> None:
        self._returns[name] = when

        def come(now: float) -> None:
            looker = self._holders.get(name)
            if self._returns.get(name) == now and looker is not None and looker.died_at == math.inf:
                del self._returns[name]
                self._look(name, now)

        self._at(when, come)

    def _look(self, name: int, now: float) -> None:
        looker, living = self._holders[name], self._living()
        answering = {each.share for each in living.values()}
        grace = self._rule.grace(self._k, self._n, len(answering))
        waited_for: dict[int, float] = {}
        for absent, each in self._holders.items():
            if absent not in living:
                since = looker.noticed.setdefault(absent, now)
                if each.share not in answering and now < since + grace:
                    waited_for[each.share] = min(since + grace, waited_for.get(each.share, math.inf))
        missing = {*range(self._n)} - answering - waited_for.keys()
        if missing and self._n - len(missing) <= repair_at(self._k, self._n):
            self._at(now + REPAIR_EPOCHS, lambda at: self._repair(missing, at))
        elif waited_for:
            self._come_back(name, now, len(answering), waited_for)

    def _come_back(self, name: int, now: float, answering: int, waited_for: dict[int, float]) -> None:
        pause = self._rule.pause(self._k, self._n, answering)
        if pause < math.inf:
            shortest = self._rule.pause(self._k, self._n, self._k)
            pause = max(shortest, min(pause, *(ends - now for ends in waited_for.values())))
            self._return_to(name, now + pause * (1 + self._rng.random() / 2))
        else:
            self._return_to(name, max(waited_for.values()) + FOLLOW_UP_SPREAD * self._rng.random())

    def _repair(self, missing: set[int], now: float) -> None:
        """Make again what is missing still. Another holder may have done it meanwhile."""
        answering = {each.share for each in self._living().values()}
        made = missing - answering
        if made and len(answering) >= self._k:
            self.moved_shares += self._k + len(made)
            for share in sorted(made):
                self._add(share, now)


def run_model(k: int, n: int, per_100: float, rule: Rule, *, seed: int, files: int, days: float) -> Outcome:
    """Many files, each with machines of its own."""
    found = Outcome(files, days)
    for number in range(files):
        model = Model(k, n, per_100 / 100, rule, random.Random(f"{seed} {number} {k} {n} {per_100}"))
        found.lost += not model.run(days)
        found.moved_shares += model.moved_shares
    return found


def main() -> None:
    """One run of whole nodes, as JSON: under the interpreter, and so with the code, that it is started with."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    for each in fields(Deaths):
        needed = each.default is MISSING
        parser.add_argument(f"--{each.name.replace('_', '-')}", type=type_of(each.name), required=needed)
    options = {name: value for name, value in vars(parser.parse_args()).items() if value is not None}
    print(json.dumps(asdict(run_deaths(Deaths(**options)))))


def type_of(name: str) -> type:
    """Of a field of `Deaths`, for the command line."""
    return float if name in {"per_100", "days", "spare_machines"} else int


if __name__ == "__main__":
    main()
