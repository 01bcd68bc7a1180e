"""Encoding and decoding: golden vectors, round trips, and bytes from a stranger."""

import os
import random
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.erasure import MAX_MANIFEST_BYTES
from shoal.node.channel import messages as m
from shoal.node.channel import wire
from shoal.node.channel.errors import MalformedMessage, RemoteError
from shoal.node.errors import Cause

VECTORS = Path(__file__).parent / "vectors" / "messages.txt"


def counting(length: int, start: int) -> bytes:
    return bytes((start + i) % 256 for i in range(length))


FILE_ID = counting(32, 0)
UPLOAD = counting(16, 0xA0)
HELLOS: list[Any] = [
    m.ServerHello(1, 1, 0, counting(32, 0x10), counting(8, 0x30), counting(32, 0x40), counting(8, 0x60), "reef"),
    m.ClientHello(1, 3, 5, bytes(8), ""),
    m.ClientHello(1, 1, 0, counting(8, 0x60), "reef"),
]
REQUESTS: list[m.AnyRequest] = [
    m.Identify("peer", counting(32, 0x50), counting(8, 0x70), counting(64, 0x80)),
    m.Offer(UPLOAD, 1_000_000, 7_776_000, b""),
    m.Write(UPLOAD, 16, counting(64, 0), True),
    m.Commit(UPLOAD, 11, 7_776_000),
    m.GetManifest(FILE_ID),
    m.GetHolders(FILE_ID),
    m.TellHolders(FILE_ID),
    m.Announce(FILE_ID, False),
    m.Read(FILE_ID, 3, 32, 16, True),
    m.GetHeld(FILE_ID),
    m.GetStatus(),
    m.Abort(UPLOAD),
    m.Survey(FILE_ID + counting(32, 0x20), True),
    m.Renew(FILE_ID, 7_776_000),
    m.Delete(FILE_ID, 1_800_000_000, counting(64, 0x40)),
    m.Stop(),
    m.Put(UPLOAD, 11, 7_776_000, 700, b""),
    m.Settle(FILE_ID),
    m.Reserve(15, 40),
    m.Ring(counting(32, 0x10)),
    m.GetRelayed(),
    m.Knock(counting(16, 0xB0)),
]
REPLIES: list[tuple[m.AnyRequest, m.Reply]] = list(
    zip(
        REQUESTS,
        [
            m.Done(),
            m.Offered(32, 0),
            m.Written(18, 16),
            m.Committed(1_800_000_000, counting(100, 1)),
            m.ManifestBytes(b"manifest"),
            m.HolderList(b"\x90"),
            m.Told(12),
            m.Announced(((0, 20, 19), (2, 20, 20))),
            m.Blocks(counting(64, 0), counting(32, 7), b"", b"blocks"),
            m.HeldShares(((3, 1_800_000_000),)),
            m.StatusReport(b"\x80"),
            m.Done(),
            m.Surveyed(1_800_000_000, b"\x92\x90\x90"),
            m.LeaseRenewed(((3, 1_807_776_000),)),
            m.Done(),
            m.Done(),
            m.Committed(1_800_000_000, counting(100, 1)),
            m.Settled(12, ((0, 20, 19),)),
            m.Reserved(bytes([1, 2, 3, 4, 5, 6]), counting(16, 0xB0), bytes([4, 3, 2, 1, 0, 9])),
            m.Rung(counting(16, 0xB0), bytes([1, 2, 3, 4, 5, 6])),
            m.RelayedNodes(counting(33, 0)),
            m.Done(),
        ],
        strict=True,
    )
)
FAILURES = [
    m.Failure(m.Status.FULL, m.Reason.CAPACITY, "no room", 3),
    m.Failure(m.Status.REFUSED, m.Reason.LEAVING),
    m.Failure(m.Status.NOT_FOUND),
]


def all_vectors() -> list[str]:
    lines = [f"hello {type(each).__name__} {m.encode_hello(each).hex()}" for each in HELLOS]
    lines += [f"request {type(each).__name__} {m.encode_request(7, each).hex()}" for each in REQUESTS]
    for request, reply in REPLIES:
        lines.append(f"reply {type(reply).__name__} {m.encode_reply(request.TYPE, 7, reply).hex()}")
    lines += [f"failure {each.status.name} {m.encode_failure(10, 7, each).hex()}" for each in FAILURES]
    return lines


def test_encoding_equals_the_golden_vectors() -> None:
    if os.environ.get("SHOAL_WRITE_VECTORS"):
        VECTORS.write_text("\n".join(all_vectors()) + "\n")
    assert all_vectors() == VECTORS.read_text().splitlines()


@pytest.mark.parametrize("hello", HELLOS)
def test_hello_round_trip(hello: Any) -> None:
    assert m.decode_hello(m.encode_hello(hello), type(hello)) == hello


@pytest.mark.parametrize("request_", REQUESTS)
def test_request_round_trip(request_: m.AnyRequest) -> None:
    assert m.decode_request(m.encode_request(2**32 - 1, request_), 0) == (2**32 - 1, request_)


@pytest.mark.parametrize(("request_", "reply"), REPLIES)
def test_reply_round_trip(request_: m.AnyRequest, reply: m.Reply) -> None:
    raw = m.decode_reply_head(m.encode_reply(request_.TYPE, 5, reply))
    assert raw.request_id == 5
    assert m.decode_reply(raw, request_, m.reply_payload(reply)) == reply


def test_failures_become_errors_that_keep_the_numbers() -> None:
    raw = m.decode_reply_head(m.encode_failure(10, 7, FAILURES[0]))
    failure = m.decode_reply(raw, m.Read(FILE_ID, 0, 0, 1, True), b"")
    assert isinstance(failure, m.Failure)
    error = failure.error()
    assert error.args == (m.Status.FULL, m.Reason.CAPACITY, "no room", 3, Cause.FULL)
    copy = RemoteError(*error.args)
    assert (copy.status, copy.reason, copy.text, copy.price, copy.cause) == error.args


def test_every_request_type_has_one_number() -> None:
    assert sorted(m.REQUESTS) == [*range(2, 24)]
    assert {type(each) for each in REQUESTS} == set(m.REQUESTS.values())


def test_trailing_fields_are_ignored() -> None:
    values = msgpack.unpackb(m.encode_request(1, REQUESTS[1]))
    assert m.decode_request(msgpack.packb([*values, {"new": 1}, None]), 0)[1] == REQUESTS[1]
    rows = msgpack.packb([0x80 | 9, 1, 0, [[0, 20, 19, "new"]]])
    assert m.decode_reply(m.decode_reply_head(rows), m.Announce(FILE_ID, False), b"") == m.Announced(((0, 20, 19),))


def test_an_unknown_type_is_told_apart_from_a_malformed_one() -> None:
    assert m.decode_request(msgpack.packb([99, 4, "anything"]), 10) == (4, m.UnknownRequest(99))


@pytest.mark.parametrize("reason", [0, m.Reason.DELETED.value, 60_000])
def test_a_status_of_a_later_version_is_a_plain_refusal(reason: int) -> None:
    raw = m.decode_reply_head(msgpack.packb([0x80 | 11, 1, 200, reason, "what", 0]))
    expected = m.Failure(m.Status.REFUSED, m.Reason.FROM_LATER, "what")
    assert m.decode_reply(raw, m.GetHeld(FILE_ID), b"") == expected


def test_a_reason_of_a_later_version_says_no_more_than_its_status() -> None:
    raw = m.decode_reply_head(msgpack.packb([0x80 | 11, 1, m.Status.FULL.value, 60_000, "what", 0, "new"]))
    assert m.decode_reply(raw, m.GetHeld(FILE_ID), b"") == m.Failure(m.Status.FULL, m.Reason.UNSTATED, "what")


@pytest.mark.parametrize(
    "values",
    [
        [],
        [10],
        [True, 1],
        [1.0, 1],
        [-1, 1],
        [128, 1],
        [10, 2**32],
        [10, True],
        {"a": 1},
        7,
        None,
    ],
)
def test_headers_without_a_request_are_malformed(values: Any) -> None:
    with pytest.raises(MalformedMessage) as caught:
        m.decode_request(msgpack.packb(values), 0)
    assert caught.value.request is None


@pytest.mark.parametrize(
    "fields_",
    [
        [],
        [FILE_ID, 1, 0, 1],
        [FILE_ID[:31], 1, 0, 1, True],
        ["x" * 32, 1, 0, 1, True],
        [FILE_ID, 256, 0, 1, True],
        [FILE_ID, 1, -1, 1, True],
        [FILE_ID, 1, 2**40, 1, True],
        [FILE_ID, 1, 0, 0, True],
        [FILE_ID, 1, 0, 17, True],
        [FILE_ID, 1, 0, 1.0, True],
        [FILE_ID, 1, 0, 1, 1],
        [FILE_ID, True, 0, 1, True],
    ],
)
def test_fields_are_checked_strictly(fields_: list[Any]) -> None:
    with pytest.raises(MalformedMessage) as caught:
        m.decode_request(msgpack.packb([10, 77, *fields_]), 0)
    assert caught.value.request == (10, 77)


def test_payloads_only_where_they_belong() -> None:
    with pytest.raises(MalformedMessage):
        m.decode_request(m.encode_request(1, m.GetHeld(FILE_ID)), 1)
    with pytest.raises(MalformedMessage):
        m.decode_request(m.encode_request(1, REQUESTS[3]), MAX_MANIFEST_BYTES + 1)


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(MalformedMessage):
        wire.unpack(b"\x91" * 60_000 + b"\x90")


def test_an_oversized_header_is_refused() -> None:
    with pytest.raises(MalformedMessage):
        wire.unpack(msgpack.packb([b"x" * wire.MAX_HEADER_BYTES]))


def decode_all(data: bytes) -> None:
    """Every decoder, on any bytes: a value or MalformedMessage."""
    for decode in (
        lambda: m.decode_request(data, 0),
        lambda: m.decode_hello(data, m.ServerHello),
        lambda: m.decode_hello(data, m.ClientHello),
        lambda: [m.decode_reply(m.decode_reply_head(data), each, b"") for each in REQUESTS],
    ):
        with suppress(MalformedMessage):
            decode()


@given(st.binary(max_size=200))
def test_random_bytes_never_crash_a_decoder(data: bytes) -> None:
    decode_all(data)


scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.binary() | st.text()
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(), inner))


@settings(max_examples=40)  # slow to generate; the other two tests of this kind are quick
@given(st.lists(values, max_size=10), st.integers(0, 255), st.integers(0, 2**32))
def test_random_values_never_crash_a_decoder(rest: list[Any], type_number: int, request_id: int) -> None:
    decode_all(msgpack.packb([type_number, request_id, *rest]))


def test_mutated_messages_never_crash_a_decoder(rng: random.Random) -> None:
    valid = [bytes.fromhex(line.rsplit(" ", 1)[1]) for line in all_vectors()]
    for _ in range(3000):
        data = bytearray(rng.choice(valid))
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        decode_all(bytes(data[: rng.randint(1, len(data))]) if rng.random() < 0.3 else bytes(data))


def test_every_field_has_a_check() -> None:
    for message in (*m.REQUESTS.values(), m.ServerHello, m.ClientHello):
        assert len(wire.schema(message)) == len(fields(message))
