"""The places of addresses, and which of them weighs most."""

from dataclasses import dataclass

import pytest

from shoal.dht import Address
from shoal.node.channel.places import PRIVATE_BOUNDS, PUBLIC_BOUNDS, Origin, heaviest


@dataclass(frozen=True)
class Weight:
    origin: Origin
    weight: int


def weight(host: str, weight: int = 1, *, private: bool = False) -> Weight:
    return Weight(Origin.of(Address.of(host, 1), private=private), weight)


def heavy(*members: Weight, level: int = 0) -> list[int]:
    return [members.index(each) for each in heaviest(members, lambda each: each.weight, level)]


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        ("203.0.113.7", "203.0.113.7", 4),
        ("203.0.113.7", "203.0.113.8", 2),
        ("203.0.113.7", "203.0.99.7", 1),
        ("203.0.113.7", "203.1.113.7", 0),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", 4),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", 3),
        ("2001:db8:1:2::1", "2001:db8:1:102::1", 2),
        ("2001:db8:1:2::1", "2001:db8:2:2::1", 1),
        ("2001:db8:1:2::1", "2001:db9:1:2::1", 0),
    ],
)
def test_places_lie_inside_one_another(one: str, other: str, shared: int) -> None:
    first, second = (Origin.of(Address.of(host, 1), private=False) for host in (one, other))
    assert first.bounds == second.bounds == PUBLIC_BOUNDS
    same = [a == b for a, b in zip(first.places, second.places, strict=True)]
    assert same == [True] * shared + [False] * (4 - shared)


def test_a_private_host_is_one_place_in_both_families() -> None:
    hosts = ["10.0.0.1", "10.0.0.2", "fd00::1", "fd00::2"]
    origins = [Origin.of(Address.of(host, 1), private=True) for host in hosts]
    assert len({each.places for each in origins}) == 4
    assert {each.bounds for each in origins} == {PRIVATE_BOUNDS}


def test_a_48_of_the_internets_is_one_place_of_a_private_network_and_shared_inside() -> None:
    crowd = [weight(f"2a00:1:1:{number:x}::1", private=True) for number in range(1, 9)]
    assert heavy(*crowd[:-1], weight("2a00:1:1:99::1", 2, private=True), weight("10.0.0.1", 5, private=True)) == [7]
    neighbours = [weight(f"fd00::{number}", private=True) for number in range(1, 9)]
    assert heavy(*neighbours, weight("10.0.0.1", 5, private=True)) == [8]


def test_the_widest_place_is_weighed_first() -> None:
    """Three hosts of one /16 weigh more together than the single one that is heaviest by itself."""
    assert heavy(weight("10.1.0.1", 5), weight("10.2.1.1", 2), weight("10.2.1.2", 3), weight("10.2.3.1", 2)) == [2]


def test_all_of_the_places_that_weigh_the_same_are_told() -> None:
    assert heavy(weight("10.1.0.1"), weight("10.2.0.1"), weight("2001:db8::1")) == [0, 1, 2]


def test_nobody_is_the_heaviest_of_none() -> None:
    assert heavy() == []
