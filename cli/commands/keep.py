"""`shoal keep`: have this home's node renew a file for as long as the node runs."""

from typing import TYPE_CHECKING

import typer

from shoal.cli.arguments import HashArgument, LinkFileOption
from shoal.cli.commands.check import wider_words, width_fields
from shoal.cli.commands.renew import summary_fields, words
from shoal.cli.context import Globals, Job, globals_of
from shoal.cli.exits import Code

if TYPE_CHECKING:
    from shoal.erasure import Link


def keep(context: typer.Context, link: HashArgument = None, link_file: LinkFileOption = None) -> Job:
    """Keep a file alive: your node renews it regularly.

    The file is renewed now. The node then renews it every 15 days to 90 days, even if the clock of this machine is
    wrong. The hash is enough, and only the hash is stored: you can keep a file that you cannot read.

    See what is kept with: shoal ls
    """
    from shoal.cli.links import take_link

    settings = globals_of(context)
    wanted = take_link(link, link_file, needs_key=False, settings=settings)
    return settings.job(lambda: _keep(settings, wanted))


async def _keep(settings: Globals, link: "Link") -> int:
    async with settings.open_client() as node:
        done = await node.keep(link)
    settings.output.result(words(done))
    if not await _runs_node(settings):
        settings.output.warn(nobody_words(settings))
    if done.width is not None and done.width.can_grow:
        settings.output.note(f"{wider_words(done.width)} {settings.command('republish', 'LINK')}")
    settings.output.summary(**summary_fields(link, done), **width_fields(done.width))
    return Code.OK


async def _runs_node(settings: Globals) -> bool:
    """Whether this home's node answers: its note alone may be of one that was killed."""
    from shoal.node import LocalError, UsageError, daemon_status

    try:
        await daemon_status(settings.locate_home(), network=settings.load_network())
    except (LocalError, UsageError):
        return False
    return True


def nobody_words(settings: Globals) -> str:
    """What to do where no node runs that would renew the file."""
    start = settings.command("node", "run")
    if not settings.locate_home().key_file.exists():
        start = f"{settings.command('node', 'init', '--capacity', '50GB')}, then: {start}"
    return f"No node runs on this home, so the file will not be renewed again. Start one with: {start}"
