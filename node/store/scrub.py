"""Looking for bit rot: the shares that were not read for longest, a little at a time.

All of a share's file is read and hashed up to the manifest's roots. Shares take turns, whatever the clock says. How far
a long share was checked survives a restart. A damaged share is put aside.
"""

from collections.abc import Iterable
from dataclasses import field

from shoal.node.store.catalogue import Catalogue, ShareKey
from shoal.node.store.database import Transaction
from shoal.node.store.errors import DiskFailed, NotHeld, ShareDamaged
from shoal.node.store.limits import MAX_READ_BLOCKS, SCRUB_BATCH, SCRUB_MIN_BYTES, SCRUB_PASS_S
from shoal.node.store.opening import Opener
from shoal.values import dataclass

NEXT = """
SELECT file_id, share_number, next_block FROM scrubbed CROSS JOIN shares USING (file_id, share_number)
WHERE turn < ? AND state = 0 ORDER BY turn, file_id, share_number LIMIT ?
"""


@dataclass(frozen=True, slots=True)
class ScrubReport:
    """What one call of `scrub` did.

    checked_bytes: read and hashed.  shares: checked to their end.  damaged: put aside, no longer held.
    failed: could not be opened or read for another reason; tried again in the next pass.
    """

    checked_bytes: int = 0
    shares: int = 0
    damaged: tuple[ShareKey, ...] = ()
    failed: tuple[ShareKey, ...] = ()


@dataclass(slots=True)
class Place:
    """A share to check, and the block to go on from."""

    key: ShareKey
    next_block: int
    is_done: bool = False


@dataclass(slots=True)
class ScrubRun:
    """One call: what is left of its budget, and what it found."""

    budget_bytes: int
    checked_bytes: int = 0
    shares: int = 0
    damaged: list[ShareKey] = field(default_factory=list)
    failed: list[ShareKey] = field(default_factory=list)

    def spend(self, count_bytes: int) -> None:
        """Count bytes read."""
        self.checked_bytes += count_bytes
        self.budget_bytes -= count_bytes


def scrub_budget_bytes(share_bytes: int, elapsed_s: float) -> int:
    """What to check for every `elapsed_s` of uptime so that all of `share_bytes` is checked within 30 days."""
    return int(share_bytes * elapsed_s / SCRUB_PASS_S) + SCRUB_MIN_BYTES


class Scrubber:
    """Thread-safe; two runs at once would do the same work twice."""

    def __init__(self, catalogue: Catalogue, opener: Opener) -> None:
        self._catalogue = catalogue
        self._opener = opener

    def scrub(self, now: float, budget_bytes: int) -> ScrubReport:
        """Check shares until the budget is spent or each was checked once; at least a piece of 1 MiB.

        Raises LocalFailure when the database failed.
        """
        run = ScrubRun(max(1, budget_bytes))
        turn = self._next_turn()
        while run.budget_bytes > 0:
            places = self._places(turn)
            if not places:
                break
            visited = list(self._check_all(places, run))
            self._save(visited, turn, now)
        return ScrubReport(run.checked_bytes, run.shares, tuple(run.damaged), tuple(run.failed))

    def _next_turn(self) -> int:
        row = self._catalogue.database.row("SELECT coalesce(max(turn), 0) + 1 FROM scrubbed")
        return int(row[0]) if row else 1

    def _places(self, turn: int) -> list[Place]:
        rows = self._catalogue.database.rows(NEXT, turn, SCRUB_BATCH)
        return [Place((file_id, number), next_block) for file_id, number, next_block in rows]

    def _check_all(self, places: Iterable[Place], run: ScrubRun) -> Iterable[Place]:
        for place in places:
            if run.budget_bytes <= 0:
                return
            try:
                self._check(place, run)
            except ShareDamaged:
                run.damaged.append(place.key)  # the opener has put it aside
                place.is_done = True
            except NotHeld:  # given up meanwhile
                place.is_done = True
            except DiskFailed:
                run.failed.append(place.key)
                place.is_done = True
            yield place

    def _check(self, place: Place, run: ScrubRun) -> None:
        """Check a share from where the last run stopped. Raises what opening and reading a share raise."""
        with self._opener.fresh(place.key) as share:
            before, first_block = run.checked_bytes, place.next_block
            if first_block == 0:
                run.spend(share.check_frame())
            while place.next_block < share.block_count and (run.budget_bytes > 0 or place.next_block == first_block):
                count = min(MAX_READ_BLOCKS, share.block_count - place.next_block)
                run.spend(len(share.read(place.next_block, count, True).blocks))
                place.next_block += count
            if place.next_block >= share.block_count:
                place.is_done = True
                run.shares += 1
                run.budget_bytes -= max(0, SCRUB_MIN_BYTES - (run.checked_bytes - before))

    def _save(self, places: Iterable[Place], turn: int, now: float) -> None:
        with self._catalogue.database.transaction() as transaction:
            for place in places:
                _save(transaction, place, turn, now)


def _save(transaction: Transaction, place: Place, turn: int, now: float) -> None:
    """Note how far a share was checked. Nothing is noted when the share is gone."""
    if place.is_done:
        transaction.run(
            "UPDATE scrubbed SET turn = ?, next_block = 0, checked_at = ? WHERE file_id = ? AND share_number = ?",
            turn,
            int(now),
            *place.key,
        )
    else:
        transaction.run(
            "UPDATE scrubbed SET next_block = ? WHERE file_id = ? AND share_number = ?", place.next_block, *place.key
        )
