"""A published file to store, places for stores on both kinds of disk, and what a reader checks."""

import random
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from shoal.erasure import (
    BLOCK_BYTES,
    Buffer,
    Manifest,
    ShareEncoder,
    ZfecCodec,
    block_leaf,
    block_node,
    data_node,
    split_nodes,
    verify_range,
)
from shoal.node.store import Disk, DiskEntryKind, DiskFile, ReadResult, ShareStore, split_blocks
from shoal.node.store.limits import USUAL_BOUNDS, Bounds
from shoal.simulation.disk import SimDisk

NOW = 1_800_000_000.0
LEASE_END = int(NOW) + 90 * 86400
SOURCE = b"\x01\x02\x03"
GIB = 1 << 30


@dataclass
class Published:
    """All shares of one small file: blocks[share][index], one data leaf per index."""

    manifest: Manifest
    blocks: list[list[bytes]]
    data_leaves: list[bytes]
    encoded: bytes = field(init=False)
    file_id: bytes = field(init=False)

    def __post_init__(self) -> None:
        self.encoded = self.manifest.encode()
        self.file_id = bytes(self.manifest.id)

    @property
    def count(self) -> int:
        """Blocks per share."""
        return len(self.data_leaves)


def publish(count: int, last_bytes: int = BLOCK_BYTES, k: int = 2, n: int = 3, seed: int = 0) -> Published:
    """A file whose shares have `count` blocks, the last of `last_bytes`; ciphertext is noise."""
    rng = random.Random(f"{seed} {count} {last_bytes} {k} {n}")
    encoder = ShareEncoder(k, n, ZfecCodec())
    blocks: list[list[bytes]] = [[] for _ in range(n)]
    data_leaves = []
    for index in range(count):
        is_last = index == count - 1
        segment = encoder.add_segment(rng.randbytes(k * (last_bytes if is_last else BLOCK_BYTES)), is_last)
        for share, block in zip(blocks, segment.blocks, strict=True):
            share.append(bytes(block))
        data_leaves.append(segment.data_leaf)
    roots = encoder.finish()
    manifest = Manifest(
        k=k,
        n=n,
        block_bytes=BLOCK_BYTES,
        ciphertext_bytes=roots.ciphertext_bytes,
        data_root=roots.data_root,
        share_roots=tuple(roots.share_roots),
        metadata=rng.randbytes(256),
        key_commitment=rng.randbytes(32),
        owner_key=rng.randbytes(32),
    )
    return Published(manifest, blocks, data_leaves)


def upload_id(number: int) -> bytes:
    """A 16-byte upload id."""
    return number.to_bytes(16, "big")


def send(
    store: ShareStore,
    file: Published,
    share: int,
    upload: bytes,
    *,
    bound: int = 0,
    step: int = 4,
    first: int = 0,
    source: bytes = SOURCE,
) -> None:
    """Open an upload and write all blocks of a share, `step` at a time."""
    store.begin(upload, source, bound, NOW)
    for at in range(first, file.count, step):
        part = file.blocks[share][at : at + step]
        assert store.write(upload, at, part, file.data_leaves[at : at + step], NOW) == at + len(part)


def put(
    store: ShareStore, file: Published, share: int, upload: bytes | None = None, *, source: bytes = SOURCE
) -> bytes:
    """Store a whole share; the upload id used."""
    upload = upload or upload_id(share + 1)
    send(store, file, share, upload, source=source)
    assert store.commit(upload, share, file.encoded, LEASE_END, NOW) == LEASE_END
    return upload


def put_at_once(store: ShareStore, file: Published, share: int, block: bytes | None = None) -> int:
    """Store a share of one block in one call; its lease end."""
    block = file.blocks[share][0] if block is None else block
    return store.put(upload_id(share + 1), SOURCE, share, file.encoded, block, LEASE_END, NOW)


def check_result(file: Published, share: int, first: int, count: int, result: ReadResult) -> None:
    """What a reader checks, with only the manifest in hand."""
    blocks = [bytes(block) for block in split_blocks(result.blocks)]
    assert blocks == file.blocks[share][first : first + count]
    leaves = [block_leaf(block) for block in blocks]
    root = file.manifest.share_roots[share]
    assert verify_range(block_node, root, file.count, first, leaves, result.share_proof)
    data_leaves = split_nodes(result.data_leaves)
    assert data_leaves == file.data_leaves[first : first + count]
    assert verify_range(data_node, file.manifest.data_root, file.count, first, data_leaves, result.data_proof)


def check_share(store: ShareStore, file: Published, share: int) -> None:
    """The whole share is served right, with its manifest."""
    assert store.manifest(file.file_id) == file.encoded
    assert share in [held.share_number for held in store.held(file.file_id)]
    for first in range(0, file.count, 16):
        count = min(16, file.count - first)
        check_result(file, share, first, count, store.read(file.file_id, share, first, count, True))


@dataclass
class Place:
    """Where a store lives, so that it can be opened again."""

    disk: Disk
    root: Path
    opened: list[ShareStore] = field(default_factory=list)

    def open(
        self,
        *,
        capacity: int = 10 * GIB,
        reserve: int = 0,
        private: bool = True,
        now: float = NOW,
        disk: Disk | None = None,
        bounds: Bounds = USUAL_BOUNDS,
    ) -> ShareStore:
        """A store on this place; several openings are the test's own business."""
        store = ShareStore(
            disk or self.disk,
            self.root,
            capacity_bytes=capacity,
            reserve_bytes=reserve,
            now=now,
            private=private,
            bounds=bounds,
        )
        self.opened.append(store)
        return store

    @property
    def sim(self) -> SimDisk:
        """The disk of a place that has a simulated one."""
        assert isinstance(self.disk, SimDisk), "this place is on a real disk"
        return self.disk

    def share_path(self, file: Published, share: int) -> Path:
        """The file that holds a share."""
        name = f"{file.file_id.hex()}.{share}"
        folders = self.disk.list_directory(self.root / "shares")
        paths = [self.root / "shares" / folder for folder in folders]
        (found,) = [path / name for path in paths if name in self.disk.list_directory(path)]
        return found

    def names(self) -> list[str]:
        """All file names under shares/."""
        folders = [self.root / "shares" / folder for folder in self.disk.list_directory(self.root / "shares")]
        return sorted(name for folder in folders for name in self.disk.list_directory(folder))


@dataclass
class Recorded:
    """A disk that notes what is done to it, in order, and passes it on."""

    inner: Disk
    log: list[tuple[str, str]] = field(default_factory=list)

    def note(self, operation: str, path: Path) -> None:
        self.log.append((operation, path.name))

    def make_directories(self, path: Path) -> None:
        self.inner.make_directories(path)

    def create(self, path: Path) -> DiskFile:
        self.note("create", path)
        return RecordedFile(self, path, self.inner.create(path))

    def open(self, path: Path, *, writable: bool = False) -> DiskFile:
        self.note("open", path)
        return RecordedFile(self, path, self.inner.open(path, writable=writable))

    def rename(self, old: Path, new: Path) -> None:
        assert old.parent == new.parent
        self.note("rename", new)
        self.inner.rename(old, new)

    def fsync_directory(self, path: Path) -> None:
        self.note("fsync_directory", path)
        self.inner.fsync_directory(path)

    def unlink(self, path: Path) -> None:
        self.note("unlink", path)
        self.inner.unlink(path)

    def list_directory(self, path: Path) -> dict[str, DiskEntryKind]:
        return self.inner.list_directory(path)

    def size(self, path: Path) -> int:
        return self.inner.size(path)

    def free_bytes(self, path: Path) -> int:
        return self.inner.free_bytes(path)

    def database_bytes(self, path: Path) -> int:
        return self.inner.database_bytes(path)

    def database(self, path: Path) -> sqlite3.Connection:
        connection = self.inner.database(path)

        def trace(sql: str) -> None:
            if sql == "COMMIT" or sql.startswith(("INSERT", "DELETE FROM shares")):
                self.log.append((sql.split(" (")[0].split(" WHERE")[0], path.name))

        connection.set_trace_callback(trace)
        return connection


@dataclass
class RecordedFile:
    """A file of a Recorded disk."""

    disk: Recorded
    path: Path
    inner: DiskFile

    def write_at(self, offset: int, pieces: Sequence[Buffer]) -> None:
        self.disk.note("write", self.path)
        self.inner.write_at(offset, pieces)

    def read_at(self, offset: int, length: int) -> bytes:
        return self.inner.read_at(offset, length)

    def read_into(self, offset: int, view: memoryview) -> int:
        return self.inner.read_into(offset, view)

    def size(self) -> int:
        return self.inner.size()

    def truncate(self, length: int) -> None:
        self.disk.note("truncate", self.path)
        self.inner.truncate(length)

    def fsync(self) -> None:
        self.disk.note("fsync", self.path)
        self.inner.fsync()

    def close(self) -> None:
        self.inner.close()


def flip(place: Place, path: Path, offset: int) -> None:
    """Let one bit rot, on either disk."""
    if isinstance(place.disk, SimDisk):
        place.disk.flip_bit(path, 8 * offset + 2)
    else:
        data = bytearray(path.read_bytes())
        data[offset] ^= 4
        path.write_bytes(data)


def used_on_disk(place: Place) -> int:
    """What all files under shares/ take, in the pieces file systems hand out."""
    folders = [place.root / "shares" / folder for folder in place.disk.list_directory(place.root / "shares")]
    sizes = [place.disk.size(folder / name) for folder in folders for name in place.disk.list_directory(folder)]
    return sum(-(-size // 4096) * 4096 for size in sizes)


def expire(store: ShareStore, now: float, days: float = 14.5) -> list[tuple[bytes, int]]:
    """Let the grace of uptime pass at a wall clock that stands still, and drop what is due."""
    assert store.drop_expired(now, True) == []
    store.note_uptime(days * 86400, 0.0)
    return store.drop_expired(now, True)
