"""A home's cache of contacts: how a node finds its network again when every bootstrap node is gone."""

import json
from collections.abc import Sequence
from pathlib import Path

from shoal.dht import Address, AddressError, Contact, NodeId
from shoal.node.errors import LocalError
from shoal.node.home import write_private

MAX_CONTACTS = 200  # ours: ten buckets' worth; any one that is still alive is enough
MAX_CACHE_BYTES = 2**18
SAVE_EVERY_S = 6 * 3600.0  # ours: whom it met that long ago is still a way in; nothing is written where nothing is new


def load_contacts(path: Path) -> list[Contact]:
    """The contacts seen last time; nothing when there is no cache or it is damaged: it is only a shortcut."""
    try:
        with open(path, "rb") as file:
            rows = json.loads(file.read(MAX_CACHE_BYTES))
        return [Contact(_node_id(row[0]), Address.parse(row[1])) for row in rows[:MAX_CONTACTS]]
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError, AddressError):
        return []


def _node_id(text: str) -> NodeId:
    raw = bytes.fromhex(text)
    if len(raw) != 32:
        raise ValueError("not a node id")
    return NodeId(raw)


def save_contacts(path: Path, contacts: Sequence[Contact]) -> None:
    """Replace the cache atomically. An empty list never replaces a full one; a full disk costs just the cache."""
    if not contacts:
        return
    rows = [[contact.node_id.hex(), str(contact.address)] for contact in contacts[:MAX_CONTACTS]]
    try:
        write_private(path, json.dumps(rows, indent=0).encode(), durable=False)
    except LocalError:
        return
