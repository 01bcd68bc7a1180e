"""What every operation of one open node works with."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from shoal.dht import Contact, DhtService, NetworkParameters
from shoal.erasure import Codec
from shoal.node.channel import Buffer, BugCount, Disconnected, PeerPool, Request, Throttle
from shoal.node.channel.messages import R
from shoal.node.environment import Environment
from shoal.node.home.silence import Silence

ASK_TIMEOUT_S = 15.0  # small questions: a dial of 5 s, a handshake of 5 s, and an answer


@dataclass(frozen=True)
class Context:
    """The seams, the network and the two services through which peers are reached.

    `me` gives this node as a contact of others, None while it serves nobody or does not know its address. `silence`
    knows the hosts that lately did not answer an offer.
    """

    env: Environment
    network: NetworkParameters
    dht: DhtService
    pool: PeerPool
    codec: Codec
    throttle: Throttle
    me: Callable[[], Contact | None]
    bugs: BugCount = field(default_factory=BugCount)
    silence: Silence = field(default_factory=Silence)

    async def ask(
        self,
        contact: Contact,
        request: Request[R],
        *,
        payload: Sequence[Buffer] = (),
        timeout_s: float = ASK_TIMEOUT_S,
    ) -> R:
        """Send one request to a peer, over a connection that may be reused; `PeerError` when that fails.

        A reused connection may turn out to be closed at the other end. Every request of ours may be repeated, so it is
        asked once more over a new one.
        """
        try:
            return await self._ask(contact, request, payload, timeout_s)
        except Disconnected:
            return await self._ask(contact, request, payload, timeout_s)

    async def _ask(self, contact: Contact, request: Request[R], payload: Sequence[Buffer], timeout_s: float) -> R:
        return await self.pool.request(contact.node_id, contact.address, request, payload=payload, timeout_s=timeout_s)
