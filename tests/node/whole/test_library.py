"""The library under load and in impatient hands: much at once, consumers that do not read, leave, or fail."""

import random
from contextlib import aclosing
from pathlib import Path
from typing import Any, cast

import pytest
import trio

from kit.worlds import chunks, start_nodes
from shoal.erasure import BLOCK_BYTES, Link
from shoal.node import ShoalError, TooFewShares, UsageError
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
                    assert file.name == f"{at}"
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


@pytest.mark.parametrize("wrong", [None, b"shoal:x", 5])
def test_what_is_no_link_is_a_usage_error(tmp_path: Path, wrong: Any) -> None:
    async def story(world: World) -> None:
        await world.start("node-0")
        async with world.client("client") as client:
            for operation in (client.fetch, client.info, client.check, client.repair, client.renew, client.keep):
                with pytest.raises(UsageError):
                    await operation(wrong)
            for at_once in (client.unkeep, client.receipt):
                with pytest.raises(UsageError):
                    at_once(wrong)
            with pytest.raises(UsageError):
                async with client.open_fetch(wrong):
                    raise AssertionError

    run_world(30, tmp_path, story)


def test_what_cannot_be_published_is_a_usage_error(tmp_path: Path) -> None:
    async def texts() -> Any:
        yield "text"

    async def story(world: World) -> None:
        await world.start("node-0")
        async with world.client("client") as client:
            for source in (None, 5, [5], ["text"]):
                with pytest.raises(UsageError):
                    await client.publish(cast(Any, source))
            async with aclosing(texts()) as words:
                with pytest.raises(UsageError):
                    await client.publish(words)
            choices: list[dict[str, Any]] = [
                {"ttl_s": None},
                {"ttl_s": float("nan")},
                {"needed": "4"},
                {"total": 4.0},
                {"happy": True},
                {"name": b"name"},
                {"media_type": 5},
            ]
            for wrong in choices:
                with pytest.raises(UsageError):
                    await client.publish(chunks(b"hello"), **wrong)

    run_world(31, tmp_path, story)


def test_a_closed_node_says_so(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await start_nodes(world, 3, 20)
        async with world.client("client") as client:
            link = (await client.publish(chunks(b"hello"))).link
        operations: list[Any] = [client.fetch, client.info, client.check, client.repair, client.renew, client.keep]
        for operation in operations:
            with pytest.raises(UsageError, match="is closed"):
                await operation(link)
        with pytest.raises(UsageError, match="is closed"):
            await client.publish(chunks(b"hello"))
        with pytest.raises(UsageError, match="is closed"):
            await client.delete(link)
        with pytest.raises(UsageError, match="is closed"):
            await client.wait_joined()
        with pytest.raises(UsageError, match="is closed"):
            await client.status()

    run_world(32, tmp_path, story)


def test_an_operation_under_way_when_its_node_closes_fails_in_our_words(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await start_nodes(world, 3, 20)
        failures: list[ShoalError] = []

        async def publish(client: Node) -> None:
            try:
                await client.publish(chunks(random.Random(1).randbytes(3_000_000), 10_000))
            except ShoalError as error:
                failures.append(error)

        async with trio.open_nursery() as nursery, world.client("client") as client:
            nursery.start_soon(publish, client)
            await trio.sleep(0.05)
        assert len(failures) == 1

    run_world(33, tmp_path, story)


def test_the_shares_of_a_publish_never_fall_in_its_progress(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(bytes(300_000))

    async def story(world: World) -> None:
        await start_nodes(world, 6, 20)
        seen: list[int] = []
        async with world.client("client") as client:
            published = await client.publish(source, on_progress=lambda progress: seen.append(progress.shares))
        assert seen == sorted(seen)
        assert seen[-1] == published.shares == 6

    run_world(35, tmp_path / "world", story)


def test_a_name_is_one_text_everywhere(tmp_path: Path) -> None:
    name = "na\udcffme"  # the byte 0xff, which is no UTF-8

    async def story(world: World) -> None:
        await start_nodes(world, 3, 20)
        async with world.client("client") as client:
            link = (await client.publish(chunks(b"hello"), name=name)).link
            assert (await client.info(link)).name == name
            assert client.published()[0].name == name
            async with client.open_fetch(link) as file:
                assert file.name == name
            fetched = await client.fetch(link, tmp_path)
            assert fetched.name == name
            assert fetched.path == tmp_path / name

    run_world(34, tmp_path / "world", story)
