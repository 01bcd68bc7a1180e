"""Which of its own addresses a node believes: pure rules. `dial_back.py` brings what strangers found.

| how an address is known | before it is judged | after |
|---|---|---|
| the user said so, or a socket is bound to it | believed | never judged |
| the machine has it, or a router has opened a port | believed | as judged |
| peers see it | believed in a private network alone | as judged |
"""

from collections.abc import Callable, Iterable, Sequence
from enum import Enum

from shoal.dht import Address, AddressSource, OwnAddress
from shoal.values import dataclass

STRANGERS = 3  # that call back; most of them decide
AGAIN_S = 4 * 3600.0  # an address that was judged is judged again
AGAIN_BAD_S = 3600.0  # one at which nobody got through: somebody may have opened a port since
NOBODY_S = 60.0  # where there was nobody to ask; doubles up to AGAIN_BAD_S
# Before it counts as settled that peers do not agree on where they see us: the first few may just have been asked.
DISAGREE_S = 20.0
MIN_DISAGREEING = 2
MAX_JUDGED = 16  # addresses remembered; the oldest are forgotten first

_JUDGED = (AddressSource.INTERFACE, AddressSource.MAPPED, AddressSource.OBSERVED)


class Openness(Enum):
    """What strangers found at an address."""

    UNKNOWN = "unknown"
    OPEN = "open"
    SHUT = "shut"


@dataclass(frozen=True, slots=True)
class Knocked:
    """Whether one stranger's call came by connection and by datagram. `is_stranger`: we had not spoken to it before.

    A router lets in the datagrams of those that we have spoken to, so strangers count first.
    """

    is_stranger: bool
    connected: bool
    datagram: bool

    @property
    def got_through(self) -> bool:
        """Whether both came."""
        return self.connected and self.datagram


def verdict_of(knocks: Iterable[Knocked]) -> Openness:
    """What up to three calls come to, strangers first. Of two, one that came is enough: it cannot be made up."""
    counted = sorted(knocks, key=lambda each: not each.is_stranger)[:STRANGERS]
    if not counted:
        return Openness.UNKNOWN
    came = sum(each.got_through for each in counted)
    return Openness.OPEN if 2 * came >= len(counted) else Openness.SHUT


@dataclass(slots=True)
class _Judged:
    verdict: Openness
    due: float
    failures: int = 0  # in a row to find somebody to ask


class Judgement:
    """What was found, and what follows. All times are given: monotonic seconds.

    candidates: what may be our address in a family (True: IPv6).    voters: how many places told us where they see us.
    """

    def __init__(
        self,
        candidates: Callable[[bool], Sequence[OwnAddress]],
        voters: Callable[[bool], int],
        *,
        private: bool,
    ) -> None:
        self._candidates = candidates
        self._voters = voters
        self._private = private
        self._judged: dict[Address, _Judged] = {}
        self._disagree_since: dict[bool, float] = {}

    def verdict(self, address: Address) -> Openness:
        """What was last found there."""
        judged = self._judged.get(address)
        return Openness.UNKNOWN if judged is None else judged.verdict

    def believes(self, own: OwnAddress) -> bool:
        """Whether strangers can reach us there, as far as we know."""
        if own.source not in _JUDGED:
            return True
        verdict = self.verdict(own.address)
        if verdict is Openness.UNKNOWN:
            return self._private or own.source is not AddressSource.OBSERVED
        return verdict is Openness.OPEN

    def is_open(self, *, ipv6: bool, now: float) -> bool:
        """Whether peers of a family may take us for a node that serves."""
        candidates = self._candidates(ipv6)
        return any(map(self.believes, candidates)) or (self._private and not self.is_shut(ipv6=ipv6, now=now))

    def is_shut(self, *, ipv6: bool, now: float) -> bool:
        """Whether it is known that peers of a family cannot dial us: nobody got through, or each sees us elsewhere."""
        candidates = self._candidates(ipv6)
        if candidates:
            return all(not self.believes(each) and self.verdict(each.address) is Openness.SHUT for each in candidates)
        since = self._disagree_since.get(ipv6)
        return since is not None and now - since >= DISAGREE_S

    def note(self, address: Address, knocks: Sequence[Knocked], now: float) -> bool:
        """Take in what strangers found. Returns whether the verdict is another one now."""
        before = self._judged.pop(address, None) or _Judged(Openness.UNKNOWN, now)
        verdict = verdict_of(knocks)
        if verdict is Openness.UNKNOWN:
            pause_s = min(NOBODY_S * 2**before.failures, AGAIN_BAD_S)
            self._judged[address] = _Judged(before.verdict, now + pause_s, min(before.failures + 1, 10))
        else:
            self._judged[address] = _Judged(verdict, now + (AGAIN_S if verdict is Openness.OPEN else AGAIN_BAD_S))
        while len(self._judged) > MAX_JUDGED:
            del self._judged[next(iter(self._judged))]
        return self.verdict(address) is not before.verdict

    def forget(self, *, ipv6: bool) -> None:
        """A router has opened or closed a port: what was found in that family says nothing any more."""
        for address in [each for each in self._judged if each.is_ipv6 == ipv6]:
            del self._judged[address]

    def next_due(self, now: float) -> tuple[Address | None, float]:
        """The address to judge first, and when. Without one, when to look again: at infinity when nothing may change.

        Of a family, addresses behind one that is believed and judged need no judging.
        """
        soonest: tuple[Address | None, float] = (None, float("inf"))
        for ipv6 in (False, True):
            self._note_disagreement(ipv6, now)
            since = self._disagree_since.get(ipv6)
            if since is not None and since + DISAGREE_S > now:
                soonest = min(soonest, (None, since + DISAGREE_S), key=lambda each: each[1])
            for own in self._candidates(ipv6):
                if own.source in _JUDGED:
                    judged = self._judged.get(own.address)
                    due = (own.address, now if judged is None else judged.due)
                    soonest = min(soonest, due, key=lambda each: each[1])
                if self.believes(own):
                    break
        return soonest

    def _note_disagreement(self, ipv6: bool, now: float) -> None:
        """Two peers that see us at two addresses: a router gives us another one for each, so nobody can dial us."""
        if self._candidates(ipv6) or self._voters(ipv6) < MIN_DISAGREEING:
            self._disagree_since.pop(ipv6, None)
        else:
            self._disagree_since.setdefault(ipv6, now)
