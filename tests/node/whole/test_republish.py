"""A file that was published on a small network becomes wider when the network has grown."""

import random
from pathlib import Path

import pytest
import trio

from kit.worlds import chunks, fetched, start_nodes
from shoal.node import Refused, UsageError
from shoal.simulation.world import World, run_world

DATA = random.Random(1).randbytes(300_000)


async def grow(world: World, count: int) -> None:
    """Let the network have `count` nodes."""
    for number in range(len(world.machines), count):
        await world.start(f"node-{number}")
    await trio.sleep(60)


def test_a_file_of_three_hosts_outlives_them(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await start_nodes(world, 3)
        async with world.client("owner") as owner:
            old = await owner.publish(chunks(DATA), name="fish.txt", media_type="text/plain")
            assert (old.k, old.n) == (1, 3)
            assert await owner.keep(old.link)
            with pytest.raises(Refused, match="the network allows no more now"):
                await owner.republish(old.link)
        await grow(world, 30)
        async with world.client("owner") as owner:
            await owner.wait_joined()
            await trio.sleep(5)  # until it has looked around
            (listed,) = owner.published()
            assert listed.width is not None
            assert listed.width.can_grow  # by the hosts that this home has met, which may be fewer
            for width in ((await owner.check(old.link)).width, (await owner.keep(old.link)).width):
                assert width is not None
                assert width.can_grow
                assert (width.survives, width.could_survive, width.possible_n) == (2, 16, 24)
                assert 24 <= width.hosts <= 30
            done = await owner.republish(old.link)
            assert done.published.complete
            assert (done.published.k, done.published.n, done.published.hosts) == (8, 24, 24)
            assert (done.old, done.before.survives, done.is_kept) == (old.link, 2, True)
            replaced, new = owner.published()
            assert (replaced.replaced_by, new.replaced_by) == (done.published.link.hash, None)
            assert {file.link.id for file in owner.kept()} == {old.link.id, done.published.link.id}
            with pytest.raises(Refused, match="the most for its size"):
                await owner.republish(done.published.link)
        for number in range(3):
            await world.retire(f"node-{number}")
        await trio.sleep(60)
        assert await fetched(world, done.published, "reader") == DATA
        async with world.client("reader") as reader:
            described = await reader.info(done.published.link)
            assert (described.name, described.media_type, described.public) == ("fish.txt", "text/plain", False)
            assert (await reader.check(done.published.link)).width is not None

    run_world(41, tmp_path, story)


def test_the_file_is_never_on_this_machines_disk(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await start_nodes(world, 3)
        async with world.client("owner") as owner:
            old = await owner.publish(chunks(DATA), public=True)
        await grow(world, 12)
        async with world.client("another") as another:
            done = await another.republish(old.link.hash)
            assert (done.published.n, done.published.link.hash) == (12, str(done.published.link))
        written = [path for path in (tmp_path / "another").rglob("*") if path.is_file()]
        assert written
        assert not any(DATA[1000:1064] in path.read_bytes() for path in written)
        assert await fetched(world, done.published, "reader") == DATA

    run_world(42, tmp_path, story)


def test_a_republish_that_would_gain_nothing_publishes_nothing(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await start_nodes(world, 12)
        async with world.client("owner") as owner:
            old = await owner.publish(chunks(DATA), needed=2, total=6)
            for machine in world.running():
                if machine.name not in ("node-0", "node-1", "node-2", "node-3", "node-4", "node-5", "node-6"):
                    machine.serving.leave()
            before = len(owner.published())
            with pytest.raises(Refused, match="would survive no more losses"):
                await owner.republish(old.link)
            assert len(owner.published()) == before
            with pytest.raises(UsageError, match="no key"):
                await owner.republish(old.link.hash)

    run_world(43, tmp_path, story)
