"""Datagram sockets behind a small interface: UDP here, an in-memory network where whole networks are
simulated.
"""

import errno
import socket
from typing import Protocol

import trio

from shoal.dht.address import Address
from shoal.dht.errors import AddressError, ListenError

_RECEIVE_BYTES = 2_048  # longer than any valid datagram, so that one too long is noticed and dropped
_SOCKET_BUFFER_BYTES = 2 * 2**20  # room for a burst of 1,700 full datagrams while the process is busy elsewhere
_PAUSE_S = 0.05  # after a local error that would return at once, such as want of memory

# Receiving on an unconnected UDP socket reports at most these about *earlier* sends; they concern one peer,
# not us.
_PEER_ERRORS = frozenset(
    {errno.ECONNREFUSED, errno.ECONNRESET, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EMSGSIZE, errno.EPIPE}
)


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


class UdpSocket:
    """A real UDP socket under trio."""

    def __init__(self, sock: trio.socket.SocketType) -> None:
        self._socket = sock
        host, port = sock.getsockname()[:2]
        self._address = Address.of(host, port)

    @property
    def address(self) -> Address:
        return self._address

    async def send(self, data: bytes, address: Address) -> None:
        try:
            await self._socket.sendto(data, (address.host, address.port))
        except OSError as error:
            if error.errno == errno.EBADF:
                raise trio.ClosedResourceError("the socket was closed") from error
            # ENETUNREACH, EPERM, ENOBUFS, a refused port reported late: for datagrams all of it is loss, and the task
            # that waits for the answer has a timeout. Sending to another family than the socket's ends here.
            await trio.lowlevel.checkpoint()

    async def receive(self) -> tuple[bytes, Address]:
        while True:
            try:
                data, source = await self._socket.recvfrom(_RECEIVE_BYTES)
                return data, Address.of(source[0], source[1])
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

    def close(self) -> None:
        self._socket.close()


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
