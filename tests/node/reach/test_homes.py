"""Relays and punches for real: through routers of four kinds, in network namespaces."""

from collections.abc import Iterator

import pytest
import trio

from kit.homes import Internet, Life, Machine, RouterKind, Say, internet, missing
from kit.relays import FINE, call, start_homebody, start_relay
from shoal.dht import Contact, NodeId
from shoal.node.channel import HeldShares, TlsNetwork

LIMIT_S = 30.0

pytestmark = pytest.mark.skipif(bool(missing()), reason=f"homes behind routers are left out: {missing()}")


@pytest.fixture
def net() -> Iterator[Internet]:
    with internet() as made:
        yield made


class Story:
    """A relay, nodes behind routers, and callers, each on a machine of its own."""

    def __init__(self, net: Internet) -> None:
        self.net = net
        self.lives: list[Life] = []

    async def start_relay(self) -> Contact:
        """A relay that anybody can dial. It says how many circuits it has made, four times a second."""
        machine = self.net.machine()

        async def life(say: Say) -> None:
            async with trio.open_nursery() as nursery:
                relay = await start_relay(nursery, TlsNetwork(), machine.host)
                say(relay.contact.pack().hex())
                while True:
                    say(relay.relay.statistics().circuits_made)
                    await trio.sleep(0.25)

        self.lives.append(machine.run(life))
        return Contact.unpack(bytes.fromhex(await self.lives[0].hear()))

    async def circuits_made(self) -> int:
        """How many circuits the relay has made."""
        made = 0
        with trio.move_on_after(0.6):
            while True:
                made = await self.lives[0].hear()
        return made

    async def start_homebody(self, kind: RouterKind, relay: Contact, seed: int) -> NodeId:
        """A node behind a router."""

        async def life(say: Say) -> None:
            async with trio.open_nursery() as nursery:
                home = await start_homebody(nursery, TlsNetwork(), [relay], host="0.0.0.0", seed=seed)
                await home.wait_for(1)
                say(home.identity.node_id.hex())
                await trio.sleep_forever()

        self.lives.append(self.net.machine(kind).run(life))
        return NodeId(bytes.fromhex(await self.lives[-1].hear()))

    def end(self) -> None:
        for life in self.lives:
            life.kill()


async def ask(machine: Machine, node_id: NodeId, relay: Contact) -> str:
    """Call a node, ask it something, and tell which host the connection leads to."""

    async def work() -> str:
        async with trio.open_nursery() as nursery:
            connection = await call(nursery, TlsNetwork(), node_id, [relay])
            assert isinstance(await connection.request(FINE, timeout_s=10), HeldShares)
            await connection.aclose()
            nursery.cancel_scope.cancel()
        return connection.remote.host

    return str(await machine.ask(work))


async def test_homes_of_all_kinds_reach_each_other(net: Internet) -> None:
    """Without the relay where both routers have one port for all, else through it."""
    story = Story(net)
    try:
        with trio.fail_after(LIMIT_S):
            relay = await story.start_relay()
            restricted = await story.start_homebody(RouterKind.RESTRICTED, relay, 21)
            carried = await story.start_homebody(RouterKind.CARRIER, relay, 22)
            symmetric = await story.start_homebody(RouterKind.SYMMETRIC, relay, 23)
            plain, strict = net.machine(RouterKind.RESTRICTED), net.machine(RouterKind.SYMMETRIC)
            relay_host = relay.address.host
            assert await ask(plain, restricted, relay) != relay_host
            assert await ask(plain, carried, relay) != relay_host
            assert await ask(plain, symmetric, relay) == relay_host
            assert await ask(strict, restricted, relay) == relay_host
            assert await story.circuits_made() == 2
    finally:
        story.end()
