"""Hosts that cannot be dialled: found by asking relays for whom they ring, where too few others are known.

Nobody can check where such a host is. So in a public network it counts for the place of its relay, until this node has
reached it without the relay (`Context.counted`). Here it tries to.
"""

from collections import defaultdict
from collections.abc import Collection, Sequence
from contextlib import suppress

import trio

from shoal.dht import Contact, NodeId, Reach, has_proof, reach_of
from shoal.dht.identity import NODE_ID_BYTES
from shoal.dht.reach import MAX_RELAYS
from shoal.node.channel import GetRelayed, PeerError
from shoal.node.context import Context
from shoal.node.nursery import open_nursery

ASKED = 8  # relays, by chance
ASK_S = 5.0
MET_AT_ONCE = 16
MEET_S = 8.0  # for all: a ring and a punch take two
_ROW_BYTES = NODE_ID_BYTES + 1


async def relayed_hosts(context: Context, direct: Sequence[Contact], most: int) -> list[Contact]:
    """At most so many hosts behind some of the nodes in `direct`, each with the relays that were found to ring it."""
    me = context.me()
    relays = [each for each in direct if me is None or each.node_id != me.node_id]
    relays = context.env.rng.sample(relays, min(ASKED, len(relays)))
    found: defaultdict[NodeId, list[Contact]] = defaultdict(list)
    spaces: dict[NodeId, int] = {}

    async def ask(relay: Contact) -> None:
        with suppress(PeerError):
            rows = (await context.ask(relay, GetRelayed(), timeout_s=ASK_S)).nodes
            for start in range(0, len(rows), _ROW_BYTES):
                node_id = NodeId(rows[start : start + NODE_ID_BYTES])
                found[node_id].append(Contact(relay.node_id, relay.address))
                spaces[node_id] = rows[start + NODE_ID_BYTES]

    async with open_nursery() as nursery:
        for relay in relays:
            nursery.start_soon(ask, relay)
    known = {each.node_id for each in direct} | ({me.node_id} if me else set())
    hosts = [_host(context, each, found[each], spaces[each]) for each in sorted(found) if each not in known]
    chosen = [each for each in hosts if each is not None][:most]
    if not context.network.private:
        await _meet(context, chosen)
    return [context.counted(each) for each in chosen]


def _host(context: Context, node_id: NodeId, relays: Sequence[Contact], space: int) -> Contact | None:
    """A host as somebody to call; None for one that no node of this network can be."""
    if not has_proof(node_id, context.network.pow_bits):
        return None
    reach = Reach((), tuple(relays[:MAX_RELAYS]))
    if not reach.allowed_in(context.network):  # two relays of one place: it will say itself which it has
        reach = Reach((), reach.relays[:1])
    return reach.contact(node_id, space)


async def _meet(context: Context, hosts: Collection[Contact]) -> None:
    """Connect to each, so that those that can be reached without a relay are."""
    room = trio.CapacityLimiter(MET_AT_ONCE)

    async def meet(host: Contact) -> None:
        async with room:
            with suppress(PeerError):
                async with context.pool.connection(host.node_id, reach_of(host)):
                    pass

    with trio.move_on_after(MEET_S):
        async with open_nursery() as nursery:
            for host in hosts:
                nursery.start_soon(meet, host)
