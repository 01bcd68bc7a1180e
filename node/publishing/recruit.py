"""Finding hosts that agree to take shares: one by one for a repair, as many as the widest code takes for a publish."""

import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from shoal.dht import Contact, NodeId, labelled_hash
from shoal.erasure import FileId, Layout
from shoal.node.context import Context
from shoal.node.errors import NoPeers, Refused, ShoalError, in_words
from shoal.node.formats import UPLOAD_ID_BYTES
from shoal.node.holders.placement import counted_host, gather_lately, spread
from shoal.node.nursery import open_nursery
from shoal.node.publishing.lanes import UNBOUND, DropReason, Lane, abort_all, causes_of
from shoal.node.publishing.offers import Ask, Offers, OfferTimes
from shoal.node.publishing.options import PublishOptions
from shoal.values import dataclass

PERHAPS = (DropReason.NO_ANSWER, DropReason.BUSY)  # hosts that may agree another time
LEAST_ASKED = 8  # at once, after so many were silent: a row of the silent must not take minutes

_shared_upload = labelled_hash("repair upload")


class Recruiter:
    """A list of candidates, asked from the best on; remembers who was asked, and who said no and why.

    An offer names no share, so a host that agrees takes whatever number is free. Those that are late get company, and
    may still agree. Those that were silent are asked once more before fewer lanes than wanted are returned.
    """

    def __init__(
        self,
        context: Context,
        candidates: Iterable[Contact],
        share_bytes: int,
        rng: random.Random,
        *,
        meet: FileId | None = None,
        once: bool = False,
        give: Ask | None = None,
    ) -> None:
        """
        give: has a host take the very share that its lane names, instead of an offer that names none. It goes with
        `meet`: the order of the hosts and the upload ids depend on the file alone. Those that are late get company.
        once: nobody is asked a second time, since the caller has a further try of its own.    meet: a file that others
        may be repairing at this moment. Then hosts are asked in an order and by upload ids that depend on the file
        alone, so that what two repairers send adds up instead of being kept twice. There a host is asked for one
        number only, and those that were silent lately are not asked.
        """
        self._context = context
        self._private = context.network.private
        self._meet = meet
        self._give = give
        self._is_left_late = meet is not None and give is None  # another repairer may be at it: nobody gets company
        self._once = once or self._is_left_late
        ranked = spread(candidates, share_bytes, private=self._private, rng=rng, salt=meet or b"")
        now = context.env.wall()
        silent = {contact.node_id for contact in ranked if context.silence.is_silent(contact, now)}
        self._queue = [contact for contact in ranked if contact.node_id not in silent]
        if not self._is_left_late:
            self._queue += [contact for contact in ranked if contact.node_id in silent]
        self._silent: list[Contact] = []  # to be asked once more
        self._reasons: dict[NodeId, DropReason] = {}
        self._times = OfferTimes()
        self.candidates = len(ranked)

    @property
    def refusals(self) -> Counter[DropReason]:
        """How many hosts took no share, by reason."""
        return Counter(self._reasons.values())

    @property
    def refused_by(self) -> set[NodeId]:
        """Those that have refused, and would again."""
        return {node_id for node_id, reason in self._reasons.items() if reason not in PERHAPS}

    def exclude(self, contacts: Iterable[Contact]) -> None:
        """Never ask these hosts, whatever their names: they have a share already, and have answered there."""
        taken = {counted_host(self._context, contact) for contact in contacts}
        self._keep(lambda contact: counted_host(self._context, contact) not in taken)

    def exclude_ids(self, node_ids: Iterable[NodeId]) -> None:
        """Never ask these nodes. Others at their addresses may be asked: anybody can state the address of anybody."""
        taken = set(node_ids)
        self._keep(lambda contact: contact.node_id not in taken)

    def _keep(self, wanted: Callable[[Contact], bool]) -> None:
        self._queue = [each for each in self._queue if wanted(each)]
        self._silent = [each for each in self._silent if wanted(each)]

    async def recruit(self, shares: list[int], size_bound: int, lease_s: int) -> list[Lane]:
        """A lane for as many of `shares` as hosts agree; asks on until all are placed or nobody is left."""
        ask = self._give or (lambda lane: lane.offer(self._context, size_bound, lease_s))
        lanes = await self._ask_around(list(shares), ask, again=False)
        if len(lanes) < len(shares) and self._silent and not self._once:
            self._queue, self._silent = self._silent, []
            placed = {lane.share for lane in lanes}
            lanes += await self._ask_around([share for share in shares if share not in placed], ask, again=True)
        return lanes

    async def _ask_around(self, wanted: list[int], ask: Ask, *, again: bool) -> list[Lane]:
        """Ask each host of the queue once, until none of `wanted` is left."""
        lanes: list[Lane] = []
        async with open_nursery() as nursery:
            offers = Offers(nursery, ask, self._times, again=again)
            misses = 0  # hosts in a row that did not answer
            while wanted:
                self._ask_more(offers, wanted, misses)
                if not offers.under_way:
                    break
                lane = await offers.next(wake_when_late=bool(self._queue) and not self._is_left_late)
                if lane is None:
                    continue
                self._note(lane, again=again)
                misses = 0 if lane.answers else misses + 1
                if lane.alive:
                    lane.share = wanted[0] if self._meet is None else lane.share
                    lanes.append(lane)
                    if lane.share in wanted:  # else it was given to two, since the first was late
                        wanted.remove(lane.share)
            nursery.cancel_scope.cancel()
        surplus = await self._leave(offers, again=again)
        return lanes + surplus if self._give else lanes

    def _ask_more(self, offers: Offers, wanted: list[int], misses: int) -> None:
        """Have one host asked for each share; more, when hosts have been silent, for the few that are left."""
        under_way = offers.under_way
        if self._give is not None:  # beside one that is late another host is given the same share
            late_lanes = set(offers.late())
            asked = {lane.share for lane in under_way if lane not in late_lanes}
            shares = [share for share in wanted if share not in asked]
        elif self._meet is not None:  # an upload too many may be another repairer's: only one host for each share
            asked = {lane.share for lane in under_way}
            shares = [share for share in wanted if share not in asked]
        else:
            late = len(offers.late())
            aim = max(len(wanted), min(LEAST_ASKED, misses + late))
            shares = [UNBOUND] * max(0, aim - (len(under_way) - late))
        for share in shares[: len(self._queue)]:
            offers.make(self._lane(share))

    def _lane(self, share: int) -> Lane:
        contact = self._queue.pop(0)
        if self._meet is None:
            return Lane(share, contact, self._context.env.entropy(UPLOAD_ID_BYTES))
        return Lane(share, contact, _shared_upload(self._meet + bytes([share]) + contact.node_id)[:UPLOAD_ID_BYTES])

    def _note(self, lane: Lane, *, again: bool) -> None:
        """Remember what a host said, or that it said nothing."""
        if lane.alive and lane.received and self._meet is None:  # a new upload is empty, but where repairers meet
            lane.reason = DropReason.BROKE_THE_PROTOCOL
        self._reasons.pop(lane.contact.node_id, None)
        if lane.reason is not None:
            self._reasons[lane.contact.node_id] = lane.reason
        if lane.reason in PERHAPS and not again:
            self._silent.append(lane.contact)
        if lane.answers:
            self._context.silence.heard(lane.contact)
        else:
            self._context.silence.note(lane.contact, self._context.env.wall())

    async def _leave(self, offers: Offers, *, again: bool) -> list[Lane]:
        """Nobody is needed any more: those that were late count as silent, the others may be asked another time.

        Returns those that have agreed, and are not needed.
        """
        answered, late = offers.unheard(), offers.late()
        for lane in late:
            lane.give_up()
        for lane in [*answered, *late]:
            self._note(lane, again=again)
        surplus = [lane for lane in [*answered, *offers.under_way] if lane.alive]
        if self._give is not None:
            return [lane for lane in answered if lane.alive]
        self._queue = [lane.contact for lane in surplus] + self._queue
        if self._meet is None:
            await abort_all(self._context, surplus)
        return surplus


@dataclass(frozen=True)
class Crew:
    """The hosts of a new file: a lane to each that agreed to take a share, and how many others said why not.

    `possible_n` is n of the widest code that they and the hosts that kept silent would have allowed.
    """

    k: int
    n: int
    possible_n: int
    lanes: list[Lane]
    refusals: Counter[DropReason]


async def find_candidates(context: Context, shares: int) -> list[Contact]:
    """Hosts that may take so many shares. Raises NoPeers when nobody in the network answers."""
    candidates = await gather_lately(context, shares)
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
    refusals = Counter({DropReason.FULL: sum(contact.space == 0 for contact in candidates)})
    k, n = options.width(size, Recruiter(context, candidates, 0, context.env.rng).candidates)
    possible_n = 0
    while True:
        recruiter = Recruiter(context, candidates, share_bound(k, n, size), context.env.rng)
        lanes = await recruiter.recruit(list(range(n)), share_bound(k, n, size), options.ttl_s)
        refusals.update(recruiter.refusals)
        silent = sum(recruiter.refusals[reason] for reason in PERHAPS)
        possible_n = possible_n or (n if len(lanes) == n else options.width(size, len(lanes) + silent)[1])
        narrower = options.width(size, len(lanes))
        if len(lanes) >= n or narrower == (k, n):
            break
        await abort_all(context, lanes)
        candidates = [lane.contact for lane in lanes]  # they alone agree to take any, and theirs will be larger
        k, n = narrower
    if len(lanes) < k:
        raise too_few(len(lanes), k, refusals)
    if options.survives_more_than and n - k <= options.survives_more_than:
        await abort_all(context, lanes)
        told = in_words(+refusals)
        raise Refused(
            f"Only {len(lanes)} hosts took a share{f' ({told})' if told else ''}, so a new file would survive no more "
            "losses than the old one. Nothing was published. Try again later."
        )
    return Crew(k, n, max(n, possible_n), lanes, +refusals)


def share_bound(k: int, n: int, size: int | None) -> int:
    """Bytes of one share of a file, 0 while the file's size is unknown."""
    return 0 if size is None else Layout.for_plaintext(k, n, size).share_bytes


def too_few(found: int, needed: int, refusals: Counter[DropReason]) -> ShoalError:
    """The error for a publish that only `found` hosts take part in: NoPeers when all kept silent, else Refused."""
    silent, causes = refusals[DropReason.NO_ANSWER], causes_of(refusals)
    if not found and silent == sum(refusals.values()):
        text = f"None of the {silent} known hosts answered. Nothing was published. Try again later."
        return NoPeers(text, causes=causes)
    told = in_words(refusals)
    why = f" ({told})" if told else ""
    if needed == 1:
        return Refused(f"No host took a share{why}. Nothing was published. Try again later.", causes=causes)
    return Refused(
        f"Only {found} of the {needed} hosts needed took a share{why}. Nothing was published. "
        "Try again later, or ask for fewer shares (--needed, --total).",
        causes=causes,
    )
