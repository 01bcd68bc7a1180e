"""Counting what was found of a file's shares, honestly. Pure rules.

Shares count once each, and each on a host of its own: a host that keeps two is one loss that takes two. In a public
network all ids at one address are one host, so that nobody passes for many.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from shoal.dht import Contact
from shoal.node.errors import Cause
from shoal.node.formats import MAX_LEASE_S
from shoal.node.holders.outcome import Outcome
from shoal.node.holders.placement import host_of
from shoal.node.holders.statements import HolderStatement
from shoal.values import dataclass

CLOCK_SLACK_S = 86400.0  # a holder's clock may be ahead by as much as drops are careful about


@dataclass(frozen=True, slots=True)
class Finding:
    """One share at one holder, as it was found. `lease_end` (s since the epoch) and `statement` are its own word."""

    share: int
    contact: Contact
    outcome: Outcome
    lease_end: float = 0.0
    statement: HolderStatement | None = None


@dataclass(frozen=True)
class Tally:
    """What the findings on one file come to."""

    k: int
    n: int
    findings: Sequence[Finding]
    private: bool

    @property
    def good(self) -> list[Finding]:
        """Those that were proven."""
        return [each for each in self.findings if each.outcome is Outcome.OK and each.share < self.n]

    @property
    def readable(self) -> bool:
        """Whether k distinct shares answer, wherever they are."""
        return len({each.share for each in self.good}) >= self.k

    @property
    def hosts(self) -> int:
        """Hosts that proved a share."""
        return len({host_of(each.contact, private=self.private) for each in self.good})

    @property
    def networks(self) -> int:
        """Their networks: /24, or /48 of IPv6."""
        return len({each.contact.address.prefix() for each in self.good})

    def placed(self) -> dict[int, bytes]:
        """As many shares as possible, each with a host of its own: share -> host."""
        return match_hosts((each.share, host_of(each.contact, private=self.private)) for each in self.good)

    def missing(self) -> list[int]:
        """The shares that have no host of their own."""
        placed = self.placed()
        return [share for share in range(self.n) if share not in placed]

    def survives(self) -> int:
        """Any so many hosts may vanish: each takes at most one of the shares that are well placed."""
        return max(0, len(self.placed()) - self.k)

    def lease_until(self, now: float) -> float | None:
        """Until when k distinct shares are promised; None when fewer are good."""
        longest: dict[int, float] = {}
        for each in self.good:
            longest[each.share] = max(longest.get(each.share, 0.0), each.lease_end)
        return kth_longest(believable(longest.values(), now), self.k)

    def causes(self) -> Counter[Cause]:
        """How many nodes could not show a share, by cause."""
        bad = {each.contact.node_id: each.outcome.cause for each in self.findings if each.outcome is not Outcome.OK}
        return Counter(cause for cause in bad.values() if cause is not None)

    def outcomes(self) -> dict[str, int]:
        """How many placements ended in which way; every way is named."""
        counts = Counter(each.outcome for each in self.findings)
        return {outcome.value: counts[outcome] for outcome in Outcome}


def kth_longest(lease_ends: Iterable[float], k: int) -> float | None:
    """The k-th longest of leases of distinct shares: until then k shares are promised. None when there are fewer."""
    ends = sorted(lease_ends, reverse=True)
    return float(ends[k - 1]) if len(ends) >= k else None


def believable(lease_ends: Iterable[float], now: float) -> Iterator[float]:
    """The leases as they are believed: none is longer than a holder can give, whatever it says."""
    return (min(end, now + MAX_LEASE_S + CLOCK_SLACK_S) for end in lease_ends)


def match_hosts(places: Iterable[tuple[int, bytes]]) -> dict[int, bytes]:
    """The largest assignment of shares to hosts in which every host is used once (augmenting paths; Kuhn 1955)."""
    hosts_of: dict[int, list[bytes]] = {}
    for share, host in places:
        hosts_of.setdefault(share, []).append(host)
    owner: dict[bytes, int] = {}
    for share in sorted(hosts_of):
        _augment(share, hosts_of, owner, set())
    return {share: host for host, share in owner.items()}


def _augment(share: int, hosts_of: Mapping[int, list[bytes]], owner: dict[bytes, int], tried: set[bytes]) -> bool:
    """Find a host for `share`, moving others if need be. As deep as there are shares: 256 at most."""
    for host in hosts_of[share]:
        if host in tried:
            continue
        tried.add(host)
        if host not in owner or _augment(owner[host], hosts_of, owner, tried):
            owner[host] = share
            return True
    return False
