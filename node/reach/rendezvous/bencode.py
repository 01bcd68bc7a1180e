"""Bencoding (BEP 3): integers, byte strings, lists and dictionaries. There is one way to write a value, and no other is
read."""

from typing import TypeAlias

Value: TypeAlias = int | bytes | list["Value"] | dict[bytes, "Value"]

MAX_BYTES = 2048  # longer than any answer that a node may send
MAX_DEPTH = 6  # an answer has its values in a list in a dictionary in a dictionary
MAX_DIGITS = 19  # of an integer, and of a length


class BadBencode(Exception):
    """The bytes are no value in bencoding, or not the only way to write it, or beyond the bounds."""


def encode(value: Value) -> bytes:
    """The bytes of a value."""
    match value:
        case bytes():
            return b"%d:%b" % (len(value), value)
        case int():
            return b"i%de" % value
        case list():
            return b"l%be" % b"".join(encode(each) for each in value)
        case dict():
            return b"d%be" % b"".join(encode(key) + encode(value[key]) for key in sorted(value))


def decode(data: bytes) -> Value:
    """The value of some bytes. Raises BadBencode."""
    if len(data) > MAX_BYTES:
        raise BadBencode(f"{len(data)} bytes")
    value, end = _value(data, 0, MAX_DEPTH)
    if end != len(data):
        raise BadBencode("bytes behind the end")
    return value


def _value(data: bytes, at: int, depth: int) -> tuple[Value, int]:
    """The value that begins at a place, and where it ends."""
    first = data[at : at + 1]
    if first == b"i":
        return _integer(data, at + 1, b"e", signed=True)
    if first.isdigit():
        return _string(data, at)
    if first not in (b"l", b"d") or not depth:
        raise BadBencode(f"no value at {at}")
    items: list[Value] = []
    fields: dict[bytes, Value] = {}
    last: bytes | None = None
    at += 1
    while data[at : at + 1] != b"e":
        if first == b"l":
            item, at = _value(data, at, depth - 1)
            items.append(item)
            continue
        key, at = _string(data, at)
        if last is not None and key <= last:
            raise BadBencode("keys that are not in order")
        fields[key], at = _value(data, at, depth - 1)
        last = key
    return (items if first == b"l" else fields), at + 1


def _string(data: bytes, at: int) -> tuple[bytes, int]:
    length, begin = _integer(data, at, b":", signed=False)
    end = begin + length
    if end > len(data):
        raise BadBencode("a string that goes on behind the end")
    return data[begin:end], end


def _integer(data: bytes, at: int, mark: bytes, *, signed: bool) -> tuple[int, int]:
    """A decimal number up to a mark, and where the mark ends."""
    end = data.find(mark, at, at + MAX_DIGITS + 2)
    digits = data[at:end] if end >= 0 else b""
    bare = digits.removeprefix(b"-") if signed else digits
    is_plain = bare.isdigit() and (bare[:1] != b"0" or digits == b"0")
    if not is_plain or len(bare) > MAX_DIGITS:
        raise BadBencode(f"no number at {at}")
    return int(digits), end + 1
