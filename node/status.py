"""How a node does, as plain values: what `shoal node status` shows and `Node.status` returns."""

from typing import Any

import trio

from shoal.node.context import Context
from shoal.node.serving import Serving
from shoal.node.version import VERSION


async def node_status(context: Context, serving: Serving | None) -> dict[str, Any]:
    """The fields of DESIGN section 8, and more; those of the store only where there is one. All bytes are counts."""
    dht = context.dht.statistics()
    addresses = context.dht.addresses
    status: dict[str, Any] = {
        "node_id": context.dht.identity.node_id.hex(),
        "version": VERSION,
        "network": context.network.name,
        "address": str(addresses[0]) if addresses else None,
        "addresses": [str(address) for address in addresses],
        "peers": dht.contacts,
        "codec": context.codec.name,
        "sent_bytes": context.throttle.sent_bytes,
        "received_bytes": context.throttle.received_bytes,
    }
    if serving is None:
        return status
    care = serving.care_statistics()
    usage, health = await context.env.call(lambda: (serving.store.usage(), serving.store.health()))
    server = serving.server.statistics()
    return status | {
        "shares": usage.shares,
        "files": usage.files,
        "uploads": usage.uploads,
        "used_bytes": usage.used_bytes,
        "capacity_bytes": usage.capacity_bytes,
        "reserve_bytes": usage.reserve_bytes,
        "available_bytes": usage.available_bytes,
        "free_disk_bytes": usage.free_disk_bytes,
        "damaged_shares": health.damaged,
        "lost_shares": health.lost,
        "soonest_lease_end": health.soonest_lease_end,
        "turns": care.turns,
        "repairs": care.repairs,
        "rebuilt_shares": care.rebuilt_shares,
        "audits_passed": care.audits_passed,
        "audits_failed": care.audits_failed,
        "uptime_s": int(trio.current_time() - serving.started_at),
        "records": dht.records,
        "connections": server.connections,
        "requests": server.requests,
        "bugs": server.bugs,
    }
