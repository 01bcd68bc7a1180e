"""How the shares kept are: what status shows besides bytes."""

from shoal.node.store.catalogue import ShareState
from shoal.node.store.database import Database
from shoal.node.store.leases import uptime
from shoal.values import dataclass


@dataclass(frozen=True, slots=True)
class StoreHealth:
    """A snapshot.

    whole, lost, damaged: shares by state; only whole ones count as held.  expired: shares seen past their lease end.
    soonest_lease_end: of whole shares, seconds since the epoch, or None.  quarantined, quarantined_bytes: damaged
    copies put aside, those of shares stored anew included.  tombstones: files deleted by their owners.  uptime_s: the
    node's own, over all its runs.  oldest_check: when the whole share that was not read for longest was last checked
    by scrub; 0 when never, None when nothing is held.
    """

    whole: int
    lost: int
    damaged: int
    expired: int
    soonest_lease_end: int | None
    quarantined: int
    quarantined_bytes: int
    tombstones: int
    uptime_s: float
    oldest_check: int | None


def health(database: Database) -> StoreHealth:
    """Ask the database, in one transaction."""
    with database.transaction() as transaction:
        states: dict[int, int] = dict(transaction.rows("SELECT state, count(*) FROM shares GROUP BY state"))
        (expired,) = transaction.rows("SELECT count(*) FROM expired")[0]
        (soonest,) = transaction.rows("SELECT min(lease_end) FROM shares WHERE state = 0")[0]
        quarantined, quarantined_bytes = transaction.rows("SELECT count(*), total(file_bytes) FROM quarantine")[0]
        (tombstones,) = transaction.rows("SELECT count(*) FROM tombstones")[0]
        (oldest,) = transaction.rows(
            "SELECT min(checked_at) FROM scrubbed WHERE (file_id, share_number) NOT IN "
            "(SELECT file_id, share_number FROM shares WHERE state != 0)"  # few: lost ones
        )[0]
        return StoreHealth(
            whole=states.get(ShareState.WHOLE, 0),
            lost=states.get(ShareState.LOST, 0),
            damaged=states.get(ShareState.DAMAGED, 0),
            expired=expired,
            soonest_lease_end=soonest,
            quarantined=quarantined,
            quarantined_bytes=int(quarantined_bytes),
            tombstones=tombstones,
            uptime_s=uptime(transaction),
            oldest_check=oldest,
        )
