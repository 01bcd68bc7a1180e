"""Cookies and buckets."""

from collections.abc import Callable
from random import Random
from types import ModuleType
from typing import Any

import pytest

from shoal.dht import Address, NodeId
from shoal.dht.guard import (
    COOKIE_ROTATION_S,
    PROVEN_PER_PLACE,
    STORES_PER_HOST,
    STORES_PER_PREFIX,
    UNPROVEN_PER_PREFIX,
    UNPROVEN_TOTAL,
    CookieMint,
    PrefixBuckets,
    Rate,
    RequestGuard,
    TokenBucket,
)

HERE, ME = Address("192.0.2.1", 4100), NodeId(b"m" * 32)


def test_a_cookie_is_bound_to_address_port_and_id(rng: Random) -> None:
    mint = CookieMint(rng.randbytes, 0.0)
    cookie = mint.mint(HERE, ME, 0.0)
    assert mint.accepts(cookie, HERE, ME, 1.0)
    assert not mint.accepts(cookie, Address("192.0.2.2", 4100), ME, 1.0)
    assert not mint.accepts(cookie, Address("192.0.2.1", 4101), ME, 1.0)
    assert not mint.accepts(cookie, HERE, NodeId(b"x" * 32), 1.0)
    assert not mint.accepts(cookie[:-1], HERE, ME, 1.0)
    assert not mint.accepts(b"", HERE, ME, 1.0)


def test_a_cookie_lives_five_to_ten_minutes(rng: Random) -> None:
    for given_at in (0.0, 1.0, 299.0, 301.0, 5000.0):
        mint = CookieMint(rng.randbytes, 0.0)
        cookie = mint.mint(HERE, ME, given_at)
        assert mint.accepts(cookie, HERE, ME, given_at + COOKIE_ROTATION_S - 1e-6)
        assert not mint.accepts(cookie, HERE, ME, given_at + 2 * COOKIE_ROTATION_S)
    mint = CookieMint(rng.randbytes, 0.0)
    cookie = mint.mint(HERE, ME, 0.0)
    assert not mint.accepts(cookie, HERE, ME, 10**6)  # many rotations at once


def test_buckets_fill_and_empty() -> None:
    bucket = TokenBucket(Rate(10.0, 5.0), 0.0)
    assert [bucket.take(0.0) for _ in range(6)] == [True] * 5 + [False]
    assert bucket.take(0.1)
    assert not bucket.take(0.1)
    assert not bucket.take(-50.0)  # a clock that goes back earns nothing
    assert sum(bucket.take(1000.0) for _ in range(99)) == 5


def test_prefixes_are_bounded() -> None:
    buckets = PrefixBuckets(Rate(0.0, 1.0), capacity=10)
    for number in range(100):
        assert buckets.take(bytes([number]), 0.0)
    assert len(buckets) == 10
    assert not buckets.take(bytes([99]), 0.0)


def test_a_flood_from_one_prefix_leaves_room_for_others(rng: Random) -> None:
    guard = RequestGuard(CookieMint(rng.randbytes, 0.0), 0.0, private=False)
    admitted = sum(guard.admits(Address("20.1.1.7", port), 0.0, proven=False) for port in range(1, 5001))
    assert admitted == UNPROVEN_PER_PREFIX.burst
    assert guard.admits(Address("20.1.2.7", 1), 0.0, proven=False)
    assert guard.admits(Address("20.1.1.7", 1), 0.0, proven=True)  # who has a cookie does not notice


def test_a_flood_from_everywhere_is_bounded_and_cookies_still_work(rng: Random) -> None:
    guard = RequestGuard(CookieMint(rng.randbytes, 0.0), 0.0, private=False)
    addresses = [Address(f"{20 + n % 80}.{n // 80 % 250}.{n % 250}.1", 1) for n in range(20_000)]
    assert sum(guard.admits(a, 0.0, proven=False) for a in addresses) == UNPROVEN_TOTAL.burst
    assert guard.admits(HERE, 0.0, proven=True)


@pytest.mark.parametrize("private", [False, True])
def test_a_cookie_does_not_let_one_place_have_all(rng: Random, private: bool) -> None:
    guard = RequestGuard(CookieMint(rng.randbytes, 0.0), 0.0, private=private)
    flood = [Address("20.1.1.1" if private else f"20.1.1.{n % 250}", 1 + n) for n in range(5_000)]
    assert sum(guard.admits(each, 0.0, proven=True) for each in flood) == PROVEN_PER_PLACE.burst
    assert sum(guard.admits(each, 4.0, proven=True) for each in flood) == 4 * PROVEN_PER_PLACE.per_second
    assert guard.admits(Address("20.1.2.1", 1), 4.0, proven=True)


def test_in_a_private_network_unproven_requests_share_one_total(rng: Random) -> None:
    guard = RequestGuard(CookieMint(rng.randbytes, 0.0), 0.0, private=True)
    floods = [Address("10.0.0.1", 1), Address.of("2a00:1:1::1", 1)]
    assert sum(guard.admits(source, 0.0, proven=False) for source in floods for _ in range(5000)) >= 1_000
    assert all(guard.admits(HERE, 0.0, proven=True) for _ in range(2000))
    newcomers = [Address(f"10.0.0.{number}", 1) for number in range(10, 250)]
    assert all(guard.admits(each, 0.0, proven=False) for each in newcomers for _ in range(3))


@pytest.mark.parametrize(
    ("private", "flood"),
    [(True, [Address("10.0.0.1", 1)]),
     (True, [Address.of(f"2a00:1:1:1::{number:x}", 1) for number in range(1, 1_000)]),  # one /64
     (True, [Address.of(f"2a00:1:1:{number:x}::1", 1) for number in range(1_000)]),  # the /64s of one /48
     (False, [Address("20.1.1.1", 1)]),
     (False, [Address.of(f"2a00:1:1:{number:x}::1", 1) for number in range(1_000)]),  # the /64s of one /48
     (False, [Address.of(f"2a00:1:{number:x}::1", 1) for number in range(1_000)]),  # the /48s of one /32
     (False, [Address(f"20.1.{number}.1", 1) for number in range(250)])],  # the /24s of one /16
    ids=["host", "/64", "private /48", "public host", "/48", "/32", "/16"],
)  # fmt: skip
def test_newcomers_do_not_notice_one_flooding_network(rng: Random, private: bool, flood: list[Address]) -> None:
    """5,000 requests a second for ten seconds, and 100 newcomers a second with three tries each."""
    guard = RequestGuard(CookieMint(rng.randbytes, 0.0), 0.0, private=private)
    admitted = refused = 0
    for tick in range(1_000):
        for number in range(50):
            admitted += guard.admits(flood[(50 * tick + number) % len(flood)], tick / 100, proven=False)
        newcomer = Address(f"{30 + tick % 100}.{tick // 100}.7.1", 1)
        refused += sum(not guard.admits(newcomer, tick / 100, proven=False) for _ in range(3))
    assert refused == 0
    assert admitted <= UNPROVEN_TOTAL.burst + 10 * UNPROVEN_TOTAL.per_second


@pytest.mark.parametrize(("private", "rate"), [(False, STORES_PER_PREFIX), (True, STORES_PER_HOST)])
def test_one_place_stores_at_a_bounded_rate(rng: Random, private: bool, rate: Rate) -> None:
    guard = RequestGuard(CookieMint(rng.randbytes, 0.0), 0.0, private=private)
    sources = [Address("20.1.1.1" if private else f"20.1.1.{n % 250}", n + 1) for n in range(20_000)]
    assert sum(guard.admits_store(source, 0.0) for source in sources) == rate.burst
    assert sum(guard.admits_store(source, 10.0) for source in sources) == 10 * rate.per_second
    assert guard.admits_store(Address("20.1.2.1", 1), 0.0)


def test_hundreds_of_flooding_prefixes_are_noticed_by_newcomers_only(rng: Random) -> None:
    """The bound: who floods from 500 /24s in as many /16s, at two requests a second each, is as light as a newcomer."""
    guard = RequestGuard(CookieMint(rng.randbytes, 0.0), 0.0, private=False)
    sources = [Address(f"{20 + n % 100}.{n // 100}.1.1", 1) for n in range(800)]
    for second in range(10):
        for source in sources:
            for _ in range(2):
                guard.admits(source, float(second), proven=False)
    assert not guard.admits(HERE, 9.0, proven=False)
    assert guard.admits(HERE, 9.0, proven=True)


def test_vectors(vector_builder: ModuleType, stored_vectors: Callable[[str], Any]) -> None:
    assert vector_builder.build_cookies() == stored_vectors("cookies")
