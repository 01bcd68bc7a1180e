"""Whom not to believe without proof: peers that claimed a share and could not show a block of it when asked.

Surveys are claims and cost next to nothing; audits are proofs and cost a block. So few claims are audited, until a peer
fails one: from then on whatever it claims is audited at every look, until it shows what it could not. Only what this
node asked for itself counts: nobody can talk another holder into disrepute.
"""

from dataclasses import dataclass

from shoal.dht import NodeId
from shoal.erasure import FileId
from shoal.node.care.presence import GRACE_EPOCHS, SLACK_EPOCHS

MAX_PEERS = 2_000  # ours: so many liars among those who share files with us, and we are lost anyway
MAX_FILES = 256  # of one peer
FORGET_EPOCHS = 100.0  # after the last failure: the peer may claim the share no more


@dataclass(slots=True)
class _Doubt:
    since: float
    latest: float
    share: int  # which it could not show


class Doubts:
    """By peer, and for each by file: to show one file's blocks clears nobody of another's. Times are monotonic."""

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
        """An audit of a share it claims did not succeed, in whatever way."""
        of_peer = self._doubts.setdefault(peer, {})
        doubt = of_peer.setdefault(file_id, _Doubt(now, now, share))
        doubt.latest, doubt.share = now, share
        if len(of_peer) > MAX_FILES:
            del of_peer[next(iter(of_peer))]
        if len(self._doubts) > MAX_PEERS:
            del self._doubts[next(iter(self._doubts))]

    def passed(self, peer: NodeId, file_id: FileId, share: int) -> None:
        """It showed a share of this file. Who shows another than the one it could not show is as dubious as before."""
        if self.share(peer, file_id) == share:
            self._clear(peer, file_id)

    def share(self, peer: NodeId, file_id: FileId) -> int | None:
        """The share of a file that it could not show the last time; None where there is no doubt."""
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
        """All about whom there is any doubt."""
        return list(self._doubts)

    def lost_at(self, peer: NodeId, file_id: FileId) -> float | None:
        """When a peer that claims and stalls has had its grace; None where there is no doubt."""
        doubt = self._doubts.get(peer, {}).get(file_id)
        return None if doubt is None else doubt.since + self._grace_s

    def is_lost(self, peer: NodeId, file_id: FileId, now: float) -> bool:
        """Whether it has shown nothing of the file for the whole grace."""
        ends = self.lost_at(peer, file_id)
        return ends is not None and now >= ends
