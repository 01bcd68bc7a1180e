"""Files for which no host was found. Plain bookkeeping; times are monotonic.

A search for hosts costs hundreds of datagrams. So it is not done again as long as it would find the same: until the
network has changed, or after a pause that grows with each vain search.
"""

from collections.abc import Collection

from shoal.erasure import FileId
from shoal.values import dataclass

SOON_PARTS = 16  # of an epoch: the first pause of a file in danger, and the shortest one of every other
LONGEST_PAUSE_EPOCHS = 32.0
CHANGED_PARTS = 96  # of an epoch: the shortest pause of a file in danger when the network has changed
MAX_FILES = 1024  # remembered; some 30 kB each in a large network. One that is forgotten is tried once more


@dataclass(slots=True)
class _Vain:
    tries: int
    since: float
    pause_s: float
    is_danger: bool
    hosts: frozenset[bytes]


class NoHosts:
    """By file: when hosts were last sought in vain, and which peers were known then."""

    def __init__(self, epoch_s: float) -> None:
        self._epoch_s = epoch_s
        self._vain: dict[bytes, _Vain] = {}

    def __len__(self) -> int:
        return len(self._vain)

    def note(self, file_id: bytes, hosts: Collection[bytes], now: float, *, is_danger: bool) -> float:
        """No host was found among these and those that they name. Returns the pause before the next search."""
        before = self._vain.pop(file_id, None)
        tries = before.tries + 1 if before is not None else 0
        first = self._epoch_s / SOON_PARTS if is_danger else self._epoch_s
        pause_s = min(first * 2.0 ** min(tries, 30), LONGEST_PAUSE_EPOCHS * self._epoch_s)
        self._vain[file_id] = _Vain(tries, now, pause_s, is_danger, frozenset(hosts))
        while len(self._vain) > MAX_FILES:
            del self._vain[next(iter(self._vain))]
        return pause_s

    def forget(self, file_id: bytes) -> None:
        """A host was found, or nothing of the file is kept any more."""
        self._vain.pop(file_id, None)

    def is_vain(self, file_id: bytes, hosts: Collection[bytes], now: float) -> bool:
        """Whether a search now would find nobody: `hosts` are the peers that are known and have room."""
        vain = self._vain.get(file_id)
        return vain is not None and not self._is_due(vain, hosts, now)

    def due(self, hosts: Collection[bytes], now: float) -> list[FileId]:
        """The files for which there may be a host, since the network has changed. Each is named once for a change."""
        changed = [file_id for file_id, vain in self._vain.items() if self._has_changed(vain, hosts, now)]
        for file_id in changed:
            self._vain[file_id].pause_s = 0.0
            self._vain[file_id].hosts = frozenset(hosts)
        return [FileId(file_id) for file_id in changed]

    def _is_due(self, vain: _Vain, hosts: Collection[bytes], now: float) -> bool:
        return now >= vain.since + vain.pause_s or self._has_changed(vain, hosts, now)

    def _has_changed(self, vain: _Vain, hosts: Collection[bytes], now: float) -> bool:
        shortest_s = self._epoch_s / (CHANGED_PARTS if vain.is_danger else SOON_PARTS)
        return now >= vain.since + shortest_s and not vain.hosts.issuperset(hosts)
