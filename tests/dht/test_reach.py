"""The ways to a node: their wire form, and what a reader refuses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.dht import Address, Contact, NetworkParameters, NodeId, ProtocolError, Reach, reach_of
from shoal.dht.reach import MAX_REACH_BYTES, split_reach

V4, V6 = Address("44.1.2.3", 4750), Address.of("2a01:db8::7", 4750)
RELAYS = tuple(Contact(NodeId(bytes([number]) * 32), Address(f"44.{number}.0.1", 4750)) for number in (1, 2, 3))
PUBLIC, PRIVATE = NetworkParameters("net"), NetworkParameters("net", private=True)

families = st.sampled_from([(), (V4,), (V6,), (V4, V6)])
reaches = st.builds(
    lambda direct, relays: Reach(direct, relays[: 4 - len(direct)]),
    families,
    st.lists(st.sampled_from(RELAYS), min_size=1, max_size=3, unique=True).map(tuple),
)


@given(reaches, st.binary(max_size=20))
def test_it_comes_back_as_it_was_packed(reach: Reach, rest: bytes) -> None:
    packed = reach.pack()
    assert len(packed) <= MAX_REACH_BYTES
    assert split_reach(packed + rest) == (reach, rest)
    assert Reach.unpack(packed) == reach


@given(st.binary(max_size=200))
def test_whatever_the_bytes_are_there_is_a_reach_or_one_error(data: bytes) -> None:
    try:
        reach, rest = split_reach(data)
    except ProtocolError:
        return
    assert reach.where
    assert data.endswith(rest)


def test_ways_of_unknown_kinds_are_passed_over() -> None:
    later = bytes([3, 9, 5]) + b"later" + bytes([1, 6]) + V4.pack() + bytes([8, 0])
    assert Reach.unpack(later) == Reach.of(V4)
    with pytest.raises(ProtocolError):
        Reach.unpack(bytes([1, 9, 5]) + b"later")


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        bytes([0]),
        bytes([5]) + bytes([1, 6]) * 5,
        bytes([1, 1, 6]) + V4.pack()[:-1],
        bytes([1, 1, 7]) + V4.pack() + b"x",
        bytes([2, 1, 6]) + V4.pack() + bytes([1, 6]) + V4.pack(),
        bytes([1, 2, 6]) + V4.pack(),
        bytes([2, 1, 6]) + V4.pack() + bytes([9, 255]) + bytes(255),
        Reach.of(V4).pack() + b"x",
    ],
)
def test_what_is_no_reach_is_refused(packed: bytes) -> None:
    with pytest.raises(ProtocolError):
        Reach.unpack(packed)


def test_a_node_behind_relays_counts_at_the_first_of_them() -> None:
    relayed = Reach((), RELAYS).contact(NodeId(bytes(32)))
    assert relayed.is_relayed
    assert relayed.address == RELAYS[0].address
    assert reach_of(relayed).relays == RELAYS
    plain = Reach.of(V4).contact(NodeId(bytes(32)))
    assert not plain.is_relayed
    assert reach_of(plain) == Reach.of(V4)


def test_a_public_network_wants_relays_in_different_places() -> None:
    near = Contact(NodeId(bytes([9]) * 32), Address("44.1.0.9", 4750))
    assert Reach((), RELAYS).allowed_in(PUBLIC)
    assert not Reach((), (RELAYS[0], near)).allowed_in(PUBLIC)
    assert Reach((), (RELAYS[0], near)).allowed_in(PRIVATE)
    assert not Reach((), (RELAYS[0], RELAYS[0])).allowed_in(PRIVATE)
    assert not Reach((V4,), (Contact(NodeId(bytes(32)), Address("10.0.0.1", 1)),)).allowed_in(PUBLIC)


@pytest.mark.parametrize(
    ("known", "now", "found"),
    [
        (Reach.of(V4), Reach.of(V4), True),
        (Reach.of(V4), Reach((V4, V6)), True),
        (Reach((V4, V6)), Reach.of(V4), False),
        (Reach.of(V4), Reach((), RELAYS), False),
        (Reach((), RELAYS), Reach.of(V4), False),
        (Reach((), RELAYS[:2]), Reach((), RELAYS[1:]), True),
        (Reach((), RELAYS[:1]), Reach((), RELAYS[1:]), False),
    ],
)
def test_who_knows_an_earlier_reach_may_still_find_the_node(known: Reach, now: Reach, found: bool) -> None:
    assert now.is_found_by(known) is found


def test_a_record_for_one_family_has_addresses_of_that_family_alone() -> None:
    assert Reach((V4, V6)).seen_from(ipv6=True) == Reach.of(V6)
    assert Reach.of(V4).seen_from(ipv6=True) is None
    assert Reach((V4,), RELAYS).seen_from(ipv6=True) == Reach((), RELAYS)
