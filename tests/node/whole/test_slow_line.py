"""Over a slow line, or one that is capped, good holders are not taken for silent ones."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import trio

from kit.lying import handlers
from kit.worlds import holders, prepare
from shoal.erasure import BLOCK_BYTES
from shoal.node import Node, NodeSettings
from shoal.node.channel import Buffer, Caller, Read, Reply
from shoal.simulation.world import Machine, World, run_world

K, N = 16, 48
SIZE = 1_000_000  # one segment: nearly a whole block of each share is what an audit reads
ALL_BYTES = 0.9 * N * BLOCK_BYTES


@asynccontextmanager
async def capped(
    world: World, name: str, down_bytes_per_s: int | None, up_bytes_per_s: int | None = None
) -> AsyncIterator[Node]:
    """A client with `--down` and `--up`."""
    settings = NodeSettings(down_bytes_per_s=down_bytes_per_s, up_bytes_per_s=up_bytes_per_s)
    async with world.client(name, settings=settings) as node:
        yield node


async def stall(caller: Caller, request: Any, payload: Buffer) -> Reply:
    await trio.sleep_forever()
    raise AssertionError("unreachable")


def be_silent(machine: Machine) -> None:
    """It says what it keeps, and shows nothing."""
    handlers(machine)[Read] = stall


def test_a_check_blames_no_holder_for_our_own_line(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        published, _, _ = await prepare(world, N, SIZE, needed=K, total=N)
        for rate, most_s in ((None, 2.0), (250_000, 20.0), (60_000, 70.0)):
            async with capped(world, f"checker at {rate}", rate) as client:
                checked = await client.check(published.link)
            assert {outcome: count for outcome, count in checked.outcomes.items() if count} == {"ok": N}
            assert checked.healthy
            assert checked.read_bytes > ALL_BYTES
            assert ALL_BYTES / (rate or 10**9) < checked.seconds < most_s
        for machine in holders(world, published)[: N // 2]:
            be_silent(machine)
        for rate, most_s in ((None, 20.0), (250_000, 30.0)):
            async with capped(world, f"later checker at {rate}", rate) as client:
                checked = await client.check(published.link)
            assert (checked.outcomes["ok"], checked.outcomes["stalled"]) == (N // 2, N // 2)
            assert checked.readable
            assert checked.seconds < most_s

    run_world(81, tmp_path, story)


def test_a_repair_over_a_slow_line_makes_only_what_is_lost(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        published, _, _ = await prepare(world, N + 3, SIZE, needed=K, total=N)
        async with capped(world, "one", 250_000, 250_000) as client:
            repaired = await client.repair(published.link)
        assert (repaired.rebuilt, repaired.good_before, repaired.good_after) == ((), N, N)
        await world.crash(holders(world, published)[7].name)
        async with capped(world, "two", 250_000, 250_000) as client:
            repaired = await client.repair(published.link)
        assert (repaired.rebuilt, repaired.good_before, repaired.good_after) == ((7,), N - 1, N)

    run_world(82, tmp_path, story)


def test_a_repair_gives_up_no_host_whose_share_is_still_on_its_way(tmp_path: Path) -> None:
    """It looks now and then whether somebody else was faster. Over `--up`, the question waits behind the blocks."""

    async def story(world: World) -> None:
        published, _, _ = await prepare(world, 20, 250_000)
        for machine in holders(world, published)[:6]:
            await world.crash(machine.name)
        async with capped(world, "repairer", None, 8_000) as client:
            repaired = await client.repair(published.link)
        assert (repaired.rebuilt, repaired.good_after) == (tuple(range(6)), 12)
        assert repaired.refusals.keys() <= {"no answer"}, "only by those who are gone"
        assert repaired.sent_bytes < 6.5 * BLOCK_BYTES, "each once"

    run_world(83, tmp_path, story)


def test_a_holder_with_a_low_cap_doubts_nobody_for_it(tmp_path: Path) -> None:
    """Care has a quarter of `--down`, and audits up to sixteen claims at the same time."""

    async def story(world: World) -> None:
        slow = world.machine("node-0")
        slow.settings = replace(slow.settings, down_bytes_per_s=100_000)
        published, _, _ = await prepare(world, N, SIZE, needed=K, total=N)
        caretaker: Any = slow.serving.caretaker
        (file,) = await caretaker.read_all([published.link.id])
        round_ = caretaker.looks.begin_round()
        (findings,) = await round_.look([file])
        findings = await round_.prove(findings)
        assert len(findings.proven) == N - 1
        assert len(caretaker.doubts) == 0

    run_world(84, tmp_path, story)
