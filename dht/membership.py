"""Getting into the network and staying in it: bootstrap, settling in, probes, refresh, coming back."""

import math
from collections.abc import Awaitable, Callable, Collection, Sequence
from itertools import zip_longest
from random import Random
from typing import TypeVar

import trio

from shoal.dht.address import Address
from shoal.dht.contact import Contact
from shoal.dht.errors import NobodyAnsweredError, QueryError
from shoal.dht.identity import NODE_ID_BYTES, NodeId
from shoal.dht.routing import PROBE_SPACING_S, ContactTable

FIRST_RETRY_S = 0.5  # nodes started together wait for each other no longer than this
RETRY_GROWTH = 1.6
MAX_RETRY_S = 30.0  # a network that comes back is found within half a minute

# Once one door has opened, the others get this long: their inhabitants are found by lookup anyway.
OTHERS_GRACE_S = 0.3
MAX_PARALLEL_PINGS = 384  # of the requests under way some are left for others (`rpc.MAX_PENDING`)
# Pings begun: these at once, then so many a second. Each is at most three datagrams of 192 bytes. So a long list of
# dead doors costs 74 kB/s for ten seconds. The last of 1,000 doors and 200 cached contacts is tried after nine.
PINGS_AT_ONCE = 32
PINGS_PER_S = 128.0

# A network whose nodes start all at once keeps growing in the first moments, so look around again.
SETTLING_S = (0.5, 3.0, 12.0)
SETTLED_COUNT = 20  # with fewer contacts than a lookup asks for, it may just be too early
LARGE_COUNT = 40  # a network in which so many are met at once is not just starting: it comes to know us by itself

# how often probes and refresh are considered at least; silence of a peer is followed up at once
UPKEEP_S = 7200.0
# A bucket in which nobody searched for so long is refreshed. A week is enough: lookups of files refresh most buckets,
# and contacts are probed besides.
REFRESH_AGE_S = 7 * 24 * 3600.0
# how often one bootstrap address is asked although all is well: it joins halves that do not know that they are severed
REUNION_S = 3 * 3600.0
FOLLOW_UP_S = PROBE_SPACING_S + 0.5  # after a silence the table names the silent for probing from 5 s on
MAX_DOORS = 1_000  # bootstrap addresses remembered
MAX_CACHED = 256  # contacts of last time remembered beside them

T = TypeVar("T")

Ping = Callable[[Address, NodeId | None], Awaitable[Contact]]  # raises QueryError
LookUp = Callable[[bytes], Awaitable[object]]


class Membership:
    """Keeps the routing table alive through `ping` and `look_up`, which put what they learn into the
    table.

    introduce: as `ping`, until our address is proven there.
    serving: whether others are to find us; a client needs no more than somebody to ask.
    """

    def __init__(
        self,
        own_id: NodeId,
        table: ContactTable,
        ping: Ping,
        look_up: LookUp,
        rng: Random,
        *,
        introduce: Ping,
        serving: bool,
    ) -> None:
        self._own_id = own_id
        self._table = table
        self._ping = ping
        self._introduce = introduce
        self._look_up = look_up
        self._rng = rng
        self._serving = serving
        self._doors: dict[Address, None] = {}
        self._cached: dict[Address, NodeId] = {}
        self._trying: set[Address] = set()
        self._pace = _Pace()
        self._joined = trio.Event()
        self._wake_join = trio.Event()
        self._wake_upkeep = trio.Event()
        self._reunion_at = math.inf
        self._acquainted = trio.Event()  # with our neighbours, for the first time
        self._settled_with = -1  # the number of contacts when looking around last found no new one

    async def bootstrap(
        self, addresses: Sequence[Address], cached: Sequence[Contact], on_knocked: Callable[[], None]
    ) -> int:
        """Knock at all these doors, call `on_knocked`, and look around. Returns how many contacts the table has then.

        The doors are remembered: `run_join` goes on trying while the table is empty, now or later.
        """
        for address in addresses:
            self._doors[address] = None
        for contact in cached:
            self._cached[contact.address] = contact.node_id
        _cut(self._doors, MAX_DOORS, self._rng)
        _cut(self._cached, MAX_CACHED, self._rng)
        is_in = await self._knock({*addresses, *(contact.address for contact in cached)})
        on_knocked()
        if is_in:
            await self._look_around()
        self._wake_join.set()
        return len(self._table)

    async def wait_joined(self, timeout_s: float) -> None:
        """Return once there is a verified contact. Raises NobodyAnsweredError after `timeout_s` seconds."""
        with trio.move_on_after(timeout_s):
            await self._joined.wait()
        if not self._joined.is_set():
            tried = len(self.doors())
            raise NobodyAnsweredError(f"no peer answered within {timeout_s:g} s ({tried} addresses tried)")

    async def wait_acquainted(self) -> None:
        """Return once we have looked around for the first time, so that lookups find what there is to find."""
        await self._acquainted.wait()

    def on_contact(self) -> None:
        """Tell that the table has a contact."""
        if not self._joined.is_set():
            self._joined.set()
            self._wake_join.set()

    def on_silence(self) -> None:
        """Tell that a contact of the table did not answer."""
        self._wake_upkeep.set()
        if not len(self._table):
            if self._joined.is_set():
                self._joined = trio.Event()
            self._wake_join.set()

    def on_lost(self, contact: Contact) -> None:
        """Tell that a contact has left the table by silence: it is a way in, should all others go."""
        self._cached[contact.address] = contact.node_id
        _cut(self._cached, MAX_CACHED, self._rng)

    async def run_join(self) -> None:
        """Join whenever the table is empty, and settle in afterwards. Runs until cancelled."""
        retry_s = FIRST_RETRY_S
        while True:
            self._wake_join = trio.Event()
            if len(self._table):
                retry_s = FIRST_RETRY_S
                await self._settle()
                if len(self._table):
                    await self._wake_join.wait()
                continue
            doors = self.doors()
            if await self._knock(doors) and len(self._table):
                await self._look_around()
                continue
            with trio.move_on_after(retry_s * self._rng.uniform(0.75, 1.25) if doors else math.inf):
                await self._wake_join.wait()
            retry_s = min(retry_s * RETRY_GROWTH, MAX_RETRY_S)

    async def run_upkeep(self, on_tick: Callable[[], None]) -> None:
        """Probe the doubtful, refresh the idle, seek lost halves; call `on_tick` each time.

        Until cancelled.
        """
        self._reunion_at = trio.current_time() + REUNION_S * self._rng.uniform(0.5, 1.5)
        while True:
            with trio.move_on_after(UPKEEP_S * self._rng.uniform(0.8, 1.2)):
                await self._wake_upkeep.wait()
                self._wake_upkeep = trio.Event()  # before the pause: a contact that falls silent during it counts
                await trio.sleep(FOLLOW_UP_S)
            on_tick()
            due = self._table.due_for_probe(trio.current_time())
            await self._ping_all([(contact.address, contact.node_id) for contact in due])
            for target in self._table.stale_ranges(trio.current_time(), REFRESH_AGE_S, self._rng):
                await self._look_up(target)
            await self._seek_reunion()

    async def _settle(self) -> None:
        """Look around a few times while the network is still growing, that is while looking finds somebody new."""
        for pause_s in SETTLING_S:
            await trio.sleep(pause_s * self._rng.uniform(0.8, 1.2))
            if self._knows_enough() or len(self._table) == self._settled_with >= SETTLED_COUNT:
                break
            await self._look_around()
            self._acquainted.set()
        self._acquainted.set()
        if not (self._some_will_do() and self._knows_enough()):
            await self._look_up(self._rng.randbytes(NODE_ID_BYTES))  # once into the distance

    def _knows_enough(self) -> bool:
        """Whether the network is not just starting: many contacts were met at once, or enough for this node."""
        return len(self._table) >= (SETTLED_COUNT if self._some_will_do() else LARGE_COUNT)

    def _some_will_do(self) -> bool:
        """Whether few contacts will do: for a client, or for a node that knows many from last time."""
        return not self._serving or len(self.doors()) >= LARGE_COUNT

    async def _look_around(self) -> None:
        """Look for our neighbours, and note whether that found new ones."""
        known = len(self._table)
        await self._look_up(self._own_id)
        self._settled_with = known if len(self._table) == known else -1

    async def _seek_reunion(self) -> None:
        doors = self.doors()
        if not doors or trio.current_time() < self._reunion_at:
            return
        self._reunion_at = trio.current_time() + REUNION_S * self._rng.uniform(0.5, 1.5)
        known = set(self._table.contacts())
        try:
            met = await self._introduce(*self._rng.choice(list(doors.items())))
        except QueryError:
            return
        if met not in known:
            await self._look_around()

    def doors(self) -> dict[Address, NodeId | None]:
        """Whoever is at a door that was given to us will do; at the others it must be the contact of last time."""
        return {**self._cached, **self._doors}

    async def _knock(self, addresses: Collection[Address]) -> bool:
        """Ping the doors at these addresses, and go on soon after the first has opened. Returns whether one did.

        They come in any order, given ones and cached contacts by turns. Those that are being tried are left out.
        """
        given, cached = ([each for each in doors if each in addresses] for doors in (self._doors, self._cached))
        self._rng.shuffle(given)
        self._rng.shuffle(cached)
        doors = self.doors()
        mixed = (each for pair in zip_longest(given, cached) for each in pair if each is not None)
        due = [(each, doors[each]) for each in dict.fromkeys(mixed) if each not in self._trying]
        trying = {address for address, _ in due}
        self._trying |= trying
        opened = trio.Event()
        try:
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._cut_short, opened, scope)
                    await self._ping_all(due, opened)
                    nursery.cancel_scope.cancel()
        finally:
            self._trying -= trying
        return opened.is_set()

    async def _cut_short(self, opened: trio.Event, scope: trio.CancelScope) -> None:
        await opened.wait()
        scope.deadline = trio.current_time() + OTHERS_GRACE_S

    async def _ping_all(self, doors: Sequence[tuple[Address, NodeId | None]], opened: trio.Event | None = None) -> None:
        limiter = trio.CapacityLimiter(MAX_PARALLEL_PINGS)

        async def ping(address: Address, node_id: NodeId | None) -> None:
            async with limiter:
                try:
                    await self._ping(address, node_id)
                except QueryError:
                    return
                if opened is not None:
                    opened.set()

        async with trio.open_nursery() as nursery:
            for address, node_id in doors:
                await self._pace.turn()
                nursery.start_soon(ping, address, node_id)


class _Pace:
    """So many turns at once, then so many a second, whoever takes them."""

    def __init__(self) -> None:
        self._next_at = -math.inf

    async def turn(self) -> None:
        now = trio.current_time()
        self._next_at = max(self._next_at, now - PINGS_AT_ONCE / PINGS_PER_S) + 1 / PINGS_PER_S
        if self._next_at > now:
            await trio.sleep(self._next_at - now)


def _cut(doors: dict[Address, T], most: int, rng: Random) -> None:
    """Forget any doors beyond so many: none is better for its place in a list."""
    for surplus in rng.sample(list(doors), max(0, len(doors) - most)):
        del doors[surplus]
