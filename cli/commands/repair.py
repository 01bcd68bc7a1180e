"""`shoal repair`: rebuild the lost shares of a file at once."""

from typing import TYPE_CHECKING

import typer

from shoal.cli.arguments import HashArgument, LinkFileOption
from shoal.cli.context import Globals, Job, globals_of
from shoal.cli.exits import Code
from shoal.cli.units import format_size, plural

if TYPE_CHECKING:
    from shoal.erasure import Link
    from shoal.node import Repaired


def repair(context: typer.Context, link: HashArgument = None, link_file: LinkFileOption = None) -> Job:
    """Rebuild the lost shares of a file on new hosts.

    The hash is enough. The hosts of a file do the same by themselves, but later.

    Exit code: 0 when all shares are good, 3 when too few hosts were found, 10 when too few shares are left.
    """
    from shoal.cli.links import take_link

    settings = globals_of(context)
    wanted = take_link(link, link_file, needs_key=False, settings=settings)
    return settings.job(lambda: _repair(settings, wanted))


async def _repair(settings: Globals, link: "Link") -> int:
    from shoal.cli.progress import open_progress

    output = settings.output
    output.interrupt_hint = "Nothing is broken. Run the same command again to go on."
    async with settings.open_client() as node, open_progress(output) as progress:
        done = await node.repair(link, on_progress=progress)
    output.result(words(done))
    if not done.complete:
        output.note(missing_words(done))
    if not done.findable:
        output.warn("Too few nodes noted where the new shares are. They may be hard to find for a while.")
    output.summary(**summary_fields(link, done))
    return Code.OK if done.complete else Code.PARTIAL


def words(done: "Repaired") -> str:
    """What a finished repair tells people."""
    now = f"{done.good_after} of {done.n} shares good on {plural(done.hosts, 'host')} ({done.k} needed)"
    if not done.rebuilt and done.good_after == done.n:
        return f"Nothing to repair: all {done.n} shares are good, on {plural(done.hosts, 'host')} ({done.k} needed)"
    if not done.rebuilt:
        return f"Nothing was repaired: {now}"
    made = f"Rebuilt {plural(len(done.rebuilt), 'share')}"
    return f"{made} ({format_size(done.sent_bytes)} sent, {format_size(done.received_bytes)} read): {now}"


def missing_words(done: "Repaired") -> str:
    """What an incomplete repair tells people."""
    left = done.n - done.good_before - len(done.rebuilt)
    if left <= 0:
        return "Some hosts that were good before did not answer again. Check the file again later."
    others = "the other share" if left == 1 else f"the other {left} shares"
    return (
        f"No host was found for {others}{_why(done)}. Each share needs a host that has no share of the file yet. "
        "Try again when the network has more hosts."
    )


def _why(done: "Repaired") -> str:
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(done.refusals.items()))
    return f" ({reasons})" if reasons else ""


def summary_fields(link: "Link", done: "Repaired") -> dict[str, object]:
    """The JSON summary."""
    return {
        "id": link.hash,
        "k": done.k,
        "n": done.n,
        "rebuilt": list(done.rebuilt),
        "good_before": done.good_before,
        "good_after": done.good_after,
        "hosts": done.hosts,
        "sent_bytes": done.sent_bytes,
        "received_bytes": done.received_bytes,
        "lease_until": round(done.lease_until),
        "findable": done.findable,
        "complete": done.complete,
        "refusals": dict(done.refusals),
        "seconds": round(done.seconds, 3),
    }
