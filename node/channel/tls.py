"""The real network: TCP and TLS 1.3 by a pump of our own over `ssl.MemoryBIO`.

Reading and writing the socket in pieces of 256 KiB takes half the CPU of `trio.SSLStream`, which moves one
TLS record (16 KiB) at a time; see benchmarks/channel.py.
"""

import logging
import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import cast

import trio

from shoal.dht import Address, Identity
from shoal.node.channel.certificates import PROTOCOL_NAME, certificate_key, client_context, server_context
from shoal.node.channel.errors import Disconnected, Misbehaved, Occupied, PeerError, Unreachable
from shoal.node.channel.limits import Patience
from shoal.node.channel.raw_sockets import RawSocket, connect_raw_socket, punch_socket, turn_away
from shoal.node.channel.slots import ConnectionSlots, Slot
from shoal.node.channel.sockets import (
    accepted_sockets,
    close_socket,
    connect_socket,
    listening_socket,
    local_address,
    set_wake_up_bytes,
    unacknowledged_bytes,
    unread_bytes,
)
from shoal.node.channel.streams import (
    CONNECT_TIMEOUT_S,
    HANDSHAKE_TIMEOUT_S,
    PREAMBLE_MAGIC,
    Buffer,
    RawHandler,
    RawStream,
    StreamHandler,
)
from shoal.values import dataclass

PIECE_BYTES = 256 * 1024  # measured best of 64, 256 and 1024 KiB: it still fits the processor's cache
# A long payload is taken in lumps, so that the system wakes us for each lump and not for each packet.
LUMP_BYTES = 512 * 1024
LEAST_LUMP_BYTES = 64 * 1024
LUMP_S = 0.05  # a line that brings no lump in this time is slow: then every packet counts, for all who watch it
MAX_UNASKED_BYTES = 4_096  # of protocol answers (key updates) that pile up while we have nothing to send
OCCUPIED_REASON = "TLSV1_ALERT_INTERNAL_ERROR"  # OpenSSL's name for it

log = logging.getLogger(__name__)

# Read into by whichever stream has data, and emptied before any other task runs: one buffer serves them all.
_piece = memoryview(bytearray(PIECE_BYTES))


class TlsStream:
    """A `ByteStream` over one socket. Made by `TlsNetwork`."""

    def __init__(self, sock: socket.socket, remote: Address, context: ssl.SSLContext, slot: Slot | None) -> None:
        """`slot` is given on the server's side alone."""
        self.remote = remote
        self.peer_key: bytes | None = None
        self.slot = slot
        self._socket = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=slot is not None)
        # the library fills any writable buffer; its type stubs know of bytearray alone
        self._read = cast(Callable[[int, memoryview], int], self._tls.read)
        self._is_server = slot is not None
        self._ended = False
        self._patience = Patience()  # with a peer that does not take what we send
        self._received_bytes = self._sent_bytes = 0
        self._is_fast = True  # until it brings no lump in time
        self._wake_up_bytes = 1  # what the system has of the peer's before it wakes us

    def received_bytes(self) -> int:
        """Counted as they are on the wire: a record that has come in part counts in part."""
        return self._received_bytes

    def delivered_bytes(self) -> int:
        """What the kernel was given, but for what still waits in it: a peer that reads nothing has nothing."""
        return self._sent_bytes - unacknowledged_bytes(self._socket)

    async def handshake(self) -> None:
        """Agree on keys and on the protocol, and learn the server's key.

        Raises Misbehaved, Disconnected, and Occupied when the server says that it has no connection free.
        """
        try:
            while not self._try_handshake():
                await self._flush()
                if not await self._pull():
                    raise Disconnected(f"{self.remote} closed the connection during the handshake")
            await self._flush()
        except ssl.SSLError as error:
            if error.reason == OCCUPIED_REASON and not self._is_server:
                raise Occupied(f"{self.remote} has no connection free") from None
            raise Misbehaved(f"{self.remote}: no TLS 1.3 handshake ({error.reason})") from None
        if self._tls.selected_alpn_protocol() != PROTOCOL_NAME:
            raise Misbehaved(f"{self.remote} does not speak {PROTOCOL_NAME}")
        if not self._is_server:
            self.peer_key = certificate_key(self._tls.getpeercert(binary_form=True))

    async def send(self, *buffers: Buffer) -> None:
        """Encrypt and send piece by piece; small buffers leave together."""
        try:
            await trio.lowlevel.checkpoint_if_cancelled()
            for buffer in buffers:
                view = memoryview(buffer)
                for start in range(0, len(view), PIECE_BYTES):
                    self._tls.write(view[start : start + PIECE_BYTES])
                    if self._outgoing.pending >= PIECE_BYTES:
                        await self._flush()
            await self._flush()
        except ssl.SSLError as error:
            self.abort()
            raise Disconnected(f"{self.remote}: {error.reason or error.strerror or 'closed'}") from None
        except BaseException:  # cancelled or broken: we cannot know how much the peer has got
            self.abort()
            raise

    async def receive_into(self, view: memoryview) -> int:
        """Decrypt straight into `view`: all that the socket has, once it has anything."""
        while True:
            count = self._decrypt(view)
            if count or self._ended:
                return count
            piece = await self._pull(len(view) - self._incoming.pending)  # of a record that has come in part
            count = self._decrypt(view)
            while piece == PIECE_BYTES and count < len(view) and not self._ended:
                piece = self._take_piece()
                count += self._decrypt(view[count:])
            if count:
                return count

    async def aclose(self) -> None:
        """Tell the peer that this is the end, if the socket takes it at once, and close."""
        if self._socket.fileno() < 0:
            return
        with suppress(ssl.SSLError):  # it would wait for the peer's goodbye, or was never whole: no matter now
            self._tls.unwrap()
        if self._outgoing.pending:
            with suppress(OSError):  # full or broken: the peer will find out by the closed socket
                self._socket.send(self._outgoing.read())
        close_socket(self._socket)

    def turn_away(self) -> None:
        """Say that there is no connection free, if nothing was said yet, and close."""
        if self._sent_bytes:
            self.abort()
        else:
            turn_away(self._socket)

    def abort(self) -> None:
        """Close the socket as it is."""
        close_socket(self._socket)

    def _try_handshake(self) -> bool:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def _decrypt(self, view: memoryview) -> int:
        """Bytes put into `view`: 0 when more must come from the socket, or at the end."""
        count = 0
        try:
            while count < len(view):
                got = self._read(len(view) - count, view[count:])
                if not got:
                    self._ended = True
                    break
                count += got
        except ssl.SSLWantReadError:
            pass
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            self._ended = True
        except ssl.SSLError as error:
            self.abort()
            raise Misbehaved(f"{self.remote}: broken TLS record ({error.reason})") from None
        if self._outgoing.pending > MAX_UNASKED_BYTES:
            self.abort()
            raise Misbehaved(f"{self.remote} asks for new keys without end")
        return count

    async def _pull(self, wanted: int = 1) -> int:
        """Take a piece of what the socket has, waiting for it. Returns its bytes, 0 at the end.

        wanted: the peer is to send at least so much.
        """
        while True:
            await self._readable(wanted)
            count = self._take_piece()
            if count or self._ended:
                return count

    def _take_piece(self) -> int:
        """Take what the socket has, up to a piece: 0 when there is nothing, or at its end."""
        try:
            count = self._socket.recv_into(_piece)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise Disconnected(f"{self.remote}: {error.strerror}") from None
        if count:
            self._received_bytes += count
            self._incoming.write(_piece[:count])
        else:
            self._incoming.write_eof()
            self._ended = True
        return count

    async def _readable(self, wanted: int) -> None:
        """Wait for bytes of the peer: for a lump of them where much is to come and the line is fast."""
        lump = min(wanted, LUMP_BYTES)
        if lump < LEAST_LUMP_BYTES or not self._is_fast:
            self._set_wake_up(1)
            await self._wait(trio.lowlevel.wait_readable)
            self._is_fast = self._is_fast or unread_bytes(self._socket) >= LEAST_LUMP_BYTES
            return
        self._set_wake_up(lump)
        with trio.move_on_after(LUMP_S) as patience:
            await self._wait(trio.lowlevel.wait_readable)
        self._is_fast = not patience.cancelled_caught

    def _set_wake_up(self, count: int) -> None:
        if count != self._wake_up_bytes:
            set_wake_up_bytes(self._socket, count)
            self._wake_up_bytes = count

    async def _flush(self) -> None:
        """Send all that is encrypted."""
        if not self._outgoing.pending:
            return
        left = memoryview(self._outgoing.read())
        while left:
            try:
                count = self._socket.send(left)
            except BlockingIOError:
                await self._patience.wait(self._writable, self.delivered_bytes)
                continue
            except OSError as error:
                raise Disconnected(f"{self.remote}: {error.strerror}") from None
            self._sent_bytes += count
            left = left[count:]

    async def _writable(self) -> None:
        await self._wait(trio.lowlevel.wait_writable)

    async def _wait(self, until: Callable[[socket.socket], Awaitable[None]]) -> None:
        if self._socket.fileno() < 0:
            raise Disconnected(f"{self.remote}: the connection is closed")
        try:
            await until(self._socket)
        except trio.ClosedResourceError:
            raise Disconnected(f"{self.remote}: the connection is closed") from None


class TlsNetwork:
    """The `StreamNetwork` of real life. Contexts are made once and kept: one for calls, one per serving
    identity.
    """

    def __init__(self) -> None:
        self._calling: ssl.SSLContext | None = None
        self._serving: dict[bytes, ssl.SSLContext] = {}

    async def connect(self, address: Address, source: Address | None = None) -> TlsStream:
        """Call `address`. Raises Unreachable or Misbehaved within `CONNECT_TIMEOUT_S` and
        `HANDSHAKE_TIMEOUT_S`.
        """
        with trio.move_on_after(CONNECT_TIMEOUT_S) as connecting:
            sock = await connect_socket(address, source)
        if connecting.cancelled_caught:
            raise Unreachable(f"{address}: no connection within {CONNECT_TIMEOUT_S:g} s")
        return await self._call_over(sock, address)

    async def connect_raw(self, address: Address, source: Address | None = None) -> RawSocket:
        """See `StreamNetwork.connect_raw`."""
        return await connect_raw_socket(address, source)

    async def punch(self, source: Address, target: Address) -> RawSocket | None:
        """See `StreamNetwork.punch`."""
        return await punch_socket(source, target)

    async def secure(self, raw: RawStream) -> TlsStream:
        """See `StreamNetwork.secure`."""
        assert isinstance(raw, RawSocket), "a stream of this network"
        return await self._call_over(raw.detach(), raw.remote)

    async def _call_over(self, sock: socket.socket, address: Address) -> TlsStream:
        if self._calling is None:
            self._calling = client_context()
        stream = TlsStream(sock, address, self._calling, None)
        try:
            with trio.move_on_after(HANDSHAKE_TIMEOUT_S):
                await stream.handshake()
                return stream
            raise Unreachable(f"{address}: no handshake within {HANDSHAKE_TIMEOUT_S:g} s")
        except BaseException:
            stream.abort()
            raise

    async def answer(
        self, raw: RawStream, identity: Identity, handler: StreamHandler, *, slots: ConnectionSlots
    ) -> None:
        """See `StreamNetwork.answer`."""
        assert isinstance(raw, RawSocket), "a stream of this network"
        scope = trio.CancelScope()
        slot = slots.take(raw.remote, trio.current_time(), scope.cancel)
        if slot is None:
            turn_away(raw.detach())
            return
        visit = _Visit(raw.detach(), raw.remote, self._serving_context(identity), slot, scope)
        await _serve_one(visit, handler, None)

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
        slots = slots or ConnectionSlots()
        context = self._serving_context(identity)
        listener = listening_socket(address)
        try:
            task_status.started(local_address(listener))
            async with trio.open_nursery() as nursery:
                async for sock, remote in accepted_sockets(listener):
                    scope = trio.CancelScope()
                    slot = slots.take(remote, trio.current_time(), scope.cancel)
                    if slot is None:
                        turn_away(sock)
                        continue
                    visit = _Visit(sock, remote, context, slot, scope)
                    nursery.start_soon(_serve_one, visit, handler, raw_handler)
        finally:
            close_socket(listener)

    def _serving_context(self, identity: Identity) -> ssl.SSLContext:
        if identity.public_key not in self._serving:
            self._serving[identity.public_key] = server_context(identity)
        return self._serving[identity.public_key]


@dataclass(frozen=True, slots=True)
class _Visit:
    """A connection that has come to a server, its slot, and the scope that ends it when another gets the slot."""

    sock: socket.socket
    remote: Address
    context: ssl.SSLContext
    slot: Slot
    scope: trio.CancelScope

    async def begins_raw(self) -> bool:
        """Whether it begins as no TLS does. False when nothing comes for as long as a handshake may take."""
        with trio.move_on_after(HANDSHAKE_TIMEOUT_S), suppress(OSError):  # when it is gone the handshake finds out, too
            await trio.lowlevel.wait_readable(self.sock)
            return self.sock.recv(1, socket.MSG_PEEK) == PREAMBLE_MAGIC[:1]
        return False


async def _serve_one(visit: _Visit, handler: StreamHandler, raw_handler: RawHandler | None) -> None:
    raw = RawSocket(visit.sock, visit.remote)
    stream: TlsStream | RawSocket = raw
    try:
        with visit.scope:
            if raw_handler is not None and await visit.begins_raw():
                await raw_handler(raw, visit.slot)
            else:
                stream = secure = TlsStream(visit.sock, visit.remote, visit.context, visit.slot)
                if await _shake_hands(secure):
                    await handler(secure)
        if visit.scope.cancelled_caught:
            stream.turn_away()
    finally:
        visit.slot.release()
        await stream.aclose()


async def _shake_hands(stream: TlsStream) -> bool:
    with trio.move_on_after(HANDSHAKE_TIMEOUT_S):
        try:
            await stream.handshake()
        except PeerError as error:
            log.debug("a caller failed: %s", error)
            return False
        return True
    return False
