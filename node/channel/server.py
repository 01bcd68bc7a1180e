"""The answering side: one `PeerServer` for a node, one `_Conversation` per connection.

A peer can end its own connection and nothing else. All that it can make us hold is bounded: requests in work and bytes
per connection, bytes in all, and time for every frame in either direction.
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

import trio

from shoal.dht import Address, Identity, NetworkParameters, NodeId
from shoal.node.channel import hello, messages
from shoal.node.channel.bugs import BugCount
from shoal.node.channel.errors import MalformedMessage, PeerError
from shoal.node.channel.frames import FrameHead, FrameReader, FrameWriter
from shoal.node.channel.hello import HELLO_TIMEOUT_S, NotProven, Role
from shoal.node.channel.limits import Grant, MemoryBudget, Throttle
from shoal.node.channel.messages import AnyRequest, Failure, Identify, Reason, Reply, Status, UnknownRequest
from shoal.node.channel.streams import Buffer, ByteStream

IDLE_S = 60.0  # an idle connection costs 20 KiB, and a new one a round trip or two
MAX_REQUESTS_COUNT = 16  # in work at once per connection; enough to hide a long round trip
MAX_CONNECTION_BYTES = 4 * 2**20  # payloads in memory per connection, both ways: four full reads or writes
MEMORY_WAIT_S = 5.0  # a burst of honest readers is over by then; after it the caller should try elsewhere
MAX_WORK_S = 300.0  # far beyond any honest request (announcing a file takes a minute at worst)

assert MAX_CONNECTION_BYTES >= 2 * messages.MAX_PAYLOAD_BYTES, "the largest single request must fit"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Caller:
    """The peer that asks. `node_id` is None while it has proven none."""

    remote: Address
    role: Role = Role.ANONYMOUS
    node_id: NodeId | None = None


class RequestError(Exception):
    """Raised by a dispatch function to answer a request with a failure."""

    def __init__(self, status: Status, reason: Reason = Reason.UNSTATED, text: str = "", price: int = 0) -> None:
        super().__init__(f"{status.name.lower()} ({reason.name.lower()}): {text}")
        self.failure = Failure(status, reason, text, price)


Dispatch: TypeAlias = Callable[[Caller, AnyRequest, Buffer], Awaitable[Reply]]
"""Does a request (its payload is the third argument) and gives the reply, or raises RequestError."""


@dataclass(frozen=True, slots=True)
class ServerStatistics:
    """A snapshot. `bugs` counts requests that our own code failed on."""

    connections: int
    requests: int
    failures: int
    bugs: int
    memory_bytes: int


class PeerServer:
    """Answers peers on any number of streams: `serve_connection` is the handler to give to
    `StreamNetwork.serve`.
    """

    def __init__(
        self,
        identity: Identity,
        params: NetworkParameters,
        dispatch: Dispatch,
        *,
        entropy: Callable[[int], bytes],
        throttle: Throttle | None = None,
        memory: MemoryBudget | None = None,
    ) -> None:
        self.identity = identity
        self.params = params
        self.dispatch = dispatch
        self.entropy = entropy
        self.throttle = throttle or Throttle()
        self.memory = memory or MemoryBudget()
        self._freed = trio.lowlevel.ParkingLot()  # tasks that wait for memory: at most one per connection
        self._bugs = BugCount()
        self._connections = self._requests = self._failures = 0

    def statistics(self) -> ServerStatistics:
        """How much was done so far."""
        return ServerStatistics(
            self._connections, self._requests, self._failures, self._bugs.count, self.memory.used_bytes
        )

    async def serve_connection(self, stream: ByteStream) -> None:
        """Hold one conversation to its end. Nothing that the peer does makes this raise."""
        self._connections += 1
        try:
            await _Conversation(self, stream).run()
        except Exception as error:  # noqa: BLE001 - as in `_work`: what a stranger can reach must not end the node
            self._bugs.note("a conversation", error)
        finally:
            self._connections -= 1
            await stream.aclose()

    async def reserve(self, count: int, evict: Callable[[], None]) -> Grant | None:
        """Wait for memory for `count` bytes of payload. Returns None when there is none for a while.

        `evict` ends the connection, if this grant is later given up for another.
        """
        grant = self.memory.take(count, trio.current_time(), evict)
        if grant is None:
            grant = await self._wait_for_memory(count, evict)
        return grant

    async def _wait_for_memory(self, count: int, evict: Callable[[], None]) -> Grant | None:
        with trio.move_on_after(MEMORY_WAIT_S):
            while True:
                await self._freed.park()
                grant = self.memory.take(count, trio.current_time(), evict)
                if grant is not None:
                    return grant
        return self.memory.take(count, trio.current_time(), evict)

    def release(self, grant: Grant) -> None:
        """Give memory back."""
        self.memory.release(grant)
        self._freed.unpark_all()

    async def work(self, caller: Caller, request: AnyRequest, payload: Buffer) -> Reply | Failure:
        """Do one request, whatever happens."""
        self._requests += 1
        outcome = await self._work(caller, request, payload)
        self._failures += isinstance(outcome, Failure)
        return outcome

    async def _work(self, caller: Caller, request: AnyRequest, payload: Buffer) -> Reply | Failure:
        try:
            with trio.move_on_after(MAX_WORK_S):
                return await self.dispatch(caller, request, payload)
        except RequestError as error:
            return error.failure
        except Exception as error:  # noqa: BLE001 - a bug of ours, contained here (see `bugs`)
            self._bugs.note(f"a request of type {request.TYPE}", error)
            return Failure(Status.INTERNAL)
        return Failure(Status.BUSY, Reason.TIME, "it took too long")


class _Conversation:
    """One connection. `run` reads requests in order; each is worked on in a task of its own."""

    def __init__(self, server: PeerServer, stream: ByteStream) -> None:
        self._server = server
        self._stream = stream
        self._caller = Caller(stream.remote)
        self._challenge: bytes | None = server.entropy(messages.CHALLENGE_BYTES)
        self._reader = FrameReader(stream, server.throttle)
        self._writer = FrameWriter(stream, server.throttle)
        self._scope: trio.CancelScope  # while it runs
        self._in_work = 0
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

    async def _read_requests(self, nursery: trio.Nursery) -> None:
        with trio.move_on_after(HELLO_TIMEOUT_S) as opening:
            await self._exchange_hellos()
        if opening.cancelled_caught:
            return
        if self._stream.reserved:  # the last slot is not for waiting in
            self._scope.deadline = trio.current_time() + HELLO_TIMEOUT_S
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
        greeting = hello.server_hello(self._server.identity, self._challenge)
        await self._writer.send(messages.encode_hello(greeting))
        await self._reader.wait()  # the whole has its time limit already
        head = await self._reader.read_head()
        hello.check_version(messages.decode_hello(head.header, messages.ClientHello))
        await self._reader.skip_payload()

    async def _more(self) -> bool:
        """Whether another request begins; False when the peer has left, or nothing was done for too long."""
        self._idle_since = trio.current_time()
        while True:
            with trio.move_on_at(self._idle_since + IDLE_S):
                return await self._reader.wait()
            if self._in_work:
                self._idle_since = trio.current_time()
            elif trio.current_time() >= self._idle_since + IDLE_S:
                return False

    async def _reject(self, head: FrameHead, error: MalformedMessage) -> None:
        """Answer what can be answered, so that a newer peer learns what this one does not understand."""
        if error.request is None:
            raise error
        type_number, request_id = error.request
        await self._reader.skip_payload()
        await self._fail(type_number, request_id, Failure(Status.MALFORMED, text=str(error)))

    async def _admit(
        self, nursery: trio.Nursery, head: FrameHead, request_id: int, request: AnyRequest | UnknownRequest
    ) -> None:
        if isinstance(request, UnknownRequest):
            await self._reader.skip_payload()
            await self._fail(request.type_number, request_id, Failure(Status.UNSUPPORTED))
        elif isinstance(request, Identify):
            await self._fail_or_identify(request_id, request)
        elif self._stream.reserved and self._caller.role is not Role.ADMIN:
            await self._fail(request.TYPE, request_id, Failure(Status.BUSY, Reason.CONNECTIONS, "too many connections"))
            self._scope.cancel()
        else:
            await self._start(nursery, head, request_id, request)

    async def _start(self, nursery: trio.Nursery, head: FrameHead, request_id: int, request: AnyRequest) -> None:
        cost = head.payload_bytes + request.reply_bound_bytes
        while self._in_work >= MAX_REQUESTS_COUNT or self._bytes + cost > MAX_CONNECTION_BYTES:
            self._less_to_do = trio.Event()
            await self._less_to_do.wait()
        grant = await self._server.reserve(cost, self._scope.cancel)
        if grant is None:
            await self._reader.skip_payload()
            failure = Failure(Status.BUSY, Reason.MEMORY, "no memory left for this now")
            await self._fail(request.TYPE, request_id, failure)
            return
        self._in_work += 1
        self._bytes += cost
        try:
            payload = await self._reader.read_payload()
        except BaseException:
            self._finish(grant)
            raise
        nursery.start_soon(self._answer, request_id, request, payload, grant)

    async def _answer(self, request_id: int, request: AnyRequest, payload: Buffer, grant: Grant) -> None:
        try:
            outcome = await self._server.work(self._caller, request, payload)
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
        self._in_work -= 1
        self._idle_since = trio.current_time()
        self._bytes -= grant.bytes_count
        self._server.release(grant)
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
        self._caller = replace(self._caller, role=role, node_id=node_id)
        if role is Role.ADMIN:
            self._scope.deadline = float("inf")
        await self._writer.send(messages.encode_reply(proof.TYPE, request_id, messages.Done()))
