"""The way in through a long list of which one entry is alive."""

from collections.abc import Callable
from random import Random

import pytest
import trio
import trio.testing

from kit.virtual_dht import Lab
from shoal.dht import Address, Contact, NetworkParameters, NodeId
from shoal.dht.membership import MAX_CACHED, MAX_DOORS, PINGS_AT_ONCE, PINGS_PER_S

DEAD = [Address(f"45.{number // 250}.{number % 250}.1", 4750) for number in range(999)]


def dead_contacts(count: int) -> list[Contact]:
    rng = Random(8)
    return [Contact(NodeId(rng.randbytes(32)), Address(f"46.{n // 250}.{n % 250}.1", 4750)) for n in range(count)]


@pytest.fixture(params=[False, True], ids=["public", "private"])
def lab(request: pytest.FixtureRequest, make_lab: Callable[..., Lab]) -> Lab:
    return make_lab(NetworkParameters("doors", 0, request.param))


@pytest.mark.parametrize("place", [0, 500, 999])
async def test_one_live_door_among_a_thousand(autojump_clock: trio.testing.MockClock, lab: Lab, place: int) -> None:
    """It is found within the 12 s that a command waits, with a full cache of dead contacts beside."""
    live = await lab.node()
    client = await lab.client("20.9.7.9")
    doors = [*DEAD[:place], live.addresses[0], *DEAD[place:]]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.bootstrap, doors, dead_contacts(200))
        await client.wait_joined(12.0)
        nursery.cancel_scope.cancel()


async def test_a_live_contact_of_last_time_is_not_held_up_by_dead_doors(
    autojump_clock: trio.testing.MockClock, lab: Lab
) -> None:
    live = await lab.node()
    client = await lab.client("20.9.7.9")
    cached = [Contact(live.identity.node_id, live.addresses[0]), *dead_contacts(19)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.bootstrap, DEAD, cached)
        await client.wait_joined(2.0)
        nursery.cancel_scope.cancel()


async def test_dead_doors_are_tried_at_a_bounded_rate(autojump_clock: trio.testing.MockClock, lab: Lab) -> None:
    """Also when each comes by itself, as names do that are found one after the other."""
    client = await lab.client("20.9.7.9")
    sent: list[float] = []
    lab.network.tap = lambda data, source, to: sent.append(trio.current_time())
    with trio.move_on_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.bootstrap, DEAD[:500], dead_contacts(300))
            for door in DEAD[500:]:
                nursery.start_soon(client.bootstrap, [door])
    seconds = [sum(at <= other < at + 1 for other in sent) for at in sent[::50]]
    assert max(seconds) <= 3 * (PINGS_AT_ONCE + PINGS_PER_S)
    assert sum(other < sent[0] + 0.01 for other in sent) <= PINGS_AT_ONCE + 2


async def test_more_doors_than_are_remembered_leave_none_out_for_its_place(
    autojump_clock: trio.testing.MockClock, lab: Lab
) -> None:
    client = await lab.client("20.9.7.9")
    many = [Address(f"47.{number // 250}.{number % 250}.1", 4750) for number in range(3_000)]
    tried: set[Address] = set()
    lab.network.tap = lambda data, source, to: tried.add(to)
    with trio.move_on_after(40):
        await client.bootstrap(many, dead_contacts(400))
    doors = [many.index(each) for each in tried if each in many]
    assert len(doors) == MAX_DOORS
    assert min(doors) < 100
    assert max(doors) > 2_900
    assert len(tried) == MAX_DOORS + MAX_CACHED
