"""Whole networks in simulation: the main job, hurt in many ways. Every test prints its seed by its name."""

import hashlib
import os
import random
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from kit.scripts import ROOT
from kit.worlds import chunks, fetched, start_nodes
from shoal.erasure import FileId, Link, LinkKind
from shoal.node import BadData, LocalError, NoPeers, NotFound, Published, Refused, TooFewShares, WrongKey
from shoal.node.fetching.targets import part_path
from shoal.simulation.datagrams import Weather
from shoal.simulation.world import World, run_world

STORM = Weather(latency_s=(0.01, 0.2), loss=0.05, duplication=0.05, late=0.05)


def holders_of(world: World, published: Published) -> list[str]:
    hosts = {address.host for address in published.holders.values()}
    return [machine.name for machine in world.running() if machine.host in hosts]


async def thirty_nodes(world: World) -> tuple[str, bytes, int]:
    await start_nodes(world, 30, 30)
    data = world.rng.randbytes(700_000)
    async with world.client("publisher") as client:
        published = await client.publish(chunks(data, 50_000), name="life.bin")
    assert (published.k, published.n, published.complete) == (8, 24, True)
    victims = holders_of(world, published)[: published.n - published.k]
    for name in victims:
        await world.crash(name)
    assert await fetched(world, published, "reader") == data
    return str(published.link), hashlib.sha256(data).digest(), world.datagrams.statistics().sent


@pytest.mark.parametrize("seed", [1, 2])
def test_publish_lose_nodes_fetch_and_the_seed_replays_it(seed: int, tmp_path: Path) -> None:
    first = run_world(seed, tmp_path / "a", thirty_nodes)
    assert run_world(seed, tmp_path / "b", thirty_nodes) == first


DIGEST = """
import importlib.util, sys
from pathlib import Path

spec = importlib.util.spec_from_file_location("stories", sys.argv[1])
stories = importlib.util.module_from_spec(spec)
spec.loader.exec_module(stories)
print(stories.run_world(18, Path(sys.argv[2]), stories.short_life, weather=stories.STORM))
"""


async def short_life(world: World) -> str:
    """A little of everything, and a digest of all that was sent."""
    await start_nodes(world, 8, 30)
    digest = hashlib.sha256()
    async with world.client("publisher") as client:
        published = await client.publish(chunks(world.rng.randbytes(100_000), 50_000), needed=2, total=6)
    for name in holders_of(world, published)[:3]:
        await world.crash(name)
    async with world.client("reader") as client, client.open_fetch(published.link) as file:
        digest.update(b"".join([chunk async for chunk in file]))
        digest.update(repr(file.received_bytes).encode())
    await world.start("node-9")
    await trio.sleep(600)
    facts = (str(published.link), published.holders, world.datagrams.statistics(), world.streams.statistics())
    digest.update(repr((facts, trio.current_time())).encode())
    return digest.hexdigest()


def test_another_process_with_another_order_of_hashes_repeats_it(tmp_path: Path) -> None:
    digests = set()
    for seed in "1", "2":
        command = [sys.executable, "-c", DIGEST, __file__, str(tmp_path / seed)]
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT / "tests")}
        run = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        digests.add(run.stdout)
    assert len(digests) == 1


def test_it_works_in_a_storm(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await start_nodes(world, 14, 30)
        data = world.rng.randbytes(300_000)
        async with world.client("publisher") as client:
            published = await client.publish(chunks(data, 50_000))
        assert published.complete
        assert await fetched(world, published, "reader") == data

    run_world(3, tmp_path, story, weather=STORM)


def test_one_holder_too_many_lost_is_told_with_numbers(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await start_nodes(world, 13, 30)
        data = world.rng.randbytes(60_000)
        async with world.client("publisher") as client:
            published = await client.publish(chunks(data, 50_000))
        victims = holders_of(world, published)[: published.n - published.k + 1]
        for name in victims:
            await world.crash(name)
        with pytest.raises(TooFewShares) as caught:
            await fetched(world, published, "reader")
        assert (caught.value.needed, caught.value.found) == (4, 3)
        await world.start(victims[0])
        await trio.sleep(20)
        assert await fetched(world, published, "patient") == data

    for seed in range(4, 8):
        run_world(seed, tmp_path / str(seed), story)


def test_all_nodes_crash_and_come_back(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await start_nodes(world, 12, 30)
        data = world.rng.randbytes(400_000)
        async with world.client("publisher") as client:
            published = await client.publish(chunks(data, 50_000))
        names = list(world.machines)
        for name in names:
            await world.crash(name)
        for name in reversed(names):
            await world.start(name)
        await trio.sleep(120)
        assert await fetched(world, published, "reader") == data

    run_world(8, tmp_path, story)


def test_a_network_survives_its_first_node(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await start_nodes(world, 8, 30)
        await world.crash("node-0")
        await world.stop("node-5")
        await world.start("node-5")  # its only door is gone: it comes back through its own cache
        await trio.sleep(60)
        node = world.machines["node-5"].node
        assert node is not None
        assert (await node.status())["peers"] >= 5

    run_world(9, tmp_path, story)


def test_a_link_is_only_as_good_as_its_key(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await start_nodes(world, 5, 30)
        async with world.client("publisher") as client:
            one = await client.publish(chunks(b"one" * 1000, 50_000))
            two = await client.publish(chunks(b"two" * 1000, 50_000))
            assert two.link.key is not None
            with pytest.raises(WrongKey):
                async with client.open_fetch(replace(one.link, key=two.link.key)):
                    pass
            info = await client.info(one.link.hash)
            assert (info.name, info.size, info.k, len(info.holders)) == (None, None, one.k, one.shares)

    run_world(10, tmp_path, story)


def test_nobody_knows_an_unpublished_file(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await start_nodes(world, 5, 30)
        async with world.client("reader") as client:
            with pytest.raises(NotFound):
                await client.fetch(Link(FileId(bytes(32)), LinkKind.PRIVATE, bytes(32)), tmp_path / "absent")

    run_world(11, tmp_path / "world", story)
    assert not list(tmp_path.glob("absent*"))


def test_what_few_paths_miss_is_sought_on_many(tmp_path: Path) -> None:
    """Where liars stand in all of the first, quick paths of a search."""

    async def story(world: World) -> None:
        await start_nodes(world, 6, 30)
        data = world.rng.randbytes(5_000)
        async with world.client("publisher") as client:
            published = await client.publish(chunks(data, 50_000))
        async with world.client("reader") as client:
            dht: Any = client.context.dht
            honest, asked = dht.search, []

            @asynccontextmanager
            async def search(kind: int, key: bytes, *, thorough: bool = False) -> AsyncIterator[Any]:
                asked.append(thorough)
                async with honest(kind, key if thorough else bytes(32), thorough=thorough) as records:
                    yield records

            dht.search = search
            async with client.open_fetch(published.link) as file:
                assert b"".join([chunk async for chunk in file]) == data
            assert asked == 3 * [False] + 3 * [True]

    run_world(19, tmp_path, story)


def test_a_nodes_traffic_is_datagrams_as_well(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await start_nodes(world, 3, 30)  # they have met by datagrams, and have moved no share
        for machine in world.running():
            assert machine.node is not None
            status = await machine.node.status()
            assert status["sent_bytes"] > 0
            assert status["received_bytes"] > 0

    run_world(20, tmp_path, story)


def test_without_any_peer(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.start("node-0")
        await world.crash("node-0")
        async with world.client("lonely", through="node-0") as client:
            with pytest.raises(NoPeers):
                await client.publish(chunks(b"hello", 50_000))

    run_world(12, tmp_path, story)


def test_full_volunteers_refuse_and_the_publisher_is_told(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        for number in range(6):
            await world.start(f"node-{number}", capacity_bytes=225_000)
        await trio.sleep(20)
        async with world.client("publisher") as client:
            with pytest.raises(Refused, match="full"):
                await client.publish(chunks(world.rng.randbytes(3_000_000), 50_000))

    run_world(13, tmp_path, story)


def test_too_few_hosts_give_a_partial_result_that_can_be_completed(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(random.Random(14).randbytes(200_000))

    async def story(world: World) -> None:
        await start_nodes(world, 7, 30)
        async with world.client("publisher") as client:
            first = await client.publish(source, needed=4, total=12)
            assert (first.complete, first.shares, first.hosts, first.survives) == (False, 7, 7, 3)
            assert await fetched(world, first, "reader") == source.read_bytes()
            await world.start("node-7")
            await trio.sleep(60)
            halfway = await client.publish(source, needed=4, total=12)
            assert (halfway.complete, halfway.shares, halfway.link) == (False, 8, first.link)
            for number in range(8, 13):
                await world.start(f"node-{number}")
            await trio.sleep(60)
            second = await client.publish(source, needed=4, total=12)
            assert (second.complete, second.shares, second.link) == (True, 12, first.link)
            third = await client.publish(source, needed=4, total=12)
            assert third.link != first.link  # a finished publish leaves no journal
            assert len(client.published()) == 2

    run_world(14, tmp_path / "world", story)


def test_holders_that_die_on_the_way_are_replaced(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(random.Random(15).randbytes(20_000_000))

    async def story(world: World) -> None:
        await start_nodes(world, 16, 30)
        world.streams.bytes_per_s = 500_000.0
        async with world.client("publisher") as client, trio.open_nursery() as nursery:

            async def kill_three() -> None:
                await trio.sleep(6)
                for name in list(world.machines)[1:4]:
                    await world.crash(name)

            nursery.start_soon(kill_three)
            published = await client.publish(source)
            assert published.shares == published.n == 12
            assert set(holders_of(world, published)).isdisjoint({"node-1", "node-2", "node-3"})
        assert await fetched(world, published, "reader") == source.read_bytes()

    run_world(15, tmp_path / "world", story)


def test_an_interrupted_publish_and_fetch_go_on(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(random.Random(16).randbytes(6_000_000))

    async def story(world: World) -> None:
        await start_nodes(world, 13, 30)
        world.streams.bytes_per_s = 300_000.0
        async with world.client("publisher") as client:
            with trio.move_on_after(5) as interrupted:
                await client.publish(source)
            assert interrupted.cancelled_caught
            published = await client.publish(source)
            assert published.resumed_bytes > 0
            assert published.sent_bytes + published.resumed_bytes < 3.2 * 6_000_000
        async with world.client("reader") as client:
            with trio.move_on_after(5) as interrupted:
                await client.fetch(published.link, target)
            assert interrupted.cancelled_caught
            assert [name for name in os.listdir(tmp_path) if name.startswith("target")] == [
                part_path(target, published.link).name
            ]
            done = await client.fetch(published.link, target)
            assert done.resumed_bytes > 0

    run_world(16, tmp_path / "world", story)
    assert target.read_bytes() == source.read_bytes()


def test_nothing_is_kept_of_a_file_that_changed_while_it_was_read(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(random.Random(17).randbytes(3_000_000))

    async def story(world: World) -> None:
        await start_nodes(world, 8, 30)
        world.streams.bytes_per_s = 300_000.0

        async def touch() -> None:
            await trio.sleep(2)
            os.utime(source, ns=(1, 1))

        async with world.client("publisher") as client, trio.open_nursery() as nursery:
            nursery.start_soon(touch)
            with pytest.raises(LocalError, match="changed while it was being read"):
                await client.publish(source, needed=2, total=6)
        await trio.sleep(1)
        assert not list((tmp_path / "world").rglob("*.journal"))
        assert not [path for path in (tmp_path / "world").rglob("*.lock") if "publishing" in str(path)]
        for machine in world.running():
            assert machine.node is not None
            assert (await machine.node.status())["uploads"] == 0

    run_world(17, tmp_path / "world", story)


def test_a_list_that_cannot_be_written_is_known_before_anything_is_sent(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await start_nodes(world, 6, 30)
        async with world.client("publisher") as client:
            client.home.ledger_file.mkdir()
            with pytest.raises(LocalError, match="list of published files"):
                await client.publish(chunks(b"x" * 1000, 50_000))
        nodes = [machine.node for machine in world.running() if machine.node is not None]
        assert all([(await node.status())["files"] == 0 for node in nodes])

    run_world(17, tmp_path / "world", story)


@pytest.mark.parametrize("by", ["time", "bytes"])
def test_what_a_checkpoint_covers_outlives_a_power_cut_everywhere(
    by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shoal.node.publishing.publish.FIRST_CHECKPOINT_BYTES", 2**40 if by == "time" else 2**22)
    monkeypatch.setattr("shoal.node.publishing.publish.CHECKPOINT_S", 5.0 if by == "time" else 1e6)
    source = tmp_path / "source"
    source.write_bytes(random.Random(18).randbytes(16_000_000))

    async def story(world: World) -> None:
        await start_nodes(world, 8, 30)
        world.streams.bytes_per_s = 300_000.0
        async with world.client("publisher") as client:
            with trio.move_on_after(20) as interrupted:
                await client.publish(source, needed=2, total=6)
            assert interrupted.cancelled_caught
        names = [machine.name for machine in world.running()]
        for name in names:
            await world.crash(name)
        for name in names:
            await world.start(name)
        await trio.sleep(30)
        async with world.client("publisher") as client:
            published = await client.publish(source, needed=2, total=6)
        assert published.resumed_bytes > 0
        assert await fetched(world, published, "reader") == source.read_bytes()

    run_world(18, tmp_path / "world", story)


def test_bit_rot_is_not_handed_out(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await start_nodes(world, 12, 30)
        data = world.rng.randbytes(400_000)
        async with world.client("publisher") as client:
            published = await client.publish(chunks(data, 50_000))
        rotten = holders_of(world, published)
        for name in rotten[:8]:
            _rot(world, name)
        assert await fetched(world, published, "reader") == data
        for name in rotten[8:]:
            _rot(world, name)
        with pytest.raises((TooFewShares, BadData)):
            await fetched(world, published, "late")

    run_world(17, tmp_path, story)


def _rot(world: World, name: str) -> None:
    disk = world.machines[name].disk
    (share,) = disk.files()
    disk.flip_bit(share, 12_345)


def test_a_holder_that_has_moved_is_found_at_its_new_address(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await start_nodes(world, 10, 30)
        data = world.rng.randbytes(50_000)
        async with world.client("publisher") as client:
            published = await client.publish(chunks(data, 50_000))
        holders = holders_of(world, published)
        stay = holders[: published.k - 1]
        for name in holders[published.k - 1 :]:
            await world.crash(name)
        mover = world.machines[holders[-1]]
        world.move(mover)
        await world.start(mover.name)
        await trio.sleep(30)
        assert len(stay) + 1 == published.k
        async with world.client("reader", through=stay[0]) as client, client.open_fetch(published.link) as file:
            assert b"".join([chunk async for chunk in file]) == data

    run_world(18, tmp_path, story)
