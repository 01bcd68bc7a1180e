"""One share on its way to one holder: offer, blocks in step with all other shares, commit.

A lane has a task and a queue of one batch. A holder that fails ends its own lane; the publish goes on with the others.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import field

import trio

from shoal.dht import Contact
from shoal.erasure import BLOCK_BYTES
from shoal.node.channel import Abort, Buffer, Commit, Misbehaved, Offer, PeerError, Put, RemoteError, Status, Write
from shoal.node.context import BUSY_PATIENCE_S, Context
from shoal.node.errors import Cause, ToldReason
from shoal.node.formats import MAX_LEASE_S
from shoal.node.holders.line import LONGEST_S, Line, Stalled
from shoal.node.holders.statements import HolderStatement, MalformedStatement, NotNow, check_statement
from shoal.node.nursery import open_nursery
from shoal.node.publishing.sealing import Batch
from shoal.values import dataclass

UNBOUND = -1  # the number of a share that is settled when a host agrees to take one
SENDERS = 16  # lanes that send at once, so that each gets a useful part of a slow line
LONGEST_OFFER_S = 30.0  # a busy host, a dial and two handshakes; `offers` gives most hosts up sooner
COMMIT_TIMEOUT_S = 180.0  # a holder syncs the share and builds its trees: minutes for hundreds of GB
LEAST_COMMIT_S = 30.0  # for a small share at a busy holder
COMMIT_BYTES_PER_S = 8 * 2**20  # the slowest disk that a volunteer is likely to have
LEASE_SLACK_S = 600  # a lease begins before the commit and is signed after it


class DropReason(ToldReason):
    """Why a host took no share, or lost one."""

    BUSY = "busy", "answered that it is busy", "answered that they are busy"
    FULL = "full", "was full", "were full"
    REFUSED = "refused", "refused", "refused"
    NO_ANSWER = "no answer", "did not answer", "did not answer"
    STALLED = "stalled", "was too slow", "were too slow"
    LOST_BLOCKS = "lost what it had", "lost what it had received", "lost what they had received"
    OTHER_BYTES = "has other bytes", "has other bytes than the file", "have other bytes than the file"
    OTHER_TIME = "another time", "has another time than this machine", "have another time than this machine"
    FOREIGN = "another network", "belongs to another network", "belong to another network"
    BROKE_THE_PROTOCOL = "broke the protocol", "broke the protocol", "broke the protocol"
    ALREADY_THERE = "somebody else was faster", "has a share already", "have a share already"
    OUR_DISK_FAILED = "our disk failed", "was left, as our disk failed", "were left, as our disk failed"


def _nothing() -> None:
    pass


@dataclass(eq=False)
class Lane:
    """A share and its holder. An offer names no share: any host that agrees can take any number.

    `received` and `durable` count blocks the holder has, of these safe on its disk. `reason` says why a lane failed;
    it is None while the lane is alive. `on_sent` is called whenever the holder has received something.
    """

    share: int
    contact: Contact
    upload_id: bytes
    received: int = 0
    durable: int = 0
    sent_bytes: int = 0
    resumed_bytes: int = 0
    reason: DropReason | None = None
    statement: HolderStatement | None = None  # that its holder keeps the share
    was_busy: bool = False  # its holder answered so at least once
    on_sent: Callable[[], None] = field(default=_nothing, repr=False)
    _scope: trio.CancelScope = field(default_factory=trio.CancelScope, repr=False)
    _queue: "trio.MemorySendChannel[tuple[Batch, bool]] | None" = field(default=None, repr=False)

    @property
    def alive(self) -> bool:
        """Whether the holder still takes part."""
        return self.reason is None

    @property
    def answers(self) -> bool:
        """Whether the holder can be talked to, be it only to say no."""
        return self.reason is not DropReason.NO_ANSWER

    async def offer(self, context: Context, size_bound: int, lease_s: int) -> bool:
        """Open the upload, or renew it after an interruption; whether the holder agreed."""
        request = Offer(self.upload_id, size_bound, lease_s, b"")
        try:
            reply = await context.ask(
                self.contact, request, timeout_s=LONGEST_OFFER_S, patience_s=BUSY_PATIENCE_S, on_busy=self._is_busy
            )
        except PeerError as error:
            self.reason = reason_of(error)
            return False
        self.received = self.durable = reply.durable_blocks
        return True

    def _is_busy(self, error: PeerError) -> None:
        self.was_busy = True

    def give_up(self) -> None:
        """The holder has not agreed in time."""
        self.drop(DropReason.BUSY if self.was_busy else DropReason.NO_ANSWER)

    async def run(
        self,
        context: Context,
        turns: trio.CapacityLimiter,
        line: Line,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Send batches as they are put into the queue; ends with the queue or with the holder's failure.

        `turns` bounds how many lanes send at once. `line` says whether this one's holder stalls.
        """
        self._queue, batches = trio.open_memory_channel[tuple[Batch, bool]](1)
        task_status.started()
        with self._scope, batches:
            async for batch, sync in batches:
                try:
                    async with turns:
                        await self._send(context, line, batch, sync)
                except PeerError as error:
                    self.reason = reason_of(error)
                    return

    def drop(self, reason: DropReason) -> None:
        """Give the holder up."""
        self.reason = self.reason or reason
        self._scope.cancel()

    async def put(self, batch: Batch, sync: bool) -> None:
        """Queue a batch; waits while the holder is behind. A failed lane takes nothing."""
        if self.alive and self._queue is not None:
            with suppress(trio.BrokenResourceError):  # the lane failed meanwhile and has said why
                await self._queue.send((batch, sync))

    def close(self) -> None:
        """No more batches."""
        if self._queue is not None:
            self._queue.close()

    async def _send(self, context: Context, line: Line, batch: Batch, sync: bool) -> None:
        start = min(max(batch.first, self.received), batch.end)
        self.resumed_bytes += _size(batch.blocks(self.share, batch.first)) - _size(batch.blocks(self.share, start))
        if start == batch.end and not (sync and self.durable < batch.end):
            return
        if start == batch.end:
            start = batch.end - 1  # a block the holder has already carries the request to make it durable
        blocks = batch.blocks(self.share, start)
        request = Write(self.upload_id, start, batch.data_leaves(start), sync)
        with line.request(_size(blocks)):
            reply = await context.ask(
                self.contact, request, payload=blocks, timeout_s=LONGEST_S, patience_s=BUSY_PATIENCE_S
            )
        self.sent_bytes += _size(blocks)
        if reply.received_blocks < batch.end or (sync and reply.durable_blocks < batch.end):
            raise Misbehaved(f"{self.contact.address} did not do what it was asked to")
        self.received = max(self.received, batch.end, reply.received_blocks)  # another repairer may be ahead of us
        self.durable = max(self.durable, min(reply.durable_blocks, self.received))
        self.on_sent()

    async def give(self, context: Context, block: Buffer, manifest: bytes, file_id: bytes, lease_s: int) -> None:
        """Have the holder take and keep a share of one block, in one request. Sets `statement`, else `reason`."""
        request = Put(self.upload_id, self.share, lease_s, len(manifest), b"")
        await self._ask_to_keep(context, request, [manifest, block], file_id, lease_s, LONGEST_OFFER_S)
        if self.statement is not None:
            self.received, self.sent_bytes = 1, memoryview(block).nbytes
            self.on_sent()

    async def commit(self, context: Context, manifest: bytes, file_id: bytes, lease_s: int) -> None:
        """Have the holder make the share durable, unless it has. Sets `statement`, else `reason`."""
        if self.statement is None:
            request = Commit(self.upload_id, self.share, lease_s)
            await self._ask_to_keep(context, request, [manifest], file_id, lease_s, self._commit_timeout_s())

    async def _ask_to_keep(
        self,
        context: Context,
        request: Commit | Put,
        payload: list[Buffer],
        file_id: bytes,
        lease_s: int,
        timeout_s: float,
    ) -> None:
        try:
            reply = await context.ask(
                self.contact,
                request,
                payload=payload,
                timeout_s=timeout_s,
                patience_s=BUSY_PATIENCE_S,
                on_busy=self._is_busy,
            )
            statement = check_statement(reply.statement, context.network, context.env.scheme, context.env.wall())
        except PeerError as error:
            self.reason = reason_of(error)
            return
        except NotNow:  # by our clock: one of the two is wrong
            self.reason = DropReason.OTHER_TIME
            return
        except MalformedStatement:
            self.reason = DropReason.BROKE_THE_PROTOCOL
            return
        ours = (file_id, self.share, self.contact.node_id)
        promised_s = statement.lease_end - statement.issued
        is_ours = (statement.file_id, statement.share, statement.node_id) == ours
        if not is_ours or not lease_s - LEASE_SLACK_S <= promised_s <= MAX_LEASE_S + LEASE_SLACK_S:
            self.reason = DropReason.BROKE_THE_PROTOCOL
            return
        self.statement = statement

    def _commit_timeout_s(self) -> float:
        """Long enough to sync and hash what was sent; the longest where an earlier run sent it."""
        if not self.received:
            return COMMIT_TIMEOUT_S
        return min(COMMIT_TIMEOUT_S, LEAST_COMMIT_S + self.received * BLOCK_BYTES / COMMIT_BYTES_PER_S)

    async def abort(self, context: Context) -> None:
        """Tell the holder to forget the upload; it would in 24 h anyway."""
        with trio.move_on_after(2.0):
            try:
                await context.ask(self.contact, Abort(self.upload_id))
            except PeerError:
                return


async def abort_all(context: Context, lanes: Iterable[Lane]) -> None:
    """Tell those holders that can be talked to that these uploads will not go on."""
    async with open_nursery() as nursery:
        for lane in lanes:
            if lane.answers:
                nursery.start_soon(lane.abort, context)


def _size(blocks: list[Buffer]) -> int:
    return sum(memoryview(block).nbytes for block in blocks)


_OF_CAUSE = {
    Cause.BUSY: DropReason.BUSY,
    Cause.FULL: DropReason.FULL,
    Cause.MISSING: DropReason.LOST_BLOCKS,
    Cause.REFUSED: DropReason.REFUSED,
    Cause.FOREIGN: DropReason.FOREIGN,
    Cause.LIED: DropReason.BROKE_THE_PROTOCOL,
}
_CAUSES = {
    **{reason: cause for cause, reason in _OF_CAUSE.items()},
    DropReason.NO_ANSWER: Cause.SILENT,
    DropReason.STALLED: Cause.SILENT,
    DropReason.OTHER_BYTES: Cause.REFUSED,
    DropReason.OTHER_TIME: Cause.REFUSED,
}


def reason_of(error: Exception) -> DropReason:
    """Why a holder was lost, as told by how a request to it failed."""
    if isinstance(error, Stalled):
        return DropReason.STALLED
    if isinstance(error, RemoteError) and error.status == Status.MALFORMED:
        return DropReason.OTHER_BYTES
    if isinstance(error, PeerError):
        return _OF_CAUSE.get(error.cause, DropReason.NO_ANSWER)
    return DropReason.NO_ANSWER


def causes_of(reasons: Mapping[DropReason, int]) -> Counter[Cause]:
    """The same by cause. Reasons that lie with nobody but ourselves are left out."""
    causes: Counter[Cause] = Counter()
    for reason, count in reasons.items():
        if reason in _CAUSES:
            causes[_CAUSES[reason]] += count
    return causes


def reasons_of(lanes: Iterable[Lane]) -> Iterator[DropReason]:
    """The reasons of those lanes that failed."""
    return (lane.reason for lane in lanes if lane.reason is not None)
