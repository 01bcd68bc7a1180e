"""Where others reach this node. What it knows by itself comes before what strangers say."""

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Protocol

import trio

from shoal.dht.address import Address
from shoal.dht.params import NetworkParameters
from shoal.dht.transport import DatagramNetwork
from shoal.values import dataclass

INTERFACE_CHECK_S = 60.0  # how long the system's answer is used


class AddressSource(Enum):
    """How a node knows its own address, the most trusted first."""

    ADVERTISED = "advertised"  # the user said so
    BOUND = "bound"  # a socket is bound to it
    INTERFACE = "interface"  # it is a public address of this machine
    MAPPED = "mapped"  # a router says that it leads here, and most peers see us at its host
    OBSERVED = "observed"  # most peers see it


@dataclass(frozen=True, slots=True)
class OwnAddress:
    """An address of this node, and how it knows it."""

    address: Address
    source: AddressSource


class Belief(Protocol):
    """Which of its own addresses a node believes, and so names to others."""

    def believes(self, own: OwnAddress) -> bool:
        """Whether strangers can reach us there."""
        ...

    def is_open(self, *, ipv6: bool) -> bool:
        """Whether peers of a family may take us for a node that serves: then they put us into their tables."""
        ...

    def changed(self) -> None:
        """What peers see, or what the machine says, may be something else now."""
        ...


class Credulous:
    """Believes everything."""

    def believes(self, own: OwnAddress) -> bool:
        """Yes."""
        return True

    def is_open(self, *, ipv6: bool) -> bool:
        """Yes."""
        return True

    def changed(self) -> None:
        """That changes nothing."""


class OwnAddresses:
    """Finds at most one address per family, IPv4 first.

    belief: only what it believes is named to others.
    listening: where the sockets are bound now.    observed: what most peers see in a family (True: IPv6).
    mapped: the outer address of a port that a router has opened for us.
    """

    def __init__(
        self,
        params: NetworkParameters,
        network: DatagramNetwork,
        advertised: Sequence[Address],
        listening: Callable[[], tuple[Address, ...]],
        observed: Callable[[bool], Address | None],
        mapped: Callable[[], Address | None] = lambda: None,
    ) -> None:
        self._params = params
        self._network = network
        self._advertised = tuple(advertised)
        self._listening = listening
        self._observed = observed
        self._mapped = mapped
        self.belief: Belief = Credulous()
        self._interfaces: dict[bool, str | None] = {}
        self._checked_at = float("-inf")
        self._found: tuple[OwnAddress, ...] = ()
        self._of_family: dict[bool, list[OwnAddress]] = {False: [], True: []}
        self._found_by: object = None

    def current(self) -> tuple[OwnAddress, ...]:
        """What is known now, and believed."""
        self._find()
        return self._found

    def candidates(self, *, ipv6: bool) -> list[OwnAddress]:
        """What may be our address in a family, believed or not, the most trusted first."""
        self._find()
        return self._of_family[ipv6]

    def _find(self) -> None:
        families = (False, True)
        self._check_interfaces()
        seen = (self._observed(family) for family in families)
        known = (self._listening(), *self._interfaces.values(), self._mapped(), *seen)
        if self._found_by != known:
            self._of_family = {family: self._candidates(ipv6=family) for family in families}
            best = (next(filter(self.belief.believes, self._of_family[family]), None) for family in families)
            self._found_by, self._found = known, tuple(each for each in best if each is not None)

    def _candidates(self, *, ipv6: bool) -> list[OwnAddress]:
        said = [each for each in self._advertised if each.is_ipv6 == ipv6]
        bound = [each for each in self._listening() if each.is_ipv6 == ipv6]
        candidates = [
            *(OwnAddress(each, AddressSource.ADVERTISED) for each in said),
            *(OwnAddress(each, AddressSource.BOUND) for each in bound),
            *self._of_interface(bound, ipv6=ipv6),
        ]
        seen = self._observed(ipv6)
        if seen is not None and not all(each.is_loopback for each in bound):
            mapped = self._mapped()
            if mapped is not None and mapped.host == seen.host:  # else the router lies, or stands behind another one
                candidates.append(OwnAddress(mapped, AddressSource.MAPPED))
            candidates.append(OwnAddress(seen, AddressSource.OBSERVED))
        return [each for each in candidates if self._params.allows(each.address)]

    def _of_interface(self, bound: Sequence[Address], *, ipv6: bool) -> list[OwnAddress]:
        """In a public network: the machine's public address, with the port of a socket that listens on all of them."""
        host = self._interfaces.get(ipv6)
        ports = [each.port for each in bound if each.is_wildcard]
        if self._params.private or host is None or not ports:
            return []
        return [OwnAddress(Address.of(host, ports[0]), AddressSource.INTERFACE)]

    def forget(self) -> None:
        """Other addresses are believed now: find them anew."""
        self._found_by = None

    def look_again(self) -> None:
        """The machine may have another address: ask the system again."""
        self._checked_at = float("-inf")

    def _check_interfaces(self) -> None:
        now = trio.current_time()
        if self._params.private or now - self._checked_at < INTERFACE_CHECK_S:
            return
        self._checked_at = now
        self._interfaces = {family: self._network.local_host(ipv6=family) for family in (False, True)}
