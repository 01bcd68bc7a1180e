"""What came of asking one holder for one share."""

from enum import Enum


class Outcome(Enum):
    """What came of asking one holder for one share."""

    OK = "ok"
    WRONG = "wrong"  # its block or its proof is not what the manifest promises
    MISSING = "missing"  # it answers, and does not keep the share
    OFFLINE = "offline"  # no connection
    STALLED = "stalled"  # a connection and no answer
