"""A home's cache of contacts: how a node finds its network again when every bootstrap node is gone."""

import json
from collections.abc import Sequence
from pathlib import Path

from shoal.dht import Address, AddressError, Contact, NodeId
from shoal.node.errors import LocalError
from shoal.node.home.home import read_plain, write_private

MAX_CONTACTS = 200  # ten buckets' worth; any one that is still alive is enough
MAX_CACHE_BYTES = 2**18
# The saved cache is not written again while it has such a part of our contacts, and they are such a part of it.
STILL_GOOD, STILL_ALIVE = 0.75, 0.5


class ContactCache:
    """The contacts of last time, in a file. It is only a shortcut: no failure of it is anybody's trouble."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._saved: frozenset[Contact] = frozenset()

    def load(self) -> list[Contact]:
        """Nothing when there is no cache or it is damaged."""
        try:
            rows = json.loads(read_plain(self.path, MAX_CACHE_BYTES))
            found = [Contact(_node_id(row[0]), Address.parse(row[1])) for row in rows[:MAX_CONTACTS]]
        except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError, AddressError):
            return []
        self._saved = frozenset(found)
        return found

    def save(self, contacts: Sequence[Contact]) -> None:
        """Replace the cache atomically, unless it is still good. An empty list never replaces a full one; a full disk
        costs just the cache.
        """
        contacts = contacts[:MAX_CONTACTS]
        rows = [[contact.node_id.hex(), str(contact.address)] for contact in contacts]
        try:
            if not contacts or self._is_still_good(contacts):
                return
            write_private(self.path, json.dumps(rows, indent=0).encode(), durable=False)
        except (OSError, LocalError):
            return
        self._saved = frozenset(contacts)

    def _is_still_good(self, contacts: Sequence[Contact]) -> bool:
        common = len(self._saved.intersection(contacts))
        enough = max(STILL_GOOD * len(contacts), STILL_ALIVE * len(self._saved))
        return common >= enough and self.path.exists()


def _node_id(text: str) -> NodeId:
    raw = bytes.fromhex(text)
    if len(raw) != 32:
        raise ValueError("not a node id")
    return NodeId(raw)
