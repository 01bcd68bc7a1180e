"""The records that one node keeps for others: a bounded table, no I/O, no clock of its own.

Keys are free to choose, and so are ids where a network asks for no proof of work. So no rule looks at the key:

* Under one key at most 64 records stay, and few of one prefix. Those renewed longest without a gap stay.
* One signer, one host and one prefix may hold a stated part of the table each, in records and in bytes (`StoreLimits`).
* A record that was renewed for `STEADY_S` without a gap is *steady*. It never makes room for another.
* When a group is full, its signer with the most records that are not steady gives up the youngest of these. When the
  whole table is full, the widest group that holds most gives one up in the same way. A newcomer that would itself be
  that one is refused.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import partial

from shoal.dht.address import Address
from shoal.dht.messages import StoreStatus
from shoal.dht.records import MAX_LIFETIME_S, MAX_RECORDS_PER_KEY, Record, RecordKey, RecordKind
from shoal.values import dataclass

GAP_S = 40 * 3600.0  # a renewal (every 30 h, with jitter) is late: the place may go to somebody else
STEADY_S = 12 * 3600.0  # between the first store and a renewal: an honest one comes after 15 h at the soonest
# What a record costs in memory beside its bytes, at most: the decoded fields, its address, and a group of its own at
# each level. Measured over 20,000 records (CPython 3.11): 2,837 (`benchmarks/record_memory.py`).
OVERHEAD_BYTES = 2_800
REMEMBERED_S = 600.0  # of a record that expired, its sequence: as long as a captured request has a good cookie
MAX_REMEMBERED = 4_096
assert GAP_S < MAX_LIFETIME_S, "a gap must show before the record is gone anyway"


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """Ceilings of a RecordStore; the defaults are those of a public node.

    records, bytes: in total. Bytes are those in memory (`OVERHEAD_BYTES` a record included), so a table that strangers
    have filled adds 64 MiB to a node.
    per_key: of one key.    per_prefix, per_wide_prefix: under one key, of a /24 (/48) and a /16 (/32).
    signer, host, prefix, wide: the part of the table that one id, one place of a private network (`Address.place`), one
    /24 (/48), one /16 (/32) may hold; None for no limit of its own.
    """

    records: int = 50_000
    bytes: int = 64 * 2**20
    per_key: int = MAX_RECORDS_PER_KEY
    per_prefix: int | None = 2
    per_wide_prefix: int | None = 4
    signer: float | None = 1 / 10
    host: float | None = None  # its prefix is limited
    prefix: float | None = 1 / 8
    wide: float | None = 1 / 4

    @classmethod
    def private(cls) -> "StoreLimits":
        """The limits of a private network, whose nodes may all stand behind one prefix, or on one host."""
        return cls(per_prefix=None, per_wide_prefix=None, signer=1 / 8, host=1 / 2, prefix=None, wide=None)


_Slot = tuple[int, RecordKey]  # (record kind, key)
_Group = tuple[str, bytes]  # level and name


@dataclass(slots=True)
class _Entry:
    record: Record
    source: Address  # where it came from
    since: float  # first kept without a gap, monotonic seconds
    renewed: float
    deadline: float

    @property
    def steady(self) -> bool:
        return self.renewed - self.since >= STEADY_S

    @property
    def cost(self) -> int:
        """Bytes in memory."""
        return len(self.record.encoded) + OVERHEAD_BYTES


_Removed = list[tuple[_Slot, _Entry]]
"""What made room for an entry, to be put back if the entry stays out after all."""


class _Crowd:
    """What the members of one group hold together."""

    __slots__ = ("cost", "count", "loose", "loose_count")

    def __init__(self) -> None:
        self.count = 0
        self.cost = 0
        self.loose: dict[bytes, int] = {}  # records that are not steady, by signer
        self.loose_count = 0

    def note(self, signer: bytes, entry: _Entry, sign: int) -> None:
        """An entry came (`sign` 1) or went (-1)."""
        self.count += sign
        self.cost += sign * entry.cost
        if not entry.steady:
            self.loose_count += sign
            self.loose[signer] = self.loose.get(signer, 0) + sign
            if not self.loose[signer]:
                del self.loose[signer]


class RecordStore:
    """Records by (kind, key) and signer. All times are monotonic seconds given by the caller.

    The caller has checked authenticity and, for provider records, that the signer is the sender. Limits count the
    address a record came from: it may name relays alone, and these are not its signer's.
    """

    def __init__(self, limits: StoreLimits | None = None) -> None:
        self._limits = limits = limits or StoreLimits()
        named = ("signer", "host", "prefix", "wide")
        self._parts = {level: getattr(limits, level) for level in named if getattr(limits, level) is not None}
        self._slots: dict[_Slot, dict[bytes, _Entry]] = {}
        self._crowds: dict[_Group, _Crowd] = {}
        self._widest = "wide" if limits.wide is not None else "host"  # what the whole table is shared between
        self._levels = [level for level in named if level in self._parts or level == self._widest]
        self._crowds_at_widest: dict[_Group, _Crowd] = {}
        self._loose: dict[bytes, dict[_Slot, None]] = {}  # by signer, what is not steady; the youngest last
        self._remembered: OrderedDict[tuple[_Slot, bytes], tuple[int, float]] = OrderedDict()
        self._records = 0
        self._bytes = 0
        self._earliest = math.inf  # no record held expires before

    def __len__(self) -> int:
        return self._records

    @property
    def stored_bytes(self) -> int:
        """Bytes of memory that the records held take."""
        return self._bytes

    def put(self, record: Record, now: float, source: Address | None = None) -> StoreStatus:
        """Keep `record` if the rules allow: STORED (also when it was there already), or why not.

        source: where it came from; None for this node's own, which counts where others reach it.
        """
        if record.kind != RecordKind.PROVIDER:
            return StoreStatus.NOT_SERVED
        slot = (record.kind, record.key)
        new = _Entry(record, source or record.reach.where, now, now, now + record.lifetime_s)
        self._expire_slot(slot, now)
        held = self._slots.get(slot, {}).get(record.node_id)
        if held is not None:
            return self._renew(slot, held, new, now)
        if self._has_expired_here(slot, record, now):
            return StoreStatus.STALE
        return self._admit(slot, new, now)

    def get(self, kind: int, key: RecordKey, now: float) -> list[Record]:
        """The live records under (kind, key), those renewed longest first."""
        entries = self._slots.get((kind, key), {}).values()
        alive = [entry for entry in entries if entry.deadline > now]
        return [entry.record for entry in sorted(alive, key=lambda entry: entry.since)]

    def expire(self, now: float) -> int:
        """Forget what is past its deadline; returns how many records went."""
        if now < self._earliest:
            return 0
        before = self._records
        for slot in list(self._slots):
            self._expire_slot(slot, now)
        deadlines = (entry.deadline for entries in self._slots.values() for entry in entries.values())
        self._earliest = min(deadlines, default=math.inf)
        return before - self._records

    def _renew(self, slot: _Slot, held: _Entry, new: _Entry, now: float) -> StoreStatus:
        record = new.record
        if record.sequence < held.record.sequence:
            return StoreStatus.STALE
        if record.sequence == held.record.sequence:
            # The same bytes again change nothing, not even the deadline: repeating is no renewal.
            return StoreStatus.STORED if record.encoded == held.record.encoded else StoreStatus.CONFLICT
        new.since = held.since if now - held.renewed <= GAP_S else now
        self._remove(slot, record.node_id)
        status = self._admit(slot, new, now)
        if status is not StoreStatus.STORED:
            self._insert(slot, held)  # a refused change (to a crowded prefix) costs nobody what was there
        return status

    def _has_expired_here(self, slot: _Slot, record: Record, now: float) -> bool:
        """Whether this record, or a later one of its signer, was here and expired a moment ago: it is sent again."""
        sequence, until = self._remembered.get((slot, record.node_id), (-1, 0.0))
        return now < until and record.sequence <= sequence

    # --- room

    def _admit(self, slot: _Slot, entry: _Entry, now: float) -> StoreStatus:
        """Insert the entry where there is room for it, or room can be made."""
        if not self._prefixes_have_room(slot, entry):
            return StoreStatus.FULL
        removed: _Removed = []
        if len(self._slots.get(slot, {})) >= self._limits.per_key:
            lapsed = self._lapsed(slot, now)
            if lapsed is None:
                return StoreStatus.FULL
            removed.append((slot, self._remove(slot, lapsed)))
        groups = [group for group in self._groups(entry) if group[0] in self._parts]
        if all(self._make_room(group, entry, removed) for group in groups) and self._make_room_in_all(entry, removed):
            self._insert(slot, entry)
            return StoreStatus.STORED
        for place, other in removed:  # a record that stays out costs no other its place
            self._insert(place, other)
        return StoreStatus.FULL

    def _prefixes_have_room(self, slot: _Slot, new: _Entry) -> bool:
        others = [entry.source for entry in self._slots.get(slot, {}).values()]
        near, wide = new.source.prefix(), new.source.wide_prefix()
        return _below(sum(other.prefix() == near for other in others), self._limits.per_prefix) and _below(
            sum(other.wide_prefix() == wide for other in others), self._limits.per_wide_prefix
        )

    def _lapsed(self, slot: _Slot, now: float) -> bytes | None:
        """The signer under a key that missed its renewal, and so may give way; None where there is none."""
        entries = self._slots[slot]
        signer = min(entries, key=lambda each: entries[each].renewed)
        return signer if now - entries[signer].renewed > GAP_S else None

    def _make_room(self, group: _Group, entry: _Entry, removed: _Removed) -> bool:
        """Make room for an entry within its group's part of the table; False when it has to stay out."""
        part = self._parts[group[0]]
        records, size = max(1, int(part * self._limits.records)), part * self._limits.bytes
        while (crowd := self._crowds.get(group)) is not None and (
            crowd.count >= records or crowd.cost + entry.cost > size
        ):
            if not self._take_from(crowd, entry, removed):
                return False
        return True

    def _make_room_in_all(self, entry: _Entry, removed: _Removed) -> bool:
        """Make room for an entry in the whole table; False when it has to stay out."""
        own = self._crowds_at_widest.get(self._group(self._widest, entry))
        while self._records >= self._limits.records or self._bytes + entry.cost > self._limits.bytes:
            fullest = max(self._crowds_at_widest.values(), key=lambda crowd: crowd.loose_count, default=None)
            if own is not None and fullest is not None and own.loose_count + 1 >= fullest.loose_count:
                fullest = own
            if fullest is None or not self._take_from(fullest, entry, removed):
                return False
        return True

    def _take_from(self, crowd: _Crowd, entry: _Entry, removed: _Removed) -> bool:
        """Remove the youngest loose record of the signer that has most of them.

        False when nothing is loose, or when the signer of `entry` would then have as many.
        """
        signer = max(crowd.loose, key=lambda each: crowd.loose[each], default=None)
        if signer is None:
            return False
        if not entry.steady and crowd.loose.get(entry.record.node_id, 0) + 1 >= crowd.loose[signer]:
            return False
        slot = next(reversed(self._loose[signer]))
        removed.append((slot, self._remove(slot, signer)))
        return True

    # --- the tables

    def _group(self, level: str, entry: _Entry) -> _Group:
        return level, (entry.record.node_id if level == "signer" else _PLACES[level](entry.source))

    def _groups(self, entry: _Entry) -> Iterable[_Group]:
        return [self._group(level, entry) for level in self._levels]

    def _insert(self, slot: _Slot, entry: _Entry) -> None:
        signer = entry.record.node_id
        self._slots.setdefault(slot, {})[signer] = entry
        if not entry.steady:
            self._loose.setdefault(signer, {})[slot] = None
        self._earliest = min(self._earliest, entry.deadline)
        self._count(entry, 1)

    def _remove(self, slot: _Slot, signer: bytes) -> _Entry:
        entry = self._slots[slot].pop(signer)
        if not self._slots[slot]:
            del self._slots[slot]
        if not entry.steady:
            del self._loose[signer][slot]
            if not self._loose[signer]:
                del self._loose[signer]
        self._count(entry, -1)
        return entry

    def _count(self, entry: _Entry, sign: int) -> None:
        for group in self._groups(entry):
            crowd = self._crowds.get(group)
            if crowd is None:
                crowd = self._crowds[group] = _Crowd()
            crowd.note(entry.record.node_id, entry, sign)
            if group[0] == self._widest:
                self._crowds_at_widest[group] = crowd
            if not crowd.count:
                del self._crowds[group]
                self._crowds_at_widest.pop(group, None)
        self._records += sign
        self._bytes += sign * entry.cost

    def _expire_slot(self, slot: _Slot, now: float) -> None:
        dead = [signer for signer, entry in self._slots.get(slot, {}).items() if entry.deadline <= now]
        for signer in dead:
            entry = self._remove(slot, signer)
            self._remembered[slot, signer] = entry.record.sequence, entry.deadline + REMEMBERED_S
            self._remembered.move_to_end((slot, signer))
            if len(self._remembered) > MAX_REMEMBERED:
                self._remembered.popitem(last=False)


_PLACES: dict[str, Callable[[Address], bytes]] = {
    "host": partial(Address.place, private=True),
    "prefix": Address.prefix,
    "wide": Address.wide_prefix,
}


def _below(count: int, limit: int | None) -> bool:
    return limit is None or count < limit
