"""What goes to an address that has proven nothing is never longer than what came from there, whatever it is."""

import os
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import msgpack
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from kit.virtual_dht import CheapSignatures
from shoal.dht import (
    Address,
    Contact,
    DhtService,
    Identity,
    NetworkParameters,
    NodeId,
    Reach,
    Record,
    RecordKey,
    UdpNetwork,
)
from shoal.dht.guard import CookieMint, RequestGuard
from shoal.dht.identity import UNKNOWN_ID
from shoal.dht.messages import (
    MAX_QUERY_BYTES,
    MIN_REQUEST_BYTES,
    Kind,
    Store,
    Stored,
    StoreStatus,
    decode_frame,
    decode_reply,
    encode_request,
)
from shoal.dht.responder import Responder
from shoal.dht.routing import ContactTable
from shoal.dht.store import RecordStore
from shoal.dht.wire import MAX_BODY_BYTES, MAX_DATAGRAM_BYTES, open_envelope, seal

PARAMS = NetworkParameters("lengths", 0, True)
KEY, ID = b"k" * 32, b"r" * 16
SOURCES = (Address("10.0.0.9", 7), Address("2001:db8:0:1234:5678:9abc:def0:1234", 65_535))


def answering(length: int | None) -> Callable[[Contact, bytes], Awaitable[bytes | None]]:
    async def handler(asker: Contact, payload: bytes) -> bytes | None:
        return None if length is None else bytes(length)

    return handler


@pytest.fixture(scope="module")
def responder() -> tuple[Responder, Identity]:
    """A responder with a full table. Topics 0 to 5 are served, by answers of all lengths."""
    rng, scheme = Random(4), CheapSignatures()
    identity = Identity.create(0, rng.randbytes, scheme)
    table = ContactTable(identity.node_id, 0.0, private=True)
    for number in range(200):
        table.on_verified(Contact(NodeId(rng.randbytes(32)), Address.of(f"2001:db8::{number + 1:x}", 4100)), 0.0)
    mint = CookieMint(rng.randbytes, 0.0)
    guard = RequestGuard(mint, 0.0, private=True)
    made = Responder(PARAMS, identity, table, RecordStore(), mint, guard, lambda: 63)
    for topic, length in enumerate((None, 0, 1, 50, MAX_QUERY_BYTES, MAX_QUERY_BYTES + 1)):
        made.serve(topic, answering(length), lambda source, size, now: True)
    return made, identity


def fields(kind: int, topic: int, count: int) -> list[Any]:
    match kind:
        case Kind.FIND_NODE:
            return [KEY]
        case Kind.GET_RECORDS:
            return [1, KEY, [bytes(8)] * count, 1]
        case Kind.STORE:
            return [[bytes(174)] * min(count, 5)]
        case Kind.QUERY:
            return [topic, bytes(count)]
    return []


@given(
    kind=st.sampled_from([*range(1, 7), 99, 126, 127]),
    topic=st.integers(0, 7),
    count=st.integers(0, 60),
    padding=st.integers(0, MAX_BODY_BYTES),
    open_ping=st.booleans(),
    source=st.sampled_from(SOURCES),
    cookie=st.sampled_from([b"", b"f" * 16]),
    at=st.integers(1, 10**6),
)
def test_no_reply_is_longer_than_what_was_sent(
    responder: tuple[Responder, Identity],
    kind: int,
    topic: int,
    count: int,
    padding: int,
    open_ping: bool,
    source: Address,
    cookie: bytes,
    at: int,
) -> None:
    answerer, identity = responder
    stranger = Identity.create(0, Random(at).randbytes, CheapSignatures())
    addressed = kind != Kind.PING or not open_ping
    packed = msgpack.packb([kind, ID, cookie, 3 if addressed else 1, bytes(padding), *fields(kind, topic, count)])
    datagram = seal(packed[:MAX_BODY_BYTES], identity.node_id if addressed else UNKNOWN_ID, PARAMS.network_id, stranger)
    envelope = open_envelope(datagram, PARAMS.network_id)
    if len(packed) > MAX_BODY_BYTES:
        return
    response = answerer.respond(envelope, decode_frame(packed), source, len(datagram), float(at))
    reply = response.datagram
    if response.work is not None:
        reply = trio.run(response.work)
    assert reply is None or len(reply) <= len(datagram)
    if len(datagram) >= MIN_REQUEST_BYTES and kind != Kind.STORE and response.dropped is None:
        assert reply is not None  # those that keep to the rule are always answered


RELAYS = tuple(Contact(NodeId(bytes([number]) * 32), Address(f"44.{number}.0.1", 9)) for number in (1, 2, 3))
HERE, ELSEWHERE = Address("45.1.2.3", 4750), Address("45.1.2.4", 4750)


@pytest.mark.parametrize(
    ("reach", "status"),
    [
        (Reach.of(HERE), StoreStatus.STORED),
        (Reach.of(ELSEWHERE), StoreStatus.NOT_YOURS),
        (Reach((), RELAYS), StoreStatus.STORED),
        (Reach((HERE,), RELAYS), StoreStatus.STORED),
        (Reach((ELSEWHERE,), RELAYS), StoreStatus.NOT_YOURS),
        (Reach((), (RELAYS[0], Contact(NodeId(b"r" * 32), RELAYS[0].address))), StoreStatus.INVALID),
        (Reach((), (Contact(NodeId(b"r" * 32), Address("10.0.0.1", 9)),)), StoreStatus.INVALID),
    ],
)
def test_a_record_may_name_relays_and_no_foreign_address(reach: Reach, status: StoreStatus) -> None:
    params, rng = NetworkParameters("lengths", 0), Random(5)
    identity, stranger = (Identity.create(0, rng.randbytes, CheapSignatures()) for _ in range(2))
    mint = CookieMint(rng.randbytes, 0.0)
    table = ContactTable(identity.node_id, 0.0, private=False)
    guard = RequestGuard(mint, 0.0, private=False)
    answerer = Responder(params, identity, table, RecordStore(), mint, guard, lambda: 63)
    record = Record.sign(
        stranger, params, kind=1, key=RecordKey(KEY), sequence=1, issued=1, lifetime_s=9, payload=reach.pack()
    )
    cookie = mint.mint(HERE, stranger.node_id, 1.0)
    body = encode_request(Store((record.encoded,)), ID, cookie, serving=True, addressed=True)
    datagram = seal(body, identity.node_id, params.network_id, stranger)
    envelope = open_envelope(datagram, params.network_id)
    response = answerer.respond(envelope, decode_frame(body), HERE, len(datagram), 1.0)
    assert response.datagram is not None
    reply = decode_frame(open_envelope(response.datagram, params.network_id).body)
    assert decode_reply(reply)[1] == Stored((status,))


@pytest.mark.parametrize("topic", [1, 2])
async def test_a_bare_query_over_udp_brings_nothing(nursery: trio.Nursery, topic: int) -> None:
    """Of 141 bytes, empty, on a topic that is served and on one that is not."""
    node = DhtService(PARAMS, Identity.create(0, os.urandom), UdpNetwork(), listen=[Address("127.0.0.1", 0)])
    await nursery.start(node.run)
    node.serve(1, answering(None))
    body = msgpack.packb([Kind.QUERY, ID, b"", 2, b"", topic, b""])
    datagram = seal(body, node.identity.node_id, PARAMS.network_id, Identity.create(0, os.urandom))
    assert len(datagram) < MIN_REQUEST_BYTES
    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as sock:
        await sock.sendto(datagram, tuple(node.addresses[0]))
        with trio.move_on_after(0.3):
            reply, _ = await sock.recvfrom(MAX_DATAGRAM_BYTES)
            assert len(reply) <= len(datagram)
    assert node.statistics().dropped["amplification"] == 1
