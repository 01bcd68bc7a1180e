"""Calling a node that cannot be dialled: a relay rings it, and then both ends try to do without the relay.

The relay tells each end where it sees the other. Both connect to each other at the same time (TCP simultaneous open),
which opens both routers. Where that fails, the relay joins two plain connections. Either way the caller speaks TLS with
the node itself, and checks its key.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import field
from functools import partial

import trio

from shoal.dht import Address, AddressError, Contact, NodeId
from shoal.node.channel.background import open_background
from shoal.node.channel.circuits import JOINED, RINGING, End, pack_preamble
from shoal.node.channel.client import PeerConnection
from shoal.node.channel.dials import Dials
from shoal.node.channel.errors import Disconnected, LeftAlone, Misbehaved, PeerError, Unreachable
from shoal.node.channel.messages import Ring, Rung
from shoal.node.channel.streams import ByteStream, RawStream, StreamNetwork
from shoal.values import dataclass

RING_S = 9.0  # from the ring to a joined circuit; the relay gives the other end 8 s
HEAD_START_S = 3.0  # of one relay before the next: a ring, a punch that fails, and a circuit
ANSWER_S = 5.0  # of a relay on a preamble
UNPUNCHED_S = 600.0  # no other punch to a node for so long after one has failed
MAX_UNPUNCHED = 1_024  # nodes that this is known of
MET_S = 86_400.0  # how long it counts where a node behind relays was reached
MAX_MET = 1_024

AskRelay = Callable[[Contact, Ring], Awaitable[Rung]]
Dial = Callable[[], Awaitable[ByteStream]]
ConnectOver = Callable[[Dial], Awaitable[PeerConnection]]


@dataclass
class Punching:
    """To which nodes a punch failed lately: those are called through their relay at once. Pure."""

    failed_at: OrderedDict[NodeId, float] = field(default_factory=OrderedDict)

    def is_worth_it(self, node_id: NodeId, now: float) -> bool:
        """Whether to try."""
        return now - self.failed_at.get(node_id, float("-inf")) >= UNPUNCHED_S

    def note(self, node_id: NodeId, now: float, *, worked: bool) -> None:
        """A try is over."""
        self.failed_at.pop(node_id, None)
        if not worked:
            self.failed_at[node_id] = now
            if len(self.failed_at) > MAX_UNPUNCHED:
                self.failed_at.popitem(last=False)


@dataclass(frozen=True, slots=True)
class _Met:
    """Where a node was reached, when, and whether without a relay."""

    address: Address
    at: float
    directly: bool


class RelayCalls:
    """Calls nodes through their relays. `ask` sends a ring to a relay, over a connection that may be shared."""

    def __init__(
        self, network: StreamNetwork, ask: AskRelay, dials: Dials | None, allows: Callable[[Address], bool]
    ) -> None:
        """`allows`: whether a node of this network can be at an address. Nothing else is punched to."""
        self._network = network
        self._ask = ask
        self._dials = dials
        self._allows = allows
        self._punching = Punching()
        self._met: OrderedDict[NodeId, _Met] = OrderedDict()

    async def connect(self, node_id: NodeId, relays: Sequence[Contact], over: ConnectOver) -> PeerConnection:
        """A connection to the node itself, made by `over` over a stream: so a relay that brings another node is one
        that failed.

        The relays are tried one after another. One that keeps us waiting gets company after `HEAD_START_S`. Raises
        what the last one failed with.
        """
        failures: list[PeerError] = []
        found: list[PeerConnection] = []

        async def call(relay: Contact, done: trio.Event) -> None:
            try:
                connection = await over(partial(self._through, relay, node_id))
                found.append(connection)
                self._note_met(node_id, connection.remote, directly=connection.remote != relay.address)
                nursery.cancel_scope.cancel()
            except PeerError as error:
                failures.append(error)
            done.set()

        try:
            async with open_background() as nursery:
                events = []
                for relay in relays:
                    events.append(trio.Event())
                    nursery.start_soon(call, relay, events[-1])
                    with trio.move_on_after(HEAD_START_S):
                        await events[-1].wait()
                for event in events:
                    await event.wait()
        except BaseException:
            for spare in found:
                await spare.aclose()
            raise
        for spare in found[1:]:
            await spare.aclose()
        if found:
            return found[0]
        raise failures[-1] if failures else Unreachable("no relay leads to the node")

    def met_at(self, node_id: NodeId) -> Address | None:
        """Where a node was reached within `MET_S`: its own address if it was without a relay, else the relay's.

        A node may name relays that do not ring it. So only the one that brought it counts.
        """
        met = self._met.get(node_id)
        return None if met is None or trio.current_time() - met.at > MET_S else met.address

    def _note_met(self, node_id: NodeId, address: Address, *, directly: bool) -> None:
        now, known = trio.current_time(), self._met.pop(node_id, None)
        if known is not None and known.directly and not directly and now - known.at <= MET_S:
            self._met[node_id] = known
            return
        self._met[node_id] = _Met(address, now, directly)
        if len(self._met) > MAX_MET:
            self._met.popitem(last=False)

    async def _through(self, relay: Contact, node_id: NodeId) -> ByteStream:
        rung = await self._ask(relay, Ring(node_id))
        holder = self.punch_target(node_id, rung.holder)
        anywhere = Address("::" if relay.address.is_ipv6 else "0.0.0.0", 0)
        raw = await self._network.connect_raw(relay.address, anywhere if holder else None)
        try:
            end = End.CALLER if holder is None else End.PUNCHING_CALLER
            await raw.send(pack_preamble(end, rung.token))
            await _expect(raw, RINGING, ANSWER_S)
            if holder is not None:
                punched = await self._punch(raw, holder, node_id)
                if punched is not None:
                    await raw.aclose()
                    return punched
            await _expect(raw, JOINED, RING_S)
            return await self._network.secure(raw)
        finally:
            await raw.aclose()

    def punch_target(self, node_id: NodeId, packed: bytes) -> Address | None:
        """Where to punch to; None where it is not worth it, or not for a relay to say."""
        try:
            address = Address.unpack(packed)
        except AddressError:
            return None
        if not self._allows(address) or not self._punching.is_worth_it(node_id, trio.current_time()):
            return None
        try:
            if self._dials is not None:
                self._dials.begin(None, address)
        except LeftAlone:
            return None
        return address

    async def _punch(self, raw: RawStream, holder: Address, node_id: NodeId) -> ByteStream | None:
        """Try to do without the relay, until the other end has come through it. None where that does not work."""
        punched: list[RawStream] = []

        async def wait_for_relay() -> None:
            with suppress(Disconnected):
                await raw.wait_for_more()
                nursery.cancel_scope.cancel()

        async with open_background() as nursery:
            nursery.start_soon(wait_for_relay)
            found = await self._network.punch(raw.local, holder)
            if found is not None:
                punched.append(found)
        stream = None
        if punched:
            with suppress(PeerError):
                stream = await self._network.secure(punched[0])
                if self._dials is not None:
                    self._dials.succeeded(holder)
        self._punching.note(node_id, trio.current_time(), worked=stream is not None)
        return stream


async def _expect(raw: RawStream, answer: bytes, within_s: float) -> None:
    with trio.move_on_after(within_s):
        if await raw.receive(len(answer)) != answer:
            raise Misbehaved(f"the relay {raw.remote} answers what no relay does")
        return
    raise Unreachable(f"the relay {raw.remote} has brought nobody within {within_s:g} s")
