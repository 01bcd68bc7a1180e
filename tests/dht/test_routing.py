"""The routing table: exact answers, bounded growth, and who gets in and out."""

import heapq
import itertools
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.dht.address import Address
from shoal.dht.contact import Contact
from shoal.dht.identity import NodeId, distance
from shoal.dht.routing import (
    FAILURE_SPACING_S,
    ID_BITS,
    IDLE_PROBE_S,
    MAX_BUCKETS,
    PROBE_SPACING_S,
    Bucket,
    ContactTable,
    K,
)

ME = NodeId(bytes(32))
START = 1_000.0


def node_id(number: int) -> NodeId:
    return NodeId(number.to_bytes(32, "big"))


def contact(number: int, ip: str | None = None, port: int = 4000) -> Contact:
    ip = ip or f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
    return Contact(node_id(number), Address(ip, port))


def far(index: int) -> int:
    """Ids of one bucket that never splits: all differ from ME and from each other's half only in low bits."""
    return (0b10000 << 251) + index


def open_table(*, private: bool = True, k: int = K) -> ContactTable:
    return ContactTable(ME, START, private=private, k=k)


def filled(k: int = 3) -> ContactTable:
    """A table whose bucket of `far` ids holds 0..k-1 and cannot split further around them."""
    table = open_table(k=k)
    for index in range(k):
        assert table.on_verified(contact(far(index)), START) is None
    while True:
        bucket = table.bucket_of(far(0))
        if bucket.depth == 5:
            return table
        split(table, bucket)


def split(table: ContactTable, bucket: Bucket) -> None:
    at = table.buckets.index(bucket)
    table.buckets[at : at + 1] = bucket.split()


def check_shape(table: ContactTable, k: int = K) -> None:
    """Ranges cover the id space without gap or overlap, aligned; every contact sits in its range."""
    edges = [bucket.range for bucket in table.buckets]
    assert edges[0][0] == 0
    assert edges[-1][1] == 2**ID_BITS - 1
    assert all(left[1] + 1 == right[0] for left, right in itertools.pairwise(edges))
    for bucket in table.buckets:
        assert bucket.size == 2 ** (ID_BITS - bucket.depth)
        assert bucket.range[0] % bucket.size == 0
        assert len(bucket.nodes) <= k
        assert len(bucket.replacement_nodes) <= k
        inside = [*bucket.nodes.values(), *bucket.replacement_nodes.values()]
        assert all(bucket.covers(entry.long_id) for entry in inside)
    assert len(table) == len(table.contacts())
    assert len({c.node_id for c in table.contacts()}) == len(table)


# Ids that cluster: anywhere, beside each other, and sharing all but a few leading bits with our own.
ids = st.one_of(
    st.integers(1, 2**ID_BITS - 1),
    st.builds(lambda low: 2**255 + low, st.integers(0, 300)),
    st.builds(lambda shift, low: (1 << shift) + low, st.integers(8, 255), st.integers(0, 255)),
)


@given(st.lists(ids, max_size=200), ids, st.integers(1, 30), st.sampled_from([1, 2, 5, 20]))
def test_closest_equals_brute_force(numbers: list[int], target: int, count: int, k: int) -> None:
    table = open_table(k=k)
    for number in numbers:
        table.on_verified(contact(number), START)
    check_shape(table, k)
    wanted = heapq.nsmallest(count, table.contacts(), key=lambda c: distance(c.node_id, node_id(target)))
    assert table.closest(node_id(target), count) == wanted


@given(st.lists(ids, max_size=60, unique=True), ids)
def test_excluding(numbers: list[int], target: int) -> None:
    table = open_table(k=5)
    for number in numbers:
        table.on_verified(contact(number), START)
    everyone = table.closest(node_id(target), 1_000)
    for excluded in everyone[:3]:
        rest = [c for c in everyone if c is not excluded]
        assert table.closest(node_id(target), 1_000, exclude=excluded.node_id) == rest


@given(st.lists(ids, max_size=80), st.data())
def test_shape_holds_through_failures(numbers: list[int], data: st.DataObject) -> None:
    table = open_table(private=data.draw(st.booleans()), k=3)
    for step, number in enumerate(numbers):
        now = START + 10 * step
        table.on_verified(contact(number, port=data.draw(st.integers(1, 2))), now)
        for victim in data.draw(st.lists(st.sampled_from(numbers), max_size=3)):
            table.on_failure(contact(victim, port=data.draw(st.integers(1, 2))), now)
        table.due_for_probe(now)
    check_shape(table, 3)


def test_hostile_ids_split_without_end_in_vain() -> None:
    table = open_table(k=1)
    for shift in range(ID_BITS):
        for low in range(4):
            table.on_verified(contact((1 << shift) + (low << max(0, shift - 12))), START)
    check_shape(table, 1)
    assert len(table.buckets) <= MAX_BUCKETS


def test_ids_that_share_all_leading_bits_with_ours() -> None:
    table = open_table(k=2)
    for number in range(1, 64):
        table.on_verified(contact(number), START)
    check_shape(table, 2)
    assert max(bucket.depth for bucket in table.buckets) <= ID_BITS


@pytest.mark.parametrize("length", [0, 1, 20, 31, 33])
def test_ids_of_other_lengths_are_refused(length: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        open_table().on_verified(Contact(NodeId(bytes(length)), Address("10.0.0.1", 1)), START)


def test_every_id_has_exactly_one_bucket() -> None:
    table = open_table(k=1)
    rng = Random(1)
    for _ in range(50):
        table.on_verified(contact(rng.getrandbits(256)), START)
    for bucket in table.buckets:
        for edge in bucket.range:
            assert table.bucket_of(edge) is bucket


def test_own_id_never_enters() -> None:
    table = open_table()
    assert table.on_verified(Contact(ME, Address("10.0.0.1", 1)), START) is None
    assert len(table) == 0


def test_full_bucket_names_the_longest_silent_contact_once() -> None:
    table = filled(3)
    table.on_verified(contact(far(0)), START + 50)
    suspect = table.on_verified(contact(far(9)), START + 100)
    assert suspect == contact(far(1))
    assert table.on_verified(contact(far(10)), START + 101) is None  # asked a moment ago
    assert len(table) == 3


def test_full_bucket_of_fresh_contacts_probes_nobody() -> None:
    assert filled(3).on_verified(contact(far(9)), START + PROBE_SPACING_S / 2) is None


def test_eviction_takes_two_failures_apart_in_time() -> None:
    table = filled(3)
    assert table.on_failure(contact(far(1)), START + 100) is False
    assert table.on_failure(contact(far(1)), START + 100 + FAILURE_SPACING_S / 2) is False  # the same burst
    assert table.get(node_id(far(1))) is not None
    assert table.on_failure(contact(far(1)), START + 102) is True
    assert table.get(node_id(far(1))) is None


def test_an_answer_forgives_failures() -> None:
    table = filled(3)
    table.on_failure(contact(far(1)), START + 100)
    table.on_verified(contact(far(1)), START + 103)
    assert table.on_failure(contact(far(1)), START + 200) is False


def test_failure_at_another_address_does_not_count() -> None:
    table = filled(3)
    slandered = contact(far(1), ip="10.99.99.99")
    assert [table.on_failure(slandered, START + 10 * n) for n in range(1, 5)] == [False] * 4
    assert table.get(node_id(far(1))) == contact(far(1))


def test_replacement_counts_only_after_answering_again() -> None:
    table = filled(3)
    table.on_verified(contact(far(9)), START + 100)
    for moment in (200, 210):
        table.on_failure(contact(far(0)), START + moment)
    assert len(table) == 2
    assert contact(far(9)) not in table.closest(node_id(far(9)))
    assert table.due_for_probe(START + 300) == [contact(far(9))]
    assert table.due_for_probe(START + 301) == []
    table.on_verified(contact(far(9)), START + 302)
    assert table.closest(node_id(far(9)), 1) == [contact(far(9))]


def test_replacement_that_stays_silent_is_dropped() -> None:
    table = filled(3)
    table.on_verified(contact(far(9)), START + 100)
    table.on_failure(contact(far(9)), START + 110)
    for moment in (200, 210):
        table.on_failure(contact(far(0)), START + moment)
    assert table.due_for_probe(START + 300) == []


def test_split_promotes_no_replacement() -> None:
    table = open_table(k=2)
    upper = [(1 << 255) + (n << 248) for n in range(8)]
    for number in upper:
        table.on_verified(contact(number), START)
    check_shape(table, 2)
    kept = {c.node_id for c in table.contacts()}
    for bucket in list(table.buckets):
        if len(bucket.replacement_nodes):
            split(table, bucket)
    assert {c.node_id for c in table.contacts()} == kept


def test_silent_and_failing_contacts_become_due_for_a_probe() -> None:
    table = filled(3)
    table.on_failure(contact(far(2)), START + 100)
    assert table.due_for_probe(START + 101) == []  # too soon after the failure
    assert table.due_for_probe(START + 106) == [contact(far(2))]
    everyone = table.due_for_probe(START + IDLE_PROBE_S)
    assert {c.node_id for c in everyone} == {node_id(far(n)) for n in range(3)}


def test_known_id_at_a_new_verified_address_moves() -> None:
    table = filled(3)
    moved = contact(far(1), ip="10.7.7.7")
    assert table.on_verified(moved, START + 5) is None
    assert table.get(node_id(far(1))) == moved
    assert len(table) == 3


def test_newest_word_on_free_space_is_kept() -> None:
    table = filled(3)
    roomy = Contact(node_id(far(1)), contact(far(1)).address, space=40)
    table.on_verified(roomy, START + 5)
    kept = table.get(node_id(far(1)))
    assert kept is not None
    assert kept.space == 40


def test_prefix_limits_per_bucket_and_table() -> None:
    table = open_table(private=False)
    crowd = [contact(far(n), ip=f"8.8.8.{n}") for n in range(1, 5)]
    for member in crowd:
        table.on_verified(member, START)
    assert table.contacts() == crowd[:2]
    rng = Random(5)
    for n in range(10, 200):  # spread over many buckets
        table.on_verified(contact(rng.getrandbits(256), ip=f"9.{n}.1.1"), START)
    for n in range(20):
        table.on_verified(contact(rng.getrandbits(256), ip=f"8.8.8.{100 + n}"), START)
    assert sum(c.address.prefix() == crowd[0].address.prefix() for c in table.contacts()) == 3
    check_shape(table)


def test_prefix_limits_also_hold_for_ipv6_and_for_replacements() -> None:
    table = open_table(private=False, k=1)
    table.on_verified(contact(far(0), ip="8.1.1.1"), START)
    for n in range(1, 9):
        table.on_verified(contact(far(n), ip=f"2a01:4f8:1:{n}::1"), START)
    check_shape(table, 1)
    assert sum(len(bucket.replacement_nodes) for bucket in table.buckets) <= 2


def test_prefix_slots_are_given_back() -> None:
    table = open_table(private=False)
    one, two, three = (contact(far(n), ip=f"8.8.8.{n}") for n in (1, 2, 3))
    table.on_verified(one, START)
    table.on_verified(two, START)
    for moment in (10, 20):
        table.on_failure(one, START + moment)
    table.on_verified(three, START + 30)
    assert {c.node_id for c in table.contacts()} == {two.node_id, three.node_id}


def test_move_within_a_full_prefix_is_allowed_and_into_one_is_not() -> None:
    table = open_table(private=False)
    one, two = (contact(far(n), ip=f"8.8.8.{n}") for n in (1, 2))
    outsider = contact(far(3), ip="9.9.9.9")
    for member in (one, two, outsider):
        table.on_verified(member, START)
    within = contact(far(1), ip="8.8.8.77")
    table.on_verified(within, START + 1)
    assert table.get(one.node_id) == within
    table.on_verified(contact(far(3), ip="8.8.8.78"), START + 1)
    assert table.get(outsider.node_id) == outsider


def test_private_networks_have_no_prefix_limits() -> None:
    table = open_table()
    for n in range(1, 20):
        table.on_verified(contact(far(n), ip=f"10.0.0.{n}"), START)
    assert len(table) == 19


def test_stale_ranges_name_one_id_in_each_idle_range() -> None:
    table = filled(3)
    rng = Random(3)
    assert table.stale_ranges(START + 99, 100.0, rng) == []
    targets = table.stale_ranges(START + 100, 100.0, rng)
    assert len(targets) == len(table.buckets)
    for bucket, target in zip(table.buckets, targets, strict=True):
        assert bucket.range[0] <= int.from_bytes(target, "big") <= bucket.range[1]
    table.on_looked_up(targets[0], START + 100)
    assert len(table.stale_ranges(START + 101, 100.0, rng)) == len(table.buckets) - 1


def test_contacts_come_freshest_first() -> None:
    table = open_table()
    for n in (1, 2, 3):
        table.on_verified(contact(n), START + n)
    table.on_verified(contact(1), START + 10)
    assert table.contacts() == [contact(1), contact(3), contact(2)]
