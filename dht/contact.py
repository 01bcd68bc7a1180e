"""A contact: an id and the address it answers at."""

from dataclasses import field
from functools import lru_cache
from typing import TYPE_CHECKING

from shoal.dht.address import PACKED_V4_BYTES, PACKED_V6_BYTES, Address
from shoal.dht.errors import ProtocolError
from shoal.dht.identity import NODE_ID_BYTES, NodeId
from shoal.values import dataclass

if TYPE_CHECKING:
    from shoal.dht.reach import Reach

MAX_SPACE_CLASS = 63  # 2**63 bytes and more; keeps the class one byte on the wire

CONTACT_BYTES = (NODE_ID_BYTES + PACKED_V4_BYTES, NODE_ID_BYTES + PACKED_V6_BYTES)  # lengths of the wire form

_CACHE_ENTRIES = 4_096  # a lookup hears of the same contacts from many sides; bounds what strangers can fill


@dataclass(frozen=True, slots=True)
class Contact:
    """A node of the network as others speak of it.

    space: what the peer says of its free disk. None: unknown; 0: it accepts nothing; else floor(log2(bytes)). It plays
    no part in equality: the same node with more room is the same node.
    ways: all ways to it, where there are others than this address (`reach_of`). A node behind relays has the address of
    its first relay here, the place that it counts for. The DHT knows only contacts without them.
    """

    node_id: NodeId
    address: Address
    space: int | None = field(default=None, compare=False)
    ways: "Reach | None" = field(default=None, compare=False)

    @property
    def is_relayed(self) -> bool:
        """Whether only relays lead to it: no datagram can be sent to it, and nothing dials it directly."""
        return self.ways is not None and self.ways.is_relayed

    def __hash__(self) -> int:
        """Hash the id alone. Contacts are looked up more often than anything else, and bytes keep their hash."""
        return hash(self.node_id)

    @property
    def packed_bytes(self) -> int:
        """The length of `pack()`."""
        return CONTACT_BYTES[self.address.is_ipv6]

    def pack(self) -> bytes:
        """The wire form: id (32 bytes) ‖ packed address (6 or 18 bytes), without the space class."""
        return self.node_id + self.address.pack()

    @classmethod
    def unpack(cls, data: bytes) -> "Contact":
        """Read what `pack` wrote. Raises ProtocolError when the bytes are no contact."""
        return _unpacked(data)


@lru_cache(maxsize=_CACHE_ENTRIES)
def _unpacked(data: bytes) -> Contact:
    if len(data) not in CONTACT_BYTES:
        raise ProtocolError(f"a packed contact has {CONTACT_BYTES[0]} or {CONTACT_BYTES[1]} bytes, not {len(data)}")
    return Contact(NodeId(data[:NODE_ID_BYTES]), Address.unpack(data[NODE_ID_BYTES:]))


def space_class(free_bytes: int) -> int:
    """The class that stands for `free_bytes` of disk offered to others: 0 for none, else floor(log2)."""
    return min(max(free_bytes, 0).bit_length() - 1, MAX_SPACE_CLASS) if free_bytes > 1 else 0
