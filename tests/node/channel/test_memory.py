"""Memory for payloads: who gets it, and who gives way."""

import random

import pytest

from shoal.dht import Address
from shoal.node.channel import MemoryBudget
from shoal.node.channel.memory import (
    FLOOR_BYTES,
    MAX_MEMORY_BYTES,
    SLOW_AGE_S,
    SLOW_BYTES_PER_S,
    Grant,
    MemoryHolder,
)
from shoal.node.channel.places import Origin

MIB = 2**20


class Peer:
    """A connection that moves so many bytes per second."""

    def __init__(self, host: str, bytes_per_s: float = 0.0, *, private: bool = False) -> None:
        self.bytes_per_s = bytes_per_s
        self.now = 0.0
        self.evicted = False
        self.grants: list[Grant] = []
        self.holder = MemoryHolder(Origin.of(Address.of(host, 1), private=private), self.moved, self.evict)

    def moved(self) -> int:
        return int(self.now * self.bytes_per_s)

    def evict(self) -> None:
        self.evicted = True

    def take(self, budget: MemoryBudget, count: int, now: float = 0.0) -> bool:
        self.now = now
        grant = budget.take(self.holder, count, now)
        if grant is not None:
            self.grants.append(grant)
        return grant is not None

    def take_all(self, budget: MemoryBudget) -> int:
        """As many MiB as there are for it."""
        while self.take(budget, MIB):
            pass
        return self.holder.held_bytes


def squeeze(budget: MemoryBudget, peer: Peer, others: list[Peer], now: float, *, may_judge: bool = True) -> list[Peer]:
    """What one more request of this peer does to the others."""
    for each in others:
        each.now = now
    assert not peer.take(budget, MIB, now)
    budget.squeeze(peer.holder, MIB, now, may_judge=may_judge)
    return [each for each in others if each.evicted]


def test_memory_is_bounded_and_given_back() -> None:
    budget, peer = MemoryBudget(4 * MIB), Peer("10.0.0.1")
    assert peer.take(budget, MIB)
    assert peer.take(budget, MIB)
    assert not peer.take(budget, 3 * MIB)
    budget.release(peer.grants.pop())
    assert budget.used_bytes == peer.holder.held_bytes == MIB
    budget.release(peer.grants.pop())
    assert budget.used_bytes == 0


def test_what_takes_no_memory_needs_none() -> None:
    budget = MemoryBudget(MIB)
    assert Peer("10.0.0.1").take(budget, MIB)
    assert Peer("10.0.0.1").take(budget, 0)


@pytest.mark.parametrize(
    ("hosts", "private", "part"),
    [
        (["203.0.113.1"], False, 1 / 5),
        (["2a00:1:1::1"], False, 1 / 5),
        ([f"2a00:1:1:{number:x}::1" for number in range(256)], False, 1 / 4),
        ([f"203.0.113.{number}" for number in range(1, 200)], False, 1 / 3),
        ([f"2a00:1:1:{number:x}00::1" for number in range(200)], False, 1 / 3),
        ([f"2a00:1:{number:x}::1" for number in range(1, 200)], False, 1 / 2),
        (["10.0.0.1"], True, 1 / 3),
    ],
)
def test_the_first_place_to_come_leaves_room_for_the_next(hosts: list[str], private: bool, part: float) -> None:
    budget = MemoryBudget()
    for host in hosts:
        Peer(host, private=private).take_all(budget)
    assert budget.used_bytes == pytest.approx(part * MAX_MEMORY_BYTES, abs=FLOOR_BYTES)
    assert Peer("198.51.100.1", private=private).take(budget, FLOOR_BYTES)


def test_the_next_comes_through_beside_a_hundred_greedy_places() -> None:
    """They have filled the memory in their turn, and nothing moves. The one that holds most gives way."""
    budget = MemoryBudget()
    greedy = [Peer(f"60.{number}.1.{host}") for number in range(100) for host in range(4)]
    for peer in greedy:
        peer.take_all(budget)
    assert budget.used_bytes == MAX_MEMORY_BYTES
    newcomer = Peer("198.51.100.1")
    (gone,) = squeeze(budget, newcomer, greedy, SLOW_AGE_S)
    assert gone in greedy[:4]
    for grant in gone.grants:
        budget.release(grant)
    assert newcomer.take(budget, MIB)


def test_nobody_gives_way_while_there_is_room() -> None:
    budget, slow = MemoryBudget(), Peer("10.0.0.1")
    slow.take_all(budget)
    budget.squeeze(Peer("10.1.0.1").holder, MIB, 1000.0, may_judge=True)
    assert not slow.evicted


def test_at_its_bound_a_place_gives_up_its_slowest() -> None:
    budget = MemoryBudget()
    peers = [Peer("203.0.113.1", rate) for rate in (SLOW_BYTES_PER_S + 1, 50.0, 10.0, 10**7)]
    while all(peer.take(budget, MIB) for peer in peers):
        pass
    elsewhere, asking = Peer("198.51.100.1"), Peer("203.0.113.1")
    assert elsewhere.take(budget, MIB)
    assert squeeze(budget, asking, [*peers, elsewhere], SLOW_AGE_S - 0.1) == []
    assert squeeze(budget, asking, [*peers, elsewhere], SLOW_AGE_S + 0.1) == [peers[2]]
    assert squeeze(budget, asking, [*peers, elsewhere], SLOW_AGE_S + 0.1) == [peers[1], peers[2]]
    assert squeeze(budget, asking, [*peers, elsewhere], SLOW_AGE_S + 0.1) == [peers[1], peers[2]]


def test_a_full_memory_is_given_up_by_the_place_that_holds_most() -> None:
    """Even when it is not slow: it holds more than twice of what the asking one would hold."""
    budget = MemoryBudget(8 * MIB)
    big = [Peer("203.0.113.1", 10 * SLOW_BYTES_PER_S), Peer("203.0.113.1", 20 * SLOW_BYTES_PER_S)]
    assert all(peer.take(budget, MIB) for peer in big)
    small = [Peer(f"60.{number}.1.1") for number in range(6)]
    assert all(peer.take(budget, MIB) for peer in small)
    assert squeeze(budget, Peer("198.51.100.1"), [*big, *small], 10.0) == [big[0]]


def test_our_own_caps_make_nobody_slow() -> None:
    budget = MemoryBudget(2 * MIB)
    peers = [Peer("203.0.113.1"), Peer("60.0.0.1")]
    assert all(peer.take(budget, MIB) for peer in peers)
    assert squeeze(budget, Peer("198.51.100.1"), peers, 10.0, may_judge=False) == []


def test_a_peer_is_not_to_blame_for_our_own_work() -> None:
    budget, peer, asking = MemoryBudget(2 * MIB), Peer("203.0.113.1"), Peer("198.51.100.1")
    assert peer.take(budget, 2 * MIB)
    peer.grants[0].wait_for_us()
    assert squeeze(budget, asking, [peer], 100.0) == []
    peer.grants[0].wait_for_peer(100.0)
    assert squeeze(budget, asking, [peer], 100.5) == []
    assert squeeze(budget, asking, [peer], 100.0 + SLOW_AGE_S) == [peer]


def test_those_who_wait_are_served_by_place_and_then_by_what_they_did() -> None:
    budget, fast, fresh, elsewhere = MemoryBudget(), Peer("203.0.113.1"), Peer("203.0.113.2"), Peer("198.51.100.1")
    assert fast.take(budget, MIB)
    budget.release(fast.grants.pop())
    assert Peer("203.0.113.3").take(budget, MIB)
    assert sorted([fresh, fast, elsewhere], key=lambda each: budget.claim(each.holder)) == [elsewhere, fast, fresh]


def test_the_books_are_right_whatever_happens(rng: random.Random) -> None:
    budget = MemoryBudget(16 * MIB)
    peers = [Peer(f"10.{rng.randrange(3)}.{rng.randrange(2)}.{rng.randrange(4)}", 1e5 * number) for number in range(20)]
    for step in range(3000):
        peer, now = rng.choice(peers), step / 10
        if peer.grants and rng.random() < 0.5:
            budget.release(peer.grants.pop(rng.randrange(len(peer.grants))))
        elif not peer.take(budget, rng.randrange(MIB), now):
            budget.squeeze(peer.holder, MIB, now, may_judge=True)
        assert budget.used_bytes == sum(grant.bytes_count for each in peers for grant in each.grants) <= 16 * MIB
    for peer in peers:
        for grant in peer.grants:
            budget.release(grant)
    assert budget.used_bytes == 0
