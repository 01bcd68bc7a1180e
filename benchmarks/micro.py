"""What single parts of Shoal do per second on this machine, each alone: cipher, hashes, share store, lookups.

    python benchmarks/micro.py [cipher hash store lookup] [--rounds 15] [--folder DIR]

Medians over rounds, and the slowest of twenty (95 %). One thread; the code that a node runs, on real sockets and on a
real disk (below `--folder`, or the system's temporary folder). The erasure code has benchmarks/codec.py, the channel
between peers benchmarks/channel.py.
"""

import argparse
import os
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import trio
from parts.figures import MIB, Cell, heading, percentile, table
from parts.nodes import look_up, open_services
from parts.shares import Setting, timed

from shoal.erasure import (
    BLOCK_BYTES,
    SEGMENT_OVERHEAD,
    EncodedSegment,
    Frontier,
    Manifest,
    ShareEncoder,
    best_codec,
    block_leaf,
    block_node,
    split_nodes,
    verify_range,
)
from shoal.node.cipher import FileCipher
from shoal.node.store import MAX_READ_BLOCKS, RealDisk, ShareStore, split_blocks

PARTS = ("cipher", "hash", "store", "lookup")
HEAD = ("what", "median", "95 %", "unit")
WIDTHS = (3, 16)  # k: the one of the comparisons, and the default of large files
BATCH_SEGMENTS = 16
LARGE_BLOCKS = 100 * MIB // BLOCK_BYTES
SMALL_PUTS = 200
READS = 500
NODES = 30
NOW = 1_800_000_000.0

Row = tuple[str, float, float, str]


def rate(name: str, work: Callable[[], object], amount: float, unit: str, rounds: int) -> Row:
    """How much a second: `amount` is what one call does. Called once before it counts."""
    work()
    seconds = [timed(work)[0] for _ in range(rounds)]
    return name, amount / percentile(seconds, 50), amount / percentile(seconds, 95), unit


# --- cipher and hashes


def cipher_rows(rounds: int) -> list[Row]:
    """Sealing and opening runs of segments, as a publish and a fetch do."""
    cipher, rows = FileCipher(os.urandom(32)), []
    for k in WIDTHS:
        plain = [os.urandom(k * BLOCK_BYTES - SEGMENT_OVERHEAD) for _ in range(BATCH_SEGMENTS)]
        sealed = [cipher.seal_segment(index, False, each) for index, each in enumerate(plain)]
        mib = sum(len(each) for each in plain) / MIB

        def seal(plain: Sequence[bytes] = plain) -> None:
            for index, each in enumerate(plain):
                cipher.seal_segment(index, False, each)

        def unseal(sealed: Sequence[bytes] = sealed) -> None:
            for index, each in enumerate(sealed):
                cipher.open_segment(index, False, each)

        kib = len(plain[0]) // 1024
        rows.append(rate(f"cipher: seal segments of {kib} KiB (k={k})", seal, mib, "MiB/s", rounds))
        rows.append(rate(f"cipher: open segments of {kib} KiB (k={k})", unseal, mib, "MiB/s", rounds))
    return rows


def hash_rows(rounds: int) -> list[Row]:
    """Leaves of blocks; growing a tree by leaves; checking a run of leaves against a root, as a reader does."""
    blocks = [os.urandom(BLOCK_BYTES) for _ in range(16 * MIB // BLOCK_BYTES)]
    encoder, segments = encoded(LARGE_BLOCKS)
    leaves = [segment.leaves[0] for segment in segments]
    root = encoder.finish().share_roots[0]
    manifest = manifest_of(encoder)
    with tempfile.TemporaryDirectory(prefix="shoal-micro-") as name, closing(open_store(Path(name))) as store:
        put_large(store, manifest, segments)
        result = store.read(bytes(manifest.id), 0, 0, MAX_READ_BLOCKS, True)

    def grow() -> None:
        frontier = Frontier(block_node)
        for leaf in leaves:
            frontier.append(leaf)

    def check() -> None:
        assert verify_range(block_node, root, LARGE_BLOCKS, 0, leaves[:MAX_READ_BLOCKS], result.share_proof)

    assert split_nodes(result.data_leaves), "a read brings them"
    return [
        rate("hash: leaves of blocks", lambda: [block_leaf(block) for block in blocks], 16, "MiB/s", rounds),
        rate("hash: growing a Merkle tree", grow, len(leaves), "leaves/s", rounds),
        rate(f"hash: proof of {MAX_READ_BLOCKS} of {LARGE_BLOCKS} leaves", check, 1, "proofs/s", rounds * 10),
    ]


# --- the share store


def open_store(folder: Path) -> ShareStore:
    """A store on the real disk."""
    return ShareStore(RealDisk(), folder, capacity_bytes=10**12, reserve_bytes=0, now=NOW, private=True)


def encoded(count: int) -> tuple[ShareEncoder, list[EncodedSegment]]:
    """A file of noise whose one share has so many blocks."""
    encoder, rng = ShareEncoder(1, 1, best_codec()), random.Random(1)
    return encoder, [encoder.add_segment(rng.randbytes(BLOCK_BYTES), at == count - 1) for at in range(count)]


def manifest_of(encoder: ShareEncoder) -> Manifest:
    """A manifest for it, another one at each call."""
    roots = encoder.finish()
    return Manifest(
        k=1,
        n=1,
        block_bytes=BLOCK_BYTES,
        ciphertext_bytes=roots.ciphertext_bytes,
        data_root=roots.data_root,
        share_roots=roots.share_roots,
        metadata=os.urandom(296),
        key_commitment=bytes(32),
        owner_key=bytes(32),
    )


def put_large(store: ShareStore, manifest: Manifest, segments: Sequence[EncodedSegment]) -> None:
    """A share as it comes from a peer: 1 MiB a request, each a view of what was received; then the commit."""
    upload = os.urandom(16)
    store.begin(upload, b"\x7f\x00\x00", 0, NOW)
    for first in range(0, len(segments), MAX_READ_BLOCKS):
        part = segments[first : first + MAX_READ_BLOCKS]
        payload = b"".join(bytes(segment.blocks[0]) for segment in part)
        store.write(upload, first, split_blocks(payload), [segment.data_leaf for segment in part], NOW)
    store.commit(upload, 0, manifest.encode(), int(NOW) + 86_400, NOW)


def store_rows(rounds: int, folder: Path) -> list[Row]:
    """Puts, reads and the status of a store."""
    files = Setting(folder).files()
    with closing(open_store(folder)) as store:
        puts = [timed(partial(files.put, store, number))[0] for number in range(SMALL_PUTS)]
        encoder, segments = encoded(LARGE_BLOCKS)
        manifests = [manifest_of(encoder) for _ in range(max(2, rounds // 5))]
        large = [timed(partial(put_large, store, each, segments))[0] for each in manifests]
        mib = LARGE_BLOCKS * BLOCK_BYTES / MIB
        return [
            ("store: put shares of 1 KiB", 1 / percentile(puts, 50), 1 / percentile(puts, 95), "puts/s"),
            ("store: put shares of 100 MiB", mib / percentile(large, 50), mib / percentile(large, 95), "MiB/s"),
            read_row(store, bytes(manifests[0].id), 1, "reads/s"),
            read_row(store, bytes(manifests[0].id), MAX_READ_BLOCKS, "MiB/s"),
            rate(f"store: status of {SMALL_PUTS + len(manifests)} shares", partial(status, store), 1, "/s", rounds),
        ]


def status(store: ShareStore) -> object:
    """What `shoal node status` asks the store."""
    return store.usage(), store.health()


def read_row(store: ShareStore, file_id: bytes, count: int, unit: str) -> Row:
    """Reads at random places of a large share, proofs and checks included, from the system's cache."""
    rng, seconds = random.Random(count), []
    for _ in range(READS):
        first = rng.randrange(LARGE_BLOCKS - count + 1)
        seconds.append(timed(partial(store.read, file_id, 0, first, count, True))[0])
    amount = 1.0 if unit == "reads/s" else count * BLOCK_BYTES / MIB
    name = f"store: read {count} block{'s' if count > 1 else ''} of 64 KiB anywhere"
    return name, amount / percentile(seconds, 50), amount / percentile(seconds, 95), unit


# --- lookups


async def lookup_rows(lookups: int) -> list[Row]:
    """Lookups in a small network; all its nodes are in this process, so their CPU time is in the latency."""
    rng = random.Random(1)
    async with open_services(NODES, rng) as services:
        found = await look_up(services, lookups, rng)
    median, late = (1e3 * percentile(found.seconds, percent) for percent in (50, 95))
    return [(f"lookup: a random target among {NODES} nodes", median, late, "ms")]


def main() -> None:
    """Measure what was asked for, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all of them if none is named")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--lookups", type=int, default=200)
    parser.add_argument("--folder", type=Path, help="where the store is made: the disk to measure")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    print(heading())
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="shoal-micro-", dir=options.folder) as name:
        works: dict[str, Callable[[], list[Row]]] = {
            "cipher": lambda: cipher_rows(options.rounds),
            "hash": lambda: hash_rows(options.rounds),
            "store": lambda: store_rows(options.rounds, Path(name)),
            "lookup": lambda: trio.run(lookup_rows, options.lookups),
        }
        rows: list[Sequence[Cell]] = [row for part in options.parts or PARTS for row in works[part]()]
    print(*table(HEAD, rows), sep="\n")
    print(f"{time.perf_counter() - began:.0f} s. Erasure code: benchmarks/codec.py; channel: benchmarks/channel.py")


if __name__ == "__main__":
    main()
