"""Tables as text: aligned for a terminal, or Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass, field

NOTHING = "–"


@dataclass
class Table:
    """`rows` are cells as text; an empty row parts two groups. The first `words` columns are words, others numbers."""

    title: str
    header: Sequence[str]
    rows: list[list[str]] = field(default_factory=list)
    notes: Sequence[str] = ()
    words: int = 1

    def plain(self) -> str:
        """For a terminal."""
        lines = [list(self.header), *self.rows]
        widths = [max(len(line[at]) for line in lines if line) for at in range(len(self.header))]
        body = [self._aligned(line, widths) for line in lines]
        return "\n".join([self.title, "", *body, *(["", *self.notes] if self.notes else [])])

    def markdown(self) -> str:
        """For a page."""
        dashes = ["---" if at < self.words else "---:" for at in range(len(self.header))]
        lines = [list(self.header), dashes, *(row for row in self.rows if row)]
        body = ["| " + " | ".join(line) + " |" for line in lines]
        notes = [text for note in self.notes for text in ("", note)]
        return "\n".join([f"### {self.title}", "", *body, *notes])

    def _aligned(self, line: list[str], widths: list[int]) -> str:
        cells = [
            cell.ljust(width) if at < self.words else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=False))
        ]
        return "  ".join(cells).rstrip()


def figure(value: float | None) -> str:
    """About three digits, without exponents: 0.0031, 0.32, 1.70, 67.8, 441."""
    if value is None:
        return NOTHING
    value = float(f"{value:.3g}")  # first, so that 99.96 becomes 100 and not 100.0
    for least, digits in ((100, 0), (10, 1), (1, 2), (0.1, 3)):
        if abs(value) >= least:
            return f"{value:.{digits}f}"
    return f"{value:.4f}" if value else "0"


def times(value: float | None) -> str:
    """How many times as fast: 6.2×."""
    return NOTHING if value is None else f"{figure(value)}×"


def size_name(size: int) -> str:
    """1 KiB, 100 MiB, 1 GiB."""
    for name, unit in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= unit:
            return f"{size / unit:.4g} {name}"
    return f"{size} B"
