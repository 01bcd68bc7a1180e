"""The port of the home router through a day: opened, renewed, lost, found again, and closed."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise

import trio
from trio.testing import MockClock

from kit.routers import VirtualHome, VirtualRouter
from shoal.dht import Address
from shoal.node.reach.mapping import LOOK_S, MAX_SEARCH_S, Mapping, MappingState, PortMapping
from shoal.node.router import RouterProtocol

WILDCARD = Address("0.0.0.0", 4750)
MAPPED = Address("5.5.5.1", 4750)
HOUR_S = 3600.0


@dataclass
class Watched:
    """A mapping that runs, and what it has said."""

    home: VirtualHome
    wanted: Address | None = WILDCARD
    said: list[Address | None] = field(default_factory=list)
    moved: trio.Event = field(default_factory=trio.Event)
    mapping: PortMapping = field(init=False)

    def __post_init__(self) -> None:
        self.mapping = PortMapping(self.home, lambda: self.wanted, self.said.append, self._changed)

    async def _changed(self) -> None:
        await self.moved.wait()
        self.moved = trio.Event()

    @property
    def current(self) -> Mapping:
        return self.mapping.current

    def state(self) -> MappingState:
        return self.current.state

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.mapping.run)
            yield
            nursery.cancel_scope.cancel()


async def test_a_port_is_there_within_a_second_and_closed_at_the_end(autojump_clock: MockClock) -> None:
    router = VirtualRouter()
    watched = Watched(VirtualHome([router]))
    async with watched.running():
        assert watched.state() is MappingState.LOOKING
        await trio.sleep(1)
        assert watched.current == Mapping(MappingState.MAPPED, "NAT-PMP", "192.168.1.1", MAPPED, 3600)
        assert router.open == {4750: 4750}
    assert watched.said == [MAPPED]
    assert router.open == {}


async def test_it_is_looked_at_every_minute_and_renewed_at_half_of_its_lease(autojump_clock: MockClock) -> None:
    router = VirtualRouter()
    watched = Watched(VirtualHome([router]))
    async with watched.running():
        await trio.sleep(24 * HOUR_S)
    assert all(1800 <= later - earlier <= 1800 + 2 * LOOK_S for earlier, later in pairwise(router.opened))
    assert len(router.opened) >= 46
    assert all(later - earlier <= 2 * LOOK_S + 1 for earlier, later in pairwise(router.looked))
    assert len(watched.home.searches) == 1
    assert watched.said == [MAPPED]


async def test_a_router_that_starts_again_gets_the_port_anew(autojump_clock: MockClock) -> None:
    """It is away for two minutes, has forgotten everything, and speaks at another place by another protocol."""
    router, later = VirtualRouter(), VirtualRouter(protocol=RouterProtocol.UPNP, host="192.168.1.254")
    watched = Watched(VirtualHome([router]))
    async with watched.running():
        await trio.sleep(600)
        router.is_away = True
        await trio.sleep(120)
        assert watched.current.external == MAPPED  # nobody has said that it is closed
        watched.home.routers = [later]
        await trio.sleep(LOOK_S + 5)
        assert later.open == {4750: 4750}
        assert watched.current.protocol == "UPnP"
        await trio.sleep(600)
        later.open.clear()  # a short loss of power, between two looks
        await trio.sleep(LOOK_S + 1)
        assert later.open == {4750: 4750}
    assert watched.said == [MAPPED]


async def test_another_outer_address_is_noticed_within_a_minute(autojump_clock: MockClock) -> None:
    router = VirtualRouter()
    watched = Watched(VirtualHome([router]))
    async with watched.running():
        await trio.sleep(1000)
        router.outside = "5.5.5.2"
        await trio.sleep(LOOK_S + 1)
    assert watched.said == [MAPPED, Address("5.5.5.2", 4750)]


async def test_a_router_that_changes_its_mind_each_minute_is_heard_three_times_in_half_an_hour(
    autojump_clock: MockClock,
) -> None:
    router = VirtualRouter()
    watched = Watched(VirtualHome([router]))
    async with watched.running():
        for minute in range(120):
            router.outside, router.refuses = f"5.5.5.{minute}", minute % 3 == 2
            if router.refuses:
                router.open.clear()
            await trio.sleep(LOOK_S)
        assert len(watched.said) <= 3 * 5
        router.outside, router.refuses = "5.5.5.200", False
        await trio.sleep(HOUR_S)
    assert watched.said[-1] == Address("5.5.5.200", 4750)


async def test_a_port_whose_router_is_gone_is_lost_with_its_lease(autojump_clock: MockClock) -> None:
    for lease_s in (3600, 0):
        router = VirtualRouter(lease_s=lease_s)
        watched = Watched(VirtualHome([router]))
        async with watched.running():
            await trio.sleep(1)
            router.is_away = True
            await trio.sleep(HOUR_S / 2)
            assert watched.state() is MappingState.MAPPED
            await trio.sleep(HOUR_S / 2 + 2 * LOOK_S)
            assert watched.state() is MappingState.NO_ROUTER
            assert watched.current.reason == "it does not answer"
            router.is_away = False
            await trio.sleep(MAX_SEARCH_S)
        assert watched.said == [MAPPED, None, MAPPED]


async def test_a_refusal_is_told_and_asked_again_ever_more_seldom(autojump_clock: MockClock) -> None:
    silent = VirtualRouter(protocol=RouterProtocol.PCP, is_away=True)
    router = VirtualRouter(refuses=True)
    watched = Watched(VirtualHome([silent, router]))
    async with watched.running():
        await trio.sleep(24 * HOUR_S)
        told = watched.current
    assert told == Mapping(MappingState.REFUSED, "NAT-PMP", "192.168.1.1", None, None, router_words())
    assert len(watched.home.searches) <= 24 * HOUR_S / MAX_SEARCH_S + 10
    assert watched.said == []


def router_words() -> str:
    return "port mapping is switched off in it"


async def test_a_router_that_takes_the_port_away_is_heard(autojump_clock: MockClock) -> None:
    router = VirtualRouter()
    watched = Watched(VirtualHome([router]))
    async with watched.running():
        await trio.sleep(1)
        router.refuses = True
        router.open.clear()
        await trio.sleep(LOOK_S + 1)
        assert watched.state() is MappingState.REFUSED
    assert watched.said == [MAPPED, None]


async def test_a_home_without_a_router_is_searched_seldom_and_at_once_after_a_move(autojump_clock: MockClock) -> None:
    watched = Watched(VirtualHome(), Address("192.168.1.20", 4750))
    async with watched.running():
        await trio.sleep(24 * HOUR_S)
        assert watched.current == Mapping(MappingState.NO_ROUTER)
        assert len(watched.home.searches) <= 150
        watched.home.routers = [VirtualRouter()]
        watched.moved.set()
        await trio.sleep(1)
        assert watched.state() is MappingState.MAPPED
    assert watched.home.local_hosts == {"192.168.1.20"}


async def test_a_device_that_takes_its_time_does_not_keep_the_router_from_being_asked(
    autojump_clock: MockClock,
) -> None:
    slow = VirtualRouter(protocol=RouterProtocol.PCP, answer_s=1e6)
    watched = Watched(VirtualHome([slow, VirtualRouter()]))
    async with watched.running():
        await trio.sleep(21)
        assert watched.current.external == MAPPED
        watched.home.routers[1].answer_s = 1e6
        await trio.sleep(HOUR_S + 10 * LOOK_S)
        assert watched.state() is MappingState.NO_ROUTER


async def test_no_router_is_asked_while_none_is_needed(autojump_clock: MockClock) -> None:
    router = VirtualRouter()
    watched = Watched(VirtualHome([router]), wanted=None)
    async with watched.running():
        await trio.sleep(HOUR_S)
        assert watched.state() is MappingState.NOT_NEEDED
        assert watched.home.searches == []
        watched.wanted = WILDCARD  # the machine was carried home
        watched.moved.set()
        await trio.sleep(1)
        assert watched.state() is MappingState.MAPPED


async def test_a_node_that_has_another_address_of_its_own_has_the_port_opened_for_that(
    autojump_clock: MockClock,
) -> None:
    """By IPv6 a machine takes a new address every day."""
    router = VirtualRouter()
    watched = Watched(VirtualHome([router]), Address("2a05::1", 4750))
    async with watched.running():
        await trio.sleep(1)
        watched.wanted = Address("2a05::2", 4750)
        await trio.sleep(LOOK_S + 1)
        assert watched.state() is MappingState.MAPPED
        assert len(router.opened) == 2
        assert watched.home.local_hosts == {"2a05::1", "2a05::2"}
        watched.wanted = None
        await trio.sleep(LOOK_S + 1)
        assert (watched.state(), router.open) == (MappingState.NOT_NEEDED, {})


async def test_the_end_does_not_wait_for_a_router_that_is_gone(autojump_clock: MockClock) -> None:
    router = VirtualRouter()
    watched = Watched(VirtualHome([router]))
    async with watched.running():
        await trio.sleep(1)
        router.is_away = True
        begun = trio.current_time()
    assert trio.current_time() - begun <= 1.5


async def test_an_outer_port_that_differs_is_what_is_told_and_kept(autojump_clock: MockClock) -> None:
    router = VirtualRouter(taken={4750, 4751})
    watched = Watched(VirtualHome([router]))
    async with watched.running():
        await trio.sleep(2 * HOUR_S)
    assert watched.said == [Address("5.5.5.1", 4752)]
