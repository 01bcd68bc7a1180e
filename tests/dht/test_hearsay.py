"""Addresses known from others: how much they can make us send to one place."""

from collections.abc import Iterator

from shoal.dht import Address, Allowance, KnockBudget
from shoal.dht.hearsay import (
    HOST_DATAGRAMS,
    MAX_REMEMBERED,
    PREFIX_DATAGRAMS,
    PRIVATE_QUIET_S,
    QUIET_S,
    HearsayBook,
)

HERE = Address("192.0.2.1", 4100)


def budget(*, host: int = 16, prefix: int = 64, private: bool = False) -> KnockBudget:
    return KnockBudget(Allowance(host, 10**6), Allowance(prefix, 10**6), private=private)


def ports(host: str, count: int) -> Iterator[Address]:
    return (Address(host, port) for port in range(1, count + 1))


def test_silent_hearsay_is_left_alone_for_a_while() -> None:
    book = HearsayBook(private=False)
    assert book.allows(HERE, 0.0)
    book.note_silence(HERE, 0.0)
    assert not book.allows(HERE, QUIET_S - 1)
    assert book.allows(Address(HERE.host, 9), 1.0)
    assert book.allows(HERE, QUIET_S)
    book.note_life(HERE, 1.0)
    assert book.allows(HERE, 1.0)


def test_in_private_networks_silence_is_soon_forgiven() -> None:
    book = HearsayBook(private=True)
    book.note_silence(HERE, 0.0)
    assert not book.allows(HERE, PRIVATE_QUIET_S - 1)
    assert book.allows(HERE, PRIVATE_QUIET_S)


def test_what_is_under_way_counts_by_number_and_by_bytes() -> None:
    book = HearsayBook(private=False)
    assert sum(book.take(each, 100, 0.0) for each in ports("20.1.1.1", 100)) == HOST_DATAGRAMS.count
    assert sum(book.take(each, 1_232, 0.0) for each in ports("20.2.1.1", 100)) == HOST_DATAGRAMS.size // 1_232
    assert sum(book.take(HERE, 1_232, 0.0) for _ in range(100)) == HOST_DATAGRAMS.size // 1_232  # repetitions, too


def test_a_network_is_a_victim_as_well_as_a_host() -> None:
    for hosts in ([f"20.1.1.{n}" for n in range(1, 250)], [f"2a00:1:1:{n:x}::1" for n in range(1, 250)]):
        book = HearsayBook(private=False)
        assert sum(book.take(Address.of(host, 1), 100, 0.0) for host in hosts) == PREFIX_DATAGRAMS.count
        assert book.take(Address("20.1.2.1", 1), 100, 0.0)


def test_in_no_ten_minutes_is_it_more_than_twice_as_much() -> None:
    knocks, sent = budget(), []
    for second in range(0, 3_600, 5):
        sent += [float(second) for each in ports("20.1.1.1", 40) if knocks.take(each, 1, second)]
    most = max(sum(start <= at < start + QUIET_S for at in sent) for start in range(0, 3_000, 5))
    assert 30 <= most <= 32


def test_an_answer_gives_back_what_that_address_has_cost_and_no_more() -> None:
    knocks = budget(host=4)
    one, *others = ports("20.1.1.1", 4)
    assert all(knocks.take(each, 1, 0.0) for each in (one, *others))
    assert not knocks.take(one, 1, 0.0)
    knocks.note_life(one, 0.0)
    knocks.note_life(one, 0.0)
    assert [knocks.take(one, 1, 0.0) for _ in range(2)] == [True, False]


def test_naming_thousands_of_hosts_does_not_make_us_forget_a_victim() -> None:
    knocks = budget(prefix=10**6)
    assert sum(knocks.take(each, 1, 0.0) for each in ports("20.1.1.1", 99)) == 16
    for number in range(3 * MAX_REMEMBERED):
        knocks.take(Address(f"30.{number // 60_000}.{number // 250 % 240}.{number % 250}", 1), 1, 0.0)
    assert not knocks.take(HERE._replace(host="20.1.1.1"), 1, 0.0)


def test_in_a_private_network_a_host_that_answered_is_trusted_and_a_silent_one_is_not() -> None:
    knocks = budget(private=True)
    assert sum(knocks.take(each, 1, 0.0) for each in ports("10.0.0.1", 99)) == 16
    knocks.note_life(Address("10.0.0.1", 5), 0.0)
    assert all(knocks.take(each, 1, 0.0) for each in ports("10.0.0.1", 99))
    assert sum(knocks.take(each, 1, 0.0) for each in ports("8.8.8.8", 99)) == 16
