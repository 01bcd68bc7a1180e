"""A relay, a node behind it and a caller, on a real or a virtual network."""

import os
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import trio

from kit.peers import answer
from shoal.dht import Address, Contact, Identity, NetworkParameters, NodeId
from shoal.node.channel import (
    AnyRequest,
    Buffer,
    BugCount,
    Caller,
    ConnectionSlots,
    Dials,
    GetHeld,
    PeerConnection,
    PeerServer,
    RawHandler,
    Reply,
    Ring,
    Rung,
    StreamNetwork,
    Throttle,
    open_connection,
)
from shoal.node.channel.client import connect_peer
from shoal.node.channel.relayed import Dial, RelayCalls
from shoal.node.reach.relayed import Callee, Relayed
from shoal.node.reach.relaying import Relay
from shoal.node.reach.reservations import Reservations

PARAMS = NetworkParameters("test", pow_bits=0, private=True)
FINE = GetHeld(bytes(32))


@dataclass
class RelayHost:
    """A node that relays."""

    contact: Contact
    relay: Relay
    slots: ConnectionSlots


async def start_relay(
    nursery: trio.Nursery,
    network: StreamNetwork,
    host: str,
    *,
    seed: int = 1,
    throttle: Throttle | None = None,
    raw_handler: Callable[[RawHandler], RawHandler] = lambda handler: handler,
) -> RelayHost:
    """Start a relay on one machine. `raw_handler` may put another in place of its own for plain connections."""
    rng = random.Random(seed)
    identity, slots = Identity.create(0, rng.randbytes), ConnectionSlots(private=True)
    reservations = Reservations(private=True, entropy=rng.randbytes, rng=rng)
    relay = Relay(reservations, throttle or Throttle(10**9), private=True)
    handlers = relay.handlers()

    async def dispatch(caller: Caller, request: AnyRequest, payload: Buffer) -> Reply:
        return await handlers[type(request)](caller, request, payload)

    server = PeerServer(identity, PARAMS, dispatch, entropy=os.urandom)

    async def run(task_status: trio.TaskStatus[Address]) -> None:
        await network.serve(
            Address(host, 0),
            identity,
            server.serve_connection,
            slots=slots,
            raw_handler=raw_handler(relay.serve_raw),
            task_status=task_status,
        )

    return RelayHost(Contact(identity.node_id, await nursery.start(run)), relay, slots)


@dataclass
class Homebody:
    """A node that keeps relays."""

    identity: Identity
    relayed: Relayed
    server: PeerServer
    nursery: trio.Nursery

    async def wait_for(self, count: int, within_s: float = 20.0) -> None:
        """Until so many relays ring for it."""
        with trio.fail_after(within_s):
            while len(self.relayed.relays) != count:  # noqa: ASYNC110 - it has no event for this
                await trio.sleep(0.02)

    def stop(self) -> None:
        """End it."""
        self.nursery.cancel_scope.cancel()


async def start_homebody(
    nursery: trio.Nursery,
    network: StreamNetwork,
    relays: Sequence[Contact],
    *,
    host: str = "127.0.0.1",
    seed: int = 2,
    dials: Dials | None = None,
) -> Homebody:
    """Start a node that nobody can dial; it listens all the same, and its calls leave from there."""
    rng = random.Random(seed)
    identity, slots = Identity.create(0, rng.randbytes), ConnectionSlots(private=True)
    server = PeerServer(identity, PARAMS, answer, entropy=os.urandom)

    async def own_tasks(task_status: trio.TaskStatus[trio.Nursery]) -> None:
        async with trio.open_nursery() as own:
            task_status.started(own)
            await trio.sleep_forever()

    async def listen(task_status: trio.TaskStatus[Address]) -> None:
        await network.serve(Address(host, 0), identity, server.serve_connection, slots=slots, task_status=task_status)

    own = await nursery.start(own_tasks)
    bound = await own.start(listen)
    callee = Callee(
        streams=network,
        identity=identity,
        params=PARAMS,
        serve=server.serve_connection,
        slots=slots,
        dials=dials or Dials(private=True),
        bugs=BugCount(),
        throttle=Throttle(),
        space=lambda: 30,
        listening=lambda ipv6: None if ipv6 else bound,
        candidates=lambda: relays,
        wanted=lambda: True,
        changed=lambda relays: None,
        rng=rng,
    )
    relayed = Relayed(callee)

    own.start_soon(relayed.run)
    return Homebody(identity, relayed, server, own)


def ask_relay(network: StreamNetwork) -> Callable[[Contact, Ring], Awaitable[Rung]]:
    """Rings over a connection of its own."""

    async def ask(relay: Contact, ring: Ring) -> Rung:
        async with open_connection(network, relay.address, relay.node_id) as connection:
            return await connection.request(ring, timeout_s=5)

    return ask


async def call(
    nursery: trio.Nursery,
    network: StreamNetwork,
    node_id: NodeId,
    relays: Sequence[Contact],
    *,
    calls: RelayCalls | None = None,
) -> PeerConnection:
    """A connection to a node behind relays."""
    calls = calls or RelayCalls(network, ask_relay(network), None, lambda address: True)

    async def over(dial: Dial) -> PeerConnection:
        return await connect_peer(nursery, network, relays[0].address, node_id, params=PARAMS, dial=dial)

    return await calls.connect(node_id, relays, over)
