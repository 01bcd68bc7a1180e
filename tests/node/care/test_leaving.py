"""A volunteer that leaves in order takes nothing with it."""

from collections.abc import AsyncIterator
from pathlib import Path

import trio

from shoal.node.simulation.world import World, run_world


async def chunks(data: bytes) -> AsyncIterator[bytes]:
    yield data


def test_shares_are_handed_over_and_nothing_is_rebuilt(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        for number in range(16):
            await world.start(f"node-{number}")
        await trio.sleep(30)
        small, large = world.rng.randbytes(3_000), world.rng.randbytes(5_000_000)
        async with world.client("publisher") as client:
            files = [(await client.publish(chunks(data)), data) for data in (small, large)]
        busiest = max(world.running(), key=lambda each: _shares(each.node))
        assert busiest.node is not None
        held = _shares(busiest.node)
        left = await busiest.node.leave()
        assert (left.handed_over, left.remaining) == (held, 0)
        await world.crash(busiest.name)
        async with world.client("reader") as client:
            for published, data in files:
                checked = await client.check(published.link)
                assert (checked.good_shares, checked.hosts) == (published.n, published.n)
                async with client.open_fetch(published.link) as file:
                    assert b"".join([chunk async for chunk in file]) == data

    run_world(21, tmp_path, story)


def test_what_nobody_takes_stays(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        for number in range(6):
            await world.start(f"node-{number}")
        await trio.sleep(30)
        async with world.client("publisher") as client:
            published = await client.publish(chunks(b"six hosts, six shares"))
        assert published.n == 6
        node = world.machines["node-3"].node
        assert node is not None
        left = await node.leave()
        assert (left.handed_over, left.remaining) == (0, 1)
        assert _shares(node) == 1

    run_world(22, tmp_path, story)


def _shares(node: object) -> int:
    return int(node._serving.store.usage().shares)  # type: ignore[attr-defined]
