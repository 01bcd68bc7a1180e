"""Announcing: put this node's records on the nodes closest to their keys, and keep them there."""

import math
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import field
from functools import partial
from random import Random

import trio

from shoal.dht.contact import Contact
from shoal.dht.crawl import Ask
from shoal.dht.errors import QueryError, RecordTooLargeError
from shoal.dht.identity import Identity, distance
from shoal.dht.messages import MAX_STORES, Store, Stored, StoreStatus, stores_within
from shoal.dht.params import NetworkParameters
from shoal.dht.reach import Reach
from shoal.dht.records import (
    MAX_ANNOUNCEMENT_BYTES,
    MAX_LIFETIME_S,
    Record,
    RecordKey,
    RecordKind,
    provider_payload,
)
from shoal.dht.routing import K
from shoal.values import dataclass

# Announcing is most of what a volunteer pays for a small file. A record lives 48 h. A renewal that fails is repeated
# within the hour, and a machine that was away announces when it comes back. So 15 h are room enough.
REANNOUNCE_S = 30 * 3600.0
REANNOUNCE_JITTER = 0.1  # so that nodes started together drift apart
# In between, records go to the nodes that were closest at the last lookup, because a lookup costs as much as storing.
# Nodes that are away may be back at the next round. When fewer than half of them store, there is a new lookup.
LOOKUP_EVERY_ROUNDS = 4
FIRST_RETRY_S = 60.0  # after an announcement that reached fewer than half of the closest
MAX_RETRY_S = 3600.0
GATHER_S = 12 * 3600.0  # what is due within this time goes along now, because records for one node share datagrams
MAX_BATCH = 256  # items of one round of re-announcing
MAX_PARALLEL_LOOKUPS = 4
MAX_PARALLEL_STORES = 32
# Once half of the closest keep each item, a caller waits this much longer for the others. The dead that our table still
# knows would hold it up for seconds. What is under way goes on without the caller.
LINGER_S = 0.1
MAX_UNDER_WAY = 64  # announcements of callers; with more, nobody leaves one behind. Each takes 9 s at most

assert REANNOUNCE_S * (1 + REANNOUNCE_JITTER) + 12 * MAX_RETRY_S < MAX_LIFETIME_S, "renewals may fail for half a day"


@dataclass(frozen=True, slots=True)
class Announcement:
    """Something this node provides.

    key: 32 bytes.    payload: at most 695 bytes; the ways to us are put in front of it.    lifetime_s: how long
    others keep the record unless it is renewed, at most 48 h.
    """

    key: RecordKey
    payload: bytes
    lifetime_s: int = MAX_LIFETIME_S
    kind: int = RecordKind.PROVIDER

    def check(self) -> None:
        """Raise RecordTooLargeError when the payload is too long, ValueError for another wrong field."""
        if len(self.payload) > MAX_ANNOUNCEMENT_BYTES:
            raise RecordTooLargeError(
                f"an announcement of {len(self.payload)} bytes, the limit is {MAX_ANNOUNCEMENT_BYTES}"
            )
        if self.kind != RecordKind.PROVIDER or len(self.key) != 32 or self.lifetime_s < 1:
            raise ValueError("an announcement needs a known kind, a 32-byte key and a lifetime")


@dataclass(frozen=True, slots=True)
class StoreReport:
    """How an announcement went.

    closest: how many nodes are to keep the record. That is K, or all nodes there are; this node counts if it is among
    them. stored: how many of these keep the record.
    """

    key: RecordKey
    closest: int
    stored: int

    @property
    def is_well_kept(self) -> bool:
        """Whether at least half of the closest have it."""
        return self.closest > 0 and 2 * self.stored >= self.closest


@dataclass(slots=True)
class _Kept:
    announcement: Announcement
    due: float
    failures: int = 0
    reach: Reach | None = None  # the ways in its last announcement
    keepers: tuple[Contact, ...] = ()  # the other nodes that are to keep the record, as of the last lookup
    ours: bool = False  # whether we are one of the closest ourselves
    rounds: int = 0  # since the last lookup


@dataclass(slots=True)
class _Round:
    """One round of announcing: what each node is to store, and which nodes do."""

    to_store: dict[Contact, list[tuple[int, bytes]]] = field(default_factory=lambda: defaultdict(list))
    closest: dict[int, int] = field(default_factory=dict)
    own: dict[int, bool] = field(default_factory=dict)
    keepers: dict[int, list[Contact]] = field(default_factory=lambda: defaultdict(list))
    heard: trio.Event = field(default_factory=trio.Event)  # set when a node has answered

    def note(self, index: int, contact: Contact, status: int) -> None:
        """A node has answered about one item."""
        if status == StoreStatus.STORED:
            self.keepers[index].append(contact)
        self.heard.set()

    def reports(self, batch: "Sequence[_Kept]") -> list[StoreReport]:
        """How each item stands."""
        return [
            StoreReport(kept.announcement.key, self.closest.get(index, 0), self.stored(index))
            for index, kept in enumerate(batch)
        ]

    def stored(self, index: int) -> int:
        """How many nodes keep an item, this one included."""
        return len(self.keepers[index]) + self.own.get(index, False)


@dataclass(eq=False, slots=True)
class _Parcel:
    """Records of one announcement that wait for one node: with their places in the announcement."""

    plan: _Round
    records: list[tuple[int, bytes]]
    over: trio.Event = field(default_factory=trio.Event)


class Announcer:
    """Announces on request and keeps announcements alive.

    find_closest: a full lookup. known_closest: the same from our own table; nothing when that may not know all nodes.
    ask: one request. own_reach: how peers reach us; None while nobody can. store_own: keeps a record on this node;
    None if it never serves. serves: whether peers take it for a node that does. wall: unix seconds. nursery: of tasks
    that outlive a call.
    """

    def __init__(
        self,
        params: NetworkParameters,
        identity: Identity,
        *,
        find_closest: Callable[[bytes], Awaitable[list[Contact]]],
        known_closest: Callable[[bytes], list[Contact]],
        ask: Ask,
        own_reach: Callable[[], Reach | None],
        store_own: Callable[[Record], StoreStatus] | None,
        serves: Callable[[], bool] = lambda: True,
        wall: Callable[[], float],
        rng: Random,
        nursery: Callable[[], trio.Nursery],
    ) -> None:
        self._nursery = nursery
        self._params = params
        self._identity = identity
        self._find_closest = find_closest
        self._known_closest = known_closest
        self._ask = ask
        self._own_reach = own_reach
        self._store_own = store_own
        self._serves = serves
        self._wall = wall
        self._rng = rng
        self._kept: dict[tuple[int, RecordKey], _Kept] = {}
        self._lately: dict[tuple[int, RecordKey], _Kept] = {}  # announced and not kept announced; at most MAX_BATCH
        self._changed = trio.Event()
        self._sequence = 0
        self._outboxes: dict[Contact, list[_Parcel]] = {}  # of nodes that a request is under way to
        self._under_way = 0  # announcements that somebody asked for

    def kept(self) -> list[Announcement]:
        """All that is announced again and again."""
        return [each.announcement for each in self._kept.values()]

    @property
    def kept_count(self) -> int:
        """How many announcements are being kept alive."""
        return len(self._kept)

    # -- announcing now --------------------------------------------------------------------------------

    async def announce(self, items: Sequence[Announcement], *, from_table: bool = False) -> list[StoreReport]:
        """Store each item on the K nodes closest to its key. One report per item, in order.

        from_table: leave the lookup out when our own table knows all nodes; what too few of these store is looked up
        after all. Then the reports also come once half of the closest store each item, if the others are slow.
        Raises RecordTooLargeError or ValueError before anything is sent, see `Announcement.check`. Nodes that fail
        show in the reports only.
        """
        for item in items:
            item.check()
        batch = [_Kept(item, 0.0) for item in items]
        for kept in batch if from_table else ():
            if closest := self._known_closest(kept.announcement.key):
                self._choose_keepers(kept, closest)
        guessed = [bool(kept.keepers) for kept in batch]
        reports = await self._announce_for(batch, linger_s=LINGER_S if all(guessed) else math.inf)
        scarce = [at for at, report in enumerate(reports) if guessed[at] and not report.is_well_kept]
        for at in scarce:
            batch[at].keepers = ()
        again = await self._announce_for([batch[at] for at in scarce], linger_s=math.inf) if scarce else []
        for at, report in zip(scarce, again, strict=True):
            reports[at] = report
        for kept in batch:
            self._remember(kept)
        return reports

    async def _announce_for(self, batch: Sequence[_Kept], *, linger_s: float) -> list[StoreReport]:
        """Store each item. Wait until that is over, or all are well kept and `linger_s` have passed."""
        plan, over = _Round(), trio.Event()

        async def announce() -> None:
            try:
                await self._announce(batch, plan)
            finally:
                self._under_way -= 1
                over.set()
                plan.heard.set()

        self._under_way += 1
        self._nursery().start_soon(announce)
        while not over.is_set() and not all(report.is_well_kept for report in plan.reports(batch)):
            plan.heard = trio.Event()
            await plan.heard.wait()
        with trio.move_on_after(linger_s if self._under_way <= MAX_UNDER_WAY else math.inf):
            await over.wait()
        return plan.reports(batch)

    def _remember(self, kept: _Kept) -> None:
        """Note which nodes keep what was just announced: the caller may want to keep it announced."""
        kept.rounds = 1
        self._lately[kept.announcement.kind, kept.announcement.key] = kept
        while len(self._lately) > MAX_BATCH:
            del self._lately[next(iter(self._lately))]

    async def _announce(self, batch: Sequence[_Kept], plan: _Round) -> None:
        """Store each item on its keepers. Items without keepers go to the closest nodes."""
        lookups = [partial(self._plan, plan, index, kept) for index, kept in enumerate(batch)]
        await _in_parallel(MAX_PARALLEL_LOOKUPS, lookups)
        stores = [partial(self._store, plan, contact, records) for contact, records in plan.to_store.items()]
        await _in_parallel(MAX_PARALLEL_STORES, stores)

    async def _plan(self, plan: _Round, index: int, kept: _Kept) -> None:
        """Plan what each node is to store for one item, and store our own copy."""
        item = kept.announcement
        if not kept.keepers:
            await self._look_up(kept)
        reach, others = self._own_reach(), kept.keepers
        plan.closest[index] = len(others) + kept.ours
        ways = {ipv6: reach and reach.seen_from(ipv6=ipv6) for ipv6 in (False, True)}
        signed = {ipv6: self._sign(item, way) for ipv6, way in ways.items() if way is not None}
        if kept.ours and self._store_own is not None and signed:
            plan.own[index] = self._store_own(next(iter(signed.values()))) is StoreStatus.STORED
        for contact in others:
            record = signed.get(contact.address.is_ipv6)
            if record is not None:
                plan.to_store[contact].append((index, record.encoded))

    async def _look_up(self, kept: _Kept) -> None:
        """Find the nodes that are to keep an item."""
        self._choose_keepers(kept, await self._find_closest(kept.announcement.key))
        kept.rounds = 0

    def _choose_keepers(self, kept: _Kept, closest: Sequence[Contact]) -> None:
        """Let the K nodes nearest to the key keep an item; this node may be one of them."""
        own_place = distance(self._identity.node_id, kept.announcement.key)
        nearer = sum(distance(contact.node_id, kept.announcement.key) < own_place for contact in closest)
        kept.ours = self._store_own is not None and self._serves() and nearer < K
        kept.keepers = tuple(closest[: K - 1] if kept.ours else closest[:K])

    def _sign(self, item: Announcement, reach: Reach) -> Record:
        """Sign a record that names these ways. A node accepts no other direct address than that at which it sees us."""
        now = self._wall()
        self._sequence = max(self._sequence + 1, int(now * 1000))
        return Record.sign(
            self._identity,
            self._params,
            kind=item.kind,
            key=item.key,
            sequence=self._sequence,
            issued=max(int(now), 0),
            lifetime_s=item.lifetime_s,
            payload=provider_payload(reach, item.payload),
        )

    async def _store(self, plan: _Round, contact: Contact, records: list[tuple[int, bytes]]) -> None:
        """Have one node store its records.

        One request to a node is under way at a time. What other announcements have for it meanwhile waits, and then
        shares datagrams: so many small files cost each node few datagrams, and a single one does not wait.
        """
        parcel = _Parcel(plan, records)
        waiting = self._outboxes.get(contact)
        if waiting is None:
            waiting = self._outboxes[contact] = []
            self._nursery().start_soon(self._empty, contact, waiting)
        waiting.append(parcel)
        await parcel.over.wait()

    async def _empty(self, contact: Contact, waiting: "list[_Parcel]") -> None:
        """Send one node all that waits for it. When it does not answer, nothing that waits is sent."""
        try:
            while waiting:
                await self._store_some(contact, waiting)
        finally:
            del self._outboxes[contact]
            for parcel in waiting:
                parcel.over.set()

    async def _store_some(self, contact: Contact, waiting: "list[_Parcel]") -> None:
        """Fill one datagram, in order. Those that are served whole leave the list; all, if nobody answers."""
        due = [(parcel, *record) for parcel in waiting[:MAX_STORES] for record in parcel.records[:MAX_STORES]]
        due = due[: stores_within([encoded for _, _, encoded in due])]
        try:
            answer = await self._ask(contact, Store(tuple(encoded for _, _, encoded in due)))
        except QueryError:
            _close(waiting, waiting[:])
            return
        assert isinstance(answer.reply, Stored), "the caller matches the kinds of request and reply"
        statuses = iter(answer.reply.statuses)
        for parcel, index, _ in due:
            parcel.plan.note(index, contact, next(statuses, StoreStatus.INVALID))
            parcel.records = parcel.records[1:]
        _close(waiting, [parcel for parcel in waiting if not parcel.records])

    # -- keeping alive ---------------------------------------------------------------------------------

    def keep(self, items: Sequence[Announcement], *, announced: bool = False) -> None:
        """Announce these about every 30 hours from now on. An item replaces the one kept under the same kind and key.

        The first time is now, unless the caller has just announced them (`announced`) or nothing changed. Raises
        RecordTooLargeError or ValueError, see `Announcement.check`.
        """
        now = trio.current_time()
        for item in items:
            item.check()
            place = (item.kind, item.key)
            held = self._kept.get(place)
            if held is not None and held.announcement == item and not announced:
                continue
            due = now + self._interval() if announced else now
            kept = _Kept(item, due, reach=self._own_reach() if announced else None)
            before = (self._lately.pop(place, None) if announced else None) or held
            if before is not None:
                kept.keepers, kept.ours, kept.rounds = before.keepers, before.ours, before.rounds
                kept.reach = kept.reach or before.reach
            self._kept[place] = kept
            if not announced:
                self._keep_own_copy(kept)
        self._changed.set()

    def _keep_own_copy(self, kept: _Kept) -> None:
        """Store it here, so that peers which ask us find it at once, even before we know any other node."""
        reach = self._own_reach()
        if self._store_own is not None and reach is not None:
            way = reach.seen_from(ipv6=reach.where.is_ipv6)
            self._store_own(self._sign(kept.announcement, way or reach))

    def keeps(self, key: RecordKey, kind: int = RecordKind.PROVIDER) -> bool:
        """Whether something is kept announced under a key."""
        return (kind, key) in self._kept

    def stop(self, key: RecordKey, kind: int = RecordKind.PROVIDER) -> None:
        """Stop renewing it. Other nodes forget it within its lifetime."""
        self._kept.pop((kind, key), None)

    def on_tick(self) -> bool:
        """Check whether the ways to us have changed: what was announced with others is due now. Whether anything is."""
        reach, now = self._own_reach(), trio.current_time()
        moved = False
        for kept in self._kept.values():
            if kept.reach is not None and reach is not None and kept.reach != reach:
                kept.due = min(kept.due, now)
                self._changed.set()
                moved = True
        return moved

    async def run(self) -> None:
        """Renew what is due, until cancelled."""
        while True:
            self._changed = trio.Event()
            batch = self._due_batch(trio.current_time())
            if batch:
                await self._renew(batch)
                continue
            with trio.move_on_at(min((kept.due for kept in self._kept.values()), default=math.inf)):
                await self._changed.wait()

    def _due_batch(self, now: float) -> list[_Kept]:
        """Return what to announce now: when something is due, also what soon will be; else nothing."""
        soon = [kept for kept in self._kept.values() if kept.due <= now + GATHER_S]
        if not any(kept.due <= now for kept in soon):
            return []
        soon.sort(key=lambda kept: kept.due)
        return soon[:MAX_BATCH]

    async def _renew(self, batch: Sequence[_Kept]) -> None:
        """Announce a batch again on its keepers. Items that too few of these store go through a new lookup."""
        reach = self._own_reach()
        for kept in batch:
            kept.due = math.inf  # a change meanwhile makes a new entry, with a time of its own
            if kept.rounds >= LOOKUP_EVERY_ROUNDS or kept.reach != reach:
                kept.keepers, kept.rounds = (), 0
            if not kept.rounds and (closest := self._known_closest(kept.announcement.key)):
                self._choose_keepers(kept, closest)  # above all after a start, when a lookup each would be most of it
                kept.rounds = 1
        interval_s = self._interval()  # one for all, so that they stay together
        known = [kept for kept in batch if kept.keepers]
        unknown = [kept for kept in batch if not kept.keepers]
        unknown += await self._renew_some(known, interval_s)
        await self._renew_some(unknown, interval_s)

    async def _renew_some(self, batch: Sequence[_Kept], interval_s: float) -> list[_Kept]:
        """Announce and set the next time. Returns the items that too few keepers store; their keepers are forgotten."""
        reach = self._own_reach()
        plan = _Round()
        await self._announce(batch, plan)
        now = trio.current_time()
        scarce = []
        for kept, report in zip(batch, plan.reports(batch), strict=True):
            kept.reach = reach
            well_kept = report.is_well_kept and bool(kept.keepers)  # our own copy alone is found by nobody
            if not well_kept:
                kept.keepers = ()
                if kept.rounds:
                    scarce.append(kept)
                    continue
            kept.rounds += 1
            kept.failures = 0 if well_kept else kept.failures + 1
            retry_s = min(FIRST_RETRY_S * 2 ** (kept.failures - 1), MAX_RETRY_S)
            kept.due = now + (interval_s if well_kept else retry_s)
        return scarce

    def _interval(self) -> float:
        return REANNOUNCE_S * self._rng.uniform(1 - REANNOUNCE_JITTER, 1 + REANNOUNCE_JITTER)


def _close(waiting: list[_Parcel], over: list[_Parcel]) -> None:
    for parcel in over:
        waiting.remove(parcel)
        parcel.over.set()


async def _in_parallel(limit: int, jobs: Sequence[Callable[[], Awaitable[None]]]) -> None:
    limiter = trio.CapacityLimiter(limit)

    async def work(job: Callable[[], Awaitable[None]]) -> None:
        async with limiter:
            await job()

    async with trio.open_nursery() as nursery:
        for job in jobs:
            nursery.start_soon(work, job)
