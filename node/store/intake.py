"""How much each address prefix sent in the last 24 hours. Pure but for its two short database methods."""

from collections.abc import Iterable

from shoal.node.store.database import Transaction
from shoal.node.store.limits import MAX_SOURCES, SOURCE_DIVISOR, SOURCE_WINDOW_HOURS

HOUR_S = 3600
OTHERS = b""  # prefixes beyond MAX_SOURCES share this account


class Intake:
    """Bytes per source prefix and hour. Owned by Accounts, which holds the lock."""

    def __init__(self) -> None:
        self._hours: dict[bytes, dict[int, int]] = {}
        self._changed: set[tuple[bytes, int]] = set()

    def charge(self, source: bytes, count_bytes: int, now: float) -> None:
        """Count bytes for a source; negative gives back what was promised and never sent."""
        source, hour = self._account(source), int(now // HOUR_S)
        hours = self._hours.setdefault(source, {})
        hours[hour] = hours.get(hour, 0) + count_bytes
        self._changed.add((source, hour))

    def taken(self, source: bytes, now: float) -> int:
        """Bytes counted in the last 24 hours; hours ahead of the clock count too: it may be set back."""
        oldest = int(now // HOUR_S) - SOURCE_WINDOW_HOURS
        hours = self._hours.get(self._account(source), {})
        return max(0, sum(count for hour, count in hours.items() if hour > oldest))

    def allowance(self, source: bytes, free_bytes: int, now: float) -> int:
        """What this source may still send when `free_bytes` are free besides what it took already."""
        taken = self.taken(source, now)
        return (free_bytes + taken) // SOURCE_DIVISOR - taken

    def forget(self, now: float) -> None:
        """Drop hours that no longer count, and whole days ahead of the clock: that clock was wrong."""
        hour_now = int(now // HOUR_S)
        window = range(hour_now - SOURCE_WINDOW_HOURS + 1, hour_now + SOURCE_WINDOW_HOURS)
        for source, hours in list(self._hours.items()):
            kept = {hour: count for hour, count in hours.items() if hour in window}
            if kept:
                self._hours[source] = kept
            else:
                del self._hours[source]

    def _account(self, source: bytes) -> bytes:
        return source if source in self._hours or len(self._hours) < MAX_SOURCES else OTHERS

    # in the database

    def load(self, rows: Iterable[tuple[bytes, int, int]]) -> None:
        """Take over (source, hour, bytes) rows of an earlier run."""
        for source, hour, count in rows:
            self._hours.setdefault(source, {})[hour] = count

    def take_changes(self) -> list[tuple[bytes, int, int]]:
        """Rows changed since the last call, for `save`."""
        changed, self._changed = self._changed, set()
        return [(source, hour, self._hours.get(source, {}).get(hour, 0)) for source, hour in changed]


def save_intake(transaction: Transaction, rows: Iterable[tuple[bytes, int, int]], now: float) -> None:
    """Write changed rows and drop those no longer counted, as part of a transaction that happens anyway."""
    transaction.run("DELETE FROM intake WHERE hour <= ?", int(now // HOUR_S) - SOURCE_WINDOW_HOURS)
    transaction.run_many("INSERT OR REPLACE INTO intake VALUES (?, ?, ?)", rows)
