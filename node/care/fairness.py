"""Fair shares for those who bring files: what one stranger brings holds up the files of nobody else.

A *group* is what counts as one uploader: a /24 or a /48, in a private network a host (`ShareStore.source_groups`).
"""

import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import field
from typing import Any, TypeVar

import trio

from shoal.values import dataclass

OWED_EVERY_S = 60.0  # so often it is looked whether a place that was had for long is owed to others
MOST_PER_FREE = 3  # places of one group for each free one: alone it gets three quarters of them

T = TypeVar("T")


def in_turn(items: Iterable[T], group: Callable[[T], bytes], order: Callable[[T], Any] = lambda item: 0) -> list[T]:
    """The first item of each group, then the second of each, and so on. Within all that, the least in order first."""
    counts: Counter[bytes] = Counter()
    ranked: list[tuple[int, T]] = []
    for item in sorted(items, key=order):
        ranked.append((counts[group(item)], item))
        counts[group(item)] += 1
    return [item for _, item in sorted(ranked, key=lambda each: each[0])]


@dataclass(eq=False, slots=True)
class _Waiting:
    group: bytes
    has_place: trio.Event = field(default_factory=trio.Event)


class FairPlaces:
    """A few places. However many a group asks for, it gets at most three for each one that it leaves free.

    So one group gets 48 of 64 places, or 3 of 4, the next one three quarters of the rest. Where all are taken, those
    that have many get no place that is given back: it is for those that have few.
    """

    def __init__(self, count: int) -> None:
        self._free = count
        self._held: Counter[bytes] = Counter()
        self._waiting: list[_Waiting] = []

    def held(self, group: bytes) -> int:
        """How many places a group has."""
        return self._held[group]

    def has_place(self, group: bytes) -> bool:
        """Whether a group would get one now."""
        return self._held[group] < MOST_PER_FREE * self._free

    def take(self, group: bytes) -> bool:
        """Take a place, if there is one. `give_back` has to follow."""
        if not self.has_place(group):
            return False
        self._free -= 1
        self._held[group] += 1
        return True

    async def wait(self, group: bytes, until: float) -> bool:
        """Take a place, now or by then (monotonic). Of those that wait, the group that has least comes first."""
        if self.take(group):
            return True
        waiting, is_ours = _Waiting(group), False
        self._waiting.append(waiting)
        try:
            with trio.move_on_at(until):
                await waiting.has_place.wait()
            is_ours = waiting.has_place.is_set()
        finally:
            if not waiting.has_place.is_set():
                self._waiting.remove(waiting)
            elif not is_ours:  # cancelled in the moment in which it got one
                self.give_back(group)
        return is_ours

    async def owed(self, group: bytes, after_s: float, rng: random.Random) -> None:
        """Return when the group is to give a place back that it has had for so long: it has another one, and a group
        that has none waits. The places of one group are looked at one after the other, so that one of them is enough.
        """
        pause_s = after_s
        while True:
            await trio.sleep(pause_s)
            if self._held[group] > 1 and any(not self._held[each.group] for each in self._waiting):
                return
            pause_s = OWED_EVERY_S * rng.uniform(0.5, 1.0)

    def give_back(self, group: bytes) -> None:
        """A place is free again, and goes to one of those that wait."""
        self._free += 1
        self._held[group] -= 1
        if not self._held[group]:
            del self._held[group]
        while able := [each for each in self._waiting if self.has_place(each.group)]:
            chosen = min(able, key=lambda each: self._held[each.group])
            self._waiting.remove(chosen)
            self.take(chosen.group)
            chosen.has_place.set()


class Ration:
    """How often something is done for each group: `most` times in `within_s`, and as often at once after a rest."""

    def __init__(self, most: int, within_s: float) -> None:
        self._most = most
        self._per_s = most / within_s
        self._spent: dict[bytes, tuple[float, float]] = {}  # how much was spent by when; no group that has all again

    def __len__(self) -> int:
        return len(self._spent)

    def is_left(self, group: bytes, now: float) -> bool:
        """Whether it may be done once more."""
        return self._spent_by(group, now) <= self._most - 1

    def spend(self, group: bytes, now: float) -> None:
        """It is done once."""
        for other in [each for each in self._spent if not self._spent_by(each, now)]:
            del self._spent[other]
        self._spent[group] = (self._spent_by(group, now) + 1, now)

    def _spent_by(self, group: bytes, now: float) -> float:
        spent, at = self._spent.get(group, (0.0, now))
        return max(0.0, spent - (now - at) * self._per_s)
