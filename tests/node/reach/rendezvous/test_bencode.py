"""Bencoding: what is written is read, and nothing else is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.node.reach.rendezvous.bencode import MAX_BYTES, BadBencode, Value, decode, encode

values = st.recursive(
    st.integers(-(10**18), 10**18) | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.binary(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def depth(value: Value) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth, inner), default=0)


@given(values.filter(lambda value: depth(value) <= 6))
def test_round_trip(value: Value) -> None:
    assert decode(encode(value)) == value


@given(st.binary(max_size=60) | st.text("0123456789:ilde-", max_size=40).map(str.encode))
def test_there_is_one_way_to_write_a_value(data: bytes) -> None:
    try:
        value = decode(data)
    except BadBencode:
        return
    assert encode(value) == data


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"4:spam", b"spam"),
        (b"0:", b""),
        (b"i0e", 0),
        (b"i-3e", -3),
        (b"l4:spam4:eggse", [b"spam", b"eggs"]),
        (b"d3:cow3:moo4:spam4:eggse", {b"cow": b"moo", b"spam": b"eggs"}),
        (b"de", {}),
    ],
)
def test_the_examples_of_bep_3(data: bytes, value: Value) -> None:
    assert decode(data) == value
    assert encode(value) == data


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"i", b"ie", b"i-e", b"i-0e", b"i03e", b"i1", b"i 1e", b"i+1e", b"i1_0e", b"i" + b"1" * 20 + b"e"),
        *(b"1:", b"01:a", b"-1:a", b"3:ab", b"99999999999:a", b"1a", b"4spam", "²:aa".encode()),
        *(b"l", b"li1e", b"d", b"d1:a", b"d1:ae", b"di1e1:ae", b"d1:b0:1:a0:e", b"d1:a0:1:a0:e"),
        *(b"i1ei2e", b"e", b"x", b"l" * 7 + b"e" * 7, b"l" * 2000, b"2040:" + b"a" * MAX_BYTES),
    ],
)
def test_what_is_refused(data: bytes) -> None:
    with pytest.raises(BadBencode):
        decode(data)
