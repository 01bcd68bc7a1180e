"""Repairs by a file's holders: a few at once, beside everything else, and each for a limited time.

So a stranger's file on hosts that trickle holds up no other file. What such a repair has placed until then is not lost:
it is told, and the next one goes on from there.
"""

import logging
from contextlib import suppress

import trio

from shoal.node.care.health import Outcome
from shoal.node.care.rounds import Charge
from shoal.node.context import Context
from shoal.node.errors import NotOneFile, ShoalError
from shoal.node.repair import Repairer, RepairJob
from shoal.node.statements import HolderStatement

MENDS_AT_ONCE = 4
# A repair may take what its bytes take over a slow line (or over half of our caps), and half an hour more.
SLOW_LINE_BYTES_PER_S = 64_000.0
LEAST_MEND_S, MEND_TIMEOUT_S = 1800.0, 6 * 3600.0

log = logging.getLogger(__name__)


class Mender:
    """Has room for a few repairs, and counts what they did. `no_file` is filled with files that nothing can mend."""

    def __init__(self, context: Context, no_file: set[bytes]) -> None:
        self._context = context
        self._no_file = no_file
        self._benches = trio.Semaphore(MENDS_AT_ONCE)
        self.busy: set[bytes] = set()  # files that are being repaired
        self.repairs = self.rebuilt = self.moved_bytes = 0

    async def take_bench(self, file_id: bytes, wait_until: float) -> bool:
        """Whether there is room for a repair of this file, now or by then (monotonic). Given back by `leave_bench`."""
        try:
            self._benches.acquire_nowait()
        except trio.WouldBlock:
            with trio.move_on_at(wait_until) as patience:
                await self._benches.acquire()
            if patience.cancelled_caught:
                return False
        self.busy.add(file_id)
        return True

    def leave_bench(self, file_id: bytes) -> None:
        """The repair has ended."""
        self.busy.discard(file_id)
        self._benches.release()

    async def mend(self, charge: Charge, lease_end: int) -> bool:
        """Make the lost shares again, put them on new hosts, and tell all holders of them. Whether that is done, or
        never can be; else it is worth another try later."""
        job = _job(charge, lease_end)
        repairer = Repairer(self._context, job)
        made = await self._run(repairer, bytes(charge.file_id), self._longest_s(job))
        self.moved_bytes += repairer.sent_bytes + repairer.received_bytes
        self.repairs += bool(made)
        self.rebuilt += len(made)
        charge.statements += made
        return {*job.missing} <= {each.share for each in made} or bytes(charge.file_id) in self._no_file

    async def _run(self, repairer: Repairer, file_id: bytes, longest_s: float) -> list[HolderStatement]:
        """The promises that a repair was given, also when it failed or its time was up."""
        try:
            with trio.move_on_after(longest_s):
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

    def _longest_s(self, job: RepairJob) -> float:
        caps = [each.bytes_per_s for each in (self._context.throttle.up, self._context.throttle.down)]
        rate = min([SLOW_LINE_BYTES_PER_S, *(cap / 2 for cap in caps if cap is not None)])
        moved = (job.manifest.k + len(job.missing)) * job.manifest.layout.share_bytes
        return min(MEND_TIMEOUT_S, LEAST_MEND_S + moved / rate)


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
