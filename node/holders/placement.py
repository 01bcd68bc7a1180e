"""Which hosts to ask to keep a share: many, distinct, and far apart on the network.

The rules are pure; `gather` is the part that asks the DHT. Candidates come from the routing table and from lookups of
targets all over the id space, whose replies carry every node's free-space class.
"""

import random
from collections import Counter
from collections.abc import Iterable, Iterator

import trio

from shoal.dht import Contact, NodeId, labelled_hash, space_class
from shoal.node.context import Context
from shoal.node.holders.relayed_hosts import relayed_hosts
from shoal.node.nursery import open_nursery

CORNER_BITS = 4  # of a target: the lookups of a gathering go to as many corners of the id space as there can be
MAX_LOOKUPS = 1 << CORNER_BITS  # enough to see a network of thousands; a larger one need not be seen whole
AT_ONCE = 2  # lookups. When so many find no new host, the network has been seen
GATHER_TIMEOUT_S = 20.0
# Publishes one after another use what one of them has gathered; a host that has filled up since says so. Where fewer
# hosts were found than wanted, others may be starting.
LATELY_S = 60.0
LATELY_FEW_S = 5.0

_order_hash = labelled_hash("candidate order")


def spread(
    contacts: Iterable[Contact], share_bytes: int, *, private: bool, rng: random.Random, salt: bytes = b""
) -> list[Contact]:
    """The contacts worth asking, best first: those with room, then those that can be dialled, then by how few before
    them share a prefix.

    Among equals chance decides; with a `salt`, a hash that gives everybody who uses it the same order.

    In a public network one address (an IPv6 /64) counts as one host and is listed once. Full hosts are left out.
    """
    shuffled = [contact for contact in one_per_host(contacts, private=private) if contact.space != 0]
    if salt:
        shuffled.sort(key=lambda contact: _order_hash(salt + contact.node_id))
    else:
        rng.shuffle(shuffled)
    near: Counter[bytes] = Counter()
    wide: Counter[bytes] = Counter()
    ranked = []
    for contact in shuffled:
        prefix, wide_prefix = contact.address.prefix(), contact.address.wide_prefix()
        crowding = (0, 0) if private else (near[prefix], wide[wide_prefix])
        ranked.append((not _has_room(contact, share_bytes), contact.is_relayed, crowding, contact))
        near[prefix] += 1
        wide[wide_prefix] += 1
    return [contact for *_, contact in sorted(ranked, key=lambda entry: entry[:3])]


def one_per_host(contacts: Iterable[Contact], *, private: bool) -> list[Contact]:
    """One contact for each host; in a private network every node id is a host of its own."""
    hosts: dict[bytes, Contact] = {}
    for contact in contacts:
        hosts.setdefault(host_of(contact, private=private), contact)
    return list(hosts.values())


def host_of(contact: Contact, *, private: bool) -> bytes:
    """What makes two contacts the same host."""
    return bytes(contact.node_id) if private else contact.address.host_key()


def counted_host(context: Context, contact: Contact) -> bytes:
    """The host that a contact counts for here. All that one relay brings are one host: nobody can check where they are.

    One that this node has reached without a relay, within a day, counts for itself.
    """
    return host_of(context.counted(contact), private=context.network.private)


def _has_room(contact: Contact, share_bytes: int) -> bool:
    return contact.space is None or contact.space >= space_class(max(share_bytes, 2))


async def gather(context: Context, wanted: int) -> list[Contact]:
    """Distinct hosts of the network, this one among them if it serves: until `wanted` are known or looking further
    shows no new ones. Where fewer than half can be dialled, some that
    relays ring for.
    """
    dht, private, rng = context.dht, context.network.private, context.env.rng
    me = context.me()
    found: dict[NodeId, Contact] = {} if me is None else {me.node_id: me}

    async def look(target: bytes) -> None:
        found.update({contact.node_id: contact for contact in await dht.find_closest(target)})

    targets = spaced_targets(rng)
    with trio.move_on_after(GATHER_TIMEOUT_S):
        for some in zip(*[targets] * AT_ONCE, strict=True):
            before = len(found)
            async with open_nursery() as nursery:
                for target in some:
                    nursery.start_soon(look, target)
            for contact in dht.contacts():
                found.setdefault(contact.node_id, contact)
            if len(found) == before or len(one_per_host(found.values(), private=private)) >= wanted:
                break
    direct = list(found.values())
    missing = wanted - len(one_per_host(direct, private=private))
    if missing <= wanted // 2:
        return direct
    return direct + await relayed_hosts(context, direct, missing)


async def gather_lately(context: Context, wanted: int) -> list[Contact]:
    """As `gather` for twice as many hosts, or what it found a short while ago, with what the DHT has heard since."""
    gathered, age_s = context.gathered, trio.current_time() - context.gathered.at
    enough = len(one_per_host(gathered.found, private=context.network.private)) >= wanted
    if wanted > gathered.wanted or age_s > (LATELY_S if enough else LATELY_FEW_S):
        found = await gather(context, 2 * wanted)
        if found:
            gathered.wanted, gathered.at, gathered.found = wanted, trio.current_time(), tuple(found)
        return found
    latest = {contact.node_id: contact for contact in (*gathered.found, *context.dht.contacts())}
    return list(latest.values())


def spaced_targets(rng: random.Random) -> Iterator[bytes]:
    """MAX_LOOKUPS targets, the first by chance and each far from those before it: the second in the other half of the
    id space, the next two in the other quarters, and so on.

    Targets of chance alone may lie close together, and then a few lookups find the same nodes again and again: one in
    a hundred gatherings took 20 nodes for the whole of a network of 60.
    """
    start = int.from_bytes(rng.randbytes(32), "big")
    for number in range(MAX_LOOKUPS):
        corner = int(f"{number:0{CORNER_BITS}b}"[::-1], 2)
        yield (start ^ corner << 256 - CORNER_BITS).to_bytes(32, "big")
