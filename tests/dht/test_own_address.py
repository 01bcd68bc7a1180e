"""Our own address in others' eyes, and what comes before it."""

from collections.abc import Callable
from random import Random

import pytest
import trio
import trio.testing

from kit.virtual_dht import Lab
from shoal.dht import Address, AddressSource, Contact, DhtService, NetworkParameters, NodeId, UdpNetwork
from shoal.dht.observed import MAX_VOTERS, VOTE_S, ObservedAddresses

HERE = Address("192.0.2.1", 4100)
THERE = Address("192.0.2.1", 5)


def contact(address: Address) -> Contact:
    return Contact(NodeId(Random(str(address)).randbytes(32)), address)


def note(
    observed: ObservedAddresses, voter: Address, seen: Address, now: float = 0.0, *, chosen: bool = True
) -> list[Contact]:
    return observed.note(contact(voter), seen, now, chosen=chosen)


def test_our_address_is_what_most_networks_see() -> None:
    observed = ObservedAddresses(private=False)
    assert observed.best(ipv6=False) is None
    for number in range(5):
        note(observed, Address(f"20.1.{number}.1", 1), HERE)
    for number in range(200):  # one liar with many ids in one /24
        note(observed, Address(f"30.1.1.{number}", 1), Address("6.6.6.6", 6))
    note(observed, Address.of("2a00::1", 1), HERE)  # a vote on the other family is void
    assert observed.best(ipv6=False) == HERE
    assert observed.best(ipv6=True) is None
    for number in range(MAX_VOTERS):
        note(observed, Address(f"40.1.{number}.1", 1), THERE)
    assert observed.best(ipv6=False) == THERE


def test_in_a_private_network_one_host_has_one_vote_however_many_ports() -> None:
    observed = ObservedAddresses(private=True)
    for number in range(2):
        note(observed, Address(f"10.0.0.{number}", 4750), HERE)
    for port in range(1, 41):
        note(observed, Address("10.0.0.9", port), THERE)
    assert observed.best(ipv6=False) == HERE


def test_in_a_private_network_one_48_of_the_internets_has_one_vote_and_an_own_64_too() -> None:
    """65,536 hosts of one customer once had as many votes."""
    observed = ObservedAddresses(private=True)
    here, there = Address.of("fd00::1", 1), Address.of("2a00::1", 1)
    for number in range(2):
        note(observed, Address.of(f"fd00:0:0:{number}::5", 4750), here)
    for number in range(1, 41):
        note(observed, Address.of(f"2a00:1:1:{number:x}::1", 1), there)
    assert observed.best(ipv6=True) == here


def test_an_address_is_kept_until_more_than_half_see_another() -> None:
    observed = ObservedAddresses(private=False)
    for number in range(4):
        note(observed, Address(f"20.1.{number}.1", 1), HERE)
    for number in range(4):
        note(observed, Address(f"30.1.{number}.1", 1), THERE)
    assert observed.best(ipv6=False) == HERE
    note(observed, Address("30.1.9.1", 1), THERE)
    assert observed.best(ipv6=False) == THERE


def test_callers_have_no_vote_beside_peers_that_we_chose() -> None:
    observed = ObservedAddresses(private=False)
    note(observed, Address("30.1.1.1", 1), HERE, chosen=False)
    assert observed.best(ipv6=False) == HERE  # the first node of a network learns from its callers
    for number in range(3):
        note(observed, Address(f"20.1.{number}.1", 1), HERE)
    for number in range(100):
        note(observed, Address(f"30.2.{number}.1", 1), THERE, chosen=False)
    assert observed.best(ipv6=False) == HERE


def test_this_machine_has_no_vote_beside_others() -> None:
    observed = ObservedAddresses(private=True)
    for port in range(3):
        note(observed, Address(f"127.0.0.{port + 1}", 1), Address("127.0.0.1", 4750))
    assert observed.best(ipv6=False) == Address("127.0.0.1", 4750)
    note(observed, Address("10.0.0.2", 1), HERE)
    assert observed.best(ipv6=False) == HERE


def voters(count: int) -> list[Address]:
    return [Address(f"20.1.{number}.1", 1) for number in range(count)]


def test_old_votes_do_not_count_and_a_change_needs_half_of_the_roll() -> None:
    observed = ObservedAddresses(private=False)
    for voter in voters(9):
        note(observed, voter, HERE, 0.0)
    for number in range(4):
        note(observed, Address(f"30.1.{number}.1", 1), THERE, VOTE_S + 1)
    assert observed.best(ipv6=False) == HERE  # alone with recent votes, and yet too few of thirteen
    for number in range(4, 8):
        note(observed, Address(f"30.1.{number}.1", 1), THERE, 3 * VOTE_S)
    assert observed.best(ipv6=False) == HERE  # eight of fifteen, but not within half an hour
    for number in range(4):
        note(observed, Address(f"30.1.{number}.1", 1), THERE, 3 * VOTE_S)
    assert observed.best(ipv6=False) == THERE


def test_who_differs_has_the_others_asked_again_and_the_silent_leave_the_roll() -> None:
    observed = ObservedAddresses(private=False)
    for voter in voters(5):
        assert note(observed, voter, HERE, 0.0) == []
    asked = note(observed, Address("30.1.1.1", 1), THERE, 100.0)
    assert asked == [contact(voter) for voter in voters(5)]
    assert note(observed, Address("30.1.2.1", 1), THERE, 200.0) == []  # not twice in half an hour
    for voter in voters(4):
        observed.note_silence(contact(voter), 201.0)
    assert observed.best(ipv6=False) == THERE


async def test_a_node_whose_address_changed_asks_around_and_learns_it(
    autojump_clock: trio.testing.MockClock, make_lab: Callable[..., Lab]
) -> None:
    """Peers see another port from now on, as behind a router that was restarted."""
    lab = make_lab(NetworkParameters("moved", 0, True))
    first = await lab.node()
    for _ in range(6):
        other = await lab.node()
        await other.bootstrap(first.addresses)
    node, new = await lab.node("10.0.9.9", knows_itself=False), Address("10.0.9.9", 9_999)
    await node.bootstrap(first.addresses)
    await trio.sleep(2 * VOTE_S)
    assert node.own_addresses() == (Address("10.0.9.9", 4100),)
    old = node.own_addresses()[0]
    carry = lab.network.carry

    def route(data: bytes, source: Address, destination: Address) -> None:
        carry(data, new if source == old else source, old if destination == new else destination)

    lab.network.carry = route  # type: ignore[method-assign]
    await node.find_closest(bytes(32))
    await trio.sleep(30)
    assert node.own_addresses() == (new,)


async def liars_everywhere(lab: Lab, node: DhtService, seen: Address, count: int = 40) -> None:
    """All that the node believes of others, at once: votes of so many prefixes."""
    for number in range(count):
        node.peers.observed.note(contact(Address(f"66.{number}.1.1", 1)), seen, trio.current_time())


async def test_a_public_address_of_this_machine_comes_before_what_all_others_say(
    autojump_clock: trio.testing.MockClock, make_lab: Callable[..., Lab]
) -> None:
    lab = make_lab(NetworkParameters("public", 0, False))
    node = await lab.node("20.1.2.3", knows_itself=False, interface="20.1.2.3")
    await liars_everywhere(lab, node, Address("99.9.9.9", 4750))
    assert [(each.address, each.source) for each in node.located()] == [
        (Address("20.1.2.3", 4100), AddressSource.INTERFACE)
    ]
    behind = await lab.node("20.2.2.3", knows_itself=False, interface="192.168.1.3")
    assert behind.located() == ()
    await liars_everywhere(lab, behind, Address("99.9.9.9", 4750))
    assert [each.source for each in behind.located()] == [AddressSource.OBSERVED]
    said = await lab.node("20.3.2.3", knows_itself=False, interface="20.3.2.3", advertise=[Address("20.4.4.4", 5)])
    assert [each.source for each in said.located()] == [AddressSource.ADVERTISED]


async def test_what_a_router_says_counts_only_at_the_host_that_peers_see(
    autojump_clock: trio.testing.MockClock, make_lab: Callable[..., Lab]
) -> None:
    lab = make_lab(NetworkParameters("public", 0, False))
    node = await lab.node("20.2.2.3", knows_itself=False, interface="192.168.1.3")
    node.be_mapped(Address("99.9.9.9", 5000))
    assert node.located() == ()  # no peer has seen us anywhere yet
    seen = Address("99.9.9.9", 4750)
    await liars_everywhere(lab, node, seen)
    assert [(each.address, each.source) for each in node.located()] == [
        (Address("99.9.9.9", 5000), AddressSource.MAPPED)
    ]
    for elsewhere in (Address("88.8.8.8", 5000), Address("100.64.3.3", 5000), None):  # a lie, another router, no port
        node.be_mapped(elsewhere)
        assert [(each.address, each.source) for each in node.located()] == [(seen, AddressSource.OBSERVED)]


async def test_another_outer_address_that_a_router_tells_is_believed_as_soon_as_peers_see_it(
    autojump_clock: trio.testing.MockClock, make_lab: Callable[..., Lab]
) -> None:
    """The provider gives the home another address. Nobody calls, and nothing is looked up meanwhile."""
    lab = make_lab(NetworkParameters("moved", 0, True))
    first = await lab.node()
    for _ in range(6):
        await (await lab.node()).bootstrap(first.addresses)
    node, new = await lab.node("10.0.9.9", knows_itself=False), Address("10.0.9.8", 4100)
    node.be_mapped(Address("10.0.9.9", 5000))
    await node.bootstrap(first.addresses)
    await trio.sleep(2 * VOTE_S)
    assert node.own_addresses() == (Address("10.0.9.9", 5000),)
    old, carry = Address("10.0.9.9", 4100), lab.network.carry

    def route(data: bytes, source: Address, destination: Address) -> None:
        carry(data, new if source == old else source, old if destination == new else destination)

    lab.network.carry = route  # type: ignore[method-assign]
    node.be_mapped(Address("10.0.9.8", 5000))
    await trio.sleep(30)
    assert [(each.address, each.source) for each in node.located()] == [
        (Address("10.0.9.8", 5000), AddressSource.MAPPED)
    ]


async def test_a_node_bound_to_loopback_believes_nobody(
    autojump_clock: trio.testing.MockClock, make_lab: Callable[..., Lab]
) -> None:
    lab = make_lab(NetworkParameters("public", 0, False))
    node = await lab.client("127.0.0.1", listen=[Address("127.0.0.1", 4100)])
    await liars_everywhere(lab, node, Address("99.9.9.9", 4750))
    assert node.located() == ()


@pytest.mark.parametrize("family", [False, pytest.param(True, marks=pytest.mark.needs_ipv6)])
def test_the_system_names_its_own_address_or_none(family: bool) -> None:
    found = UdpNetwork().local_host(ipv6=family)
    assert found is None or (":" in found) == family
