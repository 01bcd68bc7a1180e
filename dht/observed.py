"""Which address others see us at: each reply says so. Strangers' words about ourselves are believed with care.

What the user said comes first, then a socket that is bound to one address (`DhtService.own_addresses`). After these:

* A host (in a public network a prefix) has one vote, whatever the number of its ids and ports.
* The latest `MAX_VOTERS` count. Peers that we chose to ask come before those that called us first.
* An address is adopted, or given up for another, only by more than half of the votes that count.
"""

from collections import Counter, OrderedDict
from dataclasses import dataclass

from shoal.dht.address import Address

MAX_VOTERS = 15  # of a family; an address that changed is noticed once eight of them have seen the new one
# Voters that we chose: from here on callers have no vote. The first node of a network has callers alone.
ENOUGH_CHOSEN = 3


@dataclass(frozen=True, slots=True)
class _Vote:
    observed: Address
    chosen: bool
    is_loopback: bool


class _Family:
    """The votes of one address family."""

    def __init__(self) -> None:
        self._votes: OrderedDict[bytes, _Vote] = OrderedDict()
        self.best: Address | None = None

    def note(self, place: bytes, vote: _Vote) -> None:
        before = self._votes.pop(place, None)
        if before is not None and before.chosen and not vote.chosen:
            vote = _Vote(vote.observed, True, vote.is_loopback)
        self._votes[place] = vote
        while len(self._votes) > MAX_VOTERS:
            self._forget_one()
        counting = Counter(each.observed for each in self._counting())
        address, votes = counting.most_common(1)[0]
        if 2 * votes > counting.total():
            self.best = address

    def _forget_one(self) -> None:
        """Forget the oldest vote of a caller; when no caller voted, the oldest of all."""
        callers = (place for place, vote in self._votes.items() if not vote.chosen)
        del self._votes[next(callers, next(iter(self._votes)))]

    def _counting(self) -> list[_Vote]:
        """The votes that count. This machine's own view of itself counts where there is no other."""
        votes = list(self._votes.values())
        outside = [vote for vote in votes if not vote.is_loopback] or votes
        chosen = [vote for vote in outside if vote.chosen]
        return chosen if len(chosen) >= ENOUGH_CHOSEN else outside


class ObservedAddresses:
    """Votes on our own address."""

    def __init__(self, *, private: bool) -> None:
        self._private = private
        self._families = {False: _Family(), True: _Family()}

    def note(self, voter: Address, observed: Address, *, chosen: bool = True) -> None:
        """`voter` says that our request came from `observed`. A vote on another family than its own is void.

        chosen: whether we asked it of our own accord, and not because it had called us.
        """
        if voter.is_ipv6 != observed.is_ipv6:
            return
        place = voter.host_key() if self._private else voter.prefix()
        self._families[voter.is_ipv6].note(place, _Vote(observed, chosen, voter.is_loopback))

    def best(self, *, ipv6: bool) -> Address | None:
        """The address that most voters saw; None when no majority has agreed on one yet."""
        return self._families[ipv6].best
