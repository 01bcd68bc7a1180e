"""Which connections a server keeps: rules under a clock of our own."""

import random
from collections.abc import Iterable

import pytest

from shoal.dht import Address
from shoal.node.channel import ConnectionSlots
from shoal.node.channel.places import PUBLIC_BOUNDS
from shoal.node.channel.slots import MAX_ADMINISTRATORS_COUNT, MAX_CONNECTIONS_COUNT, MAX_NEWCOMERS_COUNT, STALE_S, Slot

PER_WIDE, PER_PREFIX, PER_SITE, PER_HOST = (bound.connections for bound in PUBLIC_BOUNDS)


class Table:
    """Slots, and who of their holders was sent away."""

    def __init__(self, slots: ConnectionSlots) -> None:
        self.slots, self.now, self.gone = slots, 0.0, list[str]()

    def come(self, host: str, name: str = "") -> Slot:
        """A connection from there."""
        self.now += 0.001
        slot = self.slots.take(Address.of(host, 9), self.now, lambda: self.gone.append(name or host))
        assert slot is not None
        return slot

    def settle(self, host: str, name: str = "") -> Slot | None:
        """A connection from there that asks for something at once, if it is let in."""
        slot = self.come(host, name)
        return slot if slot.settle(self.now) else None

    def work(self, host: str, name: str = "") -> Slot | None:
        """A connection from there with a request in work."""
        slot = self.settle(host, name)
        if slot is not None:
            slot.begin(self.now)
        return slot


@pytest.fixture
def public() -> Table:
    return Table(ConnectionSlots())


@pytest.fixture
def private() -> Table:
    return Table(ConnectionSlots(private=True))


def v6(*groups: int) -> str:
    return ":".join(f"{group:x}" for group in (0x2A00, *groups)) + "::1"


# --- newcomers --------------------------------------------------------------------------------------------------------


def test_connections_that_ask_for_nothing_keep_nobody_out(public: Table) -> None:
    """Any number from one /48; a newcomer from elsewhere has as long as it likes."""
    honest = public.come("198.51.100.7")
    for number in range(2000):
        public.come(v6(1, 1, number))
    assert "198.51.100.7" not in public.gone
    assert public.slots.count == MAX_NEWCOMERS_COUNT
    assert honest.settle(public.now)


def test_one_on_the_same_host_has_the_time_of_128_others(private: Table) -> None:
    private.now, honest = 100.0, private.come("127.0.0.1")
    for _ in range(MAX_NEWCOMERS_COUNT - 1):
        private.come("127.0.0.1")
    assert private.gone == []
    assert honest.settle(private.now)
    for _ in range(MAX_NEWCOMERS_COUNT):
        private.come("127.0.0.1")
    assert len(private.gone) == MAX_NEWCOMERS_COUNT - 1


def test_a_slot_that_was_lost_settles_no_more() -> None:
    table = Table(ConnectionSlots(newcomers=1))
    first = table.come("198.51.100.7")
    table.come("198.51.100.8")
    assert not first.settle(table.now)
    first.release()
    assert table.slots.count == 1


# --- settled connections ----------------------------------------------------------------------------------------------


def settle_all(table: Table, hosts: Iterable[str], *, work: bool = False) -> int:
    return sum((table.work(host) if work else table.settle(host)) is not None for host in hosts)


def test_no_place_gets_more_than_its_cap(public: Table) -> None:
    """All are at work, so none gives way to another of its own place."""
    host = ["198.51.100.7"] * 100
    net = [f"203.0.113.{number}" for number in range(1, 200)]
    home = [v6(1, 1, 0x0100 + number % 256) for number in range(300)]
    lan = [v6(1, 2, number) for number in range(300)]
    assert settle_all(public, host, work=True) == PER_HOST
    assert settle_all(public, net, work=True) == PER_PREFIX
    assert settle_all(public, home, work=True) == PER_SITE
    assert settle_all(public, lan, work=True) == PER_PREFIX


def test_at_its_cap_a_place_gives_up_its_own_idlest(public: Table) -> None:
    public.settle("198.51.100.7", "idle")
    for number in range(15):
        public.work("198.51.100.7", f"busy {number}")
    assert public.work("198.51.100.7") is not None
    assert public.gone == ["idle"]
    assert public.work("198.51.100.7") is None
    assert public.work("198.51.100.8") is not None


@pytest.mark.parametrize("work", [False, True])
def test_one_48_fills_no_table(public: Table, work: bool) -> None:
    """32 /64s of one /48 with 16 connections each, and then everybody else."""
    settle_all(public, (v6(1, 1, number % 32) for number in range(512)), work=work)
    assert public.slots.count <= (PER_PREFIX or 0) + MAX_NEWCOMERS_COUNT
    others = [f"{a}.{b}.1.1" for a in range(60, 100) for b in range(10)]
    assert settle_all(public, others) == len(others)


def test_a_full_table_makes_room_at_the_cost_of_the_place_that_holds_most(private: Table) -> None:
    honest = [f"10.0.0.{number}" for number in range(1, 13)]
    assert settle_all(private, honest, work=True) == 12
    assert settle_all(private, ["10.9.9.9"] * 1000, work=True) == MAX_CONNECTIONS_COUNT - 12
    newcomers = [f"10.0.1.{number}" for number in range(1, 101)]
    assert settle_all(private, newcomers, work=True) == 100
    assert set(private.gone) == {"10.9.9.9"}


def test_a_newcomer_gets_in_unless_all_places_hold_as_little_and_work() -> None:
    table = Table(ConnectionSlots(total=8, private=True))
    assert settle_all(table, [f"10.0.0.{number}" for number in range(8)], work=True) == 8
    assert table.settle("10.0.1.1") is None
    table.now += STALE_S + 1  # nothing has begun or ended meanwhile
    assert table.settle("10.0.1.1") is not None
    assert table.gone == ["10.0.0.0"]


def test_in_one_place_the_idle_go_before_those_at_work_and_the_idlest_first() -> None:
    table = Table(ConnectionSlots(total=3, private=True))
    first, _, third = (table.settle("10.0.0.1", name) for name in ("first", "second", "third"))
    assert first
    assert third
    third.begin(table.now)
    first.begin(table.now + 1)
    first.end(table.now + 2)
    assert table.work("10.0.0.1") is not None
    assert table.work("10.0.0.1") is not None
    assert table.gone == ["second", "first"]
    assert table.work("10.0.0.1") is None


# --- the administrator ------------------------------------------------------------------------------------------------


def test_the_administrator_gets_in_whatever_is_full(private: Table) -> None:
    settle_all(private, ["127.0.0.1"] * MAX_CONNECTIONS_COUNT, work=True)
    for _ in range(MAX_NEWCOMERS_COUNT):
        private.come("127.0.0.1")
    slot = private.come("127.0.0.1", "administrator")
    assert not slot.settle(private.now)
    slot.promote()
    assert slot.settle(private.now)
    for _ in range(1000):
        private.work("127.0.0.1")
    assert "administrator" not in private.gone


def test_administrators_that_never_end_give_way_to_the_next(private: Table) -> None:
    slots = [private.come(f"10.0.0.{number}") for number in range(1, MAX_ADMINISTRATORS_COUNT + 2)]
    for slot in slots:
        slot.promote()
    assert private.gone == ["10.0.0.1"]


# --- whatever happens -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_private", [True, False])
def test_the_bounds_hold_whatever_comes(rng: random.Random, is_private: bool) -> None:
    table = Table(ConnectionSlots(total=20, newcomers=5, private=is_private))
    hosts = [f"10.{rng.randrange(3)}.{rng.randrange(3)}.{rng.randrange(9)}" for _ in range(40)]
    alive: list[Slot] = []
    for _ in range(5000):
        table.now += rng.random()
        choice = rng.random()
        if choice < 0.4 or not alive:
            alive.append(table.come(rng.choice(hosts)))
        elif choice < 0.6:
            rng.choice(alive).settle(table.now)
        elif choice < 0.7:
            rng.choice(alive).begin(table.now)
        elif choice < 0.75:
            rng.choice(alive).promote()
        elif choice < 0.8:
            busy = [slot for slot in alive if slot.in_work]
            if busy:
                rng.choice(busy).end(table.now)
        else:
            alive.pop(rng.randrange(len(alive))).release()
        assert table.slots.count <= 20 + 5 + MAX_ADMINISTRATORS_COUNT


def test_a_caller_that_is_not_admitted_gets_no_slot_and_costs_nobody_a_place() -> None:
    table = Table(ConnectionSlots(newcomers=1, admits=lambda remote, now: remote.host != "10.0.0.9"))
    table.come("10.0.0.1")
    assert table.slots.take(Address.of("10.0.0.9", 9), table.now, lambda: None) is None
    assert (table.slots.count, table.gone) == (1, [])
