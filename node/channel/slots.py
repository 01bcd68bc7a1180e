"""Which connections a server keeps when more come than it can hold. Pure: the caller gives the time.

A connection is a newcomer until it asks for something or proves who it is; then it is settled. Each kind has a table
of its own. A full table gives up the connection that does least, of the place that holds most (see `places`). So peers
that only connect shut nobody out, and one place cannot crowd out another.

The administrator is known by its proof alone, and has a table of its own. Until it has given the proof it is a newcomer
as any other, which a full table of settled connections does not concern.
"""

from collections.abc import Callable, Iterable

from shoal.dht import Address
from shoal.node.channel.places import Origin, heaviest

MAX_CONNECTIONS_COUNT = 512  # settled; at some 20 KiB of TLS state each, 10 MiB when full
MAX_NEWCOMERS_COUNT = 128  # an honest one is through in three round trips: at 0.3 s, 400 a second get through
MAX_ADMINISTRATORS_COUNT = 4  # commands that ask one node at once
STALE_S = 20.0  # a connection whose work neither begins nor ends anything for so long counts as one that does nothing


class Slot:
    """Leave to hold one connection, and what the server knows of its use. Made by `ConnectionSlots.take`."""

    __slots__ = ("_evict", "_slots", "in_work", "is_settled", "origin", "used_at")

    def __init__(self, slots: "ConnectionSlots", origin: Origin, now: float, evict: Callable[[], None]) -> None:
        self._slots = slots
        self._evict = evict
        self.origin = origin
        self.in_work = 0  # requests
        self.used_at = now  # when one last began or ended
        self.is_settled = False

    def begin(self, now: float) -> None:
        """A request is in work from now on."""
        self.in_work += 1
        self.used_at = now

    def end(self, now: float) -> None:
        """A request is done with."""
        self.in_work -= 1
        self.used_at = now

    def is_at_work(self, now: float) -> bool:
        """Whether closing it now would break something off that gets on."""
        return self.in_work > 0 and now - self.used_at <= STALE_S

    def settle(self, now: float) -> bool:
        """Make it a settled connection; False when there is no room for one more from there."""
        return self._slots.settle(self, now)

    def promote(self) -> None:
        """The peer has proven to be the administrator."""
        self._slots.promote(self)

    def release(self) -> None:
        """Give the slot back. Doing so twice is fine."""
        self._slots.release(self)

    def evict(self) -> None:
        """Give the slot back and end the connection."""
        self.release()
        self._evict()


class ConnectionSlots:
    """All connections of a node: one object serves all its listeners."""

    def __init__(
        self,
        total: int = MAX_CONNECTIONS_COUNT,
        newcomers: int = MAX_NEWCOMERS_COUNT,
        *,
        private: bool = False,
        admits: Callable[[Address, float], bool] = lambda remote, now: True,
    ) -> None:
        """`private`: hosts are places, without caps of their own. `admits`: whether a handshake with a caller is still
        within what its place may have of this node's time.
        """
        self.total = total
        self.newcomers = newcomers
        self.private = private
        self._admits = admits
        self._newcomers: dict[Slot, None] = {}  # each oldest first
        self._settled: dict[Slot, None] = {}
        self._administrators: dict[Slot, None] = {}

    @property
    def count(self) -> int:
        """How many connections there are, of all kinds."""
        return len(self._newcomers) + len(self._settled) + len(self._administrators)

    def take(self, remote: Address, now: float, evict: Callable[[], None]) -> Slot | None:
        """A newcomer's slot. When all are taken, the oldest of the fullest place goes.

        None where the caller's place has had its share of this node's time. `evict` ends the connection. It is called
        when the slot is given to another.
        """
        if not self._admits(remote, now):
            return None
        slot = Slot(self, Origin.of(remote, private=self.private), now, evict)
        if len(self._newcomers) >= self.newcomers:
            crowd = heaviest([*self._newcomers, slot], _one)
            next(each for each in [*crowd, *self._newcomers] if each is not slot).evict()
        self._newcomers[slot] = None
        return slot

    def settle(self, slot: Slot, now: float) -> bool:
        """See `Slot.settle`."""
        if slot in self._newcomers:
            members, level = self._full_place(slot.origin)
            if members:
                victim = _victim(members, level, slot, now)
                if victim is None:
                    return False
                victim.evict()
            del self._newcomers[slot]
            self._settled[slot] = None
            slot.is_settled = True
        return slot.is_settled

    def promote(self, slot: Slot) -> None:
        """See `Slot.promote`."""
        self.release(slot)
        if len(self._administrators) >= MAX_ADMINISTRATORS_COUNT:
            min(self._administrators, key=_idleness).evict()
        self._administrators[slot] = None
        slot.is_settled = True

    def release(self, slot: Slot) -> None:
        """See `Slot.release`."""
        for table in (self._newcomers, self._settled, self._administrators):
            table.pop(slot, None)

    def _full_place(self, origin: Origin) -> tuple[list[Slot], int]:
        """The settled connections of the narrowest place of `origin` that is full, and the level inside it.

        None, where another connection fits in.
        """
        for level in reversed(range(len(origin.places))):
            most, place = origin.bounds[level].connections, origin.places[level]
            if most is not None:
                members = [each for each in self._settled if each.origin.places[level] == place]
                if len(members) >= most:
                    return members, level + 1
        return (list(self._settled), 0) if len(self._settled) >= self.total else ([], 0)


def _victim(members: Iterable[Slot], level: int, newcomer: Slot, now: float) -> Slot | None:
    """Which of the members gives way to the newcomer. One at work does so only for a place that holds less."""
    crowd = heaviest([*members, newcomer], _one, level)
    idlest = min((each for each in crowd if each is not newcomer), key=_idleness, default=None)
    if idlest is not None and idlest.is_at_work(now) and newcomer in crowd:
        return None
    return idlest


def _idleness(slot: Slot) -> tuple[bool, float]:
    return slot.in_work > 0, slot.used_at


def _one(slot: Slot) -> int:
    return 1
