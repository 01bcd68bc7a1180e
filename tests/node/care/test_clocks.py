"""A machine whose clock is wrong mends nothing: it cannot tell what is missing."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import trio

from shoal.dht import NodeId
from shoal.node.care.clocks import LEAST_PEERS, ClockComparison
from shoal.node.care.health import Outcome
from shoal.node.simulation.world import World, run_world

HOUR_S = 3600.0
K, N, NODES = 4, 12, 20


async def chunks(data: bytes) -> AsyncIterator[bytes]:
    yield data


def test_it_takes_some_peers_to_know_that_a_clock_misleads() -> None:
    clocks = ClockComparison()
    for number in range(LEAST_PEERS):
        assert not clocks.misleads(0.0)
        clocks.note(NodeId(bytes([number]) * 32), 3 * HOUR_S, 0.0, 0.0)
    assert clocks.misleads(0.0)
    assert clocks.agrees(0.0), "a lease is counted in days"
    assert not clocks.misleads(30 * 24 * HOUR_S), "that was long ago"


def test_who_has_a_wrong_clock_leaves_repair_to_others(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        for number in range(NODES):
            await world.start(f"node-{number}")
        await trio.sleep(60)
        async with world.client("publisher") as client:
            published = await client.publish(chunks(world.rng.randbytes(20_000)), needed=K, total=N)
        file_id = published.link.id
        keeper = next(machine for machine in world.machines.values() if machine.serving.store.held(file_id))
        care: Any = keeper.serving.caretaker
        charge = await care._charge(file_id)
        await care._round().look([charge])
        others = [at for at, each in enumerate(charge.observations) if each.holder != care._me]
        for at in others[: N // 2]:
            charge.observations[at] = replace(charge.observations[at], outcome=Outcome.MISSING)
        assert charge.health.needs_repair
        wall, now = keeper.clock.read(), trio.current_time()
        for each in charge.statements:
            care.clocks.note(each.node_id, wall + 3 * HOUR_S, wall, now)
        await care._act(charge)
        assert care.statistics().repairs == 0
        assert keeper.node is not None
        (problem,) = (await keeper.node.status())["problems"]
        assert "clock of this machine is 3 hours behind" in problem
        care.clocks = ClockComparison()
        await care._act(charge)
        await trio.sleep(600)  # it goes on by itself
        assert care.statistics().repairs == 1

    run_world(3, tmp_path, story)
