"""`shoal renew`: have a file kept for longer."""

from typing import TYPE_CHECKING, Annotated

import typer

from shoal.cli.arguments import HashArgument, LinkFileOption
from shoal.cli.context import Globals, Job, globals_of
from shoal.cli.exits import BadUsageError, Code
from shoal.cli.tables import date
from shoal.cli.units import UnitError, parse_duration, plural

if TYPE_CHECKING:
    from shoal.erasure import Link
    from shoal.node import Renewed


def renew(
    context: typer.Context,
    link: HashArgument = None,
    ttl: Annotated[
        str, typer.Option("--ttl", metavar="TIME", help="How long to keep it from now on, from 1h to 90d.")
    ] = "90d",
    link_file: LinkFileOption = None,
) -> Job:
    """Ask all holders to keep a file for longer. Anyone may, and nobody can shorten a lease.

    The hash is enough. A fetch does the same, for 90 days, unless the holders it read from all promise at least 60 days
    more.
    """
    from shoal.cli.links import take_link

    settings = globals_of(context)
    try:
        ttl_s = parse_duration(ttl)
    except UnitError as error:
        raise BadUsageError(f"--ttl: {error}.") from error
    wanted = take_link(link, link_file, needs_key=False)
    return settings.job(lambda: _renew(settings, wanted, ttl_s))


async def _renew(settings: Globals, link: "Link", ttl_s: int) -> int:
    async with settings.open_client() as node:
        done = await node.renew(link, ttl_s)
    settings.output.result(words(done))
    settings.output.summary(**summary_fields(link, done))
    return Code.OK


def words(done: "Renewed") -> str:
    """What a finished renewal tells people."""
    silent = f"; {plural(done.silent, 'host')} did not answer" if done.silent else ""
    return (
        f"Kept until {date(done.lease_until)}: {done.shares} of {done.n} shares on {plural(done.hosts, 'host')} "
        f"({done.k} needed){silent}"
    )


def summary_fields(link: "Link", done: "Renewed") -> dict[str, object]:
    """The JSON summary."""
    return {
        "id": link.hash,
        "k": done.k,
        "n": done.n,
        "shares": done.shares,
        "hosts": done.hosts,
        "silent": done.silent,
        "lease_until": round(done.lease_until),
    }
