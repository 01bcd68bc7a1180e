"""Hosts behind relays, counted honestly, in whole simulated networks: one relay is one host."""

from pathlib import Path

import pytest
import trio

from kit.worlds import start_nodes
from shoal.node import Reachable
from shoal.simulation.nat import Nat
from shoal.simulation.world import World, run_world

SEED = 20261130


async def start_homes(world: World, nat: Nat, count: int) -> None:
    """Start nodes behind routers, and wait until relays ring each of them."""
    for number in range(count):
        await world.start(f"home-{number}", nat=nat)
    await trio.sleep(120.0)
    states = {each.node.reachability.state for each in world.running() if each.node and each.name.startswith("home")}
    assert states == {Reachable.RELAYED}


@pytest.mark.parametrize(
    ("nat", "private", "counted"),
    [
        (Nat.SYMMETRIC, False, 3),  # no more than there are relays, and these keep shares themselves
        (Nat.RESTRICTED, False, 9),  # each was met itself
        (Nat.SYMMETRIC, True, 9),  # the owner of a private network decides who takes part
    ],
)
def test_what_relays_ring_counts_for_their_hosts(nat: Nat, private: bool, counted: int, tmp_path: Path) -> None:
    """Three nodes that can be dialled, and six that cannot. The file has nine shares."""

    async def story(world: World) -> None:
        await start_nodes(world, 3, 20.0)
        await start_homes(world, nat, 6)
        async with world.client("anna") as anna:
            published = await anna.publish(b"x" * 60_000, needed=2, total=9)
            checked = await anna.check(published.link)
        async with world.client("ben") as ben:
            checked_by_another = await ben.check(published.link)
        assert published.shares == counted
        assert published.hosts == checked.hosts == checked_by_another.hosts == counted

    run_world(SEED, tmp_path, story, private=private)
