"""`shoal unkeep`: stop renewing a file."""

from typing import TYPE_CHECKING

import typer

from shoal.cli.arguments import HashArgument, LinkFileOption
from shoal.cli.context import Globals, Job, globals_of
from shoal.cli.exits import Code, CommandError

if TYPE_CHECKING:
    from shoal.erasure import Link


def unkeep(context: typer.Context, link: HashArgument = None, link_file: LinkFileOption = None) -> Job:
    """Stop keeping a file alive: your node no longer renews it. It stays until its current lease ends."""
    from shoal.cli.links import take_link

    settings = globals_of(context)
    wanted = take_link(link, link_file, needs_key=False, settings=settings)
    return settings.job(lambda: _unkeep(settings, wanted))


async def _unkeep(settings: Globals, link: "Link") -> int:
    async with settings.open_client() as node:
        was_kept = node.unkeep(link)
    if not was_kept:
        raise CommandError("This home does not keep that file. See what it keeps with: shoal ls")
    settings.output.note("No longer renewed; it stays until its current lease ends.")
    settings.output.summary(id=link.hash)
    return Code.OK
