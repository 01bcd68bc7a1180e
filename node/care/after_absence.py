"""After an absence: making ourselves known again to the other holders of each file kept here.

Statements expire, and a renewal that we were not there for does not name us. Nobody is asked, though, while we know
that what the others were told of us last is still good. docs/care.md has the rules.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence

from shoal.erasure import FileId
from shoal.node.care.agenda import Agenda, Errand
from shoal.node.care.comparing import ListComparison
from shoal.node.care.findings import WatchedFile
from shoal.node.context import Context
from shoal.node.holders.known import KnownHolders
from shoal.node.nursery import open_nursery
from shoal.node.store import StoreError

WITHIN_S = 3600.0  # of a start; not all files at once
MOVED_WITHIN_S = 60.0  # of a change of our address: until then our shares are sought where we are not
EVERY_S = 2.0  # where there are so many that an hour is too short for them
TRIES = 5  # where nobody is found: after an hour or two, twice that, and so on; then looks have to do
AT_ONCE = 16  # files: turns must not wait for more

log = logging.getLogger(__name__)


class AfterAbsence:
    """The files whose holders are to hear of us again, and when (wall clock)."""

    def __init__(self, context: Context, known_holders: KnownHolders, comparison: ListComparison) -> None:
        self._dht = context.dht
        self._env = context.env
        self._known_holders = known_holders
        self._comparison = comparison
        self._agenda = Agenda()
        self._ask_anyway: set[bytes] = set()
        self._tried: dict[bytes, int] = {}

    def plan(self, files: Sequence[FileId], *, ask_anyway: bool, within_s: float = WITHIN_S) -> None:
        """Do it soon for these files, and where they are many, for the first of them first; what is overdue stays so.

        `ask_anyway`: whatever the others were told of us.
        """
        now = self._env.wall()
        for at, file_id in enumerate(files):
            when = self._agenda.when(Errand.REJOIN, file_id)
            if when is None or when > now + max(within_s, at * EVERY_S):
                pause_s = max(self._env.rng.random() * within_s, at * EVERY_S)
                self._agenda.put(Errand.REJOIN, file_id, now + pause_s)
            self._tried.pop(file_id, None)
        if ask_anyway:
            self._ask_anyway.update(files)

    def forget(self, file_id: bytes) -> None:
        """Nothing of a file is kept here any more."""
        self._agenda.forget(file_id)
        self._ask_anyway.discard(file_id)
        self._tried.pop(file_id, None)

    def next_at(self) -> float | None:
        """When the next of them is due. None while we do not know how we are reached."""
        return self._agenda.next_at() if self._dht.own_reach() is not None else None

    async def tell_due(self, read: Callable[[FileId], Awaitable[WatchedFile | None]]) -> None:
        """Do it for some of the files that are due. `read` reads a file, and raises StoreError where the disk fails."""
        if self.next_at() is None:
            return
        async with open_nursery() as nursery:
            for _, _, raw in self._agenda.take(self._env.wall(), most=AT_ONCE):
                nursery.start_soon(self._rejoin, FileId(raw), read)

    async def _rejoin(self, file_id: FileId, read: Callable[[FileId], Awaitable[WatchedFile | None]]) -> None:
        """Do it for one file. Where no holder is found, or our disk fails, it is tried again later a few times."""
        try:
            done = await self._is_known(file_id) or await self._tell(await read(file_id))
        except StoreError as error:
            log.warning("making ourselves known failed: %s", error)
            done = False
        tries = self._tried.pop(file_id, 0) + 1
        if done or tries == TRIES:
            self._ask_anyway.discard(file_id)
        else:
            self._tried[file_id] = tries
            pause_s = 2 ** (tries - 1) * WITHIN_S * (1 + self._env.rng.random())
            self._agenda.put(Errand.REJOIN, file_id, self._env.wall() + pause_s)

    async def _is_known(self, file_id: FileId) -> bool:
        return file_id not in self._ask_anyway and await self._known_holders.was_told(file_id)

    async def _tell(self, file: WatchedFile | None) -> bool:
        return file is None or await self._comparison.rejoin(file)
