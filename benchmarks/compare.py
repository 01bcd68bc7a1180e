"""Shoal and Tahoe-LAFS side by side on this machine, libtorrent as a reference, and the limit of the machine.

    python benchmarks/compare.py [--sizes 1KiB,1MiB,100MiB,1GiB] [--rounds 3] [--markdown]

Run it on a machine that does nothing else: with the default options it takes about 15 minutes, needs 14 GiB of free
disk and 4 GiB of memory. Tahoe-LAFS, libtorrent, magic-wormhole and a Shoal without ISA-L are installed below --cache
the first time, into environments of their own. Everything stays on this machine, every process that is started is ended
again, and every byte that is fetched is compared with what was put. README.md beside this file says how to read the
figures.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from side_by_side.environments import (
    CHECKOUT,
    bare_variables,
    codec_of,
    plain_shoal_environment,
    tahoe_environment,
    torrent_environment,
    wormhole_environment,
)
from side_by_side.processes import MeasureError, interrupted_once
from side_by_side.report import text_of
from side_by_side.results import (
    CLIENT,
    COMMAND,
    FOOLSCAP,
    SHOAL,
    SHOAL_ZFEC,
    TAHOE,
    Costs,
    Many,
    Results,
    Row,
    new_results,
)
from side_by_side.rounds import Source, System, idle_start, measure, measure_lost, median_mib, say
from side_by_side.shoal_network import open_shoal
from side_by_side.tables import size_name
from side_by_side.tahoe import open_tahoe
from side_by_side.torrent import TorrentPair
from side_by_side.wormhole import WormholePair

from shoal.cli.units import UnitError, parse_size

CODE = (3, 10)
NODES = 10
WIDE_NODES = 16  # as many as `shoal demo` and `shoal swarm` start
WIDE_CODE = (4, 12)  # what Shoal chooses there; its limit is wanted too
COMMAND_MAX_BYTES = 64 * 1024  # of files that the command lines are measured with: there their start is what counts
MANY_FILES, MANY_BYTES, MANY_AT_ONCE = 1_000, 4 * 1024, 8
TORRENT_MIN_BYTES = 16 * 2**20  # below, libtorrent waits more than it moves, and so does magic-wormhole
DISK_FACTOR = 14  # free disk to the largest file: 3.4 times that for each of three rounds, the file, and a copy
PARTS_SCRIPT = Path(__file__).with_name("side_by_side") / "parts.py"
PARTS_LIMIT_S = 300.0
PARTS = ["tahoe", "foolscap", "torrent", "wormhole", "limit", "shoal", "many", "zfec", "wide"]
LAST_FILE = "last.json"


class Run:
    """One run: what was asked for, where, and what has come out so far."""

    def __init__(self, arguments: argparse.Namespace, work: Path) -> None:
        self.sizes: list[int] = arguments.sizes
        self.rounds: int = arguments.rounds
        self.idle_s: float = arguments.idle
        self.cache: Path = arguments.cache
        self.work = work
        self.results = new_results()

    def parts(self) -> list[tuple[str, Callable[[], None]]]:
        """All there is to measure, by name, in order. The limit is measured around Shoal: machines are unsteady."""
        return [
            ("tahoe", lambda: self.tahoe(TAHOE, foolscap=False)),
            ("foolscap", lambda: self.tahoe(FOOLSCAP, foolscap=True)),
            ("torrent", self.torrent),
            ("wormhole", self.wormhole),
            ("limit", self.limit),
            ("shoal", self.shoal),
            ("many", self.many),
            ("zfec", self.shoal_zfec),
            ("wide", self.shoal_wide),
            ("limit", self.limit),
        ]

    def tahoe(self, name: str, *, foolscap: bool) -> None:
        """Tahoe-LAFS by one of its storage protocols; its default is measured in full."""
        environment = tahoe_environment(self.cache)
        with (
            self.folder("tahoe") as folder,
            open_tahoe(name, environment, folder, NODES, CODE, foolscap=foolscap) as grid,
        ):
            self.measure(grid, self.results.rows, is_full=not foolscap)

    def shoal(self) -> None:
        """Shoal with ISA-L, in the environment that runs this."""
        self.need_codec(sys.executable, "isa-l", "install the extra: pip install -e '.[fast]'")
        with self.folder("shoal") as folder, open_shoal(SHOAL, sys.executable, folder, NODES, CODE) as network:
            self.measure(network, self.results.rows, is_full=True)

    def many(self) -> None:
        """Small files one after another through one open node."""
        with self.folder("many") as folder, open_shoal(SHOAL, sys.executable, folder, NODES, CODE) as network:
            sources = [folder / f"source-{number}" for number in range(MANY_FILES)]
            for source in sources:
                source.write_bytes(os.urandom(MANY_BYTES))
            spent = network.publish_all(sources, MANY_AT_ONCE)
        many = Many(SHOAL, MANY_FILES, MANY_BYTES, MANY_AT_ONCE, spent.wall_s, spent.cpu_s)
        say(f"{SHOAL}: {MANY_FILES} files in {spent.wall_s:.1f} s")
        self.results.many.append(many)

    def shoal_zfec(self) -> None:
        """Shoal as it is installed without the extra `fast`: nodes and clients."""
        python = plain_shoal_environment(self.cache).python
        self.need_codec(python, "zfec", "the system has an ISA-L of its own (Debian: libisal2)")
        with self.folder("shoal") as folder, open_shoal(SHOAL_ZFEC, python, folder, NODES, CODE) as network:
            self.measure(network, self.results.rows, is_full=False)

    def shoal_wide(self) -> None:
        """Shoal without options, on a network that is wide enough for it to choose."""
        with self.folder("shoal") as folder, open_shoal(SHOAL, sys.executable, folder, WIDE_NODES, None) as network:
            self.measure(network, self.results.wide_rows, is_full=False)

    def torrent(self) -> None:
        """libtorrent."""
        environment = torrent_environment(self.cache)
        for size in [size for size in self.sizes if size >= TORRENT_MIN_BYTES] or self.sizes[-1:]:
            with self.folder("torrent") as folder:
                pair = TorrentPair(environment, folder)
                self.results.rows += pair.measure(Source(folder / "source", size), self.rounds)

    def wormhole(self) -> None:
        """magic-wormhole."""
        environment = wormhole_environment(self.cache)
        for size in [size for size in self.sizes if size >= TORRENT_MIN_BYTES] or self.sizes[-1:]:
            with self.folder("wormhole") as folder:
                pair = WormholePair(environment, folder)
                self.results.rows += pair.measure(Source(folder / "source", size), self.rounds)

    def limit(self) -> None:
        """What the parts cost."""
        with self.folder("parts") as folder:
            codes = [f"{k}/{n}" for k, n in (CODE, WIDE_CODE)]
            argv = [sys.executable, "-P", str(PARTS_SCRIPT), str(folder), *codes]
            done = subprocess.run(
                argv, env=bare_variables(), capture_output=True, text=True, timeout=PARTS_LIMIT_S, check=False
            )
        if done.returncode:
            raise MeasureError(done.stderr.strip().splitlines()[-1])
        self.results.costs.append(Costs(**json.loads(done.stdout)))

    def measure(self, system: System, rows: list[Row], *, is_full: bool) -> None:
        """All sizes of one system. In full: also idling, the command line, and the loss of holders."""
        if is_full:
            self.results.idle.append(idle_start(system, self.idle_s))
        for size in self.sizes:
            source = Source(self.work / "source", size)
            if is_full and size <= COMMAND_MAX_BYTES:
                rows += measure(system, source, COMMAND, self.rounds)[0]
            found, link = measure(system, source, CLIENT, self.rounds)
            rows += found
        if is_full:
            self.results.idle[-1] = replace(self.results.idle[-1], used_mib=median_mib(system.storage_pids()))
            rows.append(measure_lost(system, source, link, self.rounds))

    @contextmanager
    def folder(self, name: str) -> Iterator[Path]:
        """An empty folder on the disk to be measured, gone afterwards; of a failure the logs are kept."""
        path, logs = self.work / name, self.cache / "logs" / name
        path.mkdir()
        try:
            yield path
        except MeasureError as error:
            logs.mkdir(parents=True, exist_ok=True)
            for log in path.glob("**/*.log"):
                shutil.copy(log, logs / "-".join(log.relative_to(path).parts))
            raise MeasureError(f"{error} (logs: {logs})") from error
        finally:
            shutil.rmtree(path)

    def need_codec(self, python: str, wanted: str, advice: str) -> None:
        """MeasureError when a Shoal would not use the codec that its row is named for."""
        found = codec_of(python)
        if found != wanted:
            raise MeasureError(f"Shoal uses {found} here, not {wanted}: {advice}")


def measure_all(run: Run, only: list[str]) -> None:
    """One part after the other; what fails is told and left out."""
    fitting = [size for size in run.sizes if size * DISK_FACTOR <= shutil.disk_usage(run.work).free]
    for size in sorted(set(run.sizes) - set(fitting)):
        run.results.remarks.append(f"{size_name(size)}: it needs {size_name(size * DISK_FACTOR)} of free disk")
    run.sizes = fitting
    for name, part in run.parts():
        if fitting and name in only:
            print(f"{name}, {time.strftime('%H:%M:%S')}", file=sys.stderr, flush=True)
            try:
                part()
            except (MeasureError, OSError, subprocess.SubprocessError) as error:
                say(f"{name}: {error}")
                run.results.remarks.append(f"{name}, or a part of it: {error}")


def part_names(text: str) -> list[str]:
    """--only as a list."""
    names = text.split(",")
    if unknown := set(names) - set(PARTS):
        raise argparse.ArgumentTypeError(f"no such part: {', '.join(sorted(unknown))}")
    return names


def sizes(text: str) -> list[int]:
    """--sizes as bytes, rising."""
    try:
        return sorted({parse_size(word) for word in text.split(",")})
    except UnitError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=sizes, default=sizes("1KiB,1MiB,100MiB,1GiB"), help="of the files")
    parser.add_argument("--rounds", type=int, default=3, help="of each line, fewer of those that take long")
    parser.add_argument("--idle", type=float, default=30.0, metavar="SECONDS", help="of idling")
    parser.add_argument("--only", type=part_names, default=PARTS, metavar="PARTS", help=f"some of {','.join(PARTS)}")
    parser.add_argument("--markdown", action="store_true", help="print tables for a page")
    parser.add_argument("--last", action="store_true", help="print the last run again instead of measuring")
    parser.add_argument("--cache", type=Path, default=CHECKOUT / ".bench", help="for environments and results")
    parser.add_argument("--work", type=Path, help="a folder on the disk to be measured; in the cache by default")
    return parser.parse_args()


def main() -> int:
    """Measure, print, keep."""
    arguments = options()
    kept = arguments.cache / LAST_FILE
    if arguments.last:
        print(text_of(Results.load_from(kept), is_markdown=arguments.markdown))
        return 0
    interrupted_once()
    where: Path = arguments.work or arguments.cache / "work"
    where.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(dir=where, prefix="run-") as work:
        run = Run(arguments, Path(work))
        try:
            measure_all(run, arguments.only)
        except KeyboardInterrupt:
            run.results.remarks.append("whatever else is missing: the run was interrupted")
    run.results.took_s = time.monotonic() - begun
    run.results.save(kept)
    print(text_of(run.results, is_markdown=arguments.markdown))
    return 130 if any("interrupted" in remark for remark in run.results.remarks) else 0


if __name__ == "__main__":
    sys.exit(main())
