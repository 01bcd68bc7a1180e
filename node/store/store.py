"""ShareStore: what a volunteer's node keeps. It is the one class that the rest of the node talks to.

Everything here blocks and is called from worker threads; every method is thread-safe. Times are seconds since
the epoch, given by the caller.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from shoal.erasure import BLOCK_BYTES, Buffer, manifest_id
from shoal.node.store.accounts import Accounts, Usage
from shoal.node.store.catalogue import Catalogue, HeldFile, HeldShare, KeptStatement, ShareKey, ShareState
from shoal.node.store.commit import Committer, read_promise
from shoal.node.store.database import open_database
from shoal.node.store.disk import Disk
from shoal.node.store.errors import BadManifest, ManifestDamaged, NotHeld, StoreError, disk_errors
from shoal.node.store.health import StoreHealth, health
from shoal.node.store.intake import Intake
from shoal.node.store.leases import Leases
from shoal.node.store.limits import MAX_PAGE, USUAL_BOUNDS, Bounds
from shoal.node.store.opening import Opener
from shoal.node.store.quarantine import Quarantine
from shoal.node.store.reading import HandleCache, ReadResult
from shoal.node.store.reconcile import Reconciled, Reconciler
from shoal.node.store.removal import FileLocks, Remover
from shoal.node.store.scrub import Scrubber, ScrubReport
from shoal.node.store.sources import Sources
from shoal.node.store.tombstones import Tombstones
from shoal.node.store.uploads import Uploads

DATABASE_NAME = "shares.db"


class ShareStore:
    """Shares, uploads, statements and leases of one volunteer under one directory.

    capacity_bytes: most bytes to use in all.  reserve_bytes: free disk to leave to others.  private: lifts
    the limits per source prefix.  Opening brings database and files in line (`reconciled`). It raises StoreUnusable,
    and changes nothing, when the database is no share store, damaged or of a newer version. At most one store may be
    open on a directory; the lock of the home sees to that.

    The class is long because it is the face of the package: nearly every method hands on to the part that does the
    work.
    """

    def __init__(
        self,
        disk: Disk,
        root: Path,
        *,
        capacity_bytes: int,
        reserve_bytes: int,
        now: float,
        private: bool = False,
        bounds: Bounds = USUAL_BOUNDS,
    ) -> None:
        self._disk = disk
        self._root = root
        with disk_errors(f"share directory {root}"):
            disk.make_directories(root / "shares")
        database = root / DATABASE_NAME
        self.database = open_database(disk, database)
        self._catalogue = Catalogue(self.database)
        self.handles = HandleCache(bounds.share_handles)
        self._accounts = Accounts(
            capacity_bytes=capacity_bytes,
            reserve_bytes=reserve_bytes,
            free_bytes=lambda: disk.free_bytes(root),
            database_bytes=lambda: disk.database_bytes(database),
            intake=self._load_intake(),
            private=private,
        )
        self.uploads = Uploads(disk, root, self.database, self._accounts, bounds)
        locks = FileLocks()
        shares = (disk, root, self._catalogue, self._accounts, self.handles, locks)
        self.remover = Remover(*shares, bounds.tombstones)
        self._quarantine = Quarantine(*shares, self.remover)
        self._leases = Leases(self.database, bounds.drops)
        self._tombstones = Tombstones(self.database)
        self._sources = Sources(self.database, self._accounts.places.group)
        self._committer = Committer(
            disk, root, self._catalogue, self._accounts, self.uploads, self._quarantine, self._tombstones, locks
        )
        self.opener = Opener(disk, root, self._catalogue, self.handles, self._quarantine)
        self._scrubber = Scrubber(self._catalogue, self.opener)
        self.reconciled = self._reconcile(now)

    def close(self) -> None:
        """Close files and database. A store that was never closed is as safe."""
        self.uploads.close()
        self.handles.close()
        self.database.close()

    # receiving

    def begin(self, upload_id: bytes, source: bytes, size_bound_bytes: int, now: float) -> int:
        """Open or renew an upload. What was received is made durable first. Returns the number of durable blocks.

        upload_id: 16 bytes chosen by the publisher.  source: the host it comes from, as 4 bytes of IPv4 or 8 of IPv6.
        size_bound_bytes: most bytes it will send, 0 when unknown. An upload committed before answers with all its
        blocks. An offer takes no room: that is taken as bytes arrive.

        Raises StoreFull when a limit leaves no room, LocalFailure when the disk or the database failed.
        """
        committed = self._catalogue.committed_bytes(upload_id)
        if committed is not None:
            return -(-committed // BLOCK_BYTES)
        return self.uploads.begin(upload_id, source, size_bound_bytes, now)

    def write(
        self,
        upload_id: bytes,
        first_block: int,
        blocks: Sequence[Buffer],
        data_leaves: Sequence[bytes],
        now: float,
    ) -> int:
        """Take blocks with a data-tree leaf each. Every block but the very last has 64 KiB. Returns the blocks
        received.

        Blocks sent again are skipped. Raises UnknownUpload when no such upload is open, GaveWay when another one got
        its room, UploadGap when blocks were left out, BadUpload when their form is wrong, StoreFull at a limit,
        LocalFailure when the disk failed.
        """
        return self.uploads.write(upload_id, first_block, blocks, data_leaves, now)

    def sync(self, upload_id: bytes, now: float) -> int:
        """Make durable what was received. Returns the durable blocks. Raises LocalFailure, and discards the upload."""
        return self.uploads.sync(upload_id, now)

    def durable_blocks(self, upload_id: bytes) -> int:
        """Return how many blocks are durable already. Raises UnknownUpload when no such upload is open."""
        return self.uploads.durable_blocks(upload_id)

    def commit(self, upload_id: bytes, share_number: int, manifest: bytes, lease_end: int, now: float) -> int:
        """Turn an upload into a share. Returns its lease end. From then on the share survives a power cut.

        Repeating it after a lost answer is harmless. Raises BadManifest when the manifest is none or has no such share.
        Otherwise it raises what `Committer.commit` raises.
        """
        promise = read_promise(manifest, share_number, int(lease_end))
        kept_until = self._committer.commit(upload_id, promise, now)
        self.handles.forget(promise.key)
        return kept_until

    def put(
        self,
        upload_id: bytes,
        source: bytes,
        share_number: int,
        manifest: bytes,
        block: Buffer,
        lease_end: int,
        now: float,
    ) -> int:
        """Keep a share of one block: `begin`, `write` and `commit` at once. Returns its lease end.

        Nothing of it stays open where one of them raises. Repeating it is harmless. Raises what they raise, and
        BadManifest when the file has more than one segment.
        """
        promise = read_promise(manifest, share_number, int(lease_end))
        if promise.manifest.layout.segment_count != 1:
            raise BadManifest("a share of more than one block cannot be put at once")
        if self._catalogue.committed_bytes(upload_id) is None:
            try:
                self.uploads.begin(upload_id, source, len(block), now)
                self.uploads.write(upload_id, 0, [block], [promise.manifest.data_root], now)
            except StoreError:
                self.uploads.abort(upload_id, now)
                raise
        kept_until = self._committer.commit(upload_id, promise, now)
        self.handles.forget(promise.key)
        return kept_until

    def abort(self, upload_id: bytes, now: float) -> None:
        """Give an upload up."""
        self.uploads.abort(upload_id, now)

    def expire(self, now: float, jumped_s: float = 0.0) -> int:
        """Remove uploads left alone for 24 h, or for 10 minutes if nothing is durable. Returns how many. Call it often.

        jumped_s: by how much the clock was put ahead since the last call. The jump makes no upload older. An upload
        that was touched in the future, while the clock was ahead, counts as touched now.
        """
        self._accounts.forget_intake(now)
        return self.uploads.expire(now, jumped_s)

    # reading

    def manifest(self, file_id: bytes) -> bytes | None:
        """Return the manifest bytes of a file with a share here, be it lost or damaged; else None.

        Raises ManifestDamaged when the bytes have changed.
        """
        encoded = self._catalogue.manifest(file_id)
        if encoded is not None and manifest_id(encoded) != file_id:
            raise ManifestDamaged(file_id)
        return encoded

    def read(self, file_id: bytes, share_number: int, first_block: int, count: int, want_data: bool) -> ReadResult:
        """Read up to 16 blocks with proofs, all checked.

        Raises NotHeld when the share is not kept, BadRange when it has no such blocks, DiskFailed when the disk failed,
        ShareDamaged when the bytes have changed. A damaged share no longer counts as held and may be stored anew. Its
        good blocks are served until then.
        """
        with self.opener.kept((file_id, share_number)) as share:
            return share.read(first_block, count, want_data)

    def data_leaves(self, file_id: bytes, share_number: int, first_block: int, count: int) -> tuple[bytes, bytes]:
        """Up to 16 leaves of the data tree and their proof, without the blocks. Errors as for `read`."""
        with self.opener.kept((file_id, share_number)) as share:
            return share.data_leaves(first_block, count)

    def held(self, file_id: bytes) -> list[HeldShare]:
        """The shares of a file kept here, by number."""
        return self._catalogue.held(file_id)

    def files(self, after: bytes = b"", limit: int = MAX_PAGE) -> list[bytes]:
        """Ids of files kept here, in order, from the first one above `after` on; at most 1000 at a time."""
        return self._catalogue.files(after, limit)

    def files_page(self, after: bytes = b"", limit: int = MAX_PAGE) -> list[HeldFile]:
        """As `files`, with shares and lease ends."""
        return self._catalogue.files_page(after, limit)

    def source_groups(self, file_ids: Iterable[bytes]) -> dict[bytes, bytes]:
        """The group of sources that each of these files came from: a /24 or /48; in a private network a host.

        The group is that of the upload which brought the first share. It is empty for files of older versions.
        """
        return self._sources.groups(file_ids)

    def damaged(self) -> list[ShareKey]:
        """Up to 1000 shares that are lost or damaged, for repair."""
        return self._catalogue.damaged()

    def damaged_until(self, file_id: bytes, share_number: int) -> int | None:
        """The lease end of a lost or damaged share; None when it is whole or not there."""
        row = self._catalogue.share((file_id, share_number))
        return None if row is None or row.state is ShareState.WHOLE else row.lease_end

    def renew(self, file_id: bytes, share_number: int, lease_end: int) -> int:
        """Move a lease end forward, never back. Returns the lease end now. Raises NotHeld when the share is not
        kept.
        """
        kept_until = self._catalogue.extend_lease((file_id, share_number), int(lease_end))
        if kept_until is None:
            raise NotHeld("this share is not kept here")
        return kept_until

    # letting go

    def note_uptime(self, seconds: float, now: float) -> float:
        """Count time this node was up, durably. Returns the total so far. Call it every few hours while the node
        runs.
        """
        return self._leases.note_uptime(seconds, now)

    def last_up(self) -> float:
        """The wall clock when uptime was counted last; 0 where it never was."""
        return self._leases.last_up()

    def drop_expired(
        self, now: float, clock_agrees: bool, on_dropped: Callable[[ShareKey], None] = lambda key: None
    ) -> list[ShareKey]:
        """Drop at most 1000 shares whose lease is over beyond doubt. Returns which. Call it every few hours at most.

        clock_agrees: the wall clock is within a day of the median of at least five peers. Without it nothing is
        dropped, and no lease is seen to end. See leases.py for the three conditions. Damaged copies whose time in
        quarantine is over are removed too, and tombstones past their time forgotten.

        on_dropped: called with each share as soon as it is dropped. Raises LocalFailure when disk or database failed.
        What was dropped before that stays dropped.
        """
        self._leases.observe(now, clock_agrees)
        self._quarantine.expire()
        if not clock_agrees:
            return []
        self._tombstones.forget(now)
        return self.remover.drop(self._leases.due(now), now, on_dropped)

    def delete(self, file_id: bytes, tombstone: bytes, until: int, now: float) -> list[int]:
        """Give up all of a file for its owner. Returns the numbers of its shares. The caller has checked the signature.

        tombstone: up to 512 bytes. until: seconds since the epoch, later than any lease can end. The tombstone is kept
        at least until then, and for so long no share of the file is taken. When this returns, no power cut brings a
        share back. Raises LocalFailure when disk or database failed.
        """
        return self.remover.delete(file_id, tombstone, until, now)

    def tombstone(self, file_id: bytes) -> bytes | None:
        """Return the tombstone that `delete` was given for this file, while it is remembered."""
        return self._tombstones.get(file_id)

    def scrub(self, now: float, budget_bytes: int) -> ScrubReport:
        """Read and check about so many bytes of the shares not checked for longest. Put damaged shares aside.

        Call it often with a small budget (`scrub_budget_bytes`), and not twice at the same time. Raises LocalFailure
        when disk or database failed.
        """
        return self._scrubber.scrub(now, budget_bytes)

    # statements

    def add_statements(self, file_id: bytes, statements: Iterable[KeptStatement], now: float) -> int:
        """Keep verified holder statements about a file held here, at most 4 per share. Returns how many were new."""
        return self._catalogue.add_statements(file_id, statements, now)

    def statements(self, file_id: bytes) -> list[KeptStatement]:
        """The statements kept about a file."""
        return self._catalogue.statements(file_id)

    def statement_count(self, file_id: bytes) -> int:
        """How many there are."""
        return self._catalogue.statement_count(file_id)

    def holders(self, file_id: bytes) -> list[bytes]:
        """Return the ids of all nodes whose statements are kept, each once."""
        return self._catalogue.holders(file_id)

    # figures

    def usage(self, now: float | None = None) -> Usage:
        """All figures at one moment. Without `now`, no upload counts as idle, and what they take as not available."""
        files, shares = self._catalogue.counts()
        return replace(self._accounts.usage(now), files=files, shares=shares)

    def health(self) -> StoreHealth:
        """Shares by state, the soonest lease end, quarantine, uptime."""
        return health(self.database)

    @property
    def share_bytes(self) -> int:
        """What the share files take on the disk; known without asking it."""
        return self._accounts.share_bytes

    def available_bytes(self, now: float) -> int:
        """What a new share may still take. Idle uploads would give way to it."""
        return self._accounts.available_bytes(now)

    # inside

    def _load_intake(self) -> Intake:
        intake = Intake()
        intake.load(self.database.rows("SELECT source, hour, bytes FROM intake"))
        return intake

    def _reconcile(self, now: float) -> Reconciled:
        report, uploads = Reconciler(self._disk, self._root, self._catalogue).run(now)
        for upload in uploads:
            self.uploads.restore(upload)
        self._accounts.add_share(self._catalogue.file_bytes() + report.stray_bytes)
        return report
