"""One search in the Mainline DHT for a key, as a plain object: what to send next, and what an answer brings. No I/O.

Anybody may answer, and lie. So everything has a bound: queries, candidates, what one answer may add, and how many
addresses of it all are worth a ping. The nodes that answer take turns in naming those, so one liar fills no list.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, zip_longest
from random import Random

from shoal.dht import Address
from shoal.node.reach.rendezvous.krpc import ID_BYTES, MainlineAnswer, announce_peer, get_peers, read_answer
from shoal.values import dataclass

NEAREST = 8  # nodes that are to have answered, and to which is announced (BEP 5)
PARALLEL = 6  # queries under way
QUERY_S = 2.0  # for an answer to a query
SEARCH_S = 15.0  # for all of it
MAX_QUERIES = 96  # of some 110 bytes each
MAX_CANDIDATES = 400  # nodes heard of in one search
MAX_PER_PLACE = 4  # candidates of one /24 or /48, in a private network of one host and port
MAX_FOUND = 32  # addresses that one search brings
NUMBER_BYTES = 4


@dataclass(slots=True)
class _Candidate:
    """A node heard of. `distance`: to the key, by the id that was named, or that it gave itself."""

    address: Address
    distance: int
    number: bytes = b""
    asked_at: float = 0.0
    has_failed: bool = False
    answer: MainlineAnswer | None = None

    @property
    def is_waiting(self) -> bool:
        return bool(self.number) and not self.has_failed and self.answer is None


class MainlineSearch:
    """Looks for the nodes nearest to `key` and gathers what is announced there.

    starts: where to begin, routers mostly.    allows: whether an address may be asked, or be pinged later.
    """

    def __init__(
        self,
        key: bytes,
        own_id: bytes,
        starts: Sequence[Address],
        *,
        ipv6: bool,
        now: float,
        rng: Random,
        allows: Callable[[Address], bool],
    ) -> None:
        self._key = key
        self._own_id = own_id
        self._ipv6 = ipv6
        self._rng = rng
        self._allows = allows
        self._ends_at = now + SEARCH_S
        self._queries = 0
        self._candidates: dict[Address, _Candidate] = {}
        self._fresh: list[Address] = []
        self._places: Counter[bytes] = Counter()
        for address in starts:
            self._candidates[address] = _Candidate(address, -1)  # before all others

    def due(self, now: float) -> Iterator[tuple[Address, bytes]]:
        """The queries to send now, with where they go. What has not answered in time has failed."""
        for each in self._candidates.values():
            if each.is_waiting and now - each.asked_at >= QUERY_S:
                each.has_failed = True
        room = PARALLEL - sum(each.is_waiting for each in self._candidates.values())
        for each in self._next()[: max(0, min(room, MAX_QUERIES - self._queries))]:
            each.number, each.asked_at = self._rng.randbytes(NUMBER_BYTES), now
            self._queries += 1
            yield each.address, get_peers(each.number, self._own_id, self._key)

    def is_over(self, now: float) -> bool:
        """Whether nothing further will come of it."""
        is_idle = not any(each.is_waiting for each in self._candidates.values())
        return now >= self._ends_at or (is_idle and (not self._next() or self._queries >= MAX_QUERIES))

    def on_datagram(self, data: bytes, source: Address) -> bool:
        """Take what came in. Whether it was an answer of a node that we asked."""
        asked = self._candidates.get(source)
        if asked is None or not asked.is_waiting:
            return False
        answer = read_answer(data, ipv6=self._ipv6)
        if answer is None or answer.number != asked.number:
            return False
        asked.answer, asked.distance = answer, self._distance(answer.node_id)
        for node_id, address in answer.nodes:
            self._hear_of(node_id, address)
        values = [address for address in answer.values if self._allows(address)]
        if values:
            self._fresh.append(self._rng.choice(values))
        return True

    def first_words(self) -> list[Address]:
        """One address of each node that has answered since the last call: what need not wait for the end."""
        fresh, self._fresh = self._fresh, []
        return fresh

    def found(self) -> list[Address]:
        """Addresses announced under the key, each named by some node: the first of every node, then the second."""
        lists = []
        for each in self._candidates.values():
            if each.answer is not None:
                values = [address for address in dict.fromkeys(each.answer.values) if self._allows(address)]
                lists.append(self._rng.sample(values, len(values)))
        self._rng.shuffle(lists)
        in_turn = (address for address in chain.from_iterable(zip_longest(*lists)) if address is not None)
        return list(dict.fromkeys(in_turn))[:MAX_FOUND]

    def answered(self) -> list[Address]:
        """The nodes that have answered, the nearest first: where another search may begin."""
        return [each.address for each in self._nearest() if each.answer is not None]

    def announcements(self, port: int) -> list[tuple[Address, bytes]]:
        """What to send so that our address with this port is found under the key."""
        able = [each for each in self._nearest() if each.answer is not None and each.answer.token]
        return [
            (each.address, announce_peer(each.number, self._own_id, self._key, port, each.answer.token))
            for each in able[:NEAREST]
            if each.answer is not None
        ]

    def _nearest(self) -> list[_Candidate]:
        """All that have not failed, the nearest first."""
        return sorted(
            (each for each in self._candidates.values() if not each.has_failed), key=lambda each: each.distance
        )

    def _next(self) -> list[_Candidate]:
        """Those among the nearest that are still to be asked."""
        nearest = self._nearest()
        starts = [each for each in nearest if each.distance < 0]
        return [each for each in (*starts, *nearest[len(starts) :][:NEAREST]) if not each.number]

    def _hear_of(self, node_id: bytes, address: Address) -> None:
        place = address.prefix() if address.is_public else address.pack()
        if address in self._candidates or not self._allows(address) or address.is_ipv6 != self._ipv6:
            return
        if len(self._candidates) >= MAX_CANDIDATES or self._places[place] >= MAX_PER_PLACE:
            return
        self._places[place] += 1
        self._candidates[address] = _Candidate(address, self._distance(node_id))

    def _distance(self, node_id: bytes) -> int:
        return int.from_bytes(node_id, "big") ^ int.from_bytes(self._key, "big")


def new_id(rng: Random) -> bytes:
    """An id for one process; nobody is to know us by it later."""
    return rng.randbytes(ID_BYTES)
