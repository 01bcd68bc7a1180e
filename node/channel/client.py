"""The asking side: one connection to one peer. Many requests may be under way; replies are matched by their ids."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import trio

from shoal.dht import Address, Identity, NetworkParameters, NodeId
from shoal.node.channel import hello, messages
from shoal.node.channel.background import open_background
from shoal.node.channel.bugs import BugCount
from shoal.node.channel.dials import Dials
from shoal.node.channel.errors import (
    ConversationFailed,
    Disconnected,
    MalformedMessage,
    Misbehaved,
    PeerError,
    TimedOut,
    Unreachable,
)
from shoal.node.channel.frames import FrameReader, FrameWriter
from shoal.node.channel.hello import HELLO_TIMEOUT_S, Role
from shoal.node.channel.limits import Throttle, acquire
from shoal.node.channel.messages import AnyRequest, Failure, R, RawReply, Reply, Request, ServerHello
from shoal.node.channel.streams import Buffer, ByteStream, StreamNetwork

MAX_REQUESTS_COUNT = 16  # under way at once; as many as a server works on for one connection
MAX_ABANDONED_COUNT = 64  # a peer that owes this many replies nobody waits for is not worth keeping


class _Pending:
    """A request that waits for its reply."""

    __slots__ = ("answered", "outcome", "request")

    def __init__(self, request: AnyRequest) -> None:
        self.request = request
        self.answered = trio.Event()
        self.outcome: Reply | Failure | PeerError | None = None

    def settle(self, outcome: Reply | Failure | PeerError) -> None:
        self.outcome = outcome
        self.answered.set()


class PeerConnection:
    """A connection to one peer, for any number of tasks. Made by `connect_peer`.

    When a request is cancelled or times out, the connection stays in use if none or all of its frame was sent. A late
    reply is dropped. If half of the frame was sent, the connection is closed.
    """

    def __init__(
        self, stream: ByteStream, reader: FrameReader, throttle: Throttle, greeting: ServerHello, bugs: BugCount
    ) -> None:
        self._bugs = bugs
        self.node_id = NodeId(greeting.node_id)
        self.remote = stream.remote
        self.last_used_s = trio.current_time()
        self._greeting = greeting
        self._stream = stream
        self._reader = reader
        self._writer = FrameWriter(stream, throttle)
        self._room = trio.Semaphore(MAX_REQUESTS_COUNT)
        self._pending: dict[int, _Pending] = {}
        self._abandoned: set[int] = set()
        self._next_id = 0
        self._failure: PeerError | None = None
        self._scope = trio.CancelScope()

    @property
    def closed(self) -> bool:
        """Whether no request can be made any more."""
        return self._failure is not None

    @property
    def in_flight(self) -> int:
        """How many requests are under way."""
        return MAX_REQUESTS_COUNT - self._room.value

    async def request(self, message: Request[R], *, payload: Sequence[Buffer] = (), timeout_s: float) -> R:
        """Send a request and return the reply.

        payload: the buffers that follow the message; they must not change meanwhile. Raises TimedOut after `timeout_s`,
        RemoteError when the peer refuses, Disconnected when the connection ends meanwhile, and Misbehaved when the peer
        breaks the protocol.
        """
        with trio.move_on_after(timeout_s):
            await acquire(self._room)
            try:
                outcome = await self._ask(message, payload)
            finally:
                self._room.release()
            if isinstance(outcome, Failure):
                raise outcome.error()
            reply: R = outcome
            return reply
        raise TimedOut(f"{self.remote} did not answer within {timeout_s:g} s")

    async def identify(self, identity: Identity, params: NetworkParameters, role: Role, *, timeout_s: float) -> None:
        """Prove our identity to the peer, once per connection. Raises RemoteError when the peer does not accept the
        proof.
        """
        await self.request(hello.prove(identity, params, self._greeting, role), timeout_s=timeout_s)

    async def aclose(self) -> None:
        """Close; requests under way end with Disconnected."""
        self._fail(Disconnected("the connection was closed on this side"))
        self._scope.cancel()
        await self._stream.aclose()

    async def read_replies(self) -> None:
        """Hand each reply to the task that waits for it. Runs in a task of the connection's owner until it is
        closed.
        """
        try:
            with self._scope:
                while await self._reader.wait():
                    await self._read_reply()
            raise Disconnected(f"{self.remote} closed the connection")
        except PeerError as error:
            self._fail(error)
        except Exception as error:  # noqa: BLE001 - a bug of ours, contained here (see `bugs`)
            self._bugs.note("a reply", error)
            self._fail(ConversationFailed(f"{self.remote}: a reply could not be read ({type(error).__name__})"))
        finally:
            self._fail(Disconnected("the connection was closed on this side"))
            await self._stream.aclose()

    async def _ask(self, message: AnyRequest, payload: Sequence[Buffer]) -> Any:
        if self._failure is not None:
            raise Disconnected(str(self._failure))
        request_id = self._next_id
        self._next_id = (request_id + 1) & messages.MAX_REQUEST_ID
        pending = self._pending[request_id] = _Pending(message)
        sent = False
        try:
            await self._writer.send(messages.encode_request(request_id, message), payload)
            sent = True
            await pending.answered.wait()
        finally:
            self.last_used_s = trio.current_time()
            if self._pending.pop(request_id, None) and sent:
                self._abandon(request_id)
        if isinstance(pending.outcome, PeerError):
            raise type(pending.outcome)(str(pending.outcome))
        return pending.outcome

    def _abandon(self, request_id: int) -> None:
        self._abandoned.add(request_id)
        if len(self._abandoned) > MAX_ABANDONED_COUNT:
            self._fail(TimedOut(f"{self.remote} leaves requests unanswered"))
            self._stream.abort()

    async def _read_reply(self) -> None:
        head = await self._reader.read_head()
        raw = messages.decode_reply_head(head.header)
        pending = self._pending.get(raw.request_id)
        if pending is None:
            if raw.request_id not in self._abandoned:
                raise Misbehaved(f"{self.remote} answers what it was not asked")
            self._abandoned.remove(raw.request_id)
            await self._reader.skip_payload()
            return
        self._check_size(raw, pending, head.payload_bytes)
        payload = await self._reader.read_payload()
        outcome = messages.decode_reply(raw, pending.request, payload)
        if self._pending.pop(raw.request_id, None):  # not given up while its payload was on the way
            pending.settle(outcome)
        else:
            self._abandoned.discard(raw.request_id)

    def _check_size(self, raw: RawReply, pending: _Pending, payload_bytes: int) -> None:
        """Check the length of a payload before memory is allocated for it."""
        allowed = pending.request.reply_bound_bytes if raw.status == messages.Status.OK else 0
        if payload_bytes > allowed:
            raise MalformedMessage(f"a reply with {payload_bytes} bytes where at most {allowed} were asked for")

    def _fail(self, error: PeerError) -> None:
        """End the connection for every request under way."""
        if self._failure is None:
            self._failure = error
        waiting, self._pending = self._pending, {}
        for pending in waiting.values():
            pending.settle(self._failure)


async def connect_peer(
    nursery: trio.Nursery,
    network: StreamNetwork,
    address: Address,
    node_id: NodeId | None,
    *,
    params: NetworkParameters | None = None,
    throttle: Throttle | None = None,
    bugs: BugCount | None = None,
    dials: Dials | None = None,
    dial: Callable[[], Awaitable[ByteStream]] | None = None,
) -> PeerConnection:
    """Connect to the node `node_id`, or to any node there when it is None. Its replies are read in `nursery`.

    params: of the network that the peer has to belong to; by default any.
    dials: bounds connections that bring no peer.
    dial: makes the stream, where that is not simply a call of `address`; it then counts what it dials itself.

    Raises Unreachable, and of that family OtherNode when another node answers, OtherNetwork when the node belongs to
    another network, LeftAlone when `dials` forbids the call; Misbehaved when something answers that is no node;
    ConversationFailed when our own code fails on what the peer sent, which `bugs` counts. Bounded in time.
    """
    throttle, bugs = throttle or Throttle(), bugs or BugCount()
    try:
        if dial is not None:
            dials, stream = None, await dial()
        else:
            if dials is not None:
                dials.begin(node_id, address)
            stream = await network.connect(address)
        try:
            reader = FrameReader(stream, throttle)
            with trio.move_on_after(HELLO_TIMEOUT_S):
                greeting = await _exchange_hellos(stream, reader, node_id, params)
                if dials is not None:
                    dials.succeeded(address)
                connection = PeerConnection(stream, reader, throttle, greeting, bugs)
                nursery.start_soon(connection.read_replies)
                return connection
            raise Unreachable(f"{address} did not say hello within {HELLO_TIMEOUT_S:g} s")
        except BaseException:
            stream.abort()
            raise
    except PeerError:
        raise
    except Exception as error:  # a bug of ours, contained here (see `bugs`)
        bugs.note("a call", error)
        raise ConversationFailed(f"{address}: the call failed on a bug ({type(error).__name__})") from error


@asynccontextmanager
async def open_connection(
    network: StreamNetwork,
    address: Address,
    node_id: NodeId | None = None,
    *,
    params: NetworkParameters | None = None,
    throttle: Throttle | None = None,
    dials: Dials | None = None,
) -> AsyncIterator[PeerConnection]:
    """A connection for the length of a block; see `connect_peer`."""
    async with open_background() as nursery:
        connection = await connect_peer(
            nursery, network, address, node_id, params=params, throttle=throttle, dials=dials
        )
        try:
            yield connection
        finally:
            await connection.aclose()


async def _exchange_hellos(
    stream: ByteStream, reader: FrameReader, expected: NodeId | None, params: NetworkParameters | None
) -> ServerHello:
    await FrameWriter(stream, Throttle()).send(messages.encode_hello(hello.client_hello(params)))
    await reader.wait()  # the whole has its time limit already
    head = await reader.read_head()
    greeting = messages.decode_hello(head.header, ServerHello)
    if head.payload_bytes:
        raise MalformedMessage("a hello with a payload")
    hello.check_server(greeting, stream.peer_key, expected)
    hello.check_network(greeting, params)
    return greeting
