"""Finding hosts that agree to take shares: one by one for a repair, as many as the widest code takes for a publish."""

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from shoal.dht import Contact, NodeId, labelled_hash
from shoal.erasure import FileId, Layout
from shoal.node.context import Context
from shoal.node.errors import NoPeers, Refused, ShoalError
from shoal.node.formats import UPLOAD_ID_BYTES
from shoal.node.holders.placement import gather, host_of, spread
from shoal.node.nursery import open_nursery
from shoal.node.publishing.lanes import DropReason, Lane, abort_all, in_words, reasons_of
from shoal.node.publishing.options import PublishOptions

LEAST_ASKED = 8  # at once, after the first have refused or kept silent: a row of the silent must not take minutes

_shared_upload = labelled_hash("repair upload")


class Recruiter:
    """A list of candidates, asked from the best on; remembers who was asked, and who said no and why."""

    def __init__(
        self,
        context: Context,
        candidates: Iterable[Contact],
        share_bytes: int,
        rng: random.Random,
        *,
        meet: FileId | None = None,
    ) -> None:
        """`meet`: a file that others may be repairing at this moment. Then hosts are asked in an order and by upload
        ids that depend on the file alone, so that what two repairers send adds up instead of being kept twice."""
        self._context = context
        self._private = context.network.private
        self._meet = meet
        self._queue = spread(candidates, share_bytes, private=self._private, rng=rng, salt=meet or b"")
        self._surplus: list[Lane] = []
        self.refusals: Counter[DropReason] = Counter()
        self.candidates = len(self._queue)

    def exclude(self, contacts: Iterable[Contact]) -> None:
        """Never ask these hosts, whatever their names: they have a share already, and have answered there."""
        taken = {host_of(contact, private=self._private) for contact in contacts}
        self._queue = [each for each in self._queue if host_of(each, private=self._private) not in taken]

    def exclude_ids(self, node_ids: Iterable[NodeId]) -> None:
        """Never ask these nodes. Others at their addresses may be asked: anybody can state the address of anybody."""
        taken = set(node_ids)
        self._queue = [each for each in self._queue if each.node_id not in taken]

    async def recruit(self, shares: list[int], size_bound: int, lease_s: int) -> list[Lane]:
        """A lane for as many of `shares` as hosts agree; asks on until all are placed or nobody is left."""
        wanted = list(shares)
        lanes: list[Lane] = []
        first = True
        while wanted and self._queue:
            asked = [self._lane(share) for share in self._shares_to_ask_for(wanted, first=first)]
            for lane in await self._ask_all(asked, size_bound, lease_s):
                if lane.share in wanted:
                    wanted.remove(lane.share)
                    lanes.append(lane)
                else:
                    self._surplus.append(lane)
            first = False
        await abort_all(self._context, self._surplus)
        self._surplus.clear()
        return lanes

    def _shares_to_ask_for(self, wanted: list[int], *, first: bool) -> list[int]:
        """One host for each share; later, when hosts have been found to fail, several for the few that are left."""
        alone = first or self._meet is not None  # where repairers meet, a surplus upload may be another's
        count = len(wanted) if alone else max(len(wanted), LEAST_ASKED)
        return [wanted[at % len(wanted)] for at in range(min(count, len(self._queue)))]

    def _lane(self, share: int) -> Lane:
        contact = self._queue.pop(0)
        if self._meet is None:
            return Lane(share, contact, self._context.env.entropy(UPLOAD_ID_BYTES))
        return Lane(share, contact, _shared_upload(self._meet + bytes([share]) + contact.node_id)[:UPLOAD_ID_BYTES])

    async def _ask_all(self, lanes: list[Lane], size_bound: int, lease_s: int) -> list[Lane]:
        async with open_nursery() as nursery:
            for lane in lanes:
                nursery.start_soon(lane.offer, self._context, size_bound, lease_s)
        for lane in lanes:  # a new upload is empty, but where repairers meet
            if lane.alive and lane.received and self._meet is None:
                lane.reason = DropReason.BROKE_THE_PROTOCOL
        self.refusals.update(reasons_of(lanes))
        return [lane for lane in lanes if lane.alive]


@dataclass(frozen=True)
class Crew:
    """The hosts of a new file: a lane to each that agreed to take a share, and how many others said why not."""

    k: int
    n: int
    lanes: list[Lane]
    refusals: Counter[DropReason]


async def find_candidates(context: Context, shares: int) -> list[Contact]:
    """Hosts that may take so many shares. Raises NoPeers when nobody in the network answers."""
    candidates = await gather(context, 2 * shares)
    if not candidates:
        raise NoPeers(
            "No peer of the network answered, so no host can keep the file. Check the connection, "
            "or name a peer with --bootstrap HOST:PORT."
        )
    return candidates


async def recruit_crew(
    context: Context, candidates: Sequence[Contact], options: PublishOptions, size: int | None
) -> Crew:
    """A crew for the code that was chosen, else for the widest one that hosts agree to.

    `size`: of the file, None while it is unknown. Raises NoPeers or Refused when fewer than k hosts agree.
    """
    k, n = options.width(size, Recruiter(context, candidates, 0, context.env.rng).candidates)
    while True:
        crew = await _crew_for(context, candidates, options, size, (k, n))
        narrower = options.width(size, len(crew.lanes))
        if len(crew.lanes) >= n or narrower == (k, n):
            break
        await abort_all(context, crew.lanes)
        k, n = narrower
    if len(crew.lanes) < k:
        raise too_few(len(crew.lanes), k, crew.refusals)
    return crew


async def _crew_for(
    context: Context, candidates: Sequence[Contact], options: PublishOptions, size: int | None, code: tuple[int, int]
) -> Crew:
    """As many lanes as hosts agree to, up to one for each share of this code."""
    k, n = code
    bound = share_bound(k, n, size)
    recruiter = Recruiter(context, candidates, bound, context.env.rng)
    lanes = await recruiter.recruit(list(range(n)), bound, options.ttl_s)
    full = sum(contact.space == 0 for contact in candidates)
    if full:
        recruiter.refusals[DropReason.FULL] += full
    return Crew(k, n, lanes, recruiter.refusals)


def share_bound(k: int, n: int, size: int | None) -> int:
    """Bytes of one share of a file, 0 while the file's size is unknown."""
    return 0 if size is None else Layout.for_plaintext(k, n, size).share_bytes


def too_few(found: int, needed: int, refusals: Counter[DropReason]) -> ShoalError:
    """The error for a publish that only `found` hosts take part in: NoPeers when all kept silent, else Refused."""
    silent = refusals[DropReason.NO_ANSWER]
    if not found and silent == sum(refusals.values()):
        return NoPeers(f"None of the {silent} known hosts answered. Nothing was published. Try again later.")
    told = in_words(refusals)
    why = f" ({told})" if told else ""
    if needed == 1:
        return Refused(f"No host took a share{why}. Nothing was published. Try again later.")
    return Refused(
        f"Only {found} of the {needed} hosts needed took a share{why}. Nothing was published. "
        "Try again later, or ask for fewer shares (--needed, --total)."
    )
