"""Whose turn it is to look after a file. Plain rules.

Time is cut into epochs. Each file's epochs begin at an offset of their own, so that a holder of many files always has a
little to do and never much at once. In every epoch the holders of a file are ranked anew. The first looks after it. The
next ones do so only if no other has, by the time their own turn comes. A holder that neglects its turn on purpose costs
the file one epoch.
"""

from collections.abc import Collection

from shoal.dht import NodeId, labelled_hash
from shoal.erasure import FileId
from shoal.values import dataclass

BACK_OFF_PARTS = 16  # of an epoch: the second in rank waits one part, the third two, …
MAX_RANK = 8  # holders whose turn comes in the first half of an epoch; with all of them dead, the next epoch has others

EARLY_PARTS = 16  # of an epoch: so much earlier than its turn a holder may look, since clocks differ a little

assert MAX_RANK <= BACK_OFF_PARTS, "every turn of an epoch comes within it"

_offset_hash = labelled_hash("epoch offset")
_rank_hash = labelled_hash("epoch rank")


@dataclass(frozen=True, slots=True)
class Turn:
    """When a holder is to look after a file: in epoch number `epoch`, from `starts_at` on (Unix seconds)."""

    epoch: int
    starts_at: float


def offset_of(file_id: FileId, epoch_s: float) -> float:
    """Where in an epoch of the wall clock this file's epochs begin, in seconds."""
    return int.from_bytes(_offset_hash(file_id)[:6], "big") / 2**48 * epoch_s


def epoch_of(file_id: FileId, wall: float, epoch_s: float) -> int:
    """The number of the file's epoch at this time."""
    return int((wall - offset_of(file_id, epoch_s)) // epoch_s)


def rank_of(file_id: FileId, epoch: int, holder: NodeId, holders: Collection[NodeId]) -> int:
    """0 for the holder that is to act first. A holder not in the list ranks as if it were."""

    def key(each: NodeId) -> bytes:
        return _rank_hash(file_id + epoch.to_bytes(8, "big", signed=True) + each)

    mine = key(holder)
    return sum(key(each) < mine for each in set(holders) if each != holder)


def next_turn(file_id: FileId, holder: NodeId, holders: Collection[NodeId], after: float, epoch_s: float) -> Turn:
    """The first turn of `holder` that starts at `after` or later."""
    epoch = epoch_of(file_id, after, epoch_s)
    while True:
        rank = rank_of(file_id, epoch, holder, holders)
        starts_at = _starts_at(file_id, epoch, rank, epoch_s)
        if rank < MAX_RANK and starts_at >= after:
            return Turn(epoch, starts_at)
        epoch += 1


def end_of_epoch(file_id: FileId, wall: float, epoch_s: float) -> float:
    """When the file's next epoch begins."""
    return offset_of(file_id, epoch_s) + (epoch_of(file_id, wall, epoch_s) + 1) * epoch_s


def _starts_at(file_id: FileId, epoch: int, rank: int, epoch_s: float) -> float:
    return offset_of(file_id, epoch_s) + (epoch + rank / BACK_OFF_PARTS) * epoch_s


def may_act(
    file_id: FileId, epoch: int, holder: NodeId, holders: Collection[NodeId], at: float, epoch_s: float
) -> bool:
    """Whether the look of a node counts that looked after a file in this epoch, at time `at`.

    It counts for a holder whose turn had come by then. If earlier looks counted, one liar that is always early would
    keep all others from looking.
    """
    if holder not in holders:
        return False
    rank = rank_of(file_id, epoch, holder, holders)
    return rank < MAX_RANK and at >= _starts_at(file_id, epoch, rank, epoch_s) - epoch_s / EARLY_PARTS
