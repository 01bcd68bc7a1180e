"""A port of the home router that leads to this node: opened, watched, opened again, and closed at the end."""

import logging
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from enum import Enum

import trio

from shoal.dht import Address
from shoal.node.nursery import open_nursery
from shoal.node.router import (
    LEASE_S,
    OpenedPort,
    OtherVersion,
    Router,
    RouterError,
    RouterNetwork,
    RouterProtocol,
    RouterRefused,
)
from shoal.values import dataclass

log = logging.getLogger(__name__)

LOOK_S = 60.0  # between two looks at a port that is open
RENEW_PART = 2  # a lease is renewed when half of it is over
RETRY_S = 10.0  # first pause after a router fell silent, while its lease still runs; it doubles up to LOOK_S
SEARCH_S = 30.0  # first pause after no router opened a port; it doubles up to MAX_SEARCH_S
MAX_SEARCH_S = 600.0
ANSWER_S = 20.0  # for all that one router is asked at a time; an honest one takes a second
CLOSE_S = 1.5  # for taking the port back at the end; else its lease of an hour ends by itself


# A router may say each minute that the address outside is another one. Each change is told to the holders of all files
# here, so this many are told in half an hour; a later one waits until the first of them is so old.
CHANGES = 3
CHANGES_S = 1800.0


class MappingState(Enum):
    """How it stands with the port."""

    OFF = "off"  # the user wants none
    NOT_NEEDED = "not_needed"  # the node listens on this machine alone, or on a public address
    LOOKING = "looking"
    NO_ROUTER = "no_router"  # no router answers
    REFUSED = "refused"  # one answered, and opened no port
    MAPPED = "mapped"


@dataclass(frozen=True, slots=True)
class Mapping:
    """What is known of the port.

    :ivar protocol: how the router is spoken to, in words; empty where none answered.
    :ivar router: its address in the home.
    :ivar external: where the router says the port is. Not proven: see `OwnAddresses`.
    :ivar lease_s: for how long it was opened; 0 for until it is closed.
    :ivar reason: why there is none, in words that follow "the router: ".
    """

    state: MappingState
    protocol: str = ""
    router: str = ""
    external: Address | None = None
    lease_s: int | None = None
    reason: str = ""

    def as_plain(self) -> dict[str, str | int | None]:
        """For a status."""
        return {
            "state": self.state.value,
            "protocol": self.protocol,
            "router": self.router,
            "external": None if self.external is None else str(self.external),
            "lease_s": self.lease_s,
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True)
class _OpenPort:
    """A port that a router has opened. `seen_at`: when the router last said so."""

    router: Router
    inner: int
    grant: OpenedPort
    granted_at: float
    seen_at: float

    async def look(self, now: float) -> "_OpenPort | None":
        """The same port as it is now, renewed when half of its lease is over. None when the router has forgotten it.

        :raises RouterError: the router refuses, or gives no valid answer.
        """
        lease_s = self.grant.lease_s
        if lease_s and now >= self.granted_at + lease_s / RENEW_PART:
            grant = await self.router.open_port(self.inner, self.grant.external.port)
            return replace(self, grant=grant, granted_at=now, seen_at=now)
        found = await self.router.look(self.inner, self.grant)
        return None if found is None else replace(self, grant=found, seen_at=now)

    def is_over(self, now: float) -> bool:
        """Whether its lease has ended. A port without a lease counts as closed an hour after it was last seen."""
        return now >= (self.granted_at + self.grant.lease_s if self.grant.lease_s else self.seen_at + LEASE_S)

    def told(self) -> Mapping:
        """For people and programs."""
        grant, router = self.grant, self.router
        return Mapping(MappingState.MAPPED, router.protocol.value, router.host, grant.external, grant.lease_s)


class PortMapping:
    """Keeps a port open while `run` runs.

    routers: where they come from.    wanted: the listening address to which the port is to lead, None while none is
    needed.    on_change: told the outer address, None when there is none any more.    wait_for_change: returns when the
    machine may stand in another network.    look_s: see LOOK_S.
    """

    def __init__(
        self,
        routers: RouterNetwork,
        wanted: Callable[[], Address | None],
        on_change: Callable[[Address | None], None],
        wait_for_change: Callable[[], Awaitable[None]],
        *,
        look_s: float = LOOK_S,
    ) -> None:
        self._routers = routers
        self._wanted = wanted
        self._on_change = on_change
        self._wait_for_change = wait_for_change
        self._look_s = look_s
        self._moved = trio.Event()
        self._open: _OpenPort | None = None
        self._told: Address | None = None
        self._told_at: deque[float] = deque(maxlen=CHANGES)
        self.current = Mapping(MappingState.LOOKING)

    async def run(self) -> None:
        """Until cancelled: have a port of the router lead to where the node listens, and take it back at the end."""
        try:
            async with open_nursery() as nursery:
                nursery.start_soon(self._notice_changes)
                await self._keep_open()
        finally:
            await self._close()

    async def _close(self) -> None:
        """Take the port back, if one is open."""
        opened, self._open = self._open, None
        with trio.move_on_after(CLOSE_S, shield=True), suppress(RouterError):
            if opened is not None:
                await opened.router.close_port(opened.inner, opened.grant)

    async def _notice_changes(self) -> None:
        while True:
            await self._wait_for_change()
            self._moved.set()

    async def _keep_open(self) -> None:
        """Search for a router until one opens a port; then watch over it until that is lost."""
        pause_s = SEARCH_S
        while True:
            listening = self._wanted()
            if listening is None:
                self._note(None, Mapping(MappingState.NOT_NEEDED))
                await self._pause(MAX_SEARCH_S)
            elif await self._search(listening, listening.port):
                pause_s = SEARCH_S
                await self._watch(listening)
            else:
                await self._pause(pause_s)
                pause_s = min(2 * pause_s, MAX_SEARCH_S)

    async def _watch(self, listening: Address) -> None:
        """Look at the port now and then. Return when it is lost.

        A router that is silent may just start again. So it is searched for until the lease is over: by then it may have
        forgotten the port, or speak at another place.
        """
        pause_s, retry_s = self._look_s, RETRY_S
        while self._open is not None:
            await self._pause(pause_s)
            if self._wanted() != listening:
                await self._close()
            elif await self._is_still_open() or await self._search(listening, self._open.grant.external.port):
                pause_s, retry_s = self._look_s, RETRY_S
            else:
                pause_s = min(retry_s, self._look_s)
                retry_s *= 2

    async def _is_still_open(self) -> bool:
        if self._open is None:
            return False
        found = None
        with trio.move_on_after(ANSWER_S), suppress(RouterError):
            found = await self._open.look(trio.current_time())
        if found is not None:
            self._note(found, found.told())
        return found is not None

    async def _search(self, listening: Address, outer: int) -> bool:
        """Have the first router that is willing open a port. Where none is, one that was open before is lost when a
        router has refused, or when its lease is over.
        """
        failed = Mapping(MappingState.NO_ROUTER)
        local_host = None if listening.is_wildcard else listening.host
        for protocol in RouterProtocol:
            for router in await self._routers.find(protocol, local_host):
                now = trio.current_time()
                try:
                    grant = await _within(ANSWER_S, router.open_port(listening.port, outer))
                except RouterError as error:
                    failed = _worse(failed, router, error)
                else:
                    opened = _OpenPort(router, listening.port, grant, now, now)
                    self._note(opened, opened.told())
                    return True
        before = self._open
        if before is None or failed.state is MappingState.REFUSED or before.is_over(trio.current_time()):
            self._note(None, failed)
        return False

    def _note(self, opened: _OpenPort | None, told: Mapping) -> None:
        self.current, self._open = told, opened
        now = trio.current_time()
        has_room = len(self._told_at) < CHANGES or now - self._told_at[0] >= CHANGES_S
        if self._told != told.external and has_room:
            log.info("port mapping: %s", told.external or told.reason or "no router answers")
            self._told = told.external
            self._told_at.append(now)
            self._on_change(told.external)

    async def _pause(self, seconds: float) -> None:
        with trio.move_on_after(seconds):
            await self._moved.wait()
        self._moved = trio.Event()


async def _within(seconds: float, answer: Awaitable[OpenedPort]) -> OpenedPort:
    """What a router gives. Raises RouterError when it takes longer."""
    with trio.move_on_after(seconds):
        return await answer
    raise RouterError("it does not answer")


def _worse(before: Mapping, router: Router, error: RouterError) -> Mapping:
    """What to tell of two failures: a refusal tells more than silence, the first more than later ones."""
    is_refusal = isinstance(error, RouterRefused) and not isinstance(error, OtherVersion)
    if before.state is MappingState.REFUSED or (before.reason and not is_refusal):
        return before
    state = MappingState.REFUSED if is_refusal else MappingState.NO_ROUTER
    return Mapping(state, router.protocol.value, router.host, reason=str(error))
