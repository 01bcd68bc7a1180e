"""Which address others see us at: each reply says so, and the majority is believed."""

from collections import Counter, OrderedDict

from shoal.dht.address import Address

MAX_VOTERS = 64  # the latest; an address that changed is noticed once most of these have seen the new one


class ObservedAddresses:
    """Votes on our own address, one per network prefix of the voter, so that one liar's many ids count
    once."""

    def __init__(self, *, private: bool) -> None:
        self._private = private
        self._votes: OrderedDict[tuple[bytes, bool], Address] = OrderedDict()
        self._best: dict[bool, Address | None] = {}  # of each family, as long as nobody has voted otherwise

    def note(self, voter: Address, observed: Address) -> None:
        """`voter` says our request came from `observed`. A vote on another family than its own is void."""
        if voter.is_ipv6 != observed.is_ipv6:
            return
        place = voter.pack() if self._private else voter.prefix()
        before = self._votes.pop((place, voter.is_ipv6), None)
        self._votes[place, voter.is_ipv6] = observed
        if len(self._votes) > MAX_VOTERS:
            _, before = self._votes.popitem(last=False)
        if before != observed:  # a vote in place of an equal one changes nothing
            self._best.clear()

    def best(self, *, ipv6: bool) -> Address | None:
        """The address most voters saw; None when nobody has said anything."""
        if ipv6 not in self._best:
            votes = Counter(address for (_, family), address in self._votes.items() if family == ipv6)
            self._best[ipv6] = votes.most_common(1)[0][0] if votes else None
        return self._best[ipv6]
