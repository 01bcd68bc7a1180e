"""`shoal node leave`: hand over what this machine keeps, before it goes for good."""

from typing import TYPE_CHECKING

import typer

from shoal.cli.context import Globals, Job, globals_of
from shoal.cli.exits import Code
from shoal.cli.output import visible
from shoal.cli.units import format_size, plural

if TYPE_CHECKING:
    from shoal.node import Left


def leave(context: typer.Context) -> Job:
    """Hand this machine's shares over to other hosts, before it goes for good.

    Stop the running node first; this command serves others in its place until it is through.
    """
    settings = globals_of(context)
    return settings.job(lambda: _leave(settings))


async def _leave(settings: Globals) -> int:
    from shoal.cli.progress import open_progress
    from shoal.node import load_settings, open_node

    output = settings.output
    home = settings.locate_home()
    chosen = load_settings(home)
    output.interrupt_hint = "What was handed over is safe; the same command goes on with the rest."
    async with (
        open_node(home, network=settings.network, bootstrap=settings.bootstrap, serve=True, settings=chosen) as node,
        open_progress(output) as progress,
    ):
        left = await node.leave(on_progress=progress)
    output.result(words(left, visible(str(home.data))))
    output.summary(handed_over=left.handed_over, remaining=left.remaining, sent_bytes=left.sent_bytes)
    return Code.PARTIAL if left.remaining else Code.OK


def words(left: "Left", home: str) -> str:
    """What was reached, and what is left to do."""
    done = f"Handed over {plural(left.handed_over, 'share')} ({format_size(left.sent_bytes)})."
    if not left.remaining:
        return f"{done} This node may go: nothing is lost with it. Remove {home} to free the disk."
    return (
        f"{done} {plural(left.remaining, 'share')} found no other host, or the lease is about to end: run the command "
        "again later, or leave all the same, and the other holders make them again in time."
    )
