"""Counting shares on hosts: compared with brute force."""

from collections.abc import Iterable
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.dht import Address, Contact, NodeId
from shoal.node.holders.outcome import Outcome
from shoal.node.holders.tally import Finding, Tally, believable, kth_longest, match_hosts

DAY_S = 86400.0


def finding(
    share: int, host: int, outcome: Outcome = Outcome.OK, lease_end: float = 0.0, node: int | None = None
) -> Finding:
    node_id = NodeId((host if node is None else node).to_bytes(32, "big"))
    return Finding(share, Contact(node_id, Address(f"198.51.{host}.1", 4750)), outcome, lease_end)


def best_by_brute_force(places: Iterable[tuple[int, bytes]]) -> int:
    edges = set(places)
    shares, hosts = sorted({share for share, _ in edges}), sorted({host for _, host in edges})
    width = max(len(shares), len(hosts))
    padded: list[bytes | None] = [*hosts, *[None] * (width - len(hosts))]
    return max(
        sum((share, host) in edges for share, host in zip(shares, order, strict=False))
        for order in permutations(padded, len(shares))
    )


@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.binary(min_size=1, max_size=1).filter(lambda host: host[0] < 5)), max_size=12
    )
)
def test_as_many_shares_as_possible_get_a_host_of_their_own(places: list[tuple[int, bytes]]) -> None:
    matched = match_hosts(places)
    assert set(matched.items()) <= set(places)
    assert len(set(matched.values())) == len(matched)
    assert len(matched) == best_by_brute_force(places)


def test_the_longest_chain_is_followed() -> None:
    places = [(share, bytes([host])) for share in range(256) for host in (share, share - 1) if host >= 0]
    assert len(match_hosts(places)) == 256
    backwards = [(share, bytes([host])) for share in range(256) for host in (share + 1, share) if host < 256]
    assert len(match_hosts(backwards)) == 256


def test_a_host_with_many_shares_counts_once() -> None:
    tally = Tally(2, 4, [finding(0, 1), finding(1, 1), finding(2, 1), finding(2, 2)], private=True)
    assert len(tally.placed()) == 2
    assert (tally.hosts, tally.networks, tally.survives(), tally.readable) == (2, 2, 0, True)
    assert len(tally.missing()) == 2
    assert 3 in tally.missing()


def test_ids_at_one_address_are_one_host_in_a_public_network_alone() -> None:
    sybil = [finding(share, 7, node=share) for share in range(12)]
    public, private = Tally(4, 12, sybil, private=False), Tally(4, 12, sybil, private=True)
    assert (len(public.placed()), public.hosts, public.survives(), public.readable) == (1, 1, 0, True)
    assert (len(private.placed()), private.hosts, private.survives()) == (12, 12, 8)


def test_only_what_was_proven_counts() -> None:
    findings = [finding(number, number, outcome) for number, outcome in enumerate(Outcome)]
    tally = Tally(1, 5, [*findings, finding(200, 9)], private=True)
    assert (len(tally.placed()), tally.hosts) == (1, 1)
    assert tally.outcomes() == {"ok": 2, "wrong": 1, "missing": 1, "offline": 1, "stalled": 1, "busy": 1}


def test_the_lease_is_the_kth_longest_of_distinct_shares() -> None:
    ends = [(0, 50.0), (0, 70.0), (1, 60.0), (2, 40.0)]
    findings = [finding(share, host, lease_end=end * DAY_S) for host, (share, end) in enumerate(ends)]
    for k, days in ((1, 70.0), (2, 60.0), (3, 40.0)):
        assert Tally(k, 4, findings, private=True).lease_until(0.0) == days * DAY_S
    assert Tally(4, 4, findings, private=True).lease_until(0.0) is None


@pytest.mark.parametrize("claim", [1e18, 400 * DAY_S])
def test_an_impossible_lease_is_cut(claim: float) -> None:
    assert kth_longest(believable([claim], 0.0), 1) == 91 * DAY_S
