"""Which address others see us at: each reply says so. Strangers' words about ourselves are believed with care.

What the node knows by itself comes first (`own_address`). After that:

* A host (in a public network a prefix) has one vote, whatever the number of its ids and ports.
* The latest `MAX_VOTERS` make up the roll. Peers that we chose to ask come before those that called us first.
* A vote counts for half an hour. An address is given up for another only when more than half of the whole roll has
  named the other one within that time. When a vote differs, the others on the roll are asked again.
"""

from collections import Counter, OrderedDict

from shoal.dht.address import Address
from shoal.dht.contact import Contact
from shoal.values import dataclass

MAX_VOTERS = 15  # of a family; an address that changed is noticed once eight of them have seen the new one
# Voters that we chose: from here on callers have no vote. The first node of a network has callers alone.
ENOUGH_CHOSEN = 3
VOTE_S = 1_800.0  # so long a vote counts; so often the roll is asked again at most
ASKED_LATELY_S = 60.0  # a vote as young as this is not asked for again


@dataclass(frozen=True, slots=True)
class _Vote:
    voter: Contact
    observed: Address
    chosen: bool
    at: float

    @property
    def is_loopback(self) -> bool:
        return self.voter.address.is_loopback


class _Family:
    """The votes of one address family."""

    def __init__(self) -> None:
        self._votes: OrderedDict[bytes, _Vote] = OrderedDict()
        self._asked_at = float("-inf")
        self.best: Address | None = None

    def note(self, place: bytes, vote: _Vote) -> None:
        before = self._votes.pop(place, None)
        if before is not None and before.chosen and not vote.chosen:
            vote = _Vote(vote.voter, vote.observed, True, vote.at)
        self._votes[place] = vote
        while len(self._votes) > MAX_VOTERS:
            self._forget_one()
        self._count(vote.at)

    def note_silence(self, place: bytes, voter: Contact, now: float) -> None:
        vote = self._votes.get(place)
        if vote is not None and vote.voter == voter:
            del self._votes[place]
            self._count(now)

    def to_ask(self, now: float) -> list[Contact]:
        """Whom to ask again, because the latest vote is for another address; nobody twice within `VOTE_S`."""
        latest = next(reversed(self._votes.values()), None)
        if self.best is None or latest is None or latest.observed == self.best or now - self._asked_at < VOTE_S:
            return []
        self._asked_at = now
        return [vote.voter for vote in self._counting() if now - vote.at >= ASKED_LATELY_S]

    @property
    def voters(self) -> int:
        return len(self._votes)

    def _count(self, now: float) -> None:
        roll = self._counting()
        recent = Counter(vote.observed for vote in roll if now - vote.at < VOTE_S)
        if not recent:
            return
        address, votes = recent.most_common(1)[0]
        if 2 * votes > (recent.total() if self.best is None else len(roll)):
            self.best = address

    def _forget_one(self) -> None:
        """Forget the oldest vote of a caller; when no caller voted, the oldest of all."""
        callers = (place for place, vote in self._votes.items() if not vote.chosen)
        del self._votes[next(callers, next(iter(self._votes)))]

    def _counting(self) -> list[_Vote]:
        """The voters that count. This machine's own view of itself counts where there is no other."""
        votes = list(self._votes.values())
        outside = [vote for vote in votes if not vote.is_loopback] or votes
        chosen = [vote for vote in outside if vote.chosen]
        return chosen if len(chosen) >= ENOUGH_CHOSEN else outside


class ObservedAddresses:
    """Votes on our own address. Pure; `now` is monotonic seconds."""

    def __init__(self, *, private: bool) -> None:
        self._private = private
        self._families = {False: _Family(), True: _Family()}

    def note(self, voter: Contact, observed: Address, now: float, *, chosen: bool = True) -> list[Contact]:
        """`voter` says that our request came from `observed`. A vote on another family than its own is void.

        chosen: whether we asked it of our own accord, and not because it had called us. Returns whom to ask again.
        """
        if voter.address.is_ipv6 != observed.is_ipv6:
            return []
        family = self._families[observed.is_ipv6]
        family.note(self._place(voter), _Vote(voter, observed, chosen, now))
        return family.to_ask(now)

    def note_silence(self, voter: Contact, now: float) -> None:
        """`voter` did not answer: it is off the roll."""
        self._families[voter.address.is_ipv6].note_silence(self._place(voter), voter, now)

    def best(self, *, ipv6: bool) -> Address | None:
        """The address that most voters saw; None when no majority has agreed on one yet."""
        return self._families[ipv6].best

    def voters(self, *, ipv6: bool) -> int:
        """How many places have told us where they see us."""
        return self._families[ipv6].voters

    def _place(self, voter: Contact) -> bytes:
        return voter.address.place(private=self._private)
