"""How a node is reached: addresses at which it answers itself, and relays that ring it where it has none.

    reach = count u8 (1..4) ‖ count × (kind u8 ‖ length u8 ‖ body)
    kind 1, direct: packed address (6 or 18 bytes)      kind 2, relay: the relay's node id (32) ‖ its packed address

Statements, provider records and the hosts named in announcements carry it. Kinds are never used again for something
else. A reader passes over those it does not know.
"""

from functools import lru_cache

from shoal.dht.address import PACKED_V6_BYTES, Address
from shoal.dht.contact import Contact
from shoal.dht.errors import ProtocolError
from shoal.dht.identity import NODE_ID_BYTES, NodeId
from shoal.dht.params import NetworkParameters
from shoal.values import dataclass

MAX_WAYS = 4
MAX_DIRECT = 2  # one for each address family
MAX_RELAYS = 3
_DIRECT, _RELAY = 1, 2
_HEAD_BYTES = 2  # kind and length
# One IPv6 address and three relays, the most that a record of one family holds. Also the most that a reader takes.
MAX_REACH_BYTES = 1 + MAX_WAYS * _HEAD_BYTES + PACKED_V6_BYTES + MAX_RELAYS * (NODE_ID_BYTES + PACKED_V6_BYTES)
_CACHE_ENTRIES = 1_024  # a node's statements on many files are alike; bounds what strangers can fill


@dataclass(frozen=True, slots=True)
class Reach:
    """The ways to one node, those to be tried first in front. There is at least one, and four at most.

    direct: where it answers itself, at most one address of each family.
    relays: nodes that ring it, 3 at most, each with the address at which the relay answers.
    Raises ProtocolError for another number.
    """

    direct: tuple[Address, ...] = ()
    relays: tuple[Contact, ...] = ()

    def __post_init__(self) -> None:
        families = {address.is_ipv6 for address in self.direct}
        if len(families) != len(self.direct) or len(self.relays) > MAX_RELAYS:
            raise ProtocolError("two direct addresses of one family, or too many relays")
        if not 1 <= len(self.direct) + len(self.relays) <= MAX_WAYS:
            raise ProtocolError(f"a reach has 1 to {MAX_WAYS} ways")

    @classmethod
    def of(cls, address: Address) -> "Reach":
        """The reach of a node that answers at one address."""
        return cls((address,))

    @property
    def address(self) -> Address | None:
        """The first direct address; None where only relays lead to the node."""
        return self.direct[0] if self.direct else None

    @property
    def where(self) -> Address:
        """The place that the node counts for: its first direct address, or else that of its first relay.

        Nobody can check where a node behind a relay is.
        """
        return self.direct[0] if self.direct else self.relays[0].address

    @property
    def is_relayed(self) -> bool:
        """Whether only relays lead to the node."""
        return not self.direct

    def is_found_by(self, known: "Reach") -> bool:
        """Whether somebody that knows an earlier reach of the node finds it by that, now that it is this one.

        All its own addresses still hold; where it had none, one of its relays does.
        """
        if known.direct:
            return set(known.direct) <= set(self.direct)
        return not set(known.relays).isdisjoint(self.relays)

    def seen_from(self, *, ipv6: bool) -> "Reach | None":
        """What a record for peers of one family says: direct addresses of that family alone. None: no way is left."""
        direct = tuple(address for address in self.direct if address.is_ipv6 == ipv6)
        return Reach(direct, self.relays) if direct or self.relays else None

    def contact(self, node_id: NodeId, space: int | None = None) -> Contact:
        """The node as somebody to call."""
        plain = self.relays or len(self.direct) > 1
        return Contact(node_id, self.where, space, self if plain else None)

    def pack(self) -> bytes:
        """The wire form, at most `MAX_REACH_BYTES` long."""
        bodies = [(_DIRECT, address.pack()) for address in self.direct]
        bodies += [(_RELAY, relay.pack()) for relay in self.relays]
        return bytes([len(bodies)]) + b"".join(bytes([kind, len(body)]) + body for kind, body in bodies)

    @classmethod
    def unpack(cls, data: bytes) -> "Reach":
        """Read what `pack` wrote, and nothing behind it. Raises ProtocolError."""
        reach, rest = split_reach(data)
        if rest:
            raise ProtocolError("bytes behind a reach")
        return reach

    def allowed_in(self, params: NetworkParameters) -> bool:
        """Whether a node of this network may have these ways.

        Its addresses are allowed, and no relay is named twice. In a public network each relay is in another place.
        """
        every = (*self.direct, *(relay.address for relay in self.relays))
        places = {relay.node_id if params.private else relay.address.place(private=False) for relay in self.relays}
        return all(params.allows(address) for address in every) and len(places) == len(self.relays)


def reach_of(contact: Contact) -> Reach:
    """The ways to a contact."""
    return contact.ways or Reach.of(contact.address)


def split_reach(data: bytes) -> tuple[Reach, bytes]:
    """The reach at the beginning of `data`, and what follows it.

    Raises ProtocolError where there is none, or one whose ways are all of unknown kinds.
    """
    if not data or not 1 <= data[0] <= MAX_WAYS:
        raise ProtocolError(f"a reach has 1 to {MAX_WAYS} ways")
    end, direct, relays = 1, [], []
    for _ in range(data[0]):
        if len(data) < end + _HEAD_BYTES:
            raise ProtocolError("a reach is cut short")
        kind, begin = data[end], end + _HEAD_BYTES
        end = begin + data[end + 1]
        if len(data) < end or end > MAX_REACH_BYTES:
            raise ProtocolError("a reach is cut short, or too long")
        if kind == _DIRECT:
            direct.append(Address.unpack(data[begin:end]))
        elif kind == _RELAY:
            relays.append(Contact.unpack(data[begin:end]))
    return _reach(tuple(direct), tuple(relays)), data[end:]


@lru_cache(maxsize=_CACHE_ENTRIES)
def _reach(direct: tuple[Address, ...], relays: tuple[Contact, ...]) -> Reach:
    """The same value for the same ways, since a node says the same in all it signs."""
    return Reach(direct, relays)
