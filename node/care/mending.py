"""Repairs by a file's holders: a few at once, beside everything else.

A repair may take as long as it gets on. So a file whose hosts send slowly holds up no other file.
"""

import logging
from contextlib import suppress
from dataclasses import dataclass

import trio

from shoal.node.context import Context
from shoal.node.errors import NotOneFile, ShoalError
from shoal.node.holders.line import Headway, full_bytes_per_s
from shoal.node.holders.statements import HolderStatement
from shoal.node.repairing.repair import Repairer, RepairJob

MENDS_AT_ONCE = 4
PATIENCE_S = 1800.0  # in so long a repair has to move its part of what a full line moves, or it ends

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Mended:
    """What came of one repair: the promises of new holders, and whether anything is left to try later."""

    made: tuple[HolderStatement, ...]
    is_done: bool


class Mender:
    """Has room for a few repairs, and counts what they did. `no_file` is filled with files that nothing can mend."""

    def __init__(self, context: Context, no_file: set[bytes]) -> None:
        self._context = context
        self._no_file = no_file
        self._room = trio.Semaphore(MENDS_AT_ONCE)
        self.busy: set[bytes] = set()  # files that are being repaired
        self.repairs = self.rebuilt = self.moved_bytes = 0

    async def reserve(self, file_id: bytes, wait_until: float) -> bool:
        """Whether there is room for a repair of this file, now or by then (monotonic). `release` gives it back."""
        try:
            self._room.acquire_nowait()
        except trio.WouldBlock:
            with trio.move_on_at(wait_until) as patience:
                await self._room.acquire()
            if patience.cancelled_caught:
                return False
        self.busy.add(file_id)
        return True

    def release(self, file_id: bytes) -> None:
        """The repair has ended."""
        self.busy.discard(file_id)
        self._room.release()

    async def mend(self, job: RepairJob) -> Mended:
        """Make the lost shares again, put them on new hosts, and tell all holders of them.

        It is done when all lost shares are made, or when the shares are no file, so that none can be made.
        """
        file_id = bytes(job.manifest.id)
        patience = RepairPatience(job.manifest.k, self._least_bytes())
        repairer = Repairer(self._context, job, patience.on_bytes)
        made = await self._run(repairer, file_id, patience.scope)
        self.moved_bytes += repairer.sent_bytes + repairer.received_bytes
        self.repairs += bool(made)
        self.rebuilt += len(made)
        is_done = {*job.missing} <= {each.share for each in made} or file_id in self._no_file
        return Mended(tuple(made), is_done)

    async def _run(self, repairer: Repairer, file_id: bytes, patience: trio.CancelScope) -> list[HolderStatement]:
        """The promises that a repair was given, also when it failed or was given up."""
        try:
            with patience:
                await repairer.run()
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

    def _least_bytes(self) -> float:
        """What a repair is to move within PATIENCE_S."""
        return PATIENCE_S * full_bytes_per_s(self._context.throttle) / MENDS_AT_ONCE


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
