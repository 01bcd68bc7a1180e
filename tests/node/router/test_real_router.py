"""Debian's miniupnpd as the router of a home in network namespaces: what many homes have, and foreign code."""

from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest
import trio
from hostile.netlink import add_address

from kit.upnp_home import HOME_HOST6, OUTSIDE_HOST, OUTSIDE_HOST6, UpnpHome, missing, upnp_home
from shoal.dht import Address
from shoal.node.reach.mapping import MappingState, PortMapping
from shoal.node.router import HomeRouters, RouterNetwork, RouterProtocol

PORT = 4750
MAPPED = Address("5.5.5.1", PORT)
SECOND_HOST = "192.168.77.21"
LIMIT_S = 20.0

pytestmark = pytest.mark.skipif(bool(missing()), reason=f"real routers are left out: {missing()}")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[UpnpHome]:
    with upnp_home(tmp_path) as made:
        yield made


def mapping_in(said: list[Address | None]) -> PortMapping:
    """One that looks at its port five times a second."""
    routers: RouterNetwork = HomeRouters(Random(1))
    return PortMapping(routers, lambda: Address("0.0.0.0", PORT), said.append, trio.sleep_forever, look_s=0.2)


async def wait_until(is_so: Callable[[], bool]) -> None:
    with trio.fail_after(LIMIT_S):
        while not is_so():  # noqa: ASYNC110 - it is another process
            await trio.sleep(0.05)


async def check_lets_in(home: UpnpHome, outer: int = PORT, *, ipv6: bool = False, within_s: float = 5.0) -> None:
    """A stranger outside gets in, by TCP and by UDP. Raises trio.TooSlowError where it does not."""
    family = trio.socket.AF_INET6 if ipv6 else trio.socket.AF_INET
    everywhere = "::" if ipv6 else "0.0.0.0"
    host, stranger = (HOME_HOST6, OUTSIDE_HOST6) if ipv6 else (home.wan_host, OUTSIDE_HOST)
    (listener,) = await trio.open_tcp_listeners(PORT, host=everywhere)
    inside = trio.socket.socket(family, trio.socket.SOCK_DGRAM)
    with home.outside.entered():  # a socket stays in the network in which it was made
        tcp = trio.socket.socket(family, trio.socket.SOCK_STREAM)
        udp = trio.socket.socket(family, trio.socket.SOCK_DGRAM)
    async with listener:
        with inside, tcp, udp, trio.fail_after(within_s):
            await inside.bind((everywhere, PORT))
            await tcp.connect((host, outer))
            await udp.sendto(b"knock", (host, outer))
            data, source = await inside.recvfrom(100)
            assert (data, source[0]) == (b"knock", stranger)
            async with await listener.accept() as stream:
                assert stream.socket.getpeername()[0] == stranger


@pytest.mark.parametrize(("upnp", "protocol"), [(True, "UPnP"), (False, "PCP")])
def test_a_home_becomes_mapped_and_survives_the_restart_of_its_router(
    home: UpnpHome, upnp: bool, protocol: str
) -> None:
    said: list[Address | None] = []

    async def scenario() -> None:
        mapping = mapping_in(said)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(mapping.run)
            await wait_until(lambda: mapping.current.state is MappingState.MAPPED)
            assert mapping.current.protocol == protocol
            await check_lets_in(home)
            home.stop_router()
            home.start_router(upnp=upnp, pmp=not upnp)
            assert "4750" not in home.rules()
            await wait_until(lambda: home.rules().count("dnat") == 2)
            await check_lets_in(home)
            nursery.cancel_scope.cancel()

    home.start_router(upnp=upnp, pmp=not upnp)
    with home.home.entered():
        trio.run(scenario)
    assert said == [MAPPED]
    assert "4750" not in home.rules()  # the node has closed it


def test_nat_pmp_opens_looks_and_closes(home: UpnpHome) -> None:
    async def scenario() -> None:
        (router,) = await HomeRouters(Random(1)).find(RouterProtocol.NAT_PMP, None)
        grant = await router.open_port(PORT, PORT)
        assert grant.external == MAPPED
        await check_lets_in(home)
        assert await router.look(PORT, grant) == grant
        await router.close_port(PORT, grant)
        assert "4750" not in home.rules()

    home.start_router(upnp=False)
    with home.home.entered():
        trio.run(scenario)


def test_pcp_lets_strangers_in_by_ipv6(home: UpnpHome) -> None:
    async def scenario() -> None:
        with pytest.raises(trio.TooSlowError):
            await check_lets_in(home, ipv6=True, within_s=0.3)
        (router,) = await HomeRouters(Random(1)).find(RouterProtocol.PCP, HOME_HOST6)
        grant = await router.open_port(PORT, PORT)
        assert grant.external == Address(HOME_HOST6, PORT)
        await check_lets_in(home, ipv6=True)
        await router.close_port(PORT, grant)
        assert "4750" not in home.rules("miniupnpd")

    home.start_router(upnp=False)
    with home.home.entered():
        trio.run(scenario)


@pytest.mark.parametrize("protocol", list(RouterProtocol))
def test_two_machines_of_one_home_get_two_ports(home: UpnpHome, protocol: RouterProtocol) -> None:
    async def scenario() -> None:
        first, second = HomeRouters(Random(1)), HomeRouters(Random(2))
        (theirs,) = await first.find(protocol, SECOND_HOST)
        (ours,) = await second.find(protocol, None)
        taken = await theirs.open_port(PORT, PORT)
        grant = await ours.open_port(PORT, PORT)
        assert grant.external.port != taken.external.port == PORT
        await check_lets_in(home, grant.external.port)
        assert await theirs.look(PORT, taken) == taken

    home.start_router()
    with home.home.entered():
        add_address("eth0", SECOND_HOST, 24)
        trio.run(scenario)


def test_a_router_behind_another_one_opens_nothing_that_a_stranger_could_call(tmp_path: Path) -> None:
    """Debian's refuses where its own address is a reserved one; other routers open a port that leads nowhere."""

    async def scenario() -> None:
        said: list[Address | None] = []
        mapping = mapping_in(said)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(mapping.run)
            await wait_until(lambda: mapping.current.state is not MappingState.LOOKING)
            assert not any(each is not None and each.is_public for each in said)
            assert mapping.current.external is None or not mapping.current.external.is_public
            nursery.cancel_scope.cancel()

    with upnp_home(tmp_path, wan_host="100.64.0.2") as home:
        home.start_router()
        with home.home.entered():
            trio.run(scenario)
