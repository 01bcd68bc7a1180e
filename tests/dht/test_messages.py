"""Messages: round trips, the size rules behind "never more out than in", and hostile bytes."""

from collections.abc import Callable
from random import Random
from types import ModuleType
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.dht import Address, Contact, NodeId, ProtocolError
from shoal.dht.messages import (
    MAX_CONTACTS,
    MAX_QUERY_BYTES,
    MIN_REQUEST_BYTES,
    Answered,
    FindNode,
    GetRecords,
    Nodes,
    Ping,
    Pong,
    Query,
    Records,
    ReplyHead,
    Store,
    Stored,
    Unknown,
    Unsupported,
    answer_within,
    decode_frame,
    decode_reply,
    decode_request,
    encode_reply,
    encode_request,
    nodes_within,
    records_within,
    stores_within,
)
from shoal.dht.records import MAX_RECORD_BYTES, MIN_RECORD_BYTES
from shoal.dht.wire import ENVELOPE_BYTES, MAX_DATAGRAM_BYTES

ID, COOKIE = b"i" * 16, b"c" * 16
ids = st.binary(min_size=32, max_size=32)
tags = st.lists(st.binary(min_size=8, max_size=8), max_size=64).map(tuple)
record = st.integers(MIN_RECORD_BYTES, MAX_RECORD_BYTES).map(lambda size: b"r" * size)
addresses = st.builds(Address.of, st.ip_addresses().map(str), st.integers(0, 65535))
contacts = st.lists(st.builds(Contact, ids, addresses), max_size=20).map(tuple)
requests = st.one_of(
    st.just(Ping()),
    st.builds(FindNode, ids),
    st.builds(GetRecords, st.integers(0, 255), ids, tags, st.booleans()),
    st.builds(Store, st.lists(record, max_size=1).map(tuple)),
    st.builds(Query, st.integers(0, 255), st.binary(max_size=MAX_QUERY_BYTES)),
)
replies = st.one_of(
    st.just(Pong()),
    st.builds(Nodes, contacts),
    st.builds(Records, st.just(()), st.lists(record, max_size=1).map(tuple), st.integers(0, 64)),
    st.builds(Stored, st.lists(st.integers(0, 255), max_size=16).map(tuple)),
    st.builds(Answered, st.integers(0, 255), st.binary(max_size=MAX_QUERY_BYTES)),
    st.builds(Unsupported, st.integers(0, 127)),
)


@given(requests, st.sampled_from([b"", COOKIE]), st.booleans(), st.booleans())
def test_requests_round_trip(
    request_message: Ping | Store | FindNode | GetRecords, cookie: bytes, serving: bool, addressed: bool
) -> None:
    body = encode_request(request_message, ID, cookie, serving=serving, addressed=addressed)
    frame = decode_frame(body)
    assert (frame.is_reply, frame.request_id, frame.cookie) == (False, ID, cookie)
    assert (frame.is_serving, frame.is_addressed) == (serving, addressed)
    assert decode_request(frame) == request_message
    assert MIN_REQUEST_BYTES <= ENVELOPE_BYTES + len(body) <= MAX_DATAGRAM_BYTES


@given(replies, addresses, st.integers(0, 63), st.booleans())
def test_replies_round_trip(reply: Pong | Nodes | Stored, observed: Address, space: int, validated: bool) -> None:
    head = ReplyHead(COOKIE, validated, observed, space)
    frame = decode_frame(encode_reply(reply, ID, head))
    assert frame.is_reply
    assert decode_reply(frame) == (head, reply)


@pytest.mark.parametrize("message", [FindNode(bytes(32)), GetRecords(1, bytes(32))])
def test_lists_are_asked_for_with_a_cookie_or_a_whole_datagram(message: FindNode | GetRecords) -> None:
    def size(cookie: bytes) -> int:
        return ENVELOPE_BYTES + len(encode_request(message, ID, cookie, serving=True, addressed=True))

    assert size(b"") in (MAX_DATAGRAM_BYTES, MAX_DATAGRAM_BYTES - 1)
    assert size(COOKIE) < 250


def a_contact(rng: Random, *, ipv6: bool) -> Contact:
    packed = rng.randbytes(16 if ipv6 else 4) + b"\x10\x04"
    return Contact(NodeId(rng.randbytes(32)), Address.unpack(packed))


@pytest.mark.parametrize("ipv6", [False, True])
def test_lists_are_cut_to_the_limit(rng: Random, ipv6: bool) -> None:
    many = [a_contact(rng, ipv6=ipv6) for _ in range(30)]
    records = [rng.randbytes(rng.randint(MIN_RECORD_BYTES, 400)) for _ in range(30)]
    observed = many[0].address
    for limit in range(MIN_REQUEST_BYTES, MAX_DATAGRAM_BYTES + 1):
        for reply in (nodes_within(limit, many), records_within(limit, many[:3], records)):
            body = encode_reply(reply, ID, ReplyHead(COOKIE, True, observed, 63))
            assert ENVELOPE_BYTES + len(body) <= limit
            if isinstance(reply, Records):
                assert reply.remaining == len(records) - len(reply.records)
    assert len(nodes_within(MAX_DATAGRAM_BYTES, many).contacts) == MAX_CONTACTS


@pytest.mark.parametrize("host", ["192.0.2.7", "2001:db8::1"])
def test_an_answer_that_is_too_long_becomes_the_demand_for_a_cookie(host: str) -> None:
    head = ReplyHead(COOKIE, True, Address.of(host, 65535), 63)
    for limit in range(MIN_REQUEST_BYTES, MAX_DATAGRAM_BYTES + 1):
        for length in (0, 8, limit // 2, limit - 200, MAX_QUERY_BYTES):
            reply = answer_within(limit, bytes(max(length, 0)))
            assert ENVELOPE_BYTES + len(encode_reply(reply, ID, head)) <= limit
    assert answer_within(MAX_DATAGRAM_BYTES, bytes(MAX_QUERY_BYTES)).payload == bytes(MAX_QUERY_BYTES)
    assert answer_within(MIN_REQUEST_BYTES, b"what fits") == Answered(0, b"what fits")
    assert answer_within(MIN_REQUEST_BYTES, bytes(100)) == Answered(1, b"")


def test_the_shortest_replies_fit_the_shortest_request() -> None:
    head = ReplyHead(COOKIE, False, Address.of("2001:db8::1", 65535), 63)
    for reply in (Pong(), Unsupported(127), Nodes(()), Records((), (), 0), Stored((6,)), Answered(1, b"")):
        assert ENVELOPE_BYTES + len(encode_reply(reply, ID, head)) <= MIN_REQUEST_BYTES


def test_stores_are_batched_by_size() -> None:
    assert stores_within([]) == 0
    assert stores_within([bytes(MAX_RECORD_BYTES)] * 3) == 1
    small = [bytes(MIN_RECORD_BYTES + 7)] * 30
    count = stores_within(small)
    assert count == 6
    body = encode_request(Store(tuple(small[:count])), ID, COOKIE, serving=True, addressed=True)
    assert ENVELOPE_BYTES + len(body) <= MAX_DATAGRAM_BYTES


def test_unknown_kinds_and_trailing_elements() -> None:
    frame = decode_frame(msgpack.packb([77, ID, b"", 3, b"", b"new", [1, 2]]))
    assert decode_request(frame) == Unknown(77)
    extended = msgpack.packb([2, ID, b"", 0xFF, b"", bytes(32), 5, [b"x"]])
    assert decode_request(decode_frame(extended)) == FindNode(bytes(32))


@pytest.mark.parametrize(
    "elements",
    [[], [1], {"a": 1}, 5, b"x", [1, ID, b"", 0], [True, ID, b"", 0, b""], [1.0, ID, b"", 0, b""],
     [1, b"short", b"", 0, b""], [1, ID, b"5", 0, b""], [1, ID, None, 0, b""], [1, ID, b"", -1, b""],
     [256, ID, b"", 0, b""], [1, ID.decode(), b"", 0, b""], [1, ID, b"", 0, b"", {1: 2}], [1, ID, b"", 0, b"", "text"]],
)  # fmt: skip
def test_malformed_frames(
    elements: int | bytes | dict[str, int] | list[str | bytes | float | dict[int, int] | None],
) -> None:
    with pytest.raises(ProtocolError):
        decode_frame(msgpack.packb(elements))


@pytest.mark.parametrize(
    "fields",
    [[2], [2, b"short"], [2, 7], [3, 1, bytes(32)], [3, 999, bytes(32), [], 0], [3, 1, bytes(32), [b"x"], 0],
     [3, 1, bytes(32), [bytes(8)] * 65, 0], [3, 1, bytes(32), [], 2], [4, b"x"], [4, [b"x"]],
     [4, [bytes(MIN_RECORD_BYTES)] * 17], [4, [bytes(MAX_RECORD_BYTES + 1)]], [4, [7]]],
)  # fmt: skip
def test_malformed_requests(fields: list[int | bytes | list[int | bytes]]) -> None:
    kind, *rest = fields
    frame = decode_frame(msgpack.packb([kind, ID, b"", 3, b"", *rest]))
    with pytest.raises(ProtocolError):
        decode_request(frame)


@pytest.mark.parametrize(
    "tail",
    [[129], [129, b"", 3], [129, bytes(6), 64], [129, bytes(7), 0], [130, bytes(6), 0], [130, bytes(6), 0, [b"c"]],
     [130, bytes(6), 0, [bytes(38)] * 21], [131, bytes(6), 0, [], []], [131, bytes(6), 0, [], [], 65],
     [132, bytes(6), 0, [-1]], [132, bytes(6), 0, [0] * 17], [133, bytes(6), 0], [255, bytes(6), 0, 128]],
)  # fmt: skip
def test_malformed_replies(tail: list[int | bytes | list[int | bytes]]) -> None:
    kind, *rest = tail
    frame = decode_frame(msgpack.packb([kind, ID, COOKIE, 0, *rest, *([b""] if len(rest) == 0 else [])]))
    with pytest.raises(ProtocolError):
        decode_reply(frame)


def test_claims_of_huge_arrays_cost_nothing() -> None:
    for hostile in (b"\xdd\xff\xff\xff\xff" * 200, b"\xdc\xff\xff" * 300, b"\x91" * 1100, b"\xc6\xff\xff\xff\xff"):
        with pytest.raises(ProtocolError):
            decode_frame(hostile)


@given(st.binary(max_size=600))
def test_random_bytes_decode_or_raise_protocol_error(data: bytes) -> None:
    decode_anything(data)


def test_mutated_messages_decode_or_raise_protocol_error(rng: Random, stored_vectors: Callable[[str], Any]) -> None:
    bodies = [bytes.fromhex(text) for name, text in stored_vectors("messages").items() if "datagram" not in name]
    for _ in range(20_000):
        decode_anything(mutate(rng.choice(bodies), rng))


def mutate(data: bytes, rng: Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        match rng.randrange(3):
            case 0 if changed:
                changed[rng.randrange(len(changed))] = rng.randrange(256)
            case 1:
                del changed[rng.randint(0, len(changed)) :]
            case _:
                at = rng.randint(0, len(changed))
                changed[at:at] = rng.randbytes(rng.randint(1, 8))
    return bytes(changed)


def decode_anything(data: bytes) -> None:
    try:
        frame = decode_frame(data)
        if frame.is_reply:
            decode_reply(frame)
        else:
            decode_request(frame)
    except ProtocolError:
        pass


def test_vectors(vector_builder: ModuleType, stored_vectors: Callable[[str], Any]) -> None:
    assert vector_builder.build_messages() == stored_vectors("messages")
