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

from bisect import insort
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
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

MAX_PER_PREFIX_IN_ANSWER = MAX_PER_PREFIX_IN_BUCKET  # an honest table keeps no more per bucket
MAX_PER_PREFIX_ASKED = 4  # by one path: also bounds what a lookup can be made to send to a stranger's network

assert OVERDUE_MAX_S < TIME_LIMIT_S / 10, "several layers of dead contacts must fit into one lookup"


@dataclass(slots=True)
class _Candidate:
    """A contact some path has heard of, with who named it. Seeds have no source and are never discredited."""

    contact: Contact
    round: int
    sources: set[NodeId] = field(default_factory=set)


@dataclass(slots=True)
class _Board:
    """What all paths of a lookup share: which contacts were asked and what became of them. No hearsay."""

    asked: set[Contact] = field(default_factory=set)
    overdue: set[Contact] = field(default_factory=set)
    failed: set[Contact] = field(default_factory=set)
    answered: dict[NodeId, Contact] = field(default_factory=dict)
    round_trip_s: float = OVERDUE_MAX_S / OVERDUE_ROUND_TRIPS

    def is_open(self, contact: Contact) -> bool:
        """Whether nobody asked this contact yet, and nobody with its id answered from elsewhere."""
        return contact not in self.asked and contact.node_id not in self.answered

    def note_round_trip(self, seconds: float) -> None:
        self.round_trip_s += (seconds - self.round_trip_s) / 4

    def patience_s(self) -> float:
        return min(OVERDUE_MAX_S, max(OVERDUE_MIN_S, OVERDUE_ROUND_TRIPS * self.round_trip_s))


class _Path:
    """One of the disjoint paths: what it was told, and what it has in flight."""

    def __init__(self, target: bytes, board: _Board, *, k: int, alpha: int, private: bool) -> None:
        self._target = target
        self._board = board
        self._k = k
        self._alpha = alpha
        self._private = private
        self._candidates: dict[Contact, _Candidate] = {}
        self._by_distance: list[tuple[int, int, _Candidate]] = []  # distance, order of arrival, candidate
        self._blame: Counter[NodeId] = Counter()
        self._asked_in_prefix: Counter[bytes] = Counter()
        self._asked_count = 0
        self.in_flight: dict[Contact, float] = {}  # contact -> when it was asked
        self.changed = True  # something happened since the last choice

    def learn(self, contact: Contact, source: NodeId | None, round: int) -> None:
        """Add a contact, or one more source for it."""
        candidate = self._candidates.get(contact)
        if candidate is None:
            candidate = self._candidates[contact] = _Candidate(contact, round)
            place = (distance(contact.node_id, self._target), len(self._by_distance), candidate)
            insort(self._by_distance, place)
            if source is None:
                return
        elif not candidate.sources or source is None:
            return  # known first hand
        candidate.sources.add(source)

    def round_of(self, contact: Contact) -> int:
        return self._candidates[contact].round

    def judge(self, contact: Contact, blame: int) -> None:
        """Charge (or credit, if negative) those who named `contact`."""
        candidate = self._candidates.get(contact)
        for source in candidate.sources if candidate else ():
            self._blame[source] += blame

    def choose(self, now: float) -> list[Contact]:
        """Contacts to ask now, nearest first; they count as asked."""
        self.changed = False
        chosen = self._take(self._open(discredited_too=False), now)
        if not chosen and not self._waiting():
            chosen = self._take(self._open(discredited_too=True), now)
        return chosen

    def next_overdue_at(self) -> float:
        """When the oldest query that is not overdue yet will be."""
        asked_at = (self.in_flight[contact] for contact in self._waiting())
        return min(asked_at, default=float("inf")) + self._board.patience_s()

    def newly_overdue(self, now: float) -> list[Contact]:
        latest = now - self._board.patience_s()
        return [contact for contact in self._waiting() if self.in_flight[contact] <= latest]

    def _waiting(self) -> list[Contact]:
        return [contact for contact in self.in_flight if contact not in self._board.overdue]

    def _take(self, candidates: Iterable[Contact], now: float) -> list[Contact]:
        room = min(
            self._alpha - len(self._waiting()),
            MAX_IN_FLIGHT_PER_PATH - len(self.in_flight),
            MAX_QUERIES_PER_PATH - self._asked_count,
        )
        chosen: list[Contact] = []
        for contact in candidates:
            if len(chosen) >= room:
                break
            if self._prefix_allows(contact):
                self._mark_asked(contact, now)
                chosen.append(contact)
        return chosen

    def _open(self, *, discredited_too: bool) -> Iterator[Contact]:
        """Those of the path's K nearest that nobody has asked; failed and overdue ones do not count among the
        K.
        """
        board = self._board
        nearest: set[NodeId] = set()
        for _, _, candidate in self._by_distance:
            contact = candidate.contact
            if contact in board.failed or contact in board.overdue:
                continue
            if not discredited_too and self._is_discredited(candidate) and board.is_open(contact):
                continue
            nearest.add(contact.node_id)
            if len(nearest) > self._k:
                return
            if board.is_open(contact):
                yield contact

    def _is_discredited(self, candidate: _Candidate) -> bool:
        sources = candidate.sources
        return bool(sources) and all(self._blame[source] >= DISCREDITED_AT for source in sources)

    def _prefix_allows(self, contact: Contact) -> bool:
        return self._private or self._asked_in_prefix[contact.address.prefix()] < MAX_PER_PREFIX_ASKED

    def _mark_asked(self, contact: Contact, now: float) -> None:
        self._asked_in_prefix[contact.address.prefix()] += 1
        self._asked_count += 1
        self._board.asked.add(contact)
        self.in_flight[contact] = now


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
        self._board = _Board()
        self._deadline: float | None = None
        usable = {seed.node_id: seed for seed in seeds if seed.node_id != own_id}
        self._over = not usable
        self._ready: list[Contact] = []  # chosen, not yet given out
        ordered = sorted(usable.values(), key=lambda seed: distance(seed.node_id, target))
        count = max(1, min(paths, len(ordered)))
        self._paths = [_Path(target, self._board, k=k, alpha=alpha, private=private) for _ in range(count)]
        for index, seed in enumerate(ordered):
            self._paths[index % count].learn(seed, None, round=1)

    # -- the caller asks -------------------------------------------------------------------------------

    def next_queries(self, now: float) -> list[Contact]:
        """Contacts to ask now. Call it at first, after every report, and by next_deadline()."""
        if self._deadline is None:
            self._deadline = now + TIME_LIMIT_S
        self._advance(now)
        ready, self._ready = self._ready, []
        return [] if self._over else ready

    def next_deadline(self) -> float:
        """The monotonic time by which next_queries wants to be called even if nothing is reported."""
        limit = float("inf") if self._deadline is None else self._deadline
        return min(limit, *(path.next_overdue_at() for path in self._paths))

    @property
    def done(self) -> bool:
        """Whether nothing is left to ask or to wait for, or time is up. What is still in flight is not needed."""
        return self._over or not any(path.changed or path.in_flight for path in self._paths)

    @property
    def query_count(self) -> int:
        """How many contacts were given out to be asked."""
        return len(self._board.asked)

    def result(self) -> list[Contact]:
        """The nodes that answered, nearest to the target first, at most k."""
        answered = sorted(self._board.answered.values(), key=lambda c: distance(c.node_id, self.target))
        return answered[: self._k]

    # -- the caller reports ----------------------------------------------------------------------------

    def on_reply(self, contact: Contact, contacts: Iterable[Contact], now: float) -> None:
        """`contact` (as given out) answered and named `contacts`. Ignored if it was not in flight."""
        path = self._end_query(contact)
        if path is None:
            return
        board = self._board
        board.note_round_trip(now - path[1])
        board.answered[contact.node_id] = contact
        self._judge(contact, blame=-2 if contact in board.overdue else -1)
        board.overdue.discard(contact)
        round = path[0].round_of(contact) + 1
        if round <= ROUNDS:
            for named in self._readable(contacts):
                path[0].learn(named, contact.node_id, round)
        self._advance(now)

    def on_failure(self, contact: Contact, now: float) -> None:
        """`contact` (as given out) did not answer in time or cannot be reached. Ignored if not in flight."""
        if self._end_query(contact) is None:
            return
        board = self._board
        if contact not in board.overdue:
            self._judge(contact, blame=1)
        board.overdue.discard(contact)
        board.failed.add(contact)
        for path in self._paths:
            path.changed = True  # a place among somebody's K nearest is free
        self._advance(now)

    # -- inside ----------------------------------------------------------------------------------------

    def _advance(self, now: float) -> None:
        """Let every path to which something happened choose whom to ask."""
        if self._deadline is not None and now >= self._deadline:
            self._over = True
        if self._over:
            return
        self._note_overdue(now)
        for path in self._paths:
            if path.changed:
                self._ready.extend(path.choose(now))

    def _end_query(self, contact: Contact) -> tuple[_Path, float] | None:
        """The path that asked `contact` and when, which now has it in flight no longer."""
        for path in self._paths:
            asked_at = path.in_flight.pop(contact, None)
            if asked_at is not None:
                path.changed = True
                return path, asked_at
        return None

    def _note_overdue(self, now: float) -> None:
        for path in self._paths:
            for contact in path.newly_overdue(now):
                self._board.overdue.add(contact)
                self._judge(contact, blame=1)
                for other in self._paths:
                    other.changed = True

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
