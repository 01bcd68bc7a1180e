"""What the benchmarks print with and count with: percentiles, plain tables, the machine, what processes use (Linux)."""

import math
import os
import platform
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

KIB, MIB = 2**10, 2**20
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
RESET_PEAK = "5"  # written to clear_refs: the peak counts from here on, see proc(5)

Cell = str | int | float


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that so many per cent of all do not exceed (nearest rank). ValueError without any."""
    if not values or not 0 <= percent <= 100:
        raise ValueError("a percentile takes at least one value, and 0 to 100 per cent")
    rank = math.ceil(len(values) * percent / 100)
    return sorted(values)[max(rank, 1) - 1]


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float | None:
    """x of values ~ sizes^x from the first to the last: 0 is none, 1 in proportion. None where it has no meaning."""
    if len(sizes) < 2 or sizes[0] == sizes[-1] or min(sizes[0], sizes[-1], values[0], values[-1]) <= 0:
        return None
    return math.log(values[-1] / values[0]) / math.log(sizes[-1] / sizes[0])


def short(value: Cell) -> str:
    """A figure as people read it: three digits or more of it, no more behind the point than that needs."""
    if isinstance(value, str):
        return value
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:.{digits}f}"


def table(head: Sequence[str], rows: Sequence[Sequence[Cell]]) -> list[str]:
    """Aligned lines, the first column to the left and all others to the right. Every row is as long as the head."""
    cells = [list(head), *([short(cell) for cell in row] for row in rows)]
    if any(len(row) != len(head) for row in cells):
        raise ValueError("every row has as many cells as the head")
    widths = [max(len(row[at]) for row in cells) for at in range(len(head))]
    return [_line(row, widths) for row in cells]


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = (
        cell.rjust(width) if at else cell.ljust(width)
        for at, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    return "  ".join([first, *others]).rstrip()


def growth_row(sizes: Sequence[float], rows: Sequence[Sequence[Cell]]) -> list[Cell]:
    """A last row for a table whose rows are sizes: how each column grows from the first row to the last."""
    cells: list[Cell] = ["~ size^"]
    for column in list(zip(*rows, strict=True))[1:]:
        numbers = [float(cell) for cell in column if not isinstance(cell, str)]
        found = exponent(sizes, numbers) if len(numbers) == len(sizes) else None
        cells.append("" if found is None else f"{found:.2f}")
    return cells


# --- the machine and its processes


def machine() -> str:
    """One line on what this runs on, and on how busy it is."""
    model = platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as lines:
            model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    system = f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    return f"{model}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {system}"


def heading() -> str:
    """The machine, and the command that is being run."""
    return f"{machine()}\n$ python {shlex.join([os.path.relpath(sys.argv[0]), *sys.argv[1:]])}"


def cpu_s(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def memory_mib(pid: int, *, peak: bool = False) -> float:
    """What a process has in memory now, or at most since its start or `reset_peak`."""
    name = "VmHWM:" if peak else "VmRSS:"
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def reset_peak(pid: int) -> None:
    """Let the peak of a process of ours begin anew."""
    Path(f"/proc/{pid}/clear_refs").write_text(RESET_PEAK)


def wake_ups(pid: int) -> int:
    """How often the threads of a process have gone to sleep by themselves, which is as often as they woke up."""
    tasks = Path(f"/proc/{pid}/task").glob("*/status")
    return sum(
        int(line.split()[1])
        for status in tasks
        for line in status.read_text().splitlines()
        if line.startswith("voluntary_ctxt_switches")
    )


def folder_bytes(folder: Path) -> int:
    """What all files below a folder take of the disk."""
    return sum(each.stat().st_blocks * 512 for each in folder.rglob("*") if each.is_file())
