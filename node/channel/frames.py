"""Frames on a stream: header length (u32) ‖ payload length (u32) ‖ header ‖ payload, integers big-endian.

Lengths are checked before anything is allocated. A payload is decrypted straight into the one buffer it is
handed out in, and a frame is sent as a list of buffers: blocks are never joined.
"""

import struct
from collections.abc import Sequence
from typing import NamedTuple

import trio

from shoal.erasure import payload_memory
from shoal.node.channel.errors import Disconnected, MalformedMessage
from shoal.node.channel.limits import Patience, Throttle, acquire
from shoal.node.channel.messages import MAX_PAYLOAD_BYTES
from shoal.node.channel.streams import Buffer, ByteStream
from shoal.node.channel.wire import MAX_HEADER_BYTES

RECYCLED_LEAST_BYTES = 64 * 1024  # of payload: from here on fresh memory would cost more than the reading
_LENGTHS = struct.Struct(">II")
_SCRATCH_BYTES = 2_048  # holds any usual header whole; what it reads of a payload by accident is copied once more


class FrameHead(NamedTuple):
    """The beginning of a frame; `payload_bytes` bytes of payload are still to be read or skipped."""

    header: bytes
    payload_bytes: int


class FrameReader:
    """Reads frames from a stream: `wait`, then `read_head`, then `read_payload` or `skip_payload`, and again.

    For one task. After any error the position in the stream is lost and the connection must be closed.
    """

    def __init__(self, stream: ByteStream, throttle: Throttle) -> None:
        self._stream = stream
        self._throttle = throttle
        self._scratch = memoryview(bytearray(_SCRATCH_BYTES))
        self._unread = self._scratch[:0]  # what of the scratch buffer is still to be used
        self._patience = Patience()
        self._payload_left = 0

    async def wait(self) -> bool:
        """Wait for the first byte of the next frame; False when the stream ended instead. May be
        cancelled."""
        if not self._unread:
            count = await self._stream.receive_into(self._scratch)
            self._unread = self._scratch[:count]
            await self._throttle.wait_after_receiving(count)
        return bool(self._unread)

    async def read_head(self) -> FrameHead:
        """Read up to the end of the header. Raises MalformedMessage, Disconnected or TimedOut."""
        header_bytes, payload_bytes = _LENGTHS.unpack(await self._read(_LENGTHS.size))
        if header_bytes > MAX_HEADER_BYTES or payload_bytes > MAX_PAYLOAD_BYTES:
            raise MalformedMessage(f"a frame of {header_bytes} and {payload_bytes} bytes")
        header = await self._read(header_bytes)
        self._payload_left = payload_bytes
        return FrameHead(header, payload_bytes)

    async def read_payload(self) -> Buffer:
        """Read the payload of the frame whose head was just read."""
        if not self._payload_left:
            return b""
        is_long = self._payload_left >= RECYCLED_LEAST_BYTES
        payload = payload_memory.view(self._payload_left) if is_long else memoryview(bytearray(self._payload_left))
        await self._fill(payload)
        self._payload_left = 0
        return payload

    async def skip_payload(self) -> None:
        """Read the payload and forget it, in no more memory than there is already."""
        while self._payload_left:
            piece = self._scratch[: min(self._payload_left, _SCRATCH_BYTES)]
            if self._unread:
                piece = self._unread[: len(piece)]
                self._unread = self._unread[len(piece) :]
                self._payload_left -= len(piece)
            else:
                self._payload_left -= await self._receive(piece)

    async def _read(self, count: int) -> bytes:
        """A few bytes. Most often they have come together with the first one."""
        if len(self._unread) >= count:
            few = bytes(self._unread[:count])
            self._unread = self._unread[count:]
            return few
        buffer = bytearray(count)
        await self._fill(memoryview(buffer))
        return bytes(buffer)

    async def _fill(self, view: memoryview) -> None:
        filled = self._use_unread(view)
        while filled < len(view):
            rest = view[filled:]
            if len(rest) >= _SCRATCH_BYTES:
                filled += await self._receive(rest)
            else:
                self._unread = self._scratch[: await self._receive(self._scratch)]
                filled += self._use_unread(rest)

    def _use_unread(self, view: memoryview) -> int:
        count = min(len(view), len(self._unread))
        view[:count] = self._unread[:count]
        self._unread = self._unread[count:]
        return count

    async def _receive(self, view: memoryview) -> int:
        piece = view[: self._throttle.down.slice_bytes]
        count = await self._patience.wait(lambda: self._stream.receive_into(piece), self._stream.received_bytes)
        if not count:
            raise Disconnected("the connection ended in the middle of a frame")
        await self._throttle.wait_after_receiving(count)
        return count


class FrameWriter:
    """Writes whole frames to a stream, one after the other, for any number of tasks.

    A task that is cancelled while it waits for its turn has sent nothing. One that is cancelled, or finds the
    peer too slow, in the middle of its frame closes the stream: half a frame cannot be taken back.
    """

    def __init__(self, stream: ByteStream, throttle: Throttle) -> None:
        self._stream = stream
        self._throttle = throttle
        self._turn = trio.Lock()

    async def send(self, header: bytes, payload: Sequence[Buffer] = ()) -> None:
        """Send one frame. Raises Disconnected or TimedOut; ValueError when it is larger than a frame may
        be."""
        payload_bytes = sum(map(len, payload))
        if len(header) > MAX_HEADER_BYTES or payload_bytes > MAX_PAYLOAD_BYTES:
            raise ValueError(f"a frame of {len(header)} and {payload_bytes} bytes cannot be sent")
        beginning = _LENGTHS.pack(len(header), payload_bytes) + header
        await acquire(self._turn)
        try:
            await self._send([beginning, *payload], len(beginning) + payload_bytes)
        except BaseException:  # whatever it was, cancellation too: the frame is not whole
            self._stream.abort()
            raise
        finally:
            self._turn.release()

    async def _send(self, buffers: list[Buffer], count: int) -> None:
        slice_bytes = self._throttle.up.slice_bytes
        if count <= slice_bytes:
            await self._throttle.wait_to_send(count)
            await self._stream.send(*buffers)
            return
        for buffer in buffers:
            view = memoryview(buffer)
            for start in range(0, len(view), slice_bytes):
                piece = view[start : start + slice_bytes]
                await self._throttle.wait_to_send(len(piece))
                await self._stream.send(piece)
