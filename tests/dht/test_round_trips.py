"""How long a request waits for its answer before it is sent again."""

from typing import Any

import trio
import trio.testing

from shoal.dht import Address, Identity, NetworkParameters, NoReplyError
from shoal.dht.messages import Ping, Pong, ReplyHead, decode_frame, encode_reply
from shoal.dht.rpc import FIRST_WAIT_S, MAX_WAIT_S, RequestSender, RoundTrips
from shoal.dht.wire import open_envelope, seal

PARAMS = NetworkParameters("waiting", pow_bits=0, private=True)
PEER = Address("10.0.0.2", 4000)


def test_answers_to_repeated_requests_make_us_wait_longer_until_one_is_sent_once() -> None:
    trips = RoundTrips()
    assert trips.wait_s() == FIRST_WAIT_S
    trips.note(0.01)
    before = trips.wait_s()
    trips.note_repeated()
    assert trips.wait_s() == 2 * before
    for _ in range(50):
        trips.note_repeated()
    assert trips.wait_s() == MAX_WAIT_S
    trips.note(0.01)
    assert trips.wait_s() == before


class SlowPeer:
    """Answers each datagram, `delay_s` after it came."""

    def __init__(self, nursery: trio.Nursery, delay_s: float) -> None:
        self._nursery = nursery
        self._identity = Identity.restore(b"\2" * 32, bytes(8))
        self.delay_s = delay_s
        self.received = 0
        self.own = Identity.restore(b"\1" * 32, bytes(8))
        numbers = iter(range(10_000))
        self.sender = RequestSender(PARAMS, self.own, lambda size: next(numbers).to_bytes(size), self.send)

    async def send(self, datagram_for: Any, address: Address) -> bool:
        await trio.lowlevel.checkpoint()
        self.received += 1
        self._nursery.start_soon(self._answer, datagram_for(True))
        return True

    async def _answer(self, datagram: bytes) -> None:
        await trio.sleep(self.delay_s)
        request = decode_frame(open_envelope(datagram, PARAMS.network_id).body)
        head = ReplyHead(bytes(16), True, PEER, 0)
        body = encode_reply(Pong(), request.request_id, head)
        envelope = open_envelope(seal(body, self.own.node_id, PARAMS.network_id, self._identity), PARAMS.network_id)
        frame = decode_frame(envelope.body)
        if self.sender.expects(frame, PEER):
            self.sender.on_reply(envelope, frame, PEER)

    async def ask(self) -> None:
        await self.sender.request(PEER, self._identity.node_id, Ping())


async def test_peers_that_become_slow_are_soon_asked_once_again(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    """A busy machine takes 0.6 s for answers that took 0.01 s: it is not asked three times each time, for ever."""
    peer = SlowPeer(nursery, 0.01)
    for _ in range(20):
        await peer.ask()
    assert peer.received == 20
    peer.delay_s = 0.6
    for _ in range(20):
        await peer.ask()
    assert peer.received <= 20 + 20 + 8  # 80 where the wait stays as it is
    peer.delay_s = 60.0
    before = trio.current_time()
    try:
        await peer.ask()
    except NoReplyError:
        assert trio.current_time() - before <= 9.0
    else:
        raise AssertionError("an answer after a minute counts")
