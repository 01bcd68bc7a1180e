"""What idle uploads take, and what moving ones may still send. Pure."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import field

from shoal.node.store.displacing import Charge, Holdings
from shoal.node.store.limits import FEW_UPLOADS, LOOK_AGAIN_S, OWN_SOURCE
from shoal.values import dataclass


@dataclass(slots=True)
class Outlook:
    """Bytes that idle uploads take, which can be had, and bytes that moving ones may well still send; also by group."""

    idle_bytes: int = 0
    hoped_bytes: int = 0
    idle_of_group: Counter[bytes] = field(default_factory=Counter)
    hoped_of_group: Counter[bytes] = field(default_factory=Counter)


class Lookout:
    """Looks at all uploads, and not more often than once in `LOOK_AGAIN_S` where they are many: every offer asks."""

    def __init__(self, holdings: Holdings) -> None:
        self._group = holdings.group
        self._seen = Outlook()
        self._looked_at = float("-inf")

    def at(self, charges: Mapping[bytes, Charge], now: float) -> Outlook:
        """The outlook now, or a moment ago. This node's own uploads have their room, and are left out."""
        if len(charges) > FEW_UPLOADS and 0 <= now - self._looked_at < LOOK_AGAIN_S:
            return self._seen
        seen = Outlook()
        for charge in charges.values():
            if charge.source == OWN_SOURCE or not charge.received:
                continue
            group = self._group(charge.source)
            if charge.is_moving(now):
                seen.hoped_bytes += charge.hoped
                seen.hoped_of_group[group] += charge.hoped
            else:
                seen.idle_bytes += charge.used
                seen.idle_of_group[group] += charge.used
        self._seen, self._looked_at = seen, now
        return seen
