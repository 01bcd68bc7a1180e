"""The way into the network: known addresses at once, names when they resolve, and whom to blame when nobody answers.

A name is looked up again as long as nobody is known: a machine that has just been started may have no name service yet,
and what a name stood for then may be gone.
"""

import math
import random
from collections.abc import Sequence

import trio

from shoal.dht import Address, AddressError, Contact, DhtService
from shoal.node.home.network import split_host_port
from shoal.node.nursery import open_nursery

RESOLVE_TIMEOUT_S = 5.0
FIRST_RETRY_S = 2.0
MAX_RETRY_S = 300.0  # a name service that comes back, or a name that has moved, is noticed within five minutes
NAME_AGE_S = 6 * 3600.0  # how old what a name stands for may be while all is well
OTHERS_GRACE_S = 0.5  # for the other doors, when one has opened: whoever is first may be a liar who knows liars only
# Names looked up at once, each by a thread that may hang long after we have given up. They are tried in any order.
MAX_LOOKUPS = 32
MAX_TOLD = 4  # doors named in a message


class NoWayInError(Exception):
    """There is nobody to ask: all that is known are names, and none could be found."""


class Joining:
    """Brings a node into its network through `doors` ("host:port"), the contacts of last time and `listed` ones."""

    def __init__(
        self, dht: DhtService, doors: Sequence[str], cached: Sequence[Contact], listed: Sequence[Contact] = ()
    ) -> None:
        self._dht = dht
        self._met = tuple(cached)
        self._cached = [*cached, *listed]
        self._addresses: list[Address] = []
        self._names: list[str] = []
        self._unresolved: dict[str, str] = {}  # with the system's reason
        self._begun = trio.current_time()
        self.patience_s = 0.0  # so long somebody may take to find us, or we them, where no door is known
        self.looked_in: list[str] = []  # where else than at doors, in words
        self._no_way_in = trio.Event()
        self._knocked = trio.Event()
        self._lookups = trio.CapacityLimiter(MAX_LOOKUPS)
        for door in dict.fromkeys(doors):
            try:
                self._addresses.append(Address.parse(door))
            except AddressError:
                self._names.append(door)
        # A door may be cached, too.
        self.doors = list(dict.fromkeys([*doors, *(str(each.address) for each in self._cached)]))

    @property
    def met(self) -> tuple[Contact, ...]:
        """The contacts of last time."""
        return self._met

    def look_in(self, place: str, patience_s: float) -> None:
        """Note that nodes are looked for elsewhere, and how long that may take."""
        self.looked_in.append(place)
        self.patience_s = max(self.patience_s, patience_s)

    async def run(self) -> None:
        """Knock wherever there is an address. The DHT goes on trying those by itself."""
        async with open_nursery() as nursery:
            for name in random.sample(self._names, len(self._names)):
                nursery.start_soon(self._join_by_name, nursery, name)
            if self._addresses or self._cached:
                await self._dht.bootstrap(self._addresses, self._cached, on_knocked=self._knocked.set)

    async def wait_joined(self, timeout_s: float, *, patient: bool) -> None:
        """Wait for the first peer, and a moment for those at the other doors. What they know of others a lookup learns.

        `NobodyAnsweredError`; unless `patient`, also `NoWayInError` as soon as that is clear, and nobody is found
        elsewhere.
        """
        async with open_nursery() as nursery:
            if not patient:
                nursery.start_soon(self._refuse)
            await self._dht.wait_joined(timeout_s)
            nursery.cancel_scope.cancel()
        if len(self._addresses) + len(self._cached) > 1:
            with trio.move_on_after(OTHERS_GRACE_S):
                await self._knocked.wait()

    def told(self) -> str:
        """The doors, for a message: `2 tried: a:1, b:2`, and which names could not be found."""
        shown = ", ".join(self.doors[:MAX_TOLD]) + (", …" if len(self.doors) > MAX_TOLD else "")
        lost = f"; not found: {', '.join(self._unresolved)}" if self._unresolved else ""
        return f"{len(self.doors)} tried: {shown}{lost}"

    async def _refuse(self) -> None:
        await self._no_way_in.wait()
        await trio.sleep_until(self._begun + self.patience_s)  # somebody may be found elsewhere
        raise NoWayInError("; ".join(f"{name} ({reason})" for name, reason in self._unresolved.items()))

    async def _join_by_name(self, nursery: trio.Nursery, name: str) -> None:
        """Knock at every address that the name stands for, now and later. Until cancelled."""
        knocked: set[Address] = set()
        retry_s, looked_up_at = FIRST_RETRY_S, -math.inf
        while True:
            if not self._dht.statistics().contacts or trio.current_time() - looked_up_at > NAME_AGE_S:
                found = set(await self._resolve(name))
                looked_up_at = trio.current_time()
                if found - knocked:
                    retry_s = FIRST_RETRY_S
                    nursery.start_soon(self._dht.bootstrap, sorted(found - knocked), ())
                knocked = found or knocked
            await trio.sleep(retry_s)
            retry_s = min(2 * retry_s, MAX_RETRY_S)

    async def _resolve(self, name: str) -> list[Address]:
        """All addresses of a name; none, and the reason noted, where it is not found."""
        host, port = split_host_port(name)
        reason = "no answer from the name service"
        async with self._lookups:
            with trio.move_on_after(RESOLVE_TIMEOUT_S):
                try:
                    found = await trio.socket.getaddrinfo(host, port, type=trio.socket.SOCK_DGRAM)
                    self._unresolved.pop(name, None)
                    self._no_way_in = trio.Event()
                    return [Address.of(str(entry[4][0]), port) for entry in found]
                except OSError as error:
                    reason = error.strerror or str(error)
                except (AddressError, UnicodeError):
                    reason = "no such name can exist"
        self._unresolved[name] = reason
        if not (self._addresses or self._cached) and len(self._unresolved) == len(self._names):
            self._no_way_in.set()
        return []
