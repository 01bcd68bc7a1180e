"""Doubts: which peers claimed a share and could not show a block of it when they were asked.

A survey yields claims and costs next to nothing. An audit yields a proof and costs a block. So few claims of a peer are
audited until it fails one. From then on its claims are audited at every look, until it shows what it could not show.
Only audits by this node count: no peer can spoil the reputation of another.
"""

from shoal.dht import NodeId
from shoal.erasure import FileId
from shoal.node.care.presence import GRACE_EPOCHS, SLACK_EPOCHS
from shoal.values import dataclass

MAX_PEERS = 2_000  # if so many of those who share files with us lie, nothing helps
MAX_FILES = 256  # of one peer
FORGET_EPOCHS = 100.0  # after the last failure: the peer may claim the share no more


@dataclass(slots=True)
class _Doubt:
    since: float
    latest: float
    share: int  # which it could not show


class Doubts:
    """By peer and file: a peer that shows blocks of one file is still in doubt about another. Times are monotonic."""

    def __init__(self, epoch_s: float) -> None:
        self._grace_s = (GRACE_EPOCHS - SLACK_EPOCHS) * epoch_s
        self._forget_s = FORGET_EPOCHS * epoch_s
        self._doubts: dict[NodeId, dict[FileId, _Doubt]] = {}

    def __contains__(self, peer: object) -> bool:
        """Whether there is any doubt about a peer."""
        return peer in self._doubts

    def __len__(self) -> int:
        return len(self._doubts)

    def failed(self, peer: NodeId, file_id: FileId, share: int, now: float) -> None:
        """An audit of a share that the peer claims has failed, in whatever way."""
        of_peer = self._doubts.setdefault(peer, {})
        doubt = of_peer.setdefault(file_id, _Doubt(now, now, share))
        doubt.latest, doubt.share = now, share
        if len(of_peer) > MAX_FILES:
            del of_peer[next(iter(of_peer))]
        if len(self._doubts) > MAX_PEERS:
            del self._doubts[next(iter(self._doubts))]

    def passed(self, peer: NodeId, file_id: FileId, share: int) -> None:
        """The peer showed a share of this file. That ends the doubt only if it could not show this share before."""
        if self.share(peer, file_id) == share:
            self._clear(peer, file_id)

    def share(self, peer: NodeId, file_id: FileId) -> int | None:
        """The share of a file that the peer could not show last; None where there is no doubt."""
        doubt = self._doubts.get(peer, {}).get(file_id)
        return None if doubt is None else doubt.share

    def _clear(self, peer: NodeId, file_id: FileId) -> None:
        of_peer = self._doubts[peer]
        del of_peer[file_id]
        if not of_peer:
            del self._doubts[peer]

    def review(self, now: float) -> None:
        """Forget what was long ago."""
        for peer in list(self._doubts):
            for file_id in [
                file_id for file_id, each in self._doubts[peer].items() if now - each.latest > self._forget_s
            ]:
                self._clear(peer, file_id)

    def peers(self) -> list[NodeId]:
        """All peers about which there is any doubt."""
        return list(self._doubts)

    def since(self, peer: NodeId, file_id: FileId) -> float | None:
        """Since when a peer claims a share of a file and does not show it; None where there is no doubt."""
        doubt = self._doubts.get(peer, {}).get(file_id)
        return None if doubt is None else doubt.since

    def lost_at(self, peer: NodeId, file_id: FileId) -> float | None:
        """When the grace of a peer ends that claims a share and does not show it; None where there is no doubt."""
        since = self.since(peer, file_id)
        return None if since is None else since + self._grace_s

    def is_lost(self, peer: NodeId, file_id: FileId, now: float) -> bool:
        """Whether the peer has shown nothing of the file for its whole grace."""
        ends = self.lost_at(peer, file_id)
        return ends is not None and now >= ends
