"""Faults in our own code that a peer's bytes have found. Each is counted, logged once, and never passed on.

A stranger that can reach such a fault could otherwise end a volunteer's node with it, again and again.
"""

import logging
import traceback

MAX_KINDS = 64  # told in full; a stranger that finds more of them fills no log

log = logging.getLogger(__name__)


class BugCount:
    """Counts faults. The first of each kind (what failed, the error's type, the line that raised it) is logged."""

    def __init__(self) -> None:
        self.count = 0
        self._told: set[tuple[str, str, str, int | None]] = set()

    def note(self, what: str, error: Exception) -> None:
        """`what` failed on `error`, which nothing was prepared for."""
        self.count += 1
        frames = traceback.extract_tb(error.__traceback__)
        place = (frames[-1].filename, frames[-1].lineno) if frames else ("", None)
        kind = (what, type(error).__qualname__, *place)
        if kind not in self._told and len(self._told) < MAX_KINDS:
            self._told.add(kind)
            log.error("%s failed on a bug", what, exc_info=error)
