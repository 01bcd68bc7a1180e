"""Nodes of a private network find each other in a local network: rules, in memory, and by loopback's multicast."""

import itertools
import os
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from kit.virtual_lan import PORT, VirtualLan, VirtualLans
from shoal.dht import Address, DhtService, Identity, LanLink, NetworkParameters, OpenPing, UdpLan, UdpNetwork
from shoal.dht.identity import UNKNOWN_ID
from shoal.dht.messages import FindNode, Ping, encode_request
from shoal.dht.open_ping import is_open_ping
from shoal.dht.wire import seal
from shoal.node import Environment, Network, NodeSettings, NoPeers, Peer, open_node
from shoal.node.reach.lan import (
    ACQUAINTED_S,
    ALL_CALLS,
    ALL_CALLS_PER_S,
    ALONE_S,
    CALLS_S,
    HOST_CALLS,
    HOST_CALLS_PER_S,
    LINKS_S,
    MAX_ANSWERS,
    MAX_HOSTS,
    MAX_KNOCKS,
    Answering,
    CallAnswers,
    Lan,
    looks_around,
)
from shoal.simulation.datagrams import VirtualDatagrams

PARAMS = NetworkParameters("lan", 0, True)
LINK = LanLink("10.0.0.1", 1, ("10.0.0.0/24",))
FOUND_WITHIN_S = 5.0


def on_link(number: int) -> Address:
    return Address(f"10.0.{number // 250}.{number % 250}", 4750)


# -- rules ---------------------------------------------------------------------------------------------


def test_one_host_is_answered_at_a_bounded_rate_and_leaves_room_for_others() -> None:
    answering = Answering(0.0)
    assert sum(answering.admits(on_link(1), 0.0) for _ in range(1000)) == HOST_CALLS
    assert answering.admits(on_link(2), 0.0)
    assert sum(answering.admits(on_link(1), at) for at in range(1, 11) for _ in range(100)) == 10 * HOST_CALLS_PER_S


def test_all_hosts_together_are_answered_at_a_bounded_rate() -> None:
    answering = Answering(0.0)
    hosts = itertools.cycle([on_link(number) for number in range(2 * MAX_HOSTS)])
    assert sum(answering.admits(next(hosts), 0.0) for _ in range(5000)) == ALL_CALLS
    assert sum(answering.admits(next(hosts), 60.0) for _ in range(5000)) <= 60 * ALL_CALLS_PER_S


def test_what_answers_to_one_call_may_have_us_do() -> None:
    answers = CallAnswers(LINK, frozenset({on_link(9)}))
    assert not answers.may_be(on_link(9)), "that is us"
    assert not answers.may_be(Address("10.0.1.1", 4750)), "another network"
    assert not answers.may_be(Address("203.0.113.1", 4750)), "somebody far away"
    assert not answers.checks
    assert sum(answers.may_be(on_link(1)) for _ in range(1000)) == MAX_ANSWERS, "so many signatures are checked"
    answers = CallAnswers(LINK, frozenset())
    for number in range(1, 200):
        if answers.may_be(on_link(number)):
            answers.found.add(on_link(number))
    assert len(answers.found) == MAX_KNOCKS


def test_who_looks_in_the_local_network() -> None:
    public = NetworkParameters("public", 20, False)
    assert not looks_around(public, [])
    assert looks_around(PARAMS, [])
    assert looks_around(PARAMS, ["127.0.0.1:1", "10.0.0.1:4750"])
    assert not looks_around(PARAMS, ["127.0.0.1:1", "[::1]:2", "localhost:3"]), "a network on this machine"


def test_only_an_answer_to_this_very_ping_counts() -> None:
    ours, theirs = (Identity.create(0, os.urandom) for _ in range(2))
    ping, other = (OpenPing(PARAMS, ours, os.urandom) for _ in range(2))
    assert is_open_ping(ping.datagram, PARAMS, theirs.node_id)
    assert not is_open_ping(ping.datagram, PARAMS, ours.node_id), "we hear our own calls"
    assert not is_open_ping(ping.datagram, NetworkParameters("other", 0, True), theirs.node_id)
    find = encode_request(FindNode(bytes(32)), bytes(16), b"", serving=False, addressed=False)
    assert not is_open_ping(seal(find, UNKNOWN_ID, PARAMS.network_id, ours), PARAMS, theirs.node_id)
    addressed = encode_request(Ping(), bytes(16), b"", serving=False, addressed=True)
    assert not is_open_ping(seal(addressed, theirs.node_id, PARAMS.network_id, ours), PARAMS, theirs.node_id)
    for data in (ping.datagram, other.datagram, b"", os.urandom(200)):
        assert ping.is_answered_by(data) is None


# -- in memory -----------------------------------------------------------------------------------------


class Home:
    """Nodes and clients of one local network, in memory."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.rng = random.Random(7)
        self.world = VirtualDatagrams(self.rng)
        self.lans = VirtualLans(self.world)
        self._nursery = nursery

    async def start(self, number: int, *, serves: bool = True, plugged: bool = True) -> tuple[DhtService, VirtualLan]:
        host = f"10.0.0.{number}"
        identity = Identity.create(0, self.rng.randbytes)
        listen = [Address("0.0.0.0", 4750)] if serves else []
        dht = DhtService(PARAMS, identity, self.world.at(host), listen=listen, rng=self.rng, entropy=self.rng.randbytes)
        await self._nursery.start(dht.run)
        lan = self.lans.at(host)
        lan.is_plugged = plugged
        self._nursery.start_soon(Lan(lan, dht, PARAMS, self.rng).run)
        return dht, lan


async def know(*services: DhtService, within_s: float = FOUND_WITHIN_S) -> None:
    """Wait until each knows a node."""
    with trio.fail_after(within_s):
        for service in services:
            await service.wait_joined(within_s)


async def test_two_nodes_find_each_other(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    home = Home(nursery)
    (first, _), (second, _) = await home.start(1), await home.start(2)
    await know(first, second)
    assert {contact.node_id for contact in first.contacts()} == {second.identity.node_id}
    calls = home.lans.calls
    await trio.sleep(ACQUAINTED_S / 2)
    assert home.lans.calls <= calls + 4, "those that know each other are quiet"


async def test_one_that_starts_later_is_answered_and_a_client_asks_no_more_than_it_must(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    home = Home(nursery)
    first, _ = await home.start(1)
    await trio.sleep(1000)
    client, _ = await home.start(2, serves=False)
    await know(client)
    assert not first.contacts(), "a client is nobody's contact"
    home.lans.calls = 0
    await trio.sleep(4)
    before = home.lans.calls
    await client.wait_joined(0.1)
    assert before <= 1


async def test_a_cable_that_is_plugged_in_later(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    home = Home(nursery)
    (first, _), (second, lan) = await home.start(1), await home.start(2, plugged=False)
    await trio.sleep(60)
    assert not first.contacts(), "there is no way to the second"
    lan.is_plugged = True
    await know(first, second, within_s=LINKS_S + FOUND_WITHIN_S)


async def test_a_node_alone_goes_on_calling_slowly(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    home = Home(nursery)
    await home.start(1)
    await trio.sleep(600)
    assert 600 / ALONE_S / 1.3 <= home.lans.calls <= 600 / ALONE_S / 0.7


async def test_calls_from_elsewhere_and_floods_of_them(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    """Calls whose source is no address of the link are not answered; of the others so many and no more."""
    home = Home(nursery)
    dht, _ = await home.start(1)
    await trio.sleep(1)
    before = dht.statistics().datagrams_out
    stranger = Identity.create(0, os.urandom)
    for number in range(500):
        ping = OpenPing(PARAMS, stranger, os.urandom)
        home.world.carry(ping.datagram, Address("192.0.2.1", 5000), Address("10.0.0.1", PORT))
        home.world.carry(ping.datagram, on_link(number % 100 + 10), Address("10.0.0.1", PORT))
    await trio.sleep(1)
    assert dht.statistics().datagrams_out - before <= ALL_CALLS + 2 * ALL_CALLS_PER_S
    assert not dht.contacts()


async def test_liars_in_the_local_network_cost_a_bounded_number_of_datagrams(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """Each call is answered by a thousand ids, in the name of a thousand addresses that are silent."""
    home = Home(nursery)
    sent: dict[str, int] = {}
    carry = home.world.carry

    def lie(data: bytes, source: Address, destination: Address) -> None:
        if destination.host.startswith("10.0.0.") and source == Address("10.0.0.1", 4750):
            sent[destination.host] = sent.get(destination.host, 0) + 1
        carry(data, source, destination)

    home.world.carry = lie  # type: ignore[method-assign]
    asked: list[tuple[bytes, Address]] = []
    home.lans.call = lambda data, source: asked.append((data, source))  # type: ignore[method-assign]
    dht, _ = await home.start(1)
    await trio.sleep(0.1)
    assert len(asked) == 1
    liar = DhtService(
        PARAMS, Identity.create(0, os.urandom), home.world.at("10.0.0.66"), listen=[Address("0.0.0.0", 1)]
    )
    await nursery.start(liar.run)
    replies: list[bytes] = []
    home.world.carry = lambda data, source, destination: replies.append(data)  # type: ignore[method-assign]
    await liar.answer_open_ping(*asked[0])
    home.world.carry = lie  # type: ignore[method-assign]
    for number in range(1000):
        carry(replies[0], on_link(number % 200 + 20), asked[0][1])
        carry(os.urandom(192), on_link(number % 200 + 20), asked[0][1])
    await trio.sleep(4)
    assert len(asked) == len(CALLS_S), "pings that nobody answers hold up no call"
    await trio.sleep(30)
    assert len(sent) == MAX_KNOCKS
    assert sum(sent.values()) <= 3 * MAX_KNOCKS
    assert not dht.contacts()


# -- who calls at all -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("private", "lan", "door", "calls"),
    [
        (True, True, None, True),
        (True, False, None, False),
        (False, True, None, False),
        (True, True, "127.0.0.1:9", False),
    ],
)
async def test_who_calls(
    env: Environment, nursery: trio.Nursery, tmp_path: Path, private: bool, lan: bool, door: str | None, calls: bool
) -> None:
    """Nobody on a public network, with `--no-lan`, or where all is known to be on this machine."""
    lans = VirtualLans(VirtualDatagrams(random.Random(7)))
    network = Network(NetworkParameters("calls", 0, private), (Peer(door),) if door else ())
    async with open_node(
        tmp_path,
        network=network,
        settings=NodeSettings(lan=lan),
        environment=replace(env, lan=lans.at("10.0.0.1")),
    ) as node:
        with pytest.raises(NoPeers):
            await node.wait_joined(0.2)
    assert bool(lans.calls) == calls


# -- real sockets --------------------------------------------------------------------------------------


@pytest.fixture
def room() -> tuple[NetworkParameters, UdpLan]:
    """A network of its own, and this machine as its local network."""
    port = random.SystemRandom().randrange(20_000, 30_000)
    return NetworkParameters(f"lan {port}", 0, True), UdpLan(port=port, loopback=True)


@pytest.fixture
def real(nursery: trio.Nursery, room: tuple[NetworkParameters, UdpLan]) -> Callable[..., Any]:
    """Starts a node whose local network is the machine itself."""
    params, lan = room

    async def start(*, serves: bool = True) -> DhtService:
        listen = [Address("127.0.0.1", 0)] if serves else []
        dht = DhtService(params, Identity.create(0, os.urandom), UdpNetwork(), listen=listen)
        await nursery.start(dht.run)
        nursery.start_soon(Lan(lan, dht, params, random.Random(7)).run)
        return dht

    return start


async def test_nodes_and_a_client_find_each_other_by_real_multicast(real: Callable[..., Any]) -> None:
    first, second = await real(), await real()
    await know(first, second)
    client = await real(serves=False)
    await know(client)


async def test_a_name_that_is_not_found_ends_no_search_in_the_local_network(
    real: Callable[..., Any],
    room: tuple[NetworkParameters, UdpLan],
    env: Environment,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The network file names a door that no name service knows; a node is in the same room."""

    async def nobody(*arguments: object, **options: object) -> None:
        raise OSError(8, "no such name")

    monkeypatch.setattr(trio.socket, "getaddrinfo", nobody)
    await real()
    params, lan = room
    network = Network(params, (Peer("nowhere.example:4750"),))
    async with open_node(tmp_path, network=network, environment=replace(env, lan=lan)) as client:
        await client.wait_joined(FOUND_WITHIN_S)


def test_the_links_of_this_machine_are_real_addresses() -> None:
    for link in UdpLan().links():
        address = Address.of(link.host, 1)
        assert link.has(address)
        assert not address.is_loopback
        assert not address.host.startswith("fe80")
