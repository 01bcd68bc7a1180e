"""How long a file waits for silent holders. Plain rules: the less it has to spare, the shorter.

A file's *spare* is how many more shares answer than the k that are needed. Shares that do not answer are no spare,
whatever grace their holders have.

    spare                          grace
    0 or less                      none
    1                              HURRIED of an epoch: a quarter of an hour, where an epoch is a day
    in between                     the same factor longer for each further share
    COMFORTABLE_PART of n - k      the whole grace of `presence`
"""

import math

from shoal.node.care.presence import GRACE_EPOCHS, SLACK_EPOCHS

HURRIED_PARTS = 96  # of an epoch: the grace with one share to spare, and the shortest pause between two looks
COMFORTABLE_PART = 0.3  # of what a file may lose: with so much to spare, an absent holder has its whole grace
LOOKS_IN_GRACE = 8  # of a file that is not comfortable, while its grace runs: more may be lost meanwhile
LOOK_AHEAD_PART = 0.5  # of the time in which the spare would be gone

_FULL_EPOCHS = GRACE_EPOCHS - SLACK_EPOCHS
_HURRIED_EPOCHS = 1 / HURRIED_PARTS


def is_comfortable(k: int, n: int, answering: int) -> bool:
    """Whether so many shares answer that absent holders may have their whole grace."""
    return answering >= n or (answering > k + 1 and answering - k >= COMFORTABLE_PART * (n - k))


def grace_epochs(k: int, n: int, answering: int) -> float:
    """After how long a silent holder counts as lost, while so many shares answer."""
    if answering <= k:
        return 0.0
    if is_comfortable(k, n, answering):
        return _FULL_EPOCHS
    part = (answering - k - 1) / (COMFORTABLE_PART * (n - k) - 1) if answering > k + 1 else 0.0
    return float(_HURRIED_EPOCHS * (_FULL_EPOCHS / _HURRIED_EPOCHS) ** part)


def pause_epochs(k: int, n: int, answering: int) -> float:
    """When a file is looked at again, before anybody's turn. Infinite while at most half of its spare is gone.

    After that the pause is half of the time in which the rest would go, if it went in an epoch what has gone so far.
    """
    spare, gone = answering - k, n - answering
    if is_comfortable(k, n, answering):
        return LOOK_AHEAD_PART * spare / gone if spare < gone else math.inf
    ahead = LOOK_AHEAD_PART * max(spare, 0) / gone
    return max(_HURRIED_EPOCHS, min(ahead, grace_epochs(k, n, answering) / LOOKS_IN_GRACE))


def growing_epochs(tries: int) -> float:
    """The pause after so many looks in a row that could change nothing: twice as long each time."""
    return _HURRIED_EPOCHS * 2.0 ** min(tries, 30)
