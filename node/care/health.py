"""What was observed of a file's holders, and whether that is enough. Plain rules.

    outcome of asking a holder               its share
    OK                                       counts
    it keeps nothing, or its block is wrong  is lost at once
    it does not answer, answers no read,
    or says that it is busy                  counts until its grace ends

A holder that does not answer may be back tomorrow. To wait for it saves the traffic of a repair. How long that is worth
the risk depends on how many shares answer (`urgency`).
"""

from collections.abc import Iterable

from shoal.dht import NodeId
from shoal.node.holders.outcome import Outcome
from shoal.node.holders.tally import match_hosts
from shoal.values import dataclass

EMERGENCY_MARGIN = 2  # shares above k at which a repair that failed is tried again soon, not only in the next epoch


@dataclass(frozen=True, slots=True)
class Observation:
    """One holder's share as seen now.

    `lost` says that its grace is over, `overdue` that the file has too little to spare for the rest of it. `host` is
    what counts as one host; the holder itself where it is empty.
    """

    share: int
    holder: NodeId
    outcome: Outcome
    lost: bool = False
    host: bytes = b""
    overdue: bool = False

    @property
    def place(self) -> tuple[int, bytes]:
        """The share and what counts as its host."""
        return self.share, self.host or self.holder

    @property
    def is_waited_for(self) -> bool:
        """Whether the share is not shown, and counts because its holder may come back."""
        return self.counts and self.outcome is not Outcome.OK

    @property
    def counts(self) -> bool:
        """Whether the share still counts as one of the healthy ones."""
        if self.outcome is Outcome.OK:
            return True
        return self.outcome in (Outcome.OFFLINE, Outcome.STALLED, Outcome.BUSY) and not (self.lost or self.overdue)


@dataclass(frozen=True, slots=True)
class FileHealth:
    """A file as this node sees it.

    `readable` shares answer now, wherever they are. `answering` is how many have a host of their own that answers, be
    it that it is busy. `counted` shares have a host of their own, and may be in their grace.
    """

    k: int
    n: int
    readable: frozenset[int]
    answering: int
    counted: frozenset[int]

    @classmethod
    def of(cls, k: int, n: int, observations: Iterable[Observation]) -> "FileHealth":
        """Count distinct shares on distinct hosts: a node that claims all shares is one host for one of them."""
        seen = [each for each in observations if 0 <= each.share < n]
        return cls(
            k,
            n,
            frozenset(each.share for each in seen if each.outcome is Outcome.OK),
            len(match_hosts(each.place for each in seen if each.outcome in (Outcome.OK, Outcome.BUSY))),
            frozenset(match_hosts(each.place for each in seen if each.counts)),
        )

    @property
    def missing(self) -> list[int]:
        """The shares to rebuild."""
        return [share for share in range(self.n) if share not in self.counted]

    @property
    def needs_repair(self) -> bool:
        """Whether so few shares are left that others are to be made again, and enough of them answer for that."""
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
    """At how many healthy shares repair begins: at three quarters of n, so that one repair makes up for many losses.

    Where k is close to n, that would leave too little to spare. There it begins when half of what may be lost is lost.
    """
    return min(n - 1, max(3 * n // 4, k + (n - k + 1) // 2))


def emergency_at(k: int, n: int) -> int:
    """At how many healthy shares a failed repair is repeated soon. At k it always is, if shares can be lost at all."""
    least = min(k + EMERGENCY_MARGIN, repair_at(k, n) - 1)
    return max(k, least) if n > k else least
