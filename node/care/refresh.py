"""When holders' statements are renewed, and who has to hear of what. Pure rules; docs/protocol.md, "Statements".

Every holder has to hear of a new statement, so they are renewed many at a time: one message each then carries them all.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import TypeAlias

from shoal.dht import NodeId

Place: TypeAlias = tuple[int, NodeId]
"""A share, and a holder of it."""

MANY_S = 4.5 * 86400.0  # of 7 days: whoever is away when others' are renewed has time until the next renewal, and more
ALONG_S = 6 * 86400.0  # what is younger than a day is not worth a message
YOUNG_S = 2.5 * 86400.0  # what goes along with a new statement is not older by more; the others were told it long ago
URGENT_S = 2 * 86400.0
LOOKS = 1.5  # epochs within which somebody looks at a file, even if late


def refresh_horizon(left_s: Collection[float], epoch_s: float) -> float:
    """Statements that have less time left than this are to be renewed now; 0 for none.

    left_s: for how long the statements of those whom we trust, and who are there, are still good.
    """
    urgent = max(URGENT_S, LOOKS * epoch_s)
    many = max(MANY_S, urgent)
    if 2 * sum(left < many for left in left_s) > len(left_s):
        return max(ALONG_S, many)
    return many if any(left < urgent for left in left_s) else 0.0


def forgotten_after_s(epoch_s: float) -> float:
    """Who was away for longer may be in nobody's list: its statements may have had no more time left when it went."""
    return max(URGENT_S, LOOKS * epoch_s) - epoch_s


def commonly_known(views: Sequence[Mapping[Place, int]]) -> dict[Place, int]:
    """When the statement was issued that at least two of some holders know, of each place that two of them know.

    views: what each of them knows, as place -> time. The only view where there is but one. So neither one that was away
    nor one that knows more than it tells the others can make statements look older, or younger, than they are to most.
    """
    if len(views) < 2:
        return dict(views[0]) if views else {}
    common = {}
    for place in {place: None for view in views for place in view}:
        known = sorted((view[place] for view in views if place in view), reverse=True)
        if len(known) > 1:
            common[place] = known[1]
    return common
