"""A picture of a study as a PNG, drawn without any library: two lines and what they must not cross.

Blue is the mean over all files of the good shares that are up, dark red the file that has fewest; grey lines stand at
n and at the number where repair begins, a red one at k. The x axis is days, the y axis shares.
"""

import struct
import zlib
from collections.abc import Sequence
from itertools import pairwise

from shoal.node.care.health import repair_at
from shoal.simulation.report import Report

WIDTH, HEIGHT = 960, 480
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 16, 40
TICKS = 6
GLYPH_SCALE = 2

Color = tuple[int, int, int]
WHITE, BLACK, GREY, PALE = (255, 255, 255), (40, 40, 40), (150, 150, 150), (230, 230, 230)
BLUE, DARK_RED, RED = (31, 119, 180), (140, 30, 30), (230, 60, 60)

DIGITS = {  # 3 columns, 5 rows, one octal digit a row
    "0": 0o75557,
    "1": 0o26227,
    "2": 0o71747,
    "3": 0o71717,
    "4": 0o55711,
    "5": 0o74717,
    "6": 0o74757,
    "7": 0o71111,
    "8": 0o75757,
    "9": 0o75717,
}


class Canvas:
    """Pixels, from the top left."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._pixels = bytearray(bytes(WHITE) * (width * height))

    def dot(self, x: int, y: int, color: Color) -> None:
        """One pixel; nothing outside."""
        if 0 <= x < self.width and 0 <= y < self.height:
            at = 3 * (y * self.width + x)
            self._pixels[at : at + 3] = bytes(color)

    def line(self, start: tuple[float, float], end: tuple[float, float], color: Color, thick: int = 1) -> None:
        """A straight line."""
        (x0, y0), (x1, y1) = start, end
        steps = max(1, round(max(abs(x1 - x0), abs(y1 - y0))))
        for step in range(steps + 1):
            x, y = x0 + (x1 - x0) * step / steps, y0 + (y1 - y0) * step / steps
            for more in range(thick):
                self.dot(round(x), round(y) + more, color)

    def number(self, x: int, y: int, value: int, color: Color = BLACK) -> None:
        """Digits, the last of which ends at x."""
        text = str(value)
        left = x - len(text) * 4 * GLYPH_SCALE
        for place, digit in enumerate(text):
            for bit in range(15):
                if DIGITS[digit] >> (14 - bit) & 1:
                    self._block(left + (place * 4 + bit % 3) * GLYPH_SCALE, y + bit // 3 * GLYPH_SCALE, color)

    def _block(self, x: int, y: int, color: Color) -> None:
        for step in range(GLYPH_SCALE * GLYPH_SCALE):
            self.dot(x + step % GLYPH_SCALE, y + step // GLYPH_SCALE, color)

    def png(self) -> bytes:
        """The picture in the format of the PNG specification (W3C, 2003): 8 bits a channel, no interlacing."""
        row_bytes = 3 * self.width
        rows = b"".join(b"\0" + self._pixels[at : at + row_bytes] for at in range(0, len(self._pixels), row_bytes))
        header = struct.pack(">IIBBBBB", self.width, self.height, 8, 2, 0, 0, 0)
        chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
        return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def plot(report: Report) -> bytes:
    """The picture of one study."""
    canvas = Canvas(WIDTH, HEIGHT)
    days, most = max(report.plan.days, 1.0), max(report.n, 1)

    def place(day: float, shares: float) -> tuple[float, float]:
        return (
            LEFT + day / days * (WIDTH - LEFT - RIGHT),
            HEIGHT - BOTTOM - shares / most * (HEIGHT - TOP - BOTTOM),
        )

    def level(shares: float, color: Color) -> None:
        canvas.line(place(0, shares), place(days, shares), color)

    for day in range(0, int(days) + 1, max(1, round(days / TICKS))):
        x, y = place(day, 0)
        canvas.line((x, y), place(day, most), PALE)
        canvas.number(round(x) + 12, round(y) + 12, day)
    for shares in sorted({0, report.k, repair_at(report.k, report.n) if report.n else 0, report.n}):
        level(shares, RED if shares == report.k else GREY)
        canvas.number(LEFT - 8, round(place(0, shares)[1]) - 5, shares)
    _curve(canvas, [place(each.day, each.mean) for each in report.samples], BLUE)
    _curve(canvas, [place(each.day, each.least) for each in report.samples], DARK_RED)
    return canvas.png()


def _curve(canvas: Canvas, points: Sequence[tuple[float, float]], color: Color) -> None:
    for start, end in pairwise(points):
        canvas.line(start, end, color, thick=2)
