"""A search in the Mainline DHT: it finds what is announced, whoever lies, within its bounds."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.mainline import MainlineNode, MainlineWorld
from shoal.dht import Address
from shoal.node.reach.rendezvous.bencode import Value, encode
from shoal.node.reach.rendezvous.krpc import MAX_NODES, MAX_VALUES, announce_peer, get_peers, read_answer
from shoal.node.reach.rendezvous.mainline import rendezvous_key
from shoal.node.reach.rendezvous.search import (
    MAX_CANDIDATES,
    MAX_FOUND,
    MAX_QUERIES,
    NEAREST,
    PARALLEL,
    QUERY_S,
    SEARCH_S,
    MainlineSearch,
)

KEY = rendezvous_key(bytes(range(8)))
ME = Address("8.8.8.8", 5000)


def is_public(address: Address) -> bool:
    return address.is_public


def start(world: MainlineWorld, rng: Random, count: int = 1) -> MainlineSearch:
    starts = rng.sample(sorted(world.nodes), count)
    return MainlineSearch(KEY, rng.randbytes(20), starts, ipv6=False, now=0.0, rng=rng, allows=is_public)


def run(search: MainlineSearch, world: MainlineWorld, silent: frozenset[Address] = frozenset()) -> tuple[float, int]:
    """Go through a search, each answer after 0.1 s; how long it took and how many queries it sent."""
    now, sent = 0.0, 0
    while not search.is_over(now):
        queries = list(search.due(now))
        assert len(queries) <= PARALLEL
        sent += len(queries)
        now += 0.1
        for address, query in queries:
            node = world.nodes.get(address)
            if node is not None and address not in silent:
                assert search.on_datagram(node.on_datagram(query, ME), address)
    return now, sent


def announce(search: MainlineSearch, world: MainlineWorld, source: Address) -> None:
    for address, datagram in search.announcements(4750):
        world.nodes[address].on_datagram(datagram, source)


def test_what_one_announces_another_finds_at_the_nearest_nodes() -> None:
    rng = Random(7)
    world = MainlineWorld(rng, 300)
    first = start(world, rng)
    run(first, world)
    assert not first.found()
    announce(first, world, ME)
    keepers = {node.address for node in world.nodes.values() if node.kept}
    assert keepers == {node.address for node in world.nearest(KEY)}
    second = start(world, rng)
    took_s, sent = run(second, world)
    assert second.found() == [Address(ME.host, 4750)]
    assert (took_s, sent) <= (1.5, 20)
    assert second.answered()[:NEAREST] == [node.address for node in world.nearest(KEY)]


def test_half_of_the_nodes_silent() -> None:
    rng = Random(7)
    world = MainlineWorld(rng, 300)
    silent = frozenset(rng.sample(sorted(world.nodes), 150))
    first = start(world, rng, 8)
    took_s, _ = run(first, world, silent)
    assert took_s <= SEARCH_S + QUERY_S
    announce(first, world, ME)
    second = start(world, rng, 8)
    run(second, world, silent)
    assert Address(ME.host, 4750) in second.found()


def lie(node: MainlineNode, arguments: dict[bytes, Value]) -> dict[bytes, Value]:
    """Nodes that do not exist, nearer than all others; a hundred addresses; junk in the token."""
    rng = Random(node.node_id)
    near = [KEY[:18] + rng.randbytes(2) + rng.randbytes(4) + b"\x1a\xe1" for _ in range(20)]
    values: list[Value] = [bytes([9, node.address.port % 250, number, 1, 0x12, 0x8E]) for number in range(120)]
    return {b"nodes": b"".join(near), b"values": values, b"token": bytes(100)}


def test_liars_cost_a_bounded_number_of_queries_and_fill_no_list() -> None:
    rng = Random(7)
    world = MainlineWorld(rng, 300)
    first = start(world, rng)
    run(first, world)
    announce(first, world, ME)
    for node in rng.sample(sorted(world.nodes.values(), key=lambda each: each.address), 150):
        node.answer = lie
    second = start(world, rng, 8)
    took_s, sent = run(second, world)
    assert sent <= MAX_QUERIES
    assert took_s <= SEARCH_S + 0.2
    found = second.found()
    assert len(found) <= MAX_FOUND
    assert Address(ME.host, 4750) in found, "each node that answers names one before any names two"


def test_nodes_heard_of_are_bounded() -> None:
    rng = Random(7)
    world = MainlineWorld(rng, 60)
    for node in world.nodes.values():
        node.answer = lie
    search = start(world, rng, 60)
    run(search, world)
    assert len(vars(search)["_candidates"]) <= MAX_CANDIDATES


def test_only_the_node_that_was_asked_answers_and_only_once() -> None:
    rng = Random(7)
    world = MainlineWorld(rng, 3)
    search = start(world, rng)
    ((address, query),) = search.due(0.0)
    answer = world.nodes[address].on_datagram(query, ME)
    assert not search.on_datagram(answer, Address("5.9.9.9", 1))
    assert not search.on_datagram(world.nodes[address].on_datagram(get_peers(b"aaaa", bytes(20), KEY), ME), address)
    assert search.on_datagram(answer, address)
    assert not search.on_datagram(answer, address)


def test_a_search_without_any_answer_ends() -> None:
    rng = Random(7)
    world = MainlineWorld(rng, 10)
    search = start(world, rng, 3)
    took_s, sent = run(search, world, frozenset(world.nodes))
    assert (sent, search.found(), search.announcements(1)) == (3, [], [])
    assert took_s <= QUERY_S + 0.2


def test_addresses_that_nobody_may_ping_are_left_out() -> None:
    rng = Random(7)
    world = MainlineWorld(rng, 1)
    (node,) = world.nodes.values()
    values: list[Value] = [bytes([10, 0, 0, 1, 1, 1]), bytes([127, 0, 0, 1, 1, 1]), bytes([9, 9, 9, 9, 0, 0]), b"short"]
    node.answer = lambda each, arguments: {b"values": [*values, bytes([9, 9, 9, 9, 1, 1])], b"nodes": b"x" * 27}
    search = start(world, rng)
    run(search, world)
    assert search.found() == [Address("9.9.9.9", 257)]


@given(st.binary(max_size=300))
def test_no_datagram_breaks_the_reader(data: bytes) -> None:
    assert read_answer(data, ipv6=False) is None


@pytest.mark.parametrize("ipv6", [False, True])
@given(
    fields=st.dictionaries(
        st.sampled_from([b"id", b"token", b"nodes", b"nodes6", b"values"]),
        st.binary(max_size=80) | st.integers(0, 9) | st.lists(st.binary(max_size=20), max_size=4),
    )
)
def test_no_answer_breaks_the_reader(ipv6: bool, fields: dict[bytes, Value]) -> None:
    answer = read_answer(encode({b"r": fields, b"t": b"aaaa", b"y": b"r"}), ipv6=ipv6)
    assert answer is None or (len(answer.nodes) <= MAX_NODES and len(answer.values) <= MAX_VALUES)


def test_the_bytes_of_bep_5() -> None:
    """Its example, with the mark of a node that answers nothing."""
    asked = get_peers(b"aa", b"abcdefghij0123456789", b"mnopqrstuvwxyz123456")
    assert asked == (
        b"d1:ad2:id20:abcdefghij01234567899:info_hash20:mnopqrstuvwxyz123456e1:q9:get_peers2:roi1e1:t2:aa1:y1:qe"
    )
    answer = read_answer(
        b"d1:rd2:id20:abcdefghij01234567895:token8:aoeusnth6:valuesl6:axje.u6:idhtnmee1:t2:aa1:y1:re", ipv6=False
    )
    assert answer is not None
    assert answer.token == b"aoeusnth"
    assert answer.values == (Address("97.120.106.101", 11893), Address("105.100.104.116", 28269))
    told = announce_peer(b"aa", b"abcdefghij0123456789", b"mnopqrstuvwxyz123456", 6881, b"aoeusnth")
    assert told == (
        b"d1:ad2:id20:abcdefghij01234567899:info_hash20:mnopqrstuvwxyz1234564:porti6881e5:token8:aoeusnthe"
        b"1:q13:announce_peer2:roi1e1:t2:aa1:y1:qe"
    )


def test_the_key_of_a_network() -> None:
    assert KEY.hex() == "5315509ee88e0ebf1bc13ca3b2454e124f596e0c"
