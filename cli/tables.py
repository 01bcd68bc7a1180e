"""Plain text tables. Cells are made visible, so that a name cannot break the table or the terminal."""

import time
import unicodedata
from collections.abc import Sequence

from shoal.cli.output import visible

_GAP = "  "
_LATEST = 253_402_214_400  # 31 December 9999, 00:00 UTC: the same year in every time zone, and strftime's last


def fields(pairs: Sequence[tuple[str, str]]) -> str:
    """`name: value` lines, values aligned, empty ones left out."""
    shown = [(name, value) for name, value in pairs if value]
    width = max((len(name) for name, _ in shown), default=0) + 1
    return "\n".join(f"{name + ':':<{width}} {visible(value)}" for name, value in shown)


def columns(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A title line and one line per row, columns as wide as their widest cell."""
    lines = [[visible(cell) for cell in row] for row in (titles, *rows)]
    widths = [max(display_width(cell) for cell in column) for column in zip(*lines, strict=True)]
    return "\n".join(
        _GAP.join(cell + " " * (width - display_width(cell)) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def display_width(text: str) -> int:
    """Terminal cells that `text` takes: wide East Asian characters take two, combining marks none."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )


def shortened(text: str, width: int) -> str:
    """`text` as `visible` shows it, in at most `width` terminal cells; what is left out in its middle is a `…`."""
    shown = visible(text)
    if display_width(shown) <= width:
        return shown
    middle = len(shown) // 2
    head, tail = list(shown[:middle]), list(shown[middle:])
    while display_width("".join(head + tail)) > width - 1:
        if len(head) > len(tail):
            head.pop()
        else:
            tail.pop(0)
    return "".join([*head, "…", *tail])


def day(moment: float) -> str:
    """A moment (seconds since the epoch) as a local date and time to the minute."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(min(max(moment, 0), _LATEST)))
