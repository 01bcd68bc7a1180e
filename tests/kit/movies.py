"""A small film without pictures: an MP4 file whose index (`moov`) stands at its end, and a player of it.

The sound is plain PCM, so that every second of it is known bytes of the file. ffmpeg plays it, too.
"""

import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random

RATE, FRAME_BYTES = 44_100, 4  # 16 bits, two channels
CHUNK_FRAMES = RATE // 2
HEADER_BYTES = 8  # of a box: its length and its type
_MATRIX = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)

ReadAt = Callable[[int, int], Awaitable[bytes]]


@dataclass(frozen=True)
class Movie:
    """The file, and the sound in it."""

    data: bytes
    sound: bytes

    def second(self, number: int) -> bytes:
        """One second of sound."""
        return self.sound[number * RATE * FRAME_BYTES :][: RATE * FRAME_BYTES]


def movie(seconds: int, rng: Random) -> Movie:
    """A film of noise. Its index comes last, as programs write it that do not know how long the film gets."""
    sound = rng.randbytes(seconds * RATE * FRAME_BYTES)
    start = _box(b"ftyp", b"isom", struct.pack(">I", 0x200), b"isomiso2mp41")
    first = len(start) + HEADER_BYTES
    offsets = range(first, first + len(sound), CHUNK_FRAMES * FRAME_BYTES)
    return Movie(start + _box(b"mdat", sound) + _index(seconds * RATE, offsets), sound)


def _box(kind: bytes, *parts: bytes) -> bytes:
    content = b"".join(parts)
    return struct.pack(">I4s", HEADER_BYTES + len(content), kind) + content


def _full(kind: bytes, *parts: bytes, flags: int = 0) -> bytes:
    return _box(kind, struct.pack(">I", flags), *parts)


def _index(frames: int, offsets: range) -> bytes:
    times = struct.pack(">4I", 0, 0, RATE, frames)  # made, changed, ticks per second, ticks
    sound = struct.pack(">6xH8x4HI", 1, 2, 16, 0, 0, RATE << 16)
    tables = _box(
        b"stbl",
        _full(b"stsd", struct.pack(">I", 1), _box(b"sowt", sound)),
        _full(b"stts", struct.pack(">3I", 1, frames, 1)),
        _full(b"stsc", struct.pack(">4I", 1, 1, CHUNK_FRAMES, 1)),
        _full(b"stsz", struct.pack(">2I", FRAME_BYTES, frames)),
        _full(b"stco", struct.pack(f">I{len(offsets)}I", len(offsets), *offsets)),
    )
    references = _box(b"dinf", _full(b"dref", struct.pack(">I", 1), _full(b"url ", flags=1)))
    media = _box(
        b"mdia",
        _full(b"mdhd", times, struct.pack(">2H", 0x55C4, 0)),
        _full(b"hdlr", struct.pack(">4s4s12x", b"", b"soun"), b"sound\0"),
        _box(b"minf", _full(b"smhd", bytes(4)), references, tables),
    )
    track = _full(b"tkhd", struct.pack(">5I8x2H2H", 0, 0, 1, 0, frames, 0, 0, 0x100, 0), _MATRIX, bytes(8), flags=7)
    film = _full(b"mvhd", times, struct.pack(">IH10x", 0x10000, 0x100), _MATRIX, bytes(24), struct.pack(">I", 2))
    return _box(b"moov", film, _box(b"trak", track, media))


async def play_second(read_at: ReadAt, size: int, number: int) -> bytes:
    """One second of sound, found as players do: over the boxes to the index, and then to the place that it names."""
    position, index = 0, b""
    while position < size and not index:
        length, kind = struct.unpack(">I4s", await read_at(position, HEADER_BYTES))
        if kind == b"moov":
            index = await read_at(position, length)
        position += length
    at = index.index(b"stco") + 8
    (count,) = struct.unpack_from(">I", index, at)
    offsets = struct.unpack_from(f">{count}I", index, at + 4)
    return b"".join([await read_at(offset, CHUNK_FRAMES * FRAME_BYTES) for offset in offsets[2 * number :][:2]])
