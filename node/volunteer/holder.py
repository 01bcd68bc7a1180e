"""The volunteer's side: what a node does when peers ask. Every answer comes from the share store or the DHT.

Nothing a caller says is believed: manifests are checked against the shares, statements against their signers, and
nothing here makes the node drop what it keeps.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import msgpack
import trio

from shoal.dht import Address, Identity
from shoal.erasure import FileId, Manifest
from shoal.node.care.problems import Problems
from shoal.node.channel import (
    Abort,
    Announce,
    Announced,
    Blocks,
    Buffer,
    Caller,
    Commit,
    Committed,
    Delete,
    Done,
    GetHeld,
    GetHolders,
    GetManifest,
    GetStatus,
    HeldShares,
    HolderList,
    ManifestBytes,
    Offer,
    Offered,
    Read,
    Reason,
    Renew,
    Renewed,
    RequestError,
    Role,
    Status,
    StatusReport,
    Stop,
    Survey,
    Surveyed,
    TellHolders,
    Told,
    Write,
    Written,
)
from shoal.node.context import Context
from shoal.node.holders.companions import Companions
from shoal.node.holders.deletion import Deletion
from shoal.node.holders.statements import MalformedStatement, pack_statements
from shoal.node.holders.surveys import Entry, SurveyRow, pack_survey
from shoal.node.store import (
    Deleted,
    HeldShare,
    Limit,
    LocalFailure,
    NotHeld,
    PeerMistake,
    ShareStore,
    StoreError,
    StoreFull,
    split_blocks,
)
from shoal.node.volunteer.ending import Ending
from shoal.node.volunteer.handlers import Handlers

T = TypeVar("T")
Report = Callable[[], Awaitable[Mapping[str, Any]]]

LEASE_LIMIT_S = 90 * 86400  # DESIGN section 5: at most 90 days from now
SMALL_GAIN_DIVISOR = 1000  # a renewal that gains less than this part of its lease is not worth a sync of the disk
NOT_KEPT = "this file is not kept here"
_LIMITS = {  # what a caller is told of the limit that was reached
    Limit.CAPACITY: Reason.CAPACITY,
    Limit.DISK: Reason.DISK,
    Limit.UPLOADS: Reason.UPLOADS,
    Limit.SOURCE: Reason.SOURCE,
}


class Holder:
    """Answers the requests of peers and announces what is kept here.

    `own_address` gives the address to put into statements; `status` the administrator's report. `problems` hears of a
    disk that fails, `ending` of the administrator's wish that the node end.
    """

    def __init__(
        self,
        context: Context,
        identity: Identity,
        store: ShareStore,
        own_address: Callable[[], Address],
        status: Report,
        problems: Problems,
        ending: Ending,
        handlers: Handlers,
    ) -> None:
        self._context = context
        self._env = context.env
        self._store = store
        self._status = status
        self._problems = problems
        self._ending = ending
        self.is_leaving = False
        self.companions = Companions(context, identity, store, own_address)
        self._handlers = handlers
        handlers.update(
            {
                Offer: self._offer,
                Write: self._write,
                Commit: self._commit,
                Abort: self._abort,
                GetManifest: self._manifest,
                GetHolders: self._holders,
                TellHolders: self._tell,
                Announce: self._announce,
                Read: self._read,
                GetHeld: self._held,
                Survey: self._survey,
                Renew: self._renew,
                Delete: self._delete,
                GetStatus: self._report,
                Stop: self._stop,
            }
        )

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take up the announcements of all files kept."""
        task_status.started()
        await self.companions.resume()

    async def _call(self, function: Callable[..., T], *args: object) -> T:
        """Call the store in a worker and translate what it says."""
        with self._answers():
            return await self._env.call(function, *args)

    async def _asked(self, work: Awaitable[T]) -> T:
        """The same for what calls the store by itself."""
        with self._answers():
            return await work

    @contextmanager
    def _answers(self) -> Iterator[None]:
        """Translate what the store says into an answer."""
        try:
            yield
        except StoreFull as error:
            raise RequestError(Status.FULL, _LIMITS[error.limit], str(error)) from error
        except NotHeld as error:
            raise RequestError(Status.NOT_FOUND, text=str(error)) from error
        except Deleted as error:
            raise RequestError(Status.FORBIDDEN, Reason.DELETED, str(error)) from error
        except PeerMistake as error:
            raise RequestError(Status.MALFORMED, text=str(error)) from error
        except LocalFailure as error:
            self._problems.failed(error)
            raise RequestError(Status.INTERNAL, Reason.DISK_FAILED, "this holder's disk failed") from error

    # --- taking shares

    async def _offer(self, caller: Caller, request: Offer, payload: Buffer) -> Offered:
        self._check_staying()
        source = caller.remote.prefix()
        durable = await self._call(
            self._store.begin, request.upload_id, source, request.size_bound_bytes, self._env.wall()
        )
        return Offered(durable, 0)

    async def _write(self, caller: Caller, request: Write, payload: Buffer) -> Written:
        blocks = split_blocks(payload)
        leaves = [request.data_leaves[at : at + 32] for at in range(0, len(request.data_leaves), 32)]

        def write() -> tuple[int, int]:
            now = self._env.wall()
            received = self._store.write(request.upload_id, request.first_block, blocks, leaves, now)
            if request.sync:
                return received, self._store.sync(request.upload_id, now)
            return received, self._store.durable_blocks(request.upload_id)

        return Written(*await self._call(write))

    async def _commit(self, caller: Caller, request: Commit, payload: Buffer) -> Committed:
        self._check_staying()
        now = self._env.wall()
        lease_end = int(now) + min(request.lease_s, LEASE_LIMIT_S)
        manifest = bytes(payload)
        kept_until = await self._call(
            self._store.commit, request.upload_id, request.share_number, manifest, lease_end, now
        )
        file_id = Manifest.decode(manifest).id
        statement = self.companions.own(file_id, HeldShare(request.share_number, kept_until))
        return Committed(kept_until, statement.signed)

    def _check_staying(self) -> None:
        """What comes while the node leaves could be overlooked, and removed with its disk."""
        if self.is_leaving:
            raise RequestError(Status.REFUSED, Reason.LEAVING, "this node is about to leave the network")

    async def _abort(self, caller: Caller, request: Abort, payload: Buffer) -> Done:
        await self._call(self._store.abort, request.upload_id, self._env.wall())
        return Done()

    # --- giving shares

    async def _manifest(self, caller: Caller, request: GetManifest, payload: Buffer) -> ManifestBytes:
        manifest = await self._call(self._store.manifest, request.file_id)
        if manifest is None:
            raise RequestError(Status.NOT_FOUND, text=NOT_KEPT)
        return ManifestBytes(manifest)

    async def _read(self, caller: Caller, request: Read, payload: Buffer) -> Blocks:
        place = (request.file_id, request.share_number, request.first_block, request.count)
        if not request.want_data:
            leaves, proof = await self._call(self._store.data_leaves, *place)
            return Blocks(b"", leaves, proof, b"")
        result = await self._call(self._store.read, *place, True)
        return Blocks(result.share_proof, result.data_leaves, result.data_proof, result.blocks)

    async def _held(self, caller: Caller, request: GetHeld, payload: Buffer) -> HeldShares:
        held = await self._call(self._store.held, request.file_id)
        return HeldShares(tuple((each.share_number, each.lease_end) for each in held))

    # --- being looked after

    async def _survey(self, caller: Caller, request: Survey, payload: Buffer) -> Surveyed:
        ids = [FileId(request.file_ids[at : at + 32]) for at in range(0, len(request.file_ids), 32)]
        kept = await self._call(lambda: [self._kept(file_id) for file_id in ids])
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
        signed = self.companions.own(file_id, held).signed if with_statement else b""
        return SurveyRow(held.share_number, held.lease_end, signed)

    async def _renew(self, caller: Caller, request: Renew, payload: Buffer) -> Renewed:
        lease_s = min(request.lease_s, LEASE_LIMIT_S)
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

        rows = await self._call(renew)
        if not rows:
            raise RequestError(Status.NOT_FOUND, text=NOT_KEPT)
        return Renewed(tuple(rows))

    def _extend(self, file_id: bytes, held: HeldShare, lease_end: int) -> int:
        return self._store.renew(file_id, held.share_number, lease_end)

    async def _delete(self, caller: Caller, request: Delete, payload: Buffer) -> Done:
        file_id = FileId(request.file_id)
        if not await self.delete(Deletion(file_id, request.issued, request.signature)):
            raise RequestError(Status.FORBIDDEN, Reason.NOT_OWNER, "only the file's owner may delete it")
        return Done()

    async def delete(self, deletion: Deletion) -> bool:
        """Drop a file whose owner wants that; whether it is the owner who says so. RequestError as for peers."""
        if await self._call(self._store.tombstone, deletion.file_id):
            return True
        manifest = await self._call(self._store.manifest, deletion.file_id)
        if manifest is None:
            raise RequestError(Status.NOT_FOUND, text=NOT_KEPT)
        network_id = self._context.network.network_id
        if not deletion.is_by_owner(Manifest.decode(manifest), network_id, self._env.scheme):
            return False
        now = self._env.wall()
        await self._call(self._store.delete, deletion.file_id, deletion.pack(), deletion.remembered_until(now), now)
        self.companions.forget(deletion.file_id)
        return True

    # --- knowing the other holders

    async def _holders(self, caller: Caller, request: GetHolders, payload: Buffer) -> HolderList:
        statements = await self._asked(self.companions.known(FileId(request.file_id)))
        if not statements:
            raise RequestError(Status.NOT_FOUND, text=NOT_KEPT)
        return HolderList(pack_statements(each.signed for each in statements))

    async def _tell(self, caller: Caller, request: TellHolders, payload: Buffer) -> Told:
        file_id = FileId(request.file_id)

        def learn() -> int:
            if not self._store.held(file_id):
                raise RequestError(Status.NOT_FOUND, text=NOT_KEPT)
            return self.companions.take_in(file_id, bytes(payload))

        try:
            told = Told(await self._call(learn))
        except MalformedStatement as error:
            raise RequestError(Status.MALFORMED, text=str(error)) from error
        if caller.node_id is not None:  # another holder; a publisher asks us to announce when it has told everybody
            with suppress(StoreError):  # then our own look does it
                await self.companions.take_up(file_id, if_new=True)
        return told

    async def _announce(self, caller: Caller, request: Announce, payload: Buffer) -> Announced:
        stands_in = caller.node_id is not None  # another holder asks, and again later; a publisher asks once
        reports = await self._asked(
            self.companions.announce(FileId(request.file_id), patient=request.patient, from_table=stands_in)
        )
        if reports is None:
            raise RequestError(Status.NOT_FOUND, text=NOT_KEPT)
        return Announced(tuple((number, *counts) for number, counts in reports.items()))

    # --- for the administrator

    async def _report(self, caller: Caller, request: GetStatus, payload: Buffer) -> StatusReport:
        _check_administrator(caller)
        report = await self._status()
        return StatusReport(msgpack.packb(dict(report), use_bin_type=True))

    async def _stop(self, caller: Caller, request: Stop, payload: Buffer) -> Done:
        _check_administrator(caller)
        if not self._ending.is_open:
            raise RequestError(Status.BUSY, Reason.STARTING, "still starting")
        if not self._ending.ask():
            text = "the program that this node is part of does not end on request"
            raise RequestError(Status.UNSUPPORTED, Reason.NO_END, text)
        return Done()


def _check_administrator(caller: Caller) -> None:
    if caller.role is not Role.ADMIN:
        raise RequestError(Status.FORBIDDEN, Reason.NOT_ADMINISTRATOR, "only the node's own administrator may ask this")
