"""`shoal unkeep`: stop renewing a file."""

from typing import TYPE_CHECKING

import typer

from shoal.cli.arguments import HashArgument, LinkFileOption
from shoal.cli.context import Globals, Job, globals_of
from shoal.cli.exits import Code, CommandError

if TYPE_CHECKING:
    from shoal.erasure import Link


def unkeep(context: typer.Context, link: HashArgument = None, link_file: LinkFileOption = None) -> Job:
    """Stop keeping a file: this home's node renews it no longer. Its lease stays as it is."""
    from shoal.cli.links import take_link

    settings = globals_of(context)
    wanted = take_link(link, link_file, needs_key=False)
    return settings.job(lambda: _unkeep(settings, wanted))


async def _unkeep(settings: Globals, link: "Link") -> int:
    async with settings.open_client() as node:
        was_kept = node.unkeep(link)
    if not was_kept:
        raise CommandError("This file was not kept by this home. See what is with: shoal ls")
    settings.output.note("Kept no longer. Its lease stays as it is.")
    settings.output.summary(id=link.hash)
    return Code.OK
