"""Publishing to holders that refuse, stall, lie and forget; and being cancelled at any moment.

One network serves many cases. Whatever a few holders do, a publish ends soon, counts only shares that were acknowledged
by a valid statement, puts the others elsewhere, and leaves no task behind.
"""

import os
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from kit.cases import case
from kit.lying import handlers
from kit.worlds import chunks, start_nodes
from shoal.dht import Address, Identity, Reach
from shoal.erasure import Manifest
from shoal.node import NoPeers, Published, Refused, TooFewShares
from shoal.node.channel import (
    Announce,
    Announced,
    Buffer,
    Caller,
    Commit,
    Committed,
    Offer,
    Put,
    Reply,
    RequestError,
    Settle,
    Settled,
    Status,
    Write,
)
from shoal.node.holders.statements import make_statement, read_statement
from shoal.node.node import Node
from shoal.simulation.world import Machine, World, run_world

Handler = Callable[[Caller, Any, Buffer], Awaitable[Reply]]
Lie = Callable[["Liar", Any, Buffer], Awaitable[Reply]]

K, N = 4, 10
NODES = 14
LIARS = NODES - N
MOMENTS = 15  # thrice so many operations are cancelled at random moments
SOON_S = 200.0  # a stall is noticed after 35 s, and those who replace it one after the other may stall as well
NOBODY = Caller(Address("10.0.0.1", 1))


class Liar:
    """A machine's holder whose answers to one kind of request are tampered with."""

    def __init__(self, machine: Machine, request: type, rng: random.Random) -> None:
        assert machine.node is not None
        self.machine = machine
        self.environment = machine.environment
        self.context = machine.node.context
        self.identity = self.context.dht.identity
        self.request = request
        self.handlers = handlers(machine)  # its node may be over before it repents
        self.honest = self.handlers[request]
        self.rng = rng
        self.over = trio.Event()

    def tell(self, lie: Lie) -> None:
        async def handler(caller: Caller, request: Any, payload: Buffer) -> Reply:
            return await lie(self, request, payload)

        self.handlers[self.request] = handler

    def repent(self) -> None:
        self.handlers[self.request] = self.honest
        self.over.set()

    def statement(self, file_id: bytes, share: int, **changes: Any) -> bytes:
        """A statement of this holder, or one with some things changed."""
        context = self.context
        fields = {
            "identity": self.identity,
            "network_id": context.network.network_id,
            "file_id": file_id,
            "share": share,
            "reach": Reach.of(self.machine.address),
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


OPERATIONS = ("shoal.node.publishing.", "shoal.node.fetching.", "shoal.node.holders.search.")


def operations() -> list[str]:
    """Names of the tasks, in this whole run of trio, that belong to a publish or a fetch."""
    found, tasks = [], [trio.lowlevel.current_root_task()]
    while tasks:
        task = tasks.pop()
        assert task is not None
        found += [task.name for place in OPERATIONS if place in task.name]
        tasks += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
    return found


async def publish(world: World, data: bytes, limit_s: float = SOON_S) -> Published:
    with trio.fail_after(limit_s):
        async with world.client(f"publisher {world.rng.random()}") as client:
            published = await client.publish(chunks(data, 100_000), needed=K, total=N, happy=N)
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


def says(status: Status) -> Lie:
    async def lie(liar: Liar, request: Any, payload: Buffer) -> Reply:
        raise RequestError(status, text="because")

    return lie


async def never(liar: Liar, request: Any, payload: Buffer) -> Reply:
    await liar.over.wait()
    raise RequestError(Status.BUSY)


def edited(**changes: Any) -> Lie:
    async def lie(liar: Liar, request: Any, payload: Buffer) -> Reply:
        reply: Any = await liar.honest(NOBODY, request, payload)
        changed: Reply = replace(reply, **changes)
        return changed

    return lie


def states(make: Callable[[Liar, bytes, int], bytes]) -> Lie:
    """Commit honestly, and hand out another statement."""

    async def lie(liar: Liar, request: Commit | Put, payload: Buffer) -> Reply:
        reply: Any = await liar.honest(NOBODY, request, payload)
        context = liar.context
        told = read_statement(reply.statement, context.network.network_id, context.env.scheme, context.env.wall())
        return Committed(reply.lease_end, make(liar, told.file_id, told.share))

    return lie


def of_another(liar: Liar) -> Identity:
    return Identity.create(0, liar.rng.randbytes, liar.environment.scheme)


def an_hour_ago(liar: Liar) -> float:
    now: float = liar.environment.wall()
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
        file_id, share, lease_end=int(liar.environment.wall()) + 60
    ),
    "an endless lease": lambda liar, file_id, share: liar.statement(file_id, share, lease_end=2**52),
    "garbage": lambda liar, file_id, share: liar.rng.randbytes(200),
    "nothing": lambda liar, file_id, share: b"",
}

UNHELPFUL: dict[str, tuple[type, Lie]] = {
    "refuses to write": (Write, says(Status.FULL)),
    "knows no upload": (Write, says(Status.NOT_FOUND)),
    "busy": (Write, says(Status.BUSY)),
    "stalls in write": (Write, never),
    "received less": (Write, edited(received_blocks=0)),
    "refuses to commit": (Commit, says(Status.REFUSED)),
    "fails to commit": (Commit, says(Status.INTERNAL)),
    "stalls in commit": (Commit, never),
    "has it already": (Offer, edited(durable_blocks=2**30)),
    "stalls in offer": (Offer, never),
    "refuses the offer": (Offer, says(Status.FULL)),
    **{f"states {name}": (Commit, states(make)) for name, make in WRONG_STATEMENTS.items()},
    "refuses a put": (Put, says(Status.FULL)),
    "fails in a put": (Put, says(Status.INTERNAL)),
    "busy in a put": (Put, says(Status.BUSY)),
    "stalls in a put": (Put, never),
    **{f"states {name} in a put": (Put, states(make)) for name, make in WRONG_STATEMENTS.items()},
}


def data_for(world: World, request: type) -> bytes:
    """A file that is published with such requests: a small one is put, and others are offered, written, committed."""
    return world.rng.randbytes(20_000 if request is Put else 70_000)


@pytest.mark.parametrize("seed", [1])
def test_unhelpful_holders_are_replaced(seed: int, tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await start_nodes(world, NODES, 20)
        for name, (request, lie) in UNHELPFUL.items():
            liars = world.rng.sample(world.running(), LIARS)
            data = data_for(world, request)
            with case(name):
                with lying(liars, request, lie, world.rng):
                    published = await publish(world, data)
                assert published.complete
                assert published.shares == N
                assert not {machine.name for machine in liars} & set(holders_of(world, published))
                assert not operations()
        assert await fetch(world, published) == data

    run_world(seed, tmp_path, story)


def test_too_many_unhelpful_holders_are_told_honestly(tmp_path: Path) -> None:
    """As many shares as there are honest hosts, and that is not complete; with fewer than k no link; and both soon.

    Of ten shares at least k go to honest hosts at once, where eight of fourteen are honest.
    """

    async def story(world: World) -> None:
        await start_nodes(world, NODES, 20)
        for name in ("refuses to write", "stalls in write", "stalls in commit", "states garbage", "stalls in offer"):
            request, lie = UNHELPFUL[name]
            order = world.rng.sample(world.running(), NODES)
            honest = K + 1 if request is Offer else 8
            with case(name):
                with lying(order[honest:], request, lie, world.rng):
                    published = await publish(world, data_for(world, request), 2 * SOON_S)
                assert (published.shares, published.complete) == (honest, False)
                assert sum(published.refusals.values()) >= N - honest
                with lying(order[K - 1 :], request, lie, world.rng), pytest.raises((Refused, NoPeers)):
                    await publish(world, data_for(world, request), 2 * SOON_S)
                assert not operations()

    run_world(3, tmp_path, story)


def test_where_nobody_takes_a_put_the_file_goes_the_usual_way(tmp_path: Path) -> None:
    """What some have taken by then is withdrawn: they drop it."""

    async def story(world: World) -> None:
        await start_nodes(world, NODES, 20)
        data = world.rng.randbytes(20_000)
        order = world.rng.sample(world.running(), NODES)
        for honest, lie in ((0, says(Status.UNSUPPORTED)), (K - 1, says(Status.REFUSED))):
            with lying(order[honest:], Put, lie, world.rng):
                published = await publish(world, data, 2 * SOON_S)
            assert published.complete
            assert published.shares == N
            assert await fetch(world, published) == data
        stores = [machine.serving.store for machine in world.running()]
        assert sum(len(store.files()) for store in stores) == 2 * N

    run_world(5, tmp_path, story)


async def acknowledges_and_forgets(liar: Liar, request: Commit, payload: Buffer) -> Reply:
    statement = liar.statement(Manifest.decode(bytes(payload)).id, request.share_number)
    return Committed(int(liar.environment.wall()) + 90 * 86400, statement)


def test_holders_that_acknowledge_and_forget(tmp_path: Path) -> None:
    """Nobody can tell at once. The file can be read all the same, from the others."""

    async def story(world: World) -> None:
        await start_nodes(world, NODES, 20)
        data = data_for(world, Commit)
        order = world.rng.sample(world.running(), NODES)
        with lying(order[K:], Commit, acknowledges_and_forgets, world.rng):
            published = await publish(world, data)
        assert published.shares == N
        good = [machine for machine in order[:K] if machine.name in holders_of(world, published)]
        if len(good) < K:
            with pytest.raises(TooFewShares) as caught:
                await fetch(world, published)
            assert caught.value.found == len(good)
        else:
            assert await fetch(world, published) == data

    for seed in (4, 5):
        run_world(seed, tmp_path / str(seed), story)


def test_a_lost_share_cannot_be_rebuilt_from_those_who_forgot(tmp_path: Path) -> None:
    """Some fail to commit, and most of the others have forgotten: the shares that were acknowledged are reported."""

    async def story(world: World) -> None:
        await start_nodes(world, NODES, 20)
        order = world.rng.sample(world.running(), NODES)

        async def lie(liar: Liar, request: Commit, payload: Buffer) -> Reply:
            if liar.machine in order[:2]:
                raise RequestError(Status.INTERNAL)
            return await acknowledges_and_forgets(liar, request, payload)

        with lying(order, Commit, lie, world.rng):
            published = await publish(world, data_for(world, Commit))
        assert published.shares >= N - 2
        assert not published.findable  # nobody who keeps it has announced it

    run_world(7, tmp_path, story)


ANNOUNCEMENTS: dict[str, tuple[tuple[int, ...], ...]] = {
    "nothing": (),
    "more stored than asked": ((0, 1, 5), (1, 2, 20), (2, 0, 1)),
    "huge numbers": tuple((number, 2**60, 2**61) for number in range(3)),
    "unknown classes": ((3, 20, 20), (2**31, 20, 20), (255, 20, 20)),
    "too few": ((0, 20, 1), (1, 20, 0), (2, 20, 9)),
    "no closest": ((0, 0, 0), (1, 0, 0), (2, 0, 0)),
}


def test_lies_about_announcements(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await start_nodes(world, NODES, 20)
        lies: dict[str, Lie] = {name: announces(rows) for name, rows in ANNOUNCEMENTS.items()}
        lies |= {"never": never, "internal": says(Status.INTERNAL)}
        for name, lie in lies.items():
            with case(name):
                everybody = world.running()
                with lying(everybody, Announce, lie, world.rng), lying(everybody, Settle, lie, world.rng):
                    assert not (await publish(world, b"unfindable", 2 * SOON_S)).findable
                liars = world.rng.sample(everybody, LIARS)
                with lying(liars, Announce, lie, world.rng), lying(liars, Settle, lie, world.rng):
                    published = await publish(world, b"findable", 2 * SOON_S)
                assert published.findable
        assert await fetch(world, published) == b"findable"

    run_world(8, tmp_path, story)


def announces(rows: tuple[tuple[int, ...], ...]) -> Lie:
    async def lie(liar: Liar, request: Announce | Settle, payload: Buffer) -> Reply:
        return Settled(N, rows) if isinstance(request, Settle) else Announced(rows)

    return lie


@pytest.mark.parametrize("last", [Commit, Put])
def test_holders_that_die_between_commit_and_announcement(last: type, tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await start_nodes(world, NODES, 20)
        doomed = [machine.name for machine in world.rng.sample(world.running()[1:], LIARS)]
        committed = 0

        async def lie(liar: Liar, request: Commit | Put, payload: Buffer) -> Reply:
            nonlocal committed
            reply: Reply = await liar.honest(NOBODY, request, payload)
            committed += 1
            if committed == N:
                for name in doomed:
                    await world.crash(name)
            return reply

        data = data_for(world, last)
        with lying(world.running(), last, lie, world.rng):
            published = await publish(world, data)
        assert published.findable
        assert await fetch(world, published) == data

    for seed in (9, 10):
        run_world(seed, tmp_path / str(seed), story)


def test_a_holder_that_is_full_half_way(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(random.Random(1).randbytes(12_000_000))

    async def story(world: World) -> None:
        await start_nodes(world, NODES, 20)

        async def lie(liar: Liar, request: Write, payload: Buffer) -> Reply:
            if request.first_block:
                raise RequestError(Status.FULL, text="no room left")
            reply: Reply = await liar.honest(NOBODY, request, payload)
            return reply

        liars = world.rng.sample(world.running(), LIARS)
        peak = 0
        with lying(liars, Write, lie, world.rng):
            async with world.client("publisher") as client, trio.open_nursery() as nursery:

                async def watch() -> None:
                    nonlocal peak
                    while True:
                        peak = max(peak, len(operations()))
                        await trio.sleep(0.1)

                nursery.start_soon(watch)
                with trio.fail_after(SOON_S):
                    published = await client.publish(source, needed=K, total=N)
                nursery.cancel_scope.cancel()
        assert published.complete
        assert published.shares == N
        assert 0 < peak <= 2 * N  # one task for each lane, and the few that feed them
        assert not {machine.name for machine in liars} & set(holders_of(world, published))
        assert await fetch(world, published) == source.read_bytes()

    run_world(12, tmp_path / "world", story)


# --- cancelled at any moment


def leftovers(client: Node) -> list[str]:
    """Tasks of operations, and connections in use, that an interrupted operation has left behind."""
    return operations() + [str(key) for key in client.context.pool.in_use()]


def test_cancelled_at_any_moment(tmp_path: Path) -> None:
    source, target, folder = tmp_path / "source", tmp_path / "target", tmp_path / "world"
    source.write_bytes(random.Random(1).randbytes(50_000))

    async def story(world: World) -> None:
        await start_nodes(world, 6, 20)
        async with world.client("impatient") as client:
            await client.wait_joined()
            journals = client.home.journal_folder
            begun = trio.current_time()
            published = await client.publish(source, needed=2, total=5)
            whole_s = trio.current_time() - begun
            begun = trio.current_time()
            await client.fetch(published.link, target)
            fetch_s = trio.current_time() - begun
            target.unlink()
            for _ in range(MOMENTS):
                with trio.move_on_after(world.rng.uniform(0, whole_s)):
                    await client.publish(chunks(b"stream", 100_000), needed=2, total=5)
                assert not leftovers(client)
                assert not journals.exists() or not os.listdir(journals)
                with trio.move_on_after(world.rng.uniform(0, whole_s)):
                    await client.publish(source, needed=2, total=5)
                assert not leftovers(client)
                again = await client.publish(source, needed=2, total=5)
                assert again.complete
                assert not os.listdir(journals)
                with trio.move_on_after(world.rng.uniform(0, fetch_s)) as scope:
                    await client.fetch(again.link, target)
                assert not leftovers(client)
                if scope.cancelled_caught:
                    assert not [name for name in os.listdir(tmp_path) if name.startswith("target")]
                    await client.fetch(again.link, target)
                assert target.read_bytes() == source.read_bytes()
                target.unlink()
            await trio.sleep(100)
            assert not len(client.context.pool)
        assert not [stream for stream in world.streams.open_streams() if client_of(stream, world)]

    run_world(13, folder, story)


def client_of(stream: Any, world: World) -> bool:
    """Whether one end of a stream is not a volunteer's."""
    hosts = {machine.host for machine in world.machines.values()}
    return not {stream.local.host, stream.remote.host} <= hosts
