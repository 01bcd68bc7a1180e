"""A progress line for people at a terminal, sparse JSON events for scripts, and nothing for a plain pipe.

The line is our own and not rich's: importing rich's costs as long as publishing a small file, and one line
that is redrawn in place needs no second thread.
"""

import os
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

from shoal.cli.output import Output, visible
from shoal.cli.units import format_clock, format_rate, format_size, plural

if TYPE_CHECKING:
    from shoal.node import Phase, Progress

REDRAW_S = 0.1  # ten times a second looks smooth and costs nothing
EVENT_S = 1.0  # JSON events: enough for any bar drawn from them
TICK_S = 0.5  # without news the rate must still fall and the line adapt to a resized window
RATE_WINDOW_S = 5.0  # the rate shown is the mean of this long: calm, and soon right after a change
RATE_SAMPLES = 64  # bound of the window; at ten draws a second it never holds more
FALLBACK_COLUMNS = 80
BAR_COLUMNS = (5, 30)  # narrowest worth drawing, widest worth having
FREE_COLUMNS = 3  # a full line would wrap, and then could not be erased; a Ctrl-C is shown as ^C behind it

_AFTER_BAR = 6  # parts from this rank on go before the bar does
_ERASE_LINE = "\r\x1b[K"
_ETA_MAX_S = 30 * 86_400  # beyond a month it is a guess not worth showing


class RateMeter:
    """Mean rate over the last few seconds. What was there at the first sample, resumed, does not count."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque(maxlen=RATE_SAMPLES)

    def add(self, now: float, done_bytes: int) -> None:
        """`done_bytes` bytes are done at `now` (seconds of any steady clock)."""
        while len(self._samples) > 1 and self._samples[0][0] < now - RATE_WINDOW_S:
            self._samples.popleft()
        if self._samples and done_bytes < self._samples[-1][1]:
            self._samples.clear()  # another phase counts from the start again
        if not self._samples or now - self._samples[-1][0] >= RATE_WINDOW_S / RATE_SAMPLES:
            self._samples.append((now, done_bytes))

    def rate(self, now: float) -> float:
        """Bytes per second, 0.0 while there is nothing to tell."""
        if len(self._samples) < 2:
            return 0.0
        (first_at, first_bytes), (_, last_bytes) = self._samples[0], self._samples[-1]
        return (last_bytes - first_bytes) / max(now - first_at, 0.001)


def describe(progress: "Progress", rate: float, columns: int) -> str:
    """One line of at most `columns` characters; the less important parts go first when little room."""
    done, total = progress.done_bytes, progress.total_bytes
    parts: list[tuple[int, str]] = [(0, progress.phase.value.capitalize())]
    if total:
        parts.append((1, f"{_percent(done, total)} %"))
    if done or total:
        parts.append((3, _amount(done, total)))
    if progress.total_files:
        parts.append((4, f"{progress.done_files or 0} of {plural(progress.total_files, 'file')}"))
    elif progress.done_files is not None:
        parts.append((4, plural(progress.done_files, "file")))
    if rate > 0:
        parts.append((2, format_rate(rate)))
    if rate > 0 and total and 0 <= (total - done) / rate < _ETA_MAX_S:
        parts.append((5, f"{format_clock((total - done) / rate)} left"))
    if progress.shares <= progress.wanted_shares > 0:  # a fetch may use more shares than it needs
        parts.append((6, f"shares {progress.shares}/{progress.wanted_shares}"))
    if progress.hosts:
        parts.append((7, f"hosts {progress.hosts}"))
    return _fit(parts, done / total if total else None, columns)


def _amount(done: int, total: int | None) -> str:
    """`28.8 of 64.0 MB`, `900 kB of 64.0 MB`, `28.8 MB`."""
    if not total:
        return format_size(done)
    (number, unit), whole = format_size(done).split(" "), format_size(total)
    return f"{number if whole.endswith(f' {unit}') else f'{number} {unit}'} of {whole}"


def _percent(done: int, total: int) -> int:
    return min(100, 100 * done // total)


def _fit(parts: list[tuple[int, str]], fraction: float | None, columns: int) -> str:
    kept = list(parts)
    bar = 0 if fraction is None else BAR_COLUMNS[0] + 4
    while max(kept)[0] >= _AFTER_BAR and _width(kept) + bar > columns:
        kept.remove(max(kept))
    while len(kept) > 1 and _width(kept) > columns:
        kept.remove(max(kept))
    room = columns - _width(kept) - 4  # two spaces and two brackets
    texts = [text for _, text in kept]
    if fraction is not None and room >= BAR_COLUMNS[0]:
        texts.insert(1, _bar(fraction, min(room, BAR_COLUMNS[1])))
    return "  ".join(texts)[: max(columns, 0)]


def _width(parts: list[tuple[int, str]]) -> int:
    return sum(len(text) + 2 for _, text in parts) - 2


def _bar(fraction: float, columns: int) -> str:
    filled = max(0, min(columns, int(fraction * columns)))
    return f"[{'#' * filled}{'-' * (columns - filled)}]"


class ProgressDisplay:
    """Takes every progress call of an operation and shows a bounded number of them; it returns at once."""

    def __init__(self, output: Output, *, drawn: bool = True, clock: Callable[[], float] = time.monotonic) -> None:
        self.drawn = drawn and output.redrawable
        self._output = output
        self._clock = clock
        self._meter = RateMeter()  # of one phase: what another has done says nothing of the rate of this one
        self._metered: Phase | None = None
        self._latest: Progress | None = None
        self._shown_at = float("-inf")
        self._shown_phase = ""
        self._told_phase = ""
        self._started_at = clock()
        self._on_screen = False

    def __call__(self, progress: "Progress", /) -> None:
        now = self._clock()
        self._latest = progress
        if progress.phase is not self._metered:
            self._meter, self._metered = RateMeter(), progress.phase
        self._meter.add(now, progress.done_bytes)
        if self._output.verbose and progress.phase.value != self._told_phase:
            self._told_phase = progress.phase.value
            self._output.detail(f"{now - self._started_at:6.2f} s  {self._told_phase}")
        if self.drawn and now - self._shown_at >= REDRAW_S:
            self._draw(progress, now)
        elif self._output.json and (progress.phase.value != self._shown_phase or now - self._shown_at >= EVENT_S):
            self._emit(progress, now)

    def tick(self) -> None:
        """Redraw although nothing happened: the rate falls, the window may have another width."""
        if self._latest is not None:
            self(self._latest)

    def clear(self) -> None:
        """Take the line away, so that something else can be written there."""
        if self._on_screen:
            self._on_screen = False
            self._output.draw(_ERASE_LINE)

    def _draw(self, progress: "Progress", now: float) -> None:
        self._shown_at = now
        line = describe(progress, self._meter.rate(now), _columns(self._output) - FREE_COLUMNS)
        self._on_screen = self._output.draw(_ERASE_LINE + visible(line)) or self._on_screen

    def _emit(self, progress: "Progress", now: float) -> None:
        self._shown_at = now
        self._shown_phase = progress.phase.value
        files: dict[str, int | None] = {}
        if progress.done_files is not None:
            files = {"done_files": progress.done_files, "total_files": progress.total_files}
        self._output.status(
            phase=progress.phase.value,
            done_bytes=progress.done_bytes,
            total_bytes=progress.total_bytes,
            bytes_per_s=round(self._meter.rate(now)),
            shares=progress.shares,
            wanted_shares=progress.wanted_shares,
            hosts=progress.hosts,
            **files,
        )


def _columns(output: Output) -> int:
    try:
        columns = os.get_terminal_size(output.stderr.fileno()).columns
    except (OSError, ValueError):
        columns = 0
    return columns or FALLBACK_COLUMNS


@contextmanager
def _attached(output: Output, *, drawn: bool) -> Iterator[ProgressDisplay]:
    display = ProgressDisplay(output, drawn=drawn)
    earlier, output.before_note = output.before_note, display.clear
    try:
        yield display
    finally:
        display.clear()
        output.before_note = earlier


@asynccontextmanager
async def open_progress(output: Output, *, drawn: bool = True) -> AsyncIterator[ProgressDisplay]:
    """A display for one operation: hand it over as `on_progress`. The line is gone when the block ends.

    Not `drawn`: nothing is redrawn in place, for instance because a person types on that terminal.
    """
    import trio

    async def tick(display: ProgressDisplay) -> None:
        while True:
            await trio.sleep(TICK_S)
            display.tick()

    with _attached(output, drawn=drawn) as display:
        if not display.drawn:
            yield display
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tick, display)
            yield display
            nursery.cancel_scope.cancel()
