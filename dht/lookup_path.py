"""One of the disjoint paths of a lookup, and the board that all paths share. shoal.dht.lookup has the whole."""

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import field
from enum import Enum
from itertools import islice

from shoal.dht.contact import Contact
from shoal.dht.identity import NodeId, distance
from shoal.dht.routing import K
from shoal.values import dataclass

ALPHA = 3  # queries in flight per path. The Kademlia paper's example value.
MAX_QUERIES_PER_PATH = 3 * K  # a path through an honest network needs about K and a few
MAX_IN_FLIGHT_PER_PATH = 4 * ALPHA  # counting the slow ones

# A query unanswered for so long is *overdue*: it may still answer, but another contact is asked meanwhile.
# Three times the round trips seen in this lookup, so that a fast network does not wait for its dead.
OVERDUE_MAX_S = 0.5
OVERDUE_MIN_S = 0.1
OVERDUE_ROUND_TRIPS = 3.0

# Failures minus answers among the contacts a source named, from which on it is discredited. Higher than what
# ordinary churn does to the nearest few of an honest answer.
DISCREDITED_AT = 4

MAX_PER_PREFIX_ASKED = 4  # by one path: also bounds what a lookup can be made to send to a stranger's network


class QueryState(Enum):
    """What became of a contact in this lookup, whichever path asked it."""

    OPEN = "nobody asked it"
    WAITING = "asked, may still answer in time"
    OVERDUE = "asked, slow, may still answer"
    ANSWERED = "answered"
    FAILED = "did not answer or cannot be reached"


@dataclass(slots=True, eq=False)
class Known:
    """A contact some path has heard of."""

    contact: Contact
    distance: int
    state: QueryState = QueryState.OPEN


@dataclass(slots=True)
class Board:
    """What all paths of a lookup share: which contacts were asked and what became of them. No hearsay."""

    target: bytes
    known: dict[Contact, Known] = field(default_factory=dict)
    answered: dict[NodeId, Contact] = field(default_factory=dict)
    query_count: int = 0
    round_trip_s: float = OVERDUE_MAX_S / OVERDUE_ROUND_TRIPS

    def meet(self, contact: Contact) -> Known:
        known = self.known.get(contact)
        if known is None:
            known = self.known[contact] = Known(contact, distance(contact.node_id, self.target))
        return known

    def is_open(self, known: Known) -> bool:
        """Whether no path asked this contact yet, and its id has not answered from elsewhere."""
        return known.state is QueryState.OPEN and known.contact.node_id not in self.answered

    def note_round_trip(self, seconds: float) -> None:
        self.round_trip_s += (seconds - self.round_trip_s) / 4

    def patience_s(self) -> float:
        return min(OVERDUE_MAX_S, max(OVERDUE_MIN_S, OVERDUE_ROUND_TRIPS * self.round_trip_s))


@dataclass(slots=True, eq=False)
class Candidate:
    """A contact as one path sees it. Seeds have no sources, and so are never discredited."""

    known: Known
    order: int  # of arrival; breaks ties
    round: int
    sources: set[NodeId] = field(default_factory=set)

    def place(self) -> tuple[int, int]:
        return self.known.distance, self.order


class Path:
    """One of the disjoint paths: what it was told, and what it has in flight."""

    def __init__(self, board: Board, *, k: int, alpha: int, private: bool) -> None:
        self._board = board
        self._k = k
        self._alpha = alpha
        self._private = private
        self._candidates: dict[Contact, Candidate] = {}
        self._by_distance: list[Candidate] = []  # without the failed ones
        self._blame: Counter[NodeId] = Counter()
        self._asked_in_prefix: Counter[bytes] = Counter()
        self._asked_count = 0
        self._waiting: dict[Contact, float] = {}  # when they were asked, oldest first
        self._overdue: dict[Contact, float] = {}
        self.changed = True  # something happened since the last choice

    @property
    def in_flight(self) -> int:
        return len(self._waiting) + len(self._overdue)

    def is_waited_for(self, has_enough: bool) -> bool:
        """Whether something is in flight for which the lookup must not end yet. Once it has enough, that is nothing
        overdue that only discredited sources named.
        """
        if self._waiting or not has_enough:
            return self.in_flight > 0
        return any(not self._is_discredited(self._candidates[contact]) for contact in self._overdue)

    def learn(self, contact: Contact, source: NodeId | None, round: int) -> None:
        """Add a contact, or one more source for it. A seed (no source) is known first hand."""
        candidate = self._candidates.get(contact)
        if candidate is None:
            candidate = Candidate(self._board.meet(contact), len(self._candidates), round)
            self._candidates[contact] = candidate
            if candidate.known.state is not QueryState.FAILED:
                insort(self._by_distance, candidate, key=Candidate.place)
        elif not candidate.sources:
            return
        if source is not None:
            candidate.sources.add(source)

    def judge(self, contact: Contact, blame: int) -> None:
        """Charge (or credit, if negative) those who named `contact`."""
        candidate = self._candidates.get(contact)
        for source in candidate.sources if candidate else ():
            self._blame[source] += blame

    def forget(self, contact: Contact) -> None:
        """`contact` failed: make its place among the nearest free."""
        candidate = self._candidates.get(contact)
        if candidate is not None:
            del self._by_distance[bisect_left(self._by_distance, candidate.place(), key=Candidate.place)]
            self.changed = True

    def end_query(self, contact: Contact) -> float | None:
        """Take `contact` out of flight. Returns when it was asked, None if this path has not asked it."""
        asked_at = self._waiting.pop(contact, None)
        if asked_at is None:
            asked_at = self._overdue.pop(contact, None)
        if asked_at is not None:
            self.changed = True
        return asked_at

    def round_of(self, contact: Contact) -> int:
        return self._candidates[contact].round

    def next_overdue_at(self) -> float:
        """When the oldest query that is not overdue yet will be."""
        if not self._waiting:
            return float("inf")
        return next(iter(self._waiting.values())) + self._board.patience_s()

    def newly_overdue(self, now: float) -> list[Contact]:
        """Those unanswered for too long since the last call; they now count as overdue."""
        if not self._waiting:
            return []
        patience_s = self._board.patience_s()
        slow = [contact for contact, asked_at in self._waiting.items() if asked_at + patience_s <= now]
        for contact in slow:
            self._overdue[contact] = self._waiting.pop(contact)
            self._board.known[contact].state = QueryState.OVERDUE
        return slow

    def choose(self, now: float, *, discredited_too: bool) -> list[Contact]:
        """Contacts to ask now, nearest first; they count as asked. The discredited only if nothing else is
        left.
        """
        self.changed = False
        chosen = self._take(self._open(discredited_too=False), now)
        if not chosen and discredited_too and not self._waiting:
            chosen = self._take(self._open(discredited_too=True), now)
        return chosen

    def _take(self, candidates: Iterable[Known], now: float) -> list[Contact]:
        room = min(
            self._alpha - len(self._waiting),
            MAX_IN_FLIGHT_PER_PATH - self.in_flight,
            MAX_QUERIES_PER_PATH - self._asked_count,
        )
        if room <= 0:
            return []
        chosen = list(islice(filter(self._prefix_allows, candidates), room))
        for known in chosen:
            self._mark_asked(known, now)
        return [known.contact for known in chosen]

    def _open(self, *, discredited_too: bool) -> Iterator[Known]:
        """The contacts among the path's K nearest that no path has asked. Failed and overdue ones do not count among
        the K.
        """
        nearest: set[NodeId] = set()
        for candidate in self._by_distance:
            known = candidate.known
            if known.state is QueryState.OVERDUE:
                continue
            is_open = self._board.is_open(known)
            if is_open and not discredited_too and self._is_discredited(candidate):
                continue
            nearest.add(known.contact.node_id)
            if len(nearest) > self._k:
                return
            if is_open:
                yield known

    def _is_discredited(self, candidate: Candidate) -> bool:
        sources = candidate.sources
        return bool(sources) and all(self._blame[source] >= DISCREDITED_AT for source in sources)

    def _prefix_allows(self, known: Known) -> bool:
        if self._private:
            return True
        return self._asked_in_prefix[known.contact.address.prefix()] < MAX_PER_PREFIX_ASKED

    def _mark_asked(self, known: Known, now: float) -> None:
        known.state = QueryState.WAITING
        self._waiting[known.contact] = now
        if not self._private:
            self._asked_in_prefix[known.contact.address.prefix()] += 1
        self._asked_count += 1
        self._board.query_count += 1
