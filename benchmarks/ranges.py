"""Ranges of a large file on a local network of real daemons: what they cost, and what a user waits for.

    python benchmarks/ranges.py [--size 2GB] [--nodes 16] [--ranges 200] [--film]

It publishes one file and measures: `shoal cat` of a range as a user runs it, the start of Python included; ranges at
random through the library; reads of 32 KiB in sequence; seeks; and the longest wait while as many holders are killed as
the file can lose. With `--film` it has ffmpeg make a film whose index is at its end, and lets ffprobe and `ffmpeg -ss`
look at it through the library. It ends with 1 where a bar is missed: received at most 1.2 times what was asked for,
rounded to segments; the first byte of a range within a second, the start of Python not counted; no error while holders
die.
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import aclosing
from pathlib import Path
from random import Random

import trio

from shoal.cli.local_network import LocalNetwork, Plan, open_local_network
from shoal.cli.units import format_size, parse_size
from shoal.node import Node, NodeSettings, Published, RemoteFile, open_node

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from kit.range_server import served
from kit.remotes import open_remote_file

MIB = 2**20
CATS = 7
READ_BYTES, SEQUENCE_BYTES = 32 * 1024, 128 * MIB
RECEIVED_BAR, START_BAR_S = 1.2, 1.0
FILM_S = 60


class Figures:
    """Prints each figure, and remembers the bars that were missed."""

    def __init__(self) -> None:
        self.missed: list[str] = []

    def tell(self, what: str, value: str, *, good: bool = True) -> None:
        """One figure, and whether its bar holds."""
        print(f"{what:58} {value}{'' if good else '   MISSED'}", flush=True)
        if not good:
            self.missed.append(what)


class Source:
    """The published file: its bytes on disk, and its code."""

    def __init__(self, path: Path, published: Published) -> None:
        self.published = published
        self.size = path.stat().st_size
        self._file = open(path, "rb")  # noqa: SIM115 - as long as the benchmark runs
        self.segment_bytes = published.k * 64 * 1024

    def bytes_at(self, offset: int, length: int) -> bytes:
        """What a range has to be."""
        return os.pread(self._file.fileno(), length, offset)

    def rounded(self, offset: int, length: int) -> int:
        """Share bytes of the segments of a range."""
        step = self.segment_bytes - 40
        return ((offset + length - 1) // step - offset // step + 1) * self.segment_bytes


def write_random(path: Path, size: int) -> None:
    """A file that nothing can compress or guess."""
    with open(path, "wb") as file:
        for start in range(0, size, 4 * MIB):
            file.write(os.urandom(min(4 * MIB, size - start)))


def cat(network: LocalNetwork, link: str, offset: int, length: int) -> tuple[float, float, bytes]:
    """Seconds to the first byte and to the end of `shoal cat`, and the bytes."""
    options = ["--home", str(network.folder / "cat"), "--network", str(network.network_file), "cat", link]
    begun = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-m", "shoal.cli", *options, "--offset", str(offset), "--length", str(length)],
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        first = process.stdout.read(1)
        first_s = time.perf_counter() - begun
        data = first + process.stdout.read()
    return first_s, time.perf_counter() - begun, data


def start_of_python() -> float:
    """Seconds that any command takes before it can ask anybody."""
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import shoal.node"], check=True)
    return time.perf_counter() - begun


async def measure_command(network: LocalNetwork, source: Source, rng: Random, figures: Figures) -> None:
    """`shoal cat` of 1 MiB from places at random."""
    bare_s = min([await trio.to_thread.run_sync(start_of_python) for _ in range(3)])
    figures.tell("start of Python, with the library loaded", f"{bare_s:.2f} s")
    first_s, whole_s = [], []
    for _ in range(CATS):
        offset = rng.randrange(source.size - MIB)
        first, whole, data = await trio.to_thread.run_sync(cat, network, str(source.published.link), offset, MIB)
        assert data == source.bytes_at(offset, MIB)
        first_s.append(first)
        whole_s.append(whole)
    told = f"{statistics.median(first_s):.2f} s, at most {max(first_s):.2f} s"
    figures.tell("shoal cat, 1 MiB of it: first byte after", told)
    more_s = statistics.median(first_s) - bare_s
    figures.tell("of that, beyond the start of Python", f"{more_s:.2f} s", good=more_s <= START_BAR_S)
    figures.tell("shoal cat, 1 MiB of it: done after", f"{statistics.median(whole_s):.2f} s")


async def measure_ranges(client: Node, source: Source, count: int, rng: Random, figures: Figures) -> None:
    """Ranges at random through one open file."""
    begun = time.perf_counter()
    async with open_remote_file(client, source.published.link) as remote:
        await remote.read_at(rng.randrange(source.size), 1)
        took = time.perf_counter() - begun
        figures.tell("library: open, and a first byte", f"{took:.3f} s", good=took <= START_BAR_S)
        before, asked, wanted, took_s = remote.received_bytes, 0, 0, []
        for _ in range(count):
            length = int(2 ** rng.uniform(0, 22))
            offset = rng.randrange(source.size - length)
            begun = time.perf_counter()
            assert await remote.read_at(offset, length) == source.bytes_at(offset, length)
            took_s.append(time.perf_counter() - begun)
            asked, wanted = asked + source.rounded(offset, length), wanted + length
        received = remote.received_bytes - before
    told = f"{statistics.median(took_s):.3f} s, at most {max(took_s):.3f} s"
    figures.tell(f"{count} ranges of 1 B to 4 MiB at random: each", told)
    ratio = received / asked
    told = f"{ratio:.3f} of the segments asked for, {received / wanted:.2f} of the bytes"
    figures.tell("received for them", told, good=ratio <= RECEIVED_BAR)


async def measure_sequence(client: Node, source: Source, figures: Figures) -> None:
    """Small reads one after the other, a whole stream, and seeks."""
    most = min(SEQUENCE_BYTES, source.size)
    async with open_remote_file(client, source.published.link) as remote:
        begun = time.perf_counter()
        while remote.tell() < most:
            await remote.read(READ_BYTES)
        figures.tell("reads of 32 KiB in sequence", f"{most / MIB / (time.perf_counter() - begun):.0f} MiB/s")
    async with open_remote_file(client, source.published.link) as remote, aclosing(remote.chunks(0, most)) as chunks:
        begun = time.perf_counter()
        async for _ in chunks:
            pass
        figures.tell("chunks of a range", f"{most / MIB / (time.perf_counter() - begun):.0f} MiB/s")
    async with open_remote_file(client, source.published.link) as remote:
        begun = time.perf_counter()
        for at in range(100):
            remote.seek(at * 7919 * MIB % source.size)
            await remote.read(READ_BYTES)
        took_s = time.perf_counter() - begun
        figures.tell("100 seeks, each with a read of 32 KiB", f"{took_s:.2f} s, {format_size(remote.received_bytes)}")


async def measure_deaths(client: Node, network: LocalNetwork, source: Source, figures: Figures) -> None:
    """Kill (-9) as many holders as the file can lose while it is read in sequence."""
    addresses = [str(address) for _, address in sorted(source.published.holders.items())]
    victims = [node for node in map(network.at, addresses) if node is not None][
        : source.published.n - source.published.k
    ]
    most = min(2 * SEQUENCE_BYTES, source.size)
    step, killed, longest_s = most // (len(victims) + 1), 0, 0.0
    async with open_remote_file(client, source.published.link) as remote:
        while remote.tell() < most:
            begun, offset = time.perf_counter(), remote.tell()
            data = await remote.read(READ_BYTES)
            longest_s = max(longest_s, time.perf_counter() - begun)
            assert data == source.bytes_at(offset, len(data))
            if killed < len(victims) and remote.tell() > step * (killed + 1):
                victims[killed].kill()
                killed += 1
    figures.tell(
        f"{killed} of {source.published.n} holders killed while it is read: longest wait", f"{longest_s:.2f} s"
    )


async def measure_film(client: Node, folder: Path, figures: Figures) -> None:
    """ffprobe and `ffmpeg -ss` on a film with its index at the end."""
    film = folder / "film.mp4"
    make = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", f"testsrc2=duration={FILM_S}:size=1280x720:rate=25"]
    await trio.run_process(
        [*make, "-c:v", "mpeg4", "-b:v", "40M", "-minrate", "40M", "-vf", "noise=alls=12:allf=t", str(film)]
    )
    published = await client.publish(film)
    size = film.stat().st_size
    async with open_remote_file(client, published.link) as remote:
        await look(remote, "ffprobe", ["-show_format"], [], size, figures)
    async with open_remote_file(client, published.link) as remote:
        picture = ["-frames:v", "1", "-y", str(folder / "picture.png")]
        await look(remote, "ffmpeg", ["-ss", str(FILM_S * 3 // 4)], picture, size, figures)


async def look(
    remote: RemoteFile, program: str, before: list[str], after: list[str], size: int, figures: Figures
) -> None:
    """Run a program on a remote file, and tell how much of the file it took."""
    async with served(remote) as address:
        begun = time.perf_counter()
        source = ["-i", address]
        await trio.run_process([program, "-v", "error", *before, *source, *after], capture_stdout=True)
        took_s = time.perf_counter() - begun
    part = 100 * remote.received_bytes / size
    told = f"{took_s:.2f} s, {format_size(remote.received_bytes)} of {format_size(size)} ({part:.0f} %)"
    figures.tell(f"{' '.join((program, *before))} on a film with its index at the end", told, good=part < 50)


async def measure(arguments: argparse.Namespace, folder: Path, figures: Figures) -> None:
    """Start the network, publish, and take all figures."""
    size, rng = parse_size(arguments.size), Random(17)
    path = folder / "source"
    await trio.to_thread.run_sync(write_random, path, size)
    settings = NodeSettings(capacity_bytes=4 * size + 10**9, reserve_bytes=0)
    plan = Plan(folder / "network", arguments.nodes, "ranges", settings)
    async with (
        open_local_network(plan, lambda text: None) as network,
        open_node(folder / "client", network=network.network_file) as client,
    ):
        begun = time.perf_counter()
        source = Source(path, await client.publish(path))
        took_s, code = time.perf_counter() - begun, f"{source.published.k} of {source.published.n}"
        figures.tell(f"published, {code}, segments of {format_size(source.segment_bytes)}", f"{took_s:.0f} s")
        await measure_command(network, source, rng, figures)
        await measure_ranges(client, source, arguments.ranges, rng, figures)
        await measure_sequence(client, source, figures)
        if arguments.film:
            await measure_film(client, folder, figures)
        await measure_deaths(client, network, source, figures)


def main() -> None:
    """Parse the options, measure, and end with 1 where a bar was missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="2GB")
    parser.add_argument("--nodes", type=int, default=16)
    parser.add_argument("--ranges", type=int, default=200)
    parser.add_argument("--film", action="store_true", help="also with ffmpeg, which must be installed")
    arguments = parser.parse_args()
    machine = f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(f"{machine}, load {os.getloadavg()[0]:.1f}\n{arguments.size}, {arguments.nodes} nodes")
    figures = Figures()
    with tempfile.TemporaryDirectory(prefix="shoal-ranges-") as name:
        trio.run(measure, arguments, Path(name), figures)
    sys.exit(bool(figures.missed))


if __name__ == "__main__":
    main()
