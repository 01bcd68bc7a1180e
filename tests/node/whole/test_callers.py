"""One caller that asks for work without end: it gets its part, others are served, and honest nodes never get near."""

from pathlib import Path

import trio

from kit.cases import case
from kit.worlds import chunks, prepare
from shoal.node.channel import AnyRequest, Reason, RemoteError, Status, Survey, TellHolders, open_connection
from shoal.node.holders.statements import pack_statements
from shoal.node.volunteer.budgets import BURST_S, PART, cost_s
from shoal.simulation.world import Machine, World, run_world

K, N, NODES = 4, 12, 14
MINUTE_S, DAY_S = 60.0, 86400.0
Flood = tuple[float, list[int]]


async def flood(
    world: World, host: str, victim: Machine, request: AnyRequest, payload: bytes, done: list[Flood]
) -> None:
    """For a minute, over four connections. CPU seconds of work that were done, and how long it was told to wait."""
    done_s, waits = 0.0, list[int]()

    async def ask() -> None:
        nonlocal done_s
        async with open_connection(world.streams.at(host), victim.address) as peer:
            end = trio.current_time() + MINUTE_S
            while trio.current_time() < end:
                try:
                    await peer.request(request, payload=[payload], timeout_s=60)
                except RemoteError as error:
                    if (error.status, error.reason) == (Status.BUSY, Reason.SHARE):
                        waits.append(error.price)
                        await trio.sleep(0.5)
                        continue
                done_s += cost_s(request, len(payload))

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(ask)
    done.append((done_s, waits))


def test_a_flood_gets_its_part_and_others_are_served(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        file = await prepare(world, NODES, needed=K, total=N)
        victim, link = file.holders[0], file.published.link
        floods: dict[str, tuple[AnyRequest, bytes]] = {
            "survey": (Survey(link.id * 1024, True), b""),
            "tell": (TellHolders(link.id), pack_statements([bytes(250)] * 1000)),
        }
        for number, (name, (request, payload)) in enumerate(floods.items()):
            with case(name):
                done: list[Flood] = []

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(flood, world, f"10.9.{number}.1", victim, request, payload, done)
                    async with world.client(f"checker {name}") as client:
                        for _ in range(3):
                            await trio.sleep(15)
                            assert (await client.check(link)).healthy
                            assert (await client.renew(link)).causes == {}
                [(done_s, waits)] = done
                assert done_s <= BURST_S + MINUTE_S * PART + 5 * cost_s(request, len(payload))
                assert waits
                assert min(waits) >= 1
        assert victim.serving.budgets.refused

    run_world(61, tmp_path, story)


def test_honest_care_and_use_never_come_near(tmp_path: Path) -> None:
    """Each peer of each node, over days in which statements and leases are renewed: a tenth of its burst at most."""

    async def story(world: World) -> None:
        file = await prepare(world, NODES, needed=K, total=N)
        async with world.client("publisher") as client:
            links = [(await client.publish(chunks(file.data[:2000]), needed=K, total=N)).link for _ in range(8)]
            for link in links:
                assert (await client.check(link)).healthy
        await trio.sleep(3.5 * DAY_S)
        budgets = [machine.serving.budgets for machine in world.running()]
        assert max(each.peak_s for each in budgets) < BURST_S / 10
        assert [each.refused for each in budgets] == [0] * NODES

    run_world(62, tmp_path, story)
