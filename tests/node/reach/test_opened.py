"""Whole nodes behind simulated routers that open a port, late, and close it again."""

from dataclasses import replace
from pathlib import Path

import trio

from kit.routers import VirtualHome, VirtualRouter
from kit.worlds import start_nodes
from shoal.node import Reachable
from shoal.node.router import OpenedPort
from shoal.simulation.nat import Nat
from shoal.simulation.world import Machine, World, run_world

SEED = 20261129
WITHIN_S = 900.0  # until a router that opened no port is asked again, and some


class OpeningRouter(VirtualRouter):
    """The router of one machine, which lets everybody in while it has a port open."""

    world: World
    machine: Machine

    async def open_port(self, inner: int, outer: int) -> OpenedPort:
        """See Router."""
        opened = await super().open_port(inner, outer)
        self.let_in(True)
        return opened

    def let_in(self, everybody: bool) -> None:
        """From now on."""
        kinds, nats = self.world.datagrams.routers.kinds, self.world.streams.nats
        for table in (kinds, nats):
            if everybody:
                table.pop(self.machine.host, None)
            else:
                table[self.machine.host] = Nat.RESTRICTED


def test_a_port_that_is_opened_late_is_believed_and_one_that_is_closed_no_longer(tmp_path: Path) -> None:
    """Strangers had found before that nobody gets in there. That stood for an hour once."""

    async def story(world: World) -> None:
        await start_nodes(world, 6, 20.0)
        home = world.machine("home", nat=Nat.RESTRICTED)
        router = OpeningRouter(outside=home.host, refuses=True)
        router.world, router.machine = world, home
        home.environment = replace(home.environment, routers=VirtualHome([router]))
        await world.start("home")
        await until(home, Reachable.RELAYED)
        assert home.node is not None
        told = {each.subject: each.says for each in (await home.node.doctor()).findings}
        assert "refused to open a port by NAT-PMP: port mapping is switched off in it" in told["router"]
        router.refuses = False
        await until(home, Reachable.MAPPED)
        assert home.node.reachability.external_address == home.address
        await until_known(world, home)
        router.refuses = True
        router.open.clear()
        router.let_in(False)
        await until(home, Reachable.RELAYED)

    run_world(SEED, tmp_path, story, private=False)


async def until(machine: Machine, state: Reachable) -> None:
    """Wait until a machine's node says that it is reached like this."""
    assert machine.node is not None
    with trio.fail_after(WITHIN_S):
        while machine.node.reachability.state is not state:  # noqa: ASYNC110 - as a user would look
            await trio.sleep(1.0)


async def until_known(world: World, home: Machine) -> None:
    """Wait until all others have the node at home in their tables."""
    assert home.node is not None
    others = [each.node.context.dht for each in world.running() if each.node is not None and each is not home]
    with trio.fail_after(WITHIN_S):
        while not all(home.node.node_id in {each.node_id for each in dht.contacts()} for dht in others):  # noqa: ASYNC110
            await trio.sleep(1.0)
