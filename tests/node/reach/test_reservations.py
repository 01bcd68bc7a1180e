"""For whom a relay rings: how long, for how many, and of which places."""

import random

import pytest
import trio

from shoal.dht import Address, NodeId
from shoal.node.reach import reservations
from shoal.node.reach.reservations import GRACE_S, MAX_OF_PLACE, MAX_RESERVATIONS, MAX_WAITING_RINGS, Reservations


@pytest.fixture
def table() -> Reservations:
    rng = random.Random(3)
    return Reservations(private=False, entropy=rng.randbytes, rng=rng)


def node(number: int) -> NodeId:
    return NodeId(number.to_bytes(32, "big"))


def place(number: int) -> Address:
    return Address(f"5.{number // 200}.{number % 200}.1", 4750)


def test_a_reservation_lasts_while_it_is_asked_for(table: Reservations) -> None:
    known = table.ask(node(1), place(1), 30, 100.0)
    assert known is not None
    assert table.ask(node(1), place(1), 30, 101.0) is known, "by another connection"
    table.answered(known, 102.0)
    assert table.find(node(1), 200.0) is known
    table.answered(known, 200.0)
    assert table.find(node(1), 200.0 + GRACE_S - 0.1) is not None
    assert table.find(node(1), 200.0 + GRACE_S) is None
    assert len(table) == 0


def test_a_place_and_the_whole_are_bounded(table: Reservations) -> None:
    of_one_place = [table.ask(node(n), Address("5.5.5.9", 1000 + n), 0, 0.0) for n in range(MAX_OF_PLACE + 1)]
    assert [each is not None for each in of_one_place] == [True] * MAX_OF_PLACE + [False]
    kept = [table.ask(node(100 + n), place(n), 0, 0.0) for n in range(MAX_RESERVATIONS)]
    assert sum(each is not None for each in kept) == MAX_RESERVATIONS - MAX_OF_PLACE
    assert table.ask(node(0), Address("5.5.5.9", 7), 0, 1.0) is of_one_place[0], "who is there may go on"


def test_some_of_them_are_told_by_chance(table: Reservations) -> None:
    for number in range(50):
        table.ask(node(number), place(number), number, 0.0)
    some = table.some(20, 1.0)
    assert len({each.node_id for each in some}) == 20


def test_rings_are_bounded_in_time_and_number(table: Reservations, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reservations, "MAX_RINGS", 100)
    known = table.ask(node(1), place(1), 0, 0.0)
    assert known is not None
    of_place = [table.begin(known, Address("7.7.7.7", 1 + n), 0.0) for n in range(reservations.MAX_RINGS_OF_PLACE + 1)]
    assert of_place[-1] is None
    assert of_place[-2] is not None
    others = [table.begin(known, place(n), 0.0) for n in range(50)]
    assert sum(each is not None for each in others) == 100 - reservations.MAX_RINGS_OF_PLACE
    assert table.rings_count == 100
    first = of_place[0]
    assert first is not None
    assert table.pending(first.token, 1.0) is first
    assert table.pending(first.token, reservations.RING_S) is None
    assert table.rings_count == 0


async def test_a_node_hears_of_so_many_callers_at_once(table: Reservations) -> None:
    known = table.ask(node(1), place(1), 0, 0.0)
    assert known is not None
    assert [known.ring(bytes([n]), None) for n in range(MAX_WAITING_RINGS + 1)] == [True] * MAX_WAITING_RINGS + [False]
    assert await known.next_ring() == (bytes([0]), None)
    while known.rings:
        await known.next_ring()
    with trio.move_on_after(0.01) as waiting:
        await known.next_ring()
    assert waiting.cancelled_caught
