"""Leases, deletes, rot and jumping clocks against a model, with power cuts at any operation.

The model knows the three conditions from their definition. A share is dropped exactly when all three hold; nothing held
is wrong, nothing deleted comes back, and bytes are counted as they lie on the disk.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from kit import stores
from shoal.node.store import GRACE_S, FileDeleted, ShareDamaged, ShareStore
from shoal.simulation.disk import PowerCut, SimDisk

EXAMPLES = 100  # about four seconds
DAY_S = 86400
QUARANTINE_S = 30 * DAY_S
ROOT = Path("/sim/store")
FILES = (stores.publish(1, 500), stores.publish(4, 600))
STONE = b"tombstone"
SHARES = 2  # of each file

JUMPS_S = st.sampled_from(
    [-1000 * DAY_S, -15 * DAY_S, -1, 1, 3 * DAY_S, 15 * DAY_S, 91 * DAY_S, 105 * DAY_S, 4000 * DAY_S]
)

AFTER_S = [-1, 0, 1, GRACE_S - 1, GRACE_S, GRACE_S + 1, GRACE_S + 1, GRACE_S + 50 * DAY_S]  # from a lease end
LOOKS = st.tuples(st.sampled_from(AFTER_S), st.sampled_from([0.0, 7.0, 13.9, 14.0, 14.0]), st.booleans())


@dataclass
class Held:
    """An acknowledged share: its lease, and the uptime at which it was first seen past it, if that was seen.

    After a power cut in the middle of a call `surely` is false: the note is the earliest that may be there.
    """

    lease_end: int
    seen: float | None = None
    surely: bool = True


class Machine(RuleBasedStateMachine):
    """One store, what it was given, and what a model says of it."""

    def __init__(self) -> None:
        super().__init__()
        self.disk = SimDisk()
        self.place = stores.Place(self.disk, ROOT)
        self.store: ShareStore = self.place.open()
        self.now = stores.NOW
        self.uptime = 0.0
        self.held: dict[tuple[int, int], Held] = {}
        self.maybe: dict[tuple[int, int], Held] = {}  # dropped or put in a call that a power cut ended
        self.deleted: dict[int, int] = {}  # file -> when its tombstone ends
        self.maybe_deleted: set[int] = set()
        self.number = 0

    # what happens

    def attempt(self, work: Callable[[], None], otherwise: Callable[[], None] = lambda: None) -> None:
        """Do something during which the power may fail; then `otherwise` says what is no longer sure."""
        try:
            work()
        except PowerCut:
            otherwise()
            self.cut(random.Random(self.number))

    def cut(self, rng: random.Random) -> None:
        self.disk.crash(rng)
        self.open()

    def open(self) -> None:
        self.store = self.place.open(now=self.now)
        for file in self.maybe_deleted:
            if self.store.tombstone(FILES[file].file_id):
                self.deleted[file] = int(self.now) + 200 * DAY_S
                for share in range(SHARES):
                    self.maybe.pop((file, share), None)
        self.maybe_deleted.clear()
        for key, held in self.maybe.items():
            if key[1] in [each.share_number for each in self.store.held(FILES[key[0]].file_id)]:
                self.held[key] = held
        self.maybe.clear()
        self.learn_leases()

    def learn_leases(self) -> None:
        """After a power cut in a renewal either lease may be there: take the one that is, which is not the shorter."""
        for (file, share), held in self.held.items():
            if not held.surely:
                (found,) = [each for each in self.store.held(FILES[file].file_id) if each.share_number == share]
                assert found.lease_end >= held.lease_end
                held.lease_end = found.lease_end

    @rule(file=st.integers(0, len(FILES) - 1), share=st.integers(0, SHARES - 1), days=st.integers(0, 90))
    def put(self, file: int, share: int, days: int) -> None:
        self.number += 1
        upload, whole = stores.upload_id(self.number), FILES[file]
        key, lease_end = (file, share), int(self.now) + days * DAY_S

        def work() -> None:
            self.store.begin(upload, stores.SOURCE, 0, self.now)
            for at in range(whole.count):
                leaf = whole.data_leaves[at : at + 1]
                self.store.write(upload, at, whole.blocks[share][at : at + 1], leaf, self.now)
            try:
                kept = self.store.commit(upload, share, whole.encoded, lease_end, self.now)
            except FileDeleted:
                assert file in self.deleted
                return
            assert file not in self.deleted
            self.extend(key, kept, lease_end)

        def unsure() -> None:
            held = self.held.pop(key, None)
            self.maybe[key] = held or Held(0, surely=False)
            self.maybe[key].surely = False

        self.attempt(work, unsure)

    def extend(self, key: tuple[int, int], kept: int, asked: int) -> None:
        """A lease never gets shorter, and only a longer one starts the grace anew."""
        held = self.held.get(key)
        if held is None:
            assert kept >= asked
            self.held[key] = Held(kept)
        elif held.surely:
            assert kept == max(asked, held.lease_end)
            if kept > held.lease_end:
                self.held[key] = Held(kept)
        else:
            assert kept >= max(asked, held.lease_end)
            self.held[key] = Held(kept, surely=False)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), days=st.integers(-5, 90))
    def renew(self, data: st.DataObject, days: int) -> None:
        key = data.draw(st.sampled_from(sorted(self.held)))
        asked = int(self.now) + days * DAY_S

        def work() -> None:
            self.extend(key, self.store.renew(FILES[key[0]].file_id, key[1], asked), asked)

        def unsure() -> None:
            self.held[key].surely = False

        self.attempt(work, unsure)

    @initialize()
    def begin_with_all(self) -> None:
        for file, share in self.all_keys():
            self.put(file, share, 90)

    @rule(jump_s=JUMPS_S)
    def clock(self, jump_s: int) -> None:
        self.now = max(1.0, self.now + jump_s)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), after_s=st.sampled_from(AFTER_S))
    def clock_around_a_lease_end(self, data: st.DataObject, after_s: int) -> None:
        key = data.draw(st.sampled_from(sorted(self.held)))
        self.now = max(1.0, self.held[key].lease_end + after_s)

    @rule(days=st.sampled_from([0.01, 7.0, 14.0, 30.0]))
    def up(self, days: float) -> None:
        def work() -> None:
            self.uptime = self.store.note_uptime(days * DAY_S, 0.0)

        self.attempt(work)

    @rule(agrees=st.booleans())
    def drop(self, agrees: bool) -> None:
        self.look(agrees)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), looks=st.lists(LOOKS, min_size=2, max_size=4))
    def drop_around_a_lease_end(self, data: st.DataObject, looks: list[tuple[int, float, bool]]) -> None:
        """Several looks with time up between, so that drops, and all but drops, do happen."""
        key = data.draw(st.sampled_from(sorted(self.held)))
        lease_end = self.held[key].lease_end
        for after_s, days, agrees in looks:
            self.now = max(1.0, lease_end + after_s)
            self.look(agrees)
            self.up(days)
        self.look(True)

    def look(self, agrees: bool) -> None:
        before = {key: held.seen for key, held in self.held.items()}
        self.see(agrees)
        sure = {key for key, held in self.held.items() if agrees and held.surely and self.is_due(held)}
        possible = {key for key, held in self.held.items() if agrees and self.is_due(held)}

        def work() -> None:
            names = {(FILES[key[0]].file_id, key[1]): key for key in self.all_keys()}
            dropped = {names[each] for each in self.store.drop_expired(self.now, agrees)}
            dropped &= set(self.held)  # shares no longer held, being damaged, go by the same rules
            assert sure <= dropped <= possible
            for key in dropped:
                del self.held[key]
            if agrees:
                self.deleted = {file: until for file, until in self.deleted.items() if until >= self.now}

        def unsure() -> None:
            for key, seen in before.items():
                self.held[key].seen = self.held[key].seen if seen is None else seen
            for key in possible:
                self.maybe[key] = self.held.pop(key)
            for held in (*self.held.values(), *self.maybe.values()):
                held.surely = False
            self.maybe_deleted |= {file for file, until in self.deleted.items() if agrees and until < self.now}
            self.deleted = {file: until for file, until in self.deleted.items() if file not in self.maybe_deleted}

        self.attempt(work, unsure)

    def see(self, agrees: bool) -> None:
        for held in self.held.values():
            if held.lease_end >= self.now:
                held.seen, held.surely = None, True
            elif agrees and held.seen is None:
                held.seen = self.uptime

    def is_due(self, held: Held) -> bool:
        return held.seen is not None and self.now > held.lease_end + GRACE_S and self.uptime - held.seen >= GRACE_S

    def all_keys(self) -> list[tuple[int, int]]:
        return [(file, share) for file in range(len(FILES)) for share in range(SHARES)]

    @rule(file=st.integers(0, len(FILES) - 1), really=st.sampled_from([False, False, True]))
    def delete(self, file: int, really: bool) -> None:
        if not really:  # often enough
            return
        until = int(self.now) + 200 * DAY_S
        mine = [key for key in self.held if key[0] == file]

        def work() -> None:
            numbers = self.store.delete(FILES[file].file_id, STONE, until, self.now)
            assert {number for _, number in mine} <= set(numbers)
            for key in mine:
                del self.held[key]
            self.deleted[file] = max(until, self.deleted.get(file, 0))

        def unsure() -> None:
            for key in mine:
                self.maybe[key] = self.held.pop(key)
            if file not in self.deleted:
                self.maybe_deleted.add(file)

        self.attempt(work, unsure)

    @precondition(lambda self: any(key[0] == 1 for key in self.held))
    @rule(data=st.data(), byte=st.integers(0, 3 * 65536 + 599), by_reading=st.booleans())
    def rot(self, data: st.DataObject, byte: int, by_reading: bool) -> None:
        """A share in a file rots, and is found: it is no longer held, and its copy stays."""
        key = data.draw(st.sampled_from(sorted(key for key in self.held if key[0] == 1)))
        whole = FILES[1]
        fault, self.disk.before = self.disk.before, None
        before = self.place.names()
        stores.flip(self.place, self.place.share_path(whole, key[1]), byte)
        self.disk.before = fault
        self.held.pop(key)

        def work() -> None:
            if by_reading:
                try:
                    self.store.read(whole.file_id, key[1], byte // 65536, 1, True)
                    raise AssertionError("rot was served")
                except ShareDamaged:
                    pass
            else:
                assert self.store.scrub(self.now, 1 << 40).damaged == ((whole.file_id, key[1]),)

        self.attempt(work)
        self.disk.before = None
        self.store.scrub(self.now, 1 << 40)  # found at the latest now
        assert len([name for name in self.place.names() if not name.endswith(".upload")]) == len(
            [name for name in before if not name.endswith(".upload")]
        )

    @rule(budget=st.sampled_from([1, 1 << 20, 1 << 30]))
    def scrub(self, budget: int) -> None:
        def work() -> None:
            assert self.store.scrub(self.now, budget).damaged == ()

        self.attempt(work)

    @rule(after=st.integers(0, 14))
    def power_will_fail(self, after: int) -> None:
        self.disk.crash_at(after)

    @rule()
    def restart(self) -> None:
        def work() -> None:
            self.store.close()
            self.open()

        self.attempt(work)

    # what must hold

    @invariant()
    def all_is_as_it_should_be(self) -> None:
        before, self.disk.before = self.disk.before, None
        for (file, share), held in self.held.items():
            stores.check_share(self.store, FILES[file], share)
            (found,) = [each for each in self.store.held(FILES[file].file_id) if each.share_number == share]
            assert found.lease_end >= held.lease_end
            if held.surely:
                assert found.lease_end == held.lease_end
        for number, whole in enumerate(FILES):
            assert {(number, each.share_number) for each in self.store.held(whole.file_id)} == {
                key for key in self.held if key[0] == number
            }
            assert (self.store.tombstone(whole.file_id) is not None) == (number in self.deleted)
        usage = self.store.usage()
        assert usage.upload_bytes or usage.share_bytes == stores.used_on_disk(self.place)
        self.disk.before = before


def test_nothing_is_dropped_unless_all_three_conditions_held() -> None:
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=30,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
