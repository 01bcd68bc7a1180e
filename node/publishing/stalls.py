"""Telling a holder that stalls from a line that is slow.

A deadline per request cannot: over a slow home line everybody is slow together. So lanes are compared with each other
and with what leaves this machine at all.
"""

from collections.abc import Sequence

import trio

from shoal.node.channel import Throttle
from shoal.node.publishing.lanes import Lane

SENDERS = 16  # lanes that send at once
STALL_S = 30.0  # a holder that took so long over one request is looked at
LOOK_EVERY_S = 5.0
TRICKLE_BYTES = 16 * 1024  # less than this leaving in LOOK_EVERY_S, and it is not our line that is busy


async def drop_stalled(lanes: Sequence[Lane], throttle: Throttle) -> None:
    """Drop lanes whose holders stall, for as long as this runs."""
    sent_before = throttle.sent_bytes
    while True:
        await trio.sleep(LOOK_EVERY_S)
        line_is_idle = throttle.sent_bytes - sent_before < TRICKLE_BYTES
        sent_before = throttle.sent_bytes
        for lane in stalled(lanes, trio.current_time(), line_is_idle=line_is_idle):
            lane.drop("stalled")


def stalled(lanes: Sequence[Lane], now: float, *, line_is_idle: bool) -> list[Lane]:
    """The lanes to give up: long over one request while our line is idle, or while most others are further on."""
    alive = [lane for lane in lanes if lane.alive]
    late = [lane for lane in alive if lane.sending_since is not None and now - lane.sending_since > STALL_S]
    return [
        lane
        for lane in late
        if line_is_idle or 2 * sum(other.received > lane.received for other in alive) >= len(alive)
    ]
