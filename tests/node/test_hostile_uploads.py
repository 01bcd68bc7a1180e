"""Publishing to holders that refuse, stall, lie and forget; and being cancelled at any moment.

One network serves many cases. Whatever a few holders do, a publish ends soon, counts only shares that were acknowledged
by a valid statement, puts the others elsewhere, and leaves no task behind.
"""

import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from shoal.dht import Address, Identity
from shoal.node import NoPeers, Published, Refused, TooFewShares
from shoal.node.channel import (
    Announce,
    Announced,
    Buffer,
    Caller,
    Commit,
    Committed,
    Offer,
    Offered,
    Read,
    Reply,
    RequestError,
    Status,
    TellHolders,
    Write,
)
from shoal.node.simulation.world import Machine, World, run_world
from shoal.node.statements import make_statement, read_statement

Handler = Callable[[Caller, Any, Buffer], Awaitable[Reply]]
Lie = Callable[["Liar", Any, Buffer], Awaitable[Reply]]

K, N = 4, 10
NODES = 14
LIARS = NODES - N
SOON_S = 150.0  # a stall is noticed after 30 s, a commit that hangs later; twice, when a replacement lies as well
NOBODY = Caller(Address("10.0.0.1", 1))


class Liar:
    """A machine's holder whose answers to one kind of request are tampered with."""

    def __init__(self, machine: Machine, request: type, rng: random.Random) -> None:
        node: Any = machine.node
        self.machine = machine
        self.holder = node._serving._holder
        self.identity: Identity = node._context.dht.identity
        self.request = request
        self.honest: Handler = self.holder._handlers[request]
        self.rng = rng
        self.over = trio.Event()

    def tell(self, lie: Lie) -> None:
        async def handler(caller: Caller, request: Any, payload: Buffer) -> Reply:
            return await lie(self, request, payload)

        self.holder._handlers[self.request] = handler

    def repent(self) -> None:
        self.holder._handlers[self.request] = self.honest
        self.over.set()

    def statement(self, file_id: bytes, share: int, **changes: Any) -> bytes:
        """A statement of this holder, or one with some things changed."""
        context = self.holder._context
        fields = {
            "identity": self.identity,
            "network_id": context.network.network_id,
            "file_id": file_id,
            "share": share,
            "address": self.machine.address,
            "lease_end": int(context.env.wall()) + 90 * 86400,
            "now": context.env.wall(),
        }
        return make_statement(**{**fields, **changes}).signed


@contextmanager
def lying(machines: Sequence[Machine], request: type, lie: Lie, rng: random.Random) -> Iterator[list[Liar]]:
    liars = [Liar(machine, request, rng) for machine in machines]
    for liar in liars:
        liar.tell(lie)
    try:
        yield liars
    finally:
        for liar in liars:
            liar.repent()


@contextmanager
def case(name: str) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        error.add_note(f"in the case {name!r}")
        raise


async def chunks(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 100_000):
        yield data[start : start + 100_000]


OPERATIONS = ("lanes", "stalls", "recruit", "settling", "publish", "gathering", "search", "reading", "fetch", "rebuild")


def operations() -> list[str]:
    """Names of the tasks, in this whole run of trio, that belong to a publish or a fetch."""
    found, tasks = [], [trio.lowlevel.current_root_task()]
    while tasks:
        task = tasks.pop()
        assert task is not None
        found += [task.name for module in OPERATIONS if f"shoal.node.{module}." in task.name]
        tasks += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
    return found


async def populate(world: World, count: int = NODES) -> None:
    for number in range(count):
        await world.start(f"node-{number}")
    await trio.sleep(20)


async def publish(world: World, data: bytes, limit_s: float = SOON_S) -> Published:
    with trio.fail_after(limit_s):
        async with world.client(f"publisher {world.rng.random()}") as client:
            published = await client.publish(chunks(data), needed=K, total=N)
            assert not operations()
            return published


async def fetch(world: World, published: Published) -> bytes:
    with trio.fail_after(60):
        async with world.client(f"reader {world.rng.random()}") as client, client.open_fetch(published.link) as file:
            return b"".join([chunk async for chunk in file])


def holders_of(world: World, published: Published) -> list[str]:
    by_address = {machine.address: machine.name for machine in world.machines.values()}
    return [by_address[address] for address in published.holders.values()]


# --- lies


def says(status: Status, reason: str = "because") -> Lie:
    async def lie(liar: Liar, request: Any, payload: Buffer) -> Reply:
        raise RequestError(status, reason)

    return lie


async def never(liar: Liar, request: Any, payload: Buffer) -> Reply:
    await liar.over.wait()
    raise RequestError(Status.BUSY)


def edited(**changes: Any) -> Lie:
    async def lie(liar: Liar, request: Any, payload: Buffer) -> Reply:
        reply: Any = await liar.honest(NOBODY, request, payload)
        return replace(reply, **changes)

    return lie


def states(make: Callable[[Liar, bytes, int], bytes]) -> Lie:
    """Commit honestly, and hand out another statement."""

    async def lie(liar: Liar, request: Commit, payload: Buffer) -> Reply:
        reply: Any = await liar.honest(NOBODY, request, payload)
        context = liar.holder._context
        told = read_statement(reply.statement, context.network.network_id, context.env.scheme, context.env.wall())
        return Committed(reply.lease_end, make(liar, told.file_id, told.share))

    return lie


def of_another(liar: Liar) -> Identity:
    return Identity.create(0, liar.rng.randbytes, liar.holder._env.scheme)


def an_hour_ago(liar: Liar) -> float:
    now: float = liar.holder._env.wall()
    return now - 8 * 86400


WRONG_STATEMENTS: dict[str, Callable[[Liar, bytes, int], bytes]] = {
    "another share": lambda liar, file_id, share: liar.statement(file_id, (share + 1) % N),
    "another file": lambda liar, file_id, share: liar.statement(bytes(32), share),
    "another key": lambda liar, file_id, share: liar.statement(file_id, share, identity=of_another(liar)),
    "another network": lambda liar, file_id, share: liar.statement(file_id, share, network_id=bytes(8)),
    "expired": lambda liar, file_id, share: liar.statement(file_id, share, now=an_hour_ago(liar)),
    "from the future": lambda liar, file_id, share: liar.statement(file_id, share, now=2e9),
    "no lease": lambda liar, file_id, share: liar.statement(file_id, share, lease_end=0),
    "a short lease": lambda liar, file_id, share: liar.statement(
        file_id, share, lease_end=int(liar.holder._env.wall()) + 60
    ),
    "an endless lease": lambda liar, file_id, share: liar.statement(file_id, share, lease_end=2**52),
    "garbage": lambda liar, file_id, share: liar.rng.randbytes(200),
    "nothing": lambda liar, file_id, share: b"",
}

UNHELPFUL: dict[str, tuple[type, Lie]] = {
    "refuses to write": (Write, says(Status.REFUSED, "full: no room")),
    "knows no upload": (Write, says(Status.NOT_FOUND)),
    "busy": (Write, says(Status.BUSY)),
    "stalls in write": (Write, never),
    "received less": (Write, edited(received_blocks=0)),
    "refuses to commit": (Commit, says(Status.REFUSED)),
    "fails to commit": (Commit, says(Status.INTERNAL)),
    "stalls in commit": (Commit, never),
    "has it already": (Offer, edited(durable_blocks=2**30)),
    "stalls in offer": (Offer, never),
    "refuses the offer": (Offer, says(Status.REFUSED, "full: no room")),
    **{f"states {name}": (Commit, states(make)) for name, make in WRONG_STATEMENTS.items()},
}


@pytest.mark.parametrize("seed", [1])
def test_unhelpful_holders_are_replaced(seed: int, tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await populate(world)
        for name, (request, lie) in UNHELPFUL.items():
            liars = world.rng.sample(world.running(), LIARS)
            data = world.rng.randbytes(20_000)
            with case(name):
                with lying(liars, request, lie, world.rng):
                    published = await publish(world, data)
                assert published.complete
                assert published.shares == N
                assert not {machine.name for machine in liars} & set(holders_of(world, published))
                assert await fetch(world, published) == data
                assert not operations()

    run_world(seed, tmp_path, story)
