"""Whole conversations of hostile peers, made up by hypothesis, with real nodes: real stores, real operations.

Whatever is said in whatever order, nothing but the conversation ends: no bug, no memory or slot that is kept, no wait
without an end, no wrong byte, no error outside the family. SHOAL_FUZZ_CONVERSATIONS=1000 tries more of them.
"""

import os
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, example, given, settings

from kit.conversations import HostileCaller, LyingStream, Step, lies, scripts
from kit.worlds import chunks, start_nodes
from shoal.node import Published, ShoalError
from shoal.node.channel import ByteStream
from shoal.simulation.world import Machine, World, run_world

Script = tuple[bool, list[Step]]
Lies = list[tuple[str, int]]

QUIET_S = 200.0  # after the last word: an idle connection has 60 s, a frame that does not end up to 80
LONGEST_S = 600.0  # of an operation among liars
EXAMPLES = int(os.environ.get("SHOAL_FUZZ_CONVERSATIONS", "8"))
FUZZ = settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


async def publish_small(world: World, data: bytes, *, needed: int, total: int) -> Published:
    async with world.client("publisher") as client:
        return await client.publish(chunks(data), needed=needed, total=total)


def in_world(story: Callable[[World], Awaitable[None]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run_world(7, Path(folder), story)


@FUZZ
@given(scripts)
@example([(True, [Step(number, number % 6, "whole", 0.0, True, 0) for number in range(40)])])
@example([(True, [Step(15, 3, act, 0.0, False, 1) for act in ("whole", "flipped", "cut")])] * 3)
def test_a_server_outlives_any_conversation(hostile: Sequence[Script]) -> None:
    async def story(world: World) -> None:
        await start_nodes(world, 1, 5)
        (victim,) = world.running()
        published = await publish_small(world, b"kept" * 1000, needed=1, total=1)
        manifest = victim.serving.store.manifest(published.link.id)
        assert manifest is not None
        assert victim.node is not None
        async with trio.open_nursery() as nursery:
            for number, (says_hello, script) in enumerate(hostile):
                stream = await world.streams.at(f"10.66.{number}.1").connect(victim.address)
                caller = HostileCaller(stream, published.link.id, manifest)
                nursery.start_soon(_run, caller, says_hello, script)
        async with world.client("bystander") as client:
            assert (await client.check(published.link)).readable
        await trio.sleep(QUIET_S)
        done = victim.serving.server.statistics()
        assert (done.bugs, done.connections, done.memory_bytes) == (0, 0, 0)
        assert victim.node.context.bugs.count == 0
        assert world.streams.listeners[victim.address].slots.count == 0

    in_world(story)


async def _run(caller: HostileCaller, says_hello: bool, script: Sequence[Step]) -> None:
    await caller.run(says_hello=says_hello, script=script)


def bend(world: World, machine: Machine, told: Lies) -> None:
    """From now on this machine's node bends what it sends on new connections."""
    listener = world.streams.listeners[machine.address]
    honest = listener.handler

    async def lie(stream: ByteStream) -> None:
        bent: Any = LyingStream(stream, told)
        await honest(bent)

    listener.handler = lie


@FUZZ
@pytest.mark.parametrize("liars", [1, 4])
@given(told=lies)
@example(told=[("honest", 0), ("twice", 0)])
@example(told=[("honest", 0), ("honest", 0), ("endless", 0)])
@example(told=[("held back", 0)])
def test_a_client_outlives_any_server(liars: int, told: Lies) -> None:
    """With one liar of four everything succeeds but what needs all; with four nothing wrong comes out, and soon."""

    async def story(world: World) -> None:
        await start_nodes(world, 4, 10)
        data = b"right" * 3000
        published = await publish_small(world, data, needed=2, total=4)
        for machine in world.running()[:liars]:
            bend(world, machine, told)
        async with world.client("client") as client:

            async def fetch() -> None:
                async with client.open_fetch(published.link) as file:
                    assert b"".join([chunk async for chunk in file]) == data

            async def check() -> None:
                assert (await client.check(published.link)).readable or liars > 1

            async def publish() -> None:
                await client.publish(chunks(data), needed=2, total=3)

            async def renew() -> None:
                await client.renew(published.link)

            for operation in (fetch, check, publish, renew):
                try:
                    with trio.fail_after(LONGEST_S):
                        await operation()
                except ShoalError:
                    assert liars > 1 or operation is not fetch
            assert client.context.bugs.count == 0

    in_world(story)
