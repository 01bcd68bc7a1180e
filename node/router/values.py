"""What a home router is asked for, and what it answers, whatever protocol it speaks."""

from collections.abc import Sequence
from enum import Enum
from typing import Protocol

from shoal.dht import Address, AddressError
from shoal.values import dataclass

LEASE_S = 3600  # asked for; a node that was killed leaves its port open for so long
LEAST_LEASE_S = 120  # a router that grants less would be asked all the time (RFC 6887 names the same floor)
PORT_TRIES = 4  # outer ports that a router is asked for before we do without


class RouterProtocol(Enum):
    """How a router is spoken to, the most trusted first: the first two ask the default gateway alone."""

    PCP = "PCP"
    NAT_PMP = "NAT-PMP"
    UPNP = "UPnP"


class RouterError(Exception):
    """A router gave no answer in time, or one that is none. `str()` is for people."""


class RouterRefused(RouterError):
    """A router understood and said no."""


class OtherVersion(RouterRefused):
    """A router speaks another version of the protocol."""


@dataclass(frozen=True, slots=True)
class OpenedPort:
    """An open port: what comes to `external`, UDP and TCP, reaches us. `lease_s`: for so long; 0 for until removed."""

    external: Address
    lease_s: int


def outside_address(host: str, port: int) -> Address:
    """The address outside that a router names.

    :raises RouterError: no IPv4 host can have it. Whether it is public, and ours, is not known by that.
    """
    try:
        address = Address.of(host, port)
    except AddressError as error:
        raise RouterError("it names an address outside that is none") from error
    if address.is_ipv6 or address.is_loopback or not address.is_usable:
        raise RouterError(f"it names {address} as its address outside, which cannot be")
    return address


class Router(Protocol):
    """One home router. Every call has a deadline of its own. What it says is not proven."""

    @property
    def protocol(self) -> RouterProtocol:
        """How it is spoken to."""
        ...

    @property
    def host(self) -> str:
        """Its address in the home."""
        ...

    async def open_port(self, inner: int, outer: int) -> OpenedPort:
        """Have UDP and TCP of one outer port come to our port `inner`: of `outer` if it is free. Also renews.

        :raises RouterRefused: it said no.
        :raises RouterError: it gave no valid answer.
        """
        ...

    async def look(self, inner: int, grant: OpenedPort) -> OpenedPort | None:
        """The port as it is now, whose outer address may have changed. None when the router has forgotten it.

        :raises RouterError: it gave no valid answer.
        """
        ...

    async def close_port(self, inner: int, grant: OpenedPort) -> None:
        """Take it back.

        :raises RouterError: it gave no valid answer.
        """
        ...


class RouterNetwork(Protocol):
    """Where routers come from."""

    async def find(self, protocol: RouterProtocol, local_host: str | None) -> Sequence[Router]:
        """The routers of this home that may speak it, the best first, within seconds. `local_host`: the one address of
        this machine to ask from, where the node listens on one alone. By IPv6 it has to be given, and only PCP is
        spoken.
        """
        ...
