"""Plain TCP connections: what a relay joins, and what both ends of a circuit begin with."""

import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress

import trio

from shoal.dht import Address
from shoal.node.channel.errors import Disconnected, Unreachable
from shoal.node.channel.sockets import close_socket, connect_socket, local_address
from shoal.node.channel.streams import CONNECT_TIMEOUT_S, PUNCH_S, Buffer, RawStream

PIECE_BYTES = 128 * 1024  # moved at once: half of it takes half as much CPU again
PUNCH_PAUSE_S = 0.1  # after a router has answered in place of the peer, which may be late

# A server that gives a connection up before the handshake sends one TLS record: the fatal alert "internal error".
OCCUPIED = b"\x15\x03\x03\x00\x02\x02\x50"

# Read into by whichever circuit has data, and emptied before any other task runs: one buffer serves them all.
_piece = memoryview(bytearray(PIECE_BYTES))


class RawSocket:
    """A `RawStream` over one socket."""

    def __init__(self, sock: socket.socket, remote: Address) -> None:
        self.remote = remote
        self._socket = sock
        self._has_sent = False
        self._left = b""  # what came for us, and the kernel refused to take for the other end

    @property
    def local(self) -> Address:
        """This end, as this machine sees it."""
        return local_address(self._socket)

    def detach(self) -> socket.socket:
        """The socket, for another owner. This stream is used up."""
        sock, self._socket = self._socket, socket.socket()
        self._socket.close()
        return sock

    def bound_buffers(self, size: int) -> None:
        """See `RawStream.bound_buffers`."""
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            self._socket.setsockopt(socket.SOL_SOCKET, option, size)

    async def send(self, *buffers: Buffer) -> None:
        """Send a few bytes."""
        left = b"".join(buffers)
        self._has_sent = True
        while left:
            try:
                left = left[self._socket.send(left) :]
            except BlockingIOError:
                await self.writable()
            except OSError as error:
                raise Disconnected(f"{self.remote}: {error.strerror}") from None
        await trio.lowlevel.checkpoint_if_cancelled()

    async def receive(self, count: int) -> bytes:
        """Exactly so many bytes: what follows them stays in the kernel."""
        received = b""
        while len(received) < count:
            await self.wait_for_more()
            try:
                piece = self._socket.recv(count - len(received))
            except BlockingIOError:
                continue
            except OSError as error:
                raise Disconnected(f"{self.remote}: {error.strerror}") from None
            if not piece:
                raise Disconnected(f"{self.remote} closed the connection")
            received += piece
        return received

    async def pass_on(self, to: RawStream, most: int) -> int:
        """Move a piece. What the other end has no room for waits here, and nothing more is read until it has gone."""
        assert isinstance(to, RawSocket), "streams of one network"
        await trio.lowlevel.checkpoint()
        while True:
            piece = memoryview(self._left)
            if piece:
                await to.writable()
            else:
                count = self._receive_piece(most)
                if count is None:
                    await self.wait_for_more()
                    continue
                if not count:
                    return 0
                piece = _piece[:count]
            taken = to.take(piece)
            self._left = bytes(piece[taken:])
            if taken:
                return taken

    def _receive_piece(self, most: int) -> int | None:
        """Bytes put into the common buffer: 0 at the end, None when there are none after all."""
        try:
            return self._socket.recv_into(_piece, min(most, len(_piece)))
        except BlockingIOError:
            return None
        except OSError as error:
            raise Disconnected(f"{self.remote}: {error.strerror}") from None

    def take(self, piece: memoryview) -> int:
        """Give the kernel what it has room for now; how many bytes it took."""
        if not piece:
            return 0
        try:
            return self._socket.send(piece)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise Disconnected(f"{self.remote}: {error.strerror}") from None

    def turn_away(self) -> None:
        """Say that there is no connection free, if nothing was said yet, and close."""
        if self._has_sent:
            close_socket(self._socket)
        else:
            turn_away(self._socket)

    async def aclose(self) -> None:
        """Close, and wake up the tasks that wait here."""
        close_socket(self._socket)

    async def wait_for_more(self) -> None:
        """Wait until something has come, or the end."""
        await self._wait(trio.lowlevel.wait_readable)

    async def writable(self) -> None:
        """Wait until the kernel takes more."""
        await self._wait(trio.lowlevel.wait_writable)

    async def _wait(self, until: Callable[[socket.socket], Awaitable[None]]) -> None:
        if self._socket.fileno() < 0:
            raise Disconnected(f"{self.remote}: the connection is closed")
        try:
            await until(self._socket)
        except trio.ClosedResourceError:
            raise Disconnected(f"{self.remote}: the connection is closed") from None


async def connect_raw_socket(address: Address, source: Address | None = None) -> RawSocket:
    """A plain connection within `CONNECT_TIMEOUT_S`. Raises Unreachable."""
    with trio.move_on_after(CONNECT_TIMEOUT_S):
        return RawSocket(await connect_socket(address, source), address)
    raise Unreachable(f"{address}: no connection within {CONNECT_TIMEOUT_S:g} s")


async def punch_socket(source: Address, target: Address) -> RawSocket | None:
    """A connection that both ends open at the same time; None where there is none within `PUNCH_S`.

    The first SYN opens this end's router for the other's. A router that answers for a peer that is late ends a try, not
    the whole.
    """
    with trio.move_on_after(PUNCH_S):
        while True:
            try:
                return RawSocket(await connect_socket(target, source), target)
            except Unreachable:
                await trio.sleep(PUNCH_PAUSE_S)
    return None


def turn_away(sock: socket.socket) -> None:
    """Say that there is no connection free, and close. A new socket has room for these few bytes."""
    with suppress(OSError):
        sock.send(OCCUPIED)
    close_socket(sock)
