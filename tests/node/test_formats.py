"""The one way into msgpack: a stranger's bytes give a value or the caller's own error."""

from contextlib import suppress

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.node.formats import unpack

HOSTILE = {
    "nothing": b"",
    "deep arrays": b"\x91" * 5000 + b"\x90",
    "deep maps": b"\x81\xa1a" * 2000 + b"\xc0",
    "an array that claims four billion items": b"\xdd\xff\xff\xff\xff",
    "a map that claims four billion pairs": b"\xdf\xff\xff\xff\xff",
    "bytes that are not there": b"\xc6\xff\xff\xff\xff",
    "text that is not UTF-8": b"\xa2\xff\xfe",
    "an extension": msgpack.packb(msgpack.ExtType(5, b"abc")),
    "a time": b"\xd6\xff\x00\x00\x00\x00",
    "two values": b"\xc0\xc0",
    "a key that is an array": b"\x81\x90\xc0",
    "too many items": msgpack.packb([0] * 17),
}


class Malformed(Exception):
    pass


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_bytes_are_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        unpack(data, Malformed, most_items=16, most_pairs=16)


@given(st.binary(max_size=200))
def test_any_bytes_give_a_value_or_the_callers_error(data: bytes) -> None:
    with suppress(Malformed):
        value = unpack(data, Malformed, most_items=16, most_pairs=16)
        again = unpack(msgpack.packb(value), Malformed, most_items=16, most_pairs=16)
        assert repr(again) == repr(value)
