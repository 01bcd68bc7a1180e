"""A remote file for programs that know HTTP alone: one address on loopback, with ranges, as players want it."""

import re
import socket
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from functools import partial

import trio

from shoal.node import RemoteFile

BUFFER_BYTES = 64 * 1024  # of the kernel: what a player does not read is not to be sent
_RANGE = re.compile(rb"^range: *bytes=([0-9]+)-([0-9]*)", re.IGNORECASE | re.MULTILINE)


@asynccontextmanager
async def served(remote: RemoteFile) -> AsyncIterator[str]:
    """The address of a file, for the length of a block."""
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, partial(_answer, remote), 0, host="127.0.0.1"))
        yield f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/film.mp4"
        nursery.cancel_scope.cancel()


async def _answer(remote: RemoteFile, stream: trio.SocketStream) -> None:
    """One request for each connection. A player that closes it ends the read."""
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
    request = b""
    while b"\r\n\r\n" not in request:
        more = await stream.receive_some()
        if not more:
            return
        request += more
    wanted = _RANGE.search(request)
    start = int(wanted[1]) if wanted else 0
    end = int(wanted[2]) + 1 if wanted and wanted[2] else remote.size
    head = f"HTTP/1.1 {'206 Partial Content' if wanted else '200 OK'}\r\nAccept-Ranges: bytes\r\nConnection: close\r\n"
    head += f"Content-Range: bytes {start}-{end - 1}/{remote.size}\r\nContent-Length: {end - start}\r\n\r\n"
    length = end - start if wanted and wanted[2] else None
    try:
        await stream.send_all(head.encode())
        async with aclosing(remote.chunks(start, length)) as chunks:
            async for chunk in chunks:
                await stream.send_all(chunk)
    except trio.BrokenResourceError:
        return
