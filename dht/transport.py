"""Datagram sockets behind a small interface: UDP here, an in-memory network where whole networks are
simulated.
"""

import errno
import socket
import struct
import sys
import time
from collections import OrderedDict
from typing import Protocol, cast

import trio

from shoal.dht.address import Address
from shoal.dht.errors import AddressError, ListenError

_RECEIVE_BYTES = 2_048  # longer than any valid datagram, so that one too long is noticed and dropped
_SOCKET_BUFFER_BYTES = 2 * 2**20  # room for a burst of 1,700 full datagrams while the process is busy elsewhere
_PAUSE_S = 0.05  # after a local error that would return at once, such as want of memory

# Anywhere on the internet, to see which way the system would go. Nobody has these addresses (RFC 5737, RFC 3849).
_SOMEWHERE = {False: "192.0.2.1", True: "2001:db8::1"}
_DISCARD_PORT = 9

LOOK_EVERY_S = 15.0  # whether the machine has slept or has another address
ABSENCE_S = 20.0  # a sleep so long is one: shorter ones no peer has noticed

# Receiving on an unconnected UDP socket reports at most these about *earlier* sends; they concern one peer,
# not us.
_PEER_ERRORS = frozenset(
    {errno.ECONNREFUSED, errno.ECONNRESET, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EMSGSIZE, errno.EPIPE}
)


# A machine with several addresses has to answer from the one that it was asked at: the asker expects no other. Linux
# says with each datagram where it arrived (ip(7), ipv6(7)), and takes the same when one is sent.
_IP_PKTINFO = 8
_PKTINFO_IPV4 = struct.Struct("=i4s4s")  # interface, our address, the address in the datagram's header
_PKTINFO_IPV6 = struct.Struct("=16si")  # the address in the datagram's header, interface
_ANCILLARY_BYTES = socket.CMSG_SPACE(_PKTINFO_IPV4.size) + socket.CMSG_SPACE(_PKTINFO_IPV6.size)
_MAX_ASKED = 4_096  # peers of which it is remembered at which of our addresses they called last


class DatagramSocket(Protocol):
    """A bound socket. `send` and `receive` may be used by different tasks; each by one or several."""

    @property
    def address(self) -> Address:
        """Where it is bound; the port is the real one."""
        ...

    async def send(self, data: bytes, address: Address) -> None:
        """Send one datagram or lose it: an unreachable peer, a full queue or a lost network raise nothing."""
        ...

    async def receive(self) -> tuple[bytes, Address]:
        """Wait for one datagram. Raises trio.ClosedResourceError once closed."""
        ...

    def close(self) -> None:
        """Stop at once; waiting receivers get trio.ClosedResourceError."""
        ...


class DatagramNetwork(Protocol):
    """Where sockets come from."""

    async def bind(self, address: Address) -> DatagramSocket:
        """Bind to `address`; port 0 takes any free one. Raises ListenError."""
        ...

    def local_host(self, *, ipv6: bool, towards: str | None = None) -> str | None:
        """The machine's own address from which it would send to `towards`, a numeric host; by default anywhere on the
        internet. None when it has no way there. Sends nothing.
        """
        ...

    async def wait_for_change(self) -> None:
        """Return when the machine has another address or route than before, or has slept."""
        ...


class UdpSocket:
    """A real UDP socket under trio. Bound to all addresses, it answers a peer from the address that the peer called."""

    def __init__(self, sock: trio.socket.SocketType) -> None:
        self._socket = sock
        host, port = sock.getsockname()[:2]
        self._address = Address.of(host, port)
        self._asked_at: OrderedDict[Address, bytes] = OrderedDict()  # our packed address by peer, the latest last
        self._tells_where = self._address.is_wildcard and _have_told_where(sock, ipv6=self._address.is_ipv6)

    @property
    def address(self) -> Address:
        return self._address

    async def send(self, data: bytes, address: Address) -> None:
        try:
            await self._send(data, address)
        except OSError as error:
            if error.errno == errno.EBADF:
                raise trio.ClosedResourceError("the socket was closed") from error
            # ENETUNREACH, EPERM, ENOBUFS, a refused port reported late: for datagrams all of it is loss, and the task
            # that waits for the answer has a timeout. Sending to another family than the socket's ends here.
            self._asked_at.pop(address, None)  # the address may be ours no more
            await trio.lowlevel.checkpoint()

    async def _send(self, data: bytes, address: Address) -> None:
        here = self._asked_at.get(address)
        if here is None:
            await self._socket.sendto(data, (address.host, address.port))
        else:
            await self._socket.sendmsg([data], [_from_where(here)], 0, (address.host, address.port))

    async def receive(self) -> tuple[bytes, Address]:
        while True:
            try:
                return await self._receive()
            except trio.ClosedResourceError:
                raise
            except AddressError:
                await trio.lowlevel.checkpoint()  # a link-local source with a scope id: nobody we could answer
            except OSError as error:
                if error.errno == errno.EBADF:
                    raise trio.ClosedResourceError("the socket was closed") from error
                if error.errno in _PEER_ERRORS:
                    await trio.lowlevel.checkpoint()
                else:
                    await trio.sleep(_PAUSE_S)

    async def _receive(self) -> tuple[bytes, Address]:
        if not self._tells_where:
            data, source = await self._socket.recvfrom(_RECEIVE_BYTES)
            return data, Address.of(source[0], source[1])
        data, ancillary, _, source = await self._socket.recvmsg(_RECEIVE_BYTES, _ANCILLARY_BYTES)
        host, port = cast("tuple[str, int]", source)[:2]
        peer = Address.of(host, port)
        here = next((_where(kind, bytes(content)) for _, kind, content in ancillary), None)
        if here is not None:
            self._asked_at[peer] = here
            self._asked_at.move_to_end(peer)
            if len(self._asked_at) > _MAX_ASKED:
                self._asked_at.popitem(last=False)
        return data, peer

    def close(self) -> None:
        self._socket.close()


def _have_told_where(sock: trio.socket.SocketType, *, ipv6: bool) -> bool:
    """Ask the system to say where each datagram arrived. False where it cannot."""
    if sys.platform != "linux":
        return False
    try:
        if ipv6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
    except OSError:
        return False
    return True


def _where(kind: int, content: bytes) -> bytes | None:
    """Our address at which a datagram arrived, packed, from what the system says beside it."""
    if kind == _IP_PKTINFO and len(content) == _PKTINFO_IPV4.size:
        ours: bytes = _PKTINFO_IPV4.unpack(content)[1]
    elif kind == socket.IPV6_PKTINFO and len(content) == _PKTINFO_IPV6.size:
        ours = _PKTINFO_IPV6.unpack(content)[0]
    else:
        return None
    return ours


def _from_where(here: bytes) -> tuple[int, int, bytes]:
    """What the system has to be told to send from this address of ours."""
    if len(here) == 4:
        return socket.IPPROTO_IP, _IP_PKTINFO, _PKTINFO_IPV4.pack(0, here, bytes(4))
    return socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, _PKTINFO_IPV6.pack(here, 0)


class UdpNetwork:
    """The machine's own network."""

    async def bind(self, address: Address) -> UdpSocket:
        """Open a UDP socket. An IPv6 one takes IPv6 only, so that both families can share a port number."""
        family = socket.AF_INET6 if address.is_ipv6 else socket.AF_INET
        try:
            sock = trio.socket.socket(family, socket.SOCK_DGRAM)
        except OSError as error:
            raise ListenError(f"cannot open a UDP socket for {address}: {error.strerror}") from error
        try:
            if address.is_ipv6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SOCKET_BUFFER_BYTES)  # cut to what is allowed
            await sock.bind((address.host, address.port))
        except OSError as error:
            sock.close()
            raise ListenError(f"cannot listen on {address}: {error.strerror}") from error
        except BaseException:  # cancelled meanwhile
            sock.close()
            raise
        return UdpSocket(sock)

    def local_host(self, *, ipv6: bool, towards: str | None = None) -> str | None:
        """See DatagramNetwork. Connecting a UDP socket makes the system choose its source address."""
        try:
            with socket.socket(socket.AF_INET6 if ipv6 else socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.connect((towards or _SOMEWHERE[ipv6], _DISCARD_PORT))
                return Address.of(sock.getsockname()[0], _DISCARD_PORT).host
        except (OSError, AddressError):
            return None

    async def wait_for_change(self) -> None:
        """See DatagramNetwork. Two sockets are opened and closed for each look, some 50 µs.

        A machine that sleeps stops its monotonic clock, but not its wall clock. A wall clock that is set has the same
        look, and costs two look-ups.
        """
        hosts, before = self._hosts(), (time.time(), time.monotonic())
        while True:
            await trio.sleep(LOOK_EVERY_S)
            now = (time.time(), time.monotonic())
            is_late = now[1] - before[1] > LOOK_EVERY_S + ABSENCE_S
            if is_late or abs((now[0] - before[0]) - (now[1] - before[1])) > ABSENCE_S or self._hosts() != hosts:
                return
            before = now

    def _hosts(self) -> list[str | None]:
        return [self.local_host(ipv6=ipv6) for ipv6 in (False, True)]
