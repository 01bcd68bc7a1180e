"""When to ask for new statements. Pure rule; docs/protocol.md, "Statements".

Every holder has to hear of a new statement, so they are renewed many at a time: one message each then carries them all.
"""

from collections.abc import Collection

MANY_S = 4.5 * 86400.0  # of 7 days: whoever is away when others' are renewed has time until the next renewal, and more
ALONG_S = 6 * 86400.0  # what is younger than a day is not worth a message
URGENT_S = 1.5 * 86400.0  # a look comes every day, and may come late


def refresh_horizon(left_s: Collection[float]) -> float:
    """Statements that have less time left than this are to be renewed now; 0 for none.

    left_s: for how long the statements of those whom we trust, and who are there, are still valid.
    """
    if 2 * sum(left < MANY_S for left in left_s) > len(left_s):
        return ALONG_S
    return MANY_S if any(left < URGENT_S for left in left_s) else 0.0
