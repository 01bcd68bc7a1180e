"""Keeping announcements alive at little cost: to whom renewals go, and when the closest nodes are looked up again."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest
import trio

from shoal.dht import Address, Announcement, Contact, Identity, NetworkParameters, NoReplyError, Reach, RecordKey
from shoal.dht.announcer import LOOKUP_EVERY_ROUNDS, REANNOUNCE_S, Announcer
from shoal.dht.identity import NodeId, distance
from shoal.dht.messages import Store, Stored, StoreStatus
from shoal.dht.routing import K

PARAMS = NetworkParameters("announcing", pow_bits=0, private=True)
ITEMS = [Announcement(RecordKey(bytes([number]) * 32), b"here") for number in range(3)]
HALF_INTERVAL_S = REANNOUNCE_S / 2


@dataclass
class Answer:
    reply: Any


@dataclass
class Neighbourhood:
    """Nodes that keep what they are sent, unless they are dead."""

    count: int
    lookups: int = 0
    stores: Counter[NodeId] = field(default_factory=Counter)
    records: int = 0
    dead: set[NodeId] = field(default_factory=set)
    silent: set[NodeId] = field(default_factory=set)
    finds_the_dead: bool = False
    known: list[Contact] = field(default_factory=list)

    def __post_init__(self) -> None:
        rng = Random(1)
        self.contacts = [
            Contact(NodeId(rng.randbytes(32)), Address(f"10.0.0.{number}", 4000)) for number in range(self.count)
        ]

    async def find_closest(self, target: bytes) -> list[Contact]:
        self.lookups += 1
        await trio.lowlevel.checkpoint()
        if self.finds_the_dead:
            return self.contacts
        alive = [each for each in self.contacts if each.node_id not in self.dead]
        return sorted(alive, key=lambda each: distance(each.node_id, target))[:K]

    async def ask(self, contact: Contact, message: Any) -> Any:
        await trio.lowlevel.checkpoint()
        if contact.node_id in self.silent:
            await trio.sleep(9.0)
        if contact.node_id in self.dead | self.silent:
            raise NoReplyError("dead")
        assert isinstance(message, Store)
        self.stores[contact.node_id] += 1
        self.records += len(message.records)
        return Answer(Stored(tuple(int(StoreStatus.STORED) for _ in message.records)))


@pytest.fixture
def announcer_of(nursery: trio.Nursery) -> Callable[[Neighbourhood], Announcer]:
    """An announcer that reaches this neighbourhood."""

    def make(around: Neighbourhood) -> Announcer:
        return Announcer(
            PARAMS,
            Identity.restore(b"\1" * 32, bytes(8)),
            find_closest=around.find_closest,
            known_closest=lambda key: around.known,
            ask=around.ask,
            own_reach=lambda: Reach.of(Address("10.0.1.1", 4000)),
            store_own=None,
            wall=lambda: 1_800_000_000 + trio.current_time(),
            rng=Random(2),
            nursery=lambda: nursery,
        )

    return make


async def test_renewals_go_to_those_who_kept_it(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, announcer_of: Callable[[Neighbourhood], Announcer]
) -> None:
    around = Neighbourhood(30)
    announcer = announcer_of(around)
    announcer.keep(ITEMS)
    nursery.start_soon(announcer.run)
    await trio.sleep(HALF_INTERVAL_S)
    assert (around.lookups, around.records) == (3, 3 * K)
    assert sum(around.stores.values()) < 3 * K  # records for the same node share datagrams
    for round in range(1, LOOKUP_EVERY_ROUNDS):
        await trio.sleep(REANNOUNCE_S)
        assert (around.lookups, around.records) == (3, (round + 1) * 3 * K)
    await trio.sleep(REANNOUNCE_S)
    assert around.lookups == 6


async def test_when_many_keepers_are_gone_the_closest_are_looked_up_at_once(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, announcer_of: Callable[[Neighbourhood], Announcer]
) -> None:
    around = Neighbourhood(60)
    announcer = announcer_of(around)
    announcer.keep(ITEMS[:1])
    nursery.start_soon(announcer.run)
    await trio.sleep(HALF_INTERVAL_S)
    closest = [each.node_id for each in await around.find_closest(ITEMS[0].key)]
    around.dead.update(closest[:5])
    await trio.sleep(REANNOUNCE_S)
    assert (around.lookups, around.records) == (2, K + 15)
    around.dead.update(closest[5:12])
    await trio.sleep(REANNOUNCE_S)
    assert (around.lookups, around.records) == (3, K + 15 + 8 + K)
    assert not around.dead & {each.node_id for each in await around.find_closest(ITEMS[0].key)}


async def test_what_few_keep_is_looked_up_until_many_do(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, announcer_of: Callable[[Neighbourhood], Announcer]
) -> None:
    around = Neighbourhood(K)
    announcer = announcer_of(around)
    announcer.keep(ITEMS[:1])
    around.finds_the_dead = True
    around.dead.update(each.node_id for each in around.contacts[: K - 3])
    nursery.start_soon(announcer.run)
    await trio.sleep(600.0)
    assert around.lookups > 2
    around.dead.clear()
    await trio.sleep(3600.0)
    lookups = around.lookups
    await trio.sleep(HALF_INTERVAL_S)
    assert around.lookups == lookups
    assert set(around.stores) == {each.node_id for each in around.contacts}


async def test_an_announcement_from_the_table_waits_for_half_and_not_for_the_silent(
    autojump_clock: trio.testing.MockClock, announcer_of: Callable[[Neighbourhood], Announcer]
) -> None:
    around = Neighbourhood(10)
    around.known = around.contacts
    around.silent.update(each.node_id for each in around.contacts[:5])
    begun = trio.current_time()
    reports = await announcer_of(around).announce(ITEMS, from_table=True)
    assert [(report.closest, report.stored) for report in reports] == [(10, 5)] * 3
    assert trio.current_time() - begun < 1.0
    assert around.lookups == 0


async def test_what_too_few_of_the_table_store_is_looked_up(
    autojump_clock: trio.testing.MockClock, announcer_of: Callable[[Neighbourhood], Announcer]
) -> None:
    around = Neighbourhood(10)
    around.known = around.contacts[:5]
    around.dead.update(each.node_id for each in around.contacts[:3])
    reports = await announcer_of(around).announce(ITEMS[:1], from_table=True)
    assert [(report.closest, report.stored) for report in reports] == [(7, 7)]
    assert around.lookups == 1


@dataclass
class FarNeighbourhood(Neighbourhood):
    """Nodes whose answers take a while."""

    async def ask(self, contact: Contact, message: Any) -> Any:
        await trio.sleep(0.1)
        return await super().ask(contact, message)


def an_item(number: int) -> Announcement:
    return Announcement(RecordKey(number.to_bytes(32)), bytes(60))


async def test_what_is_announced_meanwhile_shares_datagrams(
    autojump_clock: trio.testing.MockClock, announcer_of: Callable[[Neighbourhood], Announcer]
) -> None:
    """One announcement leaves at once. Of twelve, the others follow together."""
    around = FarNeighbourhood(10)
    announcer = announcer_of(around)

    async def announce(number: int) -> None:
        (report,) = await announcer.announce([an_item(number)])
        assert (report.closest, report.stored) == (10, 10)

    begun = trio.current_time()
    await announce(0)
    assert trio.current_time() - begun == pytest.approx(0.1)
    around.stores.clear()
    async with trio.open_nursery() as nursery:
        for number in range(1, 13):
            nursery.start_soon(announce, number)
    assert around.records == 130
    assert set(around.stores.values()) <= {3, 4}
    assert trio.current_time() - begun == pytest.approx(0.1 + 0.1 * max(around.stores.values()))


async def test_who_is_silent_holds_nobody_up_twice(
    autojump_clock: trio.testing.MockClock, announcer_of: Callable[[Neighbourhood], Announcer]
) -> None:
    """What waits for a node that does not answer is given up with the request that is under way."""
    around = FarNeighbourhood(4)
    around.silent = {around.contacts[0].node_id}
    announcer = announcer_of(around)
    begun = trio.current_time()

    async def announce(number: int) -> None:
        (report,) = await announcer.announce([an_item(number)])
        assert (report.closest, report.stored) == (4, 3)

    async with trio.open_nursery() as nursery:
        for number in range(30):
            nursery.start_soon(announce, number)
    assert trio.current_time() - begun < 10.0
    around.silent.clear()
    (report,) = await announcer.announce([an_item(99)])
    assert report.stored == 4
