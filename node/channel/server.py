"""The answering side: one `PeerServer` for a node, one `Conversation` per connection.

A peer can end its own connection and nothing else. All that it can make us hold is bounded: requests in work and bytes
per connection, bytes per place and in all, and the rate of every frame in either direction.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import trio

from shoal.dht import Address, Identity, NetworkParameters
from shoal.node.channel.bugs import BugCount
from shoal.node.channel.conversation import Caller, Conversation
from shoal.node.channel.limits import Throttle
from shoal.node.channel.memory import MemoryBudget
from shoal.node.channel.memory_queue import MemoryQueue
from shoal.node.channel.messages import AnyRequest, Failure, Reason, Reply, Status
from shoal.node.channel.streams import Buffer, ByteStream
from shoal.values import dataclass

MAX_WORK_S = 300.0  # far beyond any honest request (announcing a file takes a minute at worst)

log = logging.getLogger(__name__)


class RequestError(Exception):
    """Raised by a dispatch function to answer a request with a failure."""

    def __init__(self, status: Status, reason: Reason = Reason.UNSTATED, text: str = "", price: int = 0) -> None:
        super().__init__(f"{status.name.lower()} ({reason.name.lower()}): {text}")
        self.failure = Failure(status, reason, text, price)


Dispatch: TypeAlias = Callable[[Caller, AnyRequest, Buffer], Awaitable[Reply]]
"""Does a request (its payload is the third argument) and gives the reply, or raises RequestError."""


@dataclass(frozen=True, slots=True)
class ServerStatistics:
    """A snapshot. `bugs` counts requests that our own code failed on."""

    connections: int
    requests: int
    failures: int
    bugs: int
    memory_bytes: int


async def _at_once(remote: Address) -> None:
    await trio.lowlevel.checkpoint()


class PeerServer:
    """Answers peers on any number of streams: `serve_connection` is the handler to give to
    `StreamNetwork.serve`.
    """

    def __init__(
        self,
        identity: Identity,
        params: NetworkParameters,
        dispatch: Dispatch,
        *,
        entropy: Callable[[int], bytes],
        throttle: Throttle | None = None,
        memory: MemoryBudget | None = None,
        hold_back: Callable[[Address], Awaitable[None]] | None = None,
    ) -> None:
        """`hold_back` is awaited before a request is refused that nobody has been charged for."""
        self.identity = identity
        self.params = params
        self.dispatch = dispatch
        self.entropy = entropy
        self.throttle = throttle or Throttle()
        self.memory = memory or MemoryBudget()
        self.queue = MemoryQueue(self.memory, self.throttle)
        self.hold_back = hold_back or _at_once
        self._bugs = BugCount()
        self._connections = self._requests = self._failures = 0

    def statistics(self) -> ServerStatistics:
        """How much was done so far."""
        return ServerStatistics(
            self._connections, self._requests, self._failures, self._bugs.count, self.memory.used_bytes
        )

    async def serve_connection(self, stream: ByteStream) -> None:
        """Hold one conversation to its end. Nothing that the peer does makes this raise."""
        self._connections += 1
        try:
            await Conversation(self, stream).run()
        except Exception as error:  # noqa: BLE001 - as in `_work`: what a stranger can reach must not end the node
            self._bugs.note("a conversation", error)
        finally:
            self._connections -= 1
            await stream.aclose()

    async def work(self, caller: Caller, request: AnyRequest, payload: Buffer) -> Reply | Failure:
        """Do one request, whatever happens."""
        self._requests += 1
        outcome = await self._work(caller, request, payload)
        self._failures += isinstance(outcome, Failure)
        return outcome

    async def _work(self, caller: Caller, request: AnyRequest, payload: Buffer) -> Reply | Failure:
        try:
            with trio.move_on_after(MAX_WORK_S):
                return await self.dispatch(caller, request, payload)
        except RequestError as error:
            return error.failure
        except Exception as error:  # noqa: BLE001 - a bug of ours, contained here (see `bugs`)
            self._bugs.note(f"a request of type {request.TYPE}", error)
            return Failure(Status.INTERNAL)
        return Failure(Status.BUSY, Reason.TIME, "it took too long")
