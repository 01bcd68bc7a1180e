"""The seam between the channel and the network: authenticated byte streams.

Everything above (frames, messages, server, client) knows only these two protocols. `tls.TlsNetwork` is the
real one; `shoal.simulation` has one in memory, above TLS. With either, bytes arrive in order, and third parties can
neither read nor alter them. The caller knows which key the server holds. The server does not know the caller's: see
`server.py` for that.
"""

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeAlias

import trio

from shoal.dht import Address, Identity
from shoal.node.channel.slots import ConnectionSlots, Slot

Buffer: TypeAlias = bytes | bytearray | memoryview
"""Contiguous bytes. Memoryviews are of format B."""

HANDSHAKE_TIMEOUT_S = 5.0  # one round trip, with a lost packet or two; no stranger holds a socket for longer
CONNECT_TIMEOUT_S = 5.0  # a SYN lost twice (1 s + 2 s) and a slow path still get through
# Both ends of a punched connection try for so long: the kernel repeats a lost SYN after 1 s. Nearly all that work do so
# at the first try.
PUNCH_S = 1.5
PREAMBLE_MAGIC = b"\x00shoal/1"  # no TLS record begins like that


class ByteStream(Protocol):
    """One connection. One task may send while another receives; never two at the same thing.

    All methods raise `Disconnected` when the connection is broken. A cancelled `send` closes the stream,
    because nobody could know how much of it had left; a cancelled `receive_into` loses nothing.
    """

    @property
    def peer_key(self) -> bytes | None:
        """The server's Ed25519 public key, proven, on the caller's side; None on the server's side."""
        ...

    @property
    def remote(self) -> Address:
        """The other end as this end sees it."""
        ...

    @property
    def slot(self) -> Slot | None:
        """The connection's place among those of the server, on the server's side; None on the caller's."""
        ...

    def received_bytes(self) -> int:
        """How many bytes have come from the peer so far, as the network counts them."""
        ...

    def delivered_bytes(self) -> int:
        """How many bytes the peer has taken so far, as the network counts them."""
        ...

    async def send(self, *buffers: Buffer) -> None:
        """Send all of the buffers in order; returns when the network has taken them.

        Raises TimedOut when the peer takes less than the least rate (`limits.Patience`).
        """
        ...

    async def receive_into(self, view: memoryview) -> int:
        """Fill `view` with what is there, waiting for at least one byte; the count, or 0 at the end of the
        stream.

        A long view should be no longer than what the peer is to send: a part of it may be waited for, 50 ms at most.
        """
        ...

    async def aclose(self) -> None:
        """Say goodbye if that needs no waiting, and close. Closing twice is fine."""
        ...

    def abort(self) -> None:
        """Close at once, whatever is under way; other tasks using the stream get `Disconnected`."""
        ...


class RawStream(Protocol):
    """A plain connection, on which nothing is proven yet: a circuit through a relay, or one that was punched.

    All methods raise `Disconnected` when the connection is broken. One that is cancelled in the middle of its bytes
    leaves a stream that can only be closed.
    """

    @property
    def local(self) -> Address:
        """This end, as this machine sees it."""
        ...

    @property
    def remote(self) -> Address:
        """The other end as this end sees it."""
        ...

    async def send(self, *buffers: Buffer) -> None:
        """Send a few bytes, all of them."""
        ...

    async def receive(self, count: int) -> bytes:
        """Exactly so many bytes, a few. Raises Disconnected where the stream ends before."""
        ...

    async def wait_for_more(self) -> None:
        """Wait until something has come, or the end of the stream has, and take nothing. May be cancelled."""
        ...

    async def pass_on(self, to: "RawStream", most: int) -> int:
        """Move what has come here to another stream, `most` bytes at once. How many it were: 0 at the end of this one.

        Waits for bytes and for room, and holds no more of them than the other's network refused to take.
        """
        ...

    def bound_buffers(self, size: int) -> None:
        """Let the system keep at most so much for each direction, and move as much at once."""
        ...

    async def aclose(self) -> None:
        """Close. Closing twice is fine."""
        ...


StreamHandler: TypeAlias = Callable[[ByteStream], Awaitable[None]]
RawHandler: TypeAlias = Callable[[RawStream, Slot], Awaitable[None]]
"""Serves a plain connection; its slot is a newcomer's, and is given back by the handler or at its end."""


class StreamNetwork(Protocol):
    """Opens and accepts streams."""

    async def connect(self, address: Address, source: Address | None = None) -> ByteStream:
        """Connect to the node that serves there; its key is proven. Bounded in time by itself.

        source: bind to this address, though others listen or call from it.

        Raises `Unreachable` when no connection can be made, `Misbehaved` when what answers does not speak this
        protocol.
        """
        ...

    async def connect_raw(self, address: Address, source: Address | None = None) -> RawStream:
        """A plain connection, to say a preamble on, otherwise as `connect`. Raises `Unreachable`."""
        ...

    async def punch(self, source: Address, target: Address) -> RawStream | None:
        """Connect to a caller that connects to us at the same time, through the doors that both open in their routers.

        Takes `PUNCH_S` at most. None where it did not work, which is no fault of anybody.
        """
        ...

    async def secure(self, raw: RawStream) -> ByteStream:
        """Make a plain connection what `connect` gives: the other end's key is proven. Bounded in time by itself.

        The plain one is used up, whatever happens. Raises as `connect`.
        """
        ...

    async def answer(
        self, raw: RawStream, identity: Identity, handler: StreamHandler, *, slots: ConnectionSlots
    ) -> None:
        """Serve a plain connection as if it had come to `serve`. Nothing that the other end does makes this raise."""
        ...

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
        """Bind, report the bound address through `task_status`, and call `handler` in a task for each
        connection.

        `slots` are the caps on connections; give the same object to all listeners of a node. `raw_handler` serves
        connections that begin with `PREAMBLE_MAGIC`; without it they fail as any that speak no TLS. Runs until
        cancelled. Raises OSError when the address cannot be bound. The stream is closed when the handler
        returns. A handler that raises ends the server: handlers deal with what peers do, and a bug may
        surface.
        """
        ...
