"""When holders' statements are renewed, and what of it all of them know. Pure rules; docs/care.md, "Statements".

Every holder has to hear of a new statement, so they are renewed many at a time: one message each then carries them all.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import TypeAlias

from shoal.dht import NodeId
from shoal.node.holders.statements import HolderStatement, newest_by_share

Place: TypeAlias = tuple[int, NodeId]
"""A share, and a holder of it."""

MANY_S = 4.5 * 86400.0  # of 7 days: whoever is away when others' are renewed has time until the next renewal, and more
ALONG_S = 6 * 86400.0  # what is younger than a day is not worth a message
YOUNG_S = 2.5 * 86400.0  # what goes along with a new statement is not older by more; the others were told it long ago
URGENT_S = 2 * 86400.0
LOOKS = 1.5  # epochs within which somebody looks at a file, even if late
GOOD_S = 1.5 * 86400.0  # a statement of ours that is good for so long is renewed in time, however long an epoch is


def refresh_horizon(left_s: Collection[float], epoch_s: float) -> float:
    """Statements that have less time left than this are to be renewed now; 0 for none.

    left_s: for how long the statements of those whom we trust, and who are there, are still good.
    """
    urgent = urgent_s(epoch_s)
    many = max(MANY_S, urgent)
    if 2 * sum(left < many for left in left_s) > len(left_s):
        return max(ALONG_S, many)
    return many if any(left < urgent for left in left_s) else 0.0


def long_absence_s(epoch_s: float) -> float:
    """A holder that was away for longer has missed a renewal of the others' statements, if they follow the rules."""
    return max(YOUNG_S, LOOKS * epoch_s)


def urgent_s(epoch_s: float) -> float:
    """A statement that has less time left may end before somebody looks again."""
    return max(URGENT_S, LOOKS * epoch_s)


def commonly_known(views: Sequence[Mapping[Place, int]]) -> dict[Place, int]:
    """When the statement was issued that at least two of some holders know, of each place that two of them know.

    views: what each of them knows, as place -> time. The only view where there is but one, and the older time where two
    know a place. So who knows more than it tells the others cannot make statements look younger than they are to most,
    nor can one of three make them look older. What a holder says of itself is new whenever it is asked: it is left out.
    """
    if len(views) < 2:
        return dict(views[0]) if views else {}
    common = {}
    for place in {place: None for view in views for place in view}:
        known = sorted((view[place] for view in views if place in view), reverse=True)
        if len(known) > 1:
            common[place] = known[1]
    return common


def worth_keeping(
    known: Collection[HolderStatement], lists: Sequence[Collection[HolderStatement]], now: float, epoch_s: float
) -> list[HolderStatement]:
    """What to learn from others' lists: whom we do not know, who has moved or promises longer, whose statement is about
    to end; and newer ones that all lists have.

    What only one of them shows is left for the next renewal: to us all would look young that is old to the others.
    """
    ours = newest_by_share(known)
    shown: dict[Place, list[HolderStatement]] = {}
    for each in lists:
        for place, statement in newest_by_share(each).items():
            shown.setdefault(place, []).append(statement)
    kept = []
    for place, found in shown.items():
        found.sort(key=lambda statement: statement.issued, reverse=True)
        old = ours.get(place)
        if old is None or old.expires < now + urgent_s(epoch_s) or _says_else(found[0], old):
            kept.append(found[0])
        elif len(found) == len(lists) > 1:
            kept.append(found[-1])
    return [each for each in kept if (old := ours.get((each.share, each.node_id))) is None or each.issued > old.issued]


def _says_else(new: HolderStatement, old: HolderStatement) -> bool:
    return new.lease_end != old.lease_end or not new.reach.is_found_by(old.reach)
