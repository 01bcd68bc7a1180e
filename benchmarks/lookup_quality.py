"""How well lookups survive liars, and how many messages they cost. No network, no trio: the pure objects
alone.

    python benchmarks/lookup_quality.py --nodes 300 --lookups 500 --seed 1
    python benchmarks/lookup_quality.py --messages          # messages per lookup against the size of the
    network

A network of nodes, each with a routing table filled by joining through real lookups, in virtual time with
random delays. Then a share of the nodes lies. A lookup counts as *found* when at least one honest node among
the K nodes truly nearest to the target (liars included in the ranking) answered: the record one wants lies
there. *reached* is the mean share of those honest nodes that answered.

Ways to lie:
  collude  name the K colluders nearest to the target
  squat    name K answering ids made for this target, nearer than any other node and known to liars only
  ghosts   name K ids next to the target where nobody answers
  divert   name the nodes truly nearest to the target, at wrong addresses
  mixed    each liar does one of these

The bar: with 20, 30 and 50 % liars, 0.99, 0.97 and 0.90 of the thorough lookups, those with the most paths, must find.
It is told on their lines, and the script ends with 1 where one is missed.

With --poisoned the liars lie already while everybody joins. Newcomers come in through DOORS, honest nodes as in a
bootstrap list, and everybody looks around once more when all are there. Through one door kept by a liar nobody
gets in at all, whatever the lookup does.
"""

import argparse
import heapq
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from random import Random

from shoal.dht.address import Address
from shoal.dht.contact import Contact
from shoal.dht.identity import NodeId, distance
from shoal.dht.lookup import PATHS, THOROUGH_PATHS, Lookup
from shoal.dht.routing import ContactTable, K

ONE_WAY_S = (0.005, 0.1)  # uniform: from one city to the other side of the world
TIMEOUT_S = 1.5  # after which a silent node is reported as failed
LIES = ("collude", "squat", "ghosts", "divert")
SEEDS_PER_PATH = 3
BARS = {0.2: 0.99, 0.3: 0.97, 0.5: 0.90}  # share of liars: what thorough lookups must find at least
DOORS = 3  # the first nodes: everybody's way in, and never liars


@dataclass(slots=True)
class Peer:
    contact: Contact
    table: ContactTable


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one lookup did. messages: queries sent.  seconds: of virtual time."""

    answered: frozenset[NodeId]
    result: tuple[Contact, ...]
    messages: int
    seconds: float


@dataclass(slots=True)
class Network:
    """All nodes, and who lies how."""

    rng: Random
    peers: dict[Contact, Peer] = field(default_factory=dict)
    lies: dict[NodeId, str] = field(default_factory=dict)
    squatters: list[Contact] = field(default_factory=list)  # of the lookup under way
    now: float = 0.0

    def grow(self, count: int, liars: float = 0.0, lie: str = "mixed") -> None:
        """Let `count` nodes join one after the other, each through a random earlier one; this share of them
        lies."""
        for _ in range(count):
            self._join()
            if self.rng.random() < liars:
                self._corrupt(next(reversed(self.peers)).node_id, lie)

    def _corrupt(self, node_id: NodeId, lie: str) -> None:
        self.lies[node_id] = self.rng.choice(LIES) if lie == "mixed" else lie

    def _join(self) -> Peer:
        newcomer = Peer(contact := self._new_contact(), ContactTable(contact.node_id, self.now, private=True))
        for door in islice(self.peers.values(), DOORS):
            self._meet(newcomer, door)
        self.peers[contact] = newcomer
        self._look_around(newcomer)
        return newcomer

    def _look_around(self, peer: Peer) -> None:
        """What a node does to settle in: search for itself, and in a few ranges of its table."""
        self.lookup(peer, peer.contact.node_id, PATHS, serving=True)
        for target in peer.table.stale_ranges(self.now, 0.0, self.rng)[:4]:
            self.lookup(peer, target, PATHS, serving=True)

    def _new_contact(self) -> Contact:
        host = ".".join(str(self.rng.randrange(1, 255)) for _ in range(4))
        return Contact(NodeId(self.rng.randbytes(32)), Address(host, self.rng.randrange(1024, 65536)))

    def _meet(self, one: Peer, other: Peer) -> None:
        one.table.on_verified(other.contact, self.now)
        other.table.on_verified(one.contact, self.now)

    def recruit(self, share: float, lie: str) -> None:
        """From now on this share of the nodes lies. `lie` is one of LIES or "mixed"."""
        ids = [contact.node_id for contact in self.peers]
        for node_id in self.rng.sample(ids, round(share * len(ids))):
            self._corrupt(node_id, lie)

    def storers(self, target: bytes) -> list[Contact]:
        """The K nodes truly nearest to the target."""
        return heapq.nsmallest(K, self.peers, key=lambda c: distance(c.node_id, target))

    def honest(self) -> list[Peer]:
        return [peer for contact, peer in self.peers.items() if contact.node_id not in self.lies]

    def answer(self, contact: Contact, target: bytes) -> Sequence[Contact]:
        """What `contact` names when asked for the nodes nearest to `target`."""
        peer = self.peers.get(contact)
        if peer is None:
            return self.squatters
        lie = self.lies.get(contact.node_id)
        if lie is None:
            return peer.table.closest(target, K)
        if lie == "collude":
            liars = (other for other in self.peers if other.node_id in self.lies)
            return heapq.nsmallest(K, liars, key=lambda c: distance(c.node_id, target))
        if lie == "squat":
            return self.squatters
        if lie == "ghosts":
            return self._beside(target)
        return [Contact(near.node_id, self._new_contact().address) for near in self.storers(target)]

    def _beside(self, target: bytes) -> list[Contact]:
        """K invented contacts nearer to the target than any real node."""
        ids = (NodeId(target[:16] + self.rng.randbytes(16)) for _ in range(K))
        return [Contact(node_id, self._new_contact().address) for node_id in ids]

    def lookup(self, origin: Peer, target: bytes, paths: int, *, serving: bool = False) -> Outcome:
        """Run one lookup to its end in virtual time."""
        seeds = origin.table.closest(target, SEEDS_PER_PATH * paths)
        lookup = Lookup(target, seeds, own_id=origin.contact.node_id, private=True, paths=paths)
        started = now = self.now
        self.squatters = self._beside(target)
        answered: set[NodeId] = set()
        events: list[tuple[float, int, Contact, bool]] = []
        while not lookup.done:
            for contact in lookup.next_queries(now):
                alive = contact in self.peers or contact in self.squatters
                delay = 2 * self.rng.uniform(*ONE_WAY_S) if alive else TIMEOUT_S
                heapq.heappush(events, (now + delay, self.rng.getrandbits(60), contact, alive))
            deadline = lookup.next_deadline()
            if not events or events[0][0] > deadline:
                now = deadline
                continue
            now, _, contact, alive = heapq.heappop(events)
            if not alive:
                lookup.on_failure(contact, now)
                continue
            answered.add(contact.node_id)
            lookup.on_reply(contact, self.answer(contact, target), now)
            if serving and contact in self.peers:
                self._meet(origin, self.peers[contact])
        self.now = now
        return Outcome(frozenset(answered), tuple(lookup.result()), lookup.query_count, now - started)


@dataclass(frozen=True, slots=True)
class Quality:
    """Over many lookups: share found, mean share of honest storers reached, mean messages, mean and worst seconds."""

    found: float
    reached: float
    messages: float
    seconds: float
    worst_s: float

    def __str__(self) -> str:
        times = f"{self.seconds:7.2f} {self.worst_s:7.2f}"
        return f"{self.found:7.4f} {self.reached:7.3f} {self.messages:8.1f} {times}"


HEADINGS = f"{'found':>7} {'reached':>7} {'messages':>8} {'mean s':>7} {'worst s':>7}"


def measure(network: Network, lookups: int, paths: int) -> Quality:
    """Let random honest nodes look for random targets."""
    honest = network.honest()
    found = 0
    reached: list[float] = []
    outcomes: list[Outcome] = []
    for _ in range(lookups):
        target = network.rng.randbytes(32)
        origin = network.rng.choice(honest)
        outcome = network.lookup(origin, target, paths)
        storers = {c.node_id for c in network.storers(target) if c.node_id not in network.lies}
        storers.discard(origin.contact.node_id)
        found += bool(storers & outcome.answered)
        reached.append(len(storers & outcome.answered) / max(1, len(storers)))
        outcomes.append(outcome)
    return Quality(
        found / lookups,
        sum(reached) / lookups,
        sum(o.messages for o in outcomes) / lookups,
        sum(o.seconds for o in outcomes) / lookups,
        max(o.seconds for o in outcomes),
    )


def bar(share: float) -> float | None:
    """What must be found with so many liars: the bar of the next larger share that has one; None beyond all."""
    return next((BARS[each] for each in sorted(BARS) if share <= each), None)


def judged(quality: Quality, share: float, paths: int) -> tuple[str, bool]:
    """What to say of a line, and whether a bar is missed."""
    least = bar(share) if paths == THOROUGH_PATHS else None
    if least is None:
        return "", False
    missed = quality.found < least
    return f"  bar {least:.2f} {'MISSED' if missed else 'met'}", missed


def survive_liars(nodes: int, lookups: int, seed: int, shares: Sequence[float], poisoned: bool) -> int:
    """Print the quality of lookups under each way of lying; how often a bar was missed."""
    missed = 0
    joins = "poisoned" if poisoned else "clean"
    print(f"{nodes} nodes, {lookups} lookups per line, seed {seed}, {joins} joins")
    print(f"{'lie':8} {'liars':>5} {'paths':>5} {HEADINGS}")
    for lie in (*LIES, "mixed"):
        for share in shares:
            network = Network(Random(seed))
            network.grow(nodes, share if poisoned else 0.0, lie)
            if not poisoned:
                network.recruit(share, lie)
            for paths in (1, PATHS, THOROUGH_PATHS):
                quality = measure(network, lookups, paths)
                words, is_missed = judged(quality, share, paths)
                missed += is_missed
                print(f"{lie:8} {share:5.0%} {paths:5} {quality}{words}", flush=True)
    print(f"bars missed: {missed}")
    return missed


def count_messages(lookups: int, seed: int, sizes: Sequence[int]) -> None:
    """Print messages per lookup in honest networks of several sizes. table: mean size of a routing table."""
    print(f"{'nodes':>6} {'table':>6} {'paths':>5} {HEADINGS} {'cpu ms':>7}")
    for nodes in sizes:
        network = Network(Random(seed))
        network.grow(nodes)
        table = sum(len(peer.table) for peer in network.peers.values()) / nodes
        for paths in (1, PATHS, THOROUGH_PATHS):
            cpu = time.process_time()
            quality = measure(network, lookups, paths)
            cpu_ms = (time.process_time() - cpu) / lookups * 1000
            print(f"{nodes:6} {table:6.1f} {paths:5} {quality} {cpu_ms:7.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=300)
    parser.add_argument("--lookups", type=int, default=300, help="per printed line")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.2, 0.3, 0.5], help="of liars")
    parser.add_argument("--poisoned", action="store_true", help="liars lie while the network is built, too")
    parser.add_argument("--messages", action="store_true", help="honest networks of 50 to 800 nodes instead")
    options = parser.parse_args()
    if options.messages:
        count_messages(options.lookups, options.seed, (50, 100, 200, 400, 800))
    else:
        missed = survive_liars(options.nodes, options.lookups, options.seed, options.shares, options.poisoned)
        raise SystemExit(missed > 0)


if __name__ == "__main__":
    main()
