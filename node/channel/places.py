"""The places that connections come from, and which of them gives way when something runs short. Pure.

A place is an address prefix. In a public network places lie inside one another, so what is scarce is shared among the
widest first, then among those inside each. In a private network each address is one place, and a /48 of the internet's
holds many.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol, TypeVar

from shoal.dht import Address
from shoal.values import dataclass


class PlaceBound(NamedTuple):
    """What the peers of one place may have together.

    connections: at most so many; None where others set the bound.
    memory_part: of the memory that is free, in which their payloads must fit.
    """

    connections: int | None
    memory_part: float


PUBLIC_BOUNDS = (
    PlaceBound(None, 1.0),  # /16 or /32: a large provider; alone it gets half of the memory
    PlaceBound(64, 1 / 2),  # /24 or /48: a small network, or one customer of a large one; alone a third
    PlaceBound(32, 1 / 3),  # /56, what a household gets; alone a quarter
    PlaceBound(16, 1 / 4),  # IPv4 address or /64: some programs behind one address; alone a fifth
)
PRIVATE_BOUNDS = (
    PlaceBound(None, 1.0),  # a /48 of the internet's; for all others the same as the host. Alone it gets half
    PlaceBound(None, 1 / 2),  # an address: all nodes may be on one. Alone it gets a third of the memory
)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a peer is: its places, the widest first, and the bound of each."""

    places: tuple[bytes, ...]
    bounds: tuple[PlaceBound, ...]

    @classmethod
    def of(cls, address: Address, *, private: bool) -> "Origin":
        """The places of an address in a private or a public network."""
        host = address.pack()[:-2]
        if private:
            place = address.place(private=True)
            return cls((place if address.prefix() == place else host, host), PRIVATE_BOUNDS)
        site = host[:7] if address.is_ipv6 else host
        return cls((address.wide_prefix(), address.prefix(), site, address.host_key()), PUBLIC_BOUNDS)


class Placed(Protocol):
    """Anything that comes from somewhere."""

    @property
    def origin(self) -> Origin:
        """Where it comes from."""
        ...


P = TypeVar("P", bound=Placed)


def heaviest(members: Iterable[P], weigh: Callable[[P], int], level: int = 0) -> list[P]:
    """The members of the place that weighs most: of the widest ones, from `level` on, then of those inside it.

    Where several places weigh the same, the members of all of them.
    """
    crowd = list(members)
    levels = len(crowd[0].origin.places) if crowd else 0
    for each_level in range(level, levels):
        weights: Counter[bytes] = Counter()
        for member in crowd:
            weights[member.origin.places[each_level]] += weigh(member)
        most = max(weights.values())
        crowd = [member for member in crowd if weights[member.origin.places[each_level]] == most]
    return crowd
