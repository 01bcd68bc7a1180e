"""Which uploads give way where room or places run short. Pure.

An upload is idle when it sent nothing for `FIRST_BYTE_S`, or has sent below `MIN_UPLOAD_BYTES_PER_S` since. The rest
are moving. Room and places go first to what moves, then evenly to the sources that ask, then to what has most behind
it. So a source that sends bytes is never kept away by one that only promises them.
"""

from collections import Counter, deque
from collections.abc import Iterator, Mapping
from heapq import heapify, heappop
from itertools import islice
from typing import NamedTuple

from shoal.node.store.limits import (
    IPV4_HOST_BYTES,
    IPV4_PREFIX_BYTES,
    IPV6_HOST_BYTES,
    IPV6_PREFIX_BYTES,
    LOOK_AGAIN_S,
    MAX_FOUND,
    MIN_UPLOAD_BYTES_PER_S,
    MOST_AHEAD_S,
    OWN_SOURCE,
    SPARE_CANDIDATES,
    share_cost_bytes,
)
from shoal.values import dataclass


@dataclass(slots=True)
class Charge:
    """What one open upload counts for. order: age rank. bound: bytes offered, 0 when unknown.

    moves_until: when it becomes idle, unless more bytes come.
    """

    order: int
    source: bytes
    bound: int
    received: int
    moves_until: float

    @property
    def used(self) -> int:
        """Bytes it takes now, trees included."""
        return share_cost_bytes(self.received) if self.received else 0

    @property
    def rest(self) -> int:
        """Bytes it may still take by what was offered."""
        return max(0, share_cost_bytes(self.bound) - self.used) if self.bound else 0

    @property
    def promised(self) -> int:
        """Bytes set aside for it: this node keeps its word to itself, and needs none from strangers."""
        return self.rest if self.source == OWN_SOURCE else 0

    @property
    def hoped(self) -> int:
        """Bytes that it may well still send while it moves: no more than it sent already, for offers cost nothing."""
        return min(self.rest, self.used)

    def is_moving(self, now: float) -> bool:
        """Whether it sends at a useful rate. A clock that jumped, either way, makes it idle until it sends more."""
        return 0 < self.moves_until - now <= MOST_AHEAD_S

    def moved(self, count_bytes: int, now: float) -> None:
        """Note bytes that came: each is worth a part of a second."""
        start = self.moves_until if self.is_moving(now) else now
        self.moves_until = min(start + count_bytes / MIN_UPLOAD_BYTES_PER_S, now + MOST_AHEAD_S)


class Holdings:
    """What each source holds of something, and each group of sources: those that count as one.

    In a public network a group is a /24 or a /48. In a private one, where many nodes may share a prefix, each source
    stands alone, but for those in one /48 of the internet's: there anybody who has one has 65,536 sources.
    """

    def __init__(self, *, private: bool) -> None:
        self.private = private
        self.sources: Counter[bytes] = Counter()
        self.groups: Counter[bytes] = Counter()

    def group(self, source: bytes) -> bytes:
        """The group that a source belongs to."""
        if len(source) == IPV4_HOST_BYTES and not self.private:
            return source[:IPV4_PREFIX_BYTES]
        if len(source) == IPV6_HOST_BYTES and not (self.private and _is_in_own_range(source)):
            return source[:IPV6_PREFIX_BYTES]
        return source

    def add(self, source: bytes, amount: int) -> None:
        """Count so much for a source. Nothing is remembered of one that holds nothing."""
        for held, key in ((self.sources, source), (self.groups, self.group(source))):
            held[key] += amount
            if not held[key]:
                del held[key]

    def of_group(self, source: bytes) -> int:
        """What the group of a source holds."""
        return self.groups[self.group(source)]

    def compared(self, source: bytes, other: bytes) -> tuple[int, int]:
        """What two sources hold: by group, or by themselves where they are of one group."""
        if self.group(source) == self.group(other):
            return self.sources[source], self.sources[other]
        return self.of_group(source), self.of_group(other)

    def copy(self) -> "Holdings":
        """Holdings that change by themselves."""
        copied = Holdings(private=self.private)
        copied.sources.update(self.sources)
        copied.groups.update(self.groups)
        return copied


def _is_in_own_range(source: bytes) -> bool:
    """Whether a /64 is unique local, link-local or loopback: anybody may choose its first 48 bits."""
    is_unique_local = source[0] & 0xFE == 0xFC
    is_link_local = source[0] == 0xFE and source[1] & 0xC0 == 0x80
    return is_unique_local or is_link_local or not any(source)


@dataclass(frozen=True, slots=True)
class RoomClaim:
    """An upload that reached a limit, and so much that it needs.

    for_place: places in the table are short, not bytes.  in_group: those of its own group are.
    """

    upload_id: bytes
    source: bytes
    received: int
    needed: int
    for_place: bool = False
    in_group: bool = False

    def size(self, charge: Charge) -> int:
        """What is freed when this upload goes."""
        return 1 if self.for_place else charge.used


def giving_way(
    charges: Mapping[bytes, Charge], claim: RoomClaim, holdings: Holdings, now: float
) -> Iterator[tuple[bytes, int]]:
    """Ids of uploads that may be discarded for this claim, and what each frees, those with the least claim first.

    For bytes, idle uploads go before those that move, and then those of the group and the source that hold most. For a
    place, those of the source that holds most go first: a publisher on a slow line may be idle before its first byte,
    and a source that fills the table is not. Then those with the least behind them go first, then the idlest. Strangers
    make this run, for thousands of uploads: it sorts no more of them than are asked for.
    """
    standings = _Standings(claim, holdings)
    heap: list[tuple[int, int, int, int, float, int, bytes, Charge]] = []
    for upload_id, charge in charges.items():
        standing = standings[charge.source]
        if standing is not None and _gives_way(charge, claim, standing, now) and upload_id != claim.upload_id:
            behind = (charge.received, charge.moves_until, charge.order, upload_id, charge)
            moves, group, source = charge.is_moving(now), -standing.of_group, -standing.of_source
            heap.append((group, source, moves, *behind) if claim.for_place else (moves, group, source, *behind))
    heapify(heap)
    left = holdings.copy() if heap else holdings
    while heap:
        charge, upload_id = (popped := heappop(heap))[-1], popped[-2]
        standing = _Standing.of(charge.source, claim, left)
        if standing is not None and _gives_way(charge, claim, standing, now):  # still, after those before it
            left.add(charge.source, -claim.size(charge))
            yield upload_id, claim.size(charge)


class _Standing(NamedTuple):
    """How a source stands against that of a claim. theirs, ours: what the two are compared by."""

    is_same: bool
    theirs: int
    ours: int
    of_group: int
    of_source: int

    @classmethod
    def of(cls, source: bytes, claim: RoomClaim, holdings: Holdings) -> "_Standing | None":
        """The standing of a source; None where nothing of it gives way."""
        is_same_group = holdings.group(source) == holdings.group(claim.source)
        if source == OWN_SOURCE or (claim.in_group and not is_same_group):
            return None
        theirs, ours = holdings.compared(source, claim.source)
        return cls(source == claim.source, theirs, ours, holdings.of_group(source), holdings.sources[source])


class _Standings(dict[bytes, "_Standing | None"]):
    """The standing of each source, looked up once: thousands of uploads may be of one."""

    def __init__(self, claim: RoomClaim, holdings: Holdings) -> None:
        super().__init__()
        self._claim = claim
        self._holdings = holdings

    def __missing__(self, source: bytes) -> "_Standing | None":
        standing = self[source] = _Standing.of(source, self._claim, self._holdings)
        return standing


def _gives_way(charge: Charge, claim: RoomClaim, standing: _Standing, now: float) -> bool:
    """Whether an upload may be discarded for a claim.

    An upload that moves gives way where there is less behind it, or where its source would still hold as much as the
    claim's without it. An idle one gives way as well where there is no more behind it, where it is of the same source,
    or where its source holds more than the claim's. What is behind counts for bytes: an offer has nothing behind it.
    """
    if not (claim.for_place or charge.received):
        return False  # it takes no room
    if charge.received < claim.received:
        return True
    if not charge.is_moving(now):
        if not claim.for_place and charge.received == claim.received:
            return True
        return standing.is_same or standing.theirs > standing.ours or claim.source == OWN_SOURCE
    return not standing.is_same and standing.theirs - claim.size(charge) >= standing.ours + claim.needed


class PlaceFinder:
    """Finds uploads that give their place up. An offer costs a stranger little, so few offers look at all uploads.

    Those found in one look serve the offers after it, as long as they still give way. A source that was refused is
    refused for `LOOK_AGAIN_S` without a look.
    """

    def __init__(self, holdings: Holdings) -> None:
        self._holdings = holdings
        self._found: deque[tuple[bytes, int]] = deque()  # with the bytes received at that time
        self._refused: set[bytes] = set()  # sources
        self._refused_at = float("-inf")

    def find(self, charges: Mapping[bytes, Charge], claim: RoomClaim, now: float) -> list[tuple[bytes, int]]:
        """As `giving_way`; at most a few."""
        if not 0 <= now - self._refused_at < LOOK_AGAIN_S:
            self._refused.clear()
        if claim.source in self._refused:
            return []
        found = self._still_good(charges, claim, now)
        if not found:
            looked_at = islice(giving_way(charges, claim, self._holdings, now), MAX_FOUND)
            self._found = deque((upload_id, charges[upload_id].received) for upload_id, _ in looked_at)
            found = self._still_good(charges, claim, now)
        if not found:
            self._refused_at = now if not self._refused else self._refused_at
            self._refused.add(claim.source)
        return [(upload_id, 1) for upload_id in found]

    def _still_good(self, charges: Mapping[bytes, Charge], claim: RoomClaim, now: float) -> list[bytes]:
        def is_good(upload_id: bytes, received: int) -> bool:
            charge = charges.get(upload_id)
            if charge is None or charge.received != received:
                return False
            standing = _Standing.of(charge.source, claim, self._holdings)
            return standing is not None and _gives_way(charge, claim, standing, now)

        while self._found and not is_good(*self._found[0]):
            self._found.popleft()
        return [
            upload_id for upload_id, received in islice(self._found, SPARE_CANDIDATES) if is_good(upload_id, received)
        ]
