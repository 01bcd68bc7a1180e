"""Repairs by a file's holders: a few at once, beside everything else.

A repair may take as long as it gets on. So a file whose hosts send slowly holds up no other file. Nor do many files of
one source: the places are shared fairly (`fairness`), and a file that finds none is returned to when there is one.
"""

import logging
import random
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import islice

import trio

from shoal.dht import NodeId
from shoal.erasure import FileId
from shoal.node.care.epochs import rank_of
from shoal.node.care.fairness import FairPlaces, Ration
from shoal.node.context import Context
from shoal.node.errors import NotOneFile, ShoalError
from shoal.node.holders.line import Headway, full_bytes_per_s
from shoal.node.holders.statements import HolderStatement
from shoal.node.nursery import open_nursery
from shoal.node.repairing.repair import Repairer, RepairJob
from shoal.values import dataclass

MENDS_AT_ONCE = 4
MENDS_QUEUED = 64  # that wait for their turn or for room; what is known of their files is in memory meanwhile
COMPLETED_PER_EPOCH = 1024  # files of one source that lost nothing: stubs cost their maker little, and the network much
RETURNED_TOGETHER = 16  # files of a group that found no place, when it has no more places than these
TURN_S = 30.0  # between two holders that repair the same file: the first has sent blocks by then, as the second can see
TURNS = 8  # holders of higher rank come with the last of these
ROOM_S = 3600.0  # after so long a repair makes way, where its source has others going on and another source has none
PATIENCE_S = 1800.0  # in so long a repair has to move its part of what a full line moves, or it ends

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Mended:
    """What came of one repair: the promises of new holders, and whether anything is left to try later.

    `lacks_hosts` says that something is left because no further host takes a share.
    """

    made: tuple[HolderStatement, ...]
    is_done: bool
    lacks_hosts: bool = False


class Mender:
    """Has room for a few repairs, and counts what they did. `no_file` is filled with files that nothing can mend.

    `on_place` hears of files that found no place in the queue, and may find one now.
    """

    def __init__(
        self,
        context: Context,
        no_file: set[bytes],
        on_place: Callable[[Sequence[FileId]], None] = lambda file_ids: None,
    ) -> None:
        self._context = context
        self._no_file = no_file
        self._on_place = on_place
        self._queue = FairPlaces(MENDS_QUEUED)
        self._room = FairPlaces(MENDS_AT_ONCE)
        self._completions = Ration(COMPLETED_PER_EPOCH, context.network.epoch_s)
        self._refused: dict[bytes, dict[FileId, None]] = {}  # files without a place, by group; no more than are kept
        self.busy: dict[FileId, bytes] = {}  # files that are being repaired, or are about to be, with their groups
        self.repairs = self.rebuilt = self.moved_bytes = 0

    def has_place(self, group: bytes, *, has_lost: bool = True) -> bool:
        """Whether a repair of a file of this group may be queued now.

        In an epoch so many of those are completed that have lost nothing, and no more.
        """
        is_allowed = has_lost or self._completions.is_left(group, trio.current_time())
        return is_allowed and self._queue.has_place(group)

    def reserve(self, file_id: FileId, group: bytes, *, has_lost: bool = True) -> bool:
        """Whether a repair of this file may be queued now. `release` gives the place back.

        Nobody waits here for a place. `on_place` hears of the file when there is one. A file that `has_lost` nothing,
        and whose group has had its part of the epoch, has to wait for its next turn.
        """
        if file_id in self.busy or not (has_lost or self._completions.is_left(group, trio.current_time())):
            return False
        if not self._queue.take(group):
            self._refused.setdefault(group, {})[file_id] = None
            return False
        if not has_lost:
            self._completions.spend(group, trio.current_time())
        self.busy[file_id] = group
        self._forget(file_id, group)
        return True

    def release(self, file_id: FileId) -> None:
        """The repair has ended."""
        self._queue.give_back(self.busy.pop(file_id))
        self.call_back()

    def forget(self, file_id: FileId) -> None:
        """Nothing of a file is kept here any more."""
        for group in [*self._refused]:
            self._forget(file_id, group)

    def _forget(self, file_id: FileId, group: bytes) -> None:
        refused = self._refused.get(group, {})
        refused.pop(file_id, None)
        if not refused:
            self._refused.pop(group, None)

    def call_back(self) -> None:
        """Tell of files that found no place, a few of each group at a time: by then they may need no repair."""
        for group in sorted(self._refused, key=self._queue.held):
            if self._queue.has_place(group) and self._queue.held(group) <= RETURNED_TOGETHER:
                some = list(islice(self._refused[group], RETURNED_TOGETHER))
                for file_id in some:
                    self._forget(file_id, group)
                self._on_place(some)

    @asynccontextmanager
    async def room(self, group: bytes, wait_until: float) -> AsyncIterator[bool]:
        """Room for one of the repairs that go on at once, for as long as the block lasts. False: there was none."""
        if not await self._room.wait(group, wait_until):
            yield False
            return
        try:
            yield True
        finally:
            self._room.give_back(group)

    async def mend(self, job: RepairJob) -> Mended:
        """Make the lost shares again, put them on new hosts, and tell all holders of them.

        It is done when all lost shares are made, or when the shares are no file, so that none can be made.
        """
        file_id = bytes(job.manifest.id)
        patience = RepairPatience(job.manifest.k, self._least_bytes())
        repairer = Repairer(self._context, job, patience.on_bytes)
        made = await self._run(repairer, job.manifest.id, patience.scope)
        self.moved_bytes += repairer.sent_bytes + repairer.received_bytes
        self.repairs += bool(made)
        self.rebuilt += len(made)
        is_done = {*job.missing} <= {each.share for each in made} or file_id in self._no_file
        return Mended(tuple(made), is_done, lacks_hosts=repairer.lacks_hosts and not is_done)

    async def _run(self, repairer: Repairer, file_id: FileId, patience: trio.CancelScope) -> list[HolderStatement]:
        """The promises that a repair was given, also when it failed or was given up."""
        try:
            with patience:
                async with open_nursery() as nursery:
                    nursery.start_soon(self._make_way, self.busy.get(file_id, b""), patience)
                    await repairer.run()
                    nursery.cancel_scope.cancel()
        except NotOneFile:
            self._no_file.add(file_id)
            return []
        except ShoalError as error:  # too few answered after all: at most one try an epoch
            log.info("a repair was not finished: %s", error)
        made = repairer.made
        if made:
            with suppress(ShoalError):
                await repairer.settling.tell()
        return made

    async def _make_way(self, group: bytes, patience: trio.CancelScope) -> None:
        """Give a repair up that has had room for long, while its group has more and another has none."""
        await self._room.owed(group, ROOM_S, self._context.env.rng)
        patience.cancel()

    def _least_bytes(self) -> float:
        """What a repair is to move within PATIENCE_S."""
        return PATIENCE_S * full_bytes_per_s(self._context.throttle) / MENDS_AT_ONCE


def turn_s(file_id: FileId, epoch: int, me: NodeId, living: Collection[NodeId], rng: random.Random) -> float:
    """How long a holder waits before it repairs a file, so that those who found the same do not begin together.

    `living` are the other holders that answer, as far as this one has seen.
    """
    rank = rank_of(file_id, epoch, me, living)
    return TURN_S * (min(rank, TURNS) + rng.random() / 4)


class RepairPatience:
    """Cancels `scope` when a repair does not get on: it has to fetch and send `least_bytes` in PATIENCE_S."""

    def __init__(self, k: int, least_bytes: float) -> None:
        self._headway = Headway(least_bytes, PATIENCE_S, trio.current_time(), 0)
        self.scope = trio.CancelScope(deadline=self._headway.deadline)
        self._k = k
        self._moved = self._made = 0

    def on_bytes(self, made: int, shares: int) -> None:
        """So many bytes of each of so many shares are made, from k times as many. Fewer than before: a new round."""
        self._moved += (made - self._made if made >= self._made else made) * (self._k + shares)
        self._made = made
        self._headway.note(trio.current_time(), self._moved)
        self.scope.deadline = self._headway.deadline
