"""Asking the holders of a file until enough shares of one run of segments have answered.

A source that fails is replaced at once. One that lags gets company: from another share, or from another holder of the
same one, and whichever answer first are used. Company is given freely while our line is idle, for then it is holders
that stall; over a line that is busy everybody is slow together, and more requests would only make it slower.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import field

import trio

from shoal.dht import Contact
from shoal.erasure import FileId, Manifest
from shoal.node.channel import Blocks, PeerError, Read, Throttle
from shoal.node.context import BUSY_PATIENCE_S, Context
from shoal.node.errors import BadData, Cause, NoPeers, NotFound, TooFewShares, in_words
from shoal.node.holders.announcers import Hint
from shoal.node.holders.line import LONGEST_S, Durations, Headway, Meter, moved_by_line
from shoal.node.nursery import open_nursery
from shoal.values import dataclass

PROGRESS_TIMEOUT_S = 60.0  # without any: then the fetch gives up; a minute outlasts a restart or a change of lines
PROGRESS_BYTES = 64 * 1024  # so much received counts as progress, even where no read has ended yet
FIRST_PATIENCE_S = 1.5  # before a slow holder gets company, while nothing is known of this network's speed
FEW_DURATIONS = 8  # with fewer, no speed is known
LEAST_PATIENCE_S = 0.25
PATIENCE_FACTOR = 4.0  # times the median of recent reads
CROWD_FACTOR = 2.0  # times that while most of a run is still outstanding: then it may be the line that is slow
BUSY_SHARE = 4  # over a busy line a quarter of those who lag get company each time, the longest asked first
LAG_MEMORY_S = 30.0  # a source that lagged is not preferred for so long; then it is tried again
MAX_FAILURES = 2  # of one source in a row, then it is asked no more

More = Callable[[], Awaitable[list[Hint]]]


@dataclass(eq=False)
class ShareSource:
    """One share at one holder."""

    share: int
    contact: Contact
    failures: int = 0
    cause: Cause | None = None  # of the latest failure, None while it delivers
    pending: int = 0
    corrupt: bool = False
    proven: bool = False  # by blocks that were right
    lagged_at: float = float("-inf")

    def note(self, error: PeerError) -> None:
        """It did not deliver."""
        self.cause = error.cause

    @property
    def usable(self) -> bool:
        """Whether it is still worth asking."""
        return not self.corrupt and self.failures < MAX_FAILURES


class SourceTable:
    """All known sources of a file, and the order in which they are asked."""

    def __init__(self, hints: Iterable[Hint], k: int) -> None:
        self._k = k
        self._sources: dict[Hint, ShareSource] = {}
        self.add(hints)

    def add(self, hints: Iterable[Hint]) -> bool:
        """Take further sources in; whether there was a new one."""
        before = len(self._sources)
        for hint in hints:
            self._sources.setdefault(hint, ShareSource(hint.share, hint.contact))
        return len(self._sources) > before

    def usable_shares(self) -> set[int]:
        """Distinct shares that somebody may still deliver."""
        return {source.share for source in self._sources.values() if source.usable}

    def corrupt_shares(self) -> set[int]:
        """Distinct shares of which only wrong bytes came."""
        return {source.share for source in self._sources.values() if source.corrupt} - self.usable_shares()

    def causes(self) -> Counter[Cause]:
        """How many sources do not deliver, by cause."""
        causes = (Cause.LIED if source.corrupt else source.cause for source in self._sources.values())
        return Counter(cause for cause in causes if cause is not None)

    def proven(self) -> list[Hint]:
        """The peers that delivered blocks of a share, and none that were wrong."""
        return [hint for hint, source in self._sources.items() if source.proven and not source.corrupt]

    def best(self, count: int, *, now: float, asked: set[ShareSource], shares: set[int]) -> list[ShareSource]:
        """Up to `count` sources of distinct shares, without those in `asked` and without these shares."""
        ranked = sorted(
            (
                source
                for source in self._sources.values()
                if source.usable and source not in asked and source.share not in shares
            ),
            key=lambda source: (
                source.failures,
                now - source.lagged_at < LAG_MEMORY_S,
                source.share >= self._k,
                source.pending,
            ),
        )
        chosen: dict[int, ShareSource] = {}
        for source in ranked:
            if source.share not in chosen and len(chosen) < count:
                chosen[source.share] = source
        return list(chosen.values())


class Pace:
    """How fast things go: what patience is due, and when nothing moves any more. Shared by all runs of a fetch."""

    def __init__(self, throttle: Throttle) -> None:
        self._throttle = throttle
        self._durations = Durations()
        self._headway = Headway(PROGRESS_BYTES, PROGRESS_TIMEOUT_S, trio.current_time(), throttle.received_bytes)
        self._gatherings = 0

    @contextmanager
    def gathering(self) -> Iterator[None]:
        """Within the block a run is asked for. Only then time without progress counts: a consumer may take its own."""
        if not self._gatherings:
            self.note_progress()
        self._gatherings += 1
        try:
            yield
        finally:
            self._gatherings -= 1

    def answered(self, since: float) -> None:
        """A read that began at `since` was answered."""
        self._durations.came(since, trio.current_time() - since)
        self.note_progress()

    def note_progress(self) -> None:
        """Things move."""
        self._headway.restart(trio.current_time(), self._throttle.received_bytes)

    def stuck(self) -> bool:
        """Whether nothing worth the name has been received for too long."""
        self._headway.note(trio.current_time(), self._throttle.received_bytes)
        return trio.current_time() > self._headway.deadline

    def patience_s(self, *, crowded: bool) -> float:
        """How long to wait for holders that lag before others are asked as well."""
        factor = CROWD_FACTOR if crowded else 1.0
        usual_s = self._durations.usual_s(FEW_DURATIONS)
        if usual_s is None:
            return factor * FIRST_PATIENCE_S
        return factor * max(LEAST_PATIENCE_S, PATIENCE_FACTOR * usual_s)


class Swarm:
    """What all runs of one fetch share: the sources, the pace, and the one search for further sources."""

    def __init__(self, context: Context, manifest: Manifest, hints: Iterable[Hint], more: More) -> None:
        self.context = context
        self.file_id: FileId = manifest.id
        self.k, self.n = manifest.k, manifest.n
        self.sources = SourceTable(hints, manifest.k)
        self.pace = Pace(context.throttle)
        self.received_bytes = 0
        self.searched = False
        self._more = more
        self._turn = trio.Lock()

    async def search(self) -> None:
        """Look for further sources, once; whoever comes meanwhile waits for the same search."""
        async with self._turn:
            if self.searched:
                return
            try:
                hints = await self._more()
            except (NotFound, NoPeers):
                hints = []  # whoever had announced the file is gone: what is known is all there is
            self.searched = True
            if self.sources.add(hints):
                self.pace.note_progress()


@dataclass(frozen=True)
class ShareAnswer:
    """A reply, unchecked, and who gave it."""

    source: ShareSource
    reply: Blocks


@dataclass(eq=False)
class Gathering:
    """One run under way: `collect`, check what came, `blame` who lied and `collect` again, or `confirm`.

    `needed` distinct shares are collected, of segments [first, first+count); blocks too, or data leaves alone.
    """

    swarm: Swarm
    first: int
    count: int
    needed: int
    want_data: bool = True
    answers: dict[int, ShareAnswer] = field(default_factory=dict)
    _asked: set[ShareSource] = field(default_factory=set)  # under way or answered: not to be asked again in this run
    _answered: set[ShareSource] = field(default_factory=set)
    _busy: dict[ShareSource, float] = field(default_factory=dict)  # under way since when, the longest first
    _late: set[ShareSource] = field(default_factory=set)  # of those, the ones that have got company
    _patient_until: float = 0.0
    _searching: bool = False
    _changed: trio.Event = field(default_factory=trio.Event)

    def __post_init__(self) -> None:
        self._meter = Meter(trio.current_time(), moved_by_line(self.swarm.context.throttle))

    async def collect(self) -> None:
        """Ask until enough shares have answered. TooFewShares or BadData when that cannot be."""
        self._idle_s()
        with self.swarm.pace.gathering():
            await self._collect()

    async def _collect(self) -> None:
        async with open_nursery() as nursery:
            while len(self.answers) < self.needed:
                self._changed = trio.Event()
                self._ask_missing(nursery)
                if not self._busy and not self._searching:
                    raise self._exhausted()
                with trio.move_on_at(self._deadline()) as patience:
                    await self._changed.wait()
                if patience.cancelled_caught:
                    if self.swarm.pace.stuck():
                        raise self._too_few()
                    self._give_company()
            nursery.cancel_scope.cancel()

    def blame(self, shares: Iterable[int]) -> None:
        """These answers were wrong: forget them, and ask those who gave them no more."""
        for share in shares:
            self.answers.pop(share).source.corrupt = True

    def confirm(self) -> None:
        """The answers were right: where they were blocks, those who gave them have these shares."""
        for answer in self.answers.values():
            answer.source.proven |= self.want_data

    def _ask_missing(self, nursery: trio.Nursery) -> None:
        """Ask as many further sources as it takes, not counting on those who lag; look for others when there are none.

        A source that failed is asked once more when nobody else is left.
        """
        missing = self.needed - len(self.answers) - (len(self._busy) - len(self._late))
        if missing <= 0:
            return
        taken = {*self.answers, *(source.share for source in self._busy if source not in self._late)}
        now = trio.current_time()
        chosen = self.swarm.sources.best(missing, now=now, asked=self._asked, shares=taken)
        for source in chosen:
            self._asked.add(source)
            self._busy[source] = now
            nursery.start_soon(self._attempt, source)
        if len(chosen) < missing and not self.swarm.searched and not self._searching:
            self._searching = True
            nursery.start_soon(self._search)

    async def _attempt(self, source: ShareSource) -> None:
        started = trio.current_time()
        source.pending += 1
        try:
            request = Read(self.swarm.file_id, source.share, self.first, self.count, self.want_data)
            reply = await self.swarm.context.ask(
                source.contact, request, timeout_s=LONGEST_S, patience_s=BUSY_PATIENCE_S, on_busy=source.note
            )
            self._take(source, reply, started)
        except PeerError as error:
            source.note(error)
            source.failures += 1
        finally:
            source.pending -= 1
            if source not in self._answered:
                self._asked.discard(source)  # it failed, or was not waited for
            self._late.discard(source)
            del self._busy[source]
            self._changed.set()

    def _take(self, source: ShareSource, reply: Blocks, started: float) -> None:
        source.failures = 0
        source.cause = None
        if source not in self._late:
            source.lagged_at = float("-inf")
        self.swarm.pace.answered(started)
        self.swarm.received_bytes += len(reply.payload)
        self._answered.add(source)
        self.answers.setdefault(source.share, ShareAnswer(source, reply))

    async def _search(self) -> None:
        try:
            await self.swarm.search()
        finally:
            self._searching = False
            self._changed.set()

    # --- patience

    def _deadline(self) -> float:
        """When those who are longest under way without company are to get it; or when to look again at all."""
        outstanding = self.needed - len(self.answers)
        patience = self.swarm.pace.patience_s(crowded=2 * outstanding > self.needed)
        begun = [since for source, since in self._busy.items() if source not in self._late]
        return max(min(begun, default=trio.current_time()) + patience, self._patient_until)

    def _give_company(self) -> None:
        """Count on some who lag no longer: on all while our line is idle, else on a part."""
        now = trio.current_time()
        busy_line = not self._idle_s()
        lagging = [source for source in self._busy if source not in self._late]
        if busy_line:
            lagging = lagging[: -(-len(lagging) // BUSY_SHARE)]
        for source in lagging:
            source.lagged_at = now
        self._late.update(lagging)
        self._patient_until = now + self.swarm.pace.patience_s(crowded=busy_line)

    def _idle_s(self) -> float:
        """For how long our line was idle since the last look."""
        now, throttle = trio.current_time(), self.swarm.context.throttle
        return self._meter.look(now, moved_by_line(throttle), held_back=throttle.holds_back(now))

    # --- giving up

    def _exhausted(self) -> TooFewShares | BadData:
        """Everybody has been asked, and nobody is left."""
        good, corrupt, k = len(self.answers), len(self.swarm.sources.corrupt_shares()), self.swarm.k
        if corrupt and good + corrupt >= k:
            return BadData(
                f"{good + corrupt} shares were reached and {k} are needed, but {corrupt} of them hold wrong bytes. "
                "No wrong byte was written. Try again later: other hosts may be back by then.",
                causes=self.swarm.sources.causes(),
            )
        return self._too_few()

    def _too_few(self) -> TooFewShares:
        found, k, n = len(self.answers), self.swarm.k, self.swarm.n
        causes = self.swarm.sources.causes()
        for source in self._busy:  # and there is no time left to wait for it
            causes[Cause.SILENT] += source.cause is None
        told = in_words(causes)
        return TooFewShares(
            f"Only {found} of the {k} shares needed could be reached (the file has {n} in all). "
            f"{f'Of the other hosts, {told}' if told else 'The other hosts may be away'}. "
            "Run the same command again later: it goes on where it stopped.",
            needed=k,
            found=found,
            causes=causes,
        )
