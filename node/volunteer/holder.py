"""The volunteer's side: what a node does when peers ask. Every answer comes from the share store or the DHT.

Nothing a caller says is believed: manifests are checked against the shares, statements against their signers, and
nothing here makes the node drop what it keeps.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

import trio

from shoal.erasure import FileId, Manifest
from shoal.node.channel import (
    Announce,
    Announced,
    AnyRequest,
    Blocks,
    Buffer,
    Caller,
    Delete,
    Done,
    GetHeld,
    GetHolders,
    GetManifest,
    HeldShares,
    HolderList,
    LeaseRenewed,
    ManifestBytes,
    Read,
    Reason,
    Renew,
    RequestError,
    Settle,
    Settled,
    Status,
    Survey,
    Surveyed,
    TellHolders,
    Told,
)
from shoal.node.context import Context
from shoal.node.formats import MAX_LEASE_S
from shoal.node.holders.announcing import Announcing
from shoal.node.holders.deletion import Deletion
from shoal.node.holders.known import KnownHolders
from shoal.node.holders.statements import HolderStatement, MalformedStatement, pack_statements
from shoal.node.holders.surveys import Entry, SurveyRow, pack_survey
from shoal.node.store import HeldShare, ShareStore, StoreError
from shoal.node.volunteer.handlers import Handler
from shoal.node.volunteer.store_calls import StoreCalls

SMALL_GAIN_DIVISOR = 1000  # a renewal that gains less than this part of its lease is not worth a sync of the disk
NOT_KEPT = "this file is not kept here"


class HolderService:
    """Answers whoever wants shares, looks after a file, or asks for its other holders. Announces what is kept here."""

    def __init__(
        self,
        context: Context,
        store: ShareStore,
        known_holders: KnownHolders,
        announcing: Announcing,
        calls: StoreCalls,
    ) -> None:
        self._context = context
        self._env = context.env
        self._store = store
        self._calls = calls
        self._known_holders = known_holders
        self._announcing = announcing

    def handlers(self) -> Mapping[type[AnyRequest], Handler]:
        """What this part answers."""
        return {
            GetManifest: self._manifest,
            GetHolders: self._holders,
            TellHolders: self._tell,
            Announce: self._announce,
            Settle: self._settle,
            Read: self._read,
            GetHeld: self._held,
            Survey: self._survey,
            Renew: self._renew,
            Delete: self._delete,
        }

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take up the announcements of all files kept."""
        task_status.started()
        await self._announcing.resume()

    # --- giving shares

    async def _manifest(self, caller: Caller, request: GetManifest, payload: Buffer) -> ManifestBytes:
        manifest = await self._calls.call(self._store.manifest, request.file_id)
        if manifest is None:
            raise RequestError(Status.NOT_FOUND, text=NOT_KEPT)
        return ManifestBytes(manifest)

    async def _read(self, caller: Caller, request: Read, payload: Buffer) -> Blocks:
        place = (request.file_id, request.share_number, request.first_block, request.count)
        if not request.want_data:
            leaves, proof = await self._calls.call(self._store.data_leaves, *place)
            return Blocks(b"", leaves, proof, b"")
        result = await self._calls.call(self._store.read, *place, True)
        return Blocks(result.share_proof, result.data_leaves, result.data_proof, result.blocks)

    async def _held(self, caller: Caller, request: GetHeld, payload: Buffer) -> HeldShares:
        held = await self._calls.call(self._store.held, request.file_id)
        return HeldShares(tuple((each.share_number, each.lease_end) for each in held))

    # --- being looked after

    async def _survey(self, caller: Caller, request: Survey, payload: Buffer) -> Surveyed:
        ids = request.ids
        kept = await self._calls.call(lambda: [self._kept(file_id) for file_id in ids])
        entries: list[Entry] = []
        for file_id, held in zip(ids, kept, strict=True):
            if isinstance(held, bytes):
                entries.append(held)
                continue
            if request.with_statements and held:
                await trio.lowlevel.checkpoint()  # signing takes its time, and there may be a thousand
            rows = [self._row(file_id, each, with_statement=request.with_statements) for each in held]
            entries.append(tuple(rows))
        return Surveyed(max(0, int(self._env.wall())), pack_survey(entries))

    def _kept(self, file_id: FileId) -> list[HeldShare] | bytes:
        """The shares of a file, or its deletion; called in a worker."""
        return self._store.held(file_id) or self._store.tombstone(file_id) or []

    def _row(self, file_id: FileId, held: HeldShare, *, with_statement: bool) -> SurveyRow:
        signed = self._known_holders.own(file_id, held).signed if with_statement else b""
        return SurveyRow(held.share_number, held.lease_end, signed)

    async def _renew(self, caller: Caller, request: Renew, payload: Buffer) -> LeaseRenewed:
        lease_s = min(request.lease_s, MAX_LEASE_S)
        lease_end = int(self._env.wall()) + lease_s
        least = lease_end - lease_s // SMALL_GAIN_DIVISOR

        def renew() -> list[tuple[int, int]]:
            return [
                (
                    each.share_number,
                    self._extend(request.file_id, each, lease_end) if each.lease_end < least else each.lease_end,
                )
                for each in self._store.held(request.file_id)
            ]

        rows = await self._calls.call(renew)
        if not rows:
            raise RequestError(Status.NOT_FOUND, text=NOT_KEPT)
        return LeaseRenewed(tuple(rows))

    def _extend(self, file_id: bytes, held: HeldShare, lease_end: int) -> int:
        return self._store.renew(file_id, held.share_number, lease_end)

    async def _delete(self, caller: Caller, request: Delete, payload: Buffer) -> Done:
        file_id = FileId(request.file_id)
        if not await self.delete(Deletion(file_id, request.issued, request.signature)):
            raise RequestError(Status.FORBIDDEN, Reason.NOT_OWNER, "only the file's owner may delete it")
        return Done()

    async def delete(self, deletion: Deletion) -> bool:
        """Drop a file whose owner wants that; whether it is the owner who says so. RequestError as for peers."""
        if await self._calls.call(self._store.tombstone, deletion.file_id):
            return True
        manifest = await self._calls.call(self._store.manifest, deletion.file_id)
        if manifest is None:
            raise RequestError(Status.NOT_FOUND, text=NOT_KEPT)
        network_id = self._context.network.network_id
        if not deletion.is_by_owner(Manifest.decode(manifest), network_id, self._env.scheme):
            return False
        now = self._env.wall()
        await self._calls.call(
            self._store.delete, deletion.file_id, deletion.pack(), deletion.remembered_until(now), now
        )
        self._announcing.forget(deletion.file_id)
        return True

    # --- knowing the other holders

    async def _holders(self, caller: Caller, request: GetHolders, payload: Buffer) -> HolderList:
        statements = await self._calls.asked(self._known_holders.known(FileId(request.file_id)))
        if not statements:
            raise RequestError(Status.NOT_FOUND, text=NOT_KEPT)
        return HolderList(pack_statements(each.signed for each in statements))

    async def _learn(self, file_id: FileId, payload: Buffer) -> int:
        """Keep what a peer says of the other holders; how many statements are known."""

        with _told_of_junk():
            return await self._calls.call(self._take_in, file_id, payload)

    def _take_in(self, file_id: FileId, payload: Buffer) -> int:
        """The same in a worker."""
        if not self._store.held(file_id):
            raise RequestError(Status.NOT_FOUND, text=NOT_KEPT)
        return self._known_holders.take_in(file_id, bytes(payload))

    async def _tell(self, caller: Caller, request: TellHolders, payload: Buffer) -> Told:
        file_id = FileId(request.file_id)
        told = Told(await self._learn(file_id, payload))
        if caller.node_id is not None:  # another holder; a publisher asks us to announce when it has told everybody
            with suppress(StoreError):  # then our own look does it
                await self._announcing.take_up(file_id, if_new=True)
        return told

    async def _announce(self, caller: Caller, request: Announce, payload: Buffer) -> Announced:
        reports = await self._calls.asked(self._announcing.announce(FileId(request.file_id), patient=request.patient))
        if reports is None:
            raise RequestError(Status.NOT_FOUND, text=NOT_KEPT)
        return Announced(_rows(reports))

    async def _settle(self, caller: Caller, request: Settle, payload: Buffer) -> Settled:
        file_id = FileId(request.file_id)

        def learn() -> tuple[int, tuple[list[HeldShare], list[HolderStatement]]]:
            return self._take_in(file_id, payload), self._known_holders.kept(file_id)

        with _told_of_junk():
            count, kept = await self._calls.call(learn)  # one way to a worker and back for both
        known = self._known_holders.with_own(file_id, *kept)
        reports = await self._calls.asked(self._announcing.announce(file_id, deep=1, known=known))
        if reports is None:
            raise RequestError(Status.NOT_FOUND, text=NOT_KEPT)
        return Settled(count, _rows(reports))


@contextmanager
def _told_of_junk() -> Iterator[None]:
    """Answer a list that has junk in it."""
    try:
        yield
    except MalformedStatement as error:
        raise RequestError(Status.MALFORMED, text=str(error)) from error


def _rows(reports: Mapping[int, tuple[int, int]]) -> tuple[tuple[int, ...], ...]:
    return tuple((number, *counts) for number, counts in reports.items())
