"""Taking shares from those who publish or repair: offer, blocks, commit; docs/channel.md."""

from collections.abc import Mapping

from shoal.erasure import FileId, manifest_id, split_nodes
from shoal.node.channel import (
    Abort,
    AnyRequest,
    Buffer,
    Caller,
    Commit,
    Committed,
    Done,
    Offer,
    Offered,
    Put,
    Reason,
    RequestError,
    Status,
    Write,
    Written,
)
from shoal.node.environment import Environment
from shoal.node.formats import MAX_LEASE_S
from shoal.node.holders.known import KnownHolders
from shoal.node.store import HeldShare, ShareStore, split_blocks
from shoal.node.volunteer.handlers import Handler
from shoal.node.volunteer.store_calls import StoreCalls


class Taking:
    """Answers whoever brings a share. Its manifest is checked against the blocks before the share counts."""

    def __init__(self, env: Environment, store: ShareStore, known_holders: KnownHolders, calls: StoreCalls) -> None:
        self._env = env
        self._store = store
        self._known_holders = known_holders
        self._calls = calls
        self.is_leaving = False

    def handlers(self) -> Mapping[type[AnyRequest], Handler]:
        """What this part answers."""
        return {Offer: self._offer, Write: self._write, Commit: self._commit, Put: self._put, Abort: self._abort}

    async def _offer(self, caller: Caller, request: Offer, payload: Buffer) -> Offered:
        self._check_staying()
        source, now = caller.remote.host_key(), self._env.wall()
        durable = await self._calls.call(self._store.begin, request.upload_id, source, request.size_bound_bytes, now)
        return Offered(durable, 0)

    async def _write(self, caller: Caller, request: Write, payload: Buffer) -> Written:
        blocks = split_blocks(payload)
        leaves = split_nodes(request.data_leaves)

        def write() -> tuple[int, int]:
            now = self._env.wall()
            received = self._store.write(request.upload_id, request.first_block, blocks, leaves, now)
            if request.sync:
                return received, self._store.sync(request.upload_id, now)
            return received, self._store.durable_blocks(request.upload_id)

        return Written(*await self._calls.call(write))

    async def _commit(self, caller: Caller, request: Commit, payload: Buffer) -> Committed:
        self._check_staying()
        now = self._env.wall()
        lease_end = int(now) + min(request.lease_s, MAX_LEASE_S)
        manifest = bytes(payload)
        kept_until = await self._calls.call(
            self._store.commit, request.upload_id, request.share_number, manifest, lease_end, now
        )
        return self._committed(manifest_id(manifest), request.share_number, kept_until)

    async def _put(self, caller: Caller, request: Put, payload: Buffer) -> Committed:
        self._check_staying()
        now = self._env.wall()
        lease_end = int(now) + min(request.lease_s, MAX_LEASE_S)
        source, view = caller.remote.host_key(), memoryview(payload)
        manifest, block = bytes(view[: request.manifest_bytes]), view[request.manifest_bytes :]
        kept_until = await self._calls.call(
            self._store.put, request.upload_id, source, request.share_number, manifest, block, lease_end, now
        )
        return self._committed(manifest_id(manifest), request.share_number, kept_until)

    def _committed(self, file_id: FileId, share: int, kept_until: int) -> Committed:
        statement = self._known_holders.own(file_id, HeldShare(share, kept_until))
        return Committed(kept_until, statement.signed)

    def _check_staying(self) -> None:
        """Refuse where the node is leaving: what comes now could be overlooked, and removed with its disk."""
        if self.is_leaving:
            raise RequestError(Status.REFUSED, Reason.LEAVING, "this node is about to leave the network")

    async def _abort(self, caller: Caller, request: Abort, payload: Buffer) -> Done:
        await self._calls.call(self._store.abort, request.upload_id, self._env.wall())
        return Done()
