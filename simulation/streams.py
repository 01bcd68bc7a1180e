"""Streams in memory: the channel's network for whole nodes in one process, above TLS, under a clock that
jumps.

A `VirtualStreams` is the world; `at(host)` is what one machine sees of it, a `StreamNetwork`. Delays come from the
world's seeded generator, and nothing else is random. No task is ever started for bytes under way: a courier wakes the
receiver when they arrive.
"""

import random
from collections import deque
from collections.abc import Callable

import trio

from shoal.dht import Address, Identity
from shoal.node.channel import (
    Buffer,
    ByteStream,
    ConnectionSlots,
    Disconnected,
    Occupied,
    RawHandler,
    RawStream,
    StreamHandler,
    Unreachable,
)
from shoal.node.channel.limits import Patience
from shoal.node.channel.slots import Slot
from shoal.node.channel.streams import CONNECT_TIMEOUT_S, HANDSHAKE_TIMEOUT_S, PUNCH_S
from shoal.simulation.courier import Courier
from shoal.simulation.nat import Nat, can_punch
from shoal.values import dataclass

WINDOW_BYTES = 512 * 1024  # sent and not yet received, per direction: like a TCP window
PIECE_BYTES = 64 * 1024  # buffers that are smaller together arrive together
ROUND_TRIPS_TO_CONNECT = 2  # TCP, then TLS 1.3
KEY_BYTES = 32  # which the server of a circuit says first, in place of a handshake
FIRST_FREE_PORT = 49_152  # of the range for callers and for servers that bind port 0


@dataclass(frozen=True, slots=True)
class StreamStatistics:
    """Counted since the beginning: connections made, those punched through two home routers, messages, bytes of both
    directions.
    """

    connections: int
    punched: int
    messages: int
    sent_bytes: int


class VirtualStreams:
    """All streams of a simulated world.

    Each direction of a connection has a delay drawn from `latency_s` (least, most), kept while it lasts, and
    lets `bytes_per_s` through, or any amount when None.
    """

    def __init__(
        self,
        rng: random.Random,
        *,
        latency_s: tuple[float, float] = (0.005, 0.05),
        bytes_per_s: float | None = None,
        courier: Courier | None = None,
    ) -> None:
        self.rng = rng
        self.courier = courier or Courier()
        self.latency_s = latency_s
        self.bytes_per_s = bytes_per_s
        self.listeners: dict[Address, _Listener] = {}
        self.nats: dict[str, Nat] = {}  # by host, of those behind a router
        self.punches: dict[tuple[Address, str], Punch] = {}  # under way: from here, to that host
        self._streams: dict[VirtualStream, None] = {}
        self._separated: Callable[[str, str], bool] = _never_separated
        self._next_port = FIRST_FREE_PORT
        self._connections = self._punched = self._messages = self._sent_bytes = 0

    def at(self, host: str) -> "VirtualStreamNetwork":
        """The network as the machine with this IP address sees it."""
        return VirtualStreamNetwork(self, host)

    def separate(self, separated: Callable[[str, str], bool]) -> None:
        """From now on nothing passes between two hosts for which this is true, until `heal` or the next
        call.
        """
        self._separated = separated
        for stream in self._streams:
            stream.look_again()

    def heal(self) -> None:
        """End all partitions; bytes held up by one arrive."""
        self.separate(_never_separated)

    def open_streams(self) -> list["VirtualStream"]:
        """The ends of all connections that are open."""
        return list(self._streams)

    def kill(self, host: str) -> None:
        """Reset every connection of a host, as its kernel does when the process dies."""
        for stream in [each for each in self._streams if host in (each.local.host, each.remote.host)]:
            stream.abort()

    def can_pass(self, one: str, other: str) -> bool:
        """Whether bytes pass between two hosts now."""
        return not self._separated(one, other)

    def new_port(self) -> int:
        """A port nobody has."""
        self._next_port += 1
        return FIRST_FREE_PORT + self._next_port % (65_536 - FIRST_FREE_PORT)

    def statistics(self) -> StreamStatistics:
        """A snapshot of the counters."""
        return StreamStatistics(self._connections, self._punched, self._messages, self._sent_bytes)

    def count_connection(self) -> None:
        """A connection was made."""
        self._connections += 1

    def count_punched(self) -> None:
        """A connection came about by a punch."""
        self._punched += 1

    def count_message(self) -> None:
        """A message was sent."""
        self._messages += 1

    def count_sent(self, count: int) -> None:
        """Bytes were handed to a stream."""
        self._sent_bytes += count

    def draw_latency_s(self) -> float:
        """The delay of one direction of a new connection."""
        return self.rng.uniform(*self.latency_s)

    def add(self, stream: "VirtualStream") -> None:
        """Keep track of a stream."""
        self._streams[stream] = None

    def remove(self, stream: "VirtualStream") -> None:
        """Forget a stream."""
        self._streams.pop(stream, None)


class VirtualStreamNetwork:
    """A `StreamNetwork`: one machine's door to the world."""

    def __init__(self, world: VirtualStreams, host: str) -> None:
        self._world = world
        self._host = host
        self._everywhere: set[_Listener] = set()  # those bound to all addresses of this machine

    async def connect(self, address: Address, source: Address | None = None) -> "VirtualStream":
        """Call `address`. Raises Unreachable when nobody listens or a partition is in between."""
        listener, caller, server, scope = await self._reach(address, source)
        caller.peer_key = listener.identity.public_key
        listener.nursery.start_soon(_serve_one, listener.handler, server, scope)
        return caller

    async def connect_raw(self, address: Address, source: Address | None = None) -> "VirtualStream":
        """See `StreamNetwork.connect_raw`. A server that serves no plain connections ends them."""
        listener, caller, server, scope = await self._reach(address, source)
        listener.nursery.start_soon(_serve_raw, listener.raw_handler, server, scope)
        return caller

    async def _reach(
        self, address: Address, source: Address | None
    ) -> "tuple[_Listener, VirtualStream, VirtualStream, trio.CancelScope]":
        """Both ends of a new connection to a listener, and the scope that ends it when another gets its slot."""
        world, latency_s = self._world, self._world.draw_latency_s()
        if not world.can_pass(self._host, address.host) or address.host in world.nats:
            await trio.sleep(CONNECT_TIMEOUT_S)
            raise Unreachable(f"{address}: no answer")
        await world.courier.sleep_until(trio.current_time() + 2 * ROUND_TRIPS_TO_CONNECT * latency_s)
        listener = world.listeners.get(address)
        local = Address(self._host, source.port if source and source.port else world.new_port())
        if listener is None:
            raise Unreachable(f"{address}: connection refused")
        scope = trio.CancelScope()
        slot = listener.slots.take(local, trio.current_time(), scope.cancel)
        if slot is None:
            raise Occupied(f"{address} has no connection free")
        caller, server = _pair(world, local, address, latency_s)
        server.slot = slot
        return listener, caller, server, scope

    async def punch(self, source: Address, target: Address) -> "VirtualStream | None":
        """See `StreamNetwork.punch`. It works where the other end tries in the same time, and both routers let it."""
        world, local = self._world, Address(self._host, source.port)
        nats = world.nats.get(self._host), world.nats.get(target.host)
        if not can_punch(*nats) or not world.can_pass(self._host, target.host):
            await trio.sleep(PUNCH_S)
            return None
        other = world.punches.pop((target, self._host), None)
        if other is not None:
            mine, theirs = _pair(world, local, target, world.draw_latency_s())
            other.meet(theirs)
            world.count_punched()
            return mine
        waiting = world.punches[local, target.host] = Punch()
        try:
            with trio.move_on_after(PUNCH_S):
                return await waiting.met()
            return None
        finally:
            if world.punches.get((local, target.host)) is waiting:
                del world.punches[local, target.host]

    async def secure(self, raw: RawStream) -> "VirtualStream":
        """See `StreamNetwork.secure`: the other end says its key first, and nobody in between changes it."""
        assert isinstance(raw, VirtualStream), "a stream of this world"
        stream = raw.again()
        with trio.move_on_after(HANDSHAKE_TIMEOUT_S):
            stream.peer_key = await stream.receive(KEY_BYTES)
            return stream
        stream.abort()
        raise Unreachable(f"{raw.remote}: no handshake within {HANDSHAKE_TIMEOUT_S:g} s")

    async def answer(
        self, raw: RawStream, identity: Identity, handler: StreamHandler, *, slots: ConnectionSlots
    ) -> None:
        """See `StreamNetwork.answer`."""
        assert isinstance(raw, VirtualStream), "a stream of this world"
        stream, scope = raw.again(), trio.CancelScope()
        stream.slot = slots.take(raw.remote, trio.current_time(), scope.cancel)
        if stream.slot is None:
            await stream.aclose()
            return

        async def greet_and_serve(greeted: ByteStream) -> None:
            try:
                await stream.send(identity.public_key)
            except Disconnected:
                return
            await handler(greeted)

        await _serve_one(greet_and_serve, stream, scope)

    async def serve(
        self,
        address: Address,
        identity: Identity,
        handler: StreamHandler,
        *,
        slots: ConnectionSlots | None = None,
        raw_handler: RawHandler | None = None,
        task_status: trio.TaskStatus[Address] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Listen on `address` until cancelled; see `StreamNetwork.serve`."""
        if not address.port:
            address = Address(address.host, self._world.new_port())
        place = Address(self._host, address.port) if address.is_wildcard else address
        if place in self._world.listeners:
            raise OSError(f"{address} is in use")
        async with trio.open_nursery() as nursery:
            listener = _Listener(identity, handler, raw_handler, slots or ConnectionSlots(), nursery)
            self._world.listeners[place] = listener
            self._everywhere |= {listener} if address.is_wildcard else set()
            try:
                task_status.started(address)
                await trio.sleep_forever()
            finally:
                for each in [place for place, other in self._world.listeners.items() if other is listener]:
                    del self._world.listeners[each]

    def move_to(self, host: str) -> None:
        """The machine has another address. Its connections are dead; who listens on all addresses goes on."""
        self._world.kill(self._host)
        for place, listener in list(self._world.listeners.items()):
            if listener in self._everywhere:
                del self._world.listeners[place]
                self._world.listeners[Address(host, place.port)] = listener
        self._host = host


class VirtualStream:
    """A `ByteStream`: one end of a connection."""

    def __init__(
        self,
        world: VirtualStreams,
        local: Address,
        remote: Address,
        incoming: "_Pipe",
        outgoing: "_Pipe",
    ) -> None:
        self.local, self.remote = local, remote
        self.peer_key: bytes | None = None  # on the caller's side
        self.slot: Slot | None = None  # on the server's side
        self._world = world
        self._incoming, self._outgoing = incoming, outgoing
        world.add(self)

    def received_bytes(self) -> int:
        """What this end has taken."""
        return self._incoming.taken_bytes

    def delivered_bytes(self) -> int:
        """What the other end has taken."""
        return self._outgoing.taken_bytes

    async def send(self, *buffers: Buffer) -> None:
        """Copy the buffers to the other end, waiting while its window is full."""
        self._world.count_message()
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            for piece in _pieces(buffers, self._world.bytes_per_s):
                await self._outgoing.put(piece)
        except BaseException:  # like the real one: half a message cannot be taken back
            self.abort()
            raise

    async def receive_into(self, view: memoryview) -> int:
        """What has arrived by now."""
        return await self._incoming.get(view, self._can_pass)

    async def receive(self, count: int) -> bytes:
        """See `RawStream.receive`."""
        received = bytearray(count)
        filled = 0
        while filled < count:
            got = await self.receive_into(memoryview(received)[filled:])
            if not got:
                raise Disconnected("the connection ended")
            filled += got
        return bytes(received)

    async def wait_for_more(self) -> None:
        """See `RawStream.wait_for_more`."""
        await self._incoming.get(memoryview(bytearray()), self._can_pass)

    async def pass_on(self, to: RawStream, most: int) -> int:
        """See `RawStream.pass_on`."""
        piece = memoryview(bytearray(most))
        count = await self.receive_into(piece)
        if count:
            await to.send(piece[:count])
        return count

    def bound_buffers(self, size: int) -> None:
        """The window bounds them."""

    def again(self) -> "VirtualStream":
        """The same end of the same connection, for another owner: closing this one closes nothing any more."""
        self._world.remove(self)
        other = VirtualStream(self._world, self.local, self.remote, self._incoming, self._outgoing)
        self._incoming, self._outgoing = _Pipe(self._world, 0.0), _Pipe(self._world, 0.0)
        return other

    def _can_pass(self) -> bool:
        return self._world.can_pass(self.local.host, self.remote.host)

    async def aclose(self) -> None:
        """Let what was sent arrive, then the end."""
        self._incoming.reset()
        self._outgoing.finish()
        self._world.remove(self)

    def abort(self) -> None:
        """Both directions end here and now."""
        self._incoming.reset()
        self._outgoing.reset()
        self._world.remove(self)

    def look_again(self) -> None:
        """Partitions have changed: what was held up may pass."""
        self._incoming.wake()


class _Listener:
    def __init__(
        self,
        identity: Identity,
        handler: StreamHandler,
        raw_handler: RawHandler | None,
        slots: ConnectionSlots,
        nursery: trio.Nursery,
    ) -> None:
        self.identity, self.handler, self.raw_handler = identity, handler, raw_handler
        self.slots, self.nursery = slots, nursery


class Punch:
    """One end that tries to punch, and waits for the other."""

    def __init__(self) -> None:
        self._stream: VirtualStream | None = None
        self._changed = trio.Event()

    def meet(self, stream: "VirtualStream") -> None:
        """The other end has come: this is our end of the connection."""
        self._stream = stream
        self._changed.set()

    async def met(self) -> "VirtualStream | None":
        """Our end, once the other end has come."""
        await self._changed.wait()
        return self._stream


class _Pipe:
    """One direction: pieces of bytes with the times at which they arrive."""

    def __init__(self, world: VirtualStreams, latency_s: float) -> None:
        self._world = world
        self._latency_s = latency_s
        self._pieces: deque[tuple[float, memoryview]] = deque()
        self._under_way_bytes = 0
        self.taken_bytes = 0
        self._patience = Patience()
        self._last_arrival = 0.0
        self._finished = False
        self._broken = False
        self._changed = trio.Event()

    async def put(self, data: bytes) -> None:
        while self._under_way_bytes >= WINDOW_BYTES and not self._broken and not self._finished:
            await self._patience.wait(self._change, lambda: self.taken_bytes)
        if self._broken or self._finished:
            raise Disconnected("the connection was reset")
        if not data:
            return
        pace_s = len(data) / self._world.bytes_per_s if self._world.bytes_per_s else 0.0
        courier = self._world.courier
        self._last_arrival = max(self._last_arrival, trio.current_time() + self._latency_s) + pace_s
        arrives_at = courier.arrival(self._last_arrival)
        self._pieces.append((arrives_at, memoryview(data)))
        self._under_way_bytes += len(data)
        self._world.count_sent(len(data))
        courier.call_at(arrives_at, self.wake)

    async def get(self, view: memoryview, can_pass: Callable[[], bool]) -> int:
        while True:
            if self._broken:
                raise Disconnected("the connection was reset")
            if not self._pieces:
                if self._finished:
                    return 0
                await self._change()
            elif self._pieces[0][0] > trio.current_time() or not can_pass():
                await self._change()
            else:
                await trio.lowlevel.checkpoint_if_cancelled()
                return self._take(view)

    def finish(self) -> None:
        self._finished = True
        self.wake()

    def reset(self) -> None:
        self._broken = True
        self._pieces.clear()
        self.wake()

    def _take(self, view: memoryview) -> int:
        count, now = 0, trio.current_time()
        while count < len(view) and self._pieces and self._pieces[0][0] <= now:
            arrival, piece = self._pieces.popleft()
            part = piece[: len(view) - count]
            view[count : count + len(part)] = part
            count += len(part)
            if len(part) < len(piece):
                self._pieces.appendleft((arrival, piece[len(part) :]))
        self._under_way_bytes -= count
        self.taken_bytes += count
        self.wake()
        return count

    async def _change(self) -> None:
        if self._changed.is_set():
            self._changed = trio.Event()
        await self._changed.wait()

    def wake(self) -> None:
        self._changed.set()


def _pair(
    world: VirtualStreams, local: Address, remote: Address, latency_s: float
) -> "tuple[VirtualStream, VirtualStream]":
    """Both ends of a new connection; `local` has the first."""
    there, here = _Pipe(world, latency_s), _Pipe(world, world.draw_latency_s())
    world.count_connection()
    return VirtualStream(world, local, remote, here, there), VirtualStream(world, remote, local, there, here)


async def _serve_one(handler: StreamHandler, stream: VirtualStream, scope: trio.CancelScope) -> None:
    assert stream.slot is not None, "the streams of a server have slots"
    try:
        with scope:
            await handler(stream)
    finally:
        stream.slot.release()
        await stream.aclose()


async def _serve_raw(handler: RawHandler | None, stream: VirtualStream, scope: trio.CancelScope) -> None:
    async def serve(raw: ByteStream) -> None:
        if handler is not None and stream.slot is not None:
            await handler(stream, stream.slot)

    await _serve_one(serve, stream, scope)


def _pieces(buffers: tuple[Buffer, ...], bytes_per_s: float | None) -> list[bytes]:
    """Copies of what is sent: small buffers in one. On a slow line each arrives by itself, a second's bytes at most."""
    if bytes_per_s is not None:
        size = max(1, int(bytes_per_s))
        views = [memoryview(buffer) for buffer in buffers]
        return [bytes(view[start : start + size]) for view in views for start in range(0, len(view), size)]
    if sum(memoryview(buffer).nbytes for buffer in buffers) <= PIECE_BYTES:
        return [b"".join(buffers)]
    return [bytes(buffer) for buffer in buffers]


def _never_separated(one: str, other: str) -> bool:
    return False
