"""How a node does, as plain values: what `shoal node status` shows and `Node.status` returns."""

from typing import Any

import trio

from shoal import __version__
from shoal.dht import Address
from shoal.node.care.problems import no_room
from shoal.node.context import Context
from shoal.node.holders.statements import MAX_SKEW_S
from shoal.node.reach.reachability import Reachability, Reachable
from shoal.node.store import StoreError, StoreHealth, Usage
from shoal.node.volunteer.serving import Serving

ANSWERED_LATELY_S = 900.0  # an answer as old as this still counts as lately


async def node_status(context: Context, serving: Serving | None) -> dict[str, Any]:
    """What `shoal status` shows. See `_status`. Where no peer has answered for a minute, some are asked first."""
    if serving is None:
        return await _status(context, serving)
    await serving.connectivity.look(context)
    return await _status(context, serving)


async def _status(context: Context, serving: Serving | None) -> dict[str, Any]:
    """What `shoal status` shows. The fields of the store are there only where the node has one. Bytes are counts."""
    dht = context.dht.statistics()
    addresses = context.dht.addresses
    located = next(iter(context.dht.located()), None)
    answered, last_s = context.dht.answers(ANSWERED_LATELY_S)
    reached = located.address if located else next(iter(addresses), None)
    status: dict[str, Any] = {
        "node_id": context.dht.identity.node_id.hex(),
        "instance": "" if serving is None else serving.instance(),
        "version": __version__,
        "network": context.network.name,
        "address": str(reached) if reached else None,
        "address_source": located.source.value if located else "unknown",
        "addresses": [str(address) for address in addresses],
        "peers": dht.contacts,
        "peers_answered": answered,
        "last_answer_s": None if last_s is None else int(last_s),
        "codec": context.codec.name,
        "sent_bytes": context.throttle.sent_bytes + dht.bytes_out,  # to peers, and in datagrams
        "received_bytes": context.throttle.received_bytes + dht.bytes_in,
    }
    status |= (Reachability(Reachable.NO) if serving is None else serving.reachability).as_plain()
    if serving is None:
        return status
    if serving.clock_look is not None:
        await serving.clock_look.refresh()
    usage: Usage | None = None
    health: StoreHealth | None = None
    try:
        usage, health = await context.env.call(
            lambda: (serving.store.usage(context.env.wall()), serving.store.health())
        )
    except StoreError as error:
        serving.problems.failed(error)
    status |= _of_store(serving, usage, health) | _of_line(context, serving) | _of_work(serving)
    status["records"] = dht.records
    status["bugs"] += dht.dropped.get("bug", 0) + context.bugs.count
    return status


def _of_store(serving: Serving, usage: Usage | None, health: StoreHealth | None) -> dict[str, Any]:
    """What is kept; None for what a failed disk does not tell. `problems`: sentences, none when all is well."""
    settings = serving.settings
    problems = {
        "node": serving.problems.of_node(),
        "disk": [
            *serving.problems.of_disk(health),
            *(no_room(usage.free_disk_bytes, usage.reserve_bytes) if usage else ()),
        ],
        "clock": _of_clock(serving),
        "line": serving.connectivity.sentences(),
        "reach": serving.reachability.sentences(),
    }
    return {
        "line": serving.connectivity.line.value,
        "shares": usage and usage.shares,
        "files": usage and usage.files,
        "uploads": usage and usage.uploads,
        "used_bytes": usage and usage.used_bytes,
        "capacity_bytes": settings.capacity_bytes,
        "reserve_bytes": settings.reserve_bytes,
        "available_bytes": usage.available_bytes if usage else 0,
        "free_disk_bytes": usage and usage.free_disk_bytes,
        "damaged_shares": health and health.damaged,
        "lost_shares": health and health.lost,
        "soonest_lease_end": health and health.soonest_lease_end,
        "problems": [sentence for about in problems.values() for sentence in about],
        "problems_of": problems,
    }


def _of_line(context: Context, serving: Serving) -> dict[str, Any]:
    """What is known of the way from outside, and of the clock against those of the peers."""
    seen = [context.dht.observed(ipv6=ipv6) for ipv6 in (False, True)]
    own = context.env.datagrams.local_host(ipv6=True)
    clocks = serving.clocks
    return {
        "mapping": serving.mapping(ipv6=False).as_plain(),
        "mapping_ipv6": serving.mapping(ipv6=True).as_plain(),
        "observed_address": str(seen[0]) if seen[0] else None,
        "observed_ipv6": str(seen[1]) if seen[1] else None,
        "own_ipv6": own if own and Address(own, 1).is_public else None,
        "clock_ahead_s": None if clocks is None else clocks.peers_ahead_s(trio.current_time()),
    }


def _of_clock(serving: Serving) -> list[str]:
    """A sentence where this machine's clock and those of its peers do not agree."""
    clocks, now = serving.clocks, trio.current_time()
    ahead_s = clocks.peers_ahead_s(now, least=1) if clocks is not None else None
    if clocks is None or ahead_s is None or abs(ahead_s) <= MAX_SKEW_S:
        return []
    apart = f"{abs(ahead_s) / 3600:.0f} hours"
    if not clocks.misleads(now):  # too few to tell whose clock is wrong
        hosts = clocks.hosts(now)
        peers = "the clock of 1 peer" if hosts == 1 else f"the clocks of {hosts} peers"
        return [f"The clock of this machine and {peers} are {apart} apart. Set right the one that is wrong."]
    which = "behind" if ahead_s > 0 else "ahead of"
    return [
        f"The clock of this machine is {apart} {which} the clocks of its peers. Set it right: until then this node "
        "repairs no files."
    ]


def _of_work(serving: Serving) -> dict[str, Any]:
    """What was done since the start."""
    care, server = serving.care_statistics(), serving.server.statistics()
    return {
        "turns": care.turns,
        "surveys": care.surveys,
        "repairs": care.repairs,
        "rebuilt_shares": care.rebuilt_shares,
        "repair_bytes": care.repair_bytes,
        "audits_passed": care.audits_passed,
        "audits_failed": care.audits_failed,
        "audit_bytes": care.audit_bytes,
        "uptime_s": int(trio.current_time() - serving.started_at),
        "connections": server.connections,
        "requests": server.requests,
        "bugs": server.bugs,
    }
