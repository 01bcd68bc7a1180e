"""Real sockets and real TLS on loopback."""

import contextlib
import errno
import functools
import logging
import os
import random
import socket
import ssl
import tempfile
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from kit.certificates import certificates_with
from shoal.dht import Address, Identity, Reach
from shoal.node.channel import (
    ByteStream,
    ConnectionSlots,
    Disconnected,
    GetHeld,
    HeldShares,
    Misbehaved,
    Occupied,
    Read,
    TlsNetwork,
    Unreachable,
    Write,
    open_connection,
    open_pool,
)
from shoal.node.channel.certificates import certificate_key, server_context
from shoal.node.channel.sockets import accepted_sockets, listening_socket

Serve = Callable[..., Awaitable[Any]]
LOOPBACK = Address("127.0.0.1", 0)
FINE = GetHeld(bytes(32))


@contextlib.asynccontextmanager
async def stream_pair(identity: Identity) -> Any:
    """Both ends of one TLS connection."""
    network, ends = TlsNetwork(), trio.open_memory_channel[ByteStream](1)
    done = trio.Event()

    async def handler(stream: ByteStream) -> None:
        await ends[0].send(stream)
        await done.wait()

    async with trio.open_nursery() as nursery:
        address = await nursery.start(network.serve, LOOPBACK, identity, handler)
        caller = await network.connect(address)
        yield caller, await ends[1].receive()
        done.set()
        caller.abort()
        nursery.cancel_scope.cancel()


async def receive_all(stream: ByteStream) -> bytes:
    received, view = bytearray(), memoryview(bytearray(100_000))
    while count := await stream.receive_into(view):
        received += view[:count]
    return bytes(received)


@pytest.mark.parametrize("host", ["127.0.0.1", pytest.param("::1", marks=pytest.mark.needs_ipv6)])
async def test_requests_over_tls(serve_tls: Serve, host: str) -> None:
    served = await serve_tls(host=host)
    async with open_connection(served.network, served.address, served.identity.node_id) as peer:
        assert await peer.request(FINE, timeout_s=5) == HeldShares(((1, 99),))
        blocks = await peer.request(Read(bytes(32), 9, 0, 16, True), timeout_s=5)
        assert bytes(blocks.payload) == b"\x09" * 2**20
        data = os.urandom(65_536)
        written = await peer.request(Write(bytes(16), 0, b"", False), payload=[data] * 16, timeout_s=5)
        assert written.received_blocks == 16


async def test_bytes_arrive_whole_and_in_order_both_ways(identity: Identity, rng: random.Random) -> None:
    pieces = [rng.randbytes(rng.choice([0, 1, 100, 16_384, 300_000])) for _ in range(40)]
    async with stream_pair(identity) as (caller, server):

        async def send(stream: ByteStream) -> None:
            for start in range(0, len(pieces), 4):
                await stream.send(*pieces[start : start + 4])
            await stream.send(b"end")
            ended.append(stream)

        async def receive(stream: ByteStream) -> None:
            wanted, view = b"".join([*pieces, b"end"]), memoryview(bytearray(100_000))
            received = bytearray()
            while len(received) < len(wanted):
                received += view[: await stream.receive_into(view)]
            assert received == wanted

        ended: list[ByteStream] = []
        async with trio.open_nursery() as nursery:
            for stream in (caller, server):
                nursery.start_soon(send, stream)
                nursery.start_soon(receive, stream)


async def test_a_long_payload_wakes_its_receiver_a_few_times(
    identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sender has a turn for every 16 KiB, and the receiver might have."""
    wake_ups, wait_readable = [0], trio.lowlevel.wait_readable

    async def count(sock: socket.socket) -> None:
        await wait_readable(sock)
        wake_ups[0] += 1

    async with stream_pair(identity) as (caller, server):
        monkeypatch.setattr(trio.lowlevel, "wait_readable", count)
        payload, view, filled = os.urandom(2**20), memoryview(bytearray(2**20)), 0
        async with trio.open_nursery() as nursery:

            async def send() -> None:
                for start in range(0, len(payload), 16_384):
                    await caller.send(payload[start : start + 16_384])
                    await trio.lowlevel.checkpoint()

            nursery.start_soon(send)
            while filled < len(view):
                filled += await server.receive_into(view[filled:])
        assert view == payload
        assert wake_ups[0] <= 12, "64 before there were lumps"


async def test_a_slow_peers_bytes_count_as_they_come(identity: Identity) -> None:
    """Whoever watches a line must see it move: no lump is waited for that does not come."""
    async with stream_pair(identity) as (caller, server):
        view, filled = memoryview(bytearray(2**20)), [0]

        async def receive() -> None:
            while True:
                filled[0] += await server.receive_into(view[filled[0] :])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive)
            for number in range(1, 21):
                await caller.send(bytes(1024))
                await trio.sleep(0.01 if number % 10 else 0.3)
                assert number % 10 or filled[0] == number * 1024
            nursery.cancel_scope.cancel()


async def test_the_caller_learns_the_servers_key(identity: Identity) -> None:
    async with stream_pair(identity) as (caller, server):
        assert caller.peer_key == identity.public_key
        assert server.peer_key is None
        assert server.remote.host == "127.0.0.1"


async def test_a_close_is_an_end_and_an_abort_too(identity: Identity) -> None:
    async with stream_pair(identity) as (caller, server):
        await caller.send(b"last words")
        await caller.aclose()
        await caller.aclose()
        assert await receive_all(server) == b"last words"
        with pytest.raises(Disconnected):
            await caller.send(b"x")
        with pytest.raises(Disconnected):
            await caller.receive_into(memoryview(bytearray(1)))


async def test_a_cancelled_receive_loses_nothing(identity: Identity) -> None:
    async with stream_pair(identity) as (caller, server):
        view = memoryview(bytearray(10))
        with trio.move_on_after(0.02):
            await server.receive_into(view)
        await caller.send(b"later")
        assert await server.receive_into(view) == 5


async def test_a_cancelled_send_closes_the_stream(identity: Identity) -> None:
    async with stream_pair(identity) as (caller, server):
        with trio.move_on_after(0.2) as scope:
            await caller.send(bytes(100_000_000))
        assert scope.cancelled_caught
        with pytest.raises(Disconnected):
            await caller.send(b"x")
        assert len(await receive_all(server)) < 100_000_000


async def test_an_abort_wakes_the_receiver(identity: Identity) -> None:
    async with stream_pair(identity) as (caller, _), trio.open_nursery() as nursery:

        async def receive() -> None:
            with pytest.raises(Disconnected):
                await caller.receive_into(memoryview(bytearray(1)))

        nursery.start_soon(receive)
        await trio.sleep(0.02)
        caller.abort()


async def test_nobody_there() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = Address(*unused.getsockname())
        with pytest.raises(Unreachable):
            await TlsNetwork().connect(address)


async def test_a_port_in_use_is_an_os_error(identity: Identity, nursery: trio.Nursery) -> None:
    async def handler(stream: ByteStream) -> None: ...

    address = await nursery.start(TlsNetwork().serve, LOOPBACK, identity, handler)
    with pytest.raises(OSError, match="in use"):
        await TlsNetwork().serve(address, identity, handler)


def test_no_key_is_left_behind(identity: Identity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    server_context(identity)
    assert list(tmp_path.iterdir()) == []


def ec_context() -> ssl.SSLContext:
    """A server context over a key that is not Ed25519."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1)
    certificate = builder.not_valid_before(datetime(2020, 1, 1, tzinfo=UTC)).not_valid_after(
        datetime(2040, 1, 1, tzinfo=UTC)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile() as file:
        file.write(certificate.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        file.write(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        file.flush()
        context.load_cert_chain(file.name)
    return context


async def call_odd_server(context: ssl.SSLContext, nursery: trio.Nursery) -> None:
    listeners = await trio.open_ssl_over_tcp_listeners(0, context, host="127.0.0.1")

    async def handler(stream: trio.SSLStream[trio.SocketStream]) -> None:
        with contextlib.suppress(trio.BrokenResourceError, ssl.SSLError):
            await stream.do_handshake()
            await stream.receive_some(1)

    nursery.start_soon(trio.serve_listeners, handler, listeners)
    listener: Any = listeners[0].transport_listener
    await TlsNetwork().connect(Address(*listener.socket.getsockname()))


async def test_a_certificate_of_another_kind_is_refused(nursery: trio.Nursery) -> None:
    context = ec_context()
    context.set_alpn_protocols(["shoal/1"])
    with pytest.raises(Misbehaved, match="Ed25519"):
        await call_odd_server(context, nursery)


async def test_a_server_of_another_protocol_is_refused(nursery: trio.Nursery) -> None:
    with pytest.raises(Misbehaved, match="shoal/1"):
        await call_odd_server(ec_context(), nursery)


async def test_a_tls_1_2_server_is_refused(nursery: trio.Nursery) -> None:
    context = ec_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((Misbehaved, Disconnected)):  # as the other side breaks off: with or without saying why
        await call_odd_server(context, nursery)


@pytest.mark.parametrize("junk", [b"", b"x", b"\x30\x82\x01\x00" + bytes(256), bytes(5000)])
def test_junk_for_a_certificate_is_refused(junk: bytes) -> None:
    with pytest.raises(Misbehaved):
        certificate_key(junk)


def client_context(**changes: Any) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    for name, value in changes.items():
        setattr(context, name, value)
    return context


async def test_callers_without_alpn_or_with_tls_1_2_are_closed(serve_tls: Serve) -> None:
    served = await serve_tls()
    old = client_context(maximum_version=ssl.TLSVersion.TLSv1_2)
    old.set_alpn_protocols(["shoal/1"])
    for context in (client_context(), old):
        stream = await trio.open_tcp_stream(*served.address)
        tls = trio.SSLStream(stream, context, server_hostname=None)
        with contextlib.suppress(trio.BrokenResourceError, ssl.SSLError), trio.fail_after(10):
            await tls.do_handshake()
            assert await tls.receive_some() == b""
        await trio.aclose_forcefully(tls)
    assert served.server.statistics().requests == 0
    async with open_connection(served.network, served.address) as peer:
        assert await peer.request(FINE, timeout_s=5)


@pytest.mark.parametrize("version", [1, 3, 5, 127])
async def test_a_certificate_of_no_known_version_is_misbehaviour(version: int, identity: Identity) -> None:
    context = certificates_with(identity, version)
    listener = await trio.open_tcp_listeners(0, host="127.0.0.1")
    host, port = listener[0].socket.getsockname()

    async def serve(stream: trio.SocketStream) -> None:
        tls = trio.SSLStream(stream, context, server_side=True)
        with contextlib.suppress(trio.BrokenResourceError, ssl.SSLError):
            await tls.do_handshake()
            await tls.receive_some()

    async with trio.open_nursery() as nursery:
        await nursery.start(trio.serve_listeners, serve, listener)
        with pytest.raises(Misbehaved):
            await TlsNetwork().connect(Address(host, port))
        async with open_pool(TlsNetwork()) as pool:
            with pytest.raises(Misbehaved):
                await pool.request(None, Reach.of(Address(host, port)), FINE, timeout_s=5)
        nursery.cancel_scope.cancel()


async def test_no_session_can_be_resumed(serve_tls: Serve) -> None:
    served = await serve_tls()
    context = client_context()
    context.set_alpn_protocols(["shoal/1"])
    tls = trio.SSLStream(await trio.open_tcp_stream(*served.address), context, server_hostname=None)
    await tls.do_handshake()
    assert await tls.receive_some()
    assert tls.session is None or not tls.session.has_ticket
    await trio.aclose_forcefully(tls)


async def test_accepting_survives_a_lack_of_descriptors(
    serve_tls: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    served, failures = await serve_tls(), [errno.EMFILE, errno.ECONNABORTED, errno.ENFILE]
    accept = socket.socket.accept

    def failing(sock: socket.socket) -> Any:
        if failures:
            raise OSError(failures.pop(), "simulated")
        return accept(sock)

    monkeypatch.setattr(socket.socket, "accept", failing)
    with caplog.at_level(logging.ERROR):
        async with open_connection(served.network, served.address) as peer:
            assert await peer.request(FINE, timeout_s=5)
    assert failures == []


async def test_a_flood_of_calls_does_not_wait_in_the_kernel(nursery: trio.Nursery) -> None:
    """All that knock meanwhile are taken in one turn; else the kernel would choose whom to drop."""
    listener, turns = listening_socket(LOOPBACK), 0
    callers = [socket.create_connection(listener.getsockname()) for _ in range(100)]
    accepted: list[socket.socket] = []

    async def accept() -> None:
        async for sock, _ in accepted_sockets(listener):
            accepted.append(sock)

    nursery.start_soon(accept)
    while len(accepted) < len(callers) and turns < 1000:
        await trio.lowlevel.checkpoint()
        turns += 1
    nursery.cancel_scope.cancel()
    for sock in [*callers, *accepted, listener]:
        sock.close()
    assert turns < 20


async def test_a_caller_that_makes_room_before_its_handshake_is_told(serve_tls: Serve, nursery: trio.Nursery) -> None:
    """The server keeps one newcomer. A second comes while the first has not said a word yet."""
    served = await serve_tls(slots=ConnectionSlots(newcomers=1))
    first = await trio.open_tcp_stream(*served.address)
    second = await trio.open_tcp_stream(*served.address)
    with trio.fail_after(5):
        answer = await first.receive_some() + await first.receive_some()

    async def say_it(stream: trio.SocketStream) -> None:
        await stream.send_all(answer)
        await stream.receive_some()  # so that the end is no reset

    (listener,) = await nursery.start(functools.partial(trio.serve_tcp, say_it, 0, host="127.0.0.1"))
    with pytest.raises(Occupied) as caught:
        await TlsNetwork().connect(Address.of(*listener.socket.getsockname()))
    assert caught.value.is_busy
    await first.aclose()
    await second.aclose()


async def test_a_caller_whose_place_has_had_its_share_is_told_that_the_node_is_busy(serve_tls: Serve) -> None:
    served = await serve_tls(slots=ConnectionSlots(admits=lambda remote, now: False))
    for _ in range(10):
        with pytest.raises(Occupied):
            await TlsNetwork().connect(served.address)
    assert served.server.statistics().connections == 0


async def test_a_silent_caller_is_dropped_after_the_handshake_deadline(
    serve_tls: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shoal.node.channel.tls.HANDSHAKE_TIMEOUT_S", 0.1)
    served = await serve_tls()
    stream = await trio.open_tcp_stream(*served.address)
    with trio.fail_after(10):
        assert await stream.receive_some() == b""
    await stream.aclose()
