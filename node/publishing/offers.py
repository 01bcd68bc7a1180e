"""Offers under way: how long each may take, and who has answered.

How long an offer takes depends on the network, and on how busy the hosts and this machine are. So no fixed time tells
that a host is silent. Those that have answered say what is usual. Until a few have, an offer has the longest time.
"""

import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import field

import trio

from shoal.node.holders.line import STALL_FACTOR, Durations
from shoal.node.publishing.lanes import LONGEST_OFFER_S, Lane
from shoal.values import dataclass

LEAST_KNOWN = 3  # answers that make a usual time
LATE_S = (1.0, 3.0)  # after so long, at least and where nothing is usual, another host is asked beside
LONGEST_LATE_S = 10.0
SILENT_S = (5.0, LONGEST_OFFER_S)  # after so long, at least and at most, a host that does not answer counts as silent
AGAIN_S = 2.0  # times as long for a host that is asked once more


class OfferTimes:
    """How long offers took, and hence how long one may take. It outlives a round of offers."""

    def __init__(self) -> None:
        self._took = Durations()

    def came(self, since: float, now: float) -> None:
        """An offer made at `since` was answered, with whatever words."""
        self._took.came(since, now - since)

    def late_s(self) -> float:
        """After so long another host is asked beside."""
        usual_s = self._took.usual_s(LEAST_KNOWN)
        return LATE_S[1] if usual_s is None else min(max(STALL_FACTOR * usual_s, LATE_S[0]), LONGEST_LATE_S)

    def silent_s(self, *, again: bool) -> float:
        """After so long a host counts as silent. `again`: it is asked for the second time."""
        usual_s = self._took.usual_s(LEAST_KNOWN)
        longest_s = SILENT_S[1] if usual_s is None else STALL_FACTOR * usual_s * (AGAIN_S if again else 1.0)
        return min(max(longest_s, SILENT_S[0] * (AGAIN_S if again else 1.0)), SILENT_S[1])


Ask = Callable[[Lane], Awaitable[object]]
"""Asks a lane's host to take a share; sets `reason` where it does not."""


@dataclass(eq=False)
class _Offer:
    since: float
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)


class Offers:
    """Offers made in one nursery, whose cancellation ends them all."""

    def __init__(self, nursery: trio.Nursery, ask: Ask, times: OfferTimes, *, again: bool) -> None:
        self._nursery = nursery
        self._ask_host = ask
        self._times = times
        self._again = again
        self._under_way: dict[Lane, _Offer] = {}
        self._send, self._receive = trio.open_memory_channel[Lane](math.inf)  # one for each offer, and no more

    @property
    def under_way(self) -> list[Lane]:
        """Those whose answers were not had from `next`."""
        return list(self._under_way)

    def late(self) -> list[Lane]:
        """Those that have not answered for so long that others are asked beside them."""
        since = trio.current_time() - self._times.late_s()
        return [lane for lane, offer in self._under_way.items() if offer.since <= since]

    def make(self, lane: Lane) -> None:
        """Ask one more host."""
        self._under_way[lane] = offer = _Offer(trio.current_time())
        self._nursery.start_soon(self._ask, lane, offer)

    async def next(self, *, wake_when_late: bool) -> Lane | None:
        """A lane whose host has answered, or was given up. None when a host has become late, if that is wanted."""
        while True:
            now, late_s, silent_s = trio.current_time(), self._times.late_s(), self._times.silent_s(again=self._again)
            offers = list(self._under_way.values())
            for offer in offers:
                if offer.since + silent_s <= now:
                    offer.scope.cancel()
            moments = [offer.since + silent_s for offer in offers if offer.since + silent_s > now]
            late = [offer.since + late_s for offer in offers if offer.since + late_s > now] if wake_when_late else []
            with trio.move_on_at(min(moments + late, default=math.inf)):
                lane = await self._receive.receive()
                del self._under_way[lane]
                return lane
            if any(moment <= trio.current_time() for moment in late):
                return None

    def unheard(self) -> list[Lane]:
        """Those that have answered since the last `next`."""
        found = []
        with suppress(trio.WouldBlock):
            while True:
                found.append(self._receive.receive_nowait())
                del self._under_way[found[-1]]
        return found

    async def _ask(self, lane: Lane, offer: _Offer) -> None:
        with offer.scope:
            await self._ask_host(lane)
        if offer.scope.cancelled_caught:
            lane.give_up()
        elif lane.answers and not lane.was_busy:
            self._times.came(offer.since, trio.current_time())
        self._send.send_nowait(lane)
