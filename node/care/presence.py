"""Which peers were seen when. A holder that does not answer is away; after its grace it counts as lost.

The grace here is the whole one. A file with little to spare waits less for its holders (`urgency`).

Only what this node saw itself counts: no peer can declare another one dead. A peer is one entry, however many files it
shares with us, so any answer is a sign of life for all of them.

The grace is for holders that were there once. Otherwise made-up names could keep a lost share counted for ever: new
names would come whenever the grace of the old ones ends. So we also note since when no holder has had a share. A holder
that never answered us has no more grace than its share has left. A note that no look has confirmed for long says
nothing: others may have made the share again meanwhile, on a host that we have not met.
"""

from collections.abc import Collection

from shoal.dht import NodeId
from shoal.erasure import FileId
from shoal.values import dataclass

GRACE_EPOCHS = 3.0  # most machines that vanish are back within three days
SLACK_EPOCHS = 0.1  # turns come a little early or late; holders that left together are to be lost together
CONFIRMED_EPOCHS = 4.0  # a look that finds holders silent returns when their grace ends, or half an epoch after that
FORGET_EPOCHS = 30.0  # after we last asked a peer
MAX_PEERS = 20_000  # a few numbers each; more than any one node shares files with
MAX_SHARES = 50_000  # that no holder had: two numbers each
ROOM_PART = 0.9  # of them are kept when there are too many


@dataclass(slots=True)
class _Seen:
    last_answer: float
    away_since: float | None = None
    mentioned: float = 0.0
    sought: bool = False  # whether it was looked for elsewhere during this absence


@dataclass(slots=True)
class _Gone:
    since: float
    noted: float  # by the latest look


class Presence:
    """Times are monotonic seconds, given by the caller."""

    def __init__(self, epoch_s: float) -> None:
        self._epoch_s = epoch_s
        self._grace_s = (GRACE_EPOCHS - SLACK_EPOCHS) * epoch_s
        self._peers: dict[NodeId, _Seen] = {}
        self._confirmed_s = CONFIRMED_EPOCHS * epoch_s
        self._gone: dict[FileId, dict[int, _Gone]] = {}  # shares that no holder had, the file looked at last at the end
        self._gone_count = 0

    def __len__(self) -> int:
        return len(self._peers)

    def answered(self, peer: NodeId, now: float) -> None:
        """The peer is there."""
        self._peers[peer] = _Seen(now, None, now)
        self._bound(now)

    def silent(self, peer: NodeId, now: float) -> None:
        """The peer did not answer. Its absence counts from the first time we noticed."""
        seen = self._peers.setdefault(peer, _Seen(float("-inf")))
        seen.mentioned = now
        if seen.away_since is None:
            seen.away_since = now
        self._bound(now)

    def away_since(self, peer: NodeId) -> float | None:
        """When we first noticed the absence of a peer; None for a peer that is there, or was not asked."""
        seen = self._peers.get(peer)
        return None if seen is None else seen.away_since

    def lost_at(self, peer: NodeId) -> float | None:
        """When the whole grace of an absent peer ends; None for a peer that is there, or was not asked."""
        since = self.away_since(peer)
        return None if since is None else since + self._grace_s

    def is_lost(self, peer: NodeId, now: float) -> bool:
        """Whether it has been away, as far as we know, for the whole grace."""
        ends = self.lost_at(peer)
        return ends is not None and now >= ends

    def note_shares(self, file_id: FileId, count: int, there: Collection[int], now: float) -> None:
        """All holders of a file were asked. Those that answered have the shares `there`, of `count` in all."""
        before = self._gone.pop(file_id, {})
        gone = {share: _Gone(self._gone_since(before.get(share), now), now) for share in {*range(count)} - {*there}}
        if gone:
            self._gone[file_id] = gone
        self._gone_count += len(gone) - len(before)
        if self._gone_count > MAX_SHARES:
            self._forget_gone(now)

    def _gone_since(self, noted: _Gone | None, now: float) -> float:
        return noted.since if noted is not None and self._is_confirmed(noted, now) else now

    def _forget_gone(self, now: float) -> None:
        """Make room: notes that say nothing any more go first, then those of the files that lack most shares.

        So stubs, which lack nearly all, push out no others.
        """

        def worth(file_id: FileId) -> tuple[bool, int]:
            notes = self._gone[file_id]
            return self._is_confirmed(next(iter(notes.values())), now), -len(notes)

        for file_id in sorted(self._gone, key=worth):
            if self._gone_count <= ROOM_PART * MAX_SHARES:
                return
            self._gone_count -= len(self._gone.pop(file_id))

    def is_without_grace(self, file_id: FileId, share: int, peer: NodeId, now: float) -> bool:
        """Whether a silent peer never answered us, and its share has been gone for a whole grace, look after look."""
        seen = self._peers.get(peer)
        if seen is not None and seen.last_answer > float("-inf"):
            return False
        gone = self._gone.get(file_id, {}).get(share)
        return gone is not None and self._is_confirmed(gone, now) and now >= gone.since + self._grace_s

    def _is_confirmed(self, gone: _Gone, now: float) -> bool:
        return now - gone.noted <= self._confirmed_s

    def is_to_be_sought(self, peer: NodeId, now: float) -> bool:
        """Whether to look for a peer at another address before it counts as lost. True once in an absence."""
        return self.is_lost(peer, now) and self.seek(peer)

    def seek(self, peer: NodeId) -> bool:
        """Note that an absent peer is looked for at another address. False where it was, during this absence."""
        seen = self._peers.get(peer)
        if seen is None or seen.away_since is None or seen.sought:
            return False
        seen.sought = True
        return True

    def away(self) -> list[NodeId]:
        """The peers that did not answer last time, the longest away first."""
        missing = [(seen.away_since, peer) for peer, seen in self._peers.items() if seen.away_since is not None]
        return [peer for _, peer in sorted(missing)]

    def _bound(self, now: float) -> None:
        if len(self._peers) <= MAX_PEERS:
            return
        limit = now - FORGET_EPOCHS * self._epoch_s
        kept = {peer: seen for peer, seen in self._peers.items() if seen.mentioned > limit}
        while len(kept) > MAX_PEERS:
            del kept[next(iter(kept))]
        self._peers = kept
