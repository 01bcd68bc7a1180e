"""What must hold at any moment. The study checks it from outside: it sees into every store, as no node can.

* a share is never dropped before its lease and its grace end, whatever the clocks say, and no lease gets shorter;
* no store uses more than its capacity;
* a file is readable while k good shares of it are up.
"""

from collections import defaultdict
from collections.abc import Callable, Container, Iterable
from dataclasses import field

import trio

from shoal.node.store import GRACE_S, ShareStore
from shoal.simulation.acked import Acked
from shoal.simulation.world import EPOCH_START, Machine
from shoal.values import dataclass

PAGE_FILES = 1_000
SHOWN = 50  # violations that are told in words; all are counted

Key = tuple[bytes, int]
"""File id and share number."""


@dataclass
class Violations:
    """What did not hold, dated. `say` hears of it at once: a long study need not end for that."""

    say: Callable[[str], None] = lambda text: None
    count: int = 0
    texts: list[str] = field(default_factory=list)

    def add(self, text: str) -> None:
        """Note one."""
        self.count += 1
        if len(self.texts) < SHOWN:
            self.texts.append(f"day {trio.current_time() / 86_400:.2f}: {text}")
            self.say(f"VIOLATION on {self.texts[-1]}")


class StoreWatch:
    """Remembers what each store was seen to keep, and compares. What `liars` keep is no good share."""

    def __init__(self, violations: Violations, liars: Container[str] = ()) -> None:
        self._violations = violations
        self._liars = liars
        self._seen: dict[str, dict[Key, int]] = {}
        self.rotten: set[tuple[str, Key]] = set()  # shares in which the study has flipped a bit

    def look(self, machine: Machine) -> None:
        """Check one running machine."""
        store = machine.serving.store
        before, now = self._seen.get(machine.name, {}), shares_of(store)
        for key, lease_end in before.items():
            if key not in now:
                self._note_gone(machine, key, lease_end)
            elif now[key] < lease_end:
                self._violations.add(f"{_what(machine, key)}: the lease became shorter")
        self._seen[machine.name] = now
        usage = store.usage()
        if usage.used_bytes > usage.capacity_bytes:
            text = f"{machine.name} uses {usage.used_bytes} bytes of {usage.capacity_bytes}"
            self._violations.add(text)

    def forget(self, name: str) -> None:
        """The machine is dead."""
        self._seen.pop(name, None)
        self.rotten = {each for each in self.rotten if each[0] != name}

    def _note_gone(self, machine: Machine, key: Key, lease_end: int) -> None:
        due = lease_end + GRACE_S < EPOCH_START + trio.current_time()
        if not due and (machine.name, key) not in self.rotten:
            self._violations.add(f"{_what(machine, key)}: dropped before its lease ended")

    def good_shares(self, file: Acked, machines: Iterable[Machine]) -> set[int]:
        """The distinct shares of a file that these running machines keep and would give."""
        found = set()
        for machine in machines:
            if machine.name in self._liars:
                continue
            for each in machine.serving.store.held(file.file_id):
                if (machine.name, (file.file_id, each.share_number)) not in self.rotten:
                    found.add(each.share_number)
        return found

    def all_good_shares(self, machines: Iterable[Machine]) -> defaultdict[bytes, set[int]]:
        """The same for each file of which there are any, by file id: one look into every store."""
        found: defaultdict[bytes, set[int]] = defaultdict(set)
        for machine in machines:
            if machine.name not in self._liars:
                for key in shares_of(machine.serving.store):
                    if (machine.name, key) not in self.rotten:
                        found[key[0]].add(key[1])
        return found


def shares_of(store: ShareStore) -> dict[Key, int]:
    """Every whole share of a store with the end of its lease."""
    found: dict[Key, int] = {}
    after = b""
    while page := store.files_page(after, PAGE_FILES):
        for file in page:
            found.update({(file.file_id, each.share_number): each.lease_end for each in file.shares})
        after = page[-1].file_id
    return found


def _what(machine: Machine, key: Key) -> str:
    return f"share {key[1]} of {key[0].hex()[:12]} on {machine.name}"
