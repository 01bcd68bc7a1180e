"""Shares of our own that were found damaged or lost are made again here, from any k of the others.

We promised them until their lease ends, and the others name us as their holder. The other holders would make them again
only when few shares are left. So we do what the repair command does, with our own store as the only new host. The
connections for it carry no name, so that no holder takes it for a look of ours at the file.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import field, replace

import trio

from shoal.dht import Contact, NodeId
from shoal.erasure import FileId, Manifest
from shoal.node.care.clocks import ClockComparison
from shoal.node.channel import PeerError, RequestError, open_pool
from shoal.node.context import Context
from shoal.node.errors import NotOneFile, ShoalError
from shoal.node.formats import MAX_LEASE_S, UPLOAD_ID_BYTES
from shoal.node.holders.announcers import Hint
from shoal.node.holders.deletion import Deletion
from shoal.node.holders.line import Line
from shoal.node.holders.search import Search
from shoal.node.holders.statements import MalformedStatement, unchecked_statement
from shoal.node.publishing.lanes import Lane
from shoal.node.publishing.rebuild import rebuild_onto
from shoal.node.publishing.sealing import Batch
from shoal.node.repairing.audit import Audit, Audited
from shoal.node.repairing.repair import plan
from shoal.node.store import OWN_SOURCE, ShareKey, ShareStore, StoreError
from shoal.values import dataclass

MOST_SHARES = 4  # after one beat of the upkeep: a disk that lost thousands is mended over weeks, or by the others
SPREAD_S = 3600.0  # within which it begins: what befell several disks at once is not mended by all at once
SPREAD_PARTS = 8.0  # of an epoch: where a network beats faster
# One share is tried an epoch later, two after that, and so on: k may not answer, others may have it, or the disk may
# spoil what is put on it.
LONGEST_PAUSE_EPOCHS = 32
MEND_TIMEOUT_S = 6 * 3600.0  # of one share: holders that are as slow as they may be hold up the others for so long
END_TIMEOUT_S = 10.0

log = logging.getLogger(__name__)


class _StoreRefused(PeerError):
    """Our own store did not take it."""


@dataclass
class OwnLane(Lane):
    """A lane to our own store; `lease_end` is what a commit promises (seconds since the epoch)."""

    store: ShareStore = field(kw_only=True)

    async def begin(self, context: Context, size_bound: int) -> None:
        """Set room aside. Raises StoreError where there is none."""
        await context.env.call(self.store.begin, self.upload_id, OWN_SOURCE, size_bound, context.env.wall())

    async def _send(self, context: Context, line: Line, batch: Batch, sync: bool) -> None:
        leaves = [segment.data_leaf for segment in batch.segments]
        blocks = batch.blocks(self.share, batch.first)
        try:
            self.received = await context.env.call(
                self.store.write, self.upload_id, batch.first, blocks, leaves, context.env.wall()
            )
        except StoreError as error:
            log.warning("our store did not take a share that is made again: %s", error)
            raise _StoreRefused(str(error)) from error

    async def keep(self, context: Context, manifest: Manifest, lease_end: int) -> None:
        """Make it a share of ours. Raises StoreError where the bytes are not that share, or the disk fails."""
        await context.env.call(
            self.store.commit, self.upload_id, self.share, manifest.encode(), lease_end, context.env.wall()
        )

    async def end(self, context: Context) -> None:
        """Give the room back, unless the share was kept; also while we are being ended. Raises StoreError."""
        with trio.move_on_after(END_TIMEOUT_S, shield=True):
            await context.env.call(self.store.abort, self.upload_id, context.env.wall())


class OwnShares:
    """Mends what `note` is told of, a few shares at a time, one after another.

    no_file: ids of files that nothing can mend. Known ones are left alone, and new ones are added.
    delete: obeys an owner's deletion.
    on_made: hears of files of which a share is here again.
    The counters are since the start.
    """

    def __init__(
        self,
        context: Context,
        me: NodeId,
        store: ShareStore,
        clocks: ClockComparison,
        no_file: set[bytes],
        delete: Callable[[Deletion], Awaitable[bool]],
        on_made: Callable[[FileId], None],
    ) -> None:
        self._context = context
        self._env = context.env
        self._epoch_s = context.network.epoch_s
        self._me = me
        self._store = store
        self._clocks = clocks
        self._no_file = no_file
        self._delete = delete
        self._on_made = on_made
        self.damaged: Sequence[ShareKey] = ()
        self.tried: dict[ShareKey, tuple[int, float]] = {}  # how often, and not again before (monotonic)
        self._wake = trio.Event()
        self.made = self.received_bytes = 0

    def note(self, damaged: Sequence[ShareKey]) -> None:
        """What is damaged or lost in the store now. The store has just worked."""
        self.damaged = damaged
        if damaged and self._due():
            self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            await trio.sleep(self._env.rng.random() * min(SPREAD_S, self._epoch_s / SPREAD_PARTS))
            for key in self._due()[:MOST_SHARES]:
                await self._mend(key)

    def _due(self) -> list[ShareKey]:
        """The shares to be tried now; what was tried long ago is forgotten."""
        now = trio.current_time()
        forgotten_s = LONGEST_PAUSE_EPOCHS * self._epoch_s
        self.tried = {key: tried for key, tried in self.tried.items() if now - tried[1] < forgotten_s}
        return [
            key
            for key in self.damaged
            if key[0] not in self._no_file and (key not in self.tried or self.tried[key][1] <= now)
        ]

    async def _mend(self, key: ShareKey) -> None:
        """Try it once. Where anything goes wrong, the share stays as it is."""
        contact, now = self._context.me(), trio.current_time()
        if contact is None or self._clocks.misleads(now):
            return
        tries = self.tried.get(key, (0, now))[0]
        self.tried[key] = (tries + 1, now + min(2**tries, LONGEST_PAUSE_EPOCHS) * self._epoch_s)
        own, dials = self._context, self._context.pool.dials
        async with open_pool(
            self._env.streams, params=own.network, throttle=own.throttle, bugs=own.bugs, dials=dials
        ) as pool:
            try:
                with trio.move_on_after(MEND_TIMEOUT_S):
                    await self._make_again(replace(self._context, pool=pool), key, contact)
            except NotOneFile:
                self._no_file.add(key[0])
            except (ShoalError, StoreError, RequestError) as error:
                log.info("a damaged share was not made again: %s", error)

    async def _make_again(self, context: Context, key: ShareKey, contact: Contact) -> None:
        """Fetch what it takes and replace the share, if no other holder has it.

        Raises ShoalError where it cannot be made, and StoreError or RequestError where our store does not take it.
        """
        file_id, share = FileId(key[0]), key[1]
        lease_end = await self._env.call(self._store.damaged_until, *key)
        if lease_end is None or lease_end <= self._env.wall():
            return
        manifest, hints = await self._locate(context, file_id)
        lane = OwnLane(share, contact, self._env.entropy(UPLOAD_ID_BYTES), store=self._store)
        await lane.begin(context, manifest.layout.share_bytes)
        try:
            audited = await Audit(context, manifest).run(hints)
            if audited.deletion is not None:
                await self._delete(audited.deletion)
            else:
                await self._fill(context, lane, audited, lease_end)
        finally:
            await lane.end(context)

    async def _fill(self, context: Context, lane: OwnLane, audited: Audited, lease_end: int) -> None:
        """Make the share. Its lease is at least the k-th longest of the others', as in any repair: they may have been
        renewed.
        """
        now = self._env.wall()
        job = plan(audited, now)
        if lane.share not in job.missing:
            return
        self.received_bytes += await rebuild_onto(context, audited.manifest, audited.good_hints, [lane])
        if lane.alive:
            await lane.keep(context, audited.manifest, max(lease_end, int(min(job.lease_end, now + MAX_LEASE_S))))
            self.made += 1
            self._on_made(audited.manifest.id)

    async def _locate(self, context: Context, file_id: FileId) -> tuple[Manifest, list[Hint]]:
        """The manifest and the holders of a file: what we keep of them, or what the others say where that is damaged.

        Raises ShoalError where the others cannot be found, and StoreError where our disk fails.
        """
        manifest, hints = await self._env.call(self._kept, file_id)
        if manifest is not None:
            return manifest, hints
        located = await Search(context, file_id).run()
        return located.manifest, located.hints

    def _kept(self, file_id: FileId) -> tuple[Manifest | None, list[Hint]]:
        """The manifest if it is whole, and where the others state that their shares are. Called in a worker."""
        now = self._env.wall()
        hints = []
        for each in self._store.statements(file_id):
            if each.expires > now and each.holder_id != self._me:
                with suppress(MalformedStatement):  # damaged on disk; nothing in the others is believed either
                    said = unchecked_statement(each.statement)
                    hints.append(Hint(said.share, said.contact))
        with suppress(StoreError):  # it is damaged, too
            encoded = self._store.manifest(file_id)
            if encoded is not None:
                manifest = Manifest.decode(encoded)
                return manifest, [hint for hint in hints if hint.share < manifest.n]
        return None, hints
