"""The routing table: which contacts this node keeps, and which it hands out.

Built on `kademlia.routing` (KBucket, RoutingTable) and `kademlia.node` (Node), version 2.2.3, of which the
parts named in tests/dht/test_kademlia_contract.py are used as they are. Overridden here, with the reason:

* ids have 256 bits and exactly 32 bytes (the original takes any length and then cannot order or place them);
* the ranges of buckets are inclusive and aligned, `get_bucket_for` finds the right one, and `depth` comes
  from the range and not from the ids inside, so no choice of ids makes splitting recurse without bound;
* a full bucket *returns* the contact to be probed; the original starts an asyncio task;
* `find_neighbors` is exact (the original stops at the first k it meets and misses a quarter of the true
  ones);
* a removed contact is not replaced by an unverified one: a replacement becomes due for a probe, and only its
  answer puts it in;
* time comes in as `now` (monotonic seconds) and random numbers as `rng`.

On top of that: eviction only after two failed probes, and in a public network a limit on contacts of one
network prefix.

The caller promises to call `on_verified` only for a contact which itself answered *us* from the address in
the contact. Everything here is plain computation; nothing is awaited.
"""

from bisect import bisect_right
from collections import Counter, OrderedDict
from collections.abc import Iterator
from random import Random

from kademlia.node import Node
from kademlia.routing import KBucket, RoutingTable

from shoal.dht.contact import Contact
from shoal.dht.identity import NODE_ID_BYTES, NodeId

ID_BITS = 8 * NODE_ID_BYTES

# contacts per bucket, and size of every answer. Kademlia (Maymounkov & Mazieres 2002), the paper's example
# value.
K = 20
# a bucket away from our own id splits until its depth is a multiple of this: the paper's b (section 4.2).
SPLIT_BITS = 5
# a ceiling no honest network reaches: 10,240 contacts and as many replacements, whatever ids arrive.
MAX_BUCKETS = 512
# size of a bucket's replacement cache in units of K; more would only hold older news.
REPLACEMENTS_PER_CONTACT = 1

# one lost answer is common on UDP, two in a row from a live node are not (BEP 5 does the same).
FAILURES_TO_EVICT = 2
FAILURE_SPACING_S = 1.0  # several questions lost in one burst count as one failure.
# the same contact is not named for probing again before this, so newcomers cannot make us ping it to death.
PROBE_SPACING_S = 5.0
# a contact not heard from for so long is asked once more; every other day, because upkeep is paid by volunteers.
IDLE_PROBE_S = 48 * 3600.0

# of one /24 or /48, public networks only. DESIGN section 3; libp2p's Amino uses the same pair.
MAX_PER_PREFIX_IN_BUCKET = 2
MAX_PER_PREFIX_IN_TABLE = 3

assert FAILURE_SPACING_S <= PROBE_SPACING_S, "the probe that follows a failure must be able to count"


class Entry(Node):  # type: ignore[misc]  # kademlia ships no types
    """A contact inside the table, with what we remember of it. `id`, `ip`, `port` and `long_id` are the base
    class's.
    """

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
        """It answered from the address we have: all is forgiven."""
        self.contact = contact
        self.answered_at = now
        self.failures = 0

    def failed(self, now: float) -> int:
        """Count a failure, unless it belongs to the same burst as the last one. Returns the failures in a
        row.
        """
        if now - self.failed_at >= FAILURE_SPACING_S:
            self.failed_at = now
            self.failures += 1
        return self.failures

    def may_be_probed(self, now: float) -> bool:
        return now - max(self.probed_at, self.failed_at) >= PROBE_SPACING_S

    def is_doubtful(self, now: float) -> bool:
        return self.failures > 0 or now - self.answered_at >= IDLE_PROBE_S


class Bucket(KBucket):  # type: ignore[misc]  # kademlia ships no types
    """Contacts of one id range (both ends inclusive, 2**m ids, aligned), the longest known at the head."""

    range: tuple[int, int]
    nodes: OrderedDict[bytes, Entry]
    replacement_nodes: OrderedDict[bytes, Entry]
    ksize: int
    last_updated: float

    def __init__(self, lower: int, upper: int, ksize: int, now: float = 0.0) -> None:
        super().__init__(lower, upper, ksize, REPLACEMENTS_PER_CONTACT)
        self.touch_last_updated(now)

    def touch_last_updated(self, now: float = 0.0) -> None:
        """Note that the range was looked up at `now`. (The base class calls this without a time while being
        built.)
        """
        self.last_updated = now

    def depth(self) -> int:
        """How many leading bits all ids of the range share: 0 for the whole space, 256 for a single id."""
        return ID_BITS - (self.size - 1).bit_length()

    @property
    def size(self) -> int:
        """How many ids the range covers; a power of two."""
        return self.range[1] - self.range[0] + 1

    @property
    def is_full(self) -> bool:
        return len(self.nodes) >= self.ksize

    def split(self) -> tuple["Bucket", "Bucket"]:
        """Two halves. Replacements stay replacements: having answered once, long ago, does not make room for
        them.
        """
        middle = (self.range[0] + self.range[1]) // 2
        lower = Bucket(self.range[0], middle, self.ksize, self.last_updated)
        upper = Bucket(middle + 1, self.range[1], self.ksize, self.last_updated)
        for entry in self.nodes.values():
            (lower if entry.long_id <= middle else upper).nodes[entry.id] = entry
        for entry in self.replacement_nodes.values():
            (lower if entry.long_id <= middle else upper).replacement_nodes[entry.id] = entry
        return lower, upper

    def remove_node(self, node: Node) -> None:
        """Forget a contact. Nobody moves up in its place before answering again."""
        self.replacement_nodes.pop(node.id, None)
        self.nodes.pop(node.id, None)

    def replacements_wanted(self) -> list[Entry]:
        """The newest replacements, as many as there is room for."""
        room = max(0, self.ksize - len(self.nodes))
        return list(reversed(self.replacement_nodes.values()))[:room]

    def count_prefix(self, entries: "OrderedDict[bytes, Entry]", newcomer: Entry) -> int:
        """How many of `entries`, the newcomer's own old entry apart, sit in the newcomer's network prefix."""
        prefix = newcomer.contact.address.prefix()
        return sum(e.contact.address.prefix() == prefix for e in entries.values() if e.id != newcomer.id)


class ContactTable(RoutingTable):  # type: ignore[misc]  # kademlia ships no types
    """All contacts of one node: one per node id, K per bucket, each having answered us at the address kept.

    own_id: never enters the table; buckets around it split.    now: monotonic seconds, for the age of the
    first bucket.
    private: lifts the limits per network prefix.
    """

    buckets: list[Bucket]

    def __init__(self, own_id: NodeId, now: float, *, private: bool, k: int = K) -> None:
        self._created_at = now
        self._private = private
        self._in_prefix: Counter[bytes] = Counter()
        super().__init__(None, k, Node(own_id))

    def flush(self) -> None:
        """Start with one bucket over the whole id space. (The base class calls this while being built.)"""
        self.buckets = [Bucket(0, 2**ID_BITS - 1, self.ksize, self._created_at)]
        self._in_prefix.clear()

    # -- what we learn ---------------------------------------------------------------------------------

    def on_verified(self, contact: Contact, now: float) -> Contact | None:
        """`contact` answered us from its address. Returns a contact to be probed if its bucket is full, else
        None.

        A known id at a new address replaces the old entry, unless the prefix limits forbid the new address:
        then the old entry stays until it fails.
        """
        newcomer = Entry(contact, now)
        if newcomer.id == self.node.id:
            return None
        bucket = self._bucket_of(newcomer.long_id)
        known = bucket.nodes.get(newcomer.id)
        if known is not None and known.contact.address == contact.address:
            known.answered(contact, now)
            bucket.add_node(known)  # moves it to the tail: most recently heard from
            return None
        bucket.replacement_nodes.pop(newcomer.id, None)
        if not self._is_diverse(newcomer, known, bucket):
            return None
        if known is not None:
            self._remove(known)
        return self._insert(newcomer, now)

    def on_failure(self, contact: Contact, now: float) -> bool:
        """`contact` did not answer in time, or its address is unreachable. True if that evicted it.

        Counts only against an entry with this very address: a third party may have named a wrong one.
        """
        bucket = self._bucket_of(int.from_bytes(contact.node_id, "big"))
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
        """We searched for `target` (32 bytes): its range needs no refresh for a while."""
        self._bucket_of(int.from_bytes(target, "big")).touch_last_updated(now)

    # -- what we hand out ------------------------------------------------------------------------------

    def closest(self, target: bytes, count: int = K, *, exclude: NodeId | None = None) -> list[Contact]:
        """The `count` contacts nearest to `target` (32 bytes) by XOR, nearest first, without the id
        `exclude`.
        """
        return [entry.contact for entry in self._nearest(int.from_bytes(target, "big"), count, exclude)]

    def all_closest(self, target: bytes, count: int = K) -> list[Contact]:
        """`closest`, if these are all there are as far as one can know: no bucket they came from had to turn anybody
        away. Else nothing, and only a lookup can tell. A small network is known as a whole.
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

    def get(self, node_id: NodeId) -> Contact | None:
        """The contact kept for `node_id`."""
        entry = self._bucket_of(int.from_bytes(node_id, "big")).nodes.get(node_id)
        return None if entry is None else entry.contact

    def __len__(self) -> int:
        return sum(len(bucket) for bucket in self.buckets)

    def due_for_probe(self, now: float) -> list[Contact]:
        """Contacts the caller should ask for a sign of life now: the doubtful, and replacements for which
        there is room.

        Each is named again after PROBE_SPACING_S at the earliest. The answer goes to on_verified, silence to
        on_failure.
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
        stale = (bucket.range for bucket in self.buckets if now - bucket.last_updated >= age_s)
        return [rng.randint(lower, upper).to_bytes(NODE_ID_BYTES, "big") for lower, upper in stale]

    # -- overridden ------------------------------------------------------------------------------------

    def get_bucket_for(self, node: Node) -> int:
        """Index of the one bucket whose range holds the node's id."""
        return self._index_of(node.long_id)

    def find_neighbors(self, node: Node, k: int | None = None, exclude: Node | None = None) -> list[Entry]:
        """The base class's name for `closest`: exact, without `node` and `exclude` themselves."""
        count = k or self.ksize
        near = self._nearest(node.long_id, count + 1, None if exclude is None else exclude.id)
        return [entry for entry in near if entry.id != node.id][:count]

    def add_contact(self, node: Node) -> None:
        """Not offered: an unverified contact has no way in. Use on_verified."""
        raise NotImplementedError("contacts enter by on_verified")

    def remove_contact(self, node: Node) -> None:
        """Forget the contact with this id, whatever its address."""
        entry = self._bucket_of(node.long_id).nodes.get(node.id)
        if entry is not None:
            self._remove(entry)

    # -- inside ----------------------------------------------------------------------------------------

    def _index_of(self, position: int) -> int:
        return bisect_right(self.buckets, position, key=lambda bucket: bucket.range[0]) - 1

    def _bucket_of(self, position: int) -> Bucket:
        return self.buckets[self._index_of(position)]

    def _entries(self) -> Iterator[Entry]:
        for bucket in self.buckets:
            yield from bucket.nodes.values()

    def _by_distance(self, target: int) -> list[Bucket]:
        return sorted(self.buckets, key=lambda bucket: (bucket.range[0] ^ target) & -bucket.size)

    def _nearest(self, target: int, count: int, exclude: bytes | None) -> list[Entry]:
        """Exact: ranges are aligned, so seen from any target they do not overlap in distance, and the nearest
        ranges that
        together hold enough contacts hold all the nearest contacts."""
        candidates: list[Entry] = []
        for bucket in self._by_distance(target):
            candidates += [entry for entry in bucket.nodes.values() if entry.id != exclude]
            if len(candidates) >= count:
                break
        candidates.sort(key=lambda entry: entry.long_id ^ target)  # faster than a heap for the few that remain
        return candidates[:count]

    def _insert(self, newcomer: Entry, now: float) -> Contact | None:
        """Place an entry that passed all checks; at worst among the replacements, and then name a contact to
        probe.
        """
        bucket = self._bucket_of(newcomer.long_id)
        while bucket.is_full and self._may_split(bucket):
            self.split_bucket(self._index_of(newcomer.long_id))
            bucket = self._bucket_of(newcomer.long_id)
        if not bucket.is_full:
            bucket.add_node(newcomer)
            self._in_prefix[newcomer.contact.address.prefix()] += 1
            return None
        if self._private or bucket.count_prefix(bucket.replacement_nodes, newcomer) < MAX_PER_PREFIX_IN_BUCKET:
            # full: the base class files it under replacement_nodes and keeps those bounded
            bucket.add_node(newcomer)
        return self._suspect(bucket, now)

    def _may_split(self, bucket: Bucket) -> bool:
        """Every split halves the range, so a chain of splits ends after 256 steps; MAX_BUCKETS ends all
        chains together.
        """
        if bucket.size == 1 or len(self.buckets) >= MAX_BUCKETS:
            return False
        return bool(bucket.has_in_range(self.node)) or bucket.depth() % SPLIT_BITS != 0

    def _suspect(self, bucket: Bucket, now: float) -> Contact | None:
        """The contact of a full bucket most likely to be gone: one that failed, else the one not heard from
        for longest.
        """
        failing = (entry for entry in bucket.nodes.values() if entry.failures)
        entry = next(failing, bucket.head())
        if not entry.may_be_probed(now) or now - entry.answered_at < PROBE_SPACING_S:
            return None
        entry.probed_at = now
        contact: Contact = entry.contact
        return contact

    def _is_diverse(self, newcomer: Entry, known: Entry | None, bucket: Bucket) -> bool:
        """Whether the prefix limits have room for the newcomer, its own old entry not counted."""
        if self._private:
            return True
        prefix = newcomer.contact.address.prefix()
        in_table = self._in_prefix[prefix]
        if known is not None and known.contact.address.prefix() == prefix:
            in_table -= 1
        in_bucket = bucket.count_prefix(bucket.nodes, newcomer)
        return in_table < MAX_PER_PREFIX_IN_TABLE and in_bucket < MAX_PER_PREFIX_IN_BUCKET

    def _remove(self, entry: Entry) -> None:
        self._bucket_of(entry.long_id).remove_node(entry)
        prefix = entry.contact.address.prefix()
        self._in_prefix[prefix] -= 1
        if not self._in_prefix[prefix]:
            del self._in_prefix[prefix]
