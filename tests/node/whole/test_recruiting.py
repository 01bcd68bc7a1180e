"""Whole nodes of which some keep silent when they are asked to take a share: a publish gives up none that agree."""

import random
from collections.abc import Iterable
from pathlib import Path

import pytest
import trio

from kit.lying import handlers
from kit.worlds import chunks, start_nodes
from shoal.node.channel import Buffer, Caller, Offer, Put, Reply
from shoal.simulation.world import Machine, World, run_world

ANSWER_S = 12.0  # of a busy host: two handshakes and an offer each take seconds


def keep_silent(machines: Iterable[Machine]) -> None:
    """Have machines take every offer, with a share or without, and never answer it."""

    async def answer(caller: Caller, request: object, payload: Buffer) -> Reply:
        await trio.sleep_forever()
        raise AssertionError

    for machine in machines:
        handlers(machine)[Offer] = handlers(machine)[Put] = answer


def answer_late(machines: Iterable[Machine]) -> None:
    """Have machines answer every offer, but only after a while."""
    for machine in machines:
        for kind in (Offer, Put):
            honest = handlers(machine)[kind]

            async def answer(caller: Caller, request: object, payload: Buffer, honest: object = honest) -> Reply:
                await trio.sleep(ANSWER_S)
                return await honest(caller, request, payload)  # type: ignore[operator, no-any-return]

            handlers(machine)[kind] = answer


@pytest.mark.parametrize(("seed", "silent_hosts"), [(1, 3), (2, 6), (3, 6)])
def test_silent_hosts_cost_a_publish_no_share(tmp_path: Path, seed: int, silent_hosts: int) -> None:
    async def story(world: World) -> None:
        await start_nodes(world, 12 + silent_hosts)
        keep_silent(random.Random(seed).sample(world.running(), silent_hosts))
        async with world.client("publisher") as client:
            began = trio.current_time()
            published = await client.publish(chunks(world.rng.randbytes(3_000_000)))
            assert (published.k, published.n, published.hosts) == (4, 12, 12)
            assert published.complete
            assert not published.narrowed
            assert trio.current_time() - began <= 20.0

    run_world(seed, tmp_path, story)


def test_a_file_that_silent_hosts_made_narrower_is_not_complete(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(random.Random(4).randbytes(3_000_000))

    async def story(world: World) -> None:
        await start_nodes(world, 14)
        silent = world.running()[:6]
        keep_silent(silent)
        async with world.client("publisher") as client:
            began = trio.current_time()
            first = await client.publish(source)
            assert (first.n, first.hosts, first.possible_n) == (6, 6, 12)
            assert first.narrowed
            assert not first.complete
            assert not first.can_complete
            assert trio.current_time() - began <= 40.0
            for machine in silent:
                await world.stop(machine.name)
                await world.start(machine.name)
            second = await client.publish(source)  # it is another file: the first can get no further shares
            assert second.complete
            assert second.n == 12
            assert second.link != first.link

    run_world(4, tmp_path / "world", story)


def test_hosts_that_are_busy_are_waited_for(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await start_nodes(world, 4)
        answer_late(world.running())
        async with world.client("publisher") as client:
            published = await client.publish(chunks(b"hello"))
            assert (published.shares, published.complete) == (3, True)

    run_world(5, tmp_path, story)


def test_the_home_remembers_who_was_silent(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await start_nodes(world, 14)
        silent = world.running()[5:7]
        asked: list[Machine] = []

        def noted(machine: Machine) -> None:
            async def answer(caller: Caller, request: object, payload: Buffer) -> Reply:
                asked.append(machine)
                await trio.sleep_forever()
                raise AssertionError

            handlers(machine)[Put] = answer

        for machine in silent:
            noted(machine)
        for run in range(2):
            async with world.client("publisher") as client:
                published = await client.publish(chunks(b"hello"))
                assert published.n == published.shares == 12
            if run == 0 and len(asked) < 2:
                pytest.fail("the seed asks both in the first run")
        assert len(asked) == 2  # the second command found twelve others, and asked neither

    run_world(6, tmp_path, story)
