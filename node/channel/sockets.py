"""Plain TCP sockets under trio: connect, listen, accept, without blocking and without surprises.

These are the standard library's sockets with trio's wait functions, not `trio.socket`: the pump in `tls.py`
must know that no other task runs between a read and the use of its buffer.
"""

import errno
import fcntl
import logging
import os
import socket
import sys
import termios
from collections.abc import AsyncIterator
from contextlib import suppress

import trio

from shoal.dht import Address, AddressError
from shoal.node.channel.errors import Unreachable

BACKLOG_COUNT = 512  # calls the kernel keeps waiting; it drops those beyond, whosever they are
ACCEPTS_COUNT = 128  # in one turn: a flood must reach the rules of `slots`, which know whom to drop
# Bytes that the kernel takes and cannot send yet: without a bound it keeps megabytes for a peer that does not read, in
# memory that no budget of ours counts. With it, a fast line is as fast, since what is under way does not count.
UNSENT_BYTES = 256 * 1024
OUT_OF_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
RESOURCE_PAUSE_S = 0.1  # accepting again at once would only spin; other connections end meanwhile
_LISTENER_GONE = frozenset({errno.EBADF, errno.EINVAL, errno.ENOTSOCK})

log = logging.getLogger(__name__)


async def connect_socket(address: Address, source: Address | None = None) -> socket.socket:
    """A connected socket. Raises Unreachable.

    source: bind to this address, though another socket of this user listens or calls from it.
    """
    try:
        sock = _new_socket(address)
    except OSError as error:
        raise Unreachable(f"{address}: {error.strerror}") from error
    try:
        if source is not None:
            _share_port(sock, before_bind=True)
            sock.bind(tuple(source))
        code = sock.connect_ex(tuple(address))
        if code == errno.EINPROGRESS:
            await trio.lowlevel.wait_writable(sock)
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise Unreachable(f"{address}: {os.strerror(code)}") from OSError(code, os.strerror(code))
        if sock.getsockname() == sock.getpeername():  # happens on loopback when nobody listens there any more
            raise Unreachable(f"{address}: the socket met itself")
    except OSError as error:
        close_socket(sock)
        raise Unreachable(f"{address}: {error.strerror}") from error
    except BaseException:
        close_socket(sock)
        raise
    return sock


def listening_socket(address: Address) -> socket.socket:
    """A listening socket. Raises OSError when the address cannot be bound."""
    sock = _new_socket(address)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a restart need not wait for old connections
        if address.is_ipv6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # IPv4 is listened to under its own address
        sock.bind(tuple(address))
        sock.listen(BACKLOG_COUNT)
        _share_port(sock, before_bind=False)
    except BaseException:
        sock.close()
        raise
    return sock


async def accepted_sockets(listener: socket.socket) -> AsyncIterator[tuple[socket.socket, Address]]:
    """Give every connection that arrives, with the caller's address. A lack of file descriptors does not end this."""
    while True:
        await trio.lowlevel.wait_readable(listener)
        for _ in range(ACCEPTS_COUNT):
            try:
                sock, name = listener.accept()
            except BlockingIOError:
                break
            except OSError as error:
                await _survive(error)
                break
            remote = _prepare(sock, name)
            if remote is not None:
                yield sock, remote


def _prepare(sock: socket.socket, name: tuple[str, int]) -> Address | None:
    """Make ready what was accepted. None, and closed, when it is gone already, or has a link-local address that means
    nothing elsewhere.
    """
    try:
        _set_options(sock)
        return Address.of(name[0], name[1])
    except (OSError, AddressError):
        sock.close()
        return None


def _share_port(sock: socket.socket, *, before_bind: bool) -> None:
    """Let calls leave from a port that is listened on.

    A listener allows that only once it listens. So two listeners never share a port: the second does not allow it when
    it binds.
    """
    if before_bind:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if hasattr(socket, "SO_REUSEPORT"):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)


def local_address(sock: socket.socket) -> Address:
    """The address a socket is bound to."""
    name = sock.getsockname()
    return Address.of(name[0], name[1])


def unacknowledged_bytes(sock: socket.socket) -> int:
    """How many of the bytes that the kernel took the peer has not taken yet; 0 where the system does not tell."""
    return _queued(sock, termios.TIOCOUTQ)


def unread_bytes(sock: socket.socket) -> int:
    """How many bytes of the peer the kernel has for us; 0 where the system does not tell."""
    return _queued(sock, termios.FIONREAD)


def _queued(sock: socket.socket, question: int) -> int:
    answer = bytearray(4)
    try:
        fcntl.ioctl(sock, question, answer)
    except (OSError, ValueError):  # closed already, or another kind of system
        return 0
    return int.from_bytes(answer, sys.byteorder)


def set_wake_up_bytes(sock: socket.socket, count: int) -> None:
    """Let the socket become readable only with so many bytes of the peer, or at its end. Linux alone does that well."""
    if sys.platform == "linux":
        with suppress(OSError):  # closed already
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, count)


def close_socket(sock: socket.socket) -> None:
    """Close, and wake up the tasks that wait on it. Closing twice is fine."""
    if sock.fileno() >= 0:
        trio.lowlevel.notify_closing(sock)
        sock.close()


def _new_socket(address: Address) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if address.is_ipv6 else socket.AF_INET, socket.SOCK_STREAM)
    _set_options(sock)
    return sock


def _set_options(sock: socket.socket) -> None:
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)


async def _survive(error: OSError) -> None:
    if error.errno in _LISTENER_GONE:
        raise error
    if error.errno in OUT_OF_RESOURCES:
        log.warning("cannot accept a connection now: %s", error.strerror)
        await trio.sleep(RESOURCE_PAUSE_S)
    # anything else (ECONNABORTED, EPROTO, a network error) concerns one caller who is gone: the next may be
    # fine
