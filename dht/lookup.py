"""An iterative lookup as an object without I/O. It says which node to ask next, until the K nodes nearest to a target
are known.

    lookup = Lookup(target, seeds, own_id=me, private=False)
    while not lookup.done:
        for contact in lookup.next_queries(now): ...      # the caller asks these (FIND_NODE or GET_RECORDS)
        lookup.on_reply(contact, contacts_in_reply, now)  # and reports each answer,
        lookup.on_failure(contact, now)                   # or that none came in time
        lookup.next_deadline()                            # and calls next_queries again by then at the latest
    lookup.result()

Disjoint paths (S/Kademlia, Baumgart & Mies 2007): the seeds are dealt to several paths. What a node answers is
known only to the path that asked it, and no contact is asked twice, so a liar spoils one path at most. Each path asks
until all of *its own* K nearest have been asked; what another path asked counts as asked. So the K nearest known to all
paths together are asked too.

Asking only the common K was tried. It is as good against liars with random ids, and a quarter cheaper. But liars can
make K ids for one target, which then end the search of all paths. Part of the lookups that found the record against
such squatters, with 300 nodes and 8 paths (150 lookups a figure; benchmarks/lookup_quality.py, lie "squat"):

    the search ends with   30 % liars   50 % liars
    each path's own K            1.00         0.97
    the common K                 0.94         0.89

What a liar in a path can do, and what stops it:

* name far more contacts than asked for: only the first K distinct ones of an answer are read;
* name nodes that do not exist, so that time is wasted: a query unanswered for a moment no longer counts against the few
  that a path has in flight. A source whose contacts keep failing is *discredited*. Contacts that only such sources
  named are asked after all others, and only while fewer than K nodes have answered. From then on, the lookup does not
  wait for those under way either;
* name an honest node with a wrong address, so that it seems dead: a contact is id *and* address, and its
  failure says nothing about the same id elsewhere;
* name ever nearer contacts, for ever: rounds, queries and time are bounded;
* name many ids in one network: counted per prefix in public networks, per answer and per path.

Contacts must have been checked as far as a contact alone can be (address allowed, proof of work of the id)
before they are reported here. `now` is monotonic seconds.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice

from shoal.dht.contact import Contact
from shoal.dht.identity import NodeId, distance
from shoal.dht.lookup_path import ALPHA, OVERDUE_MAX_S, Board, Path, QueryState
from shoal.dht.routing import MAX_PER_PREFIX_IN_TABLE, K

# Paths per lookup. More of them survive more liars and cost more messages (benchmarks/lookup_quality.py).
PATHS = 4
THOROUGH_PATHS = 8

ROUNDS = 20  # longest chain of "A told me of B". A network of 10**6 nodes needs about 5.
TIME_LIMIT_S = 10.0  # of a whole lookup: a person waits for it

# How long the contacts of discredited sources are asked at all. They get a chance because after a catastrophe honest
# answers are full of dead nodes too. The chance ends because invented nodes must not fill the whole TIME_LIMIT_S.
DISCREDITED_LIMIT_S = 3.0

MAX_PER_PREFIX_IN_ANSWER = MAX_PER_PREFIX_IN_TABLE  # an honest node knows no more

assert OVERDUE_MAX_S < TIME_LIMIT_S / 10, "several layers of dead contacts must fit into one lookup"


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
        self._board = Board(target)
        self._deadline = float("inf")  # set by the first next_queries
        usable = {seed.node_id: seed for seed in seeds if seed.node_id != own_id}
        self._over = not usable
        self._ready: list[Contact] = []  # chosen, not yet given out
        ordered = sorted(usable.values(), key=lambda seed: distance(seed.node_id, target))
        count = max(1, min(paths, len(ordered)))
        self._paths = [Path(self._board, k=k, alpha=alpha, private=private) for _ in range(count)]
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
        needed.
        """
        return self._over or not any(path.changed or path.is_waited_for(self._has_enough()) for path in self._paths)

    @property
    def query_count(self) -> int:
        """How many contacts were given out to be asked."""
        return self._board.query_count

    def result(self) -> list[Contact]:
        """The nodes that answered, nearest to the target first, at most k."""
        return self.answered()[: self._k]

    def answered(self) -> list[Contact]:
        """All nodes that answered, nearest first: what lies beyond the nearest k is of use against squatters."""
        return sorted(self._board.answered.values(), key=lambda c: distance(c.node_id, self.target))

    # -- the caller reports ----------------------------------------------------------------------------

    def on_reply(self, contact: Contact, contacts: Iterable[Contact], now: float) -> None:
        """`contact` (as given out) answered and named `contacts`. Ignored if it was not in flight."""
        ended = self._end_query(contact)
        if ended is None:
            return
        path, asked_at = ended
        known = self._board.known[contact]
        self._judge(contact, blame=-2 if known.state is QueryState.OVERDUE else -1)
        known.state = QueryState.ANSWERED
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
        if known.state is not QueryState.OVERDUE:
            self._judge(contact, blame=1)
        known.state = QueryState.FAILED
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
        discredited_too = not self._has_enough() and now < self._deadline - TIME_LIMIT_S + DISCREDITED_LIMIT_S
        for path in self._paths:
            if path.changed:
                self._ready.extend(path.choose(now, discredited_too=discredited_too))

    def _has_enough(self) -> bool:
        """Whether so many have answered that the contacts of discredited sources are not worth a wait."""
        return len(self._board.answered) >= self._k

    def _note_overdue(self, now: float) -> None:
        slow = [contact for path in self._paths for contact in path.newly_overdue(now)]
        for contact in slow:
            self._judge(contact, blame=1)
        if slow:
            for path in self._paths:
                path.changed = True

    def _end_query(self, contact: Contact) -> tuple[Path, float] | None:
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
        seen: set[object] = set() if self._own_id is None else {self._own_id}
        in_prefix: Counter[bytes] = Counter()
        readable: list[Contact] = []
        for contact in islice(contacts, self._k):
            if contact.node_id in seen or contact.address in seen:
                continue
            if not self._private:
                prefix = contact.address.prefix()
                if in_prefix[prefix] >= MAX_PER_PREFIX_IN_ANSWER:
                    continue
                in_prefix[prefix] += 1
            seen.add(contact.node_id)
            seen.add(contact.address)
            readable.append(contact)
        return readable
