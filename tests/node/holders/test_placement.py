"""Which hosts are asked first: with room, distinct, and far apart on the network."""

import heapq
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import fields, replace
from typing import Any

import pytest
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from shoal.dht import Address, Contact, NetworkParameters, NodeId, Reach, reach_of
from shoal.dht.identity import distance
from shoal.node.channel import GetRelayed, RelayedNodes, Unreachable
from shoal.node.context import Context, Gathered
from shoal.node.environment import Environment
from shoal.node.holders.placement import (
    AT_ONCE,
    LATELY_FEW_S,
    LATELY_S,
    MAX_LOOKUPS,
    gather,
    gather_lately,
    host_of,
    one_per_host,
    spread,
)

MIB = 1 << 20
PUBLIC = NetworkParameters("test", pow_bits=0)


def contact(number: int, host: str | None = None, *, space: int | None = None, port: int = 4750) -> Contact:
    node_id = NodeId(number.to_bytes(32, "big"))
    return Contact(node_id, Address.of(host or f"198.{number // 250}.{number % 250}.1", port), space)


def ranked(contacts: list[Contact], *, share_bytes: int = MIB, private: bool = False, seed: int = 0) -> list[Contact]:
    return spread(contacts, share_bytes, private=private, rng=random.Random(seed))


contacts = st.lists(
    st.builds(
        contact,
        st.integers(0, 2**32),
        st.ip_addresses(network="10.0.0.0/14").map(str),
        space=st.none() | st.integers(0, 40),
        port=st.integers(1, 65535),
    ),
    max_size=60,
)


@given(contacts, st.integers(0, 2**40), st.booleans(), st.integers(0, 9))
def test_every_host_with_room_is_listed_once(known: list[Contact], share_bytes: int, private: bool, seed: int) -> None:
    listed = ranked(known, share_bytes=share_bytes, private=private, seed=seed)
    hosts = [host_of(each, private=private) for each in listed]
    assert len(set(hosts)) == len(hosts)
    firsts = {host_of(each, private=private): each for each in reversed(known)}
    assert set(hosts) == {host for host, each in firsts.items() if each.space != 0}


@given(contacts, st.integers(0, 2**40), st.integers(0, 9))
def test_room_comes_before_all_else(known: list[Contact], share_bytes: int, seed: int) -> None:
    has_room = [
        each.space is None or 2 ** (each.space + 1) > share_bytes
        for each in ranked(known, share_bytes=share_bytes, seed=seed)
    ]
    assert has_room == sorted(has_room, reverse=True)


@given(contacts, st.integers(0, 9))
def test_the_first_from_each_prefix_come_before_any_second(known: list[Contact], seed: int) -> None:
    listed = ranked([Contact(each.node_id, each.address, 40) for each in known], seed=seed)
    prefixes = [each.address.prefix() for each in listed]
    places = [prefixes[:at].count(prefix) for at, prefix in enumerate(prefixes)]
    assert places == sorted(places)


def test_one_crowded_network_comes_after_the_others() -> None:
    crowd = [contact(number, f"203.0.113.{number}") for number in range(1, 101)]
    lone = [contact(1000 + number, f"198.51.{number}.1") for number in range(5)]
    for seed in range(10):
        first = ranked([*crowd, *lone], seed=seed)[:6]
        assert set(lone) < set(first)
        assert len({each.address.prefix() for each in first}) == 6


def test_wide_prefixes_are_spread_too() -> None:
    """Fifty /24s of one /16 against five /16s."""
    crowd = [contact(number, f"203.0.{number}.1") for number in range(50)]
    lone = [contact(1000 + number, f"198.{number}.1.1") for number in range(5)]
    for seed in range(10):
        assert set(lone) < set(ranked([*crowd, *lone], seed=seed)[:6])


def test_ids_at_one_address_are_one_host() -> None:
    many = [contact(number, "198.51.100.7", port=4000 + number) for number in range(20)]
    same64 = [contact(100 + number, f"2001:db8:0:1::{number + 1:x}") for number in range(20)]
    assert len(ranked([*many, *same64])) == 2
    assert len(ranked([*many, *same64], private=True)) == 40


def test_one_id_at_two_addresses_is_one_host_in_a_private_network() -> None:
    assert len(one_per_host([contact(1, "10.0.0.1"), contact(1, "10.0.0.2")], private=True)) == 1


def test_full_hosts_are_left_out_and_tight_ones_come_last() -> None:
    full, tight, roomy, unknown = contact(1, space=0), contact(2, space=10), contact(3, space=30), contact(4)
    for seed in range(10):
        listed = ranked([full, tight, roomy, unknown], seed=seed)
        assert set(listed[:2]) == {roomy, unknown}
        assert listed[2:] == [tight]


def test_equals_come_in_an_order_of_chance_that_a_seed_repeats() -> None:
    known = [contact(number) for number in range(20)]
    assert ranked(known, seed=1) == ranked(known, seed=1)
    assert len({tuple(ranked(known, seed=seed)) for seed in range(20)}) == 20


def test_an_unknown_size_asks_only_who_takes_anything() -> None:
    assert ranked([contact(1, space=0), contact(2, space=1)], share_bytes=0) == [contact(2)]


# --- gathering


class Lookups:
    """A DHT that answers lookups from a list, and counts them."""

    def __init__(self, answers: list[list[Contact]], table: tuple[()] | list[Contact] = ()) -> None:
        self.answers = list(answers)
        self.table = table
        self.asked = 0

    async def find_closest(self, target: bytes) -> list[Contact]:
        assert len(target) == 32
        self.asked += 1
        return self.answers.pop(0) if self.answers else []

    def contacts(self) -> tuple[Contact, ...]:
        return tuple(self.table)


class Relays:
    """A pool that reaches relays alone. All of them ring for the same nodes; `met` can be reached without them."""

    def __init__(self) -> None:
        self.rows = b""
        self.asked = 0
        self.met: dict[NodeId, Address] = {}

    async def request(self, node_id: NodeId, reach: Reach, request: object, **options: object) -> RelayedNodes:
        assert not reach.relays
        assert isinstance(request, GetRelayed)
        self.asked += 1
        return RelayedNodes(self.rows)

    @asynccontextmanager
    async def connection(self, node_id: NodeId, reach: Reach) -> AsyncIterator[None]:
        if node_id not in self.met:
            raise Unreachable("behind a router that lets nobody in")
        yield

    def met_at(self, node_id: NodeId) -> Address | None:
        return self.met.get(node_id)


@pytest.fixture
def context_of(env: Environment) -> Callable[..., Any]:
    def make(dht: Lookups, me: Contact | None = None, relays: Relays | None = None) -> Context:
        unused: dict[str, Any] = dict.fromkeys((each.name for each in fields(Context)), None)
        used = {"env": env, "network": PUBLIC, "dht": dht, "me": lambda: me, "gathered": Gathered()}
        return Context(**unused | used | {"pool": relays or Relays()})

    return make


async def test_gather_stops_when_it_has_enough_hosts(context_of: Callable[..., Any]) -> None:
    dht = Lookups([[contact(number) for number in range(5)]] * 9)
    assert len(await gather(context_of(dht), 5)) == 5
    assert dht.asked == AT_ONCE


async def test_gather_counts_hosts_and_not_ids(context_of: Callable[..., Any]) -> None:
    crowd = [contact(number, "198.51.100.7", port=4000 + number) for number in range(50)]
    dht = Lookups([crowd, [contact(99)]])
    await gather(context_of(dht), 2)
    assert dht.asked == 2


async def test_gather_ends_when_the_network_has_been_seen(context_of: Callable[..., Any]) -> None:
    dht = Lookups([[contact(1)], [contact(1)], [contact(2)]], table=[contact(3)])
    found = await gather(context_of(dht), 100)
    assert {each.node_id for each in found} == {contact(number).node_id for number in (1, 2, 3)}
    assert dht.asked == 3 * AT_ONCE


async def test_gather_is_bounded(context_of: Callable[..., Any]) -> None:
    dht = Lookups([[contact(number)] for number in range(1000)])
    assert len(await gather(context_of(dht), 10**6)) == MAX_LOOKUPS == dht.asked


async def test_hosts_behind_relays_are_found_where_few_can_be_dialled(context_of: Callable[..., Any]) -> None:
    relays, direct = Relays(), [contact(number) for number in range(4)]
    met, unmet = NodeId(bytes([1] * 32)), NodeId(bytes([2] * 32))
    relays.rows = b"".join(node_id + bytes([30]) for node_id in (met, unmet, direct[0].node_id))
    relays.met[met] = Address("5.5.5.5", 4750)
    found = await gather(context_of(Lookups([direct] * 9), relays=relays), 9)
    assert found[:4] == direct
    behind = {each.node_id: each for each in found[4:]}
    assert set(behind) == {met, unmet}
    assert all(each.is_relayed and len(reach_of(each).relays) == 3 for each in behind.values())
    assert host_of(behind[met], private=False) == Address("5.5.5.5", 1).host_key()
    rung_by = [reach_of(behind[unmet]).relays[0].address.host_key(), host_of(behind[unmet], private=False)]
    assert rung_by[0] == rung_by[1], "nobody can tell that it is anywhere else"
    assert len(one_per_host(found, private=False)) == 5


async def test_relays_are_not_asked_where_enough_can_be_dialled(context_of: Callable[..., Any]) -> None:
    relays = Relays()
    await gather(context_of(Lookups([[contact(number) for number in range(5)]] * 9), relays=relays), 9)
    assert relays.asked == 0


def test_hosts_that_can_be_dialled_come_first() -> None:
    relayed = [Reach((), (contact(50 + n),)).contact(NodeId(bytes([n] * 32)), 40) for n in range(5)]
    hosts = [*relayed, *(contact(number, space=40) for number in range(5))]
    assert [each.is_relayed for each in ranked(hosts)] == [False] * 5 + [True] * 5


class Sixty(Lookups):
    """Sixty nodes; each lookup finds the twenty nearest to its target, as with an empty table and no losses."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__([])
        self.nodes = [contact(int.from_bytes(rng.randbytes(32), "big"), f"198.51.{at}.1") for at in range(60)]

    async def find_closest(self, target: bytes) -> list[Contact]:
        self.asked += 1
        return heapq.nsmallest(20, self.nodes, key=lambda each: distance(each.node_id, target))


async def test_gather_does_not_take_one_corner_for_the_network(
    context_of: Callable[..., Any], env: Environment
) -> None:
    """Three targets of chance often lie close together: a client then knew twenty of sixty hosts, and took a narrow
    code."""
    for seed in range(100):
        rng = random.Random(seed)
        dht = Sixty(rng)
        found = await gather(replace(context_of(dht), env=replace(env, rng=rng)), 48)
        assert len(found) >= 48, f"seed {seed}: {len(found)} of 60 after {dht.asked} lookups"
        assert dht.asked <= 8


async def test_publishes_one_after_another_gather_once(
    autojump_clock: trio.testing.MockClock, context_of: Callable[..., Any]
) -> None:
    dht = Lookups([[contact(number) for number in range(5)]] * 99)
    context = context_of(dht)
    assert len(await gather_lately(context, 5)) == 5
    asked = dht.asked
    await trio.sleep(LATELY_S - 1)
    assert len(await gather_lately(context, 4)) == 5
    assert dht.asked == asked
    await gather_lately(context, 6)  # more than were wanted then
    asked = dht.asked
    await trio.sleep(LATELY_FEW_S + 1)
    await gather_lately(context, 6)  # five were found: others may have started
    assert dht.asked > asked
    dht.table = [contact(77)]
    assert contact(77) in await gather_lately(context, 3)


async def test_this_node_is_a_candidate_when_it_serves(context_of: Callable[..., Any]) -> None:
    assert await gather(context_of(Lookups([]), me=contact(7)), 3) == [contact(7)]
    assert await gather(context_of(Lookups([])), 3) == []
