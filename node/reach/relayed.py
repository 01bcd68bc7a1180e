"""Being reached through relays: a node that cannot be dialled keeps three of them, and answers their rings.

It calls each relay from the port that it listens on. So the relay sees the address to which others can punch.
"""

import random
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NoReturn

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
PAUSE_S = 1.0  # between two relays that are tried
NOBODY_S = 10.0  # before another look where nobody is left to try
QUIET_S = 300.0  # before one that cannot be called, or refuses, is tried again
LOST_QUIET_S = 20.0  # the same for one that was a relay of ours until now: it, or we, may be back
MAX_QUIET = 256  # remembered
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
    wanted: Callable[[], bool]  # whether relays are needed now
    changed: Callable[[Sequence[Contact]], None]  # hears of the relays that there are, whenever that changes
    rng: random.Random


class Relayed:
    """Keeps relays while `run` runs. `relays` are those that ring for this node now, the first found in front."""

    def __init__(self, callee: Callee) -> None:
        self._callee = callee
        self._kept: dict[NodeId, Contact] = {}
        self._trying: dict[Contact, trio.CancelScope] = {}
        self._news = trio.Event()
        self._quiet_until: OrderedDict[NodeId, float] = OrderedDict()
        self.nursery: trio.Nursery  # while it runs
        self._answering = 0
        self.observed: Address | None = None  # at which a relay last saw this node

    @property
    def relays(self) -> tuple[Contact, ...]:
        """The relays that ring for this node now."""
        return tuple(self._kept.values())

    def look_again(self) -> None:
        """Relays may be wanted now, or not any more."""
        self._news.set()

    async def run(self) -> None:
        """Keep `RELAYS_COUNT` relays of distinct places while they are wanted, until cancelled."""
        async with open_nursery() as nursery:
            self.nursery = nursery
            while True:
                self._news = trio.Event()
                if not self._callee.wanted():
                    for scope in self._trying.values():
                        scope.cancel()
                elif len(self._trying) < RELAYS_COUNT:
                    await self._try_next(nursery)
                    continue
                await self._news.wait()

    async def _try_next(self, nursery: trio.Nursery) -> None:
        relay = self._next_candidate()
        if relay is not None:
            self._trying[relay] = trio.CancelScope()
            nursery.start_soon(self._keep, relay, self._trying[relay])
        await trio.sleep((NOBODY_S if relay is None else PAUSE_S) * self._callee.rng.uniform(0.5, 1.0))

    def _next_candidate(self) -> Contact | None:
        """A node of a place that none of our relays is of."""
        params, now = self._callee.params, trio.current_time()
        taken = {_place(each, params) for each in self._trying}
        free = [
            each
            for each in self._callee.candidates()
            if each.node_id != self._callee.identity.node_id
            and _place(each, params) not in taken
            and now >= self._quiet_until.get(each.node_id, float("-inf"))
        ]
        return self._callee.rng.choice(free) if free else None

    async def _keep(self, relay: Contact, scope: trio.CancelScope) -> None:
        """Let one relay ring for this node, for as long as it does."""
        try:
            with scope:
                await self._ring_by(relay)
        except PeerError:
            quiet_s = LOST_QUIET_S if relay.node_id in self._kept else QUIET_S
            self._quiet_until.pop(relay.node_id, None)
            self._quiet_until[relay.node_id] = trio.current_time() + quiet_s
            if len(self._quiet_until) > MAX_QUIET:
                self._quiet_until.popitem(last=False)
        finally:
            self._trying.pop(relay, None)
            if self._kept.pop(relay.node_id, None) is not None:
                self._callee.changed(self.relays)
            self._news.set()

    async def _ring_by(self, relay: Contact) -> NoReturn:
        async with open_background() as nursery:
            connection = await self._connect(nursery, relay)
            try:
                await self._listen(relay, connection)
            finally:
                await connection.aclose()

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

    async def _listen(self, relay: Contact, connection: PeerConnection) -> NoReturn:
        wait_s = 0  # the first answer comes at once
        while True:
            request = Reserve(wait_s, self._callee.space())
            reserved = await connection.request(request, timeout_s=wait_s + REPLY_S)
            if relay.node_id not in self._kept:
                self._kept[relay.node_id] = relay
                self._callee.changed(self.relays)
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
