"""What time it is by our peers, asked at this moment: for what is done once, and cannot be undone by a right clock."""

import trio

from shoal.dht import Contact, RequestError
from shoal.erasure import HASH_BYTES, FileId
from shoal.node.care.clocks import ClockComparison
from shoal.node.care.polls import MalformedPoll, poll
from shoal.node.context import Context
from shoal.node.holders.placement import host_of
from shoal.node.nursery import open_nursery

ASKED = 25  # peers, by chance: five answers are enough, and only where half of those who answer lie are they believed


async def ask_clocks(context: Context) -> ClockComparison:
    """The clocks of some peers beside ours; of none where nobody answers. Takes as long as a datagram may."""
    clocks = ClockComparison()

    async def ask(contact: Contact) -> None:
        nobody_s = FileId(context.env.entropy(HASH_BYTES))  # a poll is about a file, and this one is none
        try:
            clock, _ = await poll(context, contact, [nobody_s])
        except (RequestError, MalformedPoll):
            return
        host = host_of(contact, private=context.network.private)
        clocks.note(host, float(clock), context.env.wall(), trio.current_time())

    async with open_nursery() as nursery:
        for contact in context.dht.sample(ASKED):
            nursery.start_soon(ask, contact)
    return clocks
