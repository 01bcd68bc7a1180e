"""A volunteer that leaves in order takes nothing with it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from kit.lying import handlers
from kit.worlds import caretaker_of, chunks
from shoal.node import Left, Progress, Published
from shoal.node.channel import Buffer, Caller, Reply, Write
from shoal.node.store.store import DATABASE_NAME
from shoal.simulation.world import Clock, Machine, World, run_world

DAY_S = 86400.0


def test_shares_are_handed_over_and_nothing_is_rebuilt(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        for number in range(8):
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


def test_many_files_are_handed_over_a_few_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a fraction of the time, each share once, the same way every time, and progress only ever grows."""

    async def story(world: World) -> tuple[Left, float, list[int]]:
        for number in range(6):
            await world.start(f"node-{number}")
        await trio.sleep(30)
        async with world.client("publisher") as client:
            for number in range(8):
                await client.publish(chunks(bytes([number]) * 5_000), needed=1, total=4)
        busiest = max(world.running(), key=lambda each: _shares(each.node))
        assert busiest.node is not None
        held, begun, seen = _shares(busiest.node), trio.current_time(), list[Progress]()
        assert held >= 5
        left = await busiest.node.leave(on_progress=seen.append)
        assert (left.handed_over, left.remaining) == (held, 0)
        assert {each.wanted_shares for each in seen} == {held}
        assert {each.hosts for each in seen} == {0}, "shares are counted, and no hosts"
        assert seen[-1].done_bytes == left.sent_bytes
        return left, trio.current_time() - begun, [each.shares for each in seen]

    runs = [run_world(25, tmp_path / f"{number}", story) for number in range(2)]
    assert runs[0] == runs[1]
    monkeypatch.setattr("shoal.node.volunteer.leaving.FILES_AT_ONCE", 1)
    left, took_s, shares = run_world(25, tmp_path / "alone", story)
    assert (left, shares) == (runs[0][0], runs[0][2])
    assert shares == list(range(1, left.handed_over + 1))
    assert runs[0][1] < took_s / 2


def test_leaving_again_sends_nothing_twice(tmp_path: Path) -> None:
    """A node whose leaving was interrupted begins anew. It finds shares that have a new host by proof, not by its
    word."""

    async def story(world: World) -> None:
        for number in range(9):
            await world.start(f"node-{number}")
        await trio.sleep(30)
        async with world.client("publisher") as client:
            published = await client.publish(chunks(b"little"), needed=2, total=6)
        leaver = next(each for each in world.running() if each.host == _host_of_share(published, 3))
        assert leaver.node is not None
        first = await leaver.node.leave()
        assert (first.handed_over, first.elsewhere, first.remaining) == (1, 0, 0)
        again = await leaver.node.leave()
        assert (again.handed_over, again.elsewhere, again.remaining, again.sent_bytes) == (0, 1, 0, 0)
        async with world.client("reader") as client:
            taker = next(
                each
                for each in (await client.info(published.link)).holders
                if each.share == 3 and each.address.host != leaver.host
            )
            await world.crash(next(each.name for each in world.running() if each.host == taker.address.host))
        third = await leaver.node.leave()
        assert (third.handed_over, third.elsewhere, third.remaining) == (1, 0, 0)

    run_world(23, tmp_path, story)


def test_a_host_that_stalls_is_replaced_and_holds_nobody_up(tmp_path: Path) -> None:
    """It says yes to every offer and takes nothing; most shares find it first."""

    async def story(world: World) -> None:
        for number in range(5):
            await world.start(f"node-{number}")
        await trio.sleep(30)
        async with world.client("publisher") as client:
            for number in range(6):
                await client.publish(chunks(bytes([number]) * 5_000), needed=1, total=5)
        for name in ("stalling", "good"):
            await world.start(name)
        handlers(world.machines["stalling"])[Write] = _stall
        await trio.sleep(30)
        leaver, begun = world.machines["node-2"].node, trio.current_time()
        assert leaver is not None
        left = await leaver.leave()
        assert (left.handed_over, left.remaining) == (6, 0)
        assert trio.current_time() - begun < 6 * 40, "half a minute each at most, for a host that stalls"

    run_world(26, tmp_path, story)


async def _stall(caller: Caller, request: Write, payload: Buffer) -> Reply:
    await trio.sleep_forever()
    raise AssertionError("unreachable")


@pytest.mark.parametrize("hours", [1.5, 3.0])
def test_a_share_about_to_end_or_over_is_not_carried_away(tmp_path: Path, hours: float) -> None:
    async def story(world: World) -> None:
        for number in range(8):
            await world.start(f"node-{number}")
        await trio.sleep(30)
        async with world.client("publisher") as client:
            published = await client.publish(chunks(b"short"), needed=2, total=6, ttl_s=2 * 3600)
        await trio.sleep(hours * 3600)
        leaver = next(each for each in world.running() if each.host == _host_of_share(published, 0))
        assert leaver.node is not None
        left = await leaver.node.leave()
        assert (left.handed_over, left.ending, left.remaining) == (0, 1, 0)

    run_world(24, tmp_path, story)


def test_where_nobody_bears_out_that_a_lease_is_over_its_share_is_carried_away(tmp_path: Path) -> None:
    """Three others are too few to say so."""

    async def story(world: World) -> None:
        published, leaver = await _little_file(world, nodes=4, code=(1, 3), ttl_s=2 * 3600)
        await trio.sleep(3 * 3600)
        assert leaver.node is not None
        left = await leaver.node.leave()
        assert (left.handed_over, left.ending, left.remaining) == (1, 0, 0)
        await world.crash(leaver.name)
        async with world.client("reader") as client:
            assert (await client.check(published.link)).hosts == 3

    run_world(27, tmp_path, story)


@pytest.mark.parametrize(("ahead_days", "nodes"), [(100, 8), (-100, 8), (100, 4)])
def test_a_leaver_whose_clock_is_wrong_leaves_nothing_behind(tmp_path: Path, ahead_days: int, nodes: int) -> None:
    """By its own clock every lease was over: it sent nothing, and said that all was well."""

    async def story(world: World) -> None:
        published, leaver = await _little_file(world, nodes=nodes, code=(1, nodes - 2), ttl_s=30 * 86400)
        await _set_clock(world, leaver, ahead_days * DAY_S)
        assert leaver.node is not None
        left = await leaver.node.leave()
        assert (left.handed_over, left.elsewhere, left.ending, left.remaining) == (1, 0, 0, 0)
        await _go(world, leaver, published)

    run_world(28, tmp_path, story)


def test_peers_whose_clocks_are_impossible_do_not_keep_anybody_from_leaving(tmp_path: Path) -> None:
    """Two of three liars are a majority; but what they say is no time, and no statement can be made of it."""

    async def story(world: World) -> None:
        published, leaver = await _little_file(world, nodes=4, code=(1, 2), ttl_s=30 * 86400)
        liars = [each for each in world.running() if each is not leaver][:2]
        for liar in liars:
            polls: Any = caretaker_of(liar).polls
            polls.wall = lambda: 2**64 - 1
        assert leaver.node is not None
        left = await leaver.node.leave()
        assert (left.handed_over, left.remaining) == (1, 0)
        await _go(world, leaver, published)

    run_world(30, tmp_path, story)


def test_a_leaver_whose_wrong_clock_made_it_forget_the_others_gives_none_of_them_a_second_share(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        published, leaver = await _little_file(world, nodes=10, code=(2, 8), ttl_s=30 * 86400)
        await _set_clock(world, leaver, 100 * DAY_S)
        database = leaver.disk.open_database(leaver.home.store_folder / DATABASE_NAME)
        database.execute("DELETE FROM statements")
        assert leaver.node is not None
        left = await leaver.node.leave()
        assert (left.handed_over, left.remaining) == (1, 0)
        await _go(world, leaver, published)

    run_world(29, tmp_path, story)


async def _little_file(world: World, *, nodes: int, code: tuple[int, int], ttl_s: int) -> tuple[Published, Machine]:
    """A file, and a holder of one share of it that is no door for others."""
    for number in range(nodes):
        await world.start(f"node-{number}")
    await trio.sleep(30)
    async with world.client("publisher") as client:
        published = await client.publish(chunks(b"little"), needed=code[0], total=code[1], ttl_s=ttl_s)
    hosts = {address.host for address in published.holders.values()}
    return published, next(each for each in world.running()[1:] if each.host in hosts)


async def _set_clock(world: World, machine: Machine, ahead_s: float) -> None:
    """Start its node again, under another clock."""
    await world.stop(machine.name)
    machine.clock = Clock(ahead_s)
    machine.environment = replace(machine.environment, wall=machine.clock.read)
    await world.start(machine.name)
    await trio.sleep(60)


async def _go(world: World, leaver: Machine, published: Published) -> None:
    """The leaver goes, and every share has a host of its own, under a lease as before."""
    await world.crash(leaver.name)
    async with world.client("reader") as client:
        checked = await client.check(published.link)
    assert (checked.good_shares, checked.hosts) == (published.n, published.n)


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


def _host_of_share(published: Published, share: int) -> str:
    return str(published.holders[share].host)


def _shares(node: object) -> int:
    return int(node.serving.store.usage().shares)  # type: ignore[attr-defined]


def test_a_node_that_leaves_takes_no_further_shares(tmp_path: Path) -> None:
    """What came to it meanwhile would be lost with its disk."""

    async def story(world: World) -> None:
        for number in range(6):
            await world.start(f"node-{number}")
        await trio.sleep(30)
        async with world.client("publisher") as client:
            await client.publish(chunks(b"before"), needed=1, total=3)
            leaver = max(world.running(), key=lambda each: _shares(each.node))
            assert leaver.node is not None
            await leaver.node.leave()
            published = await client.publish(chunks(b"after"), needed=1, total=5)
        assert published.complete
        assert leaver.host not in {address.host for address in published.holders.values()}

    run_world(26, tmp_path, story)
