"""Relays and punches for real: through routers of four kinds, in network namespaces."""

from collections.abc import Iterator

import pytest
import trio

from kit.homes import Internet, Machine, RouterKind, internet, missing
from kit.relays import FINE, Homebody, RelayHost, call, start_homebody, start_relay
from shoal.dht import Contact, NodeId
from shoal.node.channel import HeldShares, TlsNetwork

LIMIT_S = 30.0

pytestmark = pytest.mark.skipif(bool(missing()), reason=f"homes behind routers are left out: {missing()}")


@pytest.fixture
def net() -> Iterator[Internet]:
    with internet() as made:
        yield made


class Story:
    """A relay, a node behind a router, and callers, each on a machine of its own."""

    def __init__(self, net: Internet, nursery: trio.Nursery) -> None:
        self.net, self.nursery = net, nursery
        self.relay: RelayHost | None = None

    async def start_relay(self) -> Contact:
        """A relay that anybody can dial."""
        machine, ready = self.net.machine(), trio.Event()
        token = trio.lowlevel.current_trio_token()

        async def live() -> None:
            async with trio.open_nursery() as nursery:
                self.relay = await start_relay(nursery, TlsNetwork(), machine.host)
                token.run_sync_soon(ready.set)
                await trio.sleep_forever()

        self.nursery.start_soon(machine.inside, live)
        await ready.wait()
        assert self.relay is not None
        return self.relay.contact

    async def start_homebody(self, kind: RouterKind, relay: Contact, seed: int) -> NodeId:
        """A node behind a router."""
        machine, ready = self.net.machine(kind), trio.Event()
        token = trio.lowlevel.current_trio_token()
        found: list[Homebody] = []

        async def live() -> None:
            async with trio.open_nursery() as nursery:
                found.append(await start_homebody(nursery, TlsNetwork(), [relay], host="0.0.0.0", seed=seed))
                await found[0].wait_for(1)
                token.run_sync_soon(ready.set)
                await trio.sleep_forever()

        self.nursery.start_soon(machine.inside, live)
        await ready.wait()
        return found[0].identity.node_id


async def ask(machine: Machine, node_id: NodeId, relay: Contact) -> str:
    """Call a node, ask it something, and tell which host the connection leads to."""

    async def work() -> str:
        async with trio.open_nursery() as nursery:
            connection = await call(nursery, TlsNetwork(), node_id, [relay])
            assert isinstance(await connection.request(FINE, timeout_s=10), HeldShares)
            await connection.aclose()
            nursery.cancel_scope.cancel()
            return connection.remote.host
        raise AssertionError("the nursery has swallowed the answer")

    return await machine.inside(work)


async def test_homes_of_all_kinds_reach_each_other(net: Internet, nursery: trio.Nursery) -> None:
    """Without the relay where both routers have one port for all, else through it."""
    story = Story(net, nursery)
    with trio.fail_after(LIMIT_S):
        relay = await story.start_relay()
        restricted = await story.start_homebody(RouterKind.RESTRICTED, relay, 21)
        carried = await story.start_homebody(RouterKind.CARRIER, relay, 22)
        symmetric = await story.start_homebody(RouterKind.SYMMETRIC, relay, 23)
        plain, strict = net.machine(RouterKind.RESTRICTED), net.machine(RouterKind.SYMMETRIC)
        relay_host = relay.address.host
        assert await ask(plain, restricted, relay) != relay_host
        assert await ask(plain, carried, relay) != relay_host
        assert await ask(net.machine(), carried, relay) != relay_host
        assert await ask(plain, symmetric, relay) == relay_host
        assert await ask(strict, symmetric, relay) == relay_host
        assert await ask(strict, restricted, relay) == relay_host
    assert story.relay is not None
    assert story.relay.relay.statistics().circuits_made == 3
