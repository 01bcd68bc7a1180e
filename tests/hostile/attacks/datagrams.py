"""Attacks by single datagrams: floods, forgeries, repetitions."""

import time

import msgpack
import trio

from hostile.means import Means, Mouth
from shoal.dht import Address, Identity, NodeId, Reach, Record, RecordKey, RecordKind
from shoal.dht.messages import (
    FindNode,
    Frame,
    GetRecords,
    KnownRequest,
    Ping,
    Query,
    Records,
    Store,
    decode_frame,
    decode_reply,
)
from shoal.dht.records import MAX_LIFETIME_S, provider_payload
from shoal.dht.wire import ENVELOPE_BYTES, MAX_DATAGRAM_BYTES, seal
from shoal.node.care.polls import TOPIC

JUNK_PER_S = 5_000  # at each of the doors
GARBAGE_PER_S = 5_000  # over all victims
TICK_S = 0.01
ANSWER_S = 0.2
PREPARED = 500
RECORDS_PER_S = 4_000  # over all victims; signing them is most of the attacker's work
RECORDS_PER_STORE = 5
MOUTHS = 10  # /64s of the public attacker
COOKIES_S = 0.3
SHORT_LIFE_S = 1
REPLAY_PAUSE_S = 1.5


async def junk_signatures(means: Means, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Pings whose signature is junk, each under another key, at both doors of the network."""
    mouth = means.mouth()
    prepared = []
    for _ in range(PREPARED):
        ping = bytearray(means.request(Identity.create(0, means.rng.randbytes), None, Ping()))
        ping[ENVELOPE_BYTES - 64 : ENVELOPE_BYTES] = means.rng.randbytes(64)
        prepared.append(bytes(ping))
    task_status.started()
    doors = [address for address, _ in means.victims[:2]]
    await _flood(mouth, [(ping, door) for ping in prepared for door in doors], JUNK_PER_S * len(doors))


async def garbage(means: Means, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Random bytes of every length, and requests in which one bit is wrong."""
    mouth, rng = means.mouth(), means.rng
    datagrams = []
    identity = means.identity()
    for number in range(PREPARED):
        address, node_id = means.victims[number % len(means.victims)]
        if number % 2:
            datagrams.append((rng.randbytes(rng.randrange(MAX_DATAGRAM_BYTES + 100)), address))
            continue
        choices: list[KnownRequest] = [Ping(), FindNode(rng.randbytes(32)), Query(TOPIC, rng.randbytes(40))]
        message = rng.choice(choices)
        flipped = bytearray(means.request(identity, node_id, message))
        flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
        datagrams.append((bytes(flipped), address))
    task_status.started()
    await _flood(mouth, datagrams, GARBAGE_PER_S)


async def amplification(means: Means, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """The shortest requests of every kind, without a cookie. Notes the largest answer to one, by the request's size."""
    identity, mouth = means.identity(), means.mouth()
    rng, worst = means.rng, 0.0
    messages: list[KnownRequest] = [
        Ping(),
        Query(TOPIC, b""),
        Query(TOPIC, rng.randbytes(64)),
        Query(250, b""),
        FindNode(rng.randbytes(32)),
        GetRecords(RecordKind.PROVIDER, rng.randbytes(32)),
        Store(()),
    ]
    task_status.started()
    while True:
        for victim in means.victims:
            for message in messages:
                bare = _bare(means, identity, victim[1], message)
                received = await _size_of_answer(means, mouth, bare, victim[0])
                worst = max(worst, received / len(bare))
                means.notes["bytes out per byte in"] = worst


async def _size_of_answer(means: Means, mouth: Mouth, datagram: bytes, address: Address) -> int:
    """Bytes of the reply to a request; what comes late, for an earlier one, does not count."""
    asked = decode_frame(datagram[ENVELOPE_BYTES:]).request_id
    mouth.send(datagram, address)
    with trio.move_on_after(ANSWER_S):
        while True:
            data, _ = await mouth.receive()
            found = means.read(data)
            if found is not None and found[1].request_id == asked:
                return len(data)
    return 0


def _bare(means: Means, identity: Identity, receiver: NodeId, message: KnownRequest) -> bytes:
    """A request without the padding that honest nodes add."""
    match message:
        case Ping():
            fields: list[object] = []
        case Query(topic, payload):
            fields = [topic, payload]
        case FindNode(target):
            fields = [target]
        case GetRecords(kind, key):
            fields = [kind, key, [], 1]
        case Store(records):
            fields = [list(records)]
    addressed = 2
    body = msgpack.packb([message.kind, means.rng.randbytes(16), b"", addressed, b"", *fields], use_bin_type=True)
    return seal(body, receiver, means.params.network_id, identity)


async def record_flood(means: Means, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """One id stores records under keys as near as can be to each victim, from as many addresses as it has."""
    identity = means.identity()
    mouths = [means.mouth(number) for number in range(MOUTHS if means.has_prefix else 1)]
    cookies: dict[tuple[Address, Address], bytes] = {}
    for mouth in mouths:
        means.nursery.start_soon(_keep_cookies, means, mouth, cookies)
    for mouth in mouths:
        for address, node_id in means.victims:
            mouth.send(means.request(identity, node_id, Ping()), address)
    await trio.sleep(COOKIES_S)
    task_status.started()
    began, counter = time.monotonic(), 0
    while True:
        for address, node_id in means.victims:
            mouth = mouths[counter // RECORDS_PER_STORE % len(mouths)]
            records = []
            for _ in range(RECORDS_PER_STORE):
                counter += 1
                key = RecordKey(node_id[:24] + counter.to_bytes(8, "big"))
                records.append(_record(means, identity, mouth.address, key, MAX_LIFETIME_S))
            cookie = cookies.get((mouth.address, address), b"")
            mouth.send(means.request(identity, node_id, Store(tuple(records)), cookie), address)
        means.notes["records sent"] = counter
        await trio.sleep(max(0.0, began + counter / RECORDS_PER_S - time.monotonic()))


async def _keep_cookies(means: Means, mouth: Mouth, cookies: dict[tuple[Address, Address], bytes]) -> None:
    """Every reply brings a fresh one."""
    while True:
        data, source = await mouth.receive()
        found = means.read(data)
        if found is not None and found[1].is_reply:
            cookies[mouth.address, source] = found[1].cookie


async def replay(means: Means, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """A STORE sent once more after its record has expired. Notes the records that came back to life."""
    identity, mouth = means.identity(), means.mouth()
    means.notes["expired records revived"] = 0
    task_status.started()
    while True:
        sent = []
        for victim in means.victims:
            key = RecordKey(means.rng.randbytes(32))
            cookie = await means.cookie(mouth, identity, victim)
            record = _record(means, identity, mouth.address, key, SHORT_LIFE_S)
            datagram = means.request(identity, victim[1], Store((record,)), cookie)
            mouth.send(datagram, victim[0])
            sent.append((victim, key, cookie, datagram))
        await trio.sleep(REPLAY_PAUSE_S)
        for victim, key, cookie, datagram in sent:
            mouth.send(datagram, victim[0])
            await trio.sleep(0.02)
            frame = await means.ask(mouth, identity, victim, GetRecords(RecordKind.PROVIDER, key), cookie)
            means.notes["expired records revived"] += _records_in(frame)


def _records_in(frame: Frame | None) -> int:
    if frame is None or frame.kind != GetRecords.kind:
        return 0
    _, reply = decode_reply(frame)
    return len(reply.records) if isinstance(reply, Records) else 0


def _record(means: Means, identity: Identity, address: Address, key: RecordKey, lifetime_s: int) -> bytes:
    return Record.sign(
        identity,
        means.params,
        kind=RecordKind.PROVIDER,
        key=key,
        sequence=int(time.time()),
        issued=int(time.time()),
        lifetime_s=lifetime_s,
        payload=provider_payload(Reach.of(address), b"\0"),
    ).encoded


async def _flood(mouth: Mouth, datagrams: list[tuple[bytes, Address]], per_second: float) -> None:
    """Send them round and round at a rate."""
    began, sent = time.monotonic(), 0
    while True:
        due = int((time.monotonic() - began) * per_second)
        for number in range(sent, due):
            mouth.send(*datagrams[number % len(datagrams)])
        sent = max(sent, due)
        await trio.sleep(TICK_S)
