"""Uploads that promise and do not send, that stop, or that are many: they give way to those that send."""

import random
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from kit.stores import LEASE_END, NOW, Place, Published, publish, upload_id
from shoal.dht import Address
from shoal.erasure import BLOCK_BYTES
from shoal.node.store import GaveWay, Limit, RealDisk, ShareStore, StoreFull, UnknownUpload
from shoal.node.store.accounts import Accounts
from shoal.node.store.displacing import Charge, Holdings
from shoal.node.store.intake import Intake
from shoal.node.store.limits import (
    FIRST_BYTE_S,
    LOOK_AGAIN_S,
    MAX_UPLOADS,
    MAX_UPLOADS_PER_SOURCE,
    MIN_UPLOAD_BYTES_PER_S,
    OWN_SOURCE,
    share_cost_bytes,
)
from shoal.simulation.disk import PowerCut

MIB = 1 << 20
GIB = 1 << 30
IDLE = NOW + 2000.0  # when what stopped at NOW is idle
EXAMPLES = 60

ATTACKER, HONEST, THIRD = (bytes([10, 0, number, 1]) for number in range(3))


@pytest.fixture(scope="module")
def long() -> Published:
    """Shares of 40 blocks, 2.5 MiB."""
    return publish(40)


def write(store: ShareStore, file: Published, number: int, first: int, count: int, now: float = NOW) -> None:
    end = min(file.count, first + count)
    for at in range(first, end, 16):
        until = min(at + 16, end)
        store.write(upload_id(number), at, file.blocks[0][at:until], file.data_leaves[at:until], now)


def is_open(store: ShareStore, number: int) -> bool:
    return store.uploads.find(upload_id(number)) is not None


def squat(store: ShareStore, source: bytes, count: int, bound: int = 0, first: int = 1000, now: float = NOW) -> None:
    for number in range(first, first + count):
        store.begin(upload_id(number), source, bound, now)


# --- offers


def test_one_large_offer_keeps_nobody_away(sim: Callable[[], Place], long: Published) -> None:
    store = sim().open(capacity=20 * GIB)
    for number in range(20):
        store.begin(upload_id(1000 + number), ATTACKER, 11 * GIB, NOW)
    assert store.available_bytes(NOW) == store.usage().capacity_bytes - store.usage().used_bytes
    store.begin(upload_id(1), HONEST, 11 * GIB, NOW)
    write(store, long, 1, 0, 40)
    store.commit(upload_id(1), 0, long.encoded, LEASE_END, NOW)


def test_a_full_table_has_a_place_for_another_source(sim: Callable[[], Place], long: Published) -> None:
    store = sim().open()
    squat(store, ATTACKER, MAX_UPLOADS)
    with pytest.raises(StoreFull) as full:
        store.begin(upload_id(1), ATTACKER, 0, NOW)
    assert full.value.limit is Limit.UPLOADS
    store.begin(upload_id(1), HONEST, 0, NOW)
    assert not is_open(store, 1000)
    assert store.usage().uploads == MAX_UPLOADS
    with pytest.raises(GaveWay) as gone:
        write(store, long, 1000, 0, 1)
    assert gone.value.limit is Limit.UPLOADS
    write(store, long, 1, 0, 40)
    store.commit(upload_id(1), 0, long.encoded, LEASE_END, NOW)


def test_a_source_that_fills_the_table_over_and_over_takes_only_its_own_places(
    sim: Callable[[], Place], long: Published
) -> None:
    """However idle the others' uploads are."""
    store = sim().open()
    for number in range(12):
        store.begin(upload_id(number), HONEST, 0, NOW)
    squat(store, ATTACKER, MAX_UPLOADS - 12)
    later = NOW + FIRST_BYTE_S + 1
    squat(store, ATTACKER, 500, first=10_000, now=later)
    assert all(is_open(store, number) for number in range(12))
    assert is_open(store, 10_499)
    write(store, long, 3, 0, 40, later)
    store.commit(upload_id(3), 0, long.encoded, LEASE_END, later)


def test_a_publisher_that_waits_for_its_turn_keeps_its_place(sim: Callable[[], Place]) -> None:
    """Of 48 uploads over a slow line most are idle before their first byte. The source that holds most loses first."""
    store = sim().open()
    store.begin(upload_id(1), HONEST, 0, NOW)
    later = NOW + FIRST_BYTE_S + 1
    squat(store, ATTACKER, MAX_UPLOADS - 1, now=later)
    squat(store, THIRD, 100, first=10_000, now=later)
    assert is_open(store, 1)


def test_to_keep_a_newcomer_out_each_place_has_to_be_paid_for(sim: Callable[[], Place], small: Published) -> None:
    """In a public network: with a prefix of its own, and with bytes."""
    store = sim().open(private=False)
    for number in range(MAX_UPLOADS):
        store.begin(upload_id(1000 + number), bytes([60 + number // 256, number % 256, 0, 1]), 0, NOW)
    newcomer = bytes([192, 0, 2, 1])
    with pytest.raises(StoreFull):
        store.begin(upload_id(1), newcomer, 0, NOW)
    later = NOW + FIRST_BYTE_S + 1
    for number in range(MAX_UPLOADS - 1):
        write(store, small, 1000 + number, 0, 1, later - 2)
    store.begin(upload_id(1), newcomer, 0, later)
    assert is_open(store, 1)
    store.begin(upload_id(2), bytes([192, 0, 3, 1]), 0, later)  # 1,000 bytes were worth one second
    assert is_open(store, 2)


def test_64_prefixes_that_fill_the_table_make_room(sim: Callable[[], Place]) -> None:
    store = sim().open(private=False)
    for prefix in range(MAX_UPLOADS // MAX_UPLOADS_PER_SOURCE):
        squat(store, bytes([60, prefix, 0, 1]), MAX_UPLOADS_PER_SOURCE, first=1000 + prefix * 100)
    squat(store, bytes([192, 0, 2, 1]), 12, first=1)
    assert all(is_open(store, number) for number in range(1, 13))


def test_synced_bytes_hold_a_place_no_better(sim: Callable[[], Place], small: Published, long: Published) -> None:
    """Of a source that holds the table, the upload with the least behind it goes first."""
    store = sim().open()
    squat(store, ATTACKER, MAX_UPLOADS)
    for number in range(1000, 1000 + 20):
        write(store, small, number, 0, 1)
        store.sync(upload_id(number), NOW)
    write(store, long, 1020, 0, 1)
    squat(store, HONEST, MAX_UPLOADS // 2, first=100_000)
    held = Counter(upload.source for upload in store.uploads.by_id.values())
    assert held == {ATTACKER: MAX_UPLOADS // 2, HONEST: MAX_UPLOADS // 2}
    assert all(is_open(store, number) for number in range(1000, 1021))
    with pytest.raises(StoreFull):
        store.begin(upload_id(1), HONEST, 0, NOW)


def test_a_neighbour_in_the_same_prefix_takes_no_more_than_half_of_its_places(sim: Callable[[], Place]) -> None:
    store = sim().open(private=False)
    one, other = bytes([192, 0, 2, 1]), bytes([192, 0, 2, 2])
    squat(store, one, MAX_UPLOADS_PER_SOURCE)
    squat(store, other, MAX_UPLOADS_PER_SOURCE // 2, first=5000)
    with pytest.raises(StoreFull) as full:
        store.begin(upload_id(1), other, 0, NOW)
    assert full.value.limit is Limit.UPLOADS
    store.begin(upload_id(2), bytes([192, 0, 3, 1]), 0, NOW)  # of another prefix: nobody gives way
    assert store.usage().uploads == MAX_UPLOADS_PER_SOURCE + 1


@pytest.mark.parametrize("host", ["192.0.2.77", "2001:db8:1:2:3:4:5:6", "fd12:3:4:5::6", "fe80::5", "febf::1", "::1"])
def test_sources_count_as_one_by_the_places_of_the_dht(host: str) -> None:
    public, private, address = Holdings(private=False), Holdings(private=True), Address(host, 1)
    assert public.group(address.host_key()) == address.place(private=False)
    assert private.group(address.host_key()) == address.place(private=True)
    assert public.group(address.prefix()) == address.prefix()  # as earlier stores noted it


def test_a_source_that_found_no_place_is_refused_for_a_moment_without_a_look(sim: Callable[[], Place]) -> None:
    store = sim().open()
    squat(store, ATTACKER, MAX_UPLOADS)
    now = NOW + FIRST_BYTE_S - LOOK_AGAIN_S / 4
    for moment in (now, now + LOOK_AGAIN_S / 2):
        with pytest.raises(StoreFull):
            store.begin(upload_id(1), ATTACKER, 0, moment)
    store.begin(upload_id(1), ATTACKER, 0, now + 2 * LOOK_AGAIN_S)


# --- bytes


@pytest.fixture
def tight(sim: Callable[[], Place]) -> Callable[..., ShareStore]:
    """Stores with room for so many bytes of uploads."""

    def make(room: int) -> ShareStore:
        place = sim()
        used = place.open().usage().used_bytes
        place.opened[0].close()
        return place.open(capacity=used + room + 128 * 1024)  # the database grows a little, too

    return make


def test_what_was_synced_stays_while_nobody_needs_the_room(tight: Callable[[int], ShareStore], long: Published) -> None:
    """Then the idle upload with the least behind it goes; its publisher is told why, and may begin anew."""
    store = tight(6 * MIB + 3 * MIB // 4)
    for number, blocks in ((1, 24), (2, 16), (3, 32)):
        store.begin(upload_id(number), HONEST, 0, NOW)
        write(store, long, number, 0, blocks)
        store.sync(upload_id(number), NOW)
    store.begin(upload_id(4), THIRD, 0, IDLE)
    write(store, long, 4, 0, 32, IDLE)
    assert [is_open(store, number) for number in (1, 2, 3, 4)] == [True] * 4
    write(store, long, 4, 32, 8, IDLE)
    assert [is_open(store, number) for number in (1, 2, 3, 4)] == [True, False, True, True]
    assert store.begin(upload_id(1), HONEST, 0, IDLE) == 24
    for refused in (
        lambda: write(store, long, 2, 16, 1, IDLE),
        lambda: store.sync(upload_id(2), IDLE),
        lambda: store.commit(upload_id(2), 0, long.encoded, LEASE_END, IDLE),
    ):
        with pytest.raises(GaveWay) as gone:
            refused()
        assert gone.value.limit is Limit.CAPACITY
        assert "gave way" in str(gone.value)
    store.commit(upload_id(4), 0, long.encoded, LEASE_END, IDLE)
    with pytest.raises(UnknownUpload):
        write(store, long, 77, 0, 1, IDLE)


def test_what_idle_uploads_take_is_told_as_room(tight: Callable[[int], ShareStore], long: Published) -> None:
    """Or a source that fills a node and stops would have nobody ask it any more."""
    store = tight(3 * MIB)
    store.begin(upload_id(1), ATTACKER, 0, NOW)
    write(store, long, 1, 0, 40)
    assert store.available_bytes(NOW) < MIB
    later = NOW + 3000
    assert store.available_bytes(later) > 3 * MIB - MIB // 2
    assert store.usage(later).available_bytes == store.available_bytes(later)
    assert store.usage().available_bytes < MIB
    store.begin(upload_id(2), HONEST, long.count * BLOCK_BYTES, later)
    write(store, long, 2, 0, 40, later)
    store.commit(upload_id(2), 0, long.encoded, LEASE_END, later)


def test_an_upload_that_moves_does_not_give_way_to_a_smaller_one(
    tight: Callable[[int], ShareStore], long: Published
) -> None:
    store = tight(2 * MIB)
    store.begin(upload_id(1), HONEST, 0, NOW)
    write(store, long, 1, 0, 28)
    for number in range(100, 110):
        store.begin(upload_id(number), ATTACKER, 0, NOW)
        with pytest.raises(StoreFull) as full:
            write(store, long, number, 0, 16)
        assert full.value.limit is Limit.CAPACITY
    assert is_open(store, 1)


def test_of_many_that_move_those_of_the_source_that_holds_most_give_way(
    tight: Callable[[int], ShareStore], long: Published
) -> None:
    """Also where each has more behind it than the newcomer: until the two sources hold as much."""
    store = tight(5 * MIB)
    for number in range(100, 116):
        store.begin(upload_id(number), ATTACKER, 0, NOW)
        write(store, long, number, 0, 4)
    store.begin(upload_id(1), HONEST, 0, NOW)
    write(store, long, 1, 0, 32)
    assert is_open(store, 1)
    assert sum(is_open(store, number) for number in range(100, 116)) >= 8


def test_where_more_come_than_fit_some_finish(tight: Callable[[int], ShareStore], long: Published) -> None:
    """What is refused first has the least behind it, so room is not spent on uploads of which none will end."""
    store = tight(7 * MIB)
    alive = list(range(8))
    for number in alive:
        store.begin(upload_id(number), bytes([10, 0, 0, number]), long.count * BLOCK_BYTES, NOW)
    rng = random.Random(1)
    for first in range(0, long.count, 4):
        rng.shuffle(alive)
        for number in list(alive):
            try:
                write(store, long, number, first, 4)
            except StoreFull:
                alive.remove(number)
    assert len(alive) == 2
    for number in alive:
        store.commit(upload_id(number), 0, long.encoded, LEASE_END, NOW)


def test_an_upload_that_is_being_worked_on_is_passed_over(tight: Callable[[int], ShareStore], long: Published) -> None:
    """Nobody waits for another's lock, and nothing is discarded where that does not make enough room."""
    store = tight(2 * MIB)
    for number in (1, 2):
        store.begin(upload_id(number), HONEST, 0, NOW)
        write(store, long, number, 0, 12)
    store.begin(upload_id(3), THIRD, 0, IDLE)
    busy = store.uploads.get(upload_id(1))
    with busy.lock, pytest.raises(StoreFull):
        write(store, long, 3, 0, 32, IDLE)
    assert is_open(store, 1)
    write(store, long, 3, store.uploads.get(upload_id(3)).blocks, 8, IDLE)
    assert not is_open(store, 1)


def test_our_own_uploads_take_the_room_of_idle_ones_and_give_way_to_nobody(
    tight: Callable[[int], ShareStore], long: Published
) -> None:
    store = tight(4 * MIB + MIB // 2)
    for number, source in ((1, HONEST), (2, THIRD)):
        store.begin(upload_id(number), source, 0, NOW)
        write(store, long, number, 0, 28)
    with pytest.raises(StoreFull):
        store.begin(upload_id(9), OWN_SOURCE, long.count * BLOCK_BYTES, NOW)
    store.begin(upload_id(9), OWN_SOURCE, long.count * BLOCK_BYTES, IDLE)
    assert sum(is_open(store, number) for number in (1, 2)) == 1
    store.begin(upload_id(3), ATTACKER, 0, IDLE)
    write(store, long, 3, 0, 16, IDLE)
    with pytest.raises(StoreFull):
        write(store, long, 3, 16, 24, IDLE)
    write(store, long, 9, 0, 40, IDLE)
    store.commit(upload_id(9), 0, long.encoded, LEASE_END, IDLE)


def test_a_power_cut_while_uploads_give_way(sim: Callable[[], Place], long: Published) -> None:
    """Whatever the moment: the upload that gave way is whole or gone, and what the other had synced is there."""
    for after in range(40):
        place = sim()
        store = place.open()
        store.begin(upload_id(1), HONEST, 0, NOW)
        write(store, long, 1, 0, 24)
        store.sync(upload_id(1), NOW)
        store.begin(upload_id(2), THIRD, 0, IDLE)
        write(store, long, 2, 0, 16, IDLE)
        store.sync(upload_id(2), IDLE)
        store.close()
        store = place.open(capacity=4 * MIB)
        place.sim.crash_at(after)
        was_cut = False
        try:
            write(store, long, 2, 16, 24, IDLE)
        except PowerCut:
            was_cut = True
        place.sim.crash(random.Random(after))
        store = place.open()
        assert store.begin(upload_id(1), HONEST, 0, IDLE) in (0, 24)
        assert store.begin(upload_id(2), THIRD, 0, IDLE) >= 16
        if not was_cut:
            assert after > 3
            return
    raise AssertionError("the power never stayed on")


def test_threads_that_take_each_others_room_neither_wait_for_ever_nor_miscount(tmp_path: Path, long: Published) -> None:
    place = Place(RealDisk(), tmp_path / "store")
    store = place.open(capacity=6 * MIB)
    problems: list[BaseException] = []

    def publish_often(thread: int) -> None:
        rng = random.Random(thread)
        for round_ in range(12):
            number, now = 100 * thread + round_, NOW + 400.0 * round_
            try:
                store.begin(upload_id(number), bytes([10, 0, 0, thread % 3]), 0, now)
                for first in range(0, rng.choice([8, 24, 40]), 8):
                    write(store, long, number, first, 8, now)
                    if rng.random() < 0.3:
                        store.sync(upload_id(number), now)
                if rng.random() < 0.3:
                    store.abort(upload_id(number), now)
            except (StoreFull, UnknownUpload):
                continue
            except BaseException as error:  # noqa: BLE001 - a thread's failure is the test's
                problems.append(error)

    threads = [threading.Thread(target=publish_often, args=(number,), daemon=True) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "two uploads wait for each other"
    assert problems == []
    uploads = store.uploads.by_id.values()
    assert store.usage().upload_bytes == sum(share_cost_bytes(each.received_bytes) for each in uploads if each.blocks)
    assert store.usage().used_bytes <= 6 * MIB + MIB // 4  # the database grows beside it
    kept = {upload.upload_id: upload.durable_blocks for upload in uploads if upload.durable_blocks}
    store.close()
    store = place.open()
    assert {upload.upload_id: upload.durable_blocks for upload in store.uploads.by_id.values()} == kept
    store.close()


# --- what moves


def test_an_honest_publisher_on_a_slow_line_is_never_idle() -> None:
    """1 Mbit/s, 48 shares, 16 lanes at once: each lane sends 1 MiB in 134 s, and then waits for two others."""
    charge = Charge(1, HONEST, 0, 0, NOW + FIRST_BYTE_S)
    now = NOW + 134.0
    for _ in range(100):
        charge.moved(MIB, now)
        now += 3 * 134.0
        assert charge.is_moving(now)


def test_an_upload_is_idle_without_a_first_byte_or_below_the_least_rate() -> None:
    charge = Charge(1, ATTACKER, 0, 0, NOW + FIRST_BYTE_S)
    assert charge.is_moving(NOW + FIRST_BYTE_S - 1)
    assert not charge.is_moving(NOW + FIRST_BYTE_S)
    charge.moved(BLOCK_BYTES, NOW + 60)
    assert charge.is_moving(NOW + 60 + BLOCK_BYTES / MIN_UPLOAD_BYTES_PER_S - 1)
    assert not charge.is_moving(NOW + 60 + BLOCK_BYTES / MIN_UPLOAD_BYTES_PER_S)
    for _ in range(1000):
        charge.moved(MIB, NOW + 200)
    assert not charge.is_moving(NOW + 200 + 1100)  # what came long ago does not count for ever


@pytest.mark.parametrize("jump_s", [-86400.0, 86400.0])
def test_a_clock_that_jumps_makes_an_upload_idle_until_it_sends_more(jump_s: float) -> None:
    charge = Charge(1, HONEST, 0, 0, NOW + FIRST_BYTE_S)
    charge.moved(MIB, NOW)
    assert not charge.is_moving(NOW + jump_s)
    charge.moved(BLOCK_BYTES, NOW + jump_s)
    assert charge.is_moving(NOW + jump_s + 50)


# --- the books


class Books(RuleBasedStateMachine):
    """Accounts under any row of calls, with displacement as `Uploads` does it."""

    CAPACITY = 40 * MIB

    def __init__(self) -> None:
        super().__init__()
        self.private = True
        self.now = NOW
        self.number = 0
        self.intake = Intake()
        self.book = self.make()

    def make(self) -> Accounts:
        return Accounts(
            capacity_bytes=self.CAPACITY,
            reserve_bytes=MIB,
            free_bytes=lambda: self.CAPACITY + 2 * MIB - self.book.used_bytes,
            database_bytes=lambda: 0,
            intake=self.intake,
            private=self.private,
        )

    def with_room(self, take: Callable[[], None], upload: bytes, source: bytes) -> bool:
        for _ in range(2):
            try:
                take()
                return True
            except StoreFull as full:
                missing = full.missing
                victims = []
                for victim, freed in self.book.giving_way(upload, source, full, self.now):
                    victims.append(victim)
                    missing -= freed
                    if missing <= 0:
                        break
                if missing > 0:
                    return False
                self.check_victims(victims, upload, source)
                for victim in victims:
                    self.book.close(victim)
        raise AssertionError("room was made, and was not there")

    def check_victims(self, victims: list[bytes], upload: bytes, source: bytes) -> None:
        assert len(set(victims)) == len(victims)
        assert upload not in victims
        claim = self.book.charges.get(upload)
        for victim in victims:
            charge = self.book.charges[victim]
            assert charge.source != OWN_SOURCE
            if charge.is_moving(self.now) and claim is not None and charge.received >= claim.received:
                of_source = [each for each in self.book.charges.values() if each.source == charge.source]
                assert charge.source != source
                assert len(of_source) > 1, "the only upload of its source gave way to one with less behind it"

    @rule(host=st.integers(0, 4), bound=st.sampled_from([0, 1, MIB, 8 * MIB, 30 * MIB]))
    def offer(self, host: int, bound: int) -> None:
        self.number += 1
        upload, source = upload_id(self.number), bytes([10, 0, host // 2, host])
        self.with_room(lambda: self.book.admit(upload, source, bound, self.now), upload, source)

    @rule(bound=st.integers(1, 8 * MIB))
    def own(self, bound: int) -> None:
        self.number += 1
        upload = upload_id(self.number)
        self.with_room(lambda: self.book.admit(upload, OWN_SOURCE, bound, self.now), upload, OWN_SOURCE)

    @precondition(lambda self: self.book.charges)
    @rule(data=st.data(), count=st.integers(1, MIB), times=st.integers(1, 8))
    def receive(self, data: st.DataObject, count: int, times: int) -> None:
        upload, charge = self.pick(data)
        for _ in range(times):
            if charge.bound and charge.received + count > charge.bound:
                return
            self.with_room(lambda: self.book.receive(upload, count, self.now), upload, charge.source)

    @precondition(lambda self: self.book.charges)
    @rule(data=st.data(), count=st.integers(1, MIB))
    def fail(self, data: st.DataObject, count: int) -> None:
        upload, charge = self.pick(data)
        if charge.bound and charge.received + count > charge.bound:
            return
        if self.with_room(lambda: self.book.receive(upload, count, self.now), upload, charge.source):
            self.book.give_back(upload, count, self.now)

    @precondition(lambda self: self.book.charges)
    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        upload, _ = self.pick(data)
        self.book.close(upload)
        self.book.close(upload)

    @rule(seconds=st.floats(-100.0, 3000.0))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def restart(self) -> None:
        kept = {upload: charge for upload, charge in self.book.charges.items() if charge.source != OWN_SOURCE}
        self.book = self.make()
        for upload, charge in kept.items():
            self.book.restore(upload, charge.source, charge.bound, charge.received)

    def pick(self, data: st.DataObject) -> tuple[bytes, Charge]:
        upload = data.draw(st.sampled_from(sorted(self.book.charges)))
        return upload, self.book.charges[upload]

    @invariant()
    def totals_are_the_sums(self) -> None:
        book, charges = self.book, list(self.book.charges.values())
        assert book.used_bytes == sum(charge.used for charge in charges)
        assert book.promised_bytes == sum(charge.promised for charge in charges)
        assert min((charge.received for charge in charges), default=0) >= 0
        places: Counter[bytes] = Counter(charge.source for charge in charges)
        taken: Counter[bytes] = Counter()
        for charge in charges:
            taken[charge.source] += charge.used
        assert book.places.sources == places
        assert book.bytes.sources == +taken
        assert sum(book.places.groups.values()) == len(charges)
        assert sum(book.bytes.groups.values()) == book.used_bytes

    @invariant()
    def room_is_never_oversold(self) -> None:
        assert self.book.used_bytes + self.book.promised_bytes <= self.CAPACITY
        assert self.book.usage().promised_bytes == self.book.promised_bytes


class PublicBooks(Books):
    """The same in a public network."""

    def __init__(self) -> None:
        super().__init__()
        self.private = False
        self.book = self.make()

    @invariant()
    def no_prefix_has_more_than_its_places(self) -> None:
        assert max(self.book.places.groups.values(), default=0) <= MAX_UPLOADS_PER_SOURCE


@pytest.mark.parametrize("books", [Books, PublicBooks])
def test_the_books_are_right_after_any_row_of_calls(books: type[Books]) -> None:
    run_state_machine_as_test(books, settings=settings(max_examples=EXAMPLES, deadline=None, derandomize=True))


def test_an_upload_costs_what_the_estimate_says() -> None:
    charge = Charge(1, HONEST, 8 * MIB, 0, NOW)
    assert (charge.used, charge.hoped, charge.promised) == (0, 0, 0)
    charge.received = MIB
    assert charge.used == share_cost_bytes(MIB) == charge.hoped
    assert charge.rest == share_cost_bytes(8 * MIB) - share_cost_bytes(MIB)
