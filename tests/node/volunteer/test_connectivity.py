"""What a node says of its line when nobody answers: whose fault it seems to be, in words that are true now."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from kit.worlds import start_nodes
from shoal.dht import Address
from shoal.node.channel import Unreachable
from shoal.simulation.world import Machine, World, run_world

NODES = 6
Cut = Callable[[World, Machine], None]


async def status(machine: Machine) -> dict[str, Any]:
    """Peers are asked for two seconds at most; what is read from the store comes on top."""
    assert machine.node is not None
    begun = trio.current_time()
    found = await machine.node.status()
    assert trio.current_time() - begun <= 3.0
    return found


def cut_datagrams(world: World, machine: Machine) -> None:
    world.datagrams.separate(lambda one, other: machine.host in (one, other))


def cut_streams(world: World, machine: Machine) -> None:
    world.streams.separate(lambda one, other: machine.host in (one, other))


def cut_line(world: World, machine: Machine) -> None:
    cut_datagrams(world, machine)
    cut_streams(world, machine)


def unplug(world: World, machine: Machine) -> None:
    cut_line(world, machine)
    machine.network.unplug()


@pytest.mark.parametrize(
    ("cut", "line", "words"),
    [
        (cut_datagrams, "no_datagrams", "A firewall or router drops UDP"),
        (cut_streams, "no_connections", "A firewall or router drops TCP"),
        (cut_line, "silence", "This machine has an address and a route"),
        (unplug, "no_address", "this machine has no address or no route"),
    ],
)
@pytest.mark.parametrize("later_s", [61.0, 1200.0])
def test_it_says_which_it_is(tmp_path: Path, cut: Cut, line: str, words: str, later_s: float) -> None:
    async def story(world: World) -> None:
        for number in range(NODES):
            await world.start(f"node-{number}", everywhere=True)
        await trio.sleep(3600)
        machine = world.running()[2]
        before = await status(machine)
        assert (before["line"], before["problems"], before["peers"]) == ("good", [], NODES - 1)
        assert before["last_answer_s"] < 61
        await trio.sleep(901)  # the connection that this status made is no proof any more
        cut(world, machine)
        await trio.sleep(later_s)
        await status(machine)  # one look at which no connection could be made is not enough
        await trio.sleep(61)
        found = await status(machine)
        assert found["line"] == line
        assert len(found["problems"]) == 1
        assert words in found["problems"][0]
        if line == "no_connections":
            assert found["last_answer_s"] < 61
        else:
            assert found["last_answer_s"] >= later_s - 61
            assert found["peers_answered"] == (0 if later_s > 900 else found["peers_answered"])
        world.heal()
        machine.network.plug_in()
        await trio.sleep(180)
        healed = await status(machine)
        assert (healed["line"], healed["problems"], healed["peers"]) == ("good", [], NODES - 1)

    run_world(31, tmp_path, story)


def test_peers_whose_machines_answer_that_no_node_runs_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(world: World) -> None:
        await start_nodes(world, NODES)
        machine = world.running()[0]
        for other in world.running()[1:]:
            await world.stop(other.name)

        async def connect(address: Address) -> None:
            raise Unreachable(f"{address}: refused") from ConnectionRefusedError()

        monkeypatch.setattr(machine.streams, "connect", connect)
        await trio.sleep(900)
        found = await status(machine)
        assert found["line"] == "they_are_gone"
        assert "this machine's line works" in found["problems"][0]
        assert found["peers_answered"] == 0

    run_world(32, tmp_path, story)


def test_a_node_that_never_met_anybody_has_no_problem(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await start_nodes(world, 1)
        found = await status(world.running()[0])
        assert (found["line"], found["problems"], found["last_answer_s"]) == ("alone", [], None)

    run_world(33, tmp_path, story)


def test_nobody_is_asked_while_peers_answer(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await start_nodes(world, NODES)
        machine = world.running()[0]
        await status(machine)
        before = world.datagrams.statistics().sent, world.streams.statistics().connections
        for _ in range(20):
            await status(machine)
        assert (world.datagrams.statistics().sent, world.streams.statistics().connections) == before

    run_world(34, tmp_path, story)
