"""Publishing a small file: each holder gets its share, keeps it and states so in one request.

A file of one segment is sealed whole before anything leaves, so its id is known first. Nothing needs to be offered,
written and committed one after another. Hosts are asked in an order, and by upload ids, that depend on the id alone:
when the same command is run again after a crash, those that have a share answer as before.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

import trio

from shoal.dht import Contact, NodeId
from shoal.erasure import Layout, Manifest
from shoal.node.channel import Buffer, Delete, PeerError
from shoal.node.context import Context
from shoal.node.holders.deletion import sign_deletion
from shoal.node.nursery import open_nursery
from shoal.node.publishing.journal import JournalEntry
from shoal.node.publishing.lanes import DropReason, Lane
from shoal.node.publishing.options import PublishOptions
from shoal.node.publishing.recruit import Recruiter

SMALL_BYTES = 64 * 1024  # of a file; larger ones are sent in step, so that a slow line shows who is slow
# With a lower cap our own line would make hosts late: a small file takes 200 kB of shares.
MIN_UP_BYTES_PER_S = 256 * 1024
WITHDRAW_TIMEOUT_S = 2.0


def is_small(layout: Layout, size: int | None) -> bool:
    """Whether a file of so many bytes, in this code, goes to its holders in one request each."""
    return size is not None and size <= SMALL_BYTES and layout.segment_count == 1


class SmallFile:
    """One sealed segment on its way to its holders. `blocks` by share number; the entry has the manifest."""

    def __init__(
        self,
        context: Context,
        options: PublishOptions,
        entry: JournalEntry,
        blocks: Mapping[int, Buffer] | Sequence[Buffer],
    ) -> None:
        self._context = context
        self._options = options
        self._entry = entry
        self._blocks = blocks
        self._manifest = Manifest.decode(entry.manifest)
        self.refusals: Counter[DropReason] = Counter()
        self.refused_by: set[NodeId] = set()

    async def give(self, candidates: Iterable[Contact], on_given: Callable[[Lane], None]) -> list[Lane]:
        """Give each share to a host. Those that took one; none where so few did that another code is to be tried.

        A host that is late gets company, one that refuses is replaced. `on_given` hears of each that took a share.
        """
        k, n, lease_s = self._entry.k, self._entry.n, self._options.ttl_s

        async def give(lane: Lane) -> None:
            await lane.give(self._context, self._blocks[lane.share], self._entry.manifest, self._manifest.id, lease_s)
            if lane.alive:
                on_given(lane)

        share_bytes = self._manifest.layout.share_bytes
        recruiter = Recruiter(
            self._context, candidates, share_bytes, self._context.env.rng, meet=self._manifest.id, give=give
        )
        lanes = await recruiter.recruit(list(range(n)), share_bytes, lease_s)
        self.refusals, self.refused_by = recruiter.refusals, recruiter.refused_by
        placed = {lane.share for lane in lanes}
        if len(placed) == n or (len(placed) >= k and self._options.width(self._entry.size, len(lanes)) == (k, n)):
            return lanes
        await self._withdraw(lanes)
        return []

    async def _withdraw(self, lanes: Iterable[Lane]) -> None:
        """Have the holders drop what they took: the file will have another id. The owner's word makes them."""
        env, network = self._context.env, self._context.network
        deletion = sign_deletion(
            self._entry.owner_secret, env.scheme, network.network_id, self._manifest.id, env.wall()
        )

        async def withdraw(contact: Contact) -> None:
            with trio.move_on_after(WITHDRAW_TIMEOUT_S):
                try:
                    await self._context.ask(contact, Delete(self._manifest.id, deletion.issued, deletion.signature))
                except PeerError:
                    return  # it keeps a share that nobody asks for until the lease ends

        async with open_nursery() as nursery:
            for lane in lanes:
                nursery.start_soon(withdraw, lane.contact)
