"""What an attacker works with: its own addresses, sockets that count bytes, and the project's codecs."""

import errno
import os
import random
import resource
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio

from hostile.machines import Brief, Victim
from shoal.dht import Address, Identity, NodeId
from shoal.dht.errors import ProtocolError
from shoal.dht.identity import UNKNOWN_ID
from shoal.dht.messages import REQUEST_ID_BYTES, Frame, KnownRequest, Ping, decode_frame, encode_request
from shoal.dht.wire import ENVELOPE_BYTES, Envelope, open_envelope, seal
from shoal.erasure import FileId
from shoal.node import Network
from shoal.node.channel import PeerConnection, TlsNetwork, Unreachable, open_connection
from shoal.node.channel.certificates import client_context
from shoal.node.channel.sockets import close_socket
from shoal.node.channel.tls import TlsStream

FREE_BIND = (socket.IPPROTO_IPV6, 78)  # IPV6_FREEBIND: any address of our prefix, without naming each to the kernel
REPLY_WAIT_S = 1.0
DATAGRAM_BYTES = 2_048
GONE = (errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH)


@dataclass
class Meter:
    """Bytes over the attacker's sockets, as the kernel took them: TLS and handshakes included, TCP's own heads not."""

    sent: int = 0
    received: int = 0


class CountedSocket(socket.socket):
    """A socket whose bytes count."""

    meter: Meter

    def send(self, data: object, flags: int = 0) -> int:
        """As a socket does."""
        count = super().send(data, flags)  # type: ignore[arg-type]
        self.meter.sent += count
        return count

    def recv_into(self, buffer: object, nbytes: int = 0, flags: int = 0) -> int:
        """As a socket does."""
        count = super().recv_into(buffer, nbytes, flags)  # type: ignore[arg-type]
        self.meter.received += count
        return count


class Mouth:
    """A UDP socket of the attacker. It never waits for room to send: what does not fit is lost."""

    def __init__(self, meter: Meter, sock: socket.socket) -> None:
        self._meter = meter
        self._socket = sock
        self.address = Address.of(*sock.getsockname()[:2])

    def send(self, datagram: bytes, address: Address) -> None:
        """Send one datagram, or lose it."""
        try:
            self._meter.sent += self._socket.sendto(datagram, (address.host, address.port))
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.ENOBUFS, *GONE):
                raise

    async def receive(self) -> tuple[bytes, Address]:
        """Wait for a datagram."""
        while True:
            await trio.lowlevel.wait_readable(self._socket)
            try:
                data, name = self._socket.recvfrom(DATAGRAM_BYTES)
            except (BlockingIOError, ConnectionError):
                continue
            self._meter.received += len(data)
            return data, Address.of(name[0], name[1])

    def close(self) -> None:
        """Close."""
        close_socket(self._socket)


@dataclass
class Means:
    """All that one attack needs. `notes` are figures of the attack's own, for the table."""

    brief: Brief
    nursery: trio.Nursery
    rng: random.Random = field(default_factory=lambda: random.Random(1))
    meter: Meter = field(default_factory=Meter)
    notes: dict[str, float] = field(default_factory=dict)
    _mouths: list["Mouth"] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.network = Network.load(Path(self.brief.network_file))
        self.params = self.network.parameters
        self.file_ids = [FileId(bytes.fromhex(each)) for each in self.brief.file_ids]
        self.streams = AttackerStreams(self)
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

    # --- who

    def identity(self) -> Identity:
        """One more id."""
        return Identity.create(self.params.pow_bits, os.urandom)

    def source(self, number: int, *, ipv6: bool) -> str:
        """An address of ours: the one IPv4, or one in the `number`th /64 of our /48."""
        if not ipv6:
            return self.brief.host
        prefix = self.brief.host6.removesuffix("::1")
        return f"{prefix}:0:{number % 65_536:x}::2"

    @property
    def has_prefix(self) -> bool:
        """Whether we have a /48 and not one address alone."""
        return bool(self.brief.host6)

    @property
    def victims(self) -> list[tuple[Address, NodeId]]:
        """Where to strike: over IPv6 where we have a prefix there."""
        return [(self.best_of(each), NodeId(bytes.fromhex(each.node_id))) for each in self.brief.victims]

    def best_of(self, victim: Victim) -> Address:
        """The address at which we are most."""
        return Address.parse(victim.address6 if self.has_prefix else victim.address)

    # --- datagrams

    def mouth(self, number: int = 0, *, ipv6: bool | None = None, port: int = 0) -> Mouth:
        """A UDP socket at one of our addresses."""
        ipv6 = self.has_prefix if ipv6 is None else ipv6
        sock = socket.socket(socket.AF_INET6 if ipv6 else socket.AF_INET, socket.SOCK_DGRAM)
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**20)
        self._bind(sock, number, ipv6, port)
        self._mouths.append(Mouth(self.meter, sock))
        return self._mouths[-1]

    def close(self) -> None:
        """Close all UDP sockets; those of connections belong to their tasks."""
        for mouth in self._mouths:
            mouth.close()

    def request(
        self,
        identity: Identity,
        receiver: NodeId | None,
        message: KnownRequest,
        cookie: bytes = b"",
        *,
        serving: bool = False,
    ) -> bytes:
        """A signed request, as a datagram."""
        request_id = os.urandom(REQUEST_ID_BYTES)
        body = encode_request(message, request_id, cookie, serving=serving, addressed=receiver is not None)
        return seal(body, receiver or UNKNOWN_ID, self.params.network_id, identity)

    def read(self, datagram: bytes) -> tuple[Envelope, Frame] | None:
        """A datagram taken apart; None for what is none of this network."""
        try:
            envelope = open_envelope(datagram, self.params.network_id)
            return envelope, decode_frame(envelope.body)
        except ProtocolError:
            return None

    async def ask(
        self, mouth: Mouth, identity: Identity, victim: tuple[Address, NodeId], message: KnownRequest, cookie: bytes
    ) -> Frame | None:
        """Send a request and wait a second for a reply; what else comes meanwhile is dropped."""
        address, node_id = victim
        datagram = self.request(identity, node_id, message, cookie)
        asked = decode_frame(datagram[ENVELOPE_BYTES:]).request_id
        mouth.send(datagram, address)
        with trio.move_on_after(REPLY_WAIT_S):
            while True:
                data, _ = await mouth.receive()
                found = self.read(data)
                if found is not None and found[1].is_reply and found[1].request_id == asked:
                    return found[1]
        return None

    async def cookie(self, mouth: Mouth, identity: Identity, victim: tuple[Address, NodeId]) -> bytes:
        """A cookie of the victim; empty when it does not answer."""
        frame = await self.ask(mouth, identity, victim, Ping(), b"")
        return b"" if frame is None else frame.cookie

    # --- streams

    async def connect(self, address: Address, number: int = 0, *, window: int | None = None) -> CountedSocket:
        """A TCP connection from the `number`th of our addresses. Raises Unreachable."""
        sock = CountedSocket(socket.AF_INET6 if address.is_ipv6 else socket.AF_INET, socket.SOCK_STREAM)
        sock.meter = self.meter
        sock.setblocking(False)
        if window is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        try:
            self._bind(sock, number, address.is_ipv6, 0)
            code = sock.connect_ex((address.host, address.port))
            if code == errno.EINPROGRESS:
                await trio.lowlevel.wait_writable(sock)
                code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                raise Unreachable(f"{address}: {os.strerror(code)}")
        except OSError as error:
            close_socket(sock)
            raise Unreachable(f"{address}: {error.strerror}") from error
        except BaseException:
            close_socket(sock)
            raise
        return sock

    @asynccontextmanager
    async def talk(self, victim: tuple[Address, NodeId], number: int = 0) -> AsyncIterator[PeerConnection]:
        """A conversation with a victim."""
        self.streams.number = number
        async with open_connection(self.streams, *victim) as connection:
            yield connection

    def _bind(self, sock: socket.socket, number: int, ipv6: bool, port: int) -> None:
        if ipv6:
            sock.setsockopt(*FREE_BIND, 1)
        sock.bind((self.source(number, ipv6=ipv6), port))


class AttackerStreams(TlsNetwork):
    """The real network, but calls come from our own addresses and count. `number`: of the address for the next."""

    def __init__(self, means: Means) -> None:
        super().__init__()
        self._means = means
        self._context = client_context()
        self.number = 0
        self.window: int | None = None

    async def connect(self, address: Address, source: Address | None = None) -> TlsStream:
        """Call from one of our addresses."""
        return (await self.connect_by(address))[1]

    async def connect_by(self, address: Address) -> tuple[CountedSocket, TlsStream]:
        """The same, with the socket beneath."""
        sock = await self._means.connect(address, self.number, window=self.window)
        stream = TlsStream(sock, address, self._context, None)
        try:
            with trio.move_on_after(5.0):
                await stream.handshake()
                return sock, stream
            raise Unreachable(f"{address}: no handshake")
        except BaseException:
            stream.abort()
            raise
