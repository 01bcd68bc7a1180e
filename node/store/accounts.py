"""The volunteer's limits: what is used, and how much each sender may send.

Share files, uploads and the database are counted with the bytes they really take. An offer takes no room. Room is taken
when bytes arrive, at most a write at a time, so a peer holds no more than it has sent. Where room or places run short,
`displacing.py` says which uploads give way. Only this node's own uploads have their whole room set aside.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from shoal.erasure import BLOCK_BYTES
from shoal.node.store.displacing import Charge, Holdings, PlaceFinder, RoomClaim, giving_way
from shoal.node.store.errors import Limit, StoreFull, disk_errors
from shoal.node.store.intake import Intake
from shoal.node.store.limits import (
    FIRST_BYTE_S,
    MAX_UPLOADS,
    MAX_UPLOADS_PER_SOURCE,
    OWN_SOURCE,
    SPARE_CANDIDATES,
    share_cost_bytes,
)
from shoal.node.store.outlook import Lookout
from shoal.values import dataclass


@dataclass(frozen=True, slots=True)
class Usage:
    """A snapshot of the store, all in bytes but the counts.

    used = share_bytes + upload_bytes + database_bytes. promised: set aside for this node's own uploads and not received
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
        self.places = Holdings(private=private)  # in the table
        self.bytes = Holdings(private=private)  # that uploads take
        self._finder = PlaceFinder(self.places)
        self._lookout = Lookout(self.places)
        self.used_bytes = self.promised_bytes = 0  # of all charges: there may be thousands, and every offer asks
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
        """Open an account for an upload. Nothing is set aside, but for this node's own, which must tell its size.

        Raises StoreFull where the table is full, or where so much as was offered would not fit.
        """
        needed = share_cost_bytes(bound or BLOCK_BYTES)
        with self._lock, disk_errors("free space"):
            if source == OWN_SOURCE:
                self._check_room(needed)
            else:
                self._check_table(source)
                self._check_offer(needed, now)
                hoped = self._lookout.at(self.charges, now).hoped_of_group[self.places.group(source)]
                self._check_source(source, bound + hoped, now)
            self._open(upload_id, Charge(self._next_order(), source, bound, 0, now + FIRST_BYTE_S))

    def restore(self, upload_id: bytes, source: bytes, bound: int, received: int) -> None:
        """Open the account of an upload found at start-up. It is never refused, and its source is not charged again."""
        with self._lock:
            self._open(upload_id, Charge(self._next_order(), source, bound, received, float("-inf")))

    def receive(self, upload_id: bytes, count_bytes: int, now: float) -> None:
        """Count bytes about to be written. The caller has checked them against the bound.

        Raises StoreFull when there is no room for them, or when their source has sent its part of the day.
        """
        with self._lock, disk_errors("free space"):
            charge = self.charges[upload_id]
            if charge.source == OWN_SOURCE:
                self._check_disk(count_bytes)
            else:
                self._check_room(share_cost_bytes(charge.received + count_bytes) - charge.used)
                self._check_source(charge.source, count_bytes, now)
                self._intake.charge(self.places.group(charge.source), count_bytes, now)
            self._set_received(charge, charge.received + count_bytes)
            charge.moved(count_bytes, now)

    def give_back(self, upload_id: bytes, count_bytes: int, now: float) -> None:
        """Undo `receive`: the write failed."""
        with self._lock:
            charge = self.charges.get(upload_id)
            if charge is None:  # the failed write discarded the whole upload
                return
            self._set_received(charge, charge.received - count_bytes)
            if charge.source != OWN_SOURCE:
                self._intake.charge(self.places.group(charge.source), -count_bytes, now)

    def refuse(self, upload_id: bytes) -> None:
        """Count an upload as idle: it found no room, so its publisher is about to give it up."""
        with self._lock:
            charge = self.charges.get(upload_id)
            if charge is not None:
                charge.moves_until = float("-inf")

    def close(self, upload_id: bytes) -> None:
        """Close the account of an upload that is committed or gone."""
        with self._lock:
            charge = self.charges.pop(upload_id, None)
            if charge is not None:
                self._count(charge, -1)

    def giving_way(self, upload_id: bytes, source: bytes, full: StoreFull, now: float) -> list[tuple[bytes, int]]:
        """The uploads that give way to this one, which reached a limit: the first to go first, with what each frees.

        What is freed are bytes, or places where the table is the limit. These are enough and some to spare, or too few.
        An upload that is only offered makes others give up places, and never bytes.
        """
        with self._lock:
            if full.limit is Limit.UPLOADS:
                claim = RoomClaim(upload_id, source, 0, 1, for_place=True, in_group=self._group_is_full(source))
                return self._finder.find(self.charges, claim, now)
            charge = self.charges.get(upload_id)
            if full.limit is Limit.SOURCE or (charge is None and source != OWN_SOURCE):
                return []
            claim = RoomClaim(upload_id, source, charge.received if charge else 0, full.needed_bytes)
            found, freed = [], 0
            for other_id, size in giving_way(self.charges, claim, self.bytes, now):
                found.append((other_id, size))
                freed += size if len(found) > SPARE_CANDIDATES else 0
                if freed >= full.missing:
                    break
            return found

    def intake_changes(self) -> list[tuple[bytes, int, int]]:
        """What to save about intake with the next transaction."""
        with self._lock:
            return self._intake.take_changes()

    def forget_intake(self, now: float) -> None:
        """Drop what is older than a day."""
        with self._lock:
            self._intake.forget(now)

    # totals

    def available_bytes(self, now: float) -> int:
        """What a new share may still take, from idle uploads as well; 0 when the capacity is below what is held."""
        with self._lock, disk_errors("free space"):
            return self._available(now)

    def usage(self, now: float | None = None) -> Usage:
        """All figures at one moment. Without `now`, no upload counts as idle."""
        with self._lock, disk_errors("free space"):
            database = self._database_bytes()
            return Usage(
                capacity_bytes=self.capacity_bytes,
                reserve_bytes=self.reserve_bytes,
                used_bytes=self._share_bytes + self.used_bytes + database,
                share_bytes=self._share_bytes,
                upload_bytes=self.used_bytes,
                database_bytes=database,
                promised_bytes=self.promised_bytes,
                free_disk_bytes=self._free_bytes(),
                available_bytes=self._available(now),
                uploads=len(self.charges),
            )

    # inside the lock

    def _available(self, now: float | None) -> int:
        idle = 0 if now is None else self._lookout.at(self.charges, now).idle_bytes
        return max(0, self._room() + idle)

    def _next_order(self) -> int:
        self._orders += 1
        return self._orders

    def _open(self, upload_id: bytes, charge: Charge) -> None:
        self.charges[upload_id] = charge
        self._count(charge, 1)

    def _count(self, charge: Charge, sign: int) -> None:
        """Take a charge into the totals, or out of them."""
        self.used_bytes += sign * charge.used
        self.promised_bytes += sign * charge.promised
        self.places.add(charge.source, sign)
        self.bytes.add(charge.source, sign * charge.used)

    def _set_received(self, charge: Charge, received: int) -> None:
        self._count(charge, -1)
        charge.received = received
        self._count(charge, 1)

    def _rooms(self) -> Iterator[tuple[Limit, int]]:
        used = self._share_bytes + self.used_bytes + self._database_bytes()
        yield Limit.CAPACITY, self.capacity_bytes - used - self.promised_bytes
        yield Limit.DISK, self._free_bytes() - self.reserve_bytes - self.promised_bytes

    def _room(self) -> int:
        return min(room for _, room in self._rooms())

    def _check_room(self, needed: int) -> None:
        for limit, room in self._rooms():
            if needed > room:
                raise StoreFull(limit, needed, room)

    def _check_offer(self, needed: int, now: float) -> None:
        """Raise StoreFull when so much would not fit beside the uploads that move. What idle ones take can be had."""
        outlook = self._lookout.at(self.charges, now)
        for limit, room in self._rooms():
            found = room + outlook.idle_bytes - outlook.hoped_bytes
            if needed > found:
                raise StoreFull(limit, needed, found)

    def _check_disk(self, needed: int) -> None:
        """Raise StoreFull when other programs have filled the disk, even if the bytes were promised."""
        room = self._free_bytes() - self.reserve_bytes
        if needed > room:
            raise StoreFull(Limit.DISK, needed, room)

    def _check_table(self, source: bytes) -> None:
        if len(self.charges) >= MAX_UPLOADS or self._group_is_full(source):
            raise StoreFull(Limit.UPLOADS, 1, 0)

    def _group_is_full(self, source: bytes) -> bool:
        return not self._private and self.places.of_group(source) >= MAX_UPLOADS_PER_SOURCE

    def _check_source(self, source: bytes, needed: int, now: float) -> None:
        if self._private:
            return
        group, outlook = self.places.group(source), self._lookout.at(self.charges, now)
        free = self._room() + outlook.idle_bytes - outlook.idle_of_group[group]  # its own count as sent
        room = self._intake.allowance(group, free, now)
        if needed > room:
            raise StoreFull(Limit.SOURCE, needed, room)


@contextmanager
def undone_on_failure(accounts: Accounts, upload_id: bytes, count_bytes: int, now: float) -> Iterator[None]:
    """Undo `receive` when the block that writes the bytes fails."""
    try:
        yield
    except Exception:  # whatever it was, it passes on
        accounts.give_back(upload_id, count_bytes, now)
        raise
