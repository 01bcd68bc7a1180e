"""Statements of holders are renewed before they end, many at a time."""

from collections.abc import AsyncIterator
from pathlib import Path

import trio

from shoal.node.care.refresh import refresh_horizon
from shoal.node.simulation.world import World, run_world

DAY_S = 86400.0
K, N = 3, 6


async def chunks(data: bytes) -> AsyncIterator[bytes]:
    yield data


def test_young_statements_are_left_alone() -> None:
    assert refresh_horizon([]) == 0
    assert refresh_horizon([7 * DAY_S, 5 * DAY_S, 4.6 * DAY_S]) == 0


def test_few_that_are_older_wait_for_the_others() -> None:
    assert refresh_horizon([6.9 * DAY_S] * 5 + [2 * DAY_S] * 5) == 0


def test_when_most_are_older_all_but_the_newest_are_renewed() -> None:
    assert refresh_horizon([6.9 * DAY_S] * 4 + [4 * DAY_S] * 5) == 6 * DAY_S


def test_one_that_ends_soon_takes_only_the_older_along() -> None:
    assert refresh_horizon([6.9 * DAY_S] * 5 + [1 * DAY_S]) == 4.5 * DAY_S


def test_holders_that_stay_always_know_of_each_other_and_seldom_write_again(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        for number in range(N):
            await world.start(f"node-{number}")
        await trio.sleep(60)
        async with world.client("publisher") as client:
            published = await client.publish(chunks(world.rng.randbytes(20_000)), needed=K, total=N)
        assert published.complete
        file_id = published.link.id
        renewed: dict[tuple[str, bytes], set[int]] = {}
        for _ in range(15):
            await trio.sleep(DAY_S)
            for name, machine in world.machines.items():
                known = machine.serving.store.statements(file_id)
                valid = [each for each in known if each.expires > machine.clock.read() + 3.5 * DAY_S]
                assert len({each.holder_id for each in valid}) == N - 1
                for each in valid:
                    renewed.setdefault((name, each.holder_id), set()).add(each.expires)
        assert all(4 <= len(times) <= 6 for times in renewed.values())  # every third or fourth day

    run_world(3, tmp_path, story)
