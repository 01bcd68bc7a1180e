"""Finding a holder that has moved: statements and announcements name an address, and home lines change theirs.

The node id stays, and so does the node's place in the DHT: whoever looks its id up finds it where it is now. What is
found there is proven by the node's key, as everywhere.
"""

from collections.abc import Iterable

import trio

from shoal.dht import Contact, NodeId
from shoal.node.context import Context
from shoal.node.holders.announcers import Hint
from shoal.node.nursery import open_nursery

LOOKUPS_AT_ONCE = 8
MAX_LOOKUPS = 64  # enough for the holders of a file of the default width; only asked when shares run out
TIMEOUT_S = 15.0


async def relocate(context: Context, node_id: NodeId) -> Contact | None:
    """Where a node answers now; None when it does not."""
    found = await context.dht.find_closest(node_id)
    return found[0] if found and found[0].node_id == node_id else None


async def moved(context: Context, hints: Iterable[Hint]) -> list[Hint]:
    """The hints whose holders are found at an address that none of them names."""
    shares: dict[NodeId, set[int]] = {}
    known: set[Contact] = set()
    for hint in hints:
        shares.setdefault(hint.contact.node_id, set()).add(hint.share)
        known.add(hint.contact)
    fresh: list[Hint] = []
    limit = trio.CapacityLimiter(LOOKUPS_AT_ONCE)

    async def look(node_id: NodeId) -> None:
        async with limit:
            contact = await relocate(context, node_id)
        if contact is not None and contact not in known:
            fresh.extend(Hint(share, contact) for share in sorted(shares[node_id]))

    with trio.move_on_after(TIMEOUT_S):
        async with open_nursery() as nursery:
            for node_id in list(shares)[:MAX_LOOKUPS]:
                nursery.start_soon(look, node_id)
    return fresh
