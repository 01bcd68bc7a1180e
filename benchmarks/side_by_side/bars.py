"""The bars that the project has set itself, against Tahoe-LAFS and the limit in the same run."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .results import (
    CLIENT,
    COMMAND,
    FETCH,
    FETCH_LOST,
    FOOLSCAP,
    PUBLISH,
    SHOAL,
    SHOAL_ZFEC,
    TAHOE,
    TORRENT,
    Results,
    Row,
)

SMALL = 1024  # bytes of the file that latency is measured with


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar. `reached` is None where a side of it was not measured."""

    what: str
    least: float | None
    most: float | None
    reached: float | None

    @property
    def wanted(self) -> str:
        """The bar itself."""
        return f"≥ {self.least:g}" if self.least is not None else f"≤ {self.most:g}"

    @property
    def is_met(self) -> bool | None:
        """None where nobody knows."""
        if self.reached is None:
            return None
        return self.reached >= self.least if self.least is not None else self.reached <= (self.most or 0.0)


def at_least(what: str, bar: float, reached: float | None) -> Bar:
    """More is better."""
    return Bar(what, bar, None, reached)


def at_most(what: str, bar: float, reached: float | None) -> Bar:
    """Less is better."""
    return Bar(what, None, bar, reached)


def bars(results: Results, of_limit: Callable[[Row], float | None]) -> Iterator[Bar]:
    """All bars that this benchmark can judge; `of_limit` gives the part of the limit that a row reaches."""
    yield from speed_bars(results, of_limit)
    yield from cost_bars(results)
    yield from small_bars(results)
    yield from memory_bars(results)


def speed_bars(results: Results, of_limit: Callable[[Row], float | None]) -> Iterator[Bar]:
    """With the largest file that both sides have."""

    def part(operation: str) -> float | None:
        row = results.find(SHOAL, operation)
        return None if row is None else of_limit(row)

    def faster(system: str, operation: str, other: str) -> float | None:
        return ratio(results, operation, system, other, lambda row: 1 / row.wall_s)

    yield at_least("publish, part of the limit", 0.5, part(PUBLISH))
    yield at_least("publish, times Tahoe HTTPS", 6, faster(SHOAL, PUBLISH, TAHOE))
    yield at_least("publish, times Tahoe Foolscap", 4, faster(SHOAL, PUBLISH, FOOLSCAP))
    yield at_least("publish with zfec alone, times Tahoe HTTPS", 3, faster(SHOAL_ZFEC, PUBLISH, TAHOE))
    yield at_least("fetch, part of the limit", 0.45, part(FETCH))
    yield at_least("fetch, times Tahoe HTTPS", 8, faster(SHOAL, FETCH, TAHOE))
    yield at_least("fetch, times Tahoe Foolscap", 5, faster(SHOAL, FETCH, FOOLSCAP))
    yield at_least("fetch with 7 of 10 holders gone, times Tahoe HTTPS", 6, faster(SHOAL, FETCH_LOST, TAHOE))
    slower = ratio(results, FETCH, SHOAL, TORRENT, lambda row: row.wall_s)
    yield at_most("fetch, times the time of libtorrent", 0.8, slower)


def cost_bars(results: Results) -> Iterator[Bar]:
    """CPU-seconds of all processes."""
    for operation, bar in ((PUBLISH, 0.17), (FETCH, 0.12)):
        cost = ratio(results, operation, SHOAL, TAHOE, lambda row: row.cpu_s)
        yield at_most(f"{operation}, CPU-seconds to those of Tahoe HTTPS", bar, cost)


def small_bars(results: Results) -> Iterator[Bar]:
    """How long a small file takes."""
    for through, publish_s, fetch_s in ((CLIENT, 0.06, 0.025), (COMMAND, 0.45, 0.45)):
        name = "library" if through == CLIENT else "command"
        for operation, bar in ((PUBLISH, publish_s), (FETCH, fetch_s)):
            row = results.find(SHOAL, operation, SMALL, through)
            yield at_most(f"{operation} 1 KiB through the {name}, s", bar, None if row is None else row.wall_s)
    many = next((each for each in results.many if each.system == SHOAL), None)
    per_s = None if many is None else many.files / many.wall_s
    yield at_least("many small files, files/s", 60, per_s)


def memory_bars(results: Results) -> Iterator[Bar]:
    """Of clients and of idle storage nodes."""
    peaks = [row.peak_mib for row in (*results.rows, *results.wide_rows) if row.system in (SHOAL, SHOAL_ZFEC)]
    yield at_most("memory of publisher and fetcher, MiB", 200, max(peaks, default=None))
    idle = next((idle for idle in results.idle if idle.system == SHOAL), None)
    resident_mib = None if idle is None else max(idle.fresh_mib, idle.used_mib)
    yield at_most("memory of an idle storage node, MiB", 70, resident_mib)
    yield at_most("CPU of an idle storage node, % of a core", 0.5, None if idle is None else idle.cpu_percent)


def ratio(results: Results, operation: str, system: str, other: str, value: Callable[[Row], float]) -> float | None:
    """A figure of one system by that of another, with the largest file that both have."""
    row, twin = results.find(system, operation), results.find(other, operation)
    if row is None or twin is None:
        return None
    size = min(row.size, twin.size)
    row, twin = results.find(system, operation, size), results.find(other, operation, size)
    return None if row is None or twin is None else value(row) / value(twin)
