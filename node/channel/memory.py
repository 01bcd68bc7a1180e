"""Memory for payloads, shared among the places that peers come from. Pure: the caller gives the time.

A place may hold a part of what is free. So the first one to come never gets everything, and there is room for the next.
A connection that moves slower than `SLOW_BYTES_PER_S` is closed when others wait for what it holds. `memory_queue` does
the waiting.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import field

from shoal.node.channel.places import Origin, heaviest
from shoal.values import dataclass

MAX_MEMORY_BYTES = 32 * 2**20  # payloads in memory for all connections of a server together
FLOOR_BYTES = 2 * 2**20  # the largest single request: a place may hold it while there is room at all
SLOW_BYTES_PER_S = 2**20 / 20  # 1 MiB must move on within 20 s when others wait
SLOW_AGE_S = 1.0  # nobody is judged sooner: 0.3 s away, TCP has moved 98 KiB by then


@dataclass(eq=False, slots=True)
class MemoryHolder:
    """A connection that holds memory. `moved` tells the bytes that its peer has sent and taken so far."""

    origin: Origin
    moved: Callable[[], int]
    evict: Callable[[], None]
    held_bytes: int = 0
    done_bytes: int = 0  # held before, and given back
    is_evicted: bool = False
    grants: dict["Grant", None] = field(default_factory=dict)  # oldest first

    def bytes_per_s(self, now: float) -> float:
        """How fast the peer moves on, over the oldest grant that waits for it; endless before there is a judgement."""
        for grant in self.grants:
            if grant.since is not None:
                age_s = now - grant.since
                return (self.moved() - grant.moved_before) / age_s if age_s >= SLOW_AGE_S else float("inf")
        return float("inf")


@dataclass(eq=False, slots=True)
class Grant:
    """Some bytes of the budget. `since`: how long they wait for the peer; None while they wait for our own work."""

    bytes_count: int
    holder: MemoryHolder
    since: float | None
    moved_before: int

    def wait_for_us(self) -> None:
        """From now on the peer is not to blame for the time."""
        self.since = None

    def wait_for_peer(self, now: float) -> None:
        """From now on it is the peer's turn."""
        if self.bytes_count:
            self.since = now
            self.moved_before = self.holder.moved()


class MemoryBudget:
    """How many bytes of payloads a server holds for all its connections together.

    Nothing waits here. A request that finds no room may `squeeze`, and try again.
    """

    def __init__(self, limit_bytes: int = MAX_MEMORY_BYTES) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self._holders: dict[MemoryHolder, None] = {}
        self._held: Counter[tuple[int, bytes]] = Counter()  # by level and place

    def take(self, holder: MemoryHolder, count: int, now: float) -> Grant | None:
        """Take `count` bytes, or None when there is no room for them. Give them back with `release`."""
        if not count:
            return Grant(0, holder, None, 0)
        if self._narrow_level(holder.origin, count) is not None:
            return None
        grant = Grant(count, holder, now, holder.moved())
        holder.grants[grant] = None
        self._holders[holder] = None
        self._add(holder, count)
        return grant

    def release(self, grant: Grant) -> None:
        """Give a grant back. Once only."""
        if not grant.bytes_count:
            return
        holder = grant.holder
        holder.done_bytes += grant.bytes_count
        del holder.grants[grant]
        if not holder.grants:
            del self._holders[holder]
        self._add(holder, -grant.bytes_count)

    def claim(self, holder: MemoryHolder) -> tuple[int, int]:
        """By what those who wait are served, the least first: places that hold little, then peers that did much."""
        return self._held[0, holder.origin.places[0]], -holder.done_bytes

    def squeeze(self, holder: MemoryHolder, count: int, now: float, *, may_judge: bool) -> None:
        """Close a connection, if one has to give way to a request for `count` bytes that finds no room.

        It is the slowest of the place that holds most: of all, when all is used, else of the place that is at its
        bound. It has to be slow, or to come from a place that holds twice what the asking one would hold. `may_judge`
        is False while our own caps hold the bytes back: then nobody is slow.
        """
        level = self._narrow_level(holder.origin, count)
        if level is None:
            return
        crowd = heaviest(self._others(holder, level), _held_bytes, level)
        if not crowd:
            return
        slowest = min(crowd, key=lambda each: each.bytes_per_s(now))
        rate = slowest.bytes_per_s(now)
        is_slow = may_judge and rate < SLOW_BYTES_PER_S
        if is_slow or (level == 0 and rate < float("inf") and self._holds_twice(slowest, holder, count)):
            slowest.is_evicted = True
            slowest.evict()

    def _narrow_level(self, origin: Origin, count: int) -> int | None:
        """Where `count` more bytes do not fit: 0 in the whole, 1 in the widest place, and so on. None if they do."""
        free = self.limit_bytes - self.used_bytes
        if count > free:
            return 0
        for level, (place, bound) in enumerate(zip(origin.places, origin.bounds, strict=True)):
            if self._held[level, place] + count > max(FLOOR_BYTES, bound.memory_part * free):
                return level + 1
        return None

    def _others(self, holder: MemoryHolder, level: int) -> Iterable[MemoryHolder]:
        """The other holders, of the whole or of the place that is one level up."""
        for each in self._holders:
            is_near = level == 0 or each.origin.places[level - 1] == holder.origin.places[level - 1]
            if is_near and each is not holder and not each.is_evicted:
                yield each

    def _holds_twice(self, one: MemoryHolder, holder: MemoryHolder, count: int) -> bool:
        place, other_place = one.origin.places[0], holder.origin.places[0]
        return self._held[0, place] >= 2 * (self._held[0, other_place] + count)

    def _add(self, holder: MemoryHolder, count: int) -> None:
        holder.held_bytes += count
        self.used_bytes += count
        for key in enumerate(holder.origin.places):
            self._held[key] += count
            if not self._held[key]:
                del self._held[key]


def _held_bytes(holder: MemoryHolder) -> int:
    return holder.held_bytes
