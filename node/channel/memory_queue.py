"""Requests that wait for memory: those from places that hold little go first, then those of peers that did much."""

from dataclasses import field

import trio

from shoal.node.channel.limits import Throttle
from shoal.node.channel.memory import Grant, MemoryBudget, MemoryHolder
from shoal.values import dataclass

MEMORY_WAIT_S = 5.0  # a burst of honest readers is over by then; after it the caller should try elsewhere
SQUEEZE_EVERY_S = 0.25  # how often a request that waits looks whether a slow peer has to give way


@dataclass(eq=False, slots=True)
class _Waiting:
    holder: MemoryHolder
    count: int
    grant: Grant | None = None
    served: trio.Event = field(default_factory=trio.Event)


class MemoryQueue:
    """Gives out the memory of a budget. At most one request of each connection waits."""

    def __init__(self, budget: MemoryBudget, throttle: Throttle) -> None:
        """`throttle`: while it holds bytes back, no peer counts as slow."""
        self._budget = budget
        self._throttle = throttle
        self._waiting: dict[_Waiting, None] = {}

    async def reserve(self, holder: MemoryHolder, count: int) -> Grant | None:
        """Memory for `count` bytes of payload; None when there is none for a while."""
        grant = self._budget.take(holder, count, trio.current_time())
        return grant or await self._wait(_Waiting(holder, count))

    def release(self, grant: Grant) -> None:
        """Give memory back, to others if they wait."""
        self._budget.release(grant)
        if self._waiting and grant.bytes_count:
            self._serve(trio.current_time())

    async def _wait(self, waiting: _Waiting) -> Grant | None:
        give_up_at = trio.current_time() + MEMORY_WAIT_S
        self._waiting[waiting] = None
        try:
            while waiting.grant is None and (now := trio.current_time()) < give_up_at:
                may_judge = not self._throttle.holds_back(now)
                self._budget.squeeze(waiting.holder, waiting.count, now, may_judge=may_judge)
                with trio.move_on_after(SQUEEZE_EVERY_S):
                    await waiting.served.wait()
        except BaseException:
            self._waiting.pop(waiting, None)
            if waiting.grant is not None:  # served and cancelled at once
                self.release(waiting.grant)
            raise
        self._waiting.pop(waiting, None)
        return waiting.grant

    def _serve(self, now: float) -> None:
        for waiting in sorted(self._waiting, key=lambda each: self._budget.claim(each.holder)):
            waiting.grant = self._budget.take(waiting.holder, waiting.count, now)
            if waiting.grant is not None:
                del self._waiting[waiting]
                waiting.served.set()
