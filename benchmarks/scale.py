"""How single parts of Shoal cost more as there is more of something: nodes, shares, fetches at once.

    python benchmarks/scale.py nodes [--sizes 10 30 100 300] [--lookups 200] [--seed 1]
    python benchmarks/scale.py shares [--sizes 10 100 1000 10000 100000] [--needed 4 --total 12] [--share 1KiB]
    python benchmarks/scale.py starts [--sizes 10 100 1000 10000] [--needed 4 --total 12]
    python benchmarks/scale.py fetches [--sizes 1 2 4 8 16 32 64] [--file 10MiB]

Each prints a line per size, and below how each column grows from the first size to the last: x of figure ~ size^x, 0 is
not at all, 1 in proportion. Without a name all run, one after another. What whole nodes and stored files cost a
network per day is in benchmarks/growth.py.

    nodes     the DHT alone: time to join, time and messages of lookups, whether they find just the right nodes, memory
    shares    one share store: start, status, put, listing, scrub, memory, disk
    starts    a whole node that starts with so many shares: until it listens, until it is quiet, memory
    fetches   one node that serves many: rates, fairness, its CPU time and memory
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from parts import fetches, nodes, shares, starts
from parts.figures import heading

from shoal.cli.units import parse_size


def parser() -> argparse.ArgumentParser:
    """All options; what is to be run is in `run`."""
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = found.add_subparsers(metavar="nodes | shares | starts | fetches")
    each = commands.add_parser("nodes")
    add_sizes(each, [10, 30, 100, 300])
    each.add_argument("--lookups", type=int, default=200)
    each.add_argument("--seed", type=int, default=1)
    each.set_defaults(run=lambda told: nodes.run(told.sizes, lookups=told.lookups, seed=told.seed))
    each = commands.add_parser("shares")
    add_sizes(each, [10, 100, 1_000, 10_000, 100_000])
    each.add_argument("--needed", type=int, default=4)
    each.add_argument("--total", type=int, default=12)
    each.add_argument("--share", default="1KiB", help="size of a share")
    each.add_argument("--folder", type=Path, help="where the store is made: the disk to measure")
    each.set_defaults(run=run_shares)
    each = commands.add_parser("starts")
    add_sizes(each, [10, 100, 1_000, 10_000])
    each.add_argument("--needed", type=int, default=4)
    each.add_argument("--total", type=int, default=12)
    each.set_defaults(run=lambda told: starts.run(told.sizes, k=told.needed, n=told.total))
    each = commands.add_parser("fetches")
    add_sizes(each, [1, 2, 4, 8, 16, 32, 64])
    each.add_argument("--file", default="10MiB")
    each.set_defaults(run=lambda told: fetches.run(told.sizes, size_bytes=parse_size(told.file)))
    return found


def add_sizes(to: argparse.ArgumentParser, default: list[int]) -> None:
    """The option that all have."""
    to.add_argument("--sizes", type=int, nargs="+", default=default)


def run_shares(told: argparse.Namespace) -> None:
    """See the module."""
    shares.run(
        told.sizes,
        k=told.needed,
        n=told.total,
        block_bytes=parse_size(told.share),
        folder=told.folder,
    )


def main() -> None:
    """Run what was asked for, or everything."""
    options = parser().parse_args()
    print(heading())
    runs: list[Callable[[], None]] = (
        [partial(options.run, options)]
        if "run" in options
        else [
            partial(told.run, told)
            for told in map(parser().parse_args, (["nodes"], ["shares"], ["starts"], ["fetches"]))
        ]
    )
    for run in runs:
        began = time.perf_counter()
        run()
        print(f"{time.perf_counter() - began:.0f} s\n", flush=True)


if __name__ == "__main__":
    main()
