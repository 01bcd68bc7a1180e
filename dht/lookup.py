"""An iterative lookup as an object without I/O: who to ask next, until the K nodes nearest to a target are
known.

    lookup = Lookup(target, seeds, own_id=me, private=False)
    while not lookup.done:
        for contact in lookup.next_queries(now): ...      # the caller asks these (FIND_NODE or GET_RECORDS)
        lookup.on_reply(contact, contacts_in_reply, now)  # and reports each answer,
        lookup.on_failure(contact, now)                   # or that none came in time
        lookup.next_deadline()                            # and calls next_queries again by then at the latest
    lookup.result()

Disjoint paths (S/Kademlia, Baumgart & Mies 2007): the seeds are dealt to several paths. What a node answers
is known only to the path that asked it, and no contact is asked twice, so a liar spoils one path at most.
Each path asks until all of *its own* K nearest have been asked; what another path asked counts as asked. As
every path's knowledge is part of the whole, this also asks all K nearest known to all paths together. Asking
only those K would let one spoiled path, by naming many near liars, end the others early;
benchmarks/lookup_quality.py measures both the success and the price.

What a liar in a path can do, and what stops it:

* name far more contacts than asked for: only the first K distinct ones of an answer are read;
* name nodes that do not exist, so that time is wasted: a query that stays unanswered for a moment no longer
  counts against the few that a path has in flight, and a source whose contacts keep failing is *discredited*:
  contacts that only such sources named are asked after all others;
* name an honest node with a wrong address, so that it seems dead: a contact is id *and* address, and its
  failure says nothing about the same id elsewhere;
* name ever nearer contacts, for ever: rounds, queries and time are bounded;
* name many ids in one network: counted per prefix in public networks, per answer and per path.

Contacts must have been checked as far as a contact alone can be (address allowed, proof of work of the id)
before they are reported here. `now` is monotonic seconds.
"""

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import islice

from shoal.dht.contact import Contact
from shoal.dht.identity import NodeId, distance
from shoal.dht.routing import MAX_PER_PREFIX_IN_BUCKET, K

# Paths per lookup. More survive more liars and cost more messages; DESIGN section 3.
PATHS = 4
THOROUGH_PATHS = 8
ALPHA = 3  # queries in flight per path. The Kademlia paper's example value.

ROUNDS = 20  # longest chain of "he told me of her". A network of 10**6 nodes needs about 5.
TIME_LIMIT_S = 10.0  # of a whole lookup; DESIGN section 3.
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
# How long the contacts of discredited sources are asked at all. They get a chance because after a catastrophe
# honest answers are full of dead nodes too; they get an end because inventing nodes must not fill the whole
# TIME_LIMIT_S.
DISCREDITED_LIMIT_S = 3.0

MAX_PER_PREFIX_IN_ANSWER = MAX_PER_PREFIX_IN_BUCKET  # an honest table keeps no more per bucket
MAX_PER_PREFIX_ASKED = 4  # by one path: also bounds what a lookup can be made to send to a stranger's network

assert OVERDUE_MAX_S < TIME_LIMIT_S / 10, "several layers of dead contacts must fit into one lookup"


class _State(Enum):
    """What became of a contact in this lookup, whoever asked it."""

    OPEN = "nobody asked it"
    WAITING = "asked, may still answer in time"
    OVERDUE = "asked, slow, may still answer"
    ANSWERED = "answered"
    FAILED = "did not answer or cannot be reached"


@dataclass(slots=True, eq=False)
class _Known:
    """A contact some path has heard of."""

    contact: Contact
    distance: int
    state: _State = _State.OPEN


@dataclass(slots=True)
class _Board:
    """What all paths of a lookup share: which contacts were asked and what became of them. No hearsay."""

    target: bytes
    known: dict[Contact, _Known] = field(default_factory=dict)
    answered: dict[NodeId, Contact] = field(default_factory=dict)
    query_count: int = 0
    round_trip_s: float = OVERDUE_MAX_S / OVERDUE_ROUND_TRIPS

    def meet(self, contact: Contact) -> _Known:
        known = self.known.get(contact)
        if known is None:
            known = self.known[contact] = _Known(contact, distance(contact.node_id, self.target))
        return known

    def is_open(self, known: _Known) -> bool:
        """Whether nobody asked this contact yet, and nobody with its id answered from elsewhere."""
        return known.state is _State.OPEN and known.contact.node_id not in self.answered

    def note_round_trip(self, seconds: float) -> None:
        self.round_trip_s += (seconds - self.round_trip_s) / 4

    def patience_s(self) -> float:
        return min(OVERDUE_MAX_S, max(OVERDUE_MIN_S, OVERDUE_ROUND_TRIPS * self.round_trip_s))


@dataclass(slots=True, eq=False)
class _Candidate:
    """A contact as one path sees it. Seeds have no sources, and so are never discredited."""

    known: _Known
    order: int  # of arrival; breaks ties
    round: int
    sources: set[NodeId] = field(default_factory=set)

    def place(self) -> tuple[int, int]:
        return self.known.distance, self.order


class _Path:
    """One of the disjoint paths: what it was told, and what it has in flight."""

    def __init__(self, board: _Board, *, k: int, alpha: int, private: bool) -> None:
        self._board = board
        self._k = k
        self._alpha = alpha
        self._private = private
        self._candidates: dict[Contact, _Candidate] = {}
        self._by_distance: list[_Candidate] = []  # without the failed ones
        self._blame: Counter[NodeId] = Counter()
        self._asked_in_prefix: Counter[bytes] = Counter()
        self._asked_count = 0
        self._waiting: dict[Contact, float] = {}  # when they were asked, oldest first
        self._overdue: dict[Contact, float] = {}
        self.changed = True  # something happened since the last choice

    @property
    def in_flight(self) -> int:
        return len(self._waiting) + len(self._overdue)

    def learn(self, contact: Contact, source: NodeId | None, round: int) -> None:
        """Add a contact, or one more source for it. A seed (no source) is known first hand."""
        candidate = self._candidates.get(contact)
        if candidate is None:
            candidate = _Candidate(self._board.meet(contact), len(self._candidates), round)
            self._candidates[contact] = candidate
            if candidate.known.state is not _State.FAILED:
                insort(self._by_distance, candidate, key=_Candidate.place)
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
            del self._by_distance[bisect_left(self._by_distance, candidate.place(), key=_Candidate.place)]
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
        return next(iter(self._waiting.values()), float("inf")) + self._board.patience_s()

    def newly_overdue(self, now: float) -> list[Contact]:
        """Those unanswered for too long since the last call; they now count as overdue."""
        latest = now - self._board.patience_s()
        slow = [contact for contact, asked_at in self._waiting.items() if asked_at <= latest]
        for contact in slow:
            self._overdue[contact] = self._waiting.pop(contact)
            self._board.known[contact].state = _State.OVERDUE
        return slow

    def choose(self, now: float, *, discredited_too: bool) -> list[Contact]:
        """Contacts to ask now, nearest first; they count as asked. The discredited only if nothing else is
        left."""
        self.changed = False
        chosen = self._take(self._open(discredited_too=False), now)
        if not chosen and discredited_too and not self._waiting:
            chosen = self._take(self._open(discredited_too=True), now)
        return chosen

    def _take(self, candidates: Iterable[_Known], now: float) -> list[Contact]:
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

    def _open(self, *, discredited_too: bool) -> Iterator[_Known]:
        """Those of the path's K nearest that nobody has asked. The failed and overdue do not count among the
        K."""
        nearest: set[NodeId] = set()
        for candidate in self._by_distance:
            known = candidate.known
            if known.state is _State.OVERDUE:
                continue
            is_open = self._board.is_open(known)
            if is_open and not discredited_too and self._is_discredited(candidate):
                continue
            nearest.add(known.contact.node_id)
            if len(nearest) > self._k:
                return
            if is_open:
                yield known

    def _is_discredited(self, candidate: _Candidate) -> bool:
        sources = candidate.sources
        return bool(sources) and all(self._blame[source] >= DISCREDITED_AT for source in sources)

    def _prefix_allows(self, known: _Known) -> bool:
        if self._private:
            return True
        return self._asked_in_prefix[known.contact.address.prefix()] < MAX_PER_PREFIX_ASKED

    def _mark_asked(self, known: _Known, now: float) -> None:
        known.state = _State.WAITING
        self._waiting[known.contact] = now
        self._asked_in_prefix[known.contact.address.prefix()] += 1
        self._asked_count += 1
        self._board.query_count += 1


class Lookup:
    """One search for the `k` nodes nearest to `target`.

    target: 32 bytes.    seeds: contacts to begin with, best from our own table, best a few per path.
    own_id: never asked; None for a client without one.    private: lifts the limits per network prefix.
    paths: how many disjoint ones; with fewer seeds there are as many as seeds.
    """

    def __init__(
        self,
        target: bytes,
        seeds: Sequence[Contact],
        *,
        own_id: NodeId | None,
        private: bool,
        paths: int = PATHS,
        k: int = K,
        alpha: int = ALPHA,
    ) -> None:
        self.target = target
        self._own_id = own_id
        self._private = private
        self._k = k
        self._board = _Board(target)
        self._deadline = float("inf")  # set by the first next_queries
        usable = {seed.node_id: seed for seed in seeds if seed.node_id != own_id}
        self._over = not usable
        self._ready: list[Contact] = []  # chosen, not yet given out
        ordered = sorted(usable.values(), key=lambda seed: distance(seed.node_id, target))
        count = max(1, min(paths, len(ordered)))
        self._paths = [_Path(self._board, k=k, alpha=alpha, private=private) for _ in range(count)]
        for index, seed in enumerate(ordered):
            self._paths[index % count].learn(seed, None, round=1)

    # -- the caller asks -------------------------------------------------------------------------------

    def next_queries(self, now: float) -> list[Contact]:
        """Contacts to ask now. Call it at first, after every report, and by next_deadline()."""
        if self._deadline == float("inf"):
            self._deadline = now + TIME_LIMIT_S
        self._advance(now)
        ready, self._ready = self._ready, []
        return [] if self._over else ready

    def next_deadline(self) -> float:
        """The monotonic time by which next_queries wants to be called even if nothing is reported."""
        return min(self._deadline, *(path.next_overdue_at() for path in self._paths))

    @property
    def done(self) -> bool:
        """Whether nothing is left to ask or to wait for, or time is up. What is still in flight is not
        needed."""
        return self._over or not any(path.changed or path.in_flight for path in self._paths)

    @property
    def query_count(self) -> int:
        """How many contacts were given out to be asked."""
        return self._board.query_count

    def result(self) -> list[Contact]:
        """The nodes that answered, nearest to the target first, at most k."""
        answered = sorted(self._board.answered.values(), key=lambda c: distance(c.node_id, self.target))
        return answered[: self._k]

    # -- the caller reports ----------------------------------------------------------------------------

    def on_reply(self, contact: Contact, contacts: Iterable[Contact], now: float) -> None:
        """`contact` (as given out) answered and named `contacts`. Ignored if it was not in flight."""
        ended = self._end_query(contact)
        if ended is None:
            return
        path, asked_at = ended
        known = self._board.known[contact]
        self._judge(contact, blame=-2 if known.state is _State.OVERDUE else -1)
        known.state = _State.ANSWERED
        self._board.answered[contact.node_id] = contact
        self._board.note_round_trip(now - asked_at)
        round = path.round_of(contact) + 1
        if round <= ROUNDS:
            for named in self._readable(contacts):
                path.learn(named, contact.node_id, round)
        self._advance(now)

    def on_failure(self, contact: Contact, now: float) -> None:
        """`contact` (as given out) did not answer in time or cannot be reached. Ignored if not in flight."""
        if self._end_query(contact) is None:
            return
        known = self._board.known[contact]
        if known.state is not _State.OVERDUE:
            self._judge(contact, blame=1)
        known.state = _State.FAILED
        for path in self._paths:
            path.forget(contact)
        self._advance(now)

    # -- inside ----------------------------------------------------------------------------------------

    def _advance(self, now: float) -> None:
        """Let every path to which something happened choose whom to ask."""
        if now >= self._deadline:
            self._over = True
        if self._over:
            return
        self._note_overdue(now)
        discredited_too = now < self._deadline - TIME_LIMIT_S + DISCREDITED_LIMIT_S
        for path in self._paths:
            if path.changed:
                self._ready.extend(path.choose(now, discredited_too=discredited_too))

    def _note_overdue(self, now: float) -> None:
        slow = [contact for path in self._paths for contact in path.newly_overdue(now)]
        for contact in slow:
            self._judge(contact, blame=1)
        if slow:
            for path in self._paths:
                path.changed = True

    def _end_query(self, contact: Contact) -> tuple[_Path, float] | None:
        """The path that asked `contact` and when; it has it in flight no longer."""
        for path in self._paths:
            asked_at = path.end_query(contact)
            if asked_at is not None:
                return path, asked_at
        return None

    def _judge(self, contact: Contact, blame: int) -> None:
        for path in self._paths:
            path.judge(contact, blame)

    def _readable(self, contacts: Iterable[Contact]) -> list[Contact]:
        """The part of an answer that is read: of the first k, distinct ids and addresses, few per prefix."""
        seen: set[NodeId] = set() if self._own_id is None else {self._own_id}
        in_place: Counter[object] = Counter()
        readable: list[Contact] = []
        for contact in islice(contacts, self._k):
            prefix = contact.address.prefix()
            crowded = not self._private and in_place[prefix] >= MAX_PER_PREFIX_IN_ANSWER
            if contact.node_id in seen or in_place[contact.address] or crowded:
                continue
            seen.add(contact.node_id)
            in_place[contact.address] += 1
            in_place[prefix] += 1
            readable.append(contact)
        return readable
