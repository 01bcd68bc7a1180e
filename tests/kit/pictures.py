"""Small PNG files out of those that a browser makes: at most 256 colours, one byte for each dot."""

import struct
import zlib
from collections import Counter

SIGNATURE = b"\x89PNG\r\n\x1a\n"
COLOURS = 256
KEPT_BITS = 0xF8  # of each of red, green and blue: no eye misses the others


def smaller(picture: bytes) -> bytes:
    """The same picture in fewer bytes. It takes what Chromium makes: 8 bits a channel, with or without alpha."""
    width, height, channels, rows = _read(picture)
    dots = [bytes(row[at : at + 3]) for row in rows for at in range(0, width * channels, channels)]
    stands_for: dict[bytes, bytes] = {}  # the most frequent of all that are as good as the same
    shown: Counter[bytes] = Counter()
    for colour, count in Counter(dots).most_common():
        shown[stands_for.setdefault(_coarse(colour), colour)] += count
    palette = [colour for colour, _ in shown.most_common(COLOURS)]
    number = {colour: at for at, colour in enumerate(palette)}
    for colour in stands_for.values():
        if colour not in number:
            number[colour] = min(range(len(palette)), key=lambda at: _apart(palette[at], colour))
    pixels = bytes(number[stands_for[_coarse(dot)]] for dot in dots)
    lines = (pixels[at : at + width] for at in range(0, len(pixels), width))
    return SIGNATURE + b"".join(
        (
            _chunk(b"IHDR", struct.pack(">2I5B", width, height, 8, 3, 0, 0, 0)),
            _chunk(b"PLTE", b"".join(palette)),
            _chunk(b"IDAT", zlib.compress(b"".join(b"\0" + line for line in lines), 9)),
            _chunk(b"IEND", b""),
        )
    )


def _coarse(colour: bytes) -> bytes:
    return bytes(value & KEPT_BITS for value in colour)


def _apart(one: bytes, other: bytes) -> int:
    return sum((a - b) ** 2 for a, b in zip(one, other, strict=True))


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _read(picture: bytes) -> tuple[int, int, int, list[bytearray]]:
    """Width, height, bytes of a dot, and the rows without their filters."""
    assert picture.startswith(SIGNATURE)
    at, packed, width, height, channels = len(SIGNATURE), b"", 0, 0, 0
    while at < len(picture):
        length, kind = struct.unpack_from(">I4s", picture, at)
        content = picture[at + 8 : at + 8 + length]
        at += length + 12
        if kind == b"IHDR":
            width, height, bits, colour = struct.unpack_from(">2I2B", content)
            assert (bits, colour) in ((8, 2), (8, 6))
            channels = 3 if colour == 2 else 4
        elif kind == b"IDAT":
            packed += content
    raw, stride = zlib.decompress(packed), width * channels
    rows: list[bytearray] = []
    above = bytearray(stride)
    for start in range(0, height * (stride + 1), stride + 1):
        above = _unfiltered(raw[start], bytearray(raw[start + 1 : start + 1 + stride]), above, channels)
        rows.append(above)
    return width, height, channels, rows


def _unfiltered(kind: int, row: bytearray, above: bytearray, step: int) -> bytearray:
    """A row as it was before one of PNG's five filters."""
    if kind == 0:
        return row
    for at in range(len(row)):
        left = row[at - step] if at >= step else 0
        corner = above[at - step] if at >= step else 0
        guess = (0, left, above[at], (left + above[at]) // 2, _paeth(left, above[at], corner))[kind]
        row[at] = (row[at] + guess) & 0xFF
    return row


def _paeth(left: int, up: int, corner: int) -> int:
    return min((left, up, corner), key=lambda value: abs(left + up - corner - value))
