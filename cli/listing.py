"""What is in a folder, line by line: for people, or as JSON."""

import os
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from shoal.cli.output import encode, visible
from shoal.cli.units import format_size

if TYPE_CHECKING:
    from shoal.node import Entry

KINDS = ("file", "directory", "symlink")  # in JSON, by the number of the kind
UNTOLD_NS = -(2**63)  # the time of a file that was published alone: its link does not tell it
_MARKS = ("-", "d", "l")
_SIZE_COLUMNS = 7  # `64.0 MB`
_NS = 10**9


def entry_fields(entry: "Entry") -> dict[str, object]:
    """One entry in JSON. `size` is of files alone, `target` of symbolic links."""
    return {
        "message_type": "entry",
        "path": os.fsdecode(entry.path),
        "kind": KINDS[entry.kind],
        "size": entry.size if entry.kind == 0 else None,
        "mtime": None if entry.mtime_ns == UNTOLD_NS else entry.mtime_ns / _NS,
        "mtime_ns": None if entry.mtime_ns == UNTOLD_NS else entry.mtime_ns,
        "executable": entry.executable,
        "target": os.fsdecode(entry.target) if entry.target else None,
    }


def json_lines(entries: Iterable["Entry"]) -> str:
    """Entries as JSON, each on a line."""
    return "".join(f"{encode(entry_fields(entry))}\n" for entry in entries)


def lines(entries: Iterable["Entry"], *, long: bool) -> str:
    """Entries for people, each on a line; `long` with kind, size, time, and where a link leads."""
    return "".join(f"{_line(entry, long)}\n" for entry in entries)


def _line(entry: "Entry", long: bool) -> str:
    name = visible(os.fsdecode(entry.path)) + ("/" if entry.kind == 1 else "")
    if not long:
        return name
    size = format_size(entry.size) if entry.kind == 0 else ""
    target = f" -> {visible(os.fsdecode(entry.target))}" if entry.target else ""
    mark = "x" if entry.executable else _MARKS[entry.kind]
    return f"{mark}  {size:>{_SIZE_COLUMNS}}  {_minute(entry.mtime_ns)}  {name}{target}"


def _minute(mtime_ns: int) -> str:
    if mtime_ns == UNTOLD_NS:
        return " " * len("2026-11-29 12:00")
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(mtime_ns // _NS))  # of the years 1677 to 2262
