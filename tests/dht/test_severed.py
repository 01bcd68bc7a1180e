"""Whether silence is one contact's, or a cut through the network; and what the system tells of the machine."""

import time
from random import Random

import pytest
import trio
import trio.testing

from shoal.dht import Address, Contact, NodeId, UdpNetwork
from shoal.dht.severed import BURST_S, MAX_LOST, SOUGHT_FOR_S, LostContacts

RNG = Random(4)


def contact() -> Contact:
    return Contact(NodeId(RNG.randbytes(32)), Address("192.0.2.1", RNG.randrange(1, 65536)))


def after(losses: int, known: int, spacing_s: float = 1.0) -> LostContacts:
    """So many of `known` contacts were lost, one after the other. The last one now, at 0."""
    lost = LostContacts()
    for number in range(losses):
        lost.lost(contact(), known - number - 1, (number + 1 - losses) * spacing_s)
    return lost


@pytest.mark.parametrize(
    ("losses", "known", "severed"), [(1, 1, True), (1, 2, False), (2, 8, True), (2, 9, False), (5, 20, True)]
)
def test_a_network_is_severed_when_a_quarter_is_lost(losses: int, known: int, severed: bool) -> None:
    assert after(losses, known).is_severed(0.0) == severed


def test_losses_that_are_far_apart_are_no_cut() -> None:
    assert not after(5, 20, BURST_S + 1).is_severed(0.0)


@pytest.mark.parametrize("total", range(2, 40))
def test_the_smaller_part_of_any_cut_sees_it(total: int) -> None:
    for smaller in range(1, total // 2 + 1):
        assert after(total - smaller, total - 1).is_severed(0.0)


def test_the_lost_are_sought_for_a_week_and_no_more_once_the_others_are_back() -> None:
    lost = after(5, 8)
    assert lost.is_severed(SOUGHT_FOR_S - 1)
    assert not lost.is_severed(SOUGHT_FOR_S)
    first = lost.contacts()[0]
    assert lost.found(first.node_id)
    assert not lost.found(first.node_id)
    lost.give_up()
    assert not lost.is_severed(0.0)
    assert len(lost.contacts()) == 4


def test_so_many_are_remembered_and_no_more() -> None:
    assert len(after(3 * MAX_LOST, 4 * MAX_LOST)) == MAX_LOST


async def notices(network: UdpNetwork, most_s: float = 300.0) -> float:
    """After how many seconds a change is noticed; inf if it is not."""
    begun = trio.current_time()
    with trio.move_on_after(most_s):
        await network.wait_for_change()
        return trio.current_time() - begun
    return float("inf")


async def test_a_wall_clock_that_went_on_alone_is_a_sleep(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept = 0.0
    monkeypatch.setattr(time, "time", lambda: 1.8e9 + trio.current_time() + slept)
    monkeypatch.setattr(time, "monotonic", trio.current_time)
    network = UdpNetwork()
    monkeypatch.setattr(network, "local_host", lambda ipv6: None)
    assert await notices(network) == float("inf")
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def sleep() -> None:
            nonlocal slept
            await trio.sleep(50)
            slept = 36_000.0

        assert await notices(network) <= 50 + 15


async def test_another_address_of_the_machine_is_noticed(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: 1.8e9 + trio.current_time())
    monkeypatch.setattr(time, "monotonic", trio.current_time)
    network = UdpNetwork()
    for before, then in [("192.0.2.1", "192.0.2.2"), (None, "192.0.2.1"), ("192.0.2.1", None)]:
        begun = trio.current_time()
        monkeypatch.setattr(
            network,
            "local_host",
            lambda ipv6, b=before, t=then, s=begun: None if ipv6 else b if trio.current_time() < s + 20 else t,
        )
        assert await notices(network) <= 20 + 15
