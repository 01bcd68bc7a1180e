"""Holders that repair one file at the same time, and holders whose machine dies while they do."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from kit.worlds import caretaker_of, prepare
from shoal.erasure import FileId
from shoal.node import Published
from shoal.node.channel import Buffer, Caller, Reply, Write
from shoal.simulation.world import Machine, World, run_world

EPOCH_S = 3600.0
K, N = 4, 12
SHARE_BYTES = 3 * 65_536
Handler = Callable[[Caller, Any, Buffer], Awaitable[Reply]]


def on_write(world: World, heard: Callable[[Caller, int], None]) -> None:
    """Hear of every block that is sent anywhere: from whom, how many bytes."""
    for machine in world.running():
        serving: Any = machine.serving
        found: dict[type, Handler] = serving.handlers
        found[Write] = hearing(found[Write], heard)


def hearing(honest: Handler, heard: Callable[[Caller, int], None]) -> Handler:
    async def write(caller: Caller, request: Any, payload: Buffer) -> Reply:
        heard(caller, len(payload))
        return await honest(caller, request, payload)

    return write


def kept(world: World, published: Published) -> list[int]:
    """The numbers of all shares that running machines keep; one twice where it is twice."""
    found = [each for machine in world.running() for each in machine.serving.store.held(published.link.id)]
    return sorted(each.share_number for each in found)


MOST = 1.2  # of the bytes that one repairer alone fetches and sends


@pytest.mark.parametrize(("seed", "apart_s"), [(31, 20.0), (32, 0.0), (36, 0.0)])
def test_holders_that_repair_at_once_waste_little_and_keep_each_share_once(
    tmp_path: Path, seed: int, apart_s: float
) -> None:
    """Five begin together, over slow lines. Each waits for its rank's turn, and sees then that another is at it."""

    async def story(world: World) -> None:
        published, _, first = await prepare(world, 17, K * SHARE_BYTES - 2_000)
        world.streams.bytes_per_s = 60_000.0
        lost = [machine.node.node_id for machine in first[:4] if machine.node is not None]
        for machine in first[:4]:
            await world.crash(machine.name)
        repairers = first[4:9]
        async with trio.open_nursery() as nursery:
            for machine in repairers:
                care: Any = machine.serving.caretaker
                for each in lost:
                    care.presence.silent(each, -10 * EPOCH_S)
                nursery.start_soon(care.look_after, [FileId(published.link.id)])
                await trio.sleep(apart_s)
        while any(caretaker_of(machine).looks.mender.busy for machine in repairers):  # noqa: ASYNC110 - no event for it
            await trio.sleep(1)
        assert kept(world, published) == list(range(N))
        moved = sum(caretaker_of(machine).looks.mender.moved_bytes for machine in repairers)
        assert moved <= MOST * (K + 4) * SHARE_BYTES

    run_world(seed, tmp_path, story, epoch_s=EPOCH_S)


@pytest.mark.parametrize("seed", [38, 45])
def test_people_that_repair_at_once_waste_little(tmp_path: Path, seed: int) -> None:
    """Five type the command in the same moment. The first block that is sent shows the others who is at it."""

    async def story(world: World) -> None:
        published, _, first = await prepare(world, 17, K * SHARE_BYTES - 2_000)
        for machine in first[:4]:
            await world.retire(machine.name)
        moved: list[int] = []

        async def repair(number: int) -> None:
            async with world.client(f"person-{number}", through=first[4 + number].name) as person:
                repaired = await person.repair(published.link)
            moved.append(repaired.sent_bytes + repaired.received_bytes)
            assert repaired.good_after == N

        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(repair, number)
        assert kept(world, published) == list(range(N))
        assert sum(moved) <= MOST * (K + 4) * SHARE_BYTES

    run_world(seed, tmp_path, story, epoch_s=EPOCH_S)


@pytest.mark.parametrize("seed", [33, 35])
def test_a_repairer_whose_machine_dies_at_any_moment_leaves_nothing_broken(tmp_path: Path, seed: int) -> None:
    """Twice a plug is pulled while blocks are on their way. The machines come back, and in the end all shares are
    there, whole."""

    async def story(world: World) -> None:
        published, _, first = await prepare(world, 17, K * SHARE_BYTES - 2_000)
        world.streams.bytes_per_s = 60_000.0
        by_host = {machine.host: machine for machine in first}
        begun = trio.Event()
        repairers: list[Machine] = []

        def heard(caller: Caller, count: int) -> None:
            repairers.append(by_host[caller.remote.host])
            begun.set()

        on_write(world, heard)
        for machine in first[:4]:
            await world.crash(machine.name)
        for _ in range(2):
            begun = trio.Event()
            with trio.move_on_after(8 * EPOCH_S):
                await begun.wait()
            await trio.sleep(world.rng.uniform(0.0, 4.5 * SHARE_BYTES / world.streams.bytes_per_s))
            name = repairers[-1].name
            await world.crash(name)
            await trio.sleep(EPOCH_S / 2)
            await world.start(name)
        for _ in range(7):
            await trio.sleep(EPOCH_S)
        assert kept(world, published) == list(range(N))
        async with world.client("checker") as client:
            assert (await client.check(published.link, verify=True)).healthy

    run_world(seed, tmp_path, story, epoch_s=EPOCH_S)
