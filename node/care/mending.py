"""Repairs by a file's holders: a few at once, beside everything else, and each for as long as it gets on.

So a stranger's file on hosts that trickle holds up no other file.
"""

import logging
from contextlib import suppress

import trio

from shoal.node.care.rounds import Charge
from shoal.node.context import Context
from shoal.node.errors import NotOneFile, ShoalError
from shoal.node.holders.outcome import Outcome
from shoal.node.holders.statements import HolderStatement
from shoal.node.repairing.repair import Repairer, RepairJob

MENDS_AT_ONCE = 4
# In every half hour a repair has to move what a slow line moves (or half of its part of what care may take), or to end.
PATIENCE_S = 1800.0
SLOW_LINE_BYTES_PER_S = 16_000.0

log = logging.getLogger(__name__)


class Mender:
    """Has room for a few repairs, and counts what they did. `no_file` is filled with files that nothing can mend."""

    def __init__(self, context: Context, no_file: set[bytes]) -> None:
        self._context = context
        self._no_file = no_file
        self._room = trio.Semaphore(MENDS_AT_ONCE)
        self.busy: set[bytes] = set()  # files that are being repaired
        self.repairs = self.rebuilt = self.moved_bytes = 0

    async def reserve(self, file_id: bytes, wait_until: float) -> bool:
        """Whether there is room for a repair of this file, now or by then (monotonic). Given back by `release`."""
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

    async def mend(self, charge: Charge, lease_end: int) -> bool:
        """Make the lost shares again, put them on new hosts, and tell all holders of them. Whether that is done, or
        never can be; else it is worth another try later."""
        job = _job(charge, lease_end)
        patience = _Patience(charge.manifest.k, self._least_bytes())
        repairer = Repairer(self._context, job, patience.on_bytes)
        made = await self._run(repairer, bytes(charge.file_id), patience.scope)
        self.moved_bytes += repairer.sent_bytes + repairer.received_bytes
        self.repairs += bool(made)
        self.rebuilt += len(made)
        charge.statements += made
        return {*job.missing} <= {each.share for each in made} or bytes(charge.file_id) in self._no_file

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
        caps = [each.bytes_per_s for each in (self._context.throttle.up, self._context.throttle.down)]
        parts = [cap / MENDS_AT_ONCE / 2 for cap in caps if cap is not None]
        return PATIENCE_S * min([SLOW_LINE_BYTES_PER_S, *parts])


class _Patience:
    """Gives a repair up, by cancelling `scope`, that does not get on: `least_bytes` in PATIENCE_S, fetched and sent."""

    def __init__(self, k: int, least_bytes: float) -> None:
        self.scope = trio.CancelScope(deadline=trio.current_time() + PATIENCE_S)
        self._k = k
        self._least_bytes = least_bytes
        self._moved = self._seen = self._made = 0

    def on_bytes(self, made: int, shares: int) -> None:
        """So many bytes of each of so many shares are made, from k times as many; fewer than before: a new round."""
        self._moved += (made - self._made if made >= self._made else made) * (self._k + shares)
        self._made = made
        if self._moved - self._seen >= self._least_bytes:
            self._seen = self._moved
            self.scope.deadline = trio.current_time() + PATIENCE_S


def _job(charge: Charge, lease_end: int) -> RepairJob:
    """What is to be done, by what a look has shown."""
    good = {(each.share, each.holder) for each in charge.observations if each.outcome is Outcome.OK}
    healthy = [each for each in charge.statements if (each.share, each.node_id) in good]
    missing = {each.holder for each in charge.observations if each.outcome is Outcome.MISSING}
    failed = {each.holder for each in charge.observations if each.outcome is not Outcome.OK} - missing
    avoid, reluctant = (
        [each.contact for each in charge.statements if each.node_id in ids] for ids in (failed, missing)
    )
    answered = {(each.holder, each.host) for each in charge.observations if each.outcome is not Outcome.OFFLINE}
    return RepairJob(charge.manifest, healthy, charge.health.missing, lease_end, (), avoid, reluctant, answered)
