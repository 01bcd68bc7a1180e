"""A manifest is valid or MalformedManifest, whatever the bytes, and has one encoding."""

import contextlib
import math
import struct
import tracemalloc
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import msgpack
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgpack.ext import ExtType

from shoal.erasure import (
    MAX_MANIFEST_BYTES,
    BadParameters,
    MalformedManifest,
    Manifest,
    manifest_id,
)

FIELDS = [
    "k", "n", "block_bytes", "ciphertext_bytes", "data_root", "share_roots",
    "metadata", "key_commitment", "owner_key", "public_key_material", "extension",
]  # fmt: skip
GOOD = [1, 2, 3, 65536, 296, b"d" * 32, b"s" * 96, b"m" * 256, b"c" * 32, b"o" * 32, b"", b""]
HASHES = st.binary(min_size=32, max_size=32)


def refused(data: bytes) -> str:
    with pytest.raises(MalformedManifest) as caught:
        Manifest.decode(data)
    assert caught.value.__cause__ is None or "\n" not in str(caught.value.__cause__)
    return str(caught.value)


@st.composite
def manifests(draw: Callable[..., Any]) -> Manifest:
    n = draw(st.integers(1, 256))
    k = draw(st.integers(1, n))
    segments = draw(st.integers(0, 1000) | st.just((1 << 54) // (k * 65536) - 1))
    return Manifest(
        k=k,
        n=n,
        block_bytes=65536,
        ciphertext_bytes=segments * k * 65536 + draw(st.integers(41, k * 65536)),
        data_root=draw(HASHES),
        share_roots=tuple(draw(st.lists(HASHES, min_size=n, max_size=n))),
        metadata=draw(st.binary(max_size=300)),
        key_commitment=draw(HASHES),
        owner_key=draw(HASHES),
        public_key_material=draw(HASHES | st.just(b"")),
        extension=draw(st.binary(max_size=1024)),
    )


@settings(max_examples=60)
@given(manifests())
def test_round_trip(manifest: Manifest) -> None:
    data = manifest.encode()
    assert len(data) <= MAX_MANIFEST_BYTES
    for form in (data, bytearray(data), memoryview(data)):
        assert Manifest.decode(form) == manifest
    assert manifest.id == manifest_id(data)
    assert manifest.layout.ciphertext_bytes == manifest.ciphertext_bytes
    assert [manifest.share_root(share) for share in range(manifest.n)] == list(manifest.share_roots)


def test_the_largest_manifest_fits() -> None:
    values = [
        1,
        1,
        256,
        65536,
        1 << 54,
        b"d" * 32,
        b"s" * 8192,
        b"m" * 4096,
        b"c" * 32,
        b"o" * 32,
        b"k" * 32,
        b"e" * 1024,
    ]
    data = msgpack.packb(values)
    assert Manifest.decode(data).encode() == data


@pytest.mark.parametrize("share", [-1, 3, True, 1.0, None])
def test_share_root_of_no_share(share: Any) -> None:
    with pytest.raises(BadParameters):
        Manifest.decode(msgpack.packb(GOOD)).share_root(share)


BAD_NUMBERS: list[Any] = [
    True,
    False,
    -1,
    1.0,
    math.nan,
    None,
    "2",
    b"2",
    [],
    [2],
    (1 << 64) - 1,
    1 << 63,
    -(1 << 63),
    datetime(2026, 1, 1, tzinfo=UTC),
    {},
]
BAD_VALUES: dict[str, list[Any]] = {
    "version": [0, 2, 127, 128, 1 << 63],
    "k": [0, 4, 256, 257],
    "n": [0, 1, 2, 4, 257, 1 << 32],
    "block_bytes": [0, 1, 65535, 65537, 1 << 31],
    "ciphertext_bytes": [0, 40, 2 * 65536, (1 << 54) + 1, 131072 + 1, 131072 + 40],
    "data_root": [b"", b"d" * 31, b"d" * 33, "d" * 32, 5, None, [b"d" * 32]],
    "share_roots": [b"", b"s" * 64, b"s" * 95, b"s" * 97, b"s" * 128, [b"s" * 32] * 3, None, 3],
    "metadata": [b"m" * 4097, "m", None, 0, True, []],
    "key_commitment": [b"", b"c" * 31, None],
    "owner_key": [b"", b"o" * 64, None],
    "public_key_material": [b"k", b"k" * 31, b"k" * 33, None, False],
    "extension": [b"e" * 1025, None, "", []],
}  # fmt: skip


def bad_cases() -> Iterator[Any]:
    for at, name in enumerate(["version", *FIELDS]):
        for value in BAD_VALUES[name] + (BAD_NUMBERS if at < 5 else []):
            if not (name == "ciphertext_bytes" and value == 2 * 65536):  # one full segment: the good one below
                yield pytest.param(at, value, id=f"{name}={str(value)[:20]!r}")


@pytest.mark.parametrize(("at", "value"), list(bad_cases()))
def test_one_wrong_field(at: int, value: Any) -> None:
    values = list(GOOD)
    values[at] = value
    refused(msgpack.packb(values, datetime=True))


def test_full_segment_is_good() -> None:
    Manifest.decode(msgpack.packb([*GOOD[:4], 131072, *GOOD[5:]]))


def test_a_constructor_is_as_strict() -> None:
    good = Manifest.decode(msgpack.packb(GOOD))
    fields = {name: getattr(good, name) for name in FIELDS}
    for change in (
        {"k": True},
        {"share_roots": list(good.share_roots)},
        {"share_roots": good.share_roots[:2]},
        {"share_roots": (*good.share_roots[:2], b"short")},
        {"data_root": bytearray(32)},
    ):
        with pytest.raises(MalformedManifest):
            Manifest(**fields | change)


@pytest.mark.parametrize("count", range(1, 13))
def test_missing_and_added_fields(count: int) -> None:
    refused(msgpack.packb(GOOD[: count - 1]))
    refused(msgpack.packb(GOOD + [b""] * count))


def test_a_newer_version_is_said_to_be_newer() -> None:
    assert "newer version" in refused(msgpack.packb([2, {"anything": "else"}]))


@pytest.mark.parametrize("at", range(12))
def test_a_second_way_to_write_a_value_is_refused(at: int) -> None:
    """Wider integers, wider lengths and a wider array header all mean the same to msgpack."""
    parts = [msgpack.packb(value) for value in GOOD]
    value = GOOD[at]
    wide = (
        b"\xc6" + struct.pack(">I", len(value)) + value
        if isinstance(value, bytes)
        else b"\xcf" + struct.pack(">Q", value)
    )
    parts[at] = wide
    refused(b"\x9c" + b"".join(parts))


def test_wide_header_trailing_byte_and_text_are_refused() -> None:
    data = msgpack.packb(GOOD)
    refused(b"\xdc\x00\x0c" + data[1:])
    refused(b"\xdd\x00\x00\x00\x0c" + data[1:])
    refused(data + b"\0")
    refused(msgpack.packb(GOOD, use_bin_type=False))


@pytest.mark.parametrize(
    "data",
    [
        b"\x91" * 16000,
        b"\xdc\x00\x0c" * 5000,
        b"\xdd\xff\xff\xff\xff" * 3000,
        b"\xdf\xff\xff\xff\xff" * 3000,
        b"\x9c" * 16384,
        b"\x9c\x01\xc6\xff\xff\xff\xff",
        b"\x91\xc9\xff\xff\xff\xff\x01",
        b"\x01" * 16384,
        bytes(MAX_MANIFEST_BYTES + 1),
        bytes(1 << 24),
        b"",
    ],
    ids=lambda data: data[:6].hex() + f" x {len(data)}",
)
def test_bombs_cost_little(data: bytes) -> None:
    tracemalloc.start()
    try:
        refused(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20


@settings(max_examples=400)
@given(st.binary(max_size=200))
@example(b"\x9c\x01")
def test_random_bytes_are_refused(data: bytes) -> None:
    refused(data)
    refused(b"\x9c\x01" + data)


@settings(max_examples=400)
@given(st.data())
def test_a_damaged_manifest_is_another_manifest_or_refused(data: st.DataObject) -> None:
    encoded = bytearray(msgpack.packb(GOOD))
    at = data.draw(st.integers(0, len(encoded) - 1))
    encoded[at] = data.draw(st.integers(0, 255))
    end = data.draw(st.sampled_from([len(encoded), at]))
    damaged = bytes(encoded[:end])
    with contextlib.suppress(MalformedManifest):
        assert Manifest.decode(damaged).encode() == damaged


WILD = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats() | st.text(max_size=5)
    | st.binary(max_size=40) | st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=8)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.integers(0, 9), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@settings(max_examples=300)
@given(st.lists(WILD, max_size=14), st.dictionaries(st.integers(0, 11), WILD, min_size=1, max_size=3))
def test_wild_values_are_refused_or_valid(
    values: list[bool | dict[Any, Any] | list[dict[Any, Any]] | None], changes: dict[int, list[int | ExtType] | None]
) -> None:
    refused(msgpack.packb(values))
    mixed = [changes.get(at, value) for at, value in enumerate(GOOD)]
    data = msgpack.packb(mixed)
    with contextlib.suppress(MalformedManifest):
        assert Manifest.decode(data).encode() == data
