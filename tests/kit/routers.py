"""A home router on a virtual clock: it grants, forgets, changes its address, falls silent and refuses."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import trio

from shoal.dht import Address
from shoal.node.router import OpenedPort, Router, RouterError, RouterProtocol, RouterRefused

ANSWER_S = 0.1
SILENCE_S = 2.0  # until a question to a router that is away is given up


@dataclass
class VirtualRouter:
    """Behaves as `Router`; what happens to it is set from outside."""

    protocol: RouterProtocol = RouterProtocol.NAT_PMP
    host: str = "192.168.1.1"
    outside: str = "5.5.5.1"
    lease_s: int = 3600
    is_away: bool = False
    refuses: bool = False
    open: dict[int, int] = field(default_factory=dict)  # outer port: inner port
    opened: list[float] = field(default_factory=list)  # when it was asked to open one
    looked: list[float] = field(default_factory=list)
    taken: set[int] = field(default_factory=set)
    answer_s: float = ANSWER_S

    async def open_port(self, inner: int, outer: int) -> OpenedPort:
        """See Router."""
        await self._answer()
        self.opened.append(trio.current_time())
        if self.refuses:
            raise RouterRefused("port mapping is switched off in it")
        while outer in self.taken:
            outer += 1
        self.open[outer] = inner
        return OpenedPort(Address(self.outside, outer), self.lease_s)

    async def look(self, inner: int, grant: OpenedPort) -> OpenedPort | None:
        """See Router."""
        await self._answer()
        self.looked.append(trio.current_time())
        if self.open.get(grant.external.port) != inner:
            return None
        return OpenedPort(Address(self.outside, grant.external.port), grant.lease_s)

    async def close_port(self, inner: int, grant: OpenedPort) -> None:
        """See Router."""
        await self._answer()
        self.open.pop(grant.external.port, None)

    async def _answer(self) -> None:
        await trio.sleep(SILENCE_S if self.is_away else self.answer_s)
        if self.is_away:
            raise RouterError("it does not answer")


@dataclass
class VirtualHome:
    """Behaves as `RouterNetwork`."""

    routers: list[VirtualRouter] = field(default_factory=list)
    searches: list[float] = field(default_factory=list)
    local_hosts: set[str | None] = field(default_factory=set)

    async def find(self, protocol: RouterProtocol, local_host: str | None) -> Sequence[Router]:
        """See RouterNetwork."""
        await trio.lowlevel.checkpoint()
        self.local_hosts.add(local_host)
        if protocol is RouterProtocol.PCP:
            self.searches.append(trio.current_time())
        return [each for each in self.routers if each.protocol is protocol]
