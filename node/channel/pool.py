"""Connections kept for use again. There is one per peer, shared by all tasks that talk to it, and closed after
idling.
"""

import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import field

import trio

from shoal.dht import Address, Contact, Identity, NetworkParameters, NodeId, Reach
from shoal.node.channel.background import open_background
from shoal.node.channel.bugs import BugCount
from shoal.node.channel.client import PeerConnection, connect_peer
from shoal.node.channel.dials import Dials
from shoal.node.channel.errors import PeerError, Unreachable
from shoal.node.channel.hello import HELLO_TIMEOUT_S, Role
from shoal.node.channel.limits import Throttle
from shoal.node.channel.messages import R, Request, Ring, Rung
from shoal.node.channel.relayed import Dial, RelayCalls
from shoal.node.channel.streams import Buffer, StreamNetwork
from shoal.values import dataclass

MAX_CONNECTIONS_COUNT = 64  # a publish to 48 holders and its neighbours; 20 KiB of TLS state each
IDLE_S = 45.0  # less than the 60 s after which servers close, so that we seldom meet a closing door
SWEEP_S = 5.0  # how long an idle connection may wait for others, to be closed with them
RING_ASK_S = 5.0  # of a relay that is connected to

PeerKey = tuple[NodeId | None, Reach]


@dataclass(eq=False)
class _Entry:
    """One peer: being dialled, connected, or failed. `users` hold a lease on it."""

    users: int = 0
    dialled: trio.Event = field(default_factory=trio.Event)
    connection: PeerConnection | None = None
    error: PeerError | None = None

    @property
    def usable(self) -> bool:
        return self.error is None and not (self.connection is not None and self.connection.closed)

    @property
    def idle(self) -> bool:
        """Whether no task would miss it. A dial under way is not idle, even when the task that began it has gone."""
        return not self.users and self.dialled.is_set()

    async def peer(self) -> PeerConnection:
        """The connection, once there is one; raises what the dial failed with."""
        if not self.dialled.is_set():
            await self.dialled.wait()
        if self.connection is None:
            assert self.error is not None
            raise self.error.with_traceback(None)
        return self.connection

    @property
    def last_used_s(self) -> float:
        return self.connection.last_used_s if self.connection is not None else -math.inf


class PeerPool:
    """Made by `open_pool`. It holds at most `max_connections`, and those to relays that are asked to ring meanwhile.

    A task that needs one more waits until one is free.
    """

    def __init__(
        self,
        nursery: trio.Nursery,
        network: StreamNetwork,
        *,
        throttle: Throttle,
        identity: tuple[Identity, NetworkParameters] | None,
        params: NetworkParameters | None,
        max_connections: int,
        bugs: BugCount,
        dials: Dials | None,
    ) -> None:
        self.dials = dials
        self._bugs = bugs
        self._nursery = nursery
        self._network = network
        self._throttle = throttle
        self._identity = identity
        self._params = params
        self._max_connections = max_connections
        self._entries: dict[PeerKey, _Entry] = {}  # least recently used first
        self._occupied = trio.Event()
        self._waiting = trio.lowlevel.ParkingLot()  # tasks that found the pool full
        self._relay_calls = RelayCalls(network, self._ring, dials, params.allows if params else _anywhere)

    def __len__(self) -> int:
        return len(self._entries)

    def met_at(self, node_id: NodeId) -> Address | None:
        """Where a node that only relays lead to was reached within a day: itself, or the relay that brought it."""
        return self._relay_calls.met_at(node_id)

    def in_use(self) -> list[PeerKey]:
        """The peers whose connections are in use now."""
        return [key for key, entry in self._entries.items() if entry.users]

    async def request(
        self,
        node_id: NodeId | None,
        reach: Reach,
        message: Request[R],
        *,
        payload: Sequence[Buffer] = (),
        timeout_s: float,
    ) -> R:
        """Ask the node `node_id`, which is reached like this; see `PeerConnection.request`. Connecting has its own time
        limit.
        """
        entry = await self._lease((node_id, reach))
        try:
            peer = await entry.peer()
            return await peer.request(message, payload=payload, timeout_s=timeout_s)
        finally:
            self._give_back(entry)

    @asynccontextmanager
    async def connection(self, node_id: NodeId | None, reach: Reach) -> AsyncIterator[PeerConnection]:
        """The connection to a peer, new or shared, kept open for the length of the block.

        Raises Unreachable, Misbehaved, or RemoteError when the peer does not accept our identity.
        """
        entry = await self._lease((node_id, reach))
        try:
            yield await entry.peer()
        finally:
            self._give_back(entry)

    async def _lease(self, key: PeerKey, *, for_ring: bool = False) -> _Entry:
        """`for_ring`: a dial under way needs it, so it does not wait for room. Each dial needs three at most."""
        while True:
            entry = self._entries.pop(key, None)
            if entry is not None and entry.usable:
                break
            if for_ring or len(self._entries) < self._max_connections:
                entry = _Entry()
                self._nursery.start_soon(self._dial, key, entry)
                break
            await self._make_room()
        self._entries[key] = entry  # at the end: most recently used
        self._occupied.set()
        entry.users += 1
        return entry

    def _give_back(self, entry: _Entry) -> None:
        entry.users -= 1
        self._waiting.unpark_all()

    async def _make_room(self) -> None:
        """Close a connection that is dead, or the one unused for longest, or wait until there may be one."""
        idle = [(key, entry) for key, entry in self._entries.items() if entry.idle]
        if not idle:
            await self._waiting.park()
            return
        await self._drop(*next((each for each in idle if not each[1].usable), idle[0]))

    async def _drop(self, key: PeerKey, entry: _Entry) -> None:
        del self._entries[key]
        if entry.connection is not None:
            await entry.connection.aclose()

    async def _dial(self, key: PeerKey, entry: _Entry) -> None:
        """Dial in a task of the pool's own. So the task that asked first may be cancelled without harm to the
        others.
        """
        try:
            connection = await self._connect(*key)
            if self._identity is not None:
                await self._identify(connection, *self._identity)
            entry.connection = connection
        except PeerError as error:
            entry.error = error
            if self._entries.get(key) is entry:  # the tasks that wait for it hold it
                del self._entries[key]
        finally:
            entry.dialled.set()
            self._waiting.unpark_all()

    async def _connect(self, node_id: NodeId | None, reach: Reach) -> PeerConnection:
        """Connect by the first way that leads to the node. Raises Unreachable or Misbehaved as the last one did."""
        failed: PeerError = Unreachable("no way leads to the node")
        for address in reach.direct:
            try:
                return await self._connect_at(node_id, address)
            except PeerError as error:
                failed = error
        if node_id is None or not reach.relays:
            raise failed
        return await self._relay_calls.connect(
            node_id, reach.relays, lambda dial: self._connect_at(node_id, reach.where, dial)
        )

    async def _ring(self, relay: Contact, ring: Ring) -> Rung:
        """Ask a relay for a circuit, over a connection that is kept for the next ring."""
        entry = await self._lease((relay.node_id, Reach.of(relay.address)), for_ring=True)
        try:
            peer = await entry.peer()
            return await peer.request(ring, timeout_s=RING_ASK_S)
        finally:
            self._give_back(entry)

    async def _connect_at(self, node_id: NodeId | None, address: Address, dial: Dial | None = None) -> PeerConnection:
        return await connect_peer(
            self._nursery,
            self._network,
            address,
            node_id,
            params=self._params,
            throttle=self._throttle,
            bugs=self._bugs,
            dials=self.dials,
            dial=dial,
        )

    async def _identify(self, connection: PeerConnection, identity: Identity, params: NetworkParameters) -> None:
        try:
            await connection.identify(identity, params, Role.PEER, timeout_s=HELLO_TIMEOUT_S)
        except PeerError:
            await connection.aclose()
            raise

    async def close_idle(self) -> None:
        """Close connections unused for `IDLE_S`, until cancelled. Runs in a task of the pool, and sleeps while it is
        empty.
        """
        while True:
            await self._occupied.wait()
            await trio.sleep(SWEEP_S + max(0.0, self._next_idle_s() - trio.current_time()))
            limit = trio.current_time() - IDLE_S
            for key, entry in list(self._entries.items()):
                if entry.idle and (not entry.usable or entry.last_used_s < limit):
                    await self._drop(key, entry)
            if not self._entries:
                self._occupied = trio.Event()

    def _next_idle_s(self) -> float:
        """When the first of the connections there are may have been idle for long enough, at the soonest."""
        return min((entry.last_used_s for entry in self._entries.values()), default=-math.inf) + IDLE_S


def _anywhere(address: Address) -> bool:
    return True


@asynccontextmanager
async def open_pool(
    network: StreamNetwork,
    *,
    throttle: Throttle | None = None,
    identity: tuple[Identity, NetworkParameters] | None = None,
    params: NetworkParameters | None = None,
    max_connections: int = MAX_CONNECTIONS_COUNT,
    bugs: BugCount | None = None,
    dials: Dials | None = None,
) -> AsyncIterator[PeerPool]:
    """A pool for the length of a block; leaving it closes every connection.

    With `identity` every connection begins by proving it (role "peer"); without, the pool is anonymous.
    `params` are of the network that peers have to belong to; by default those of the identity, else any.
    `bugs` counts the calls on which our own code failed. `dials` bounds connections that bring no peer.
    """
    async with open_background() as nursery:
        pool = PeerPool(
            nursery,
            network,
            throttle=throttle or Throttle(),
            identity=identity,
            params=params or (identity[1] if identity else None),
            max_connections=max_connections,
            bugs=bugs or BugCount(),
            dials=dials,
        )
        nursery.start_soon(pool.close_idle)
        yield pool
