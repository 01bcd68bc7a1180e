"""Whether this machine's clock can be believed, judged by its peers' clocks.

By a wrong clock nothing is deleted and nothing repaired. It takes good statements of holders for old ones, so that it
would make again what is not missing.
"""

import math
import statistics
from collections import OrderedDict

import trio

from shoal.dht import Contact, QueryError
from shoal.erasure import HASH_BYTES, FileId
from shoal.node.care.polls import MalformedPoll, poll
from shoal.node.context import Context
from shoal.node.holders.placement import host_of
from shoal.node.holders.statements import MAX_SKEW_S
from shoal.node.nursery import open_nursery

ASKED = 25  # peers, by chance: five answers are enough, and liars are believed only where half of the answers are lies

LEAST_PEERS = 5  # fewer may all be wrong, or lie
TOLERANCE_S = 86400.0
MAX_AGE_S = 3 * 86400.0  # of a comparison
MAX_HOSTS = 101
MOVED_S = 60.0  # by which a clock has to move to be looked at at once
LOOK_AGE_S = 600.0
FEW_AGE_S = 30.0  # of a look that found too few peers: a node that has just started knows more by now
LOOK_TIMEOUT_S = 2.0  # somebody waits for the node's status
# Seconds since 1970. No clock in use says more, and no statement could be made of it. A bound around our own clock
# would not do: a machine that forgets the time begins at 1970, and has to learn that.
MAX_CLOCK = 2.0**40


class ClockComparison:
    """How far peers' clocks are ahead of ours. Each host has one say, its latest: ids cost nothing, addresses do."""

    def __init__(self) -> None:
        self._offsets: OrderedDict[bytes, tuple[float, float]] = OrderedDict()

    def note(self, host: bytes, theirs: float, ours: float, now: float) -> None:
        """A peer on this host (`host_of`) said `theirs` when our clock read `ours`; `now` is monotonic."""
        if theirs > MAX_CLOCK:
            return
        self._offsets[host] = (now, theirs - ours)
        self._offsets.move_to_end(host)
        while len(self._offsets) > MAX_HOSTS:
            self._offsets.popitem(last=False)

    def forget(self) -> None:
        """Our clock was set."""
        self._offsets.clear()

    def hosts(self, now: float) -> int:
        """How many hosts were heard lately."""
        return sum(now - at <= MAX_AGE_S for at, _ in self._offsets.values())

    def agrees(self, now: float) -> bool:
        """Whether leases may end by our clock: enough peers were heard lately, and their median is a day off at most.

        Where two offsets are in the middle, both have to be.
        """
        middle = self._middle(now)
        return len(middle) > 0 and max(map(abs, middle)) <= TOLERANCE_S

    def misleads(self, now: float) -> bool:
        """Whether enough peers were heard lately to know that our clock misjudges the age of their statements."""
        ahead_s = self.peers_ahead_s(now)
        return ahead_s is not None and abs(ahead_s) > MAX_SKEW_S

    def peers_ahead_s(self, now: float, *, least: int = LEAST_PEERS) -> float | None:
        """By how much the peers that were heard lately are ahead of us: their median. None for fewer than `least`.

        Of two in the middle it is the one nearer to us. Their mean would be whatever a liar likes.
        """
        return min(self._middle(now, least), key=abs, default=None)

    def _middle(self, now: float, least: int = LEAST_PEERS) -> tuple[float, ...]:
        """The lower and the upper median of what was heard lately; nothing where that is too little."""
        recent = [offset for at, offset in self._offsets.values() if now - at <= MAX_AGE_S]
        return (statistics.median_low(recent), statistics.median_high(recent)) if len(recent) >= least else ()


async def ask_clocks(context: Context, clocks: ClockComparison | None = None) -> ClockComparison:
    """Ask some peers for their clocks, and note them in `clocks`. None may answer. Takes as long as a datagram may."""
    noted = ClockComparison() if clocks is None else clocks

    async def ask(contact: Contact) -> None:
        no_file = FileId(context.env.entropy(HASH_BYTES))  # a poll is about a file, and this one is none
        try:
            clock, _ = await poll(context, contact, [no_file])
        except (QueryError, MalformedPoll):
            return
        host = host_of(contact, private=context.network.private)
        noted.note(host, float(clock), context.env.wall(), trio.current_time())

    async with open_nursery() as nursery:
        for contact in context.dht.sample(ASKED):
            nursery.start_soon(ask, contact)
    return noted


class ClockLook:
    """Compares clocks anew for somebody who asks how the node does: a clock that was just moved is told at once."""

    def __init__(self, context: Context, clocks: ClockComparison) -> None:
        self._context = context
        self._clocks = clocks
        self._looked_at = -math.inf
        self._offset: float | None = None  # of the wall clock from the steady one, when we last looked

    async def refresh(self) -> None:
        """Ask some peers, if the clock has moved since or it is a while ago. Takes `LOOK_TIMEOUT_S` at most."""
        now = trio.current_time()
        offset = self._context.env.wall() - now
        has_moved = self._offset is not None and abs(offset - self._offset) > MOVED_S
        age_s = LOOK_AGE_S if self._clocks.hosts(now) >= LEAST_PEERS else FEW_AGE_S
        if not has_moved and now - self._looked_at < age_s:
            return
        if has_moved:
            self._clocks.forget()
        self._looked_at, self._offset = now, offset
        with trio.move_on_after(LOOK_TIMEOUT_S):
            await ask_clocks(self._context, self._clocks)
