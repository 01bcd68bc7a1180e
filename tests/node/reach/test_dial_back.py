"""Whole nodes behind simulated routers find out whether strangers can dial them."""

from pathlib import Path

import pytest
import trio

from kit.worlds import start_nodes
from shoal.dht import Address, Contact, QueryError
from shoal.node import Reachable
from shoal.node.reach.dial_back import CALL_IT, NO, YES
from shoal.simulation.nat import Nat
from shoal.simulation.world import Machine, World, run_world

SEED = 20261129
WITHIN_S = 60.0


async def until(machine: Machine, state: Reachable, within_s: float = WITHIN_S) -> None:
    """Wait until a machine's node says that it is reached like this."""
    assert machine.node is not None
    with trio.move_on_after(within_s):
        while machine.node.reachability.state is not state:  # noqa: ASYNC110 - as a user would look
            await trio.sleep(1.0)
    assert machine.node.reachability.state is state


def knowing(world: World, machine: Machine) -> int:
    """How many running nodes have a machine's node in their tables."""
    assert machine.node is not None
    nodes = [each.node for each in world.running() if each.node is not None and each is not machine]
    return sum(machine.node.node_id in {each.node_id for each in node.context.dht.contacts()} for node in nodes)


async def start_behind_an_open_port(world: World) -> Machine:
    """A machine that does not know the address at which others reach it."""
    home = world.machine("home", everywhere=True)
    home.network.local_host = lambda *, ipv6, towards=None: None  # type: ignore[method-assign]
    return await world.start("home")


@pytest.mark.parametrize("nat", list(Nat))
def test_a_node_behind_a_router_knows_that_nobody_can_dial_it(nat: Nat, tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await start_nodes(world, 6, 20.0)
        home = await world.start("home", nat=nat)
        assert home.node is not None
        assert home.node.reachability.state is Reachable.UNKNOWN
        await until(home, Reachable.RELAYED)
        await trio.sleep(600.0)
        reach = home.node.context.dht.own_reach()
        assert reach is not None
        assert (reach.direct, len(reach.relays)) == ((), 3)
        assert knowing(world, home) == 0
        status = await home.node.status()
        assert (status["reachable"], status["address_source"]) == ("punched-or-relayed", "unknown")
        if nat is not Nat.SYMMETRIC:
            assert status["external_address"] == str(home.address)

    run_world(SEED, tmp_path, story, private=False)


@pytest.mark.parametrize("private", [False, True])
def test_a_node_that_peers_alone_see_is_believed_once_strangers_got_through(private: bool, tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await start_nodes(world, 6, 20.0)
        home = await start_behind_an_open_port(world)
        assert home.node is not None
        await until(home, Reachable.DIRECT)
        assert home.node.reachability.external_address == home.address
        await trio.sleep(120.0)
        assert knowing(world, home) == 6

    run_world(SEED, tmp_path, story, private=private)


def test_a_changed_address_is_judged_and_announced_within_two_minutes(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await start_nodes(world, 6, 20.0)
        home = await start_behind_an_open_port(world)
        await until(home, Reachable.DIRECT)
        await trio.sleep(300.0)
        assert home.node is not None
        world.readdress(home, unnoticed=True)
        with trio.move_on_after(120.0):
            while home.node.reachability.external_address != home.address or knowing(world, home) < 6:  # noqa: ASYNC110
                await trio.sleep(1.0)
        assert home.node.reachability.external_address == home.address
        assert knowing(world, home) == 6

    run_world(SEED, tmp_path, story, private=False)


def test_nobody_can_have_a_node_call_one_host_often(tmp_path: Path) -> None:
    """Sixty questions by two askers about one bystander, and one connection in a minute."""

    async def story(world: World) -> None:
        await start_nodes(world, 5, 20.0)
        victim, *askers, caller = list(world.machines.values())
        before = world.streams.statistics().connections
        answers = []
        for number in range(60):
            asker, target = askers[number % 2], victim.node
            assert asker.node is not None
            assert target is not None
            assert caller.node is not None
            question = world.rng.randbytes(16) + target.node_id + Address(victim.host, 1000 + number).pack()
            contact = Contact(caller.node.node_id, caller.address)
            answers.append(await asker.node.context.dht.query(contact, CALL_IT, question))
        await trio.sleep(10.0)
        assert answers == [YES] + [NO] * 59
        assert world.streams.statistics().connections - before <= 1

    run_world(SEED, tmp_path, story, private=False)


def test_nobody_can_have_a_node_call_its_own_network_or_the_askers(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await start_nodes(world, 4, 20.0)
        asker, caller, other, _ = list(world.machines.values())
        assert asker.node is not None
        assert caller.node is not None
        assert other.node is not None
        contact, dht, node_id = Contact(caller.node.node_id, caller.address), asker.node.context.dht, other.node.node_id

        async def ask(target: Address) -> bytes:
            return await dht.query(contact, CALL_IT, world.rng.randbytes(16) + node_id + target.pack())

        assert await ask(Address(asker.host, 80)) == NO
        assert await ask(Address(caller.host, 80)) == NO
        assert await ask(Address("192.168.1.1", 80)) == NO
        with pytest.raises(QueryError):
            await dht.query(contact, CALL_IT, b"short")

    run_world(SEED, tmp_path, story, private=False)
