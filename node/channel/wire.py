"""How one field of a message travels: the msgpack options, chosen once, and a strict check for each kind of
field."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

import msgpack

from shoal.node import formats
from shoal.node.channel.errors import MalformedMessage

MAX_HEADER_BYTES = 64 * 1024  # the largest header a node sends has some 9 KiB; a stranger can make us hold no more
MAX_ARRAY_COUNT = 1024  # four times the longest list of any message (256 shares)
MAX_INT = 2**63 - 1  # what every msgpack library and SQLite can hold

Check = Callable[[Any], Any]
"""Takes what msgpack gave, returns the field's value, raises MalformedMessage."""


def pack(values: list[Any]) -> bytes:
    """Header bytes for `values`."""
    packed: bytes = msgpack.packb(values, use_bin_type=True)
    return packed


def _malformed_header(words: str) -> MalformedMessage:
    return MalformedMessage(f"a header that is {words}")


def unpack(header: bytes | bytearray | memoryview) -> list[Any]:
    """The array in `header`. Whatever the bytes: a list, or MalformedMessage."""
    if len(header) > MAX_HEADER_BYTES:
        raise MalformedMessage(f"a header of {len(header)} bytes")
    values = formats.unpack(header, _malformed_header, most_items=MAX_ARRAY_COUNT, most_pairs=MAX_ARRAY_COUNT)
    if type(values) is not list:
        raise MalformedMessage("a header that is no array")
    return values


def exactly(length: int) -> Mapping[str, Check]:
    """A byte string of one length."""

    def check(value: Any) -> bytes:
        if type(value) is not bytes or len(value) != length:
            raise MalformedMessage(f"a field is not {length} bytes")
        return value

    return {"check": check}


def blob(longest: int, unit: int = 1) -> Mapping[str, Check]:
    """A byte string of at most `longest` bytes, a multiple of `unit`."""

    def check(value: Any) -> bytes:
        if type(value) is not bytes or len(value) > longest or len(value) % unit:
            raise MalformedMessage(f"a field is not up to {longest} bytes in units of {unit}")
        return value

    return {"check": check}


def text(longest: int) -> Mapping[str, Check]:
    """A string of at most `longest` characters. Never to be printed raw: it comes from a stranger."""

    def check(value: Any) -> str:
        if type(value) is not str or len(value) > longest:
            raise MalformedMessage(f"a field is not text of up to {longest} characters")
        return value

    return {"check": check}


def uint(largest: int = MAX_INT, least: int = 0) -> Mapping[str, Check]:
    """An integer from `least` to `largest`; True and 1.0 are none."""

    def check(value: Any) -> int:
        if type(value) is not int or not least <= value <= largest:
            raise MalformedMessage(f"a field is not an integer from {least} to {largest}")
        return value

    return {"check": check}


def _check_flag(value: Any) -> bool:
    if type(value) is not bool:
        raise MalformedMessage("a field is not true or false")
    return value


FLAG: Mapping[str, Check] = {"check": _check_flag}


def rows(width: int, longest: int) -> Mapping[str, Check]:
    """A list of at most `longest` rows of `width` integers each; longer rows are cut, they come from the
    future."""
    integer = uint()["check"]

    def check(value: Any) -> tuple[tuple[int, ...], ...]:
        if type(value) is not list or len(value) > longest:
            raise MalformedMessage(f"a field is not a list of up to {longest} rows")
        if any(type(row) is not list or len(row) < width for row in value):
            raise MalformedMessage(f"a row has fewer than {width} columns")
        return tuple(tuple(integer(column) for column in row[:width]) for row in value)

    return {"check": check}


_schemas: dict[type[Any], tuple[tuple[str, Check], ...]] = {}


def schema(message: type[Any]) -> tuple[tuple[str, Check], ...]:
    """Names and checks of the fields of a message class that travel in the header, in their order."""
    known = _schemas.get(message)
    if known is None:
        known = tuple((each.name, each.metadata["check"]) for each in fields(message) if "check" in each.metadata)
        _schemas[message] = known
    return known


def field_values(message: Any) -> list[Any]:
    """What goes into the header for `message`."""
    return [getattr(message, name) for name, _ in schema(type(message))]


def read_fields(message: type[Any], values: list[Any]) -> dict[str, Any]:
    """Arguments for `message` from the values of a header. Trailing values we do not know are ignored."""
    wanted = schema(message)
    if len(values) < len(wanted):
        raise MalformedMessage(f"{message.__name__} has {len(wanted)} fields, not {len(values)}")
    return {name: check(value) for (name, check), value in zip(wanted, values, strict=False)}
