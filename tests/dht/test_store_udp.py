"""One identity floods a storer's table, over real sockets, with real signatures."""

import os
from collections.abc import Sequence
from dataclasses import replace

import pytest
import trio
import trio.testing

from shoal.dht import (
    Address,
    DhtService,
    Identity,
    NetworkParameters,
    Reach,
    Record,
    RecordKey,
    StoreLimits,
    UdpNetwork,
)
from shoal.dht.guard import STORES_PER_HOST
from shoal.dht.messages import (
    GetRecords,
    KnownRequest,
    Ping,
    Records,
    Reply,
    Store,
    Stored,
    StoreStatus,
    decode_frame,
    decode_reply,
    encode_request,
    stores_within,
)
from shoal.dht.records import provider_payload
from shoal.dht.store import STEADY_S
from shoal.dht.wire import open_envelope, seal

PARAMS = NetworkParameters("table", 0, True)
LIMITS = replace(StoreLimits.private(), records=1_600)
HONEST = [RecordKey(os.urandom(32)) for _ in range(30)]


class Storer:
    """A bare socket that stores records at one node."""

    def __init__(self, node: DhtService, sock: trio.socket.SocketType) -> None:
        self.node, self.sock, self.identity = node, sock, Identity.create(0, os.urandom)
        host, port = sock.getsockname()
        self.address = Address(host, port)
        self.cookie = b""

    async def ask(self, message: KnownRequest) -> Reply:
        """One request, repeated until there is a reply to it."""
        request_id = os.urandom(16)
        body = encode_request(message, request_id, self.cookie, serving=False, addressed=True)
        datagram = seal(body, self.node.identity.node_id, PARAMS.network_id, self.identity)
        while True:
            await self.sock.sendto(datagram, tuple(self.node.addresses[0]))
            with trio.move_on_after(2):
                while True:
                    data, _ = await self.sock.recvfrom(2_048)
                    frame = decode_frame(open_envelope(data, PARAMS.network_id).body)
                    if frame.request_id == request_id:
                        head, reply = decode_reply(frame)
                        self.cookie = head.cookie
                        return reply

    async def store(self, keys: Sequence[RecordKey], sequence: int = 1) -> int:
        """Store a record under each key; how many the node took."""
        await self.ask(Ping())
        payload = provider_payload(Reach.of(self.address), b"")
        records = [
            Record.sign(
                self.identity, PARAMS, kind=1, key=key, sequence=sequence, issued=1,
                lifetime_s=48 * 3600, payload=payload,
            ).encoded
            for key in keys
        ]  # fmt: skip
        taken = 0
        while records:
            count = stores_within(records)
            reply = await self.ask(Store(tuple(records[:count])))
            assert isinstance(reply, Stored)
            taken += reply.statuses.count(StoreStatus.STORED)
            del records[:count]
        return taken

    async def finds(self, key: RecordKey) -> bool:
        """Whether the node hands out a record of ours under a key."""
        reply = await self.ask(GetRecords(1, key, want_contacts=False))
        assert isinstance(reply, Records)
        return bool(reply.records)


@pytest.fixture
def clock() -> trio.testing.MockClock:
    """The real time, in which a test can jump."""
    return trio.testing.MockClock(rate=1.0)


async def test_one_identity_pushes_out_no_renewed_record(clock: trio.testing.MockClock, nursery: trio.Nursery) -> None:
    """It stores three tables full, as near to the keys of others as can be."""
    node = DhtService(
        PARAMS, Identity.create(0, os.urandom), UdpNetwork(), listen=[Address("127.0.0.1", 0)], limits=LIMITS
    )
    await nursery.start(node.run)
    with (
        trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as honest_sock,
        trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as liar_sock,
    ):
        await honest_sock.bind(("127.0.0.2", 0))
        await liar_sock.bind(("127.0.0.3", 0))
        honest, liar = Storer(node, honest_sock), Storer(node, liar_sock)
        assert await honest.store(HONEST) == len(HONEST)
        clock.jump(STEADY_S + 60)
        assert await honest.store(HONEST, sequence=2) == len(HONEST)
        near = [RecordKey(HONEST[n % 30][:28] + n.to_bytes(4, "big")) for n in range(3 * LIMITS.records)]
        begun = trio.current_time()
        taken = await liar.store(near)
        assert taken <= STORES_PER_HOST.burst + STORES_PER_HOST.per_second * (trio.current_time() - begun)
        assert LIMITS.signer is not None
        assert node.statistics().records - len(HONEST) <= LIMITS.signer * LIMITS.records
        assert all([await honest.finds(key) for key in HONEST])
