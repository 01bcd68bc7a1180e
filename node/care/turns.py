"""Turns: when this node is to look at which of the files kept here, and whether another holder has done it already.

In every epoch one holder of a file looks at it, by rank (`epochs`). A look asks all other holders, so each of them
notices it: that is a claim to have looked. A claim counts where it can have been that holder's turn. This is plain
bookkeeping: callers bring the time and the holders.
"""

import math
from collections.abc import Callable, Collection, Iterable

from shoal.dht import NodeId
from shoal.erasure import FileId
from shoal.node.care.agenda import Agenda, Errand
from shoal.node.care.epochs import end_of_epoch, epoch_of, may_act, next_turn
from shoal.node.care.urgency import HURRIED_PARTS
from shoal.values import dataclass

TOGETHER_PARTS = 64  # of an epoch: turns that come so soon after one another are taken together
EARLY_PARTS = 4  # of an epoch: turns come in its first half; a claim that comes so much before it counts for it
HINT_AFTER_S = 20.0  # a second poll so long after the first is no repetition of it, and asks to watch the file
MAX_PUT_OFF = 2  # in a row: so often a look of another holder has us return later to a file
MAX_CLAIMS = 16  # remembered of one file; a node that floods us with surveys has us look ourselves
MAX_POLLERS = 4  # remembered of one file: so many others must poll between two polls of a holder to hide its request


@dataclass(frozen=True, slots=True)
class Claim:
    """A peer asked about a file: in which epoch of it, which peer, and when (our wall clock)."""

    epoch: int
    caller: NodeId
    at: float


@dataclass(frozen=True, slots=True)
class Taken:
    """Errands that are due by `until`, earliest first: when each was to be done, why, and the file."""

    until: float
    errands: tuple[tuple[float, Errand, FileId], ...] = ()


class Turns:
    """The turns of one node, and its other errands about the same files. All times are of the wall clock.

    `on_return` hears that a file is to be looked at again: that may be sooner than anything else.
    """

    def __init__(self, me: NodeId, epoch_s: float, on_return: Callable[[], None] = lambda: None) -> None:
        self._me = me
        self._on_return = on_return
        self._epoch_s = epoch_s
        self._ahead_s = epoch_s / TOGETHER_PARTS
        self._agenda = Agenda()
        self._claims: dict[FileId, list[Claim]] = {}  # of each file those of one epoch
        self._asked_at: dict[FileId, float] = {}  # when anybody last asked about a file that is kept here
        self._polled: dict[FileId, tuple[tuple[NodeId, float], ...]] = {}  # lately, by which peer and when; latest last
        self._watched_for: dict[FileId, NodeId] = {}  # files that we look at again because this peer asked us to
        self._pauses: dict[FileId, tuple[float, int]] = {}  # of returns, and how often each may be put off

    # --- what others do

    def note_claim(self, caller: NodeId, file_ids: Iterable[FileId], now: float) -> None:
        """A peer asks about these files. Whether it can be its turn is judged when ours comes."""
        for file_id in file_ids:
            if self.knows(file_id):
                self._asked_at[file_id] = now
                epoch = epoch_of(file_id, now + self._epoch_s / EARLY_PARTS, self._epoch_s)
                claims = self._claims.setdefault(file_id, [])
                if claims and claims[0].epoch != epoch:
                    claims.clear()
                if len(claims) < MAX_CLAIMS:
                    claims.append(Claim(epoch, caller, now))

    def note_polls(self, caller: NodeId, file_ids: Iterable[FileId], now: float) -> None:
        """A peer polls us about these files. If it does so again within minutes, it asks us to watch the file as well.

        Then we look at it some minutes later, unless somebody looks before: the peer may die, or do nothing. A look
        that comes sooner is never moved: anybody may poll without end.
        """
        shortest_s = self._epoch_s / HURRIED_PARTS
        for file_id in file_ids:
            if not self.knows(file_id):
                continue
            polls = [each for each in self._polled.get(file_id, ()) if now - each[1] < shortest_s]
            before = max((at for peer, at in polls if peer == caller), default=now)
            others = [each for each in polls if each[0] != caller]
            self._polled[file_id] = (*others[1 - MAX_POLLERS :], (caller, now))
            if now - before >= HINT_AFTER_S / 2:
                coming, when = self.returns_at(file_id), now + 2 * shortest_s
                if coming is None or coming > when:
                    self.return_to(file_id, when, pause_s=2 * shortest_s)
                    self._watched_for[file_id] = caller

    def claims(self, file_id: FileId) -> tuple[Claim, ...]:
        """The claims on a file that wait for our turn."""
        return tuple(self._claims.get(file_id, ()))

    # --- planning

    def knows(self, file_id: FileId) -> bool:
        """Whether the file has turns: it is kept here, and was scheduled once."""
        return self._agenda.has(Errand.TURN, file_id)

    def next_turn(self, file_id: FileId, holders: Collection[NodeId], after: float) -> float:
        """The first turn of ours at a file that comes at `after` or later. Changes nothing."""
        return next_turn(file_id, self._me, holders, after, self._epoch_s).starts_at

    def put(self, file_id: FileId, when: float) -> None:
        """The next turn at this file comes at `when`, and not when it was to come before."""
        self._agenda.put(Errand.TURN, file_id, when)

    def return_to(self, file_id: FileId, when: float, *, pause_s: float = 0.0) -> None:
        """Look at a file again at `when`, whichever holder's turn it is.

        `pause_s`: how long after a look of another holder that would be soon enough. It is put off so, a few times in
        a row at most, since anybody may ask about a file and do nothing.
        """
        self._agenda.put(Errand.RETURN, file_id, when)
        self._pauses[file_id] = (pause_s, MAX_PUT_OFF)
        self._watched_for.pop(file_id, None)
        self._on_return()

    def returns_at(self, file_id: FileId) -> float | None:
        """When `return_to` has us look at a file; None where it has not, or that was done."""
        return self._agenda.when(Errand.RETURN, file_id)

    def watched_for(self, file_id: FileId) -> NodeId | None:
        """The peer that asked us to look at a file again; None where we do so by ourselves, or not at all."""
        return self._watched_for.get(file_id)

    def ask_absent(self, file_id: FileId, when: float) -> None:
        """Ask the absent holders of a file again at `when`."""
        self._agenda.put(Errand.ABSENT, file_id, when)

    def end_of_epoch(self, file_id: FileId, when: float) -> float:
        """Just before the end of the epoch that a turn at `when` belongs to, taken a little early or not."""
        return end_of_epoch(file_id, when + self._ahead_s, self._epoch_s) - 0.5 * self._ahead_s

    def forget(self, file_id: FileId) -> None:
        """Nothing of a file is kept here any more."""
        self._agenda.forget(file_id)
        self._claims.pop(file_id, None)
        self._asked_at.pop(file_id, None)
        self._pauses.pop(file_id, None)
        self._polled.pop(file_id, None)
        self._watched_for.pop(file_id, None)

    # --- what is due

    def next_at(self) -> float | None:
        """When something may be due next."""
        return self._agenda.next_at()

    def take(self, now: float) -> Taken:
        """If anything is due, what is due now or very soon."""
        next_at = self._agenda.next_at()
        if next_at is None or next_at > now:
            return Taken(now)
        until = now + self._ahead_s
        errands = [(when, errand, FileId(raw)) for when, errand, raw in self._agenda.take(until)]
        return Taken(until, tuple(each for each in errands if each[1] is not Errand.RETURN or not self._puts_off(each)))

    def _puts_off(self, taken: tuple[float, Errand, FileId]) -> bool:
        """Whether another holder looked at a file so lately that we return to it later."""
        when, errand, file_id = taken
        pause_s, times = self._pauses.get(file_id, (0.0, 0))
        looked_at = self._asked_at.get(file_id, -math.inf)
        if not times or looked_at <= when - pause_s / 2:
            return False
        self._agenda.put(errand, file_id, max(when, looked_at) + pause_s)
        self._pauses[file_id] = (pause_s, times - 1)
        return True

    def put_back(self, taken: Taken) -> None:
        """What was taken could not be looked into."""
        for when, errand, file_id in taken.errands:
            self._agenda.put(errand, file_id, when)

    def is_due(self, file_id: FileId, when: float, until: float, holders: Collection[NodeId]) -> bool:
        """Whether the turn that came at `when` is still ours by `until`. If not, the next one is set.

        Another holder may have looked in this epoch. Or others come before us, by the holders that are known now.
        """
        after = self.end_of_epoch(file_id, when)
        if self._is_cared_for(file_id, when, holders):
            self.put(file_id, self.next_turn(file_id, holders, after))
            return False
        turn = self.next_turn(file_id, holders, after - self._epoch_s)
        self.put(file_id, turn)
        return turn <= until

    def _is_cared_for(self, file_id: FileId, when: float, holders: Collection[NodeId]) -> bool:
        """Whether a holder whose turn it can have been has looked in the epoch of our turn."""
        epoch = epoch_of(file_id, when, self._epoch_s)
        claims = [claim for claim in self._claims.pop(file_id, ()) if claim.epoch == epoch]
        return any(may_act(file_id, epoch, each.caller, holders, each.at, self._epoch_s) for each in claims)
