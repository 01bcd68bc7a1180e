"""What came of asking one holder for one share."""

from enum import Enum

from shoal.node.errors import Cause


class Outcome(Enum):
    """What came of asking one holder for one share."""

    OK = "ok"
    WRONG = "wrong"  # its block or its proof is not what the manifest promises
    MISSING = "missing"  # it answers, and does not keep the share
    OFFLINE = "offline"  # no connection
    STALLED = "stalled"  # a connection and no answer
    BUSY = "busy"  # it answers that it is busy

    @property
    def cause(self) -> Cause | None:
        """Why its share cannot be had; None where it can."""
        return _CAUSES.get(self)


_CAUSES = {
    Outcome.WRONG: Cause.LIED,
    Outcome.MISSING: Cause.MISSING,
    Outcome.OFFLINE: Cause.SILENT,
    Outcome.STALLED: Cause.SILENT,
    Outcome.BUSY: Cause.BUSY,
}
