"""Peers that break every rule: they lose their own connection, and nobody else notices."""

import os
import random
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgpack
import pytest
import trio
import trio.testing

from shoal.dht import Address, Identity, NetworkParameters
from shoal.node.channel import (
    ByteStream,
    ConnectionSlots,
    GetHeld,
    Misbehaved,
    PeerError,
    Read,
    RemoteError,
    Status,
    TimedOut,
    Unreachable,
    open_connection,
)
from shoal.node.channel import messages as m
from shoal.node.channel.hello import client_hello, server_hello

Clock = trio.testing.MockClock
Serve = Callable[..., Awaitable[Any]]
FINE = GetHeld(bytes(32))
FUZZ_FRAMES = int(os.environ.get("SHOAL_FUZZ_FRAMES", "2000"))
MAX_GROWTH_BYTES = 20 * 2**20


def frame(header: bytes, payload: bytes = b"", *, claimed: int | None = None) -> bytes:
    return struct.pack(">II", len(header), len(payload) if claimed is None else claimed) + header + payload


def packed(*values: Any) -> bytes:
    return frame(msgpack.packb(list(values)))


HELLO = frame(m.encode_hello(client_hello()))
GOOD = frame(m.encode_request(1, FINE))


async def read_until_closed(stream: ByteStream) -> bytes:
    received, view = bytearray(), memoryview(bytearray(65_536))
    with suppress(PeerError):
        while count := await stream.receive_into(view):
            received += view[:count]
    return bytes(received)


async def assert_serves(served: Any) -> None:
    async with open_connection(served.network, served.address) as peer:
        assert await peer.request(FINE, timeout_s=5)


@pytest.mark.parametrize(
    "first",
    [
        b"\x00" * 8,
        b"GET / HTTP/1.1\r\n\r\n",
        struct.pack(">II", 2**32 - 1, 0),
        struct.pack(">II", 3, 2**32 - 1) + b"\x93\x01\x00",
        struct.pack(">II", 65_537, 0),
        struct.pack(">II", 10, 2**20 + 1),
        GOOD,
        packed(1, 0, 5, 9, 0),
        packed(1, 0),
        frame(b"\xc1"),
    ],
)
async def test_a_bad_beginning_ends_the_connection(autojump_clock: Clock, serve_virtual: Serve, first: bytes) -> None:
    served = await serve_virtual()
    stream = await served.network.connect(served.address)
    await stream.send(first)
    with trio.fail_after(6):
        await read_until_closed(stream)
    assert served.server.statistics().requests == 0
    await assert_serves(served)


async def test_silence_and_trickles_end(autojump_clock: Clock, serve_virtual: Serve) -> None:
    """Said nothing; said hello and nothing; one byte per second, in a header and in a payload."""
    served = await serve_virtual()
    write = m.encode_request(1, m.Write(bytes(16), 0, b"", False))
    trickle = frame(write, bytes(3000))

    async def trickler(stream: ByteStream) -> None:
        with suppress(PeerError):
            for byte in trickle:
                await stream.send(bytes([byte]))
                await trio.sleep(1)

    async def run(beginning: bytes, trickles: bool, most_s: float) -> None:
        stream = await served.network.connect(served.address)
        await stream.send(beginning)
        async with trio.open_nursery() as nursery:
            if trickles:
                nursery.start_soon(trickler, stream)
            with trio.fail_after(most_s):
                await read_until_closed(stream)
            stream.abort()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, b"", False, 6)
        nursery.start_soon(run, HELLO, False, 16)
        nursery.start_soon(run, HELLO, True, 16)
        nursery.start_soon(run, HELLO + GOOD, False, 61)
        nursery.start_soon(run, HELLO + GOOD, True, 32)
        nursery.start_soon(run, HELLO + GOOD + trickle[:100], False, 31)
    assert served.server.statistics().requests == 3
    assert served.server.memory.used_bytes == 0


class Turns(trio.abc.Instrument):
    """How often a task had its turn."""

    count = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.count += 1


async def test_whoever_sends_many_requests_that_are_refused_leaves_others_their_turns(
    autojump_clock: Clock, serve_virtual: Serve
) -> None:
    served, count, turns = await serve_virtual(), 1000, Turns()
    stream = await served.network.connect(served.address)
    trio.lowlevel.add_instrument(turns)
    await stream.send(HELLO, packed(99, 5, "future") * count)
    view, received = memoryview(bytearray(65_536)), 0
    while received < count * len(frame(msgpack.packb([0x80 | 99, 5, Status.UNSUPPORTED]))):
        received += await stream.receive_into(view)
    trio.lowlevel.remove_instrument(turns)
    assert turns.count >= count


async def test_what_nobody_is_charged_for_is_refused_in_turn(autojump_clock: Clock, serve_virtual: Serve) -> None:
    """Requests that no node knows and such as are malformed, one after the other; a real one is not held up."""
    held_back = list[Address]()

    async def hold_back(remote: Address) -> None:
        held_back.append(remote)
        await trio.sleep(0.01)

    served = await serve_virtual(hold_back=hold_back)
    stream = await served.network.connect(served.address)
    begun = trio.current_time()
    await stream.send(HELLO, *[packed(99, 5, "future"), packed(10, 6, "wrong")] * 100)
    view, replies = memoryview(bytearray(65_536)), b""
    while replies.count(b"\xcc\xe3") < 100:  # 0x80 | 99, in msgpack
        replies += view[: await stream.receive_into(view)].tobytes()
    assert trio.current_time() - begun >= 0.01 * 199
    assert len(set(held_back)) == 1
    assert len(held_back) in (199, 200)
    await assert_serves(served)


async def test_a_caller_who_never_reads_is_dropped(autojump_clock: Clock, serve_virtual: Serve) -> None:
    served = await serve_virtual()
    stream = await served.network.connect(served.address)
    reads = [frame(m.encode_request(number, Read(bytes(32), 0, 0, 16, True))) for number in range(64)]
    await stream.send(HELLO, *reads)
    await trio.sleep(30)
    assert 0 < served.server.memory.used_bytes <= 4 * 2**20
    await assert_serves(served)
    await trio.sleep(2000)
    assert served.server.statistics().connections == 0
    assert served.server.memory.used_bytes == 0


async def test_what_is_malformed_is_answered_where_that_is_possible(
    autojump_clock: Clock, serve_virtual: Serve
) -> None:
    served = await serve_virtual()
    stream = await served.network.connect(served.address)
    unknown = frame(msgpack.packb([99, 5, "future"]), b"with payload")
    await stream.send(HELLO, unknown, packed(10, 6, "wrong"), frame(m.encode_request(7, FINE), b"extra"), GOOD)
    await trio.sleep(1)
    view = memoryview(bytearray(10_000))
    data = view[: await stream.receive_into(view)].tobytes()
    replies = []
    while data:
        size = sum(struct.unpack(">II", data[:8])) + 8
        replies.append(msgpack.unpackb(data[8:size])[:3])
        data = data[size:]
    assert sorted(replies[1:]) == [
        [0x80 | 10, 6, Status.MALFORMED],
        [0x80 | 11, 1, Status.OK],
        [0x80 | 11, 7, Status.MALFORMED],
        [0x80 | 99, 5, Status.UNSUPPORTED],
    ]


async def test_a_flood_of_connections_leaves_others_served(serve_tls: Serve) -> None:
    """More callers than slots, who never finish a handshake; the waiting one gets through when they time out."""
    served = await serve_tls(slots=ConnectionSlots(total=40))
    async with open_connection(served.network, served.address) as early:
        flood = [await trio.open_tcp_stream(*served.address) for _ in range(100)]
        assert await early.request(FINE, timeout_s=5)
        for stream in flood:
            await stream.aclose()
        await trio.sleep(0.3)  # the server notices
        await assert_serves(served)


# --- servers that break the rules -------------------------------------------------------------------------------------

PARAMS = NetworkParameters("test", 0, private=True)
Script = Callable[[ByteStream], Awaitable[None]]


@pytest.fixture
def serve_script(nursery: trio.Nursery, world: Any, identity: Identity) -> Callable[..., Awaitable[Any]]:
    """A server that says hello properly and then does what the script says."""

    async def serve(script: Script, *, hello: bytes | None = None) -> tuple[Any, Address]:
        async def handler(stream: ByteStream) -> None:
            with suppress(PeerError):
                await stream.send(hello or frame(m.encode_hello(server_hello(identity, PARAMS, bytes(32)))))
                await stream.receive_into(memoryview(bytearray(1000)))
                await script(stream)

        async def run(task_status: trio.TaskStatus[Address]) -> None:
            await world.at("10.0.0.1").serve(Address("10.0.0.1", 0), identity, handler, task_status=task_status)

        return world.at("10.0.0.2"), await nursery.start(run)

    return serve


def saying(*data: bytes) -> Script:
    async def script(stream: ByteStream) -> None:
        await trio.sleep(0.5)
        await stream.send(*data)
        await trio.sleep(100)

    return script


@pytest.mark.parametrize(
    "answer",
    [
        packed(0x80 | 11, 1234, 0, []),  # a reply to nothing
        packed(0x80 | 6, 0, 0),  # of another type
        packed(0x80 | 11, 0, 0),  # without its fields
        packed(0x80 | 11, 0, 3),  # a failure without its fields
        packed(11, 0, 0, []),  # a request
        frame(msgpack.packb([0x80 | 11, 0, 0, []]), b"payload"),
        struct.pack(">II", 2**31, 0),
        frame(b"\xff" * 50),
    ],
)
async def test_a_server_that_answers_wrongly_is_left(autojump_clock: Clock, serve_script: Any, answer: bytes) -> None:
    network, address = await serve_script(saying(answer))
    async with open_connection(network, address) as peer:
        with pytest.raises(PeerError):
            await peer.request(FINE, timeout_s=20)
        await trio.sleep(1)
        assert peer.closed


async def test_a_read_gets_no_more_than_it_asked_for(autojump_clock: Clock, serve_script: Any) -> None:
    answer = frame(msgpack.packb([0x80 | 10, 0, 0, b"", b"", b""]), bytes(2 * 65_536))
    network, address = await serve_script(saying(answer))
    async with open_connection(network, address) as peer:
        with pytest.raises(Misbehaved, match="131072"):
            await peer.request(Read(bytes(32), 0, 0, 1, True), timeout_s=20)


async def test_a_server_that_stops_in_the_middle_of_a_frame(autojump_clock: Clock, serve_script: Any) -> None:
    network, address = await serve_script(saying(packed(0x80 | 11, 0, 0, [])[:-1]))
    async with open_connection(network, address) as peer:
        with pytest.raises(TimedOut):
            await peer.request(FINE, timeout_s=20)


async def test_a_server_that_hangs_up_in_the_middle_of_a_frame(autojump_clock: Clock, serve_script: Any) -> None:
    async def script(stream: ByteStream) -> None:
        await stream.send(packed(0x80 | 11, 0, 0, [])[:-1])

    network, address = await serve_script(script)
    async with open_connection(network, address) as peer:
        with pytest.raises(Unreachable):
            await peer.request(FINE, timeout_s=20)


@pytest.mark.parametrize(
    "hello",
    [
        b"\x00" * 8,
        packed(1, 0, 2, 9, 0, bytes(32), bytes(8), bytes(32)),
        packed(1, 0, 1, 1, 0, bytes(32), bytes(8), bytes(32)),
        packed(7, 0, 1, 1, 0, bytes(32), bytes(8), bytes(32)),
        b"\x00",
    ],
)
async def test_a_server_with_a_bad_hello_is_left(autojump_clock: Clock, serve_script: Any, hello: bytes) -> None:
    network, address = await serve_script(saying(b""), hello=hello)
    with pytest.raises(PeerError):
        async with open_connection(network, address):
            pass


# --- many bad frames to a live server ---------------------------------------------------------------------------------


def bad_frame(rng: random.Random) -> bytes:
    """One malformed frame, of many kinds."""
    valid = m.encode_request(rng.randrange(2**32), Read(rng.randbytes(32), 1, 0, 1, True))
    write = m.encode_request(rng.randrange(2**32), m.Write(bytes(16), 0, b"", False))
    mutated = bytearray(valid)
    for _ in range(rng.randint(1, 5)):
        mutated[rng.randrange(len(mutated))] = rng.randrange(256)
    kinds: list[Callable[[], bytes]] = [
        lambda: rng.randbytes(rng.randint(1, 300)),
        lambda: frame(bytes(mutated)),
        lambda: frame(valid[: rng.randrange(len(valid))]),
        lambda: frame(valid, rng.randbytes(rng.randint(1, 5000))),
        lambda: frame(write, b"half", claimed=rng.randint(5, 2**20)),
        lambda: struct.pack(">II", rng.randrange(2**32), rng.randrange(2**32)) + rng.randbytes(20),
        lambda: frame(rng.randbytes(rng.randint(0, 60))),
        lambda: frame(b"\x91" * rng.randint(1, 60_000)),
        lambda: frame(b"\xdd\xff\xff\xff\xff" + rng.randbytes(9)),
        lambda: packed(rng.randrange(17, 300), rng.randrange(2**33), [{}] * rng.randrange(50)),
        lambda: packed(2, 1, "admin", rng.randbytes(32), bytes(8), rng.randbytes(64)),
        lambda: frame(msgpack.packb([5, 1, bytes(16), 1, 1]), bytes(16_385)),
    ]
    return rng.choice(kinds)()


def rss_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def attack(served: Any, rng: random.Random, count: int) -> None:
    """Send bad frames, a few per connection, until the server hangs up or for a moment."""
    while count > 0:
        stream = await served.network.connect(served.address)
        burst = min(count, rng.randint(1, 4))
        count -= burst
        with suppress(PeerError), trio.move_on_after(0.02):
            await stream.send(HELLO, *[bad_frame(rng) for _ in range(burst)])
            view = memoryview(bytearray(4096))
            while await stream.receive_into(view):
                pass
        stream.abort()


async def test_bad_frames_by_the_thousand(serve_tls: Serve) -> None:
    served = await serve_tls(slots=ConnectionSlots(private=True))
    await attack(served, random.Random(0), 200)  # first: what is allocated once
    before, finished = rss_bytes(), trio.Event()

    async def bystander() -> None:
        async with open_connection(served.network, served.address) as peer:
            while not finished.is_set():
                assert await peer.request(FINE, timeout_s=5)
                await trio.sleep(0.01)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(bystander)
        async with trio.open_nursery() as attackers:
            for seed in range(1, 5):
                attackers.start_soon(attack, served, random.Random(seed), FUZZ_FRAMES // 4)
        finished.set()
    await served.wait_for_connections(0)
    statistics = served.server.statistics()
    assert (statistics.connections, statistics.bugs, statistics.memory_bytes) == (0, 0, 0)
    assert rss_bytes() - before < MAX_GROWTH_BYTES
    with pytest.raises(RemoteError):
        async with open_connection(served.network, served.address) as peer:
            await peer.request(GetHeld(b"\x01" * 32), timeout_s=5)
