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


StreamHandler: TypeAlias = Callable[[ByteStream], Awaitable[None]]


class StreamNetwork(Protocol):
    """Opens and accepts streams."""

    async def connect(self, address: Address) -> ByteStream:
        """Connect to the node that serves there; its key is proven. Bounded in time by itself.

        Raises `Unreachable` when no connection can be made, `Misbehaved` when what answers does not speak this
        protocol.
        """
        ...

    async def serve(
        self,
        address: Address,
        identity: Identity,
        handler: StreamHandler,
        *,
        slots: ConnectionSlots | None = None,
        task_status: trio.TaskStatus[Address] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Bind, report the bound address through `task_status`, and call `handler` in a task for each
        connection.

        `slots` are the caps on connections; give the same object to all listeners of a node. Runs until
        cancelled. Raises OSError when the address cannot be bound. The stream is closed when the handler
        returns. A handler that raises ends the server: handlers deal with what peers do, and a bug may
        surface.
        """
        ...
