"""What announcements and holder lists say about who keeps a file, in the order in which it is worth trying. Pure.

Anybody may say anything, so no informant is heard before the others: the first claim of each comes before the second
of any. A liar can delay a fetch by as much as it has informants, and an honest one is always near the front.
"""

import heapq
from collections import Counter
from collections.abc import Iterable

from shoal.dht import Contact
from shoal.node.holders.announcers import Hint

MAX_CLAIMS = 4  # of one informant on one share: a store keeps no more holders of a share
MAX_HINTS = 2048  # 256 shares with a few claims each; a flood of announcements stops here


class Leads:
    """Hints and contacts heard of, each once, however many speak of it."""

    def __init__(self) -> None:
        self._hints: dict[Hint, int] = {}  # and how early its informant named it, among those on the same share
        self._met: dict[Contact, None] = {}
        self._upcoming: list[tuple[int, int, Contact]] = []

    def __len__(self) -> int:
        """How many contacts have been heard of."""
        return len(self._met)

    def hear(self, hints: Iterable[Hint], *, first: Contact | None = None) -> None:
        """Take in what one informant says; `first` is a contact to be asked before those it names."""
        claims: Counter[int] = Counter()
        named: dict[Contact, None] = {} if first is None else {first: None}
        for hint in hints:
            rank = claims[hint.share]
            claims[hint.share] += 1
            if rank < MAX_CLAIMS and (hint in self._hints or len(self._hints) < MAX_HINTS):
                self._hints[hint] = min(rank, self._hints.get(hint, rank))
                named[hint.contact] = None
        for position, contact in enumerate(named):
            self._meet(contact, position)

    def _meet(self, contact: Contact, position: int) -> None:
        if contact not in self._met and len(self._met) < MAX_HINTS:
            self._met[contact] = None
            heapq.heappush(self._upcoming, (position, len(self._met), contact))

    @property
    def pending(self) -> bool:
        """Whether `next_contact` has another one."""
        return bool(self._upcoming)

    def next_contact(self) -> Contact | None:
        """The next one to be asked, each once; None when all have been."""
        return heapq.heappop(self._upcoming)[2] if self._upcoming else None

    def hints(self) -> list[Hint]:
        """All hints, those worth trying first at the front."""
        return sorted(self._hints, key=lambda hint: self._hints[hint])  # stable: else in order of arrival

    def contacts(self) -> list[Contact]:
        """All contacts heard of, in the order in which that was."""
        return list(self._met)
