"""How fast the erasure code is: zfec and ISA-L side by side, and what else a publish computes on each segment.

    python benchmarks/codec.py [--rounds 15]

Prints MiB of file per second (medians) with blocks of 64 KiB, in one thread:

    encode    the n-k parity blocks
    decode    as many data blocks as can be lost, from the others and parity
    repair    one lost parity block
    hash      leaf hashes of all n blocks, for comparison
    segment   ShareEncoder: parity, hashes, trees; all that a publish does after encryption

The codecs take turns, so that both meet the same machine, and work on batches as a publish does: the result of one is
kept until the next is there.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable

from parts.figures import machine

from shoal.erasure import BLOCK_BYTES, Codec, ShareEncoder, ZfecCodec, best_codec, block_leaf

WIDTHS = ((3, 10), (4, 12), (8, 24), (16, 48))
MIB = 2**20
BATCH_BYTES = 12 * MIB  # of all shares, as in node/publishing/sealing.py


class Work:
    """A batch of segments of one width, and what can be done with it."""

    def __init__(self, k: int, n: int) -> None:
        self.k, self.n, self.lost = k, n, min(k, n - k)
        count = BATCH_BYTES // (n * BLOCK_BYTES)
        self.segments = [memoryview(os.urandom(k * BLOCK_BYTES)) for _ in range(count)]
        self.mib = len(self.segments) * k * BLOCK_BYTES / MIB
        self.data = [[segment[i * BLOCK_BYTES :][:BLOCK_BYTES] for i in range(k)] for segment in self.segments]
        self.shares = [[*data, *ZfecCodec().parity(k, n, data)] for data in self.data]
        self.left = [{i: shares[i] for i in range(self.lost, self.lost + k)} for shares in self.shares]

    def encode(self, codec: Codec) -> object:
        return [codec.parity(self.k, self.n, data) for data in self.data]

    def decode(self, codec: Codec) -> object:
        return [codec.rebuild(self.k, self.n, left, range(self.lost)) for left in self.left]

    def repair(self, codec: Codec) -> object:
        return [codec.rebuild(self.k, self.n, left, [self.n - 1]) for left in self.left]

    def hash(self, codec: Codec) -> object:
        return [[block_leaf(block) for block in shares] for shares in self.shares]

    def segment(self, codec: Codec) -> object:
        encoder = ShareEncoder(self.k, self.n, codec)
        return [encoder.add_segment(segment, False) for segment in self.segments]


def rates(operation: Callable[[Codec], object], mib: float, codecs: list[Codec], rounds: int) -> list[float]:
    """MiB/s with each codec: medians over rounds in which they take turns."""
    spent: list[list[float]] = [[] for _ in codecs]
    kept: list[object] = [operation(codec) for codec in codecs]
    for _ in range(rounds):
        for at, codec in enumerate(codecs):
            began = time.perf_counter()
            kept[at] = operation(codec)
            spent[at].append(time.perf_counter() - began)
    return [mib / statistics.median(times) for times in spent]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    print(machine())
    began = time.perf_counter()
    best = best_codec()
    print(f"codec chosen: {best.name} {getattr(best, 'library', '')} ({(time.perf_counter() - began) * 1000:.1f} ms)")
    codecs: list[Codec] = [ZfecCodec()] + ([best] if best.name != "zfec" else [])
    print(f"{'k/n':>6}  {'':8}" + "".join(f"{codec.name:>10}" for codec in codecs) + "    MiB/s of file")
    for k, n in WIDTHS:
        work = Work(k, n)
        for operation in (work.encode, work.decode, work.repair, work.hash, work.segment):
            found = rates(operation, work.mib, codecs, rounds)
            ratio = f"{found[-1] / found[0]:9.1f}x" if len(found) > 1 else ""
            print(f"{k:>3}/{n:<3} {operation.__name__:8}" + "".join(f"{rate:10.0f}" for rate in found) + ratio)


if __name__ == "__main__":
    main()
