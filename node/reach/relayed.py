"""Being reached through relays: a node that cannot be dialled keeps three of them, and answers their rings.

It calls each relay from the port that it listens on. So the relay sees the address to which others can punch.
"""

import random
from collections import OrderedDict
from collections.abc import Callable, Sequence

import trio

from shoal.dht import Address, AddressError, Contact, Identity, NetworkParameters, NodeId
from shoal.node.channel import (
    BugCount,
    ByteStream,
    ConnectionSlots,
    Dials,
    PeerConnection,
    PeerError,
    RawStream,
    Reserve,
    Reserved,
    Role,
    StreamHandler,
    StreamNetwork,
    Throttle,
    Unreachable,
)
from shoal.node.channel.background import open_background
from shoal.node.channel.circuits import JOINED, End, pack_preamble
from shoal.node.channel.client import connect_peer
from shoal.node.channel.errors import LeftAlone
from shoal.node.channel.hello import HELLO_TIMEOUT_S
from shoal.node.channel.messages import MAX_RESERVE_WAIT_S
from shoal.node.nursery import open_nursery
from shoal.values import dataclass

RELAYS_COUNT = 3
REPLY_S = 10.0  # of a relay, beyond the time that it was asked to wait
PAUSE_S = 2.0  # between two relays that are tried
QUIET_S = 600.0  # before a relay that failed or refused is tried again
MAX_FAILED = 256  # of them remembered
MAX_ANSWERS = 64  # rings that are being answered at once, of all relays; others are dropped, and their callers give up
RING_PAUSE_S = 0.05  # between two rings of one relay: 20 a second
JOIN_S = 5.0  # of a relay, from our preamble on


@dataclass(frozen=True)
class Callee:
    """What answering through relays needs of a node."""

    streams: StreamNetwork
    identity: Identity
    params: NetworkParameters
    serve: StreamHandler  # one connection of a caller
    slots: ConnectionSlots
    dials: Dials
    bugs: BugCount
    throttle: Throttle
    space: Callable[[], int]
    listening: Callable[[bool], Address | None]  # where the node listens, for IPv6 or IPv4
    candidates: Callable[[], Sequence[Contact]]  # nodes that can be dialled
    rng: random.Random


class Relayed:
    """Keeps relays while `run` runs. `relays` are those that ring for this node now, the first found in front."""

    def __init__(self, callee: Callee) -> None:
        self._callee = callee
        self._kept: dict[NodeId, Contact] = {}
        self._trying: dict[NodeId, Contact] = {}
        self._failed_at: OrderedDict[NodeId, float] = OrderedDict()
        self.nursery: trio.Nursery  # while it runs
        self._answering = 0
        self.observed: Address | None = None  # at which a relay last saw this node

    @property
    def relays(self) -> tuple[Contact, ...]:
        """The relays that ring for this node now."""
        return tuple(self._kept.values())

    async def run(self) -> None:
        """Keep `RELAYS_COUNT` relays of distinct places, until cancelled."""
        try:
            async with open_nursery() as nursery:
                self.nursery = nursery
                while True:
                    relay = self._next_candidate() if len(self._trying) < RELAYS_COUNT else None
                    if relay is not None:
                        self._trying[relay.node_id] = relay
                        nursery.start_soon(self._keep, relay)
                    await trio.sleep(PAUSE_S * self._callee.rng.uniform(0.5, 1.0))
        finally:
            self._kept.clear()
            self._trying.clear()

    def _next_candidate(self) -> Contact | None:
        """A node of a place that none of our relays is of."""
        params, now = self._callee.params, trio.current_time()
        taken = {_place(each, params) for each in self._trying.values()}
        free = [
            each
            for each in self._callee.candidates()
            if each.node_id != self._callee.identity.node_id
            and _place(each, params) not in taken
            and now - self._failed_at.get(each.node_id, float("-inf")) >= QUIET_S
        ]
        return self._callee.rng.choice(free) if free else None

    async def _keep(self, relay: Contact) -> None:
        """Let one relay ring for this node, for as long as it does."""
        try:
            async with open_background() as nursery:
                connection = await self._connect(nursery, relay)
                try:
                    await self._listen(relay, connection)
                finally:
                    await connection.aclose()
        except PeerError:
            self._failed_at.pop(relay.node_id, None)
            self._failed_at[relay.node_id] = trio.current_time()
            if len(self._failed_at) > MAX_FAILED:
                self._failed_at.popitem(last=False)
        finally:
            self._kept.pop(relay.node_id, None)
            self._trying.pop(relay.node_id, None)

    async def _connect(self, nursery: trio.Nursery, relay: Contact) -> PeerConnection:
        callee = self._callee

        async def dial() -> ByteStream:
            callee.dials.begin(relay.node_id, relay.address)
            stream = await self._call(relay.address)
            callee.dials.succeeded(relay.address)
            return stream

        connection = await connect_peer(
            nursery,
            callee.streams,
            relay.address,
            relay.node_id,
            params=callee.params,
            throttle=callee.throttle,
            bugs=callee.bugs,
            dial=dial,
        )
        await connection.identify(callee.identity, callee.params, Role.PEER, timeout_s=HELLO_TIMEOUT_S)
        return connection

    async def _call(self, address: Address) -> ByteStream:
        """From the port that we listen on, if that may be: after a short break the system keeps it for a minute."""
        source = self._callee.listening(address.is_ipv6)
        if source is not None:
            try:
                return await self._callee.streams.connect(address, source)
            except Unreachable:
                pass
        return await self._callee.streams.connect(address)

    async def _listen(self, relay: Contact, connection: PeerConnection) -> None:
        wait_s = 0  # the first answer comes at once
        while True:
            request = Reserve(wait_s, self._callee.space())
            reserved = await connection.request(request, timeout_s=wait_s + REPLY_S)
            self._kept[relay.node_id] = relay
            self.observed = _address(reserved.observed) or self.observed
            if reserved.token and self._answering < MAX_ANSWERS:
                self._answering += 1
                self.nursery.start_soon(self.answer, relay, reserved)
            wait_s = MAX_RESERVE_WAIT_S
            await trio.sleep(RING_PAUSE_S)

    async def answer(self, relay: Contact, reserved: Reserved) -> None:
        """Meet one caller: by a punch, else through the relay. It is served as any other."""
        try:
            raw = await self._punch(reserved.caller) or await self._accept(relay, reserved.token)
        except PeerError:
            return
        finally:
            self._answering -= 1
        callee = self._callee
        await callee.streams.answer(raw, callee.identity, callee.serve, slots=callee.slots)

    async def _punch(self, packed: bytes) -> RawStream | None:
        """A relay may lie about where a caller is. So this counts as a connection that strangers had us make."""
        address = _address(packed)
        if address is None or not self._callee.params.allows(address):
            return None
        source = self._callee.listening(address.is_ipv6)
        if source is None:
            return None
        try:
            self._callee.dials.begin(None, address)
        except LeftAlone:
            return None
        raw = await self._callee.streams.punch(source, address)
        if raw is not None:
            self._callee.dials.succeeded(address)
        return raw

    async def _accept(self, relay: Contact, token: bytes) -> RawStream:
        raw = await self._callee.streams.connect_raw(relay.address)
        try:
            await raw.send(pack_preamble(End.HOLDER, token))
            with trio.move_on_after(JOIN_S):
                if await raw.receive(len(JOINED)) == JOINED:
                    return raw
            raise Unreachable(f"the relay {relay.address} joins nobody")
        except BaseException:
            await raw.aclose()
            raise


def _place(contact: Contact, params: NetworkParameters) -> bytes:
    return bytes(contact.node_id) if params.private else contact.address.place(private=False)


def _address(packed: bytes) -> Address | None:
    try:
        return Address.unpack(packed)
    except AddressError:
        return None
