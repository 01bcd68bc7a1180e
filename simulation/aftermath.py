"""What must hold when the network has healed and been quiet: every file that was worth a repair has had one.

A file is *neglected* when a repair is due by the count of a holder that looks after it, and a host is free to take a
share. The count is as generous as holders can err. Honest machines' shares count, even rotten ones, because rot shows
only when a share is read. A share that a liar says it keeps counts when an honest holder knows the liar as a holder of
this file. Each machine counts for one share. All machines that live are up, so no absent holder is waited for.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import trio

from shoal.erasure import Manifest
from shoal.node.care.health import repair_at
from shoal.node.holders.tally import match_hosts
from shoal.simulation.acked import Acked
from shoal.simulation.checks import shares_of
from shoal.simulation.liars import Liars
from shoal.simulation.world import EPOCH_START, Machine
from shoal.values import dataclass

WRONG_CLOCK_S = 3600.0  # whoever is further off is no host that others need take: they may not believe its statements
ROOM_SHARES = 4  # so much room a free host must have: databases take some, and several files may want it at once


@dataclass(frozen=True, slots=True)
class FileState:
    """Of one file: the distinct shares that count, and the honest machines with room that keep nothing of it."""

    k: int
    n: int
    counted: int
    free: int

    @property
    def is_neglected(self) -> bool:
        """Whether a repair is due and possible, and was not made."""
        return self.counted <= repair_at(self.k, self.n) and self.free > 0

    def words(self, good: int) -> str:
        """For people; `good` shares are what they seem."""
        return f"{good} good shares of {self.n}, {self.counted} for all that holders can tell, {self.free} hosts free"


class Aftermath:
    """All running machines as they are now: one look into every store."""

    def __init__(self, machines: Sequence[Machine], liars: Liars) -> None:
        self._liars = liars
        self._honest = [machine for machine in machines if machine.name not in liars]
        self._liars_running = [machine for machine in machines if machine.name in liars]
        self._kept = {machine.name: _by_file(machine) for machine in self._honest}
        self._room = {machine.name: machine.serving.store.usage().available_bytes for machine in self._honest}

    def state(self, file: Acked) -> FileState:
        """How one file does."""
        raw = file.file_id
        holders = [machine for machine in self._honest if raw in self._kept[machine.name]]
        places = [(share, machine.name.encode()) for machine in holders for share in self._kept[machine.name][raw]]
        places += self._claims(raw, holders)
        return FileState(file.k, file.n, len(match_hosts(places)), self._free(raw, holders))

    def _claims(self, file_id: bytes, holders: Sequence[Machine]) -> Iterator[tuple[int, bytes]]:
        """What liars say of a file whom its honest holders know for holders of it."""
        known = {each for machine in holders for each in machine.serving.store.holders(file_id)}
        for liar in self._liars_running:
            if liar.node is not None and bytes(liar.node.node_id) in known:
                for share in sorted(self._liars.says_it_keeps(liar, file_id)):
                    yield share, liar.name.encode()

    def _free(self, file_id: bytes, holders: Sequence[Machine]) -> int:
        """Honest machines with room and a clock that is right, which keep nothing of a file."""
        if not holders:
            return 0  # nobody is left who could repair it; that is a loss, and told as one
        manifest = holders[0].serving.store.manifest(file_id)
        needed = ROOM_SHARES * Manifest.decode(manifest).layout.share_bytes if manifest is not None else 0
        return sum(
            file_id not in self._kept[machine.name] and self._room[machine.name] >= needed and _clock_is_right(machine)
            for machine in self._honest
        )


def _by_file(machine: Machine) -> dict[bytes, set[int]]:
    found: defaultdict[bytes, set[int]] = defaultdict(set)
    for file_id, share in shares_of(machine.serving.store):
        found[file_id].add(share)
    return dict(found)


def _clock_is_right(machine: Machine) -> bool:
    return abs(machine.clock.read() - EPOCH_START - trio.current_time()) <= WRONG_CLOCK_S
