"""Strangers: malformed, forged, replayed and lying datagrams against a running service."""

from collections.abc import Callable, Iterator
from functools import partial
from random import Random
from typing import Any, NamedTuple, Self

import msgpack
import pytest
import trio
import trio.testing

from kit.virtual_dht import CheapSignatures, Lab, VirtualSocket
from shoal.dht import (
    Address,
    Announcement,
    Contact,
    DhtService,
    Identity,
    NetworkParameters,
    NodeId,
    Reach,
    Record,
    RecordKey,
    RecordKind,
)
from shoal.dht.hearsay import HOST_DATAGRAMS, QUIET_S
from shoal.dht.identity import UNKNOWN_ID, has_proof
from shoal.dht.messages import (
    FindNode,
    Frame,
    GetRecords,
    Nodes,
    Ping,
    Pong,
    Records,
    Reply,
    ReplyHead,
    Store,
    Stored,
    StoreStatus,
    Unsupported,
    decode_frame,
    decode_reply,
    encode_reply,
    encode_request,
)
from shoal.dht.records import provider_payload
from shoal.dht.wire import MAX_DATAGRAM_BYTES, Envelope, open_envelope, seal

KEY = RecordKey(b"k" * 32)
ID = b"r" * 16


@pytest.fixture
def lab(make_lab: Callable[..., Lab], params: NetworkParameters) -> Lab:
    return make_lab(params)


class Heard(NamedTuple):
    """A reply, and what it cost."""

    sent_bytes: int
    reply_bytes: int
    head: ReplyHead
    reply: Reply


class Stranger:
    """A bare socket with an identity, which can say anything."""

    def __init__(self, lab: Lab, sock: VirtualSocket, identity: Identity | None = None) -> None:
        self.lab, self.sock, self.identity = lab, sock, identity or lab.identity()

    @classmethod
    async def at(cls, lab: Lab, ip: str = "10.66.0.1", identity: Identity | None = None) -> Self:
        return cls(lab, await lab.network.host(ip).bind(Address("0.0.0.0", 666)), identity)

    async def ask(
        self,
        node: DhtService,
        message: Ping | Store | FindNode | GetRecords,
        *,
        cookie: bytes = b"",
        addressed: bool = True,
        receiver: NodeId | None = None,
        patience_s: float = 1.0,
    ) -> Heard:
        """Send a request; it has to be answered in time."""
        body = encode_request(message, ID, cookie, serving=False, addressed=addressed)
        to = receiver or (node.identity.node_id if addressed else UNKNOWN_ID)
        datagram = seal(body, to, self.lab.params.network_id, self.identity)
        return await self.exchange(node, datagram, patience_s)

    async def is_unanswered(self, node: DhtService, message: Ping | FindNode, **options: Any) -> bool:
        """Send a request; whether no reply comes in time."""
        try:
            await self.ask(node, message, **options)
        except trio.TooSlowError:
            return True
        return False

    async def exchange(self, node: DhtService, datagram: bytes, patience_s: float = 1.0) -> Heard:
        await self.sock.send(datagram, node.addresses[0])
        with trio.fail_after(patience_s):
            data, _ = await self.sock.receive()
            frame = decode_frame(open_envelope(data, self.lab.params.network_id).body)
            return Heard(len(datagram), len(data), *decode_reply(frame))

    async def cookie(self, node: DhtService) -> bytes:
        return (await self.ask(node, Ping()))[2].cookie


def provider(
    stranger: Stranger,
    *,
    address: Address | None = None,
    key: RecordKey = KEY,
    sequence: int = 1,
    params: NetworkParameters | None = None,
) -> Record:
    return Record.sign(
        stranger.identity, params or stranger.lab.params, kind=1, key=key, sequence=sequence, issued=1,
        lifetime_s=3600, payload=provider_payload(Reach.of(address or stranger.sock.address), b"x"),
    )  # fmt: skip


# -- no amplification ---------------------------------------------------------------------------------------


async def test_never_more_bytes_out_than_in_without_a_cookie(autojump_clock: trio.testing.MockClock, lab: Lab) -> None:
    nodes = await lab.grid(12)
    for number in range(5):
        await nodes[number].announce([Announcement(KEY, bytes(600))])
    stranger = await Stranger.at(lab)
    for message in (Ping(), FindNode(KEY), GetRecords(1, KEY), Store((provider(stranger).encoded,))):
        for cookie in (b"", b"f" * 16):
            sent, received, head, _ = await stranger.ask(nodes[0], message, cookie=cookie)
            assert received <= sent
            assert not head.validated
            assert head.observed == stranger.sock.address
    sent, received, _, _ = await stranger.ask(nodes[0], Ping(), addressed=False)
    assert received <= sent


async def test_with_a_cookie_the_answer_is_whole(autojump_clock: trio.testing.MockClock, lab: Lab) -> None:
    nodes = await lab.grid(12)
    stranger = await Stranger.at(lab)
    cookie = await stranger.cookie(nodes[0])
    sent, received, head, reply = await stranger.ask(nodes[0], FindNode(KEY), cookie=cookie)
    assert head.validated
    assert isinstance(reply, Nodes)
    assert len(reply.contacts) == 12 - 1
    assert sent < 300 < received <= MAX_DATAGRAM_BYTES
    other = await Stranger.at(lab, "10.66.0.2", identity=stranger.identity)
    _, received, head, reply = await other.ask(nodes[0], FindNode(KEY), cookie=cookie)  # stolen: another address
    assert not head.validated
    assert received <= sent


async def test_a_replayed_request_brings_its_victim_no_more_than_it_cost(
    autojump_clock: trio.testing.MockClock, lab: Lab
) -> None:
    nodes = await lab.grid(12)
    captured = []
    target = nodes[0].own_addresses()[0]
    lab.network.tap = lambda data, source, to: captured.append(data) if to == target else None
    await nodes[3].find_closest(KEY)
    lab.network.tap = None
    victim = await lab.network.host("10.66.0.9").bind(Address("0.0.0.0", 1))
    answers = 0
    for data in captured:
        lab.network.carry(data, victim.address, target)
        with trio.move_on_after(0.5):
            answer, _ = await victim.receive()
            assert len(answer) <= len(data)
            answers += 1
    assert answers >= 1


# -- order of checks, statuses ------------------------------------------------------------------------------


async def test_only_a_ping_may_be_open(autojump_clock: trio.testing.MockClock, lab: Lab) -> None:
    node = await lab.node()
    stranger = await Stranger.at(lab)
    assert await stranger.is_unanswered(node, FindNode(KEY), addressed=False)
    assert await stranger.is_unanswered(node, Ping(), receiver=NodeId(b"x" * 32))
    assert node.statistics().dropped == {"signature": 2}


async def test_unknown_requests_are_answered_unsupported(autojump_clock: trio.testing.MockClock, lab: Lab) -> None:
    node = await lab.node()
    stranger = await Stranger.at(lab)
    body = bytearray(encode_request(Ping(), ID, b"", serving=False, addressed=True))
    body[1] = 99
    datagram = seal(bytes(body), node.identity.node_id, lab.params.network_id, stranger.identity)
    assert (await stranger.exchange(node, datagram))[3] == Unsupported(99)


async def test_stores_need_cookie_signer_address_and_proof(autojump_clock: trio.testing.MockClock, lab: Lab) -> None:
    node = await lab.node()
    stranger, other = await Stranger.at(lab), await Stranger.at(lab, "10.66.0.2")
    good = provider(stranger)
    cookie = await stranger.cookie(node)
    elsewhere = provider(stranger, address=Address("10.66.0.3", 666))
    other_port = provider(stranger, address=Address("10.66.0.1", 667))
    foreign = provider(other)
    forged = good.encoded[:-1] + bytes([good.encoded[-1] ^ 1])
    wrong_network = provider(stranger, params=NetworkParameters("else", 0, True))
    cases = [
        (elsewhere.encoded, StoreStatus.NOT_YOURS),
        (other_port.encoded, StoreStatus.NOT_YOURS),
        (foreign.encoded, StoreStatus.NOT_YOURS),
        (forged, StoreStatus.INVALID),
        (wrong_network.encoded, StoreStatus.INVALID),
        (bytes(200), StoreStatus.INVALID),
        (good.encoded, StoreStatus.STORED),
    ]
    assert (await stranger.ask(node, Store((good.encoded,))))[3] == Stored((StoreStatus.NO_COOKIE,))
    for encoded, status in cases:
        assert (await stranger.ask(node, Store((encoded,)), cookie=cookie))[3] == Stored((status,)), status
    assert node.statistics().records == 1


async def test_a_provider_without_proof_of_work_is_refused(
    make_lab: Callable[..., Lab], autojump_clock: trio.testing.MockClock, rng: Random, scheme: CheapSignatures
) -> None:
    lab = make_lab(NetworkParameters("work", pow_bits=6, private=True))
    node = await lab.node()
    lazy = next(i for _ in range(99) if not proven(i := Identity.create(0, rng.randbytes, scheme)))
    stranger = await Stranger.at(lab, identity=lazy)
    cookie = await stranger.cookie(node)
    reply = await stranger.ask(node, Store((provider(stranger).encoded,)), cookie=cookie)
    assert reply[3] == Stored((StoreStatus.INVALID,))


def proven(identity: Identity) -> bool:
    return has_proof(identity.node_id, 6)


# -- replies ------------------------------------------------------------------------------------------------


class Impostor(Stranger):
    """Answers requests with whatever `answer(frame) -> (reply, identity, receiver, from another socket?)` gives."""

    async def serve(self, answer: Callable[..., Any], times: int = 1) -> None:
        for _ in range(times):
            data, source = await self.sock.receive()
            envelope = open_envelope(data, self.lab.params.network_id)
            frame = decode_frame(envelope.body)
            for reply in answer(frame, envelope, source):
                await self.sock.send(reply, source)

    def reply(
        self,
        reply: Reply,
        envelope: Envelope,
        source: Address,
        *,
        request_id: bytes,
        identity: Identity | None = None,
        receiver: NodeId | None = None,
        observed: Address | None = None,
    ) -> bytes:
        body = encode_reply(reply, request_id, ReplyHead(bytes(16), True, observed or source, 5))
        return seal(body, receiver or envelope.node_id, self.lab.params.network_id, identity or self.identity)


@pytest.mark.parametrize("fault", ["request id", "receiver", "other node", "signature", "kind", "garbage", "none"])
async def test_wrong_replies_are_not_believed(
    autojump_clock: trio.testing.MockClock, lab: Lab, nursery: trio.Nursery, fault: str
) -> None:
    client = await lab.client()
    liar = await Impostor.at(lab)
    impostor = lab.identity()

    def answer(frame: Frame, envelope: Envelope, source: Address) -> Iterator[bytes]:
        options: dict[str, Any] = {"request_id": frame.request_id}
        message: Reply = Pong()
        if fault == "request id":
            options["request_id"] = bytes(16)
        elif fault == "receiver":
            options["receiver"] = NodeId(bytes(32))
        elif fault == "other node":
            options["identity"] = impostor
        elif fault == "kind":
            message = Nodes(())
        made = liar.reply(message, envelope, source, **options)
        if fault == "signature":
            made = made[:60] + bytes([made[60] ^ 1]) + made[61:]
        if fault == "garbage":
            made = made[:113] + b"\x93" + made[114:]
        yield made

    nursery.start_soon(liar.serve, answer, 10)
    contact = Contact(liar.identity.node_id, liar.sock.address)
    verified = await client.bootstrap([], [contact])
    assert verified == (1 if fault == "none" else 0)
    assert client.statistics().pending == 0


VICTIM = Address("10.99.9.9", 4750)


async def liars_on_one_host(lab: Lab, nursery: trio.Nursery, count: int) -> list[Address]:
    """Ids on ports of one host that tell all who ask them that they are seen at the victim's address."""
    addresses = []
    for port in range(700, 700 + count):
        sock = await lab.network.host("10.66.0.1").bind(Address("0.0.0.0", port))
        liar = Impostor(lab, sock)

        def answer(frame: Frame, envelope: Envelope, source: Address, liar: Impostor = liar) -> Iterator[bytes]:
            message: Reply = Nodes(()) if frame.kind == FindNode.kind else Pong()
            yield liar.reply(message, envelope, source, request_id=frame.request_id, observed=VICTIM)

        nursery.start_soon(liar.serve, answer, 1000)
        addresses.append(sock.address)
    return addresses


async def test_ids_on_one_host_do_not_dictate_our_address(
    autojump_clock: trio.testing.MockClock, lab: Lab, nursery: trio.Nursery
) -> None:
    nodes = await lab.grid(4)
    node = await lab.node("10.0.9.9", knows_itself=False)
    await node.bootstrap(nodes[0].addresses)
    before = node.own_addresses()
    assert [address.port for address in before] == [4100]
    await node.bootstrap(await liars_on_one_host(lab, nursery, 40))
    await trio.sleep(120)
    assert node.own_addresses() == before


async def test_a_socket_bound_to_one_address_knows_it(
    autojump_clock: trio.testing.MockClock, lab: Lab, nursery: trio.Nursery
) -> None:
    bound = Address("10.0.7.7", 4100)
    node = await lab.client("10.0.7.7", listen=[bound])
    await node.bootstrap(await liars_on_one_host(lab, nursery, 40))
    await trio.sleep(120)
    assert node.own_addresses() == (bound,)


async def test_a_reply_from_another_address_is_not_believed(
    autojump_clock: trio.testing.MockClock, lab: Lab, nursery: trio.Nursery
) -> None:
    client = await lab.client()
    silent, liar = await Impostor.at(lab, "10.66.0.1"), await Impostor.at(lab, "10.66.0.2")

    async def answer_from_elsewhere() -> None:
        data, source = await silent.sock.receive()
        envelope = open_envelope(data, lab.params.network_id)
        request_id = decode_frame(envelope.body).request_id
        reply = silent.reply(Pong(), envelope, source, request_id=request_id)
        await liar.sock.send(reply, source)

    nursery.start_soon(answer_from_elsewhere)
    assert await client.bootstrap([silent.sock.address]) == 0
    assert client.statistics().dropped == {"unasked": 1}


async def test_lying_records_are_dropped_and_true_ones_found(
    autojump_clock: trio.testing.MockClock, lab: Lab, nursery: trio.Nursery
) -> None:
    nodes = await lab.grid(6)
    await nodes[2].announce([Announcement(KEY, b"true")])
    liar = await Impostor.at(lab, identity=lab.identity())
    forged = bytearray(provider(liar).encoded)
    forged[150] ^= 1

    def answer(frame: Frame, envelope: Envelope, source: Address) -> Iterator[bytes]:
        lies = Records((), (bytes(forged), bytes(200), provider(liar, key=RecordKey(b"z" * 32)).encoded), 60)
        lying: dict[int, Reply] = {2: Nodes(()), 3: lies}
        message = lying.get(frame.kind, Pong())
        yield liar.reply(message, envelope, source, request_id=frame.request_id)

    nursery.start_soon(liar.serve, answer, 200)
    client = await lab.client()
    contact = Contact(liar.identity.node_id, liar.sock.address)
    assert await client.bootstrap([nodes[0].addresses[0]], [contact]) == 7
    async with client.search(RecordKind.PROVIDER, KEY) as found:
        assert [record.announcement async for record in found] == [b"true"]


async def test_hearsay_in_a_public_network(
    make_lab: Callable[..., Lab], autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    """A liar names private addresses and a victim under many ids: nothing to the former, little to the latter."""
    lab = make_lab(NetworkParameters("public", 0, False))
    client = await lab.client("20.9.7.9")
    liar = await Impostor.at(lab, "21.1.1.1")
    victim = "22.2.2.2"

    def answer(frame: Frame, envelope: Envelope, source: Address) -> Iterator[bytes]:
        rng = Random(5)
        private = [Contact(NodeId(rng.randbytes(32)), Address("192.168.1.1", 53)) for _ in range(6)]
        named = [Contact(NodeId(rng.randbytes(32)), Address(victim, 53)) for _ in range(14)]
        message = Nodes((*private, *named)) if frame.kind == 2 else Pong()
        yield liar.reply(message, envelope, source, request_id=frame.request_id)

    nursery.start_soon(liar.serve, answer, 10_000)
    assert await client.bootstrap([liar.sock.address]) == 1
    for _ in range(20):
        await client.find_closest(Random(1).randbytes(32))
    hosts = [to.host for _, to, _ in lab.network.sent]
    assert "192.168.1.1" not in hosts
    assert 1 <= hosts.count(victim) <= 3  # one attempt with its repetitions


@pytest.mark.parametrize("private", [False, True])
async def test_liars_who_name_ever_other_ports_of_a_victim(
    make_lab: Callable[..., Lab], autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, private: bool
) -> None:
    """Twenty liars, thirty lookups at once: what is under way counts against the host that it goes to."""
    lab = make_lab(NetworkParameters("victim", 0, private))
    client = await lab.client("20.9.7.9")
    victim, liars = "22.2.2.2", []
    rng = Random(5)

    def answer(frame: Frame, envelope: Envelope, source: Address, liar: Impostor) -> Iterator[bytes]:
        named = [Contact(NodeId(rng.randbytes(32)), Address(victim, rng.randint(1, 65_535))) for _ in range(20)]
        message: Reply = Pong()
        if frame.kind != Ping.kind:
            message = Nodes(tuple(named)) if frame.kind == FindNode.kind else Records(tuple(named), (), 0)
        yield liar.reply(message, envelope, source, request_id=frame.request_id)

    for number in range(20):
        liar = await Impostor.at(lab, f"{30 + number}.1.1.1")
        nursery.start_soon(liar.serve, partial(answer, liar=liar), 10_000)
        liars.append(liar.sock.address)
    await client.bootstrap(liars)
    begun = trio.current_time()
    async with trio.open_nursery() as lookups:
        for number in range(30):
            lookups.start_soon(client.find_closest, Random(number).randbytes(32))
    sent = [size for _, to, size in lab.network.sent if to.host == victim]
    assert 1 <= len(sent) <= HOST_DATAGRAMS.count + 1  # one came back in the meantime
    assert sum(sent) <= HOST_DATAGRAMS.size + MAX_DATAGRAM_BYTES
    while trio.current_time() < begun + QUIET_S:
        await client.find_closest(rng.randbytes(32))
        await trio.sleep(40)
    sent = [size for _, to, size in lab.network.sent if to.host == victim]
    assert len(sent) <= 2 * HOST_DATAGRAMS.count
    assert sum(sent) <= 2 * HOST_DATAGRAMS.size


async def test_public_networks_do_not_talk_to_private_addresses(
    make_lab: Callable[..., Lab], autojump_clock: trio.testing.MockClock
) -> None:
    lab = make_lab(NetworkParameters("public", 0, False))
    node = await lab.node("20.1.2.3")
    stranger = await Stranger.at(lab, "192.168.0.1")
    assert await stranger.is_unanswered(node, Ping())
    assert node.statistics().dropped == {"address": 1}
    assert await node.bootstrap([stranger.sock.address]) == 0
    assert not [to for _, to, _ in lab.network.sent if to == stranger.sock.address]


async def test_a_flood_from_forged_addresses_does_not_stop_those_who_are_known(
    make_lab: Callable[..., Lab], autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    lab = make_lab(NetworkParameters("public", 0, False))
    nodes = await lab.grid(6)
    stranger = await Stranger.at(lab, "45.1.1.1")
    ping = encode_request(Ping(), ID, b"", serving=True, addressed=True)
    datagram = seal(ping, nodes[0].identity.node_id, lab.params.network_id, stranger.identity)
    target = nodes[0].own_addresses()[0]

    async def flood() -> None:
        for number in range(10_000):  # 5,000 a second
            source = Address(f"{50 + number // 240 // 240}.{number // 240 % 240}.{number % 240}.1", 1)
            lab.network.carry(datagram, source, target)
            if number % 50 == 49:
                await trio.sleep(0.01)

    nursery.start_soon(flood)
    for _ in range(40):
        assert nodes[0].identity.node_id in {contact.node_id for contact in await nodes[1].find_closest(KEY)}
    statistics = nodes[0].statistics()
    assert statistics.dropped["rate"] > 500
    assert statistics.dropped.get("unasked", 0) == 0


# -- garbage ------------------------------------------------------------------------------------------------


def mutate(data: bytes, rng: Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.randint(0, 3)):
        match rng.randrange(4):
            case 0 if changed:
                changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
            case 1 if changed:
                at = rng.randrange(113, len(changed)) if len(changed) > 114 else 0
                changed[at] = rng.randrange(256)
            case 2:
                del changed[rng.randint(0, len(changed)) :]
            case _:
                at = rng.randint(0, len(changed))
                changed[at:at] = rng.randbytes(rng.randint(1, 300))
    return bytes(changed)


def bodies_of(captured: list[bytes], rng: Random, lab: Any) -> bytes:
    """The body of a captured datagram with changes, or a well-formed head before fields of any kind."""
    if rng.random() < 0.5:
        return mutate(open_envelope(rng.choice(captured), lab.params.network_id).body, rng)[:1100] or b"x"
    fields = [
        rng.choice([7, -1, None, True, b"", rng.randbytes(32), [b""], [[1]], 2**63]) for _ in range(rng.randrange(5))
    ]
    packed: bytes = msgpack.packb([rng.choice([1, 2, 3, 4, 9, 130]), ID, b"", rng.randrange(4), b"", *fields])
    return packed


async def test_thousands_of_mutated_and_replayed_datagrams(
    autojump_clock: trio.testing.MockClock, lab: Lab, rng: Random
) -> None:
    nodes = await lab.grid(8)
    captured = []
    lab.network.tap = lambda data, source, to: captured.append(data)
    await nodes[1].announce([Announcement(KEY, bytes(300))])
    await nodes[2].find_closest(KEY)
    lab.network.tap = None
    stranger = await Stranger.at(lab)
    well_signed = [  # but of any content
        seal(bodies_of(captured, rng, lab), nodes[0].identity.node_id, lab.params.network_id, stranger.identity)
        for _ in range(2000)
    ]
    for number in range(6000):
        data = well_signed[number % 2000] if number % 3 == 0 else mutate(rng.choice(captured), rng)
        source = rng.choice([stranger.sock.address, *[node.own_addresses()[0] for node in nodes[1:]]])
        lab.network.carry(data, source, nodes[0].own_addresses()[0])
        if number % 100 == 0:
            await trio.sleep(0.5)
    await trio.sleep(5)
    statistics = nodes[0].statistics()
    assert sum(statistics.dropped.values()) > 3000
    assert {"size", "network", "malformed", "unasked", "signature", "schema"} <= set(statistics.dropped)
    assert statistics.pending == 0
    (report,) = await nodes[3].announce([Announcement(KEY, b"still here")])
    assert (report.closest, report.stored) == (8, 8)
