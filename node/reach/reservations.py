"""For whom a relay rings, and the circuits that are being set up. Pure: the caller gives the time.

A reservation lasts while its node asks for callers, and a few seconds beyond. So nothing has to be renewed or given
back, and a node that is gone is forgotten at once.
"""

import random
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import field

import trio

from shoal.dht import Address, NodeId
from shoal.node.channel import RawStream
from shoal.values import dataclass

MAX_RESERVATIONS = 128  # each an idle connection: 20 KiB of TLS state, and a question every 15 s
MAX_OF_PLACE = 8  # a /24 or /48; many nodes of one place are one operator's, and count as one host all the same
GRACE_S = 5.0  # between two questions of one node: a slow round trip, or a new connection
MAX_WAITING_RINGS = 16  # at one node; it takes them up within one round trip
MAX_RINGS = 1_024  # being set up
MAX_RINGS_OF_PLACE = 64
RING_S = 8.0  # from the ring to the holder's connection: a punch of 1.5 s, a connection of 5 s, a round trip


@dataclass(eq=False)
class PendingCircuit:
    """A circuit that is being set up.

    `came` is set when the holder has come, with `holder`, its stream. `over` is set when nobody uses that any more.
    """

    token: bytes
    reservation: "Reservation"
    place: bytes  # of the caller
    ends_at: float
    is_rung: bool = False
    holder: RawStream | None = None
    came: trio.Event = field(default_factory=trio.Event)
    over: trio.Event = field(default_factory=trio.Event)


@dataclass(eq=False)
class Reservation:
    """A node for which this relay rings, and where it was seen."""

    node_id: NodeId
    remote: Address
    place: bytes
    space: int
    until: float  # without another question
    asking: int = 0  # questions that are under way
    rings: deque[tuple[bytes, Address | None]] = field(default_factory=deque)  # token, and the caller for a punch
    changed: trio.Event = field(default_factory=trio.Event)

    def ring(self, token: bytes, caller: Address | None) -> bool:
        """Tell the node of a caller; False when too many wait already."""
        if len(self.rings) >= MAX_WAITING_RINGS:
            return False
        self.rings.append((token, caller))
        self.changed.set()
        return True

    async def next_ring(self) -> tuple[bytes, Address | None]:
        """The next caller, once there is one."""
        while not self.rings:
            self.changed = trio.Event()
            await self.changed.wait()
        return self.rings.popleft()


class Reservations:
    """All reservations at a relay, and the circuits that are being set up."""

    def __init__(self, *, private: bool, entropy: Callable[[int], bytes], rng: random.Random) -> None:
        self._private = private
        self._entropy = entropy
        self._rng = rng
        self._by_id: dict[NodeId, Reservation] = {}
        self._pending: dict[bytes, PendingCircuit] = {}  # oldest first

    def __len__(self) -> int:
        return len(self._by_id)

    @property
    def rings_count(self) -> int:
        """How many circuits are being set up."""
        return len(self._pending)

    def ask(self, node_id: NodeId, remote: Address, space: int, now: float) -> Reservation | None:
        """A node asks for callers: make or renew its reservation, until `GRACE_S` after it has been answered.

        None when there is no room for one more, of that place or at all.
        """
        self._forget(now)
        place = remote.place(private=self._private)
        known = self._by_id.get(node_id)
        others = [each for each in self._by_id.values() if each is not known]
        if len(others) >= MAX_RESERVATIONS or sum(each.place == place for each in others) >= MAX_OF_PLACE:
            return None
        if known is None:
            known = self._by_id[node_id] = Reservation(node_id, remote, place, space, 0.0)
        known.remote, known.place, known.space = remote, place, space
        known.asking += 1
        return known

    def answered(self, reservation: Reservation, now: float) -> None:
        """A question has been answered, or its connection is gone."""
        reservation.asking -= 1
        reservation.until = now + GRACE_S

    def find(self, node_id: NodeId, now: float) -> Reservation | None:
        """The reservation of a node, if it has one."""
        self._forget(now)
        return self._by_id.get(node_id)

    def some(self, count: int, now: float) -> list[Reservation]:
        """Some reservations, by chance."""
        self._forget(now)
        return self._rng.sample(list(self._by_id.values()), min(count, len(self._by_id)))

    def begin(self, reservation: Reservation, caller: Address, now: float) -> PendingCircuit | None:
        """Begin to set a circuit up; None when too many are under way, of the caller's place or at all."""
        self._forget(now)
        place = caller.place(private=self._private)
        of_place = Counter(each.place for each in self._pending.values())[place]
        if len(self._pending) >= MAX_RINGS or of_place >= MAX_RINGS_OF_PLACE:
            return None
        pending = PendingCircuit(self._entropy(16), reservation, place, now + RING_S)
        self._pending[pending.token] = pending
        return pending

    def pending(self, token: bytes, now: float) -> PendingCircuit | None:
        """The circuit with that token that is being set up."""
        self._forget(now)
        return self._pending.get(token)

    def settle(self, pending: PendingCircuit) -> None:
        """A circuit is set up, or given up."""
        self._pending.pop(pending.token, None)

    def _forget(self, now: float) -> None:
        for node_id in [node_id for node_id, each in self._by_id.items() if not each.asking and each.until <= now]:
            del self._by_id[node_id]
        for token, pending in list(self._pending.items()):
            if pending.ends_at > now:
                break
            del self._pending[token]
