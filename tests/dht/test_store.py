"""The record store: every limit, and who stays when there is no room."""

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.virtual_dht import CheapSignatures
from shoal.dht import Address, Identity, NetworkParameters, Reach, Record, RecordKey, StoreLimits
from shoal.dht.messages import StoreStatus
from shoal.dht.records import provider_payload
from shoal.dht.store import GAP_S, OVERHEAD_BYTES, REMEMBERED_S, STEADY_S, RecordStore

PARAMS = NetworkParameters("store", 0, True)
HOUR = 3600.0
KEY = RecordKey(bytes(32))


@pytest.fixture
def make(rng: Random, scheme: CheapSignatures) -> Callable[..., Any]:
    """make(signer number, key=..., sequence=..., ip=..., size=...) -> Record."""
    identities: dict[int, Identity] = {}

    def make_record(
        signer: int,
        *,
        key: RecordKey = KEY,
        sequence: int = 1,
        ip: str | None = None,
        size: int = 0,
        lifetime_h: int = 48,
        kind: int = 1,
    ) -> Record:
        if signer not in identities:
            identities[signer] = Identity.create(0, rng.randbytes, scheme)
        address = Address.of(ip or f"10.{signer % 250}.{signer // 250}.1", 4100)
        return Record.sign(
            identities[signer], PARAMS, kind=kind, key=key, sequence=sequence, issued=0,
            lifetime_s=int(lifetime_h * HOUR), payload=provider_payload(Reach.of(address), bytes(size)),
        )  # fmt: skip

    return make_record


@pytest.fixture
def store() -> RecordStore:
    return RecordStore()


def test_stored_and_found(store: RecordStore, make: Callable[..., Any]) -> None:
    record = make(1)
    assert store.put(record, 0.0) is StoreStatus.STORED
    assert store.get(1, KEY, 1.0) == [record]
    assert store.get(2, KEY, 1.0) == store.get(1, RecordKey(b"\1" * 32), 1.0) == []
    assert (len(store), store.stored_bytes) == (1, len(record.encoded) + OVERHEAD_BYTES)


def test_sequences(store: RecordStore, make: Callable[..., Any]) -> None:
    assert store.put(make(1, sequence=5), 0.0) is StoreStatus.STORED
    assert store.put(make(1, sequence=5), 1.0) is StoreStatus.STORED
    assert store.put(make(1, sequence=5, size=1), 1.0) is StoreStatus.CONFLICT
    assert store.put(make(1, sequence=4), 1.0) is StoreStatus.STALE
    newer = make(1, sequence=6)
    assert store.put(newer, 1.0) is StoreStatus.STORED
    assert store.get(1, KEY, 2.0) == [newer]


def test_kinds_nobody_defined_are_not_kept(store: RecordStore, make: Callable[..., Any]) -> None:
    assert store.put(make(1, kind=2), 0.0) is StoreStatus.NOT_SERVED


def test_expiry_by_the_stores_own_clock(store: RecordStore, make: Callable[..., Any]) -> None:
    store.put(make(1, lifetime_h=1), 100.0)
    store.put(make(2, lifetime_h=500), 100.0)
    assert len(store.get(1, KEY, 100.0 + HOUR - 1)) == 2
    assert len(store.get(1, KEY, 100.0 + HOUR)) == 1
    assert store.expire(100.0 + 48 * HOUR) == 2
    assert (len(store), store.stored_bytes) == (0, 0)


def test_repeating_the_same_record_does_not_renew_it(store: RecordStore, make: Callable[..., Any]) -> None:
    store.put(make(1, lifetime_h=1), 0.0)
    store.put(make(1, lifetime_h=1), 0.9 * HOUR)
    assert store.get(1, KEY, 1.1 * HOUR) == []


def test_at_most_64_per_key_and_the_steady_stay(store: RecordStore, make: Callable[..., Any]) -> None:
    for signer in range(64):
        assert store.put(make(signer), float(signer)) is StoreStatus.STORED
    assert store.put(make(64), 64.0) is StoreStatus.FULL
    for signer in range(1, 64):  # all but number 0 renew
        store.put(make(signer, sequence=2), GAP_S - 10)
    assert store.put(make(64), GAP_S - 9) is StoreStatus.FULL
    assert store.put(make(64), GAP_S + 1) is StoreStatus.STORED  # in place of number 0
    kept = store.get(1, KEY, GAP_S + 2)
    assert len(kept) == 64
    assert make(0).node_id not in {record.node_id for record in kept}
    assert kept[0].node_id == make(1).node_id  # longest without a gap first
    assert kept[-1].node_id == make(64).node_id


def test_a_gap_costs_seniority(store: RecordStore, make: Callable[..., Any]) -> None:
    store.put(make(1), 0.0)
    store.put(make(2), 1.0)
    store.put(make(2, sequence=2), GAP_S)
    store.put(make(1, sequence=2), GAP_S + 1)
    assert [record.node_id for record in store.get(1, KEY, GAP_S + 2)] == [make(2).node_id, make(1).node_id]


@pytest.mark.parametrize(
    ("ips", "accepted"),
    [(["20.1.1.1", "20.1.1.2", "20.1.1.3"], 2),
     (["20.1.1.1", "20.1.2.1", "20.1.3.1", "20.1.4.1", "20.1.5.1"], 4),
     (["2a00:1:1::1", "2a00:1:1:5::1", "2a00:1:1:6::1"], 2),
     (["2a00:1:1::", "2a00:1:2::", "2a00:1:3::", "2a00:1:4::", "2a00:1:5::"], 4)],
)  # fmt: skip
def test_diversity_under_one_key(store: RecordStore, make: Callable[..., Any], ips: list[str], accepted: int) -> None:
    statuses = [store.put(make(number, ip=ip), 0.0) for number, ip in enumerate(ips)]
    assert statuses.count(StoreStatus.STORED) == accepted
    private = RecordStore(StoreLimits.private())
    assert all(private.put(make(n, ip=ip), 0.0) is StoreStatus.STORED for n, ip in enumerate(ips))


def test_a_refused_move_keeps_the_old_record(store: RecordStore, make: Callable[..., Any]) -> None:
    for number, ip in enumerate(["20.1.1.1", "20.1.1.2", "30.1.1.1"]):
        store.put(make(number, ip=ip), 0.0)
    assert store.put(make(2, ip="20.1.1.3", sequence=2), 1.0) is StoreStatus.FULL
    assert len(store.get(1, KEY, 2.0)) == 3
    assert store.put(make(1, ip="20.1.1.9", sequence=2), 1.0) is StoreStatus.STORED  # its own place is free for it


TABLE = StoreLimits(records=160, bytes=2**30, per_prefix=None, per_wide_prefix=None)


def key_of(number: int) -> RecordKey:
    return RecordKey(number.to_bytes(32, "big"))


def fill(
    store: RecordStore,
    make: Callable[..., Any],
    signers: Sequence[int],
    ip: str,
    count: int,
    now: float = 0.0,
    sequence: int = 1,
) -> int:
    """Store `count` records under keys of their own, by these signers in turn; how many were kept."""
    kept = 0
    for number in range(count):
        signer = signers[number % len(signers)]
        record = make(signer, key=key_of(signer * 1000 + number), ip=ip.format(number % 250), sequence=sequence)
        kept += store.put(record, now) is StoreStatus.STORED
    return kept


@pytest.mark.parametrize(
    ("signers", "ip", "kept"),
    [
        ([1], "20.1.1.1", 16),  # one id: a tenth
        (range(1, 50), "20.1.1.{}", 20),  # one /24: an eighth
        (range(1, 50), "2a00:1:1:{}::1", 20),  # one /48, whatever its /64s
        (range(1, 50), "20.1.{}.1", 40),  # one /16: a quarter
        (range(1, 50), "2a00:1:{}::1", 40),  # one /32
    ],
)
def test_a_group_holds_its_part_of_the_table_and_no_more(
    make: Callable[..., Any], signers: Sequence[int], ip: str, kept: int
) -> None:
    store = RecordStore(TABLE)
    fill(store, make, list(signers), ip, 200)
    assert len(store) == kept
    assert store.put(make(99, ip="30.1.1.1", key=key_of(99)), 1.0) is StoreStatus.STORED


def test_memory_is_counted_as_it_is_and_bounds_a_group_too(make: Callable[..., Any]) -> None:
    each = len(make(1).encoded) + OVERHEAD_BYTES
    store = RecordStore(StoreLimits(bytes=160 * each))
    fill(store, make, [1], "20.1.1.1", 200)
    assert (len(store), store.stored_bytes) == (16, 16 * each)


@pytest.mark.parametrize("ip", ["10.0.0.1", "2a00:1:1:{}::1"], ids=["host", "/48"])
def test_in_a_private_network_one_place_holds_half_at_most(make: Callable[..., Any], ip: str) -> None:
    limits = StoreLimits.private()
    store = RecordStore(StoreLimits(160, 2**30, 64, None, None, limits.signer, limits.host, limits.prefix, limits.wide))
    assert fill(store, make, [1], ip, 200) == 20  # one id: an eighth
    fill(store, make, list(range(1, 60)), ip, 200)
    assert len(store) == 80
    assert fill(store, make, [60], "10.0.0.2", 5) == 5


def test_whatever_keys_one_id_chooses_others_records_stay(make: Callable[..., Any]) -> None:
    """One id wiped a table by keys ever nearer to the node's own id; now no rule looks at keys."""
    store = RecordStore(TABLE)
    honest = [make(number, ip=f"30.{number}.1.1", key=key_of(10_000 + number)) for number in range(30)]
    assert all(store.put(record, 0.0) is StoreStatus.STORED for record in honest)
    fill(store, make, [90], "20.1.1.1", 500)
    assert all(store.get(1, record.key, 1.0) == [record] for record in honest)


def test_a_full_table_takes_from_those_who_hold_most(make: Callable[..., Any]) -> None:
    store = RecordStore(TABLE)
    for place in range(4):  # four /16s fill the table
        fill(store, make, list(range(10 * place, 10 * place + 10)), f"{20 + place}.1.{{}}.1", 60)
    assert len(store) == 160
    newcomer = make(70, ip="40.1.1.1", key=key_of(70))
    assert store.put(newcomer, 1.0) is StoreStatus.STORED
    assert len(store) == 160
    assert fill(store, make, [3], "20.1.99.1", 5, now=2.0) == 0  # who holds most already gets no more


def test_a_steady_record_makes_no_room_for_a_new_one(make: Callable[..., Any]) -> None:
    store = RecordStore(TABLE)
    for sequence, now in ((1, 0.0), (2, STEADY_S)):
        for place in range(4):
            fill(store, make, list(range(10 * place, 10 * place + 10)), f"{20 + place}.1.{{}}.1", 40, now, sequence)
    assert len(store) == 160
    assert store.put(make(70, ip="40.1.1.1", key=key_of(70)), STEADY_S + 1) is StoreStatus.FULL
    fresh = RecordStore(TABLE)
    for sequence, now in ((1, 0.0), (2, 60.0)):  # a renewal at once makes nothing steady
        for place in range(4):
            fill(fresh, make, list(range(10 * place, 10 * place + 10)), f"{20 + place}.1.{{}}.1", 40, now, sequence)
    assert fresh.put(make(70, ip="40.1.1.1", key=key_of(70)), STEADY_S + 1) is StoreStatus.STORED


def test_fresh_ids_with_one_record_each_push_nobody_out(make: Callable[..., Any]) -> None:
    store = RecordStore(StoreLimits(records=8, bytes=2**30, signer=None, prefix=None, wide=None))
    honest = [make(number, ip=f"30.{number}.1.1", key=key_of(number)) for number in range(8)]
    assert all(store.put(record, 0.0) is StoreStatus.STORED for record in honest)
    assert store.put(make(50, ip="20.1.1.1", key=key_of(50)), 1.0) is StoreStatus.FULL
    assert len(store) == 8


def test_a_record_that_stays_out_costs_no_other_its_place(make: Callable[..., Any]) -> None:
    store = RecordStore(StoreLimits(records=8, bytes=2**30, per_key=2, signer=1 / 8))
    assert store.put(make(1, key=key_of(1)), 0.0) is StoreStatus.STORED  # all that this id may hold
    store.put(make(2, key=KEY), 0.0)
    store.put(make(3, key=KEY), 0.0)
    assert store.put(make(1, key=KEY), GAP_S + 1) is StoreStatus.FULL  # one has lapsed, and yet stays
    assert len(store.get(1, KEY, GAP_S + 2)) == 2


def test_a_captured_store_does_not_bring_an_expired_record_back(make: Callable[..., Any]) -> None:
    store = RecordStore()
    record = make(1, lifetime_h=1)
    store.put(record, 0.0)
    store.expire(HOUR)
    assert store.put(record, HOUR + REMEMBERED_S - 1) is StoreStatus.STALE
    assert store.put(make(1, sequence=2), HOUR + 1) is StoreStatus.STORED


def test_a_record_counts_where_it_came_from_and_not_at_its_relays(make: Callable[..., Any]) -> None:
    """Else a stranger's records would use up the part of the table that belongs to the relays it names."""
    store = RecordStore()
    source = Address("44.9.9.9", 4100)
    stored = [store.put(make(signer, ip=f"45.{signer}.0.1"), 0.0, source) for signer in range(1, 5)]
    assert stored == [StoreStatus.STORED] * 2 + [StoreStatus.FULL] * 2
    assert store.put(make(9, ip="45.1.0.1"), 0.0) is StoreStatus.STORED


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 4), st.integers(1, 4), st.integers(0, 60)), max_size=60))
def test_counts_stay_true_whatever_happens(operations: list[tuple[int, int, int, int]]) -> None:
    scheme_free = RecordStore(StoreLimits(records=12, per_key=4, per_prefix=2))
    now = 0.0
    for signer, key, sequence, hours in operations:
        now += hours * HOUR / 4
        scheme_free.put(unsigned(signer, key, sequence), now)
        held = [r for k in range(5) for r in scheme_free.get(1, RecordKey(bytes([k]) * 32), now)]
        assert len(held) <= len(scheme_free) <= 12
    scheme_free.expire(now + 49 * HOUR)
    assert (len(scheme_free), scheme_free.stored_bytes) == (0, 0)


def unsigned(signer: int, key: int, sequence: int) -> Record:
    payload = provider_payload(Reach.of(Address.of(f"10.{signer % 3}.{signer % 2}.{signer + 1}", 1)), b"")
    return Record(
        1, RecordKey(bytes([key]) * 32), bytes([signer]) * 32, bytes(8), sequence, 0, 48 * 3600, payload, bytes(64)
    )
