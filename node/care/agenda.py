"""The agenda: when to do what about which file. Plain bookkeeping; all times are of the wall clock."""

import heapq
import math
from enum import IntEnum


class Errand(IntEnum):
    """Why a file is on the agenda. A file is there at most once for each reason."""

    TURN = 0  # our turn has come, unless another holder has looked already
    RETURN = 1  # a repair is to be finished, whichever holder's turn it is
    ABSENT = 2  # holders that were away are to be asked again
    REJOIN = 3  # we were away: the other holders are to hear of us


class Agenda:
    """The errands of a node: two numbers and a file id for each file and reason."""

    def __init__(self) -> None:
        self._order: list[tuple[float, Errand, bytes]] = []  # a heap; what was moved since is still in it
        self._when: dict[tuple[Errand, bytes], float] = {}

    def put(self, errand: Errand, file_id: bytes, when: float) -> None:
        """Do this at `when`, and not when it was to be done before."""
        self._when[errand, file_id] = when
        heapq.heappush(self._order, (when, errand, file_id))

    def when(self, errand: Errand, file_id: bytes) -> float | None:
        """For when it was set last; None where there is no such errand."""
        return self._when.get((errand, file_id))

    def has(self, errand: Errand, file_id: bytes) -> bool:
        """Whether there is such an errand, or it was taken and its next time not set yet."""
        return (errand, file_id) in self._when

    def forget(self, file_id: bytes) -> None:
        """Do nothing about a file any more."""
        for errand in Errand:
            self._when.pop((errand, file_id), None)

    def next_at(self) -> float | None:
        """When to look next: by then there may be something to do."""
        return self._order[0][0] if self._order else None

    def take(self, until: float, *, most: float = math.inf) -> list[tuple[float, Errand, bytes]]:
        """What is to be done until then, earliest first. A turn that was taken is still known: it will be set again.

        An errand that was put there twice for the same time is taken once.
        """
        taken: dict[tuple[float, Errand, bytes], None] = {}
        while self._order and self._order[0][0] <= until and len(taken) < most:
            when, errand, file_id = heapq.heappop(self._order)
            if self._when.get((errand, file_id)) != when:
                continue
            if errand is not Errand.TURN:
                del self._when[errand, file_id]
            taken[when, errand, file_id] = None
        return list(taken)
