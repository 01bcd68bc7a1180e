"""Listening on loopback alone, and how many connections one listener has at once."""

import errno
import logging
import socket

import trio

from shoal.doors.web.http import SEND_STALL_S, Handler, HttpConnection
from shoal.node import LocalError

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 256  # of one listener: a browser opens six for each tab, a player two
BACKLOG = 512  # connections that the kernel keeps until they are accepted
SEND_BUFFER_BYTES = 256 * 1024  # of the kernel: what a player does not read need not be fetched
PORT_TRIES = 20
TOO_MANY_PAUSE_S = 0.1  # when this process has no descriptor left
_NO_IPV6 = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT})
_TOO_MANY = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

Listeners = list[trio.SocketListener]


async def listen(port: int) -> tuple[int, Listeners]:
    """Listen on 127.0.0.1 and, where there is IPv6, on ::1: on the same port, as `localhost` may be either.

    port: 0 for one that is free on both.

    :raises LocalError: the port is taken.
    """
    for _ in range(PORT_TRIES):
        listeners: Listeners = []
        try:
            listeners += await trio.open_tcp_listeners(port, host="127.0.0.1", backlog=BACKLOG)
            real = int(listeners[0].socket.getsockname()[1])
            try:
                listeners += await trio.open_tcp_listeners(real, host="::1", backlog=BACKLOG)
            except OSError as error:
                if error.errno not in _NO_IPV6:
                    raise
            return real, listeners
        except OSError as error:
            for listener in listeners:
                listener.socket.close()
            if port:
                raise LocalError(f"Cannot listen on port {port}: {error.strerror}.") from error
    raise LocalError("No port is free on both 127.0.0.1 and ::1.")


class Connections:
    """Serves the connections of one listener, each in a task of its own.

    At most MAX_CONNECTIONS are open. One more takes the place of the one that has waited longest for its client. So
    connections that ask nothing, or take nothing of what they asked for, keep out nobody. When the door works for all
    of them, it is closed.
    """

    def __init__(self, handler: Handler, *, send_stall_s: float = SEND_STALL_S) -> None:
        self._handler = handler
        self._send_stall_s = send_stall_s
        self._open: dict[HttpConnection, trio.CancelScope] = {}

    def __len__(self) -> int:
        return len(self._open)

    async def accept(self, listener: trio.SocketListener, nursery: trio.Nursery) -> None:
        """Accept connections until cancelled."""
        while True:
            try:
                stream = await listener.accept()
            except OSError as error:
                if error.errno not in _TOO_MANY:
                    raise
                await trio.sleep(TOO_MANY_PAUSE_S)
                continue
            if len(self._open) >= MAX_CONNECTIONS and not self._drop_one():
                stream.socket.close()
                continue
            connection = HttpConnection(stream, send_stall_s=self._send_stall_s)
            self._open[connection] = trio.CancelScope()
            nursery.start_soon(self._serve, connection, stream)

    def _drop_one(self) -> bool:
        """End the connection that has waited longest for its client; whether there was one."""
        waiting = [each for each in self._open if each.waits_since is not None]
        if not waiting:
            return False
        oldest = min(waiting, key=lambda each: each.waits_since or 0.0)
        self._open.pop(oldest).cancel()
        return True

    async def _serve(self, connection: HttpConnection, stream: trio.SocketStream) -> None:
        """A failure ends this connection alone."""
        try:
            with self._open[connection]:
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
                await connection.serve(self._handler)
        except Exception:  # a bug in an answer must not end the node
            log.exception("a bug in the door")
        finally:
            self._open.pop(connection, None)
            stream.socket.close()
