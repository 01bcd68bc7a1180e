"""Files that a home's node keeps alive: also while its clock is wrong, and without more messages than it takes."""

from pathlib import Path

import pytest
import trio

from kit import worlds
from kit.lying import on_request
from shoal.erasure import FileId, Link, LinkKind
from shoal.node import Published
from shoal.node.care.problems import not_renewed
from shoal.node.channel import Renew
from shoal.node.results import KeptFile
from shoal.node.volunteer.kept import is_due
from shoal.simulation.world import EPOCH_START, Clock, Machine, World, run_world

DAY_S = 86400.0
HOLDERS = 3
LOOKS_S = 1.2 * DAY_S  # the keeper looks once in so long at least
LINK = Link(FileId(bytes(32)), LinkKind.PRIVATE)


def kept(renewed_at: float, lease_until: float) -> KeptFile:
    return KeptFile(LINK, renewed_at, renewed_at * DAY_S, lease_until * DAY_S)


def due(file: KeptFile, wall: float, running: float, *, is_renewed: bool = True) -> bool:
    return is_due(file, wall * DAY_S, running * DAY_S, is_renewed=is_renewed)


def test_a_file_is_due_fifteen_days_after_its_last_renewal() -> None:
    file = kept(100.0, 190.0)
    for is_renewed in (True, False):
        assert not due(file, 100.0, 0.0, is_renewed=is_renewed)
        assert not due(file, 114.9, 14.9, is_renewed=is_renewed)
        assert due(file, 115.1, 0.1, is_renewed=is_renewed)


def test_a_node_that_runs_on_renews_whatever_its_clock_says() -> None:
    assert due(kept(100.0, 190.0), 101.0, 15.1)
    assert due(kept(100.0, 190.0), 101.0, 15.1, is_renewed=False)


def test_a_clock_that_was_put_back_makes_a_file_due() -> None:
    assert due(kept(100.0, 190.0), 99.9, 1.0)
    assert due(kept(100.0, 190.0), 0.0, 0.1, is_renewed=False)


def test_a_clock_that_was_wrong_at_the_last_renewal_is_not_trusted_by_the_next_run() -> None:
    for lease_until in (191.0, 90.0, 10.0, 290.0):
        assert due(kept(100.0, lease_until), 101.0, 0.1, is_renewed=False)
        assert not due(kept(100.0, lease_until), 101.0, 1.0)  # this run has renewed it, and itself knows for how long
    assert not due(kept(100.0, 190.2), 101.0, 0.1, is_renewed=False)


# --- in whole networks


async def prepare(world: World, clock: Clock) -> tuple[Published, Machine]:
    """A file for 30 days on three nodes, and a fourth that is to keep it and holds nothing of it."""
    published, _, _ = await worlds.prepare(
        world, HOLDERS, bytes(1000), needed=1, total=HOLDERS, settle_s=30, ttl_s=30 * 86400
    )
    world.machine("keeper", clock=clock)
    keeper = await world.start("keeper")
    await trio.sleep(30)
    return published, keeper


def count_renewals(world: World) -> list[float]:
    """Filled with the times, in seconds of the simulation, at which the first holder is asked to renew."""
    asked: list[float] = []
    on_request([world.machines["node-0"]], Renew, lambda machine, request: asked.append(trio.current_time()))
    return asked


def days_left(world: World, published: Published) -> float:
    """Of the lease that ends first."""
    now = EPOCH_START + trio.current_time()
    holders = [world.machines[f"node-{number}"] for number in range(HOLDERS)]
    return min(held.lease_end - now for each in holders for held in each.serving.store.held(published.link.id)) / DAY_S


async def keep(keeper: Machine, published: Published) -> None:
    assert keeper.node is not None
    await keeper.node.keep(published.link)


@pytest.mark.parametrize("ahead_days", [-100, 100])
@pytest.mark.parametrize("is_wrong_from_the_start", [True, False])
def test_a_kept_file_stays_with_a_clock_100_days_off(
    tmp_path: Path, ahead_days: int, is_wrong_from_the_start: bool
) -> None:
    async def story(world: World) -> None:
        clock = Clock(ahead_days * DAY_S if is_wrong_from_the_start else 0.0)
        published, keeper = await prepare(world, clock)
        asked = count_renewals(world)
        await keep(keeper, published)
        object.__setattr__(clock, "ahead_s", ahead_days * DAY_S)
        for _ in range(3):
            await trio.sleep(12 * DAY_S)
            assert days_left(world, published) > 90 - 15 - 1.2
        assert len(asked) <= 5  # by hand, soon after the clock was found to be off, then twice more

    run_world(61, tmp_path, story)


async def live_by_day(world: World, keeper: Machine, clock: Clock, days: int, *, wall_at_start: float | None) -> None:
    """The keeper's machine runs for eight hours of each day; its clock may begin at the same time at each start."""
    for _ in range(days):
        await world.stop(keeper.name)
        await trio.sleep(16 * 3600)
        if wall_at_start is not None:
            object.__setattr__(clock, "ahead_s", wall_at_start - EPOCH_START - trio.current_time())
        await world.start(keeper.name)
        await trio.sleep(8 * 3600)


def test_a_node_that_starts_daily_renews_every_fifteen_days(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        clock = Clock()
        published, keeper = await prepare(world, clock)
        asked = count_renewals(world)
        await keep(keeper, published)
        await live_by_day(world, keeper, clock, 14, wall_at_start=None)
        assert len(asked) == 1
        await live_by_day(world, keeper, clock, 3, wall_at_start=None)
        assert len(asked) == 2

    run_world(62, tmp_path, story)


def test_a_node_whose_clock_begins_anew_at_each_start_renews_at_each(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        factory = EPOCH_START - 1000 * DAY_S
        clock = Clock(-1000 * DAY_S)
        published, keeper = await prepare(world, clock)
        await keep(keeper, published)
        await live_by_day(world, keeper, clock, 5, wall_at_start=factory)
        assert days_left(world, published) > 89

    run_world(63, tmp_path, story)


async def told_of_leases(keeper: Machine) -> list[str]:
    """Problems of kept files. That none of its peers answers is told besides."""
    assert keeper.node is not None
    problems: list[str] = (await keeper.node.status())["problems"]
    return [each for each in problems if each.startswith("Cannot renew")]


@pytest.mark.parametrize("is_given_up", [False, True])
def test_a_kept_file_that_cannot_be_renewed_is_told_until_it_is_or_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_given_up: bool
) -> None:
    monkeypatch.setattr("shoal.node.volunteer.kept.RENEW_EVERY_S", 2 * DAY_S)
    monkeypatch.setattr("shoal.node.volunteer.kept.TOLD_S", 86 * DAY_S)

    async def story(world: World) -> None:
        published, keeper = await prepare(world, Clock())
        await keep(keeper, published)
        assert keeper.node is not None
        for number in range(HOLDERS):
            await world.stop(f"node-{number}")
        await trio.sleep(3.5 * DAY_S)
        assert await told_of_leases(keeper) == []  # there is time enough
        await trio.sleep(2 * DAY_S)
        (problem,) = await told_of_leases(keeper)
        assert problem.startswith(f"Cannot renew {published.link.hash}, which this home keeps alive")
        assert "Its lease ends in " in problem
        if is_given_up:
            assert keeper.node.unkeep(published.link)
        else:
            await world.start("node-0")
        await trio.sleep(LOOKS_S)
        assert await told_of_leases(keeper) == []

    run_world(64, tmp_path, story)


def test_words_for_what_was_not_renewed() -> None:
    assert "its holders do not answer. Its lease is over." in not_renewed("shoal:x", 0.0)
    assert "Its lease ends in 1 day." in not_renewed("shoal:x", 1.5 * DAY_S)
