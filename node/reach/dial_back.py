"""Dial-back: strangers try whether they can connect to this node where peers see it. docs/dht.md, "Dial-back".

    we ─ "call me", nonce ─> A          a contact, which sees our address
    A ─ "call it": that address, our id, nonce ─> B      of its own table, in another place than A and we
    B ─ connection with a knock, and a datagram ─> we    to exactly that address

A says at once who B is. What A and B say proves nothing: only the nonce that arrives does, from where B is. Nobody can
have a node call an address of its choice often: see `Sparing` and `Dials`.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import field
from functools import partial
from random import Random
from typing import Any, TypeAlias

import trio

from shoal.dht import (
    Address,
    Contact,
    DhtService,
    NetworkParameters,
    NodeId,
    ProtocolError,
    QueryError,
    has_proof,
)
from shoal.dht.contact import CONTACT_BYTES
from shoal.dht.identity import NODE_ID_BYTES, Entropy
from shoal.node.channel import (
    Buffer,
    Caller,
    Dials,
    Done,
    Knock,
    PeerError,
    Reason,
    Reply,
    RequestError,
    Status,
    StreamNetwork,
    open_connection,
)
from shoal.node.channel.messages import NONCE_BYTES, AnyRequest
from shoal.node.nursery import open_nursery
from shoal.node.reach.judgement import STRANGERS, Knocked
from shoal.values import dataclass

CALL_ME, CALL_IT, CALLING = 2, 3, 4  # topics of DHT queries
NO, YES = b"\0", b"\1"  # whether a node is going to call
_IDS_BYTES = NONCE_BYTES + NODE_ID_BYTES  # of a question before the address

ASKED = 8  # contacts that are asked for a stranger, at most
TRIED = 3  # nodes that such a contact asks to call, at most
CALL_S = 6.0  # for a connection, its handshake and a knock
ARRIVAL_S = 8.0  # how long a call is waited for
ASK_S = 4.0  # for a contact's answer
MAX_SAMPLED = 256  # contacts of which some are asked to call
REMEMBERED = 256  # questions that were answered lately: a repeated datagram gets the same answer, and no second call

ASKER_PAUSE_S = 30.0  # between two questions of one place that are passed on
TARGET_PAUSE_S = 60.0  # between two calls to one host
CALLS_PER_S, CALLS_AT_ONCE = 1.0, 8.0
MAX_PLACES = 1_024  # remembered; with more, all are refused until some pauses have ended

Handler: TypeAlias = Callable[[Caller, Any, Buffer], Awaitable[Reply]]


class Sparing:
    """So often for one place, and so many a second in all. Pure; `now` is monotonic seconds."""

    def __init__(self, pause_s: float) -> None:
        self._pause_s = pause_s
        self._last: OrderedDict[bytes, float] = OrderedDict()
        self._free_at = float("-inf")

    def take(self, place: bytes, now: float) -> bool:
        """Count one that is about to happen; False when it must not."""
        while self._last and now - next(iter(self._last.values())) >= self._pause_s:
            self._last.popitem(last=False)
        if place in self._last or len(self._last) >= MAX_PLACES:
            return False
        free_at = max(self._free_at, now - CALLS_AT_ONCE / CALLS_PER_S) + 1 / CALLS_PER_S
        if free_at > now:
            return False
        self._last[place], self._free_at = now, free_at
        return True


@dataclass(eq=False)
class _Expected:
    """A call that we wait for, and what came of it: connections by host, datagrams by id."""

    hosts: set[bytes] = field(default_factory=set)
    ids: set[NodeId] = field(default_factory=set)
    news: trio.Event = field(default_factory=trio.Event)

    async def wait(self, caller: Contact) -> tuple[bool, bool]:
        """Whether that caller's connection and datagram have come, once both have, or after a while."""
        with trio.move_on_after(ARRIVAL_S):
            while not all(self.came_from(caller)):
                await self.news.wait()
        return self.came_from(caller)

    def came_from(self, caller: Contact) -> tuple[bool, bool]:
        """The same, now."""
        return caller.address.host_key() in self.hosts, caller.node_id in self.ids

    def note(self, *, host: bytes | None = None, node_id: NodeId | None = None) -> None:
        """Something came with the nonce."""
        if host is not None and len(self.hosts) < ASKED:
            self.hosts.add(host)
        if node_id is not None and len(self.ids) < ASKED:
            self.ids.add(node_id)
        self.news.set()
        self.news = trio.Event()


class DialBack:
    """Both halves: it has strangers call this node, and calls others when it is asked to. `run` is its task.

    dials: bounds calls that bring no peer.    rng: who is asked.
    """

    def __init__(
        self,
        dht: DhtService,
        streams: StreamNetwork,
        params: NetworkParameters,
        dials: Dials | None,
        rng: Random,
        entropy: Entropy,
    ) -> None:
        self._dht = dht
        self._streams = streams
        self._params = params
        self._dials = dials
        self._rng = rng
        self._entropy = entropy
        self._askers = Sparing(ASKER_PAUSE_S)
        self._targets = Sparing(TARGET_PAUSE_S)
        self._answered: OrderedDict[bytes, bytes] = OrderedDict()
        self._expected: dict[bytes, _Expected] = {}  # by nonce; at most ASKED for each address that is judged
        self._nursery: trio.Nursery | None = None

    def handlers(self) -> Mapping[type[AnyRequest], Handler]:
        """What this answers on the channel."""
        return {Knock: self._knocked}

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Answer others until cancelled."""
        async with open_nursery() as nursery:
            self._nursery = nursery
            self._dht.serve(CALL_ME, self._call_me, _only_proven)
            self._dht.serve(CALL_IT, self._call_it, _only_proven)
            self._dht.serve(CALLING, self._calling, self._admits_calling)
            task_status.started()
            await trio.sleep_forever()

    # -- having strangers call us ------------------------------------------------------------------------

    async def have_called(self, address: Address) -> list[Knocked]:
        """Have up to three strangers of different places call this address of ours, where peers see us.

        Fewer where fewer are found: nothing when nobody could be asked.
        """
        asked = [each for each in self._dht.contacts() if each.address.is_ipv6 == address.is_ipv6]
        self._rng.shuffle(asked)
        places, knocks = {self._place(address)}, list[Knocked]()

        async def wait(caller: Contact, expected: _Expected, *, is_stranger: bool) -> None:
            connected, datagram = await expected.wait(caller)
            knocks.append(Knocked(is_stranger, connected, datagram))

        nonces: list[bytes] = []
        try:
            async with open_nursery() as nursery:
                strangers = 0
                for contact in asked[:ASKED]:
                    nonce = self._entropy(NONCE_BYTES)
                    nonces.append(nonce)
                    expected = self._expected[nonce] = _Expected()
                    caller = await self._ask(contact, nonce)
                    if caller is None or self._place(caller.address) in places | {self._place(contact.address)}:
                        continue
                    places.add(self._place(caller.address))
                    is_stranger = not self._dht.has_met(caller.node_id, caller.address)
                    nursery.start_soon(partial(wait, caller, expected, is_stranger=is_stranger))
                    strangers += is_stranger
                    if strangers == STRANGERS:
                        break
        finally:
            for nonce in nonces:
                self._expected.pop(nonce, None)
        return knocks

    async def _ask(self, contact: Contact, nonce: bytes) -> Contact | None:
        """Ask a contact to have us called. Returns the node that is to call, as the contact says."""
        with trio.move_on_after(ASK_S):
            try:
                # As long as the longest answer, which is so never longer than what it answers.
                answer = await self._dht.query(contact, CALL_ME, nonce.ljust(max(CONTACT_BYTES), b"\0"))
                caller = Contact.unpack(answer) if answer else None
            except (QueryError, ProtocolError):
                return None
            return caller if caller is not None and self._params.allows(caller.address) else None
        return None

    async def _knocked(self, caller: Caller, request: Knock, payload: Buffer) -> Done:
        expected = self._expected.get(request.nonce)
        if expected is None:
            raise RequestError(Status.NOT_FOUND, Reason.UNSTATED, "no such call is expected here")
        expected.note(host=caller.remote.host_key())
        return Done()

    def _admits_calling(self, source: Address | None, size: int, now: float) -> bool:
        return size == NONCE_BYTES and bool(self._expected)

    async def _calling(self, caller: Contact, nonce: bytes) -> bytes | None:
        expected = self._expected.get(nonce)
        if expected is None:
            return None
        expected.note(node_id=caller.node_id)
        return b""

    # -- calling others ----------------------------------------------------------------------------------

    async def _call_me(self, asker: Contact, payload: bytes) -> bytes | None:
        """Have the asker called by a contact of ours in another place."""
        nonce, now = payload[:NONCE_BYTES], trio.current_time()
        if len(payload) < max(CONTACT_BYTES):
            return None
        if (known := self._answered.get(nonce)) is not None:
            return known
        if not self._askers.take(self._place(asker.address), now):
            return None
        self._remember(nonce, b"")
        near = {self._place(asker.address), *map(self._place, self._dht.own_addresses())}
        others = [each for each in self._dht.sample(MAX_SAMPLED) if self._place(each.address) not in near]
        fitting = [each for each in others if each.address.is_ipv6 == asker.address.is_ipv6]
        for contact in fitting[:TRIED]:
            question = nonce + asker.node_id + asker.address.pack()
            with trio.move_on_after(ASK_S / TRIED), suppress(QueryError):
                if await self._dht.query(contact, CALL_IT, question) == YES:
                    self._remember(nonce, contact.pack())
                    break
        return self._answered.get(nonce, b"")

    async def _call_it(self, asker: Contact, payload: bytes) -> bytes | None:
        """Call a node, unless we do not want to: too many have asked for that lately, or it is nowhere near an asker's
        contact.
        """
        now = trio.current_time()
        nonce, node_id, packed = payload[:NONCE_BYTES], payload[NONCE_BYTES:_IDS_BYTES], payload[_IDS_BYTES:]
        try:
            target = Contact(NodeId(node_id), Address.unpack(packed))
        except ProtocolError:
            return None
        if (known := self._answered.get(nonce)) is not None:
            return known
        if not self._may_be_called(target, asker) or self._nursery is None:
            return NO
        self._remember(nonce, YES if self._targets.take(target.address.host_key(), now) else NO)
        if self._answered[nonce] == YES:
            self._nursery.start_soon(self._connect, target, nonce)
            self._nursery.start_soon(self._send, target, nonce)
        return self._answered[nonce]

    def _may_be_called(self, target: Contact, asker: Contact) -> bool:
        bits, near = self._params.pow_bits, map(self._place, self._dht.own_addresses())
        return (
            self._params.allows(target.address)
            and self._place(target.address) not in {self._place(asker.address), *near}
            and has_proof(target.node_id, bits)
            and has_proof(asker.node_id, bits)
        )

    async def _connect(self, target: Contact, nonce: bytes) -> None:
        with trio.move_on_after(CALL_S), suppress(PeerError):
            async with open_connection(
                self._streams, target.address, target.node_id, params=self._params, dials=self._dials
            ) as peer:
                await peer.request(Knock(nonce), timeout_s=CALL_S)

    async def _send(self, target: Contact, nonce: bytes) -> None:
        with suppress(QueryError):
            await self._dht.call(target, CALLING, nonce)

    def _remember(self, nonce: bytes, answer: bytes) -> None:
        self._answered[nonce] = answer
        self._answered.move_to_end(nonce)
        while len(self._answered) > REMEMBERED:
            self._answered.popitem(last=False)

    def _place(self, address: Address) -> bytes:
        return address.place(private=self._params.private)


def _only_proven(source: Address | None, size: int, now: float) -> bool:
    return source is not None
