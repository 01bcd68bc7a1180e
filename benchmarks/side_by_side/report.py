"""From results to tables."""

from collections.abc import Callable, Sequence
from dataclasses import fields
from statistics import mean
from typing import Any

from .bars import bars
from .limits import Limit, fetch_limit, publish_limit
from .results import (
    CLIENT,
    COMMAND,
    FETCH,
    FETCH_LOST,
    FOOLSCAP,
    MIB,
    PUBLISH,
    SHOAL,
    SHOAL_ZFEC,
    SYSTEMS,
    TAHOE,
    TORRENT,
    WORMHOLE,
    Costs,
    Results,
    Row,
)
from .tables import NOTHING, Table, figure, size_name, times

CODECS = {SHOAL: "isa-l", SHOAL_ZFEC: "zfec"}
SHORT_BYTES = MIB  # of smaller files, rates and costs per GiB say nothing
BUSY_LOAD = 1.0  # processes that want a core, on average over the last minute
ROW_HEADER = ("", "size", "through", "system", "runs", "wall s", "MiB/s", "CPU-s/GiB", "peak MiB", "disk/file")


def tables_of(results: Results) -> list[Table]:
    """All tables that have anything to say."""
    makers = (main_table, wide_table, torrent_table, many_table, idle_table, cost_table, limit_table, bar_table)
    return [table for table in (make(results) for make in makers) if table.rows]


def text_of(results: Results, *, is_markdown: bool) -> str:
    """The whole report."""
    facts = [
        f"{results.machine}; load at the start {results.load:.1f}",
        f"{results.when}, {results.took_s / 60:.0f} min: {results.command}",
    ]
    remarks = [f"Not measured: {remark}" for remark in results.remarks]
    if results.load > BUSY_LOAD:
        remarks.append("The machine was busy when this began: its times mean little.")
    parts = [table.markdown() if is_markdown else table.plain() for table in tables_of(results)]
    if is_markdown:
        return "\n\n".join([*facts, *remarks, *parts])
    return "\n\n".join(["\n".join([*facts, *remarks]), *parts])


def through_name(row: Row) -> str:
    """How a file came to the system."""
    if row.through == COMMAND:
        return "command"
    return "HTTP" if row.system in (TAHOE, FOOLSCAP) else "library"


def cells(row: Row) -> list[str]:
    """What all tables of operations have in common."""
    is_short = row.size < SHORT_BYTES
    return [
        *(row.operation, size_name(row.size), through_name(row), row.system, str(row.rounds), figure(row.wall_s)),
        NOTHING if is_short else figure(row.mib_s),
        NOTHING if is_short else figure(row.cpu_s_gib),
        *(figure(row.peak_mib), figure(row.stored)),
    ]


def speed(row: Row | None, other: Row | None) -> float | None:
    """How many times as fast `row` is as `other`."""
    return None if row is None or other is None else other.wall_s / row.wall_s


def main_table(results: Results) -> Table:
    """Publish and fetch, all systems side by side."""
    rows = [row for row in results.rows if row.system not in (TORRENT, WORMHOLE)]
    table = Table(
        "Publish and fetch, 3-of-10 over 10 nodes",
        (*ROW_HEADER, "× HTTPS", "× Foolscap"),
        words=4,
        notes=[
            "library, HTTP: a client process that runs on. command: the command line, interpreter start included.",
            "CPU-s/GiB: of all processes, per GiB of file. peak: of the process that publishes or fetches.",
            "× HTTPS, × Foolscap: how many times as fast as Tahoe-LAFS by that protocol.",
        ],
    )
    for group in grouped(rows, lambda row: (OPERATIONS.index(row.operation), row.through == COMMAND, row.size)):
        if table.rows and (len(group) > 1 or table.rows[-1][0] != group[0].operation):
            table.rows.append([])
        for row in sorted(group, key=lambda row: SYSTEMS.index(row.system)):
            others = (results.find(system, row.operation, row.size, row.through) for system in (TAHOE, FOOLSCAP))
            ratios = [NOTHING if row.system in (TAHOE, FOOLSCAP) else times(speed(row, other)) for other in others]
            table.rows.append([*cells(row), *ratios])
    return table


OPERATIONS = (PUBLISH, FETCH, FETCH_LOST)


def grouped(rows: Sequence[Row], key: Callable[[Row], tuple[int, bool, int]]) -> list[list[Row]]:
    """Rows that belong side by side."""
    keys = sorted({key(row) for row in rows})
    return [[row for row in rows if key(row) == each] for each in keys]


def wide_table(results: Results) -> Table:
    """Shoal as it is without options."""
    table = Table("Shoal at its default width", (*ROW_HEADER, "code"), words=4)
    for row in sorted(results.wide_rows, key=lambda row: (OPERATIONS.index(row.operation), row.size)):
        table.rows.append([*cells(row), f"{row.k} of {row.n}"])
    return table


def torrent_table(results: Results) -> Table:
    """The reference for moving plain bytes."""
    table = Table(
        "Moving bytes from one process to another: libtorrent over TCP, magic-wormhole, and Shoal's fetch",
        (*ROW_HEADER, "Shoal's time/its"),
        words=4,
        notes=[
            "libtorrent neither encrypts nor codes and keeps one copy; its publish is hashing the file.",
            "magic-wormhole: both ends start at once. Encrypted on its way, kept nowhere. Shoal: by the library.",
        ],
    )
    for row in results.rows:
        if row.system in (TORRENT, WORMHOLE):
            shoal = results.find(SHOAL, row.operation, row.size) if row.operation == FETCH else None
            table.rows.append([*cells(row), times(speed(row, shoal))])
    return table


def idle_table(results: Results) -> Table:
    """What a volunteer pays for nothing."""
    header = ("storage node", "seconds", "CPU % of a core", "MiB, fresh", "MiB, after the transfers")
    table = Table("Idle storage nodes, the median one in memory, the mean one in CPU", header)
    for idle in results.idle:
        numbers = (idle.seconds, idle.cpu_percent, idle.fresh_mib, idle.used_mib)
        table.rows.append([idle.system, *map(figure, numbers)])
    return table


def many_table(results: Results) -> Table:
    """Small files, one after another."""
    header = ("system", "files", "KiB each", "at once", "files/s", "CPU-ms/file")
    table = Table("Publishing many small files through one open client", header)
    for each in results.many:
        per_s, cpu_ms = each.files / each.wall_s, 1000 * each.cpu_s / each.files
        table.rows.append([each.system, *map(figure, (each.files, each.size / 1024, each.at_once, per_s, cpu_ms))])
    return table


def mean_costs(all_costs: Sequence[Costs]) -> Costs:
    """What was measured before and after, in the middle."""

    names = [each.name for each in fields(Costs) if each.name != "cores"]
    middles = {name: middle([getattr(costs, name) for costs in all_costs]) for name in names}
    return Costs(**middles, cores=all_costs[0].cores)


def middle(values: Sequence[Any]) -> Any:
    """The mean of numbers, or of each number in mappings with the same names."""
    if isinstance(values[0], dict):
        return {name: mean(value[name] for value in values) for name in values[0]}
    return mean(values)


def cost_table(results: Results) -> Table:
    """What the parts cost."""
    table = Table(
        "Parts alone, CPU-seconds per GiB that goes through them",
        ("part", *(("before", "after")[: len(results.costs)])),
        notes=["Measured before and after Shoal's own rows. disk: seconds until a GiB is written and synced."],
    )
    if not results.costs:
        return table
    labels = {
        "cipher_seal": "encrypt (XChaCha20-Poly1305)",
        "cipher_open": "decrypt",
        "block_hash": "hash (BLAKE3, blocks of 64 KiB)",
        "send": "send (TLS 1.3, TCP, loopback)",
        "receive": "receive",
        "write": "write",
        "read": "read from memory",
        "sync_s": "disk",
    }
    for name, label in labels.items():
        table.rows.append([label, *(figure(getattr(costs, name)) for costs in results.costs)])
    for kind in ("encode", "decode"):
        for name in getattr(results.costs[0], kind):
            table.rows.append([f"{kind} {name}", *(figure(getattr(costs, kind)[name]) for costs in results.costs)])
    return table


def limit_of(costs: Costs, row: Row) -> Limit:
    """The limit for what a row of Shoal's measured."""
    codec = CODECS[row.system]
    if row.operation == PUBLISH:
        return publish_limit(costs, codec, row.k, row.n)
    return fetch_limit(costs, codec, row.k, row.n, is_lost=row.operation == FETCH_LOST)


def limit_table(results: Results) -> Table:
    """The derived limit and how much of it is reached, for the largest file."""
    header = (
        "",
        "code",
        "system",
        "limit MiB/s",
        "before, after",
        "CPU-s/GiB",
        "disk s/GiB",
        "reached MiB/s",
        "of limit",
    )
    notes = ["Most of the limit's CPU-seconds:"]
    table = Table("The limit of this machine, and how much of it is reached with the largest file", header, words=3)
    if not results.costs:
        return table
    costs = mean_costs(results.costs)
    for row in largest(results.rows) + largest(results.wide_rows):
        if row.system not in CODECS or f"{CODECS[row.system]} {row.k}/{row.n}" not in costs.encode:
            continue
        limit = limit_of(costs, row)
        each = ", ".join(figure(limit_of(one, row).mib_s) for one in results.costs)
        numbers = (limit.cpu_s, limit.disk_s, row.mib_s, row.mib_s / limit.mib_s)
        label = [row.operation, f"{row.k}/{row.n}", row.system]
        table.rows.append([*label, figure(limit.mib_s), each, *map(figure, numbers)])
        most = sorted(limit.steps.items(), key=lambda step: -step[1])[:4]
        notes.append(f"  {' '.join(label)}: " + ", ".join(f"{name} {figure(value)}" for name, value in most))
    table.notes = notes
    return table


def largest(rows: Sequence[Row]) -> list[Row]:
    """The rows through a client with the largest file of each system and operation."""
    best: dict[tuple[str, str], Row] = {}
    for row in rows:
        known = best.get((row.system, row.operation))
        if row.through == CLIENT and (known is None or known.size < row.size):
            best[row.system, row.operation] = row
    return list(best.values())


def bar_table(results: Results) -> Table:
    """What we set out to reach."""
    table = Table("Bars", ("what", "bar", "reached", "met"), words=2)
    costs = mean_costs(results.costs) if results.costs else None
    judged = list(bars(results, lambda row: None if costs is None else row.mib_s / limit_of(costs, row).mib_s))
    for bar in judged if any(bar.reached is not None for bar in judged) else ():
        met = NOTHING if bar.is_met is None else "yes" if bar.is_met else "NO"
        table.rows.append([bar.what, bar.wanted, figure(bar.reached), met])
    return table
