"""The volunteer's half of an open node: share store, holder and the server peers talk to."""

from collections.abc import Callable
from pathlib import Path

import trio

from shoal.dht import Address, Identity, space_class
from shoal.node.channel import (
    AnyRequest,
    Buffer,
    Caller,
    ConnectionSlots,
    PeerServer,
    Reply,
    RequestError,
    Status,
    Throttle,
)
from shoal.node.context import Context
from shoal.node.environment import Environment
from shoal.node.errors import LocalError
from shoal.node.holder import Holder, Report
from shoal.node.network import Network
from shoal.node.settings import NodeSettings
from shoal.node.store import ShareStore

PORT_TRIES = 16  # a free TCP port picked by the system may be taken for UDP; so many times in a row it is not
SPACE_AGE_S = 5.0  # how old the free-space class in our replies may be


class Serving:
    """Store and server of one node. `bind` first, then the DHT on the same addresses, then `start`."""

    def __init__(
        self,
        env: Environment,
        network: Network,
        identity: Identity,
        settings: NodeSettings,
        store: ShareStore,
        throttle: Throttle,
    ) -> None:
        self._env = env
        self._settings = settings
        self.store = store
        self._identity = identity
        self._holder: Holder | None = None
        self.started_at = trio.current_time()
        self._space = (float("-inf"), 0)
        self.server = PeerServer(identity, network.parameters, self._dispatch, entropy=env.entropy, throttle=throttle)
        self._slots = ConnectionSlots(per_host=None) if network.parameters.private else ConnectionSlots()

    async def bind(self, nursery: trio.Nursery, address: Address) -> tuple[Address, trio.CancelScope]:
        """Listen for peers on one address; the real address, and a scope that ends the listening."""
        scope = trio.CancelScope()

        async def serve(*, task_status: trio.TaskStatus[Address]) -> None:
            with scope:
                await self._env.streams.serve(
                    address,
                    self._identity,
                    self.server.serve_connection,
                    slots=self._slots,
                    task_status=task_status,
                )

        try:
            return await nursery.start(serve), scope
        except OSError as error:
            raise LocalError(
                f"Cannot listen on {address}: {error.strerror}. Choose another address with --listen."
            ) from error

    async def start(
        self, nursery: trio.Nursery, context: Context, own_address: Callable[[], Address], status: Report
    ) -> None:
        """Answer requests from now on."""
        self._holder = Holder(context, self._identity, self.store, own_address, status)
        await nursery.start(self._holder.run)

    async def _dispatch(self, caller: Caller, request: AnyRequest, payload: Buffer) -> Reply:
        if self._holder is None:
            raise RequestError(Status.BUSY, "still starting")
        return await self._holder.dispatch(caller, request, payload)

    def space(self) -> int:
        """The class of free space that DHT replies carry. Looked up at most every few seconds."""
        now = trio.current_time()
        if now - self._space[0] > SPACE_AGE_S:
            self._space = (now, space_class(self.store.available_bytes()))
        return self._space[1]


def open_store(env: Environment, folder: Path, settings: NodeSettings, *, private: bool) -> ShareStore:
    """The share store of a home; blocking. StoreUnusable when it cannot be opened."""
    return ShareStore(
        env.disk,
        folder,
        capacity_bytes=settings.capacity_bytes,
        reserve_bytes=settings.reserve_bytes,
        now=env.wall(),
        private=private,
    )
