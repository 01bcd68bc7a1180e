"""`shoal check`: how many shares of a file are proven to be there, and what loss the file would survive."""

import time
from typing import TYPE_CHECKING, Annotated

import typer

from shoal.cli.arguments import HashArgument, LinkFileOption
from shoal.cli.context import Globals, Job, globals_of
from shoal.cli.exits import Code
from shoal.cli.tables import day
from shoal.cli.units import format_size, plural

if TYPE_CHECKING:
    from shoal.erasure import Link
    from shoal.node import Checked, Width

BAD_WAYS = (  # outcomes, and how they are told
    ("wrong", "with wrong bytes"),
    ("missing", "lost by their host"),
    ("offline", "on hosts that are away"),
    ("stalled", "on hosts that answer too slowly"),
    ("busy", "on hosts that are busy"),
)


def check(
    context: typer.Context,
    link: HashArgument = None,
    verify: Annotated[bool, typer.Option("--verify", help="Read every block of every share.")] = False,
    link_file: LinkFileOption = None,
) -> Job:
    """Check a file's health: good shares, losses it survives, lease.

    Every host must prove that it has one random block of its share; with --verify, all blocks. The hash is enough.

    Exit code: 0 when all shares are good, 3 when some are lost but the file can be read, 10 when it cannot be read.
    """
    from shoal.cli.links import take_link

    settings = globals_of(context)
    wanted = take_link(link, link_file, needs_key=False, settings=settings)
    return settings.job(lambda: _check(settings, wanted, verify))


async def _check(settings: Globals, link: "Link", verify: bool) -> int:
    from shoal.cli.progress import open_progress

    async with settings.open_client() as node, open_progress(settings.output) as progress:
        found = await node.check(link, verify=verify, on_progress=progress)
    settings.output.result(words(found))
    notes(settings, link, found)
    settings.output.summary(**summary_fields(link, found))
    return exit_code(found)


def exit_code(found: "Checked") -> Code:
    """0 with all n good, 3 when readable, 10 when not."""
    if found.healthy:
        return Code.OK
    return Code.PARTIAL if found.readable else Code.NOT_FOUND


def words(found: "Checked", now: float | None = None) -> str:
    """The one line for people."""
    state = (
        f"{found.good_shares} of {found.n} shares good on {plural(found.hosts, 'host')} in "
        f"{plural(found.networks, 'network')} ({found.k} needed)"
    )
    if not found.readable or found.lease_until is None:
        return f"{state}; it cannot be read now"
    survives = f"survives any {plural(found.survives, 'loss', 'losses')}" if found.survives else "survives no loss"
    lease = "its lease ended" if has_ended(found, now) else "lease until"
    return f"{state}: {survives}; {lease} {day(found.lease_until)}"


def has_ended(found: "Checked", now: float | None = None) -> bool:
    """Whether the lease is over by this machine's clock."""
    return found.lease_until is not None and found.lease_until <= (time.time() if now is None else now)


def notes(settings: Globals, link: "Link", found: "Checked") -> None:
    """What is wrong, and what to do about it."""
    output = settings.output
    ways = [f"{found.outcomes[way]} {told}" for way, told in BAD_WAYS if found.outcomes.get(way)]
    if ways and not found.healthy:  # else it is only hosts that others have replaced
        output.note(f"Not good: {', '.join(ways)}.")
    if found.verified:
        output.note(f"Read every block: {format_size(found.read_bytes)} in {found.seconds:.1f} s.")
    if found.hosts < found.outcomes.get("ok", 0) and not found.healthy:
        output.note("Some hosts hold several shares; each host counts once.")
    if found.deleted:
        output.note("The owner has deleted this file. Hosts drop it when they learn of that.")
        return
    if has_ended(found):
        output.note(
            "Hosts drop a file two weeks after the end of its lease. Keep it with: "
            f"{settings.command('renew', link.hash)}"
        )
    if found.width is not None and found.width.can_grow:
        output.note(f"{wider_words(found.width)} {settings.command('republish', 'LINK')}")
    if found.readable and not found.healthy:
        output.note(
            f"Its hosts rebuild lost shares by themselves. To do it now: {settings.command('repair', link.hash)}"
        )
    elif not found.readable:
        output.note("Hosts that are away may come back with their shares. Check again later.")


def wider_words(width: "Width") -> str:
    """What a republish would gain; the command follows."""
    return (
        f"With all its shares it survives {plural(width.survives, 'loss', 'losses')}. "
        f"On this network of {plural(width.hosts, 'host')} it could survive {width.could_survive}:"
    )


def width_fields(width: "Width | None") -> dict[str, object]:
    """In the JSON summary, how wide the file could be; null where nobody has looked."""
    return {
        "possible_n": None if width is None else width.possible_n,
        "could_survive": None if width is None else width.could_survive,
        "network_hosts": None if width is None else width.hosts,
    }


def summary_fields(link: "Link", found: "Checked") -> dict[str, object]:
    """The JSON summary."""
    return {
        "id": link.hash,
        "k": found.k,
        "n": found.n,
        "good_shares": found.good_shares,
        "hosts": found.hosts,
        "networks": found.networks,
        "readable": found.readable,
        "survives": found.survives,
        "lease_until": None if found.lease_until is None else round(found.lease_until),
        "outcomes": dict(found.outcomes),
        "verified": found.verified,
        "deleted": found.deleted,
        "read_bytes": found.read_bytes,
        "seconds": round(found.seconds, 3),
        **width_fields(found.width),
    }
