"""The library under load and in impatient hands: much at once, consumers that do not read, leave, or fail."""

import random
from pathlib import Path
from typing import Any

import pytest
import trio

from kit.worlds import chunks, start_nodes
from shoal.erasure import BLOCK_BYTES, Link
from shoal.node import TooFewShares
from shoal.node.channel import PeerPool
from shoal.node.fetching.reading import RUN_BYTES, RUNS_AHEAD
from shoal.node.node import Node
from shoal.simulation.world import World, run_world

AT_ONCE = 20


def test_twenty_publishes_and_fetches_at_once(tmp_path: Path) -> None:
    files = [random.Random(at).randbytes(1 + 7_000 * at) for at in range(AT_ONCE)]

    async def story(world: World) -> None:
        await start_nodes(world, 5, 20)
        links: dict[int, Any] = {}
        read: dict[int, bytes] = {}
        async with world.client("busy") as client:

            async def publish(at: int) -> None:
                published = await client.publish(chunks(files[at]), name=f"{at}", needed=1, total=3)
                assert published.complete
                links[at] = published.link

            async def fetch(at: int) -> None:
                async with client.open_fetch(links[at]) as file:
                    assert file.name == b"%d" % at
                    read[at] = b"".join([chunk async for chunk in file])

            for work in (publish, fetch):
                with trio.fail_after(120):
                    async with trio.open_nursery() as nursery:
                        for at in range(AT_ONCE):
                            nursery.start_soon(work, at)
            assert [read[at] for at in range(AT_ONCE)] == files
            assert len(client.published()) == AT_ONCE

    run_world(1, tmp_path, story)


def test_a_consumer_that_does_not_read_stops_the_reader(tmp_path: Path) -> None:
    """Three runs are fetched ahead and no more, however long the consumer sleeps; then it goes on."""
    data = random.Random(2).randbytes(80_000_000)

    async def story(world: World) -> None:
        await start_nodes(world, 3, 20)
        async with world.client("client") as client:
            published = await client.publish(chunks(data), needed=2, total=2, happy=1)
            async with client.open_fetch(published.link) as file:
                await trio.sleep(3600)
                first = file.received_bytes
                assert 0 < first <= RUNS_AHEAD * RUN_BYTES
                await anext(file)
                await trio.sleep(3600)
                assert first < file.received_bytes <= first + RUN_BYTES
                rest = [chunk async for chunk in file]
                assert sum(map(len, rest)) > len(data) - RUN_BYTES

    run_world(2, tmp_path, story)


class OwnError(Exception):
    """A consumer's."""


async def read_and_fail(client: Node, link: Link, chunks_read: int) -> None:
    async with client.open_fetch(link) as file:
        for _ in range(chunks_read):
            await anext(file)
        raise OwnError


def test_consumers_that_leave_or_fail(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await start_nodes(world, 4, 20)
        async with world.client("client") as client:
            data = world.rng.randbytes(60 * BLOCK_BYTES)
            published = await client.publish(chunks(data), needed=1, total=3)
            for stop in range(4):
                async with client.open_fetch(published.link) as file:
                    for _ in range(stop):
                        await anext(file)
                with pytest.raises(OwnError):
                    await read_and_fail(client, published.link, stop)
                with trio.move_on_after(3) as scope:
                    async with client.open_fetch(published.link) as file:
                        await trio.sleep_forever()
                assert scope.cancelled_caught
                assert not pool_of(client).in_use()
            async with client.open_fetch(published.link) as one, client.open_fetch(published.link) as other:
                async for chunk in one:
                    assert chunk == await anext(other)
                with pytest.raises(StopAsyncIteration):
                    await anext(other)

    run_world(3, tmp_path, story)


def test_a_failure_reaches_the_consumer_as_itself(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await start_nodes(world, 4, 20)
        async with world.client("client") as client:
            published = await client.publish(chunks(world.rng.randbytes(10_000_000)), needed=2, total=4)

            async def read_while_holders_die() -> None:
                async with client.open_fetch(published.link) as file:
                    await anext(file)
                    for name in list(world.machines)[1:]:
                        await world.crash(name)
                    async for _ in file:
                        pass

            with pytest.raises(TooFewShares) as caught:
                await read_while_holders_die()
            assert (caught.value.needed, caught.value.found) == (2, 1)

    run_world(4, tmp_path, story)


def pool_of(client: Node) -> PeerPool:
    return client.context.pool
