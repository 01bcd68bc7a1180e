"""Files that somebody keeps alive: the node of a home renews each file on the home's list before its lease runs low.

That needs no key, so a volunteer can adopt a file without being able to read it.
"""

import logging

import trio

from shoal.node.context import Context
from shoal.node.errors import LocalError, ShoalError
from shoal.node.ledger import Ledger
from shoal.node.renewal import renew_file
from shoal.node.results import KeptFile
from shoal.node.translate import translated

FIRST_LOOK_S = 60.0  # after the start: the network has been joined by then
RENEW_BEFORE_S = 75 * 86400.0  # of lease left: a renewal every 15 days, and 75 days to find an owner who was away
JITTER = 0.1

log = logging.getLogger(__name__)


class Keeper:
    """Renews what is on the list, for as long as `run` runs. Looks once per epoch."""

    def __init__(self, context: Context, ledger: Ledger) -> None:
        self._context = context
        self._env = context.env
        self._ledger = ledger

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
        for file in files:
            if self._is_due(file):
                await self._renew(file)

    def _is_due(self, file: KeptFile) -> bool:
        return file.lease_until < self._env.wall() + RENEW_BEFORE_S

    async def _renew(self, file: KeptFile) -> None:
        try:
            with translated():
                renewed = await renew_file(self._context, file.link.id)
            await self._env.call(self._ledger.note_renewal, file.link, self._env.wall(), renewed.lease_until)
        except ShoalError as error:
            log.info("a kept file was not renewed: %s", error)
