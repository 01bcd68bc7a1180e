"""The volunteer's limits: what is used, what is promised, and how much each sender may send.

Share files, uploads and the database are counted with the bytes they really take. An upload with a known size bound has
its whole cost set aside when it is admitted. So two publishers are never promised the same last gigabyte.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from shoal.erasure import BLOCK_BYTES
from shoal.node.store.errors import Limit, StoreFull, disk_errors
from shoal.node.store.intake import Intake
from shoal.node.store.limits import (
    MAX_UPLOADS,
    MAX_UPLOADS_PER_SOURCE,
    OWN_SOURCE,
    share_cost_bytes,
    uncommitted_limit_bytes,
)


@dataclass(frozen=True, slots=True)
class Usage:
    """A snapshot of the store, all in bytes but the counts.

    used = share_bytes + upload_bytes + database_bytes. promised: set aside for open uploads and not received
    yet. available: what a new share may still take.
    """

    capacity_bytes: int
    reserve_bytes: int
    used_bytes: int
    share_bytes: int
    upload_bytes: int
    database_bytes: int
    promised_bytes: int
    free_disk_bytes: int
    available_bytes: int
    files: int = 0
    shares: int = 0
    uploads: int = 0


@dataclass(slots=True)
class Charge:
    """What one open upload counts for. order: age rank. bound: bytes offered, 0 when unknown."""

    order: int
    source: bytes
    bound: int
    received: int

    @property
    def used(self) -> int:
        """Bytes it takes now, trees included."""
        return share_cost_bytes(self.received) if self.received else 0

    @property
    def total(self) -> int:
        """Bytes it takes or may still take by what was offered."""
        return max(self.used, share_cost_bytes(self.bound) if self.bound else 0)


class Accounts:
    """Thread-safe. `free_bytes` and `database_bytes` ask the disk."""

    def __init__(
        self,
        *,
        capacity_bytes: int,
        reserve_bytes: int,
        free_bytes: Callable[[], int],
        database_bytes: Callable[[], int],
        intake: Intake,
        private: bool,
    ) -> None:
        self.capacity_bytes = capacity_bytes
        self.reserve_bytes = reserve_bytes
        self._free_bytes = free_bytes
        self._database_bytes = database_bytes
        self._intake = intake
        self._private = private
        self._lock = threading.Lock()
        self.charges: dict[bytes, Charge] = {}
        self.of_source: Counter[bytes] = Counter()  # charges by source
        self.used_bytes = self.total_bytes = 0  # of all charges: there may be thousands, and every offer asks
        self._orders = 0
        self._share_bytes = 0

    # shares

    @property
    def share_bytes(self) -> int:
        """What the share files take on the disk."""
        return self._share_bytes

    def add_share(self, file_bytes: int) -> None:
        """A share file of this allocated size is there now (negative: is gone)."""
        with self._lock:
            self._share_bytes += file_bytes

    # uploads

    def admit(self, upload_id: bytes, source: bytes, bound: int, now: float) -> None:
        """Open an account for an upload. This node's own uploads need room alone, and must tell their size.

        Raises StoreFull when a limit would be passed.
        """
        with self._lock, disk_errors("free space"):
            self._check_room(share_cost_bytes(bound or BLOCK_BYTES))
            if source != OWN_SOURCE:
                self._check_counts(source)
                self._check_uncommitted(self.total_bytes, share_cost_bytes(bound))
                self._check_source(source, bound, now)
                self._intake.charge(source, bound, now)
            self._open(upload_id, source, bound, 0)

    def restore(self, upload_id: bytes, source: bytes, bound: int, received: int) -> None:
        """Open the account of an upload found at start-up. It is never refused, and its source is not charged again."""
        with self._lock:
            self._open(upload_id, source, bound, received)

    def receive(self, upload_id: bytes, count_bytes: int, now: float) -> None:
        """Count bytes about to be written. The caller has checked them against the bound. Raises StoreFull at a
        limit.
        """
        with self._lock, disk_errors("free space"):
            charge = self.charges[upload_id]
            self._check_disk(count_bytes)
            if not charge.bound:
                older = sum(other.total for other in self.charges.values() if other.order < charge.order)
                self._check_uncommitted(older, count_bytes)
                self._check_room(count_bytes)
                self._check_source(charge.source, count_bytes, now)
                self._intake.charge(charge.source, count_bytes, now)
            self._set_received(charge, charge.received + count_bytes)

    def give_back(self, upload_id: bytes, count_bytes: int) -> None:
        """Undo `receive`: the write failed."""
        with self._lock:
            charge = self.charges.get(upload_id)
            if charge:  # else the failed write discarded the whole upload
                self._set_received(charge, charge.received - count_bytes)

    def close(self, upload_id: bytes, now: float) -> None:
        """Close the account of an upload that is committed or gone. Its source gets back what it did not send."""
        with self._lock:
            charge = self.charges.pop(upload_id, None)
            if charge is None:
                return
            self._count(charge, -1)
            if charge.bound > charge.received and charge.source != OWN_SOURCE:
                self._intake.charge(charge.source, charge.received - charge.bound, now)

    def intake_changes(self) -> list[tuple[bytes, int, int]]:
        """What to save about intake with the next transaction."""
        with self._lock:
            return self._intake.take_changes()

    def forget_intake(self, now: float) -> None:
        """Drop what is older than a day."""
        with self._lock:
            self._intake.forget(now)

    # totals

    def available_bytes(self) -> int:
        """What a new share may still take; 0 when the capacity was lowered below what is held."""
        with self._lock, disk_errors("free space"):
            return max(0, min(room for _, room in self._rooms()))

    def usage(self) -> Usage:
        """All figures at one moment."""
        with self._lock, disk_errors("free space"):
            uploads, promised = self._uploads()
            database = self._database_bytes()
            return Usage(
                capacity_bytes=self.capacity_bytes,
                reserve_bytes=self.reserve_bytes,
                used_bytes=self._share_bytes + uploads + database,
                share_bytes=self._share_bytes,
                upload_bytes=uploads,
                database_bytes=database,
                promised_bytes=promised,
                free_disk_bytes=self._free_bytes(),
                available_bytes=max(0, min(room for _, room in self._rooms())),
                uploads=len(self.charges),
            )

    # inside the lock

    def _open(self, upload_id: bytes, source: bytes, bound: int, received: int) -> None:
        self._orders += 1
        charge = self.charges[upload_id] = Charge(self._orders, source, bound, received)
        self._count(charge, 1)

    def _count(self, charge: Charge, sign: int) -> None:
        """Take a charge into the totals, or out of them."""
        self.used_bytes += sign * charge.used
        self.total_bytes += sign * charge.total
        self.of_source[charge.source] += sign
        if not self.of_source[charge.source]:
            del self.of_source[charge.source]

    def _set_received(self, charge: Charge, received: int) -> None:
        self._count(charge, -1)
        charge.received = received
        self._count(charge, 1)

    def _uploads(self) -> tuple[int, int]:
        return self.used_bytes, self.total_bytes - self.used_bytes

    def _rooms(self) -> Iterator[tuple[Limit, int]]:
        uploads, promised = self._uploads()
        used = self._share_bytes + uploads + self._database_bytes()
        yield Limit.CAPACITY, self.capacity_bytes - used - promised
        yield Limit.DISK, self._free_bytes() - self.reserve_bytes - promised

    def _check_room(self, needed: int) -> None:
        for limit, room in self._rooms():
            if needed > room:
                raise StoreFull(limit, needed, room)

    def _check_disk(self, needed: int) -> None:
        """Raise StoreFull when other programs have filled the disk, even if the bytes were promised."""
        room = self._free_bytes() - self.reserve_bytes
        if needed > room:
            raise StoreFull(Limit.DISK, needed, room)

    def _check_counts(self, source: bytes) -> None:
        of_source_is_full = self.of_source[source] >= MAX_UPLOADS_PER_SOURCE and not self._private
        if len(self.charges) >= MAX_UPLOADS or of_source_is_full:
            raise StoreFull(Limit.UPLOADS, 1, 0)

    def _check_uncommitted(self, others: int, needed: int) -> None:
        """`others`: the bytes that other uploads take or may still take."""
        limit = uncommitted_limit_bytes(self.capacity_bytes)
        if others >= limit:
            raise StoreFull(Limit.UPLOADS, needed, limit - others)

    def _check_source(self, source: bytes, needed: int, now: float) -> None:
        if self._private:
            return
        promised = sum(charge.total - charge.used for charge in self.charges.values() if charge.source == source)
        free = min(room for _, room in self._rooms()) + promised
        room = self._intake.allowance(source, free, now)
        if needed > room:
            raise StoreFull(Limit.SOURCE, needed, room)


@contextmanager
def received(accounts: Accounts, upload_id: bytes, count_bytes: int, now: float) -> Iterator[None]:
    """Count bytes while the block writes them. When it fails, the count is undone."""
    accounts.receive(upload_id, count_bytes, now)
    try:
        yield
    except Exception:  # whatever it was, it passes on
        accounts.give_back(upload_id, count_bytes)
        raise
