"""The records one node keeps for others: a bounded table, no I/O, no clock of its own.

What a stranger can make grow is bounded four ways: per key, per prefix under a key, per source host, in total
(count and bytes). Under a full key those renewed longest without a gap stay, so nobody can push out a steady
provider by coming later in numbers; only one that missed two renewals gives way. When the whole table is
full, the keys farthest from our own id go first, since others are closer to those.
"""

import heapq
import math
from dataclasses import dataclass

from shoal.dht.identity import NodeId, distance
from shoal.dht.messages import StoreStatus
from shoal.dht.records import MAX_LIFETIME_S, MAX_RECORDS_PER_KEY, Record, RecordKey, RecordKind

GAP_S = 40 * 3600.0  # a renewal (every 30 h, with jitter) is late: the place may go to somebody else
assert GAP_S < MAX_LIFETIME_S, "a gap must show before the record is gone anyway"


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """Ceilings of a RecordStore; the defaults are those of a public node.

    records, bytes: in total; 32 MiB keeps an idle volunteer within 70 MiB of memory with room for the rest.
    per_key: DESIGN's 64.    per_prefix, per_wide_prefix: under one key, per /24 (/48) and per /16 (/32).
    per_source: records of one host (IPv4 address or IPv6 /64), enough for tens of thousands of files in a
    large network.
    """

    records: int = 50_000
    bytes: int = 32 * 2**20
    per_key: int = MAX_RECORDS_PER_KEY
    per_prefix: int | None = 2
    per_wide_prefix: int | None = 4
    per_source: int | None = 5_000

    @classmethod
    def private(cls) -> "StoreLimits":
        """The limits of a private network: none per address or prefix, the same in total."""
        return cls(per_prefix=None, per_wide_prefix=None, per_source=None)


@dataclass(slots=True)
class _Entry:
    record: Record
    since: float  # first kept without a gap, monotonic seconds
    renewed: float
    deadline: float


_Slot = tuple[int, RecordKey]  # (record kind, key)


class RecordStore:
    """Records by (kind, key) and signer. All times are monotonic seconds given by the caller.

    The caller has checked authenticity and, for provider records, that signer and address are those of the
    sender.
    """

    def __init__(self, own_id: NodeId, limits: StoreLimits | None = None) -> None:
        self._own_id = own_id
        self._limits = limits or StoreLimits()
        self._slots: dict[_Slot, dict[bytes, _Entry]] = {}
        self._by_source: dict[bytes, int] = {}
        self._farthest: list[tuple[int, int, RecordKey]] = []  # heap of (-distance, kind, key); may hold dead slots
        self._records = 0
        self._bytes = 0
        self._earliest = math.inf  # no record held expires before

    def __len__(self) -> int:
        return self._records

    @property
    def stored_bytes(self) -> int:
        """Bytes of the encoded records held."""
        return self._bytes

    def put(self, record: Record, now: float) -> StoreStatus:
        """Keep `record` if the rules allow: STORED (also when it was there already), or why not."""
        if record.kind != RecordKind.PROVIDER:
            return StoreStatus.NOT_SERVED
        slot = (record.kind, record.key)
        self._expire_slot(slot, now)
        held = self._slots.get(slot, {}).get(record.node_id)
        if held is not None:
            return self._renew(slot, held, record, now)
        return self._admit(slot, record, now)

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

    def _renew(self, slot: _Slot, held: _Entry, record: Record, now: float) -> StoreStatus:
        if record.sequence < held.record.sequence:
            return StoreStatus.STALE
        if record.sequence == held.record.sequence:
            # The same bytes again change nothing, not even the deadline: repeating is no renewal.
            return StoreStatus.STORED if record.encoded == held.record.encoded else StoreStatus.CONFLICT
        self._remove(slot, record.node_id)
        status = self._admit(slot, record, now)
        if status is not StoreStatus.STORED:
            self._insert(slot, held)  # a refused change (to a crowded prefix) costs nobody what was there
        elif now - held.renewed <= GAP_S:
            self._slots[slot][record.node_id].since = held.since
        return status

    def _admit(self, slot: _Slot, record: Record, now: float) -> StoreStatus:
        if not self._source_has_room(record) or not self._prefixes_have_room(slot, record):
            return StoreStatus.FULL
        entries = self._slots.get(slot, {})
        if len(entries) >= self._limits.per_key and not self._displace_lapsed(slot, now):
            return StoreStatus.FULL
        if not self._make_room(slot, len(record.encoded)):
            return StoreStatus.FULL
        self._insert(slot, _Entry(record, now, now, now + record.lifetime_s))
        return StoreStatus.STORED

    def _source_has_room(self, record: Record) -> bool:
        limit = self._limits.per_source
        return limit is None or self._by_source.get(record.address.host_key(), 0) < limit

    def _prefixes_have_room(self, slot: _Slot, record: Record) -> bool:
        others = [entry.record.address for entry in self._slots.get(slot, {}).values()]
        near, wide = record.address.prefix(), record.address.wide_prefix()
        return _below(sum(other.prefix() == near for other in others), self._limits.per_prefix) and _below(
            sum(other.wide_prefix() == wide for other in others), self._limits.per_wide_prefix
        )

    def _displace_lapsed(self, slot: _Slot, now: float) -> bool:
        entries = self._slots[slot]
        signer = min(entries, key=lambda each: entries[each].renewed)
        if now - entries[signer].renewed <= GAP_S:
            return False
        self._remove(slot, signer)
        return True

    def _make_room(self, slot: _Slot, size: int) -> bool:
        """Evict the farthest keys until one more record fits; False when ours is the farthest itself."""
        own_distance = distance(self._own_id, slot[1])
        while self._records >= self._limits.records or self._bytes + size > self._limits.bytes:
            if not self._farthest:
                return False
            negative, kind, key = self._farthest[0]
            entries = self._slots.get((kind, key))
            if not entries:
                heapq.heappop(self._farthest)
                continue
            if -negative <= own_distance:
                return False
            youngest = max(entries, key=lambda signer: entries[signer].since)
            self._remove((kind, key), youngest)
        return True

    def _insert(self, slot: _Slot, entry: _Entry) -> None:
        if slot not in self._slots:
            self._slots[slot] = {}
            self._push_farthest(slot)
        self._slots[slot][entry.record.node_id] = entry
        self._earliest = min(self._earliest, entry.deadline)
        source = entry.record.address.host_key()
        self._by_source[source] = self._by_source.get(source, 0) + 1
        self._records += 1
        self._bytes += len(entry.record.encoded)

    def _push_farthest(self, slot: _Slot) -> None:
        """Note a new slot; rebuild the heap when most of it stands for slots that are gone."""
        kind, key = slot
        heapq.heappush(self._farthest, (-distance(self._own_id, key), kind, key))
        if len(self._farthest) > 2 * len(self._slots) + 64:
            self._farthest = [(-distance(self._own_id, key), kind, key) for kind, key in self._slots]
            heapq.heapify(self._farthest)

    def _remove(self, slot: _Slot, signer: bytes) -> None:
        entry = self._slots[slot].pop(signer)
        if not self._slots[slot]:
            del self._slots[slot]
        source = entry.record.address.host_key()
        self._by_source[source] -= 1
        if not self._by_source[source]:
            del self._by_source[source]
        self._records -= 1
        self._bytes -= len(entry.record.encoded)

    def _expire_slot(self, slot: _Slot, now: float) -> None:
        dead = [signer for signer, entry in self._slots.get(slot, {}).items() if entry.deadline <= now]
        for signer in dead:
            self._remove(slot, signer)


def _below(count: int, limit: int | None) -> bool:
    return limit is None or count < limit
