"""A machine whose clock is wrong mends nothing: it cannot tell what is missing."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from kit.worlds import chunks
from shoal.dht import Address, Contact, NodeId
from shoal.erasure import FileId
from shoal.node import Level
from shoal.node.care.asking import Asker
from shoal.node.care.clocks import LEAST_PEERS, ClockComparison
from shoal.node.care.counts import RoundCounts
from shoal.node.care.doubts import Doubts
from shoal.node.care.presence import Presence
from shoal.node.holders.outcome import Outcome
from shoal.simulation.world import Machine, World, run_world

HOUR_S = 3600.0
K, N, NODES = 4, 12, 20


def test_it_takes_some_peers_to_know_that_a_clock_misleads() -> None:
    clocks = ClockComparison()
    for number in range(LEAST_PEERS):
        assert not clocks.misleads(0.0)
        clocks.note(NodeId(bytes([number]) * 32), 3 * HOUR_S, 0.0, 0.0)
    assert clocks.misleads(0.0)
    assert clocks.agrees(0.0), "a lease is counted in days"
    assert not clocks.misleads(30 * 24 * HOUR_S), "that was long ago"


def test_a_clock_that_is_none_is_not_noted() -> None:
    clocks = ClockComparison()
    for number, clock in enumerate([2**64 - 1, 2**63, 2**40 + 1]):
        clocks.note(bytes([number]), float(clock), 1.8e9, 0.0)
    assert clocks.peers_ahead_s(0.0, least=1) is None
    clocks.note(b"honest", 1.8e9 + HOUR_S, 1.8e9, 0.0)
    assert clocks.peers_ahead_s(0.0, least=1) == HOUR_S
    clocks.note(b"honest", 2.0**64, 1.8e9, 0.0)
    assert clocks.peers_ahead_s(0.0, least=1) == HOUR_S


@pytest.mark.parametrize("lie_s", [1e9, -1e9])
@pytest.mark.parametrize("true_s", [0.0, 600.0, -600.0])
def test_of_two_clocks_in_the_middle_the_one_nearer_to_ours_counts(lie_s: float, true_s: float) -> None:
    """Their mean is the clock of nobody."""
    clocks = ClockComparison()
    clocks.note(b"honest", 1.8e9 + true_s, 1.8e9, 0.0)
    clocks.note(b"liar", 1.8e9 + lie_s, 1.8e9, 0.0)
    assert clocks.peers_ahead_s(0.0, least=1) == true_s


async def note_answers(answers: list[tuple[Contact, float]], *, private: bool, doubts: Doubts) -> ClockComparison:
    """What a round makes of peers whose clocks are so far ahead."""
    context: Any = SimpleNamespace(
        network=SimpleNamespace(private=private),
        env=SimpleNamespace(wall=lambda: 1.8e9),
        counted=lambda contact: contact,
    )
    clocks = ClockComparison()
    presence, limit = Presence(24 * HOUR_S), trio.CapacityLimiter(1)
    asker = Asker(context, NodeId(bytes(32)), presence, doubts, clocks, RoundCounts(), limit)
    for contact, ahead_s in answers:
        asker.note_answer(contact, int(1.8e9 + ahead_s))
    return clocks


def peer(number: int, host: str) -> Contact:
    return Contact(NodeId(number.to_bytes(32, "big")), Address(host, 4000 + number))


HONEST = [(peer(number, f"44.{number}.0.1"), 0.0) for number in range(1, 11)]
ONE_ADDRESS = [(peer(number, "66.6.6.6"), 3 * HOUR_S) for number in range(100, 154)]


@pytest.mark.parametrize("answers", [HONEST + ONE_ADDRESS, ONE_ADDRESS + HONEST])
def test_many_names_at_one_address_have_one_vote(answers: list[tuple[Contact, float]]) -> None:
    """Fifty ids cost next to nothing, and kept a victim from repairing anything."""

    async def story() -> None:
        clocks = await note_answers(answers, private=False, doubts=Doubts(24 * HOUR_S))
        now = trio.current_time()
        assert not clocks.misleads(now)
        assert clocks.peers_ahead_s(now, least=11) == 0.0
        assert clocks.peers_ahead_s(now, least=12) is None, "eleven hosts have answered"

    trio.run(story)


def test_in_a_private_network_every_name_has_a_vote() -> None:
    async def story() -> None:
        clocks = await note_answers(HONEST + ONE_ADDRESS, private=True, doubts=Doubts(24 * HOUR_S))
        assert clocks.misleads(trio.current_time())

    trio.run(story)


def test_peers_in_doubt_have_no_vote() -> None:
    liars = [(peer(number, f"44.{number}.0.1"), 3 * HOUR_S) for number in range(20, 40)]
    doubts = Doubts(24 * HOUR_S)
    for contact, _ in liars:
        doubts.failed(contact.node_id, FileId(bytes(32)), 0, 0.0)

    async def story() -> None:
        clocks = await note_answers(HONEST + liars, private=False, doubts=doubts)
        assert clocks.agrees(trio.current_time())
        assert not clocks.misleads(trio.current_time())

    trio.run(story)


def test_half_of_those_heard_neither_end_leases_nor_stop_repair() -> None:
    clocks = ClockComparison()
    for host in range(6):
        clocks.note(bytes([host]), 1e9 + (400 * 24 * HOUR_S if host < 3 else 60.0), 1e9, 0.0)
    assert not clocks.agrees(0.0)
    assert not clocks.misleads(0.0)
    assert clocks.peers_ahead_s(0.0) == 60.0


def test_who_has_a_wrong_clock_leaves_repair_to_others(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        for number in range(NODES):
            await world.start(f"node-{number}")
        await trio.sleep(60)
        async with world.client("publisher") as client:
            published = await client.publish(chunks(world.rng.randbytes(20_000)), needed=K, total=N)
        file_id = published.link.id
        keeper = next(machine for machine in world.machines.values() if machine.serving.store.held(file_id))
        care: Any = keeper.serving.caretaker
        assert keeper.node is not None
        (findings,) = await care.looks.begin_round().look([await care.files.read(file_id)])
        others = [at for at, each in enumerate(findings.observations) if each.holder != keeper.node.node_id]
        lost = {at: replace(findings.observations[at], outcome=Outcome.MISSING) for at in others[: N // 2]}
        observations = tuple(lost.get(at, each) for at, each in enumerate(findings.observations))
        findings = replace(findings, observations=observations)
        assert findings.health.needs_repair
        keeper.clock.ahead_s -= 3 * HOUR_S
        (problem,) = (await keeper.node.status())["problems"]
        assert "clock of this machine is 3 hours behind" in problem
        async with trio.open_nursery() as mends:
            await care.looks.act(findings, mends)
        assert care.statistics().repairs == 0
        keeper.clock.ahead_s += 3 * HOUR_S
        assert (await keeper.node.status())["problems"] == []
        async with trio.open_nursery() as mends:
            await care.looks.act(findings, mends)
        assert care.statistics().repairs == 1

    run_world(3, tmp_path, story)


def test_a_node_that_was_asked_before_it_knew_anybody_compares_clocks_soon_after(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        machines = [await world.start("node-0")]
        node = machines[0].node
        assert node is not None
        assert (await node.status())["clock_ahead_s"] is None
        for number in range(1, 1 + LEAST_PEERS):
            await world.start(f"node-{number}")
        await trio.sleep(60)
        assert abs((await node.status())["clock_ahead_s"]) < 1
        told = {each.subject: each.level for each in (await node.doctor()).findings}
        assert told["clock"] is Level.OK

    run_world(5, tmp_path, story)


async def problems_of(machine: Machine) -> list[str]:
    assert machine.node is not None
    problems: list[str] = (await machine.node.status())["problems"]
    return problems


@pytest.mark.parametrize(("nodes", "words"), [(3, "8760 hours apart"), (8, "8760 hours ahead of the clocks")])
def test_a_clock_that_is_moved_is_told_at_once_by_both_sides(tmp_path: Path, nodes: int, words: str) -> None:
    """By the node whose clock it is, and by a publish that its statement reaches from another time."""

    async def story(world: World) -> None:
        machines = [await world.start(f"node-{number}") for number in range(nodes)]
        await trio.sleep(60)
        machines[0].clock.ahead_s = 365 * 24 * HOUR_S
        found = [await problems_of(machine) for machine in machines]
        assert [len(problems) for problems in found] == [1] + [0] * (nodes - 1)
        assert words in found[0][0]
        async with world.client("publisher") as client:
            published = await client.publish(chunks(world.rng.randbytes(20_000)), needed=1, total=nodes, happy=1)
        assert published.refusals == {"another time": 1}
        machines[0].clock.ahead_s = 0.0
        assert await problems_of(machines[0]) == []

    run_world(5, tmp_path, story)
