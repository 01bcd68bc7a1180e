"""Renewing: asking all holders of a file to keep it for longer. Anyone may, and nobody can shorten.

A holder moves a lease to at most 90 days from now. So what is used, or kept by somebody, stays; the rest goes in time.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from shoal.erasure import FileId, Manifest
from shoal.node import channel
from shoal.node.channel import Renew
from shoal.node.context import Context
from shoal.node.errors import Cause, NotFound, TooFewShares, UsageError, in_words
from shoal.node.formats import MAX_LEASE_S, MIN_LEASE_S
from shoal.node.holders.announcers import Hint
from shoal.node.holders.everyone import ask_everyone, by_node, causes_of_answers
from shoal.node.holders.placement import counted_host
from shoal.node.holders.search import Located, Search
from shoal.node.holders.statements import HolderStatement
from shoal.node.holders.tally import believable, kth_longest
from shoal.node.holders.width import look_for_width
from shoal.node.results import Renewed

RENEW_TIMEOUT_S = 15.0  # of all holders together
USED_BEFORE_S = 60 * 86400.0  # a fetch renews a file that may have less than this left
USED_TIMEOUT_S = 3.0  # what a fetch waits for that at most


def check_ttl(ttl_s: int) -> None:
    """UsageError for a time that no holder would grant."""
    if not MIN_LEASE_S <= ttl_s <= MAX_LEASE_S:
        raise UsageError("The time to live must be from 1h to 90d. To keep a file for longer, renew it again.")


async def renew_file(
    context: Context, file_id: FileId, ttl_s: int = MAX_LEASE_S, *, look_wider: bool = False
) -> Renewed:
    """See `Node.renew`. `look_wider`: also look whether the network would allow a wider file."""
    search = await Search(context, file_id).run()
    manifest, hints = search.manifest, search.hints
    if len({hint.share for hint in hints}) < manifest.n:
        hints = hints + (await Search(context, file_id, manifest=manifest).run(thorough=True)).hints
    renewed = await _renew_all(context, manifest, hints, ttl_s, RENEW_TIMEOUT_S)
    causes = {cause: renewed.causes[cause] for cause in Cause if cause in renewed.causes}
    if not renewed.shares:
        raise NotFound(
            f"None of the hosts listed for this file confirmed that it has a share{_told(causes)}. Try again later.",
            causes=causes,
        )
    if renewed.shares < manifest.k:
        raise TooFewShares(
            f"Renewed only {renewed.shares} of the {manifest.k} shares needed{_told(causes)}. Hosts that confirmed "
            "keep their shares for longer. Run the same command again later.",
            needed=manifest.k,
            found=renewed.shares,
            causes=causes,
        )
    return replace(renewed, width=await look_for_width(context, manifest)) if look_wider else renewed


def _told(causes: Mapping[Cause, int]) -> str:
    told = in_words(causes)
    return f" ({told})" if told else ""


async def renew_used(context: Context, located: Located, proven: Sequence[Hint], lease_s: int | None) -> Renewed | None:
    """After a fetch: renew, unless the publisher chose a short lease (`lease_s`), or those who have just proven their
    shares, on k hosts at least, all promise 60 days more. None where nothing was renewed. Never fails.

    What others say counts for nothing, or one liar could stop every renewal. `proven` are asked before all others, who
    may be invented.
    """
    if lease_s is not None:
        return None
    hosts = {counted_host(context, each.contact) for each in proven}
    until = shortest_promise(proven, located.statements)
    if len(hosts) >= located.manifest.k and until >= context.env.wall() + USED_BEFORE_S:
        return None
    renewed = await _renew_all(context, located.manifest, [*proven, *located.hints], MAX_LEASE_S, USED_TIMEOUT_S)
    return renewed if renewed.shares else None


def shortest_promise(holders: Iterable[Hint], statements: Iterable[HolderStatement]) -> float:
    """The earliest end (s since the epoch) of these holders' leases on these shares, as signed by themselves; 0 where
    one of them, or all, have signed nothing."""
    signed = {(each.share, each.node_id): each.lease_end for each in statements}
    return float(min((signed.get((each.share, each.contact.node_id), 0) for each in holders), default=0))


async def _renew_all(
    context: Context, manifest: Manifest, hints: Iterable[Hint], ttl_s: int, timeout_s: float
) -> Renewed:
    """Ask everybody. A host that is busy is asked again while there is time."""
    request = Renew(manifest.id, ttl_s)
    nodes = [contacts for contacts, _ in by_node(hints)]
    answers = await ask_everyone(
        nodes,
        lambda contact, on_busy: context.ask(contact, request, patience_s=timeout_s, on_busy=on_busy),
        timeout_s=timeout_s,
    )
    longest: dict[int, float] = {}
    hosts: set[bytes] = set()
    for contact, answer in answers.items():
        for share, lease_end in answer.shares if isinstance(answer, channel.LeaseRenewed) else ():
            if share < manifest.n:
                longest[share] = max(longest.get(share, 0.0), float(lease_end))
                hosts.add(counted_host(context, contact))
    until = kth_longest(believable(longest.values(), context.env.wall()), manifest.k)
    return Renewed(
        file_id=manifest.id,
        k=manifest.k,
        n=manifest.n,
        shares=len(longest),
        hosts=len(hosts),
        causes={cause.value: count for cause, count in causes_of_answers(answers.values()).items()},
        lease_until=until or 0.0,
    )
