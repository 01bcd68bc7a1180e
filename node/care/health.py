"""What was observed of a file's holders, and what follows from it. Pure rules; DESIGN section 6.

Outcomes are kept apart because they mean different things. A holder that says it has nothing, or whose block is wrong,
has lost the share now. One that does not answer may be back tomorrow, and until its grace ends its share counts:
waiting is what saves the traffic. One that answers and stalls is given the same grace.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from shoal.dht import NodeId
from shoal.node.holders.outcome import Outcome
from shoal.node.holders.tally import match_hosts

EMERGENCY_MARGIN = 2  # shares above k at which a repair that failed is tried again soon, not only in the next epoch


@dataclass(frozen=True, slots=True)
class Observation:
    """One holder's share as seen now. `lost` says that its grace is over; `host` is what counts as one host, the holder
    itself where it is empty."""

    share: int
    holder: NodeId
    outcome: Outcome
    lost: bool = False
    host: bytes = b""

    @property
    def counts(self) -> bool:
        """Whether the share still counts as one of the healthy ones."""
        if self.outcome is Outcome.OK:
            return True
        return self.outcome in (Outcome.OFFLINE, Outcome.STALLED) and not self.lost


@dataclass(frozen=True, slots=True)
class Health:
    """A file as its caretaker sees it. `readable` shares answer now, wherever they are; `counted` are those that have a
    host of their own, also such as are in their grace."""

    k: int
    n: int
    readable: frozenset[int]
    counted: frozenset[int]

    @classmethod
    def of(cls, k: int, n: int, observations: Iterable[Observation]) -> "Health":
        """Distinct shares on distinct hosts only: who claims all shares of a file is one host for one of them."""
        seen = [each for each in observations if 0 <= each.share < n]
        return cls(
            k,
            n,
            frozenset(each.share for each in seen if each.outcome is Outcome.OK),
            frozenset(match_hosts((each.share, each.host or each.holder) for each in seen if each.counts)),
        )

    @property
    def missing(self) -> list[int]:
        """The shares to rebuild."""
        return [share for share in range(self.n) if share not in self.counted]

    @property
    def needs_repair(self) -> bool:
        """Few enough shares are left, and enough of them answer to make the others again."""
        return len(self.counted) <= repair_at(self.k, self.n) and self.can_repair and bool(self.missing)

    @property
    def can_repair(self) -> bool:
        """Whether k shares answer."""
        return len(self.readable) >= self.k

    @property
    def is_emergency(self) -> bool:
        """So few are left that a repair that failed cannot wait for the next epoch."""
        return len(self.counted) <= emergency_at(self.k, self.n)


def repair_at(k: int, n: int) -> int:
    """Healthy shares at which repair begins: three quarters, so that one repair makes up for many losses. Where k is so
    close to n that three quarters are next to nothing to spare, or too few, half of what may be lost (ours).
    """
    return min(n - 1, max(3 * n // 4, k + (n - k + 1) // 2))


def emergency_at(k: int, n: int) -> int:
    """Healthy shares at which every failed repair is repeated soon: also at k, where repair begins no earlier."""
    least = min(k + EMERGENCY_MARGIN, repair_at(k, n) - 1)
    return max(k, least) if n > k else least
