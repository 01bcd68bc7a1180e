"""What one stranger brings holds up no file of another's: the rules, and a whole node that is full of stubs."""

import random
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing

from kit import stores
from kit.lying import handlers
from kit.stages import findings, manifest
from kit.worlds import caretaker_of, keepers, node_id, prepare, shares_of, start_nodes, until
from shoal.dht import Contact, NetworkParameters
from shoal.erasure import FileId
from shoal.node import Node
from shoal.node.care.fairness import OWED_EVERY_S, FairPlaces, Ration, in_turn
from shoal.node.care.mending import COMPLETED_PER_EPOCH, MENDS_QUEUED, RETURNED_TOGETHER, Mender
from shoal.node.channel import Buffer, Caller, Commit, Offer, Reply, RequestError, Status, TellHolders, Write
from shoal.node.holders.outcome import Outcome
from shoal.node.holders.statements import pack_statements
from shoal.simulation.world import Machine, World, run_world

A, B, C = b"a", b"b", b"c"
MINUTE_S = 60.0
DAY_S = 86_400.0
STUBS = 260  # more than one look takes, and more than there are places for repairs
STUB_BYTES = 64


# --- the rules


def test_every_group_has_its_turn_and_the_most_urgent_of_each_comes_first() -> None:
    items = [(A, 1), (A, 2), (A, 3), (B, 9), (A, 4), (C, 5), (B, 7)]
    ordered = in_turn(items, lambda each: each[0], lambda each: each[1])
    assert ordered == [(A, 1), (C, 5), (B, 7), (A, 2), (B, 9), (A, 3), (A, 4)]
    assert in_turn(items, lambda each: each[0]) == [(A, 1), (B, 9), (C, 5), (A, 2), (B, 7), (A, 3), (A, 4)]


@pytest.mark.parametrize(("count", "alone"), [(4, 3), (64, 48)])
def test_one_group_gets_three_quarters_of_the_places(count: int, alone: int) -> None:
    places = FairPlaces(count)
    assert sum(places.take(A) for _ in range(2 * count)) == alone
    assert places.take(B)
    places.give_back(B)
    for _ in range(alone):
        places.give_back(A)
    assert places.held(A) == 0


@pytest.mark.parametrize(("greedy", "is_admitted"), [(1, True), (3, True), (4, False), (9, False)])
def test_a_newcomer_finds_a_place_or_gets_the_next_that_is_free(greedy: int, is_admitted: bool) -> None:
    places = FairPlaces(64)
    for group in range(greedy):
        while places.take(bytes([group])):
            pass
    assert places.take(C) is is_admitted
    if not is_admitted:
        places.give_back(bytes([0]))
        assert not any(places.take(bytes([group])) for group in range(2))
        assert places.take(C)


async def test_of_those_that_wait_the_group_that_has_least_comes_first(autojump_clock: trio.testing.MockClock) -> None:
    places, order = FairPlaces(4), []

    async def wait(group: bytes, until: float) -> None:
        order.append((group, await places.wait(group, until)))

    assert all(places.take(A) for _ in range(3))
    assert places.take(B)
    async with trio.open_nursery() as nursery:
        for group, until in ((A, 100.0), (C, 5.0), (A, 100.0), (B, 100.0), (C, 100.0)):
            nursery.start_soon(wait, group, trio.current_time() + until)
            await trio.testing.wait_all_tasks_blocked()
        await trio.sleep(10)
        assert order == [(C, False)]
        for group in (A, A, C, B):
            places.give_back(group)
            await trio.testing.wait_all_tasks_blocked()
        assert order[1:] == [(C, True), (A, True), (B, True), (A, True)]


async def test_a_group_with_two_places_owes_one_to_a_group_with_none(autojump_clock: trio.testing.MockClock) -> None:
    """Each of the three that have had theirs for an hour would give it back; once one has, the others keep theirs."""
    places, hour_s, rng, gave = FairPlaces(4), 3600.0, random.Random(1), []

    async def hold(group: bytes) -> None:
        assert places.take(group)
        await places.owed(group, hour_s, rng)
        gave.append((group, trio.current_time()))
        places.give_back(group)

    async with trio.open_nursery() as nursery:
        for group in (A, A, A, B):
            nursery.start_soon(hold, group)
        await trio.sleep(3 * hour_s)
        assert gave == [], "nobody waits"
        begun = trio.current_time()
        assert await places.wait(C, begun + OWED_EVERY_S)
        assert await places.wait(b"d", trio.current_time() + OWED_EVERY_S)
        assert not await places.wait(b"e", trio.current_time() + 3 * hour_s), "each group has one now"
        assert [group for group, _ in gave] == [A, A]
        assert gave[-1][1] <= begun + 2 * OWED_EVERY_S
        nursery.cancel_scope.cancel()


async def test_a_place_given_to_one_that_is_cancelled_is_not_lost(
    autojump_clock: trio.testing.MockClock,
) -> None:
    places = FairPlaces(1)
    assert places.take(A)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(places.wait, B, 1e9)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
        places.give_back(A)
    assert places.held(B) == 0
    assert places.take(C)


def test_each_group_has_its_ration_and_gets_it_back_with_time() -> None:
    ration = Ration(4, DAY_S)
    for _ in range(4):
        assert ration.is_left(A, 0.0)
        ration.spend(A, 0.0)
    assert not ration.is_left(A, DAY_S / 4 - 1)
    assert ration.is_left(A, DAY_S / 4)
    assert ration.is_left(B, 0.0)
    ration.spend(B, DAY_S)
    assert len(ration) == 1, "nothing is remembered of a group that has all again"


def mender(called: list[FileId]) -> Mender:
    context: Any = SimpleNamespace(network=NetworkParameters("test"))
    return Mender(context, set(), called.extend)


async def test_a_source_has_so_many_files_completed_in_an_epoch_and_any_number_mended(
    autojump_clock: trio.testing.MockClock,
) -> None:
    called: list[FileId] = []
    repairs = mender(called)

    def begins(number: int, group: bytes, *, has_lost: bool) -> bool:
        file_id = FileId(number.to_bytes(32, "big"))
        has_place = repairs.has_place(group, has_lost=has_lost)
        begun = repairs.reserve(file_id, group, has_lost=has_lost)
        assert begun is has_place
        if begun:
            repairs.release(file_id)
        return begun

    assert sum(begins(number, A, has_lost=False) for number in range(2 * COMPLETED_PER_EPOCH)) == COMPLETED_PER_EPOCH
    assert begins(9999, A, has_lost=True)
    assert begins(9999, B, has_lost=False)
    await trio.sleep(DAY_S / COMPLETED_PER_EPOCH + 1)
    assert begins(9999, A, has_lost=False)
    assert called == [], "their next turn is soon enough"


async def test_a_file_without_a_place_is_returned_to_when_its_source_has_few() -> None:
    called: list[FileId] = []
    repairs = mender(called)
    files = [FileId(bytes([number]) * 32) for number in range(60)]
    begun = [each for each in files if repairs.reserve(each, A)]
    assert begun == files[:48]
    assert not repairs.has_place(A)
    assert repairs.reserve(FileId(b"b" * 32), B)
    assert not repairs.reserve(files[0], B), "it is being repaired"
    repairs.forget(files[48])
    for each in begun[: 48 - RETURNED_TOGETHER - 1]:
        repairs.release(each)
    repairs.call_back()
    assert called == []
    repairs.release(begun[-1])
    assert called == files[49:]
    repairs.call_back()
    assert called == files[49:], "each once"
    assert repairs.reserve(files[50], A)


def test_what_was_never_placed_is_no_emergency() -> None:
    """A stub, and a file that fell short; of the latter a holder may then be silent."""
    found = findings(3, k=3)
    short = replace(found, file=replace(found.file, manifest=manifest(3, 12)))
    silent = (*short.observations[:2], replace(short.observations[2], outcome=Outcome.OFFLINE))
    hurt = replace(short, observations=silent)
    assert short.health.is_emergency
    assert (short.has_lost, short.is_emergency) == (False, False)
    assert (hurt.has_lost, hurt.is_emergency) == (True, True)


# --- a whole node


async def bring(stranger: Node, host: Machine, file: stores.Published, share: int = 0) -> bytes:
    """Store one share of a tiny file, by hand; the host's statement."""
    contact, ask, upload = Contact(node_id(host), host.address), stranger.context.ask, file.file_id[:16]
    await ask(contact, Offer(upload, STUB_BYTES, 86_400, b""))
    await ask(contact, Write(upload, 0, file.data_leaves[0], False), payload=[file.blocks[share][0]])
    committed = await ask(contact, Commit(upload, share, 30 * 86_400), payload=[file.encoded])
    return committed.statement


async def bring_stubs(stranger: Node, host: Machine, count: int) -> list[FileId]:
    """Store stubs: one share of each of so many files that are to have 64."""
    files = [stores.publish(1, STUB_BYTES, k=1, n=64, seed=number) for number in range(count)]
    for file in files:
        await bring(stranger, host, file)
    return [FileId(file.file_id) for file in files]


def refuse_stubs(machine: Machine, after_s: float) -> None:
    """Have a host say after a while that it has no room for a stub, as the stranger's own hosts may."""
    honest = handlers(machine)[Offer]

    async def offer(caller: Caller, request: Offer, payload: Buffer) -> Reply:
        if request.size_bound_bytes == STUB_BYTES:
            await trio.sleep(after_s)
            raise RequestError(Status.FULL)
        return await honest(caller, request, payload)

    handlers(machine)[Offer] = offer


def test_a_strangers_stubs_do_not_delay_the_repair_of_an_endangered_file(tmp_path: Path) -> None:
    """All are due together, the stubs first. Without them the file is whole again after 40 s."""

    async def story(world: World) -> None:
        published, _, first = await prepare(world, 20)
        victim = first[-1]
        async with world.client("stranger") as stranger:
            stubs = await bring_stubs(stranger, victim, STUBS)
        for machine in world.running():
            refuse_stubs(machine, 25.0)
        for machine in first[:8]:
            await world.retire(machine.name)
        care, now = caretaker_of(victim), victim.clock.read()
        for file_id in (*stubs, FileId(published.link.id)):
            care.turns.return_to(file_id, now)
        begun = trio.current_time()
        while len(keepers(world, published)) < published.n:
            await trio.sleep(5)
            assert trio.current_time() < begun + 2 * MINUTE_S
        assert care.looks.mender.busy, "the stubs are still being seen to"

    run_world(71, tmp_path, story)


def test_a_publish_that_fell_short_is_completed_at_the_next_turns(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await start_nodes(world, 9)
        file = stores.publish(1, STUB_BYTES, k=2, n=6)
        async with world.client("publisher") as client:
            hosts = world.running()[:4]
            told = pack_statements([await bring(client, host, file, share) for share, host in enumerate(hosts)])
            for host in hosts:
                contact = Contact(node_id(host), host.address)
                await client.context.ask(contact, TellHolders(file.file_id), payload=[told])
        await until(
            lambda: len([each for each in world.running() if shares_of(each, file.file_id)]) == 6, 2 * DAY_S, 600
        )

    run_world(72, tmp_path, story)


def test_a_source_that_is_alone_has_more_files_seen_to_than_there_are_places(tmp_path: Path) -> None:
    """Those that find no place are returned to when there is one, and not only at their next turns."""

    async def story(world: World) -> None:
        await start_nodes(world, 6)
        host = world.running()[0]
        async with world.client("publisher") as publisher:
            files = await bring_stubs(publisher, host, MENDS_QUEUED + 1)
        for machine in world.running():
            refuse_stubs(machine, 0.0)
        care, now = caretaker_of(host), host.clock.read()
        for file_id in files:
            care.turns.return_to(file_id, now)
        await until(lambda: len(care.looks.no_hosts) == len(files), 3 * MINUTE_S, 10.0)

    run_world(73, tmp_path, story)
