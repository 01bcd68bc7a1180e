"""Frames over a stream in memory that hands bytes out in pieces of any size."""

import random
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from shoal.dht import Address
from shoal.node.channel import Buffer, Disconnected, MalformedMessage, Throttle, TimedOut
from shoal.node.channel.frames import FrameReader, FrameWriter

Clock = trio.testing.MockClock


class FakeStream:
    """Plays back bytes, at most `piece` at a time; keeps what is sent."""

    peer_key = None
    remote = Address("10.0.0.1", 1)
    slot = None

    def __init__(self, data: bytes = b"", piece: int = 2**30) -> None:
        self.data, self.piece = memoryview(data), piece
        self.sent: list[bytes] = []
        self.stuck = self.aborted = False
        self.received = 0

    def received_bytes(self) -> int:
        return self.received

    def delivered_bytes(self) -> int:
        return sum(map(len, self.sent))

    async def send(self, *buffers: Buffer) -> None:
        if self.stuck:
            raise TimedOut("stuck")
        self.sent += [bytes(each) for each in buffers]

    async def receive_into(self, view: memoryview) -> int:
        if self.stuck and not self.data:
            await trio.sleep_forever()
        part = self.data[: min(len(view), self.piece)]
        view[: len(part)] = part
        self.data = self.data[len(part) :]
        self.received += len(part)
        return len(part)

    async def aclose(self) -> None: ...

    def abort(self) -> None:
        self.aborted = True


async def write_all(frames: list[tuple[bytes, list[bytes]]]) -> bytes:
    stream = FakeStream()
    writer = FrameWriter(stream, Throttle())
    for header, payload in frames:
        await writer.send(header, payload)
    return b"".join(stream.sent)


async def read_all(stream: FakeStream) -> list[tuple[bytes, bytes]]:
    reader, frames = FrameReader(stream, Throttle()), []
    while await reader.wait():
        head = await reader.read_head()
        frames.append((head.header, bytes(await reader.read_payload())))
    return frames


contents = st.lists(st.tuples(st.binary(max_size=3000), st.lists(st.binary(max_size=5000), max_size=3)), max_size=6)


@given(contents, st.integers(1, 6000))
def test_frames_survive_any_division_into_pieces(frames: list[tuple[bytes, list[bytes]]], piece: int) -> None:
    async def check() -> None:
        data = await write_all(frames)
        assert await read_all(FakeStream(data, piece)) == [(header, b"".join(parts)) for header, parts in frames]

    trio.run(check)


async def test_a_payload_can_be_skipped(rng: random.Random) -> None:
    frames = [(b"header", [rng.randbytes(size)]) for size in (0, 1, 2047, 2048, 70_000)]
    stream = FakeStream(await write_all([*frames, (b"last", [])]), 1500)
    reader = FrameReader(stream, Throttle())
    for _ in frames:
        assert (await reader.read_head()).header == b"header"
        await reader.skip_payload()
    assert (await reader.read_head()).header == b"last"


@pytest.mark.parametrize("lengths", ["ffffffff00000000", "0001000100000000", "0000000000100001"])
async def test_lengths_are_checked_before_anything_is_allocated(lengths: str) -> None:
    with pytest.raises(MalformedMessage):
        await FrameReader(FakeStream(bytes.fromhex(lengths)), Throttle()).read_head()


async def test_an_end_inside_a_frame_is_no_end() -> None:
    data = await write_all([(b"header", [b"payload"])])
    for length in range(1, len(data)):
        with pytest.raises(Disconnected):
            await read_all(FakeStream(data[:length]))


async def test_a_stalled_frame_times_out(autojump_clock: Clock) -> None:
    stream = FakeStream((await write_all([(b"header", [b"payload"])]))[:-1])
    stream.stuck = True
    with pytest.raises(TimedOut):
        await read_all(stream)


async def test_half_a_frame_is_the_end_of_its_stream() -> None:
    stream = FakeStream()
    stream.stuck = True
    with pytest.raises(TimedOut):
        await FrameWriter(stream, Throttle()).send(b"header")
    assert stream.aborted


async def test_too_large_frames_are_our_own_mistake() -> None:
    writer = FrameWriter(FakeStream(), Throttle())
    for header, payload in ((bytes(65_537), []), (b"", [bytes(2**20), b"x"])):
        with pytest.raises(ValueError, match="cannot be sent"):
            await writer.send(header, payload)


async def test_frames_of_many_tasks_do_not_mix(autojump_clock: Clock) -> None:
    stream: Any = FakeStream()
    writer = FrameWriter(stream, Throttle(up_bytes_per_s=20_000))
    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(writer.send, bytes([number]) * 100, [bytes([number]) * 3000])
    frames = await read_all(FakeStream(b"".join(stream.sent)))
    assert sorted(frames) == [(bytes([number]) * 100, bytes([number]) * 3000) for number in range(10)]
