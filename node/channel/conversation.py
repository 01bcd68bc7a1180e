"""One connection as the server sees it: hellos, then requests, each worked on in a task of its own."""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Protocol

import trio

from shoal.dht import Address, Identity, NetworkParameters, NodeId
from shoal.node.channel import hello, messages
from shoal.node.channel.errors import MalformedMessage, PeerError
from shoal.node.channel.frames import FrameHead, FrameReader, FrameWriter
from shoal.node.channel.hello import HELLO_TIMEOUT_S, NotProven, Role
from shoal.node.channel.limits import Throttle
from shoal.node.channel.memory import Grant, MemoryHolder
from shoal.node.channel.memory_queue import MemoryQueue
from shoal.node.channel.messages import AnyRequest, Failure, Identify, Reason, Reply, Status, UnknownRequest
from shoal.node.channel.streams import Buffer, ByteStream
from shoal.values import dataclass

FIRST_REQUEST_S = 15.0  # from the hello on; callers dial when they have something to ask
IDLE_S = 60.0  # an idle connection costs 20 KiB, and a new one a round trip or two
MAX_REQUESTS_COUNT = 16  # in work at once per connection; enough to hide a long round trip
MAX_CONNECTION_BYTES = 4 * 2**20  # payloads in memory per connection, both ways: four full reads or writes

assert MAX_CONNECTION_BYTES >= 2 * messages.MAX_PAYLOAD_BYTES, "the largest single request must fit"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Caller:
    """The peer that asks. `node_id` is None while it has proven none."""

    remote: Address
    role: Role = Role.ANONYMOUS
    node_id: NodeId | None = None


class Desk(Protocol):
    """What a conversation needs of its server: `PeerServer`."""

    identity: Identity
    params: NetworkParameters
    entropy: Callable[[int], bytes]
    throttle: Throttle
    queue: MemoryQueue
    hold_back: Callable[[Address], Awaitable[None]]

    async def work(self, caller: Caller, request: AnyRequest, payload: Buffer) -> Reply | Failure:
        """Do one request, whatever happens."""
        ...


class Conversation:
    """One connection. `run` reads requests in order; each is worked on in a task of its own."""

    def __init__(self, server: Desk, stream: ByteStream) -> None:
        assert stream.slot is not None, "the streams of a server have slots"
        self._server = server
        self._stream = stream
        self._slot = stream.slot
        self._holder = MemoryHolder(self._slot.origin, self._moved_bytes, self._slot.evict)
        self._caller = Caller(stream.remote)
        self._challenge: bytes | None = server.entropy(messages.CHALLENGE_BYTES)
        self._reader = FrameReader(stream, server.throttle)
        self._writer = FrameWriter(stream, server.throttle)
        self._scope: trio.CancelScope  # while it runs
        self._idle_since = 0.0
        self._bytes = 0
        self._less_to_do = trio.Event()

    async def run(self) -> None:
        """Serve until the peer leaves, idles too long, or breaks a rule."""
        async with trio.open_nursery() as nursery:
            self._scope = nursery.cancel_scope
            try:
                await self._read_requests(nursery)
            except PeerError as error:
                log.debug("%s: %s", self._stream.remote, error)
                self._scope.cancel()

    def _moved_bytes(self) -> int:
        return self._stream.received_bytes() + self._stream.delivered_bytes()

    async def _read_requests(self, nursery: trio.Nursery) -> None:
        with trio.move_on_after(HELLO_TIMEOUT_S) as opening:
            await self._exchange_hellos()
        if opening.cancelled_caught:
            return
        self._scope.deadline = trio.current_time() + FIRST_REQUEST_S  # until it is settled
        while await self._more():
            head = await self._reader.read_head()
            try:
                request_id, request = messages.decode_request(head.header, head.payload_bytes)
            except MalformedMessage as error:
                await self._reject(head, error)
            else:
                await self._admit(nursery, head, request_id, request)

    async def _exchange_hellos(self) -> None:
        assert self._challenge is not None
        greeting = hello.server_hello(self._server.identity, self._server.params, self._challenge)
        await self._writer.send(messages.encode_hello(greeting))
        await self._reader.wait()  # the whole has its time limit already
        head = await self._reader.read_head()
        caller = messages.decode_hello(head.header, messages.ClientHello)
        hello.check_version(caller)
        hello.check_network(caller, self._server.params)
        await self._reader.skip_payload()

    async def _more(self) -> bool:
        """Whether another request begins; False when the peer has left, or nothing was done for too long."""
        self._idle_since = trio.current_time()
        while True:
            with trio.move_on_at(self._idle_since + IDLE_S):
                return await self._reader.wait()
            if self._slot.in_work:
                self._idle_since = trio.current_time()
            elif trio.current_time() >= self._idle_since + IDLE_S:
                return False

    async def _reject(self, head: FrameHead, error: MalformedMessage) -> None:
        """Answer what can be answered, so that a newer peer learns what this one does not understand."""
        if error.request is None:
            raise error
        type_number, request_id = error.request
        await self._refuse(type_number, request_id, Failure(Status.MALFORMED, text=str(error)))

    async def _refuse(self, type_number: int, request_id: int, failure: Failure) -> None:
        """Answer what cannot be done, in the caller's turn: such requests are in nobody's budget."""
        await self._reader.skip_payload()
        await self._server.hold_back(self._stream.remote)
        await self._fail(type_number, request_id, failure)

    async def _admit(
        self, nursery: trio.Nursery, head: FrameHead, request_id: int, request: AnyRequest | UnknownRequest
    ) -> None:
        if isinstance(request, UnknownRequest):
            await self._refuse(request.type_number, request_id, Failure(Status.UNSUPPORTED))
        elif isinstance(request, Identify):
            await self._fail_or_identify(request_id, request)
        elif self._settle():
            await self._start(nursery, head, request_id, request)
        else:
            await self._turn_away(request.TYPE, request_id)

    def _settle(self) -> bool:
        """Whether there is room for this connection; one that gets none may still prove to be the administrator's."""
        if not (self._slot.is_settled or self._slot.settle(trio.current_time())):
            return False
        self._scope.deadline = float("inf")
        return True

    async def _turn_away(self, type_number: int, request_id: int) -> None:
        """Say that there is no room. It stays a newcomer: to close at once, with more requests on the way, would cost
        the caller our answer.
        """
        await self._refuse(type_number, request_id, Failure(Status.BUSY, Reason.CONNECTIONS, "too many connections"))

    async def _start(self, nursery: trio.Nursery, head: FrameHead, request_id: int, request: AnyRequest) -> None:
        cost = head.payload_bytes + request.reply_bound_bytes
        while self._slot.in_work >= MAX_REQUESTS_COUNT or self._bytes + cost > MAX_CONNECTION_BYTES:
            self._less_to_do = trio.Event()
            await self._less_to_do.wait()
        grant = await self._server.queue.reserve(self._holder, cost)
        if grant is None:
            await self._reader.skip_payload()
            failure = Failure(Status.BUSY, Reason.MEMORY, "no memory left for this now")
            await self._fail(request.TYPE, request_id, failure)
            return
        self._slot.begin(trio.current_time())
        self._bytes += cost
        try:
            payload = await self._reader.read_payload()
        except BaseException:
            self._finish(grant)
            raise
        nursery.start_soon(self._answer, request_id, request, payload, grant)

    async def _answer(self, request_id: int, request: AnyRequest, payload: Buffer, grant: Grant) -> None:
        try:
            grant.wait_for_us()
            outcome = await self._server.work(self._caller, request, payload)
            grant.wait_for_peer(trio.current_time())
            if isinstance(outcome, Failure):
                await self._fail(request.TYPE, request_id, outcome)
            else:
                header = messages.encode_reply(request.TYPE, request_id, outcome)
                await self._writer.send(header, [messages.reply_payload(outcome)])
        except PeerError as error:
            log.debug("%s: %s", self._stream.remote, error)
            self._scope.cancel()
        finally:
            self._finish(grant)

    def _finish(self, grant: Grant) -> None:
        self._idle_since = trio.current_time()
        self._slot.end(self._idle_since)
        self._bytes -= grant.bytes_count
        self._server.queue.release(grant)
        self._less_to_do.set()

    async def _fail(self, type_number: int, request_id: int, failure: Failure) -> None:
        await trio.lowlevel.checkpoint()  # a peer may send thousands of requests that we refuse: others have their turn
        await self._writer.send(messages.encode_failure(type_number, request_id, failure))

    async def _fail_or_identify(self, request_id: int, proof: Identify) -> None:
        """Check the caller's proof. The challenge serves once, so a proof that fails ends the connection."""
        challenge, self._challenge = self._challenge, None
        try:
            if challenge is None:
                raise NotProven("identified already")
            role, node_id = hello.check_proof(proof, self._server.identity, self._server.params, challenge)
        except NotProven as error:
            failure = Failure(Status.FORBIDDEN, Reason.NOT_PROVEN, str(error))
            await self._fail(proof.TYPE, request_id, failure)
            self._scope.cancel()
            return
        if role is Role.ADMIN:
            self._slot.promote()
        if not self._settle():
            await self._turn_away(proof.TYPE, request_id)
            return
        self._caller = replace(self._caller, role=role, node_id=node_id)
        await self._writer.send(messages.encode_reply(proof.TYPE, request_id, messages.Done()))
