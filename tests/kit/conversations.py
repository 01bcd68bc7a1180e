"""Conversations that break the rules, as scripts: what a hostile peer sends, how a lying server bends its answers."""

import random
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import trio
from hypothesis import strategies as st

from shoal.erasure import BLOCK_BYTES, FileId
from shoal.node.channel import (
    Abort,
    Announce,
    AnyRequest,
    Buffer,
    ByteStream,
    Commit,
    Delete,
    GetHeld,
    GetHolders,
    GetManifest,
    GetRelayed,
    GetStatus,
    Identify,
    Offer,
    PeerError,
    Read,
    Renew,
    Reserve,
    Ring,
    Stop,
    Survey,
    TellHolders,
    Write,
)
from shoal.node.channel.hello import client_hello
from shoal.node.channel.messages import REPLY_BIT, encode_hello, encode_request

SIZE_BYTES = 8  # of both lengths before a frame
ACTS = ("whole", "flipped", "cut", "too long", "said again", "as a reply", "mistyped", "in pieces")
LIES = ("honest", "flipped", "dropped", "twice", "cut off", "late", "noise before", "held back", "endless")
PAUSES_S = (0.0, 0.0, 0.0, 0.5, 12.0, 70.0)


@dataclass(frozen=True)
class Step:
    """One thing that a hostile caller does: a request, what is wrong with its bytes, and a pause after it."""

    request: int
    payload: int
    act: str
    pause_s: float
    reads: bool
    seed: int


steps = st.builds(
    Step,
    request=st.integers(0, 40),
    payload=st.integers(0, 5),
    act=st.sampled_from(ACTS),
    pause_s=st.sampled_from(PAUSES_S),
    reads=st.booleans(),
    seed=st.integers(0, 2**16),
)
scripts = st.lists(st.tuples(st.booleans(), st.lists(steps, min_size=1, max_size=12)), min_size=1, max_size=3)
lies = st.lists(st.tuples(st.sampled_from(LIES), st.integers(0, 2**16)), min_size=1, max_size=12)


def framed(header: bytes, payload: bytes = b"") -> bytes:
    """A frame."""
    return struct.pack(">II", len(header), len(payload)) + header + payload


def requests(file_id: FileId, upload_id: bytes) -> list[AnyRequest]:
    """One of each type, about a file that is kept and an upload that may be open, and one about others."""
    found: list[AnyRequest] = []
    for each, upload in ((file_id, upload_id), (FileId(bytes(32)), bytes(16))):
        found += [GetHeld(each), GetManifest(each), GetHolders(each), TellHolders(each), Announce(each, False)]
        found += [Read(each, 0, 0, 1, True), Read(each, 255, 2**40 - 1, 16, False), Renew(each, 2**31)]
        found += [Survey(each * 3, True), Delete(each, 1, bytes(64)), GetStatus(), Stop(), Abort(upload)]
        found += [Offer(upload, 3 * BLOCK_BYTES, 3600, b""), Offer(upload, 2**60, 2**40, bytes(512))]
        found += [Write(upload, 0, bytes(32), True), Write(upload, 7, bytes(64), False), Commit(upload, 1, 3600)]
        found += [Reserve(15, 1), Ring(bytes(32)), GetRelayed()]
        found += [Identify("peer", bytes(32), bytes(8), bytes(64)), Identify("admin", bytes(32), bytes(8), bytes(64))]
    return found


class HostileCaller:
    """Holds one conversation by a script. What the server answers makes no difference to it."""

    def __init__(self, stream: ByteStream, file_id: FileId, manifest: bytes) -> None:
        self._stream = stream
        self._requests = requests(file_id, b"\1" * 16)
        self._payloads = [b"", manifest, bytes(BLOCK_BYTES), bytes(70_000), b"\x91\xc4\x03abc", b"\xdd\xff\xff\xff\xff"]
        self._last = b""

    async def run(self, *, says_hello: bool, script: Sequence[Step]) -> None:
        """Until the script or the connection ends."""
        try:
            if says_hello:
                await self._stream.send(framed(encode_hello(client_hello())))
            for number, step in enumerate(script):
                await self._act(number, step)
                if step.reads:
                    await self._read()
                await trio.sleep(step.pause_s)
        except PeerError:
            return  # the server has ended it

    async def _act(self, number: int, step: Step) -> None:
        request = self._requests[step.request % len(self._requests)]
        payload = self._payloads[step.payload]
        rng = random.Random(step.seed)
        header = encode_request(number, request)
        if step.act == "as a reply":
            header = bytes([header[0], 0xCC, REPLY_BIT | request.TYPE]) + header[2:]
        elif step.act == "mistyped":
            header = encode_request(number, rng.choice(self._requests))[:2] + header[2:]
        whole = framed(header, payload)
        if step.act == "said again":
            whole = self._last or whole * 2
        elif step.act == "flipped":
            whole = flipped(whole, rng)
        elif step.act == "cut":
            whole = whole[: rng.randrange(1, len(whole))]
        elif step.act == "too long":
            whole = struct.pack(">II", rng.choice([0, 65_537, 2**31]), rng.choice([2**20 + 1, 2**32 - 1])) + header
        self._last = whole
        if step.act == "in pieces":
            for at in range(0, len(whole), 30_000):
                await self._stream.send(whole[at : at + 30_000])
                await trio.sleep(0.1)
        else:
            await self._stream.send(whole)

    async def _read(self) -> None:
        view = memoryview(bytearray(65_536))
        with trio.move_on_after(0.3):
            while await self._stream.receive_into(view):
                pass


def flipped(data: bytes, rng: random.Random) -> bytes:
    """The same with up to three bits turned, near the beginning more often."""
    turned = bytearray(data)
    for _ in range(rng.randrange(1, 4)):
        at = min(rng.randrange(len(turned)), rng.randrange(len(turned)))
        turned[at] ^= 1 << rng.randrange(8)
    return bytes(turned)


class LyingStream:
    """A server's end of a connection that bends what is sent, frame by frame, by a list of lies."""

    def __init__(self, stream: Any, told: Sequence[tuple[str, int]]) -> None:
        self._stream = stream
        self._told = list(told)
        self._held = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    async def send(self, *buffers: Buffer) -> None:
        """Send, or not quite."""
        whole = b"".join(bytes(buffer) for buffer in buffers)
        lie, seed = self._told.pop(0) if self._told else ("honest", 0)
        self._told.append((lie, seed))
        rng = random.Random(seed)
        held, self._held = self._held, b""
        match lie:
            case "flipped":
                await self._stream.send(flipped(whole, rng))
            case "dropped":
                pass
            case "twice":
                await self._stream.send(whole, whole)
            case "cut off":
                await self._stream.send(whole[: rng.randrange(len(whole))])
                self._stream.abort()
            case "late":
                await trio.sleep(rng.choice([1.0, 20.0, 100.0]))
                await self._stream.send(whole)
            case "noise before":
                await self._stream.send(rng.randbytes(rng.randrange(1, 100)), whole)
            case "held back":
                self._held = whole
            case "endless":
                await self._stream.send(struct.pack(">II", 60_000, 2**20), bytes(100))
            case _:
                await self._stream.send(whole)
        if held:
            await self._stream.send(held)
