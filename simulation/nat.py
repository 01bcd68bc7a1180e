"""What home routers let through, by kind. Pure.

A machine behind one calls anybody, and nobody calls it. Two that connect to each other at the same time meet where each
router names its machine by one port, whomever that calls.
"""

import random
from enum import Enum

from shoal.dht import Address

PUNCHABLE = 0.7  # of home routers: what large measurements of hole punching found
OPEN_S = 120.0  # since the last datagram out: so long a router lets answers in
HOME_HOST = "192.168.1.2"  # what a machine behind a router takes for its address
FIRST_OUTER_PORT = 20_000


class Nat(Enum):
    """A router, or two in a row: then the stricter one counts."""

    FULL_CONE = "full cone"  # one port for all, and lets in the datagrams of everybody; connections of nobody
    RESTRICTED = "port restricted"  # one port for all, and lets in those that were called
    SYMMETRIC = "symmetric"  # a port for each that is called, so nobody can tell another where to knock


def drawn(rng: random.Random, share: float) -> Nat | None:
    """The router of a machine, where such a share of all machines stands behind one; None for no router."""
    if rng.random() >= share:
        return None
    return Nat.RESTRICTED if rng.random() < PUNCHABLE else Nat.SYMMETRIC


def can_punch(one: Nat | None, other: Nat | None) -> bool:
    """Whether two that connect to each other at the same time meet; None for a machine behind no router."""
    return Nat.SYMMETRIC not in (one, other)


class Routers:
    """What all home routers of a world do with datagrams. Pure; `now` is seconds of its clock."""

    def __init__(self) -> None:
        self.kinds: dict[str, Nat] = {}  # by the host that others see
        self._sent: dict[tuple[Address, Address | None], float] = {}  # from where, to where; None: to anybody
        self._outer: dict[tuple[Address, Address], Address] = {}  # of symmetric ones, what the one called sees
        self._inner: dict[tuple[Address, Address], Address] = {}  # and back: by that, and by the one called

    def send(self, source: Address, destination: Address, now: float) -> Address:
        """A datagram goes out. Where the receiver sees it come from."""
        kind = self.kinds.get(source.host)
        if kind is None:
            return source
        self._sent[source, None if kind is Nat.FULL_CONE else destination] = now
        if kind is not Nat.SYMMETRIC:
            return source
        outer = self._outer.get((source, destination))
        if outer is None:
            outer = Address(source.host, FIRST_OUTER_PORT + len(self._outer) % 40_000)
            self._outer[source, destination] = outer
            self._inner[outer, destination] = source
        return outer

    def admit(self, source: Address, destination: Address, now: float) -> Address | None:
        """A datagram comes. Where it goes behind the router; None: nowhere."""
        kind = self.kinds.get(destination.host)
        if kind is None:
            return destination
        inner = self._inner.get((destination, source)) if kind is Nat.SYMMETRIC else destination
        if inner is None:
            return None
        sent_at = self._sent.get((inner, None if kind is Nat.FULL_CONE else source))
        return inner if sent_at is not None and now - sent_at < OPEN_S else None
