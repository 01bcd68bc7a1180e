"""Contacts that fell silent, and whether so many did at once that the network was cut in two, or our own line was."""

from collections import OrderedDict

from shoal.dht.contact import Contact
from shoal.dht.identity import NodeId

MAX_LOST = 256  # contacts remembered; those lost first are forgotten first
BURST_S = 600.0  # losses within so long are one event
# One part in so many of those known before. The smaller side of any cut loses at least half, so it always sees it.
SEVERED_PART = 4
FEWEST_LOST = 2  # one silent contact has gone by itself, unless it was the only one
SOUGHT_FOR_S = 7 * 86_400.0  # after that they are gone


class LostContacts:
    """Pure; `now` is monotonic seconds."""

    def __init__(self) -> None:
        self._lost: OrderedDict[NodeId, tuple[Contact, float]] = OrderedDict()
        self._severed_until = float("-inf")
        self._severed_at = float("-inf")

    def __len__(self) -> int:
        return len(self._lost)

    def lost(self, contact: Contact, known: int, now: float) -> None:
        """A contact has left the table by silence. `known`: how many are left there."""
        self._lost.pop(contact.node_id, None)
        self._lost[contact.node_id] = (contact, now)
        while len(self._lost) > MAX_LOST:
            self._lost.popitem(last=False)
        gone = sum(now - at <= BURST_S for _, at in self._lost.values())
        if SEVERED_PART * gone >= known + gone and (gone >= FEWEST_LOST or not known):
            self._severed_at, self._severed_until = now, now + SOUGHT_FOR_S

    def found(self, node_id: NodeId) -> bool:
        """A peer has answered. Whether it was one of the lost."""
        return self._lost.pop(node_id, None) is not None

    def is_severed(self, now: float) -> bool:
        """Whether the lost are to be sought: many fell silent at once."""
        return now < self._severed_until and bool(self._lost)

    def severed_for_s(self, now: float) -> float:
        """How long ago many fell silent at once."""
        return now - self._severed_at

    def contacts(self) -> list[Contact]:
        """Those that are still lost."""
        return [contact for contact, _ in self._lost.values()]

    def give_up(self) -> None:
        """Those that are silent now, after others came back, have gone by themselves."""
        self._severed_until = float("-inf")
