"""One host that offers much and sends little to every holder: others publish as if it were not there."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import trio

from kit.worlds import chunks, fetched, node_id, start_nodes
from shoal.dht import Contact
from shoal.erasure import BLOCK_BYTES, HASH_BYTES
from shoal.node import Published
from shoal.node.channel import Offer, Reason, RemoteError, Status, Write
from shoal.node.home.settings import NodeSettings
from shoal.node.node import Node
from shoal.node.store.limits import MAX_UPLOADS
from shoal.simulation.world import Machine, World, run_world

GB = 10**9
GIB = 1 << 30
LEASE_S = 86400
UPLOADS_EACH = 20  # that trickle at each holder
NEEDED, SHARES = 4, 12
ONE_MBIT = 125_000  # bytes per second


def contact(machine: Machine) -> Contact:
    return Contact(node_id(machine), machine.address)


async def offer(node: Node, machine: Machine, upload_id: bytes, bound: int) -> None:
    await node.context.ask(contact(machine), Offer(upload_id, bound, LEASE_S, b""))


async def send(node: Node, machine: Machine, upload_id: bytes, first: int, block: bytes) -> None:
    request = Write(upload_id, first, bytes(HASH_BYTES), True)
    await node.context.ask(contact(machine), request, payload=[block])


async def send_all(node: Node, machine: Machine, upload_id: bytes, blocks: int) -> None:
    for first in range(blocks):
        await send(node, machine, upload_id, first, bytes(BLOCK_BYTES))


async def publish(
    world: World, data: bytes, total: int, settings: NodeSettings | None = None, needed: int = 1
) -> Published:
    async with world.client(f"publisher {world.rng.random()}", settings=settings) as client:
        return await client.publish(chunks(data), needed=needed, total=total, happy=total)


async def assert_serves(world: World, total: int) -> None:
    data = world.rng.randbytes(200_000)
    published = await publish(world, data, total)
    assert published.complete
    assert await fetched(world, published) == data


async def start(world: World, count: int, capacity_bytes: int) -> Sequence[Machine]:
    for number in range(count):
        world.machine(f"node-{number}", capacity_bytes=capacity_bytes)
    await start_nodes(world, count, 20)
    return world.running()


@pytest.mark.parametrize("private", [True, False])
def test_one_large_offer_to_each_holder_keeps_nobody_away(private: bool, tmp_path: Path) -> None:
    """Not with nothing sent, and not with a byte that was synced, for as long as that is kept."""

    async def story(world: World) -> None:
        machines = await start(world, 4, 20 * GB if private else 120 * GB)
        async with world.client("attacker") as attacker:
            for machine in machines:
                await offer(attacker, machine, b"a" * 16, 11 * GIB)
            await assert_serves(world, 4)
            for machine in machines:
                await send(attacker, machine, b"a" * 16, 0, b"x")
        await assert_serves(world, 4)
        await trio.sleep(3 * 3600)
        await assert_serves(world, 4)
        assert {machine.serving.store.usage().uploads for machine in machines} == {1}

    run_world(1, tmp_path, story, private=private)


def test_empty_offers_that_fill_the_table_keep_no_other_host_away(tmp_path: Path) -> None:
    """The upload that gave its place up is told why."""

    async def story(world: World) -> None:
        machines = await start(world, 2, 20 * GB)
        async with world.client("attacker") as attacker:
            for machine in machines:
                for number in range(MAX_UPLOADS):
                    await offer(attacker, machine, number.to_bytes(16, "big"), 0)
            assert {machine.serving.store.usage().uploads for machine in machines} == {MAX_UPLOADS}
            await assert_serves(world, 2)
            with pytest.raises(RemoteError) as refused:
                await send(attacker, machines[0], bytes(16), 0, b"x")
            assert (refused.value.status, refused.value.reason) == (Status.FULL, Reason.UPLOADS)
            with pytest.raises(RemoteError) as refused:
                await send(attacker, machines[0], b"n" * 16, 0, b"x")
            assert refused.value.status is Status.NOT_FOUND

    run_world(2, tmp_path, story)


def test_bytes_that_fill_every_node_and_are_never_committed_give_way(tmp_path: Path) -> None:
    """Also in what the nodes tell of their room, or nobody would ask them."""

    async def story(world: World) -> None:
        machines = await start(world, 4, 4_000_000)
        async with world.client("attacker") as attacker:
            for machine in machines:
                await offer(attacker, machine, b"a" * 16, 0)
                with pytest.raises(RemoteError) as refused:
                    await send_all(attacker, machine, b"a" * 16, 100)
                assert refused.value.reason is Reason.CAPACITY
        assert max(machine.serving.store.usage().available_bytes for machine in machines) < BLOCK_BYTES
        await trio.sleep(1200)
        await assert_serves(world, 4)

    run_world(4, tmp_path, story)


def test_a_publisher_on_a_slow_line_finishes_beside_a_host_that_trickles(tmp_path: Path) -> None:
    """The other host offers all the room there is, over and over, and sends a block a minute to each of its uploads."""

    async def squat(world: World, attacker: Node, machine: Machine, capacity: int) -> None:
        sent = dict.fromkeys([world.rng.randbytes(16) for _ in range(UPLOADS_EACH)], 0)
        while True:
            for upload_id in list(sent):
                try:
                    await offer(attacker, machine, upload_id, capacity - 2_000_000)
                    await send(attacker, machine, upload_id, sent[upload_id], bytes(BLOCK_BYTES))
                    sent[upload_id] += 1
                except RemoteError:
                    del sent[upload_id]
                    sent[world.rng.randbytes(16)] = 0
            await trio.sleep(60)

    async def story(world: World) -> None:
        machines = await start(world, SHARES, 60_000_000)
        data = world.rng.randbytes(3_000_000)
        async with world.client("attacker") as attacker, trio.open_nursery() as nursery:
            for machine in machines:
                nursery.start_soon(squat, world, attacker, machine, 60_000_000)
            await trio.sleep(300)
            begun = trio.current_time()
            published = await publish(world, data, SHARES, NodeSettings(up_bytes_per_s=ONE_MBIT), NEEDED)
            assert published.complete
            assert trio.current_time() - begun >= SHARES / NEEDED * len(data) / ONE_MBIT
            nursery.cancel_scope.cancel()
        assert await fetched(world, published) == data

    run_world(3, tmp_path, story)
