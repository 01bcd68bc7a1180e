"""The routing table: which contacts this node keeps, and which it hands out.

Two classes of the `kademlia` package, version 2.2.3, do part of the work. `kademlia.node.Node` is an id as bytes and
as a number. `kademlia.routing.KBucket` keeps a bucket's contacts, the longest known first, and its bounded cache of
replacements. tests/dht/test_kademlia_contract.py pins what is used of them.

The package's RoutingTable is not used, because a hostile network needs other rules:

* Ids have exactly 32 bytes. The package takes any length, and then can neither order nor place them.
* Ranges of buckets are inclusive and aligned. A bucket's depth comes from its range, not from the ids inside, so no
  choice of ids makes a bucket split without end.
* A full bucket *returns* the contact to be probed. The package starts an asyncio task.
* `closest` is exact. The package stops at the first k contacts it meets, and misses a quarter of the nearest.
* A replacement enters only when it has answered again. The package moves it up unasked.
* Time comes in as `now` (monotonic seconds) and random numbers as `rng`.

A contact is evicted after two failed probes only. In a public network few contacts of one network prefix are kept.

The caller promises to call `on_verified` only for a contact that answered *this node* from the address in the contact.
Everything here is plain computation; nothing is awaited.
"""

from bisect import bisect_right
from collections import Counter, OrderedDict
from collections.abc import Iterator
from random import Random

from kademlia.node import Node
from kademlia.routing import KBucket

from shoal.dht.contact import Contact
from shoal.dht.identity import NODE_ID_BYTES, NodeId

ID_BITS = 8 * NODE_ID_BYTES

# Contacts per bucket, and size of every answer: the example value of Kademlia (Maymounkov & Mazieres 2002).
K = 20
# A bucket away from the own id splits until its depth is a multiple of this: the paper's b (section 4.2).
SPLIT_BITS = 5
# A ceiling that no honest network reaches: 10,240 contacts and as many replacements, whatever ids arrive.
MAX_BUCKETS = 512
# Size of a bucket's replacement cache in units of K. More would only hold older news.
REPLACEMENTS_PER_CONTACT = 1

# One lost answer is common on UDP, two in a row from a live node are not (BEP 5 does the same).
FAILURES_TO_EVICT = 2
FAILURE_SPACING_S = 1.0  # several questions lost in one burst count as one failure
# The same contact is not named for probing again before this, so newcomers cannot make a node ping it to death.
PROBE_SPACING_S = 5.0
# A contact not heard from for so long is asked once more: every other day, because volunteers pay for upkeep.
IDLE_PROBE_S = 48 * 3600.0

# Contacts of one /24 or /48, in public networks only: one owner of a prefix must not fill a bucket. libp2p's Amino
# network uses the same pair.
MAX_PER_PREFIX_IN_BUCKET = 2
MAX_PER_PREFIX_IN_TABLE = 3

assert FAILURE_SPACING_S <= PROBE_SPACING_S, "the probe that follows a failure must be able to count"


class TableEntry(Node):  # type: ignore[misc]  # kademlia ships no types
    """A contact inside the table and what is remembered of it. The base class has `id` and `long_id`, the number."""

    def __init__(self, contact: Contact, now: float) -> None:
        if len(contact.node_id) != NODE_ID_BYTES:
            raise ValueError(f"a node id has {NODE_ID_BYTES} bytes, not {len(contact.node_id)}")
        super().__init__(contact.node_id, contact.address.host, contact.address.port)
        self.contact = contact
        self.answered_at = now
        self.probed_at = float("-inf")  # when it was last named for probing
        self.failed_at = float("-inf")
        self.failures = 0

    def answered(self, contact: Contact, now: float) -> None:
        """It answered from the address kept: its failures are forgotten."""
        self.contact = contact
        self.answered_at = now
        self.failures = 0

    def failed(self, now: float) -> int:
        """Count a failure, unless it belongs to the same burst as the last one. Returns the failures in a row."""
        if now - self.failed_at >= FAILURE_SPACING_S:
            self.failed_at = now
            self.failures += 1
        return self.failures

    def may_be_probed(self, now: float) -> bool:
        """Whether the last probe or failure is long enough ago."""
        return now - max(self.probed_at, self.failed_at) >= PROBE_SPACING_S

    def is_doubtful(self, now: float) -> bool:
        """Whether it failed last time, or has been silent for long."""
        return self.failures > 0 or now - self.answered_at >= IDLE_PROBE_S


class Bucket:
    """Contacts of one id range: both ends inclusive, 2**m ids, aligned. A KBucket keeps them.

    nodes: by id, the one heard from longest ago first.    replacement_nodes: the same for contacts without a place.
    """

    def __init__(self, lower: int, upper: int, k: int, looked_up_at: float) -> None:
        self.range = lower, upper
        self.looked_up_at = looked_up_at
        self._k = k
        self._kept = KBucket(lower, upper, k, REPLACEMENTS_PER_CONTACT)
        self.nodes: OrderedDict[bytes, TableEntry] = self._kept.nodes
        self.replacement_nodes: OrderedDict[bytes, TableEntry] = self._kept.replacement_nodes

    def __len__(self) -> int:
        return len(self.nodes)

    @property
    def size(self) -> int:
        """How many ids the range covers; a power of two."""
        return self.range[1] - self.range[0] + 1

    @property
    def depth(self) -> int:
        """How many leading bits all ids of the range share: 0 for the whole space, 256 for a single id."""
        return ID_BITS - (self.size - 1).bit_length()

    @property
    def is_full(self) -> bool:
        """Whether a newcomer finds no place."""
        return len(self.nodes) >= self._k

    def covers(self, position: int) -> bool:
        """Whether the id with this number is in the range."""
        return self.range[0] <= position <= self.range[1]

    def add(self, entry: TableEntry) -> None:
        """Keep a contact that was just heard from; in a full bucket, a stranger becomes the newest replacement."""
        self._kept.add_node(entry)

    def remove(self, entry: TableEntry) -> None:
        """Forget a contact. No replacement moves up in its place before it answers again."""
        self.replacement_nodes.pop(entry.id, None)
        self.nodes.pop(entry.id, None)

    def longest_silent(self) -> TableEntry:
        """The contact that was heard from longest ago."""
        entry: TableEntry = self._kept.head()
        return entry

    def split(self) -> tuple["Bucket", "Bucket"]:
        """Two halves. Replacements stay replacements until they answer again, also where there is room now."""
        middle = (self.range[0] + self.range[1]) // 2
        lower = Bucket(self.range[0], middle, self._k, self.looked_up_at)
        upper = Bucket(middle + 1, self.range[1], self._k, self.looked_up_at)
        for entry in self.nodes.values():
            (lower if entry.long_id <= middle else upper).nodes[entry.id] = entry
        for entry in self.replacement_nodes.values():
            (lower if entry.long_id <= middle else upper).replacement_nodes[entry.id] = entry
        return lower, upper

    def replacements_wanted(self) -> list[TableEntry]:
        """The newest replacements, as many as there is room for."""
        room = max(0, self._k - len(self.nodes))
        return list(reversed(self.replacement_nodes.values()))[:room]


def count_prefix(entries: OrderedDict[bytes, TableEntry], newcomer: TableEntry) -> int:
    """How many of `entries` are in the newcomer's network prefix. Its own old entry does not count."""
    prefix = newcomer.contact.address.prefix()
    return sum(e.contact.address.prefix() == prefix for e in entries.values() if e.id != newcomer.id)


class ContactTable:
    """All contacts of one node: one per node id, K per bucket, each having answered at the address kept.

    own_id: never enters the table; buckets around it split.    now: monotonic seconds, for the age of the first bucket.
    private: lifts the limits per network prefix.
    """

    def __init__(self, own_id: NodeId, now: float, *, private: bool, k: int = K) -> None:
        self._own_id = own_id
        self._own_position = int.from_bytes(own_id, "big")
        self._private = private
        self._in_prefix: Counter[bytes] = Counter()
        self.buckets = [Bucket(0, 2**ID_BITS - 1, k, now)]

    # -- what we learn ---------------------------------------------------------------------------------

    def on_verified(self, contact: Contact, now: float) -> Contact | None:
        """`contact` answered from its address. Returns a contact to be probed if its bucket is full, else None.

        A known id at a new address replaces the old entry. Where the prefix limits forbid the new address, the old
        entry stays until it fails.
        """
        newcomer = TableEntry(contact, now)
        if newcomer.id == self._own_id:
            return None
        bucket = self.bucket_of(newcomer.long_id)
        known = bucket.nodes.get(newcomer.id)
        if known is not None and known.contact.address == contact.address:
            known.answered(contact, now)
            bucket.add(known)  # moves it to the tail: most recently heard from
            return None
        bucket.replacement_nodes.pop(newcomer.id, None)
        if not self._is_diverse(newcomer, known, bucket):
            return None
        if known is not None:
            self._remove(known)
        return self._insert(newcomer, now)

    def on_failure(self, contact: Contact, now: float) -> bool:
        """`contact` did not answer in time, or its address is unreachable. Returns whether that evicted it.

        A failure counts only against an entry with this very address: a third party may have named a wrong one.
        """
        bucket = self.bucket_of(int.from_bytes(contact.node_id, "big"))
        waiting = bucket.replacement_nodes.get(contact.node_id)
        if waiting is not None and waiting.contact.address == contact.address:
            del bucket.replacement_nodes[contact.node_id]
        entry = bucket.nodes.get(contact.node_id)
        if entry is None or entry.contact.address != contact.address:
            return False
        if entry.failed(now) < FAILURES_TO_EVICT:
            return False
        self._remove(entry)
        return True

    def on_looked_up(self, target: bytes, now: float) -> None:
        """A lookup for `target` (32 bytes) was made: its range needs no refresh for a while."""
        self.bucket_of(int.from_bytes(target, "big")).looked_up_at = now

    # -- what we hand out ------------------------------------------------------------------------------

    def closest(self, target: bytes, count: int = K, *, exclude: NodeId | None = None) -> list[Contact]:
        """The `count` contacts nearest to `target` (32 bytes) by XOR, nearest first, without the id `exclude`."""
        return [entry.contact for entry in self._nearest(int.from_bytes(target, "big"), count, exclude)]

    def all_closest(self, target: bytes, count: int = K) -> list[Contact]:
        """`closest`, where the table knows that no nearer contact exists: no bucket they came from is full.

        Else nothing, and only a lookup can tell. The nodes of a small network all know each other.
        """
        position = int.from_bytes(target, "big")
        found = 0
        for bucket in self._by_distance(position):
            if bucket.is_full:
                return []
            found += len(bucket)
            if found >= count:
                return self.closest(target, count)
        return []

    def contacts(self) -> list[Contact]:
        """All contacts, those heard from most recently first."""
        entries = sorted(self._entries(), key=lambda entry: entry.answered_at, reverse=True)
        return [entry.contact for entry in entries]

    def answered_since(self, moment: float) -> int:
        """How many contacts have answered since then."""
        return sum(entry.answered_at >= moment for entry in self._entries())

    def silent_since(self, moment: float) -> list[Contact]:
        """All contacts that have not answered since then."""
        return [entry.contact for entry in self._entries() if entry.answered_at < moment]

    def get(self, node_id: NodeId) -> Contact | None:
        """The contact kept for `node_id`."""
        entry = self.bucket_of(int.from_bytes(node_id, "big")).nodes.get(node_id)
        return None if entry is None else entry.contact

    def __len__(self) -> int:
        return sum(len(bucket) for bucket in self.buckets)

    def due_for_probe(self, now: float) -> list[Contact]:
        """Contacts to be asked for a sign of life now: the doubtful, and replacements for which there is room.

        Each is named again after PROBE_SPACING_S at the earliest. The caller reports an answer to `on_verified` and
        silence to `on_failure`.
        """
        due: list[Contact] = []
        for bucket in self.buckets:
            doubtful = [entry for entry in bucket.nodes.values() if entry.is_doubtful(now)]
            for entry in (*doubtful, *bucket.replacements_wanted()):
                if entry.may_be_probed(now):
                    entry.probed_at = now
                    due.append(entry.contact)
        return due

    def stale_ranges(self, now: float, age_s: float, rng: Random) -> list[bytes]:
        """One random id (32 bytes) in each bucket whose range was not looked up for `age_s` seconds."""
        stale = (bucket.range for bucket in self.buckets if now - bucket.looked_up_at >= age_s)
        return [rng.randint(lower, upper).to_bytes(NODE_ID_BYTES, "big") for lower, upper in stale]

    # -- inside ----------------------------------------------------------------------------------------

    def _index_of(self, position: int) -> int:
        return bisect_right(self.buckets, position, key=lambda bucket: bucket.range[0]) - 1

    def bucket_of(self, position: int) -> Bucket:
        """The one bucket whose range holds the id with this number."""
        return self.buckets[self._index_of(position)]

    def _entries(self) -> Iterator[TableEntry]:
        for bucket in self.buckets:
            yield from bucket.nodes.values()

    def _by_distance(self, target: int) -> list[Bucket]:
        return sorted(self.buckets, key=lambda bucket: (bucket.range[0] ^ target) & -bucket.size)

    def _nearest(self, target: int, count: int, exclude: bytes | None) -> list[TableEntry]:
        """The nearest entries, exactly. Ranges are aligned, so no two overlap in their distances from any target. The
        nearest ranges that together hold enough contacts therefore hold all the nearest ones.
        """
        candidates: list[TableEntry] = []
        for bucket in self._by_distance(target):
            candidates += [entry for entry in bucket.nodes.values() if entry.id != exclude]
            if len(candidates) >= count:
                break
        candidates.sort(key=lambda entry: entry.long_id ^ target)  # faster than a heap for the few that remain
        return candidates[:count]

    def _insert(self, newcomer: TableEntry, now: float) -> Contact | None:
        """Place an entry that passed all checks. Without room it becomes a replacement; returns whom to probe."""
        bucket = self.bucket_of(newcomer.long_id)
        while bucket.is_full and self._may_split(bucket):
            self._split(bucket)
            bucket = self.bucket_of(newcomer.long_id)
        if not bucket.is_full:
            bucket.add(newcomer)
            self._in_prefix[newcomer.contact.address.prefix()] += 1
            return None
        if self._private or count_prefix(bucket.replacement_nodes, newcomer) < MAX_PER_PREFIX_IN_BUCKET:
            bucket.add(newcomer)
        return self._suspect(bucket, now)

    def _split(self, bucket: Bucket) -> None:
        """Put two halves in a bucket's place."""
        index = self._index_of(bucket.range[0])
        self.buckets[index : index + 1] = bucket.split()

    def _may_split(self, bucket: Bucket) -> bool:
        """Every split halves the range, so a chain of splits ends after 256 steps. MAX_BUCKETS bounds all chains."""
        if bucket.size == 1 or len(self.buckets) >= MAX_BUCKETS:
            return False
        return bucket.covers(self._own_position) or bucket.depth % SPLIT_BITS != 0

    def _suspect(self, bucket: Bucket, now: float) -> Contact | None:
        """The contact of a full bucket most likely to be gone: one that failed, else the one silent for longest.

        None when that one was heard from or asked a moment ago.
        """
        failing = (entry for entry in bucket.nodes.values() if entry.failures)
        entry = next(failing, bucket.longest_silent())
        if not entry.may_be_probed(now) or now - entry.answered_at < PROBE_SPACING_S:
            return None
        entry.probed_at = now
        return entry.contact

    def _is_diverse(self, newcomer: TableEntry, known: TableEntry | None, bucket: Bucket) -> bool:
        """Whether the prefix limits have room for the newcomer. Its own old entry does not count."""
        if self._private:
            return True
        prefix = newcomer.contact.address.prefix()
        in_table = self._in_prefix[prefix]
        if known is not None and known.contact.address.prefix() == prefix:
            in_table -= 1
        in_bucket = count_prefix(bucket.nodes, newcomer)
        return in_table < MAX_PER_PREFIX_IN_TABLE and in_bucket < MAX_PER_PREFIX_IN_BUCKET

    def _remove(self, entry: TableEntry) -> None:
        self.bucket_of(entry.long_id).remove(entry)
        prefix = entry.contact.address.prefix()
        self._in_prefix[prefix] -= 1
        if not self._in_prefix[prefix]:
            del self._in_prefix[prefix]
