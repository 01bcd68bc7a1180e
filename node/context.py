"""What every operation of one open node works with."""

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import field, replace
from functools import partial

import trio

from shoal.dht import Contact, DhtService, NetworkParameters, reach_of
from shoal.erasure import Codec
from shoal.node.channel import Buffer, BugCount, Disconnected, PeerError, PeerPool, Request, Throttle, TimedOut
from shoal.node.channel.messages import R
from shoal.node.environment import Environment
from shoal.node.home.silence import Silence
from shoal.values import dataclass

ASK_TIMEOUT_S = 15.0  # small questions: a dial of 5 s, a handshake of 5 s, and an answer
BUSY_PATIENCE_S = 15.0  # for a peer that says that it is busy: what holds it up for longer is no burst
FIRST_PAUSE_S = 0.5  # before it is asked again
PAUSE_FACTOR = 2.0  # five pauses fit into the patience


@dataclass
class Gathered:
    """The hosts that a node last looked for: so many were wanted, and these were found."""

    wanted: int = 0
    at: float = -math.inf
    found: tuple[Contact, ...] = ()


@dataclass(frozen=True)
class Context:
    """The seams, the network and the two services through which peers are reached.

    `me` gives this node as a contact of others, None while it serves nobody or does not know its address. `silence`
    knows the hosts that lately did not answer an offer, `gathered` those that were found for the last publish.
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
    gathered: Gathered = field(default_factory=Gathered)

    async def ask(
        self,
        contact: Contact,
        request: Request[R],
        *,
        payload: Sequence[Buffer] = (),
        timeout_s: float = ASK_TIMEOUT_S,
        patience_s: float = 0.0,
        on_busy: Callable[[PeerError], None] = lambda error: None,
    ) -> R:
        """Send one request to a peer, over a connection that may be reused; `PeerError` when that fails.

        A peer that says that it is busy is asked again after a growing pause, for `patience_s` and within `timeout_s`;
        then its last answer is raised. `on_busy` hears of each such answer, since the caller may have an end of its
        own.
        """
        begun, busy, pause_s = trio.current_time(), None, FIRST_PAUSE_S
        with trio.move_on_after(timeout_s) if patience_s else nullcontext():
            while True:
                try:
                    return await self._ask(contact, request, payload, timeout_s)
                except PeerError as error:
                    if not error.is_busy:
                        raise
                    busy = error
                on_busy(busy)
                wait_s = max(busy.wait_s, pause_s * self.env.rng.uniform(0.5, 1.0))
                if trio.current_time() + wait_s > begun + min(patience_s, timeout_s):
                    raise busy
                await trio.sleep(wait_s)
                pause_s *= PAUSE_FACTOR
        raise busy or TimedOut(f"{contact.address} did not answer within {timeout_s:g} s")

    def counted(self, contact: Contact) -> Contact:
        """The contact at the place that it counts for: where it was reached itself, or at its relay."""
        met_at = self.pool.met_at(contact.node_id) if contact.is_relayed else None
        return contact if met_at is None else replace(contact, address=met_at)

    async def _ask(self, contact: Contact, request: Request[R], payload: Sequence[Buffer], timeout_s: float) -> R:
        """A reused connection may turn out to be closed at the other end. Every request of ours may be repeated, so it
        is asked once more over a new one.
        """
        ask = partial(self.pool.request, contact.node_id, reach_of(contact), request, payload=payload)
        try:
            return await ask(timeout_s=timeout_s)
        except Disconnected:
            return await ask(timeout_s=timeout_s)
