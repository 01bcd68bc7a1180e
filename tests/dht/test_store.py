"""The record store: every limit, and who stays when there is no room."""

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.virtual_dht import CheapSignatures
from shoal.dht import Address, Identity, NetworkParameters, NodeId, Record, RecordKey, StoreLimits
from shoal.dht.messages import StoreStatus
from shoal.dht.records import provider_payload
from shoal.dht.store import GAP_S, RecordStore

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
            lifetime_s=int(lifetime_h * HOUR), payload=provider_payload(address, bytes(size)),
        )  # fmt: skip

    return make_record


@pytest.fixture
def store() -> RecordStore:
    return RecordStore(NodeId(bytes(32)))


def test_stored_and_found(store: RecordStore, make: Callable[..., Any]) -> None:
    record = make(1)
    assert store.put(record, 0.0) is StoreStatus.STORED
    assert store.get(1, KEY, 1.0) == [record]
    assert store.get(2, KEY, 1.0) == store.get(1, RecordKey(b"\1" * 32), 1.0) == []
    assert (len(store), store.stored_bytes) == (1, len(record.encoded))


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
    private = RecordStore(NodeId(bytes(32)), StoreLimits.private())
    assert all(private.put(make(n, ip=ip), 0.0) is StoreStatus.STORED for n, ip in enumerate(ips))


def test_a_refused_move_keeps_the_old_record(store: RecordStore, make: Callable[..., Any]) -> None:
    for number, ip in enumerate(["20.1.1.1", "20.1.1.2", "30.1.1.1"]):
        store.put(make(number, ip=ip), 0.0)
    assert store.put(make(2, ip="20.1.1.3", sequence=2), 1.0) is StoreStatus.FULL
    assert len(store.get(1, KEY, 2.0)) == 3
    assert store.put(make(1, ip="20.1.1.9", sequence=2), 1.0) is StoreStatus.STORED  # its own place is free for it


def test_per_source(make: Callable[..., Any]) -> None:
    store = RecordStore(NodeId(bytes(32)), StoreLimits(per_source=3))
    keys = [RecordKey(bytes([n]) * 32) for n in range(4)]
    assert [store.put(make(1, key=key), 0.0) for key in keys] == [StoreStatus.STORED] * 3 + [StoreStatus.FULL]


@pytest.mark.parametrize("limits", [StoreLimits(records=4), StoreLimits(bytes=4 * 190)])
def test_when_full_the_farthest_keys_go(make: Callable[..., Any], limits: StoreLimits) -> None:
    store = RecordStore(NodeId(bytes(32)), limits)
    keys = [RecordKey(bytes([n]) + bytes(31)) for n in (10, 20, 30, 40)]
    for number, key in enumerate(keys):
        assert store.put(make(number, key=key), 0.0) is StoreStatus.STORED
    far = RecordKey(bytes([50]) + bytes(31))
    assert store.put(make(9, key=far), 1.0) is StoreStatus.FULL
    near = RecordKey(bytes([5]) + bytes(31))
    assert store.put(make(9, key=near), 1.0) is StoreStatus.STORED
    assert [len(store.get(1, key, 2.0)) for key in (near, *keys)] == [1, 1, 1, 1, 0]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 4), st.integers(1, 4), st.integers(0, 60)), max_size=60))
def test_counts_stay_true_whatever_happens(operations: list[tuple[int, int, int, int]]) -> None:
    scheme_free = RecordStore(NodeId(bytes(32)), StoreLimits(records=12, per_key=4, per_prefix=2))
    now = 0.0
    for signer, key, sequence, hours in operations:
        now += hours * HOUR / 4
        scheme_free.put(unsigned(signer, key, sequence), now)
        held = [r for k in range(5) for r in scheme_free.get(1, RecordKey(bytes([k]) * 32), now)]
        assert len(held) <= len(scheme_free) <= 12
    scheme_free.expire(now + 49 * HOUR)
    assert (len(scheme_free), scheme_free.stored_bytes) == (0, 0)


def unsigned(signer: int, key: int, sequence: int) -> Record:
    payload = provider_payload(Address.of(f"10.{signer % 3}.{signer % 2}.{signer + 1}", 1), b"")
    return Record(
        1, RecordKey(bytes([key]) * 32), bytes([signer]) * 32, bytes(8), sequence, 0, 48 * 3600, payload, bytes(64)
    )
