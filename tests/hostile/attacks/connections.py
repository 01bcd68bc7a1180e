"""Attacks by connections: many of them, silent ones, halves, and junk inside."""

import ssl
from collections.abc import Awaitable, Callable
from functools import cache

import trio
import trio.lowlevel

from hostile.means import CountedSocket, Means
from shoal.dht import Address
from shoal.node.channel import PeerError
from shoal.node.channel.certificates import client_context
from shoal.node.channel.frames import FrameReader
from shoal.node.channel.hello import client_hello
from shoal.node.channel.limits import Throttle
from shoal.node.channel.messages import ServerHello, decode_hello, encode_hello
from shoal.node.channel.tls import TlsStream

CONNECTIONS = 512  # to each victim: as many as it may have in all
KEEP_S = 2.0  # before a connection that the victim closed is opened again
CALLERS = 8  # tasks that open and close at once
RECORD_BYTES = 900
READ_BYTES = 4_096


async def hellos(means: Means, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """As many connections as a victim may have, which say hello and then nothing. A lost one is made again."""
    await _held(means, task_status, _say_hello)


async def silent(means: Means, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """As many TCP connections, which say nothing at all."""
    await _held(means, task_status, _say_nothing)


async def half_handshakes(means: Means, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """As many TLS handshakes, which stop after the first message."""
    await _held(means, task_status, _say_half)


async def churn(means: Means, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Connections opened and closed as fast as that goes, with and without a handshake."""
    await _in_turn(means, task_status, _open_and_close)


async def _open_and_close(means: Means, sock: CountedSocket, address: Address, number: int) -> None:
    if number % 4 == 0:
        stream = TlsStream(sock, address, _context(), None)
        with trio.move_on_after(1):
            await stream.handshake()
        stream.abort()
    sock.close()


async def junk_streams(means: Means, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Random bytes in place of a handshake, of a hello, and of requests."""
    await _in_turn(means, task_status, _talk_junk, pause_s=0.01)


async def _talk_junk(means: Means, sock: CountedSocket, address: Address, number: int) -> None:
    stream = TlsStream(sock, address, _context(), None)
    try:
        with trio.move_on_after(2):
            await _junk(means, sock, stream, number // CALLERS % 3)
    finally:
        stream.abort()


async def _junk(means: Means, sock: CountedSocket, stream: TlsStream, where: int) -> None:
    if where == 0:
        sock.send(means.rng.randbytes(RECORD_BYTES))
        return
    await stream.handshake()
    if where == 2:
        await stream.send(_frame(encode_hello(client_hello())))
        for _ in range(8):
            await stream.send(_frame(means.rng.randbytes(means.rng.randrange(200))))
        await stream.send(_frame(bytes([0x93, means.rng.randrange(20), 1]) + means.rng.randbytes(9)))
    await stream.send(means.rng.randbytes(RECORD_BYTES))


def _frame(header: bytes) -> bytes:
    return len(header).to_bytes(4, "big") + bytes(4) + header


# --- connections that are opened again and again


Use = Callable[[Means, CountedSocket, Address, int], Awaitable[None]]


async def _in_turn(means: Means, task_status: trio.TaskStatus[None], use: Use, *, pause_s: float = 0.0) -> None:
    """Open connections to the victims in turn, from `CALLERS` tasks, and do the same with each. `use` closes it."""
    task_status.started()
    means.notes["connections"] = 0

    async def call(number: int) -> None:
        while True:
            address, _ = means.victims[number % len(means.victims)]
            try:
                await use(means, await means.connect(address, number), address, number)
                means.notes["connections"] += 1
            except (PeerError, OSError):
                pass
            number += CALLERS
            await trio.sleep(pause_s)

    async with trio.open_nursery() as nursery:
        for caller in range(CALLERS):
            nursery.start_soon(call, caller)


# --- connections that are held


Opening = Callable[[CountedSocket, Address], Awaitable[TlsStream | None]]


async def _held(means: Means, task_status: trio.TaskStatus[None], opening: Opening) -> None:
    """Hold `CONNECTIONS` to each victim; open those again that the victim closes."""
    task_status.started()
    means.notes["connections held"] = 0
    async with trio.open_nursery() as nursery:
        for number in range(CONNECTIONS):
            for address, _ in means.victims:
                nursery.start_soon(_hold, means, address, number, opening)
            await trio.sleep(0.001)


async def _hold(means: Means, address: Address, number: int, opening: Opening) -> None:
    while True:
        try:
            sock = await means.connect(address, number)
            try:
                with trio.fail_after(10):
                    await opening(sock, address)
                means.notes["connections held"] += 1
                await _until_closed(sock)
                means.notes["connections held"] -= 1
            finally:
                trio.lowlevel.notify_closing(sock)
                sock.close()
        except (PeerError, OSError, trio.TooSlowError):
            pass
        await trio.sleep(KEEP_S)


async def _until_closed(sock: CountedSocket) -> None:
    while True:
        await trio.lowlevel.wait_readable(sock)
        if not sock.recv(READ_BYTES):
            return


async def _say_hello(sock: CountedSocket, address: Address) -> TlsStream:
    stream = TlsStream(sock, address, _context(), None)
    await stream.handshake()
    head = await FrameReader(stream, Throttle()).read_head()
    decode_hello(head.header, ServerHello)
    await stream.send(_frame(encode_hello(client_hello())))
    return stream


async def _say_nothing(sock: CountedSocket, address: Address) -> None:
    await trio.lowlevel.checkpoint()


async def _say_half(sock: CountedSocket, address: Address) -> None:
    outgoing = ssl.MemoryBIO()
    tls = _context().wrap_bio(ssl.MemoryBIO(), outgoing)
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        sock.send(outgoing.read())
    await trio.lowlevel.checkpoint()


@cache
def _context() -> ssl.SSLContext:
    return client_context()
