"""Simulated worlds: nodes that run, a file they keep, and questions about who keeps what."""

from collections.abc import AsyncIterator, Callable
from typing import NamedTuple

import trio

from shoal.dht import Identity, NodeId
from shoal.node import Published
from shoal.node.care.caretaker import Caretaker
from shoal.node.publishing.options import DEFAULT_TTL_S
from shoal.simulation.world import Machine, World


async def chunks(data: bytes, step: int | None = None) -> AsyncIterator[bytes]:
    """The data as a source of a publish: in one piece, or in pieces of `step` bytes."""
    if step is None:
        yield data
        return
    for start in range(0, len(data), step):
        yield data[start : start + step]


async def start_nodes(world: World, count: int, settle_s: float = 60.0) -> None:
    """Start `node-0` to `node-<count - 1>`, and give them time to find each other."""
    for number in range(count):
        await world.start(f"node-{number}")
    await trio.sleep(settle_s)


async def publish(
    world: World,
    data: bytes,
    *,
    needed: int | None = None,
    total: int | None = None,
    name: str | None = None,
    ttl_s: int = DEFAULT_TTL_S,
    step: int | None = None,
) -> Published:
    """Publish from a client of the name `publisher`. Every share is placed."""
    async with world.client("publisher") as client:
        published = await client.publish(chunks(data, step), name=name, needed=needed, total=total, ttl_s=ttl_s)
    assert published.complete
    return published


class Prepared(NamedTuple):
    """A file that was published in a world."""

    published: Published
    data: bytes
    holders: list[Machine]  # of its shares, by share number


async def prepare(
    world: World,
    nodes: int,
    data: bytes | int = 60_000,
    *,
    needed: int = 4,
    total: int = 12,
    settle_s: float = 60.0,
    name: str | None = None,
    ttl_s: int = DEFAULT_TTL_S,
) -> Prepared:
    """Start nodes and publish a file of `data`, or of so many random bytes."""
    await start_nodes(world, nodes, settle_s)
    content = world.rng.randbytes(data) if isinstance(data, int) else data
    published = await publish(world, content, needed=needed, total=total, name=name, ttl_s=ttl_s)
    return Prepared(published, content, holders(world, published))


def holders(world: World, published: Published) -> list[Machine]:
    """The machines that took the shares of a publish, by share number."""
    by_host = {machine.host: machine for machine in world.machines.values()}
    return [by_host[address.host] for _, address in sorted(published.holders.items())]


def keepers(world: World, published: Published) -> dict[int, list[str]]:
    """Each share that a running machine keeps now, and the names of the machines that do."""
    found: dict[int, list[str]] = {}
    for machine in world.running():
        for share in shares_of(machine, published.link.id):
            found.setdefault(share, []).append(machine.name)
    return found


def shares_of(machine: Machine, file_id: bytes) -> list[int]:
    """The numbers of the shares of a file that a running machine keeps."""
    return [each.share_number for each in machine.serving.store.held(file_id)]


async def fetched(world: World, published: Published, name: str | None = None, *, through: str | None = None) -> bytes:
    """The whole file, as a fresh client reads it.

    name: the client's; by default a random one.    through: the machine that the client knows.
    """
    client = world.client(name or f"reader {world.rng.random()}", through=through)
    async with client as node, node.open_fetch(published.link) as file:
        return b"".join([chunk async for chunk in file])


def node_id(machine: Machine) -> NodeId:
    """The id of a running machine's node."""
    assert machine.node is not None
    return machine.node.node_id


def identity_of(machine: Machine) -> Identity:
    """The identity of a running machine's node."""
    assert machine.node is not None
    return machine.node.context.dht.identity


def caretaker_of(machine: Machine) -> Caretaker:
    """What looks after the files of a running machine."""
    caretaker = machine.serving.caretaker
    assert caretaker is not None
    return caretaker


async def until(holds: Callable[[], bool], most_s: float, step_s: float) -> None:
    """Wait until something holds, and look every `step_s`. It has to hold within `most_s`."""
    for _ in range(round(most_s / step_s)):
        if holds():
            return
        await trio.sleep(step_s)
    assert holds(), f"not within {most_s:g} s"
