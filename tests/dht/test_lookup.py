"""The lookup object, fed by hand, and on a simulated network with liars in it."""

from collections.abc import Iterable
from random import Random
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.scripts import benchmark_script
from shoal.dht.address import Address
from shoal.dht.contact import Contact
from shoal.dht.identity import NodeId, distance
from shoal.dht.lookup import PATHS, ROUNDS, THOROUGH_PATHS, TIME_LIMIT_S, Lookup
from shoal.dht.lookup_path import (
    ALPHA,
    DISCREDITED_AT,
    MAX_IN_FLIGHT_PER_PATH,
    MAX_PER_PREFIX_ASKED,
    MAX_QUERIES_PER_PATH,
    OVERDUE_MAX_S,
    OVERDUE_MIN_S,
)
from shoal.dht.routing import MAX_PER_PREFIX_IN_TABLE, K

TARGET = bytes(32)
ME = NodeId(b"\xff" * 32)


def contact(number: int, ip: str | None = None, port: int = 4000) -> Contact:
    """A contact at XOR distance `number` from TARGET."""
    ip = ip or f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
    return Contact(NodeId(number.to_bytes(32, "big")), Address(ip, port))


def contacts(numbers: Iterable[int]) -> list[Contact]:
    return [contact(number) for number in numbers]


def begin(seeds: Iterable[Contact], *, private: bool = True, paths: int = 1) -> Lookup:
    return Lookup(TARGET, list(seeds), own_id=ME, private=private, paths=paths)


def run_to_end(lookup: Lookup, answers: dict[Contact, list[Contact]], now: float = 0.0) -> list[Contact]:
    """Answer every query at once, or fail it if it is not in `answers`. Returns whom it asked, in order."""
    asked: list[Contact] = []
    while not lookup.done:
        for query in lookup.next_queries(now):
            asked.append(query)
            now += 0.001
            if query in answers:
                lookup.on_reply(query, answers[query], now)
            else:
                lookup.on_failure(query, now)
    return asked


def test_without_seeds_it_is_done_at_once() -> None:
    for seeds in ([], [Contact(ME, Address("10.0.0.1", 1))]):
        lookup = begin(seeds)
        assert lookup.done
        assert lookup.next_queries(0.0) == []
        assert lookup.result() == []


def test_nearest_are_asked_first_alpha_at_a_time() -> None:
    lookup = begin(contacts(range(10, 0, -1)))
    assert lookup.next_queries(0.0) == contacts([1, 2, 3])
    assert lookup.next_queries(0.0) == []
    assert not lookup.done
    lookup.on_reply(contact(2), [], 0.01)
    assert lookup.next_queries(0.01) == [contact(4)]


def test_contacts_learnt_from_answers_are_asked_and_the_nearest_returned() -> None:
    everyone = contacts(range(1, 60))
    answers = dict.fromkeys(everyone, everyone[:K])
    lookup = begin(everyone[40:])
    asked = run_to_end(lookup, answers)
    assert lookup.result() == everyone[:K]
    assert set(everyone[:K]) <= set(asked)
    assert len(asked) == lookup.query_count < 30


def test_ends_only_when_the_k_nearest_have_been_asked() -> None:
    everyone = contacts(range(1, K + 10))
    lookup = begin(everyone)
    asked = run_to_end(lookup, {c: [] for c in everyone})
    assert asked == everyone[:K]


def test_failed_contacts_make_room_for_those_behind_them() -> None:
    everyone = contacts(range(1, 3 * K))
    answers: dict[Contact, list[Contact]] = {c: [] for c in everyone[1::2]}
    lookup = begin(everyone)
    asked = run_to_end(lookup, answers)
    assert lookup.result() == everyone[1::2][:K]
    assert asked == everyone[: 2 * K]


def test_no_contact_is_asked_twice_by_all_paths_together() -> None:
    everyone = contacts(range(1, 200))
    rng = Random(4)
    answers = {c: rng.sample(everyone, K) for c in everyone}
    lookup = begin(everyone[100:150], paths=8)
    asked = run_to_end(lookup, answers)
    assert len(asked) == len(set(asked))


def test_what_one_path_hears_stays_on_that_path() -> None:
    seeds = contacts([100, 101])
    lookup = begin(seeds, paths=2)
    assert lookup.next_queries(0.0) == seeds
    lookup.on_reply(seeds[0], contacts(range(1, 10)), 0.1)
    assert lookup.next_queries(0.1) == contacts([1, 2, 3])
    lookup.on_reply(seeds[1], contacts([1, 2, 50]), 0.2)
    assert lookup.next_queries(0.2) == [contact(50)]  # 1 and 2 count as asked, 4..9 it never heard of


def test_spoiled_path_does_not_end_the_others() -> None:
    liars = contacts(range(1, K + 1))
    honest = contacts(range(1_000, 1_030))
    answers = dict.fromkeys((*liars, contact(5000)), liars)
    answers |= dict.fromkeys((*honest, contact(5001)), honest[:K])
    asked = run_to_end(begin(contacts([5_000, 5_001]), paths=2), answers)
    assert set(honest[:K]) <= set(asked)
    assert set(liars) <= set(asked)


def test_a_wrong_address_does_not_hide_a_node() -> None:
    true, false = contact(1), contact(1, ip="10.66.66.66")
    answers = {contact(100): [false], contact(101): [true], true: []}
    for paths in (1, 2):
        lookup = begin(contacts([100, 101]), paths=paths)
        run_to_end(lookup, answers)
        assert lookup.result()[0] == true


def test_id_that_answered_is_not_asked_elsewhere() -> None:
    lookup = begin([contact(100)])
    lookup.next_queries(0.0)
    lookup.on_reply(contact(100), [contact(1)], 0.1)
    assert lookup.next_queries(0.1) == [contact(1)]
    lookup.on_reply(contact(1), [contact(1, port=2), contact(100, port=2)], 0.2)
    assert lookup.done


def test_own_id_is_never_asked() -> None:
    lookup = begin([contact(100)])
    lookup.next_queries(0.0)
    lookup.on_reply(contact(100), [Contact(ME, Address("10.0.0.1", 1))], 0.1)
    assert lookup.done


def test_unasked_answers_and_repeated_reports_are_ignored() -> None:
    lookup = begin(contacts([100, 101]))
    lookup.next_queries(0.0)
    lookup.on_reply(contact(7), contacts([1]), 0.1)
    lookup.on_reply(contact(100, port=9), contacts([1]), 0.1)
    lookup.on_failure(contact(7), 0.1)
    lookup.on_failure(contact(100), 0.1)
    lookup.on_reply(contact(100), contacts([1]), 0.1)
    lookup.on_reply(contact(101), [], 0.1)
    assert lookup.done
    assert lookup.result() == [contact(101)]


def test_only_the_first_k_of_an_answer_are_read() -> None:
    lookup = begin([contact(5_000)])
    lookup.next_queries(0.0)
    lookup.on_reply(contact(5_000), (contact(1_000 - n) for n in range(900)), 0.0)
    asked = run_to_end(lookup, {})
    assert set(asked) == set(contacts(range(1_000 - K + 1, 1_001)))


def test_slow_query_is_overtaken_and_may_still_answer() -> None:
    lookup = begin(contacts(range(1, 8)))
    first = lookup.next_queries(0.0)
    assert lookup.next_deadline() == pytest.approx(OVERDUE_MAX_S)
    assert lookup.next_queries(OVERDUE_MAX_S) == contacts([4, 5, 6])
    lookup.on_reply(first[0], [], 0.9)
    assert lookup.result() == [first[0]]
    for late in (*first[1:], *contacts([4, 5, 6, 7])):
        assert not lookup.done
        lookup.on_reply(late, [], 0.95)
        lookup.next_queries(0.95)
    assert lookup.done


def test_fast_network_has_little_patience() -> None:
    lookup = begin(contacts(range(1, 40)))
    now = 0.0
    for _ in range(15):
        lookup.on_reply(lookup.next_queries(now)[0], [], now + 0.002)
        now += 0.002
    lookup.next_queries(now)
    assert lookup.next_deadline() <= now + OVERDUE_MIN_S


@given(st.floats(0, 1e9), st.lists(st.floats(1e-4, 2.0), min_size=1, max_size=40))
def test_asking_at_the_deadline_always_moves_the_deadline(start: float, delays: list[float]) -> None:
    """No clock value makes the caller spin: the deadline lies ahead, or the lookup is done."""
    lookup = begin(contacts(range(1, 60)), paths=2)
    now = start
    pending: list[Contact] = []
    for delay in delays:
        pending += lookup.next_queries(now)
        if lookup.done:
            return
        assert lookup.next_deadline() > now
        now = lookup.next_deadline()
        if pending and delay < 1:
            lookup.on_reply(pending.pop(0), [], now)


def test_in_flight_and_queries_are_bounded_per_path() -> None:
    lookup = begin(contacts(range(1, 500)))
    in_flight = lookup.next_queries(0.0)
    assert len(in_flight) == ALPHA
    now = 0.0
    for _ in range(10):
        now += OVERDUE_MAX_S
        in_flight += lookup.next_queries(now)
    assert len(in_flight) == MAX_IN_FLIGHT_PER_PATH
    asked = run_to_end(begin(contacts(range(1, 500))), {})
    assert len(asked) == MAX_QUERIES_PER_PATH


def test_ever_nearer_contacts_end_after_the_last_round() -> None:
    answers = {contact(10_000 - n): [contact(9_999 - n)] for n in range(100)}
    asked = run_to_end(begin([contact(10_000)]), answers)
    assert len(asked) == ROUNDS


def test_time_is_bounded() -> None:
    lookup = begin(contacts(range(1, 10)))
    lookup.next_queries(5.0)
    assert not lookup.done
    assert lookup.next_queries(5.0 + TIME_LIMIT_S) == []
    assert lookup.done
    lookup.on_reply(contact(1), contacts([2]), 6.0 + TIME_LIMIT_S)
    assert lookup.next_queries(6.0 + TIME_LIMIT_S) == []


def test_the_end_does_not_wait_for_those_that_a_liar_invented() -> None:
    """K honest nodes have answered; what the liar named is nearer than all of them, and never answers."""
    liar, *honest = contacts(range(100, 101 + K))
    lookup = begin([liar, *honest])
    now, asked = 0.0, lookup.next_queries(0.0)
    while not lookup.done:
        for query in asked:
            if query == liar:
                lookup.on_reply(liar, contacts(range(1, K + 1)), now + 0.002)
            elif query in honest:
                lookup.on_reply(query, [], now + 0.002)
        now += 0.01
        asked = lookup.next_queries(now)
    assert lookup.result() == [liar, *honest][:K]
    assert now < 6 * OVERDUE_MIN_S
    assert lookup.query_count < K + 4 * ALPHA


def test_while_few_have_answered_even_a_discredited_sources_contacts_are_waited_for() -> None:
    source = contact(100)
    dead, alive = contacts(range(1, K)), contact(K)
    lookup = begin([source])
    lookup.next_queries(0.0)
    lookup.on_reply(source, [*dead, alive], 0.0)
    now, asked_at = 0.0, dict[Contact, float]()
    while not lookup.done:
        for query in lookup.next_queries(now):
            asked_at[query] = now
        for query in [each for each, at in asked_at.items() if each == alive or now - at >= 0.9]:
            del asked_at[query]
            if query == alive:
                lookup.on_reply(alive, [], now)
            else:
                lookup.on_failure(query, now)
        now += OVERDUE_MIN_S
    assert lookup.result() == [alive, source]


def test_contacts_of_a_source_that_invents_them_are_asked_last() -> None:
    liar, honest = contact(2_000), contact(2_001)
    lookup = begin([liar, honest])
    lookup.next_queries(0.0)
    lookup.on_reply(liar, contacts(range(1, K + 1)), 0.01)
    lookup.on_reply(honest, contacts(range(500, 510)), 0.02)
    asked: list[Contact] = []
    now = 0.02
    while len(asked) < 16:
        for query in lookup.next_queries(now):
            asked.append(query)
            now += 0.01
            if query.node_id >= contact(500).node_id:
                lookup.on_reply(query, [], now)
            else:
                lookup.on_failure(query, now)
    assert set(contacts(range(500, 510))) <= set(asked)
    assert asked.index(contact(500)) <= DISCREDITED_AT + ALPHA


def test_after_a_catastrophe_honest_sources_are_still_heard() -> None:
    """Most of what an honest node names is dead; the survivors among it are found all the same."""
    named = contacts(range(1, K + 1))
    source, survivors = contact(900), named[-4:]
    answers: dict[Contact, list[Contact]] = {c: [] for c in survivors}
    lookup = begin([source])
    run_to_end(lookup, answers | {source: named})
    assert lookup.result() == [*survivors, source]


def test_prefixes_are_counted_in_public_networks() -> None:
    crowd = [contact(n, ip=f"8.8.8.{n}") for n in range(1, 20)]
    lookup = begin([contact(5_000, ip="9.1.1.1")], private=False)
    lookup.next_queries(0.0)
    lookup.on_reply(contact(5_000, ip="9.1.1.1"), crowd, 0.1)
    named = run_to_end(lookup, {}, now=0.1)
    assert len(named) == MAX_PER_PREFIX_IN_TABLE
    asked = run_to_end(begin(crowd, private=False), {})
    assert len(asked) == MAX_PER_PREFIX_ASKED
    assert len(run_to_end(begin(crowd), {})) == len(crowd)


def test_many_ids_at_one_address_are_one_contact_per_answer() -> None:
    lookup = begin([contact(5_000)])
    lookup.next_queries(0.0)
    lookup.on_reply(contact(5_000), [contact(n, ip="10.0.0.1") for n in range(1, 20)], 0.1)
    assert lookup.next_queries(0.1) == [contact(1)]


@given(st.integers(0, 2**32), st.integers(1, 12), st.integers(1, 40), st.floats(0, 0.9), st.booleans())
def test_invariants_on_random_networks(seed: int, paths: int, size: int, dead: float, private: bool) -> None:
    rng = Random(seed)
    everyone = [
        Contact(NodeId(rng.randbytes(32)), Address(f"10.{rng.randrange(9)}.{rng.randrange(9)}.{n}", 1))
        for n in range(size)
    ]
    answers = {c: rng.sample(everyone, min(size, K)) for c in everyone if rng.random() >= dead}
    lookup = Lookup(TARGET, rng.sample(everyone, (size + 1) // 2), own_id=None, private=private, paths=paths)
    asked = run_to_end(lookup, answers)
    assert len(asked) == len(set(asked)) == lookup.query_count <= paths * MAX_QUERIES_PER_PATH
    result = lookup.result()
    assert result == sorted(result, key=lambda c: distance(c.node_id, TARGET))
    assert set(result) <= set(answers)
    assert len(result) <= K
    if private and not dead:
        assert result == sorted(set(asked), key=lambda c: distance(c.node_id, TARGET))[:K]


@pytest.fixture(scope="module")
def quality() -> ModuleType:
    """The benchmark as a module."""
    return benchmark_script("lookup_quality")


@pytest.fixture(scope="module")
def network(quality: ModuleType) -> Any:
    """300 nodes that joined through real lookups; each test makes its own liars among them."""
    network = quality.Network(Random(20261122))
    network.grow(300)
    return network


def test_honest_network_is_searched_exactly_and_cheaply(quality: ModuleType, network: Any) -> None:
    network.lies = {}
    figures = {paths: quality.measure(network, 40, paths) for paths in (PATHS, THOROUGH_PATHS)}
    assert all(figure.reached == 1.0 for figure in figures.values())
    assert figures[PATHS].messages < 35
    assert figures[THOROUGH_PATHS].messages < 60


@pytest.mark.parametrize(("share", "bar"), [(0.2, 0.99), (0.3, 0.97), (0.5, 0.90)])
@pytest.mark.parametrize("lie", ["collude", "squat", "mixed"])
def test_thorough_lookups_survive_liars(quality: ModuleType, network: Any, lie: str, share: float, bar: float) -> None:
    """Lookups find this part of what they should. A sample; benchmarks/lookup_quality.py takes larger ones."""
    network.rng.seed(7)
    network.lies = {}
    network.recruit(share, lie)
    assert quality.measure(network, 30, THOROUGH_PATHS).found >= bar
