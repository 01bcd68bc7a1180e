"""Which hosts kept silent a short while ago, so that they are asked last. A home's commands share this knowledge."""

import json
from pathlib import Path

from shoal.dht import Address, AddressError, Contact
from shoal.node.errors import LocalError
from shoal.node.home.home import read_plain, write_private

SILENT_FOR_S = 600.0  # a host that restarts, or a line that comes back, is asked in its turn again soon
MAX_SILENT = 256  # as many as shares of one file; the latest count
MAX_SILENCE_BYTES = 2**17
NODE_ID_BYTES = 32


class Silence:
    """Hosts that did not answer, each by its id and address, for `SILENT_FOR_S`. Times are wall-clock seconds.

    It decides only an order: a silent host is asked after all others, and never left out for good. So no failure of
    the file is anybody's trouble, and no liar gains by keeping silent.
    """

    def __init__(self, path: Path | None = None) -> None:
        """`path`: where a home keeps it; None keeps it in memory alone."""
        self._path = path
        self._since: dict[tuple[str, str], float] = {}  # the oldest first
        self._saved: dict[tuple[str, str], float] = {}

    def __len__(self) -> int:
        return len(self._since)

    def note(self, contact: Contact, now: float) -> None:
        """This host was asked and did not answer."""
        self.heard(contact)
        self._since[_key(contact)] = now
        while len(self._since) > MAX_SILENT:
            del self._since[next(iter(self._since))]

    def heard(self, contact: Contact) -> None:
        """This host has answered."""
        self._since.pop(_key(contact), None)

    def is_silent(self, contact: Contact, now: float) -> bool:
        """Whether the host kept silent lately. A moment that lies ahead of `now` counts for nothing."""
        since = self._since.get(_key(contact))
        return since is not None and 0 <= now - since < SILENT_FOR_S

    def load(self) -> None:
        """Take up what the home's last command knew; nothing when there is no file or it is damaged."""
        if self._path is None:
            return
        try:
            rows = json.loads(read_plain(self._path, MAX_SILENCE_BYTES))
            found = {_checked(row[0], row[1]): float(row[2]) for row in rows[:MAX_SILENT]}
        except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError, AddressError):
            return
        self._since = dict(found)
        self._saved = found

    def save(self) -> None:
        """Replace the file atomically, if anything is new. A full disk costs only this knowledge."""
        if self._path is None or self._since == self._saved:
            return
        rows = [[*key, round(since, 3)] for key, since in self._since.items()]
        try:
            write_private(self._path, json.dumps(rows, indent=0).encode(), durable=False)
        except (OSError, LocalError):
            return
        self._saved = dict(self._since)


def _key(contact: Contact) -> tuple[str, str]:
    return contact.node_id.hex(), str(contact.address)


def _checked(node_id: str, address: str) -> tuple[str, str]:
    if len(bytes.fromhex(node_id)) != NODE_ID_BYTES:
        raise ValueError("not a node id")
    return node_id, str(Address.parse(address))
