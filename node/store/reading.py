"""Reading shares: blocks with the proofs that tie them to the manifest, checked before they leave the store.

Hashing a 64 KiB block takes about 8 µs, and climbing to both roots little more. So every read is checked whole. Bit rot
in blocks, trees or manifest is raised as ShareDamaged and never served.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from shoal.erasure import (
    BLOCK_BYTES,
    HASH_BYTES,
    Buffer,
    MalformedManifest,
    Manifest,
    block_leaf,
    block_node,
    data_node,
    manifest_id,
    payload_memory,
    split_nodes,
    verify_range,
)
from shoal.node.store.catalogue import ShareKey, ShareRow
from shoal.node.store.disk import Disk, DiskFile
from shoal.node.store.errors import MEDIA_ERRORS, BadRange, ShareDamaged, disk_errors
from shoal.node.store.limits import MAX_READ_BLOCKS
from shoal.node.store.shareformat import NotAShareFile, Trailer, decode_trailer, share_name
from shoal.node.store.trees import StoredTree, TreeProofs, block_tree, data_tree
from shoal.node.store.uploads import split_blocks
from shoal.values import dataclass


@dataclass(frozen=True, slots=True)
class ReadResult:
    """What a holder answers to a read.

    blocks: the blocks one after another.  share_proof: ties their leaf hashes to the share's root.
    data_leaves: 32 bytes per block, the data-tree leaves of the same segments.  data_proof: ties those to the
    data root. The last two are empty when not asked for.
    """

    blocks: Buffer
    share_proof: bytes
    data_leaves: bytes
    data_proof: bytes


class OpenShare:
    """A share ready to be read, from a file or from the database. Reading is thread-safe."""

    def __init__(self, row: ShareRow, encoded_manifest: bytes, file: DiskFile | None) -> None:
        manifest = _manifest(row, encoded_manifest)
        self.row = row
        self._encoded_manifest = encoded_manifest
        self._file = file
        self._share_root = manifest.share_roots[row.share_number]
        self._data_root = manifest.data_root
        self.block_count = manifest.layout.segment_count
        self._trees = _trees(row, len(encoded_manifest), file)
        self._proofs = tuple(TreeProofs(tree) for tree in self._trees or ())  # of blocks, and of data leaves

    def read(self, first_block: int, count: int, want_data: bool) -> ReadResult:
        """Read and check blocks [first_block, first_block + count).

        Raises BadRange when the share has no such blocks, ShareDamaged when bytes have changed, DiskFailed
        otherwise.
        """
        self._check_range(first_block, count)
        with self._reading():
            blocks = self._blocks(first_block, count)
            share_proof = self._check_blocks(first_block, count, blocks)
            data_leaves, data_proof = self._data_part(first_block, count) if want_data else (b"", b"")
        return ReadResult(blocks, share_proof, data_leaves, data_proof)

    def data_leaves(self, first_block: int, count: int) -> tuple[bytes, bytes]:
        """Read leaves of the data tree and their proof, without the blocks. Raises the same errors as `read`."""
        self._check_range(first_block, count)
        with self._reading():
            return self._data_part(first_block, count)

    def check_frame(self) -> int:
        """Check what reads of blocks may never touch: every tree node, the manifest, the trailer. Returns the bytes
        read.

        Raises ShareDamaged when bytes have changed, DiskFailed when the disk failed.
        """
        if self._trees is None or self._file is None:
            return 0
        trailer = self.row.trailer(len(self._encoded_manifest))
        with self._reading():
            if self._file.size() != trailer.file_bytes:
                raise self._damaged("its file has another length")
            for tree, root in zip(self._trees, (self._share_root, self._data_root), strict=True):
                if not tree.leads_to(root):
                    raise self._damaged("its trees do not lead to the manifest's roots")
            tail = self._file.read_at(trailer.manifest_offset, trailer.file_bytes - trailer.manifest_offset)
            self._check_tail(tail, trailer)
        return trailer.file_bytes - trailer.share_bytes

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Raise ShareDamaged for a place of the disk that cannot be read. Other failures are the machine's own."""
        with disk_errors(f"share {share_name(*self.row.key)}"):
            try:
                yield
            except OSError as error:
                if error.errno in MEDIA_ERRORS:
                    raise self._damaged(f"a part of it cannot be read ({error.strerror})") from error
                raise

    def _check_tail(self, tail: bytes, expected: Trailer) -> None:
        """Check only what names the share. Lease and upload may have changed in the database since it was written."""
        length = expected.manifest_bytes
        try:
            found = decode_trailer(tail[length:], expected.file_bytes)
        except NotAShareFile as error:
            raise self._damaged(f"its trailer: {error}") from error
        is_same = (found.file_id, found.share_number, found.share_bytes) == (*self.row.key, self.row.share_bytes)
        if not is_same or tail[:length] != self._encoded_manifest:
            raise self._damaged("its manifest or trailer changed")

    def _check_range(self, first_block: int, count: int) -> None:
        if not (first_block >= 0 and 1 <= count <= MAX_READ_BLOCKS and first_block + count <= self.block_count):
            raise BadRange(f"{count} blocks from {first_block} on, of {self.block_count}")

    def _blocks(self, first_block: int, count: int) -> Buffer:
        if self._file is None:
            return self.row.data or b""
        start = first_block * BLOCK_BYTES
        length = min(count * BLOCK_BYTES, self.row.share_bytes - start)
        blocks = payload_memory.view(length)
        found = self._file.read_into(start, blocks)
        if found != length:
            raise self._damaged(f"the file ends {length - found} bytes early")
        return blocks.toreadonly()

    def _check_blocks(self, first: int, count: int, blocks: Buffer) -> bytes:
        leaves = [block_leaf(block) for block in split_blocks(blocks)]
        proof = self._proofs[0].proof(first, count) if self._proofs else b""
        if not verify_range(block_node, self._share_root, self.block_count, first, leaves, proof):
            raise self._damaged(f"something in blocks {first} to {first + count - 1} or their proof changed")
        return proof

    def _data_part(self, first: int, count: int) -> tuple[bytes, bytes]:
        """Return data leaves and their proof. A single leaf is the data root itself."""
        if not self._trees:
            return self._data_root, b""
        leaves, proof = self._trees[1].read(first, count), self._proofs[1].proof(first, count)
        is_whole = len(leaves) == count * HASH_BYTES and verify_range(
            data_node, self._data_root, self.block_count, first, split_nodes(leaves), proof
        )
        if not is_whole:
            raise self._damaged(f"data leaves {first} to {first + count - 1} or their proof changed")
        return leaves, proof

    def _damaged(self, what: str) -> ShareDamaged:
        return ShareDamaged(*self.row.key, what)


def _manifest(row: ShareRow, encoded: bytes) -> Manifest:
    try:
        manifest = Manifest.decode(encoded)
    except MalformedManifest as error:
        raise ShareDamaged(*row.key, f"its manifest: {error}") from error
    is_right = manifest_id(encoded) == row.file_id and row.share_number < manifest.n
    if not is_right or manifest.layout.share_bytes != row.share_bytes:
        raise ShareDamaged(*row.key, "its manifest is not the one it was stored with")
    return manifest


def _trees(row: ShareRow, manifest_bytes: int, file: DiskFile | None) -> tuple[StoredTree, StoredTree] | None:
    if file is None:
        return None
    trailer = row.trailer(manifest_bytes)
    return block_tree(file, trailer), data_tree(file, trailer)


def open_share(disk: Disk, path: Path | None, row: ShareRow, manifest: bytes) -> OpenShare:
    """Open what a row describes; `path` is None for one in the database. ShareDamaged (file gone, too), DiskFailed."""
    if path is None:
        return OpenShare(row, manifest, None)
    with disk_errors(f"share {share_name(*row.key)}"):
        try:
            file = disk.open(path)
        except FileNotFoundError as error:
            raise ShareDamaged(*row.key, "its file is gone") from error
    try:
        return OpenShare(row, manifest, file)
    except ShareDamaged:
        file.close()
        raise


class HandleCache:
    """The shares read last, kept open: at most `limit` and those being read right now. Thread-safe."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._open: OrderedDict[ShareKey, OpenShare] = OrderedDict()
        self._pins: dict[int, int] = {}  # id of an OpenShare -> readers inside
        self._changes = 0  # how often something was forgotten

    @contextmanager
    def pinned(self, key: ShareKey, opener: Callable[[], OpenShare]) -> Iterator[OpenShare]:
        """Give the open share. While the block runs its file stays open, so its descriptor is not used for another
        file.
        """
        changes = self._changes
        share = self._pin(key) or self._add(key, opener(), changes)
        try:
            yield share
        finally:
            self._unpin(key, share)

    def forget(self, key: ShareKey) -> None:
        """The share was replaced or given up: the next reader opens it anew."""
        with self._lock:
            self._changes += 1
            share = self._open.pop(key, None)
            if share and id(share) not in self._pins:
                share.close()

    def close(self) -> None:
        """Close all files."""
        for key in list(self._open):
            self.forget(key)

    def __len__(self) -> int:
        return len(self._open)

    def _pin(self, key: ShareKey) -> OpenShare | None:
        with self._lock:
            share = self._open.get(key)
            if share:
                self._open.move_to_end(key)
                self._pins[id(share)] = self._pins.get(id(share), 0) + 1
            return share

    def _add(self, key: ShareKey, opened: OpenShare, changes: int) -> OpenShare:
        """Keep a share just opened, unless another thread was faster or the share may just have been given up."""
        with self._lock:
            share = self._open.get(key, opened)
            if share is not opened:
                opened.close()
            elif changes == self._changes:
                self._open[key] = share
            self._pins[id(share)] = self._pins.get(id(share), 0) + 1
            self._shrink()
            return share

    def _shrink(self) -> None:
        idle = [key for key, share in self._open.items() if id(share) not in self._pins]
        for key in idle[: max(0, len(self._open) - self._limit)]:
            self._open.pop(key).close()

    def _unpin(self, key: ShareKey, share: OpenShare) -> None:
        with self._lock:
            readers = self._pins.pop(id(share)) - 1
            if readers:
                self._pins[id(share)] = readers
            elif self._open.get(key) is not share:
                share.close()
