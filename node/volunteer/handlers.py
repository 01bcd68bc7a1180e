"""Which handler answers which type of request, and who hears of a request that was answered.

A node's answers are looked up here. The parts of the holder put their handlers in when the node starts, and care its
hooks. A simulation may put other handlers in their place while the node runs: so it makes a machine lie.
"""

from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from shoal.node.channel import AnyRequest, Buffer, Caller, Reason, Reply, RequestError, Status

Handler: TypeAlias = Callable[[Caller, Any, Buffer], Awaitable[Reply]]
"""Does one type of request (its payload is the third argument) and gives the reply, or raises RequestError."""

Hook: TypeAlias = Callable[[Caller, Any, Buffer], None]
"""Hears of a request that was answered well."""


class Handlers(dict[type[AnyRequest], Handler]):
    """Request type -> handler; an entry may be added or replaced at any time. Empty while the node is starting."""

    def __init__(self) -> None:
        super().__init__()
        self._hooks: defaultdict[type[AnyRequest], list[Hook]] = defaultdict(list)

    def after(self, kind: type[AnyRequest], hook: Hook) -> None:
        """Call `hook` after each request of this type that was answered well, whichever handler answers it."""
        self._hooks[kind].append(hook)

    async def answer(self, caller: Caller, request: AnyRequest, payload: Buffer) -> Reply:
        """Do one request; the channel's server calls this for each. Raises RequestError where the answer is a failure:
        BUSY while the node is starting, UNSUPPORTED for a type without a handler, and whatever the handler raises.
        """
        if not self:
            raise RequestError(Status.BUSY, Reason.STARTING, "still starting")
        kind = type(request)
        handler = self.get(kind)
        if handler is None:
            raise RequestError(Status.UNSUPPORTED)
        reply = await handler(caller, request, payload)
        for hook in self._hooks.get(kind, ()):
            hook(caller, request, payload)
        return reply
