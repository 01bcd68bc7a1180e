"""Files that somebody keeps alive: the node of a home renews each file on the home's list every 15 days.

That needs no key, so a volunteer can adopt a file without being able to read it. Leases end by the holders' clocks, and
ours may be wrong: it is compared with itself only, and what speaks against it makes a renewal come early, never late.
"""

import logging

import trio

from shoal.erasure import FileId
from shoal.node.care.problems import Problems, not_renewed
from shoal.node.context import Context
from shoal.node.errors import LocalError, ShoalError
from shoal.node.formats import MAX_LEASE_S
from shoal.node.holders.renewal import renew_file
from shoal.node.home.ledger import Ledger
from shoal.node.results import KeptFile
from shoal.node.translate import translated

FIRST_LOOK_S = 60.0  # after the start: the network has been joined by then
RENEW_EVERY_S = 15 * 86400.0  # 75 days of lease are left then, to find an owner who was away
CLOCK_TOLERANCE_S = 43200.0  # holders' clocks differ by less, and a renewal that gains two hours is not written
TOLD_S = 60 * 86400.0  # of lease left, when the volunteer is told that a file could not be renewed for two weeks
JITTER = 0.1

log = logging.getLogger(__name__)


def is_due(file: KeptFile, wall: float, running_s: float, *, is_renewed: bool) -> bool:
    """Whether a file is to be renewed now.

    wall: our clock.  running_s: how long this run lasts, or how long ago it renewed the file if it has (`is_renewed`).

    A clock that was put back shows the last renewal in the future; one that stands far back for good does not keep up
    with a node that runs on. One that was wrong at the last renewal, by the lease that the holders gave, tells nothing
    across a restart: it may have begun anew.
    """
    if not 0 <= wall - file.renewed_at < RENEW_EVERY_S or running_s >= RENEW_EVERY_S:
        return True
    clock_error_s = file.lease_until - (file.renewed_at + MAX_LEASE_S)
    return not is_renewed and abs(clock_error_s) > CLOCK_TOLERANCE_S


class Keeper:
    """Renews what is on the list, for as long as `run` runs. Looks once per epoch."""

    def __init__(self, context: Context, ledger: Ledger, problems: Problems) -> None:
        self._problems = problems
        self._context = context
        self._env = context.env
        self._ledger = ledger
        self._started = trio.current_time()
        self._renewed: dict[FileId, float] = {}  # when, in this run

    async def run(self) -> None:
        """Until cancelled."""
        await trio.sleep(min(FIRST_LOOK_S, self._context.network.epoch_s))
        while True:
            await self.look()
            await trio.sleep(self._context.network.epoch_s * self._env.rng.uniform(1 - JITTER, 1 + JITTER))

    async def look(self) -> None:
        """Renew all files that are due. What fails is tried again in the next epoch."""
        try:
            files = await self._env.call(self._ledger.kept)
        except LocalError as error:
            log.warning("the list of kept files cannot be read: %s", error)
            return
        self._renewed = {file.link.id: at for file in files if (at := self._renewed.get(file.link.id)) is not None}
        for raw in self._problems.unkept.keys() - {bytes(file.link.id) for file in files}:
            del self._problems.unkept[raw]
        for file in files:
            if self._is_due(file):
                await self._renew(file)
            else:
                self._problems.unkept.pop(bytes(file.link.id), None)

    def _is_due(self, file: KeptFile) -> bool:
        renewed = self._renewed.get(file.link.id)
        running_s = trio.current_time() - (self._started if renewed is None else renewed)
        return is_due(file, self._env.wall(), running_s, is_renewed=renewed is not None)

    async def _renew(self, file: KeptFile) -> None:
        try:
            with translated():
                renewed = await renew_file(self._context, file.link.id)
        except ShoalError as error:
            log.info("a kept file was not renewed: %s", error)
            left_s = file.lease_until - self._env.wall()
            if left_s < TOLD_S:
                self._problems.unkept[bytes(file.link.id)] = not_renewed(file.link.hash, left_s)
            return
        self._renewed[file.link.id] = trio.current_time()
        self._problems.unkept.pop(bytes(file.link.id), None)
        try:
            await self._env.call(self._ledger.note_renewal, file.link, self._env.wall(), renewed.lease_until)
        except LocalError as error:
            log.warning("a renewal could not be noted: %s", error)
