"""`shoal renew`: ask the hosts of a file to keep it for longer."""

from typing import TYPE_CHECKING, Annotated

import typer

from shoal.cli.arguments import HashArgument, LinkFileOption
from shoal.cli.context import Globals, Job, globals_of
from shoal.cli.exits import BadUsageError, Code
from shoal.cli.tables import day
from shoal.cli.units import UnitError, parse_duration, plural

if TYPE_CHECKING:
    from shoal.erasure import Link
    from shoal.node import Renewed


def renew(
    context: typer.Context,
    link: HashArgument = None,
    ttl: Annotated[
        str, typer.Option("--ttl", metavar="TIME", help="How long to keep the file from now on: 1h to 90d.")
    ] = "90d",
    link_file: LinkFileOption = None,
) -> Job:
    """Extend the lease of a file. Anyone can, and nobody can shorten it.

    The hash is enough. A fetch also renews the file to 90 days, if less than 60 days of its lease are left and it was
    published without a shorter --ttl.
    """
    from shoal.cli.links import take_link

    settings = globals_of(context)
    try:
        ttl_s = parse_duration(ttl)
    except UnitError as error:
        raise BadUsageError(f"--ttl: {error}.") from error
    wanted = take_link(link, link_file, needs_key=False, settings=settings)
    return settings.job(lambda: _renew(settings, wanted, ttl_s))


async def _renew(settings: Globals, link: "Link", ttl_s: int) -> int:
    async with settings.open_client() as node:
        done = await node.renew(link, ttl_s)
    settings.output.result(words(done))
    settings.output.summary(**summary_fields(link, done))
    return Code.OK


def words(done: "Renewed") -> str:
    """What a finished renewal tells people."""
    from shoal.node import causes_in_words

    told = causes_in_words(done.causes)
    return (
        f"Kept until {day(done.lease_until)}: {done.shares} of {done.n} shares on {plural(done.hosts, 'host')} "
        f"({done.k} needed){f'. Of the other hosts, {told}' if told else ''}"
    )


def summary_fields(link: "Link", done: "Renewed") -> dict[str, object]:
    """The JSON summary."""
    return {
        "id": link.hash,
        "k": done.k,
        "n": done.n,
        "shares": done.shares,
        "hosts": done.hosts,
        "silent": done.causes.get("silent", 0),
        "causes": dict(done.causes),
        "lease_until": round(done.lease_until),
    }
