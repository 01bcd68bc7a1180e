"""The volunteer's side: what a node does when peers ask. Every answer comes from the share store or the DHT.

Nothing a caller says is believed: manifests are checked against the shares, statements against their signers, and
nothing here makes the node drop what it keeps.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import msgpack
import trio

from shoal.dht import Address, Announcement, Contact, Identity, NodeId, RecordKey
from shoal.erasure import FileId, Manifest
from shoal.node.announcers import Hint, announcers, class_key, pack_announcement, slice_for
from shoal.node.channel import (
    Abort,
    Announce,
    Announced,
    AnyRequest,
    Blocks,
    Buffer,
    Caller,
    Commit,
    Committed,
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
    Reply,
    RequestError,
    Role,
    Status,
    StatusReport,
    TellHolders,
    Told,
    Write,
    Written,
)
from shoal.node.context import Context
from shoal.node.statements import (
    MAX_STATEMENTS,
    HolderStatement,
    MalformedStatement,
    make_statement,
    newest_by_share,
    pack_statements,
    read_statement,
    unpack_statements,
)
from shoal.node.store import (
    KeptStatement,
    LocalFailure,
    NotHeld,
    PeerMistake,
    ShareStore,
    StoreFull,
    split_blocks,
)

T = TypeVar("T")
Handler = Callable[[Caller, Any, Buffer], Awaitable[Reply]]

Report = Callable[[], Awaitable[Mapping[str, Any]]]

LEASE_LIMIT_S = 90 * 86400  # DESIGN section 5: at most 90 days from now
EXPIRE_EVERY_S = 600.0  # how often forgotten uploads are looked for
STARTUP_PAGE = 200  # files whose announcements are taken up again at once after a start


class Holder:
    """Answers the requests of peers and announces what is kept here.

    `own_address` gives the address to put into statements; `status` the administrator's report.
    """

    def __init__(
        self,
        context: Context,
        identity: Identity,
        store: ShareStore,
        own_address: Callable[[], Address],
        status: Report,
    ) -> None:
        self._context = context
        self._env = context.env
        self._identity = identity
        self._store = store
        self._own_address = own_address
        self._status = status
        self._handlers: dict[type[AnyRequest], Handler] = {
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
            GetStatus: self._report,
        }

    async def dispatch(self, caller: Caller, request: AnyRequest, payload: Buffer) -> Reply:
        """Do one request; the channel's server calls this for each."""
        handler = self._handlers.get(type(request))
        if handler is None:
            raise RequestError(Status.UNSUPPORTED)
        return await handler(caller, request, payload)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take up the announcements of all files kept, then sweep abandoned uploads now and then."""
        task_status.started()
        await self._resume_announcing()
        while True:
            await trio.sleep(EXPIRE_EVERY_S)
            await self._call(self._store.expire, self._env.wall())

    async def _call(self, function: Callable[..., T], *args: object) -> T:
        """Call the store in a worker and translate what it says."""
        try:
            return await self._env.call(function, *args)
        except StoreFull as error:
            raise RequestError(Status.REFUSED, f"full: {error}") from error
        except NotHeld as error:
            raise RequestError(Status.NOT_FOUND, str(error)) from error
        except PeerMistake as error:
            raise RequestError(Status.MALFORMED, str(error)) from error
        except LocalFailure as error:
            raise RequestError(Status.INTERNAL, "this holder's disk failed") from error

    # --- taking shares

    async def _offer(self, caller: Caller, request: Offer, payload: Buffer) -> Offered:
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
        now = self._env.wall()
        lease_end = int(now) + min(request.lease_s, LEASE_LIMIT_S)
        manifest = bytes(payload)
        kept_until = await self._call(
            self._store.commit, request.upload_id, request.share_number, manifest, lease_end, now
        )
        file_id = Manifest.decode(manifest).id
        statement = self._state(file_id, request.share_number, kept_until)
        return Committed(kept_until, statement.signed)

    async def _abort(self, caller: Caller, request: Abort, payload: Buffer) -> Done:
        await self._call(self._store.abort, request.upload_id, self._env.wall())
        return Done()

    # --- giving shares

    async def _manifest(self, caller: Caller, request: GetManifest, payload: Buffer) -> ManifestBytes:
        manifest = await self._call(self._store.manifest, request.file_id)
        if manifest is None:
            raise RequestError(Status.NOT_FOUND, "this file is not kept here")
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

    # --- knowing the other holders

    async def _holders(self, caller: Caller, request: GetHolders, payload: Buffer) -> HolderList:
        statements = await self._known(FileId(request.file_id))
        if not statements:
            raise RequestError(Status.NOT_FOUND, "this file is not kept here")
        return HolderList(pack_statements(each.signed for each in statements))

    async def _tell(self, caller: Caller, request: TellHolders, payload: Buffer) -> Told:
        file_id = FileId(request.file_id)
        if not await self._call(self._store.held, file_id):
            raise RequestError(Status.NOT_FOUND, "this file is not kept here")
        valid = await self._env.call(self._valid_statements, file_id, bytes(payload))
        kept = [KeptStatement(each.share, each.node_id, each.expires, each.lease_end, each.signed) for each in valid]
        await self._call(self._store.add_statements, file_id, kept, self._env.wall())
        return Told(len(await self._call(self._store.statements, file_id)))

    def _valid_statements(self, file_id: FileId, payload: bytes) -> list[HolderStatement]:
        """Check a payload's statements; called in a worker, since each costs a signature."""
        try:
            signed = unpack_statements(payload)
        except MalformedStatement as error:
            raise RequestError(Status.MALFORMED, str(error)) from error
        valid = []
        for item in signed[:MAX_STATEMENTS]:
            try:
                statement = self._check(item)
            except MalformedStatement:
                continue
            if statement.file_id == file_id and statement.node_id != self._identity.node_id:
                valid.append(statement)
        return valid

    def _check(self, signed: bytes) -> HolderStatement:
        return read_statement(signed, self._context.network.network_id, self._env.scheme, self._env.wall())

    def _state(self, file_id: FileId, share: int, lease_end: int) -> HolderStatement:
        return make_statement(
            self._identity,
            self._context.network.network_id,
            file_id,
            share,
            self._own_address(),
            lease_end,
            self._env.wall(),
        )

    async def _known(self, file_id: FileId) -> list[HolderStatement]:
        """Our own statements, made afresh, and the newest valid ones of others; empty when we keep nothing."""
        held = await self._call(self._store.held, file_id)
        if not held:
            return []
        kept = await self._call(self._store.statements, file_id)
        own = [self._state(file_id, each.share_number, each.lease_end) for each in held]

        def others() -> list[HolderStatement]:
            found = []
            for each in kept:
                try:
                    found.append(self._check(each.statement))
                except MalformedStatement:
                    continue  # it has expired since it was kept
            return found

        return list(newest_by_share([*own, *await self._env.call(others)]).values())

    # --- announcing

    async def _announce(self, caller: Caller, request: Announce, payload: Buffer) -> Announced:
        mine = await self._announcements(FileId(request.file_id))
        if not mine:
            return Announced(())
        reports = await self._context.dht.announce(list(mine.values()))
        self._context.dht.keep_announced(list(mine.values()), announced=True)
        rows = tuple((number, report.closest, report.stored) for number, report in zip(mine, reports, strict=True))
        return Announced(rows)

    async def _announcements(self, file_id: FileId) -> dict[int, Announcement]:
        """What this node has to announce of a file, by class; empty when that is others' business."""
        statements = await self._known(file_id)
        if not statements:
            raise RequestError(Status.NOT_FOUND, "this file is not kept here")
        holders = sorted({each.node_id for each in statements})
        chosen = announcers(file_id, holders)
        mine = [number for number, ids in chosen.items() if self._identity.node_id in ids]
        own_shares = [each.share for each in statements if each.node_id == self._identity.node_id]
        payload = pack_announcement(own_shares, self._slice(statements, chosen))
        return {number: Announcement(RecordKey(class_key(file_id, number)), payload) for number in mine}

    def _slice(self, statements: list[HolderStatement], chosen: Mapping[int, list[NodeId]]) -> list[Hint]:
        order = list(dict.fromkeys(node_id for number in sorted(chosen) for node_id in chosen[number]))
        hints = [
            Hint(each.share, Contact(each.node_id, each.address))
            for each in statements
            if each.node_id != self._identity.node_id
        ]
        return slice_for(self._identity.node_id, order, hints)

    async def _resume_announcing(self) -> None:
        """After a start: everything kept is announced again, page by page, by the DHT's own rhythm."""
        after = b""
        while page := await self._env.call(self._store.files, after, STARTUP_PAGE):
            for file_id in page:
                try:
                    mine = await self._announcements(FileId(file_id))
                except RequestError:
                    continue  # dropped or found damaged meanwhile
                self._context.dht.keep_announced(list(mine.values()))
            after = page[-1]

    # --- for the administrator

    async def _report(self, caller: Caller, request: GetStatus, payload: Buffer) -> StatusReport:
        if caller.role is not Role.ADMIN:
            raise RequestError(Status.FORBIDDEN, "only the node's own administrator may ask this")
        report = await self._status()
        return StatusReport(msgpack.packb(dict(report), use_bin_type=True))
