"""`shoal node leave`: hand over what this machine keeps, before it goes for good."""

from typing import TYPE_CHECKING

import typer

from shoal.cli.context import Globals, Job, globals_of
from shoal.cli.exits import Code, CommandError
from shoal.cli.output import visible
from shoal.cli.units import format_size, plural

if TYPE_CHECKING:
    from shoal.node import Home, Left


def leave(context: typer.Context) -> Job:
    """Hand this machine's shares over to other hosts, before it goes for good.

    Stop the running node first; this command serves others in its place until it is through.
    """
    settings = globals_of(context)
    return settings.job(lambda: _leave(settings))


async def _leave(settings: Globals) -> int:
    from shoal.cli.progress import open_progress
    from shoal.node import AlreadyRunning, load_settings, open_node

    output = settings.output
    home = settings.locate_home()
    chosen = load_settings(home)
    output.interrupt_hint = "What was handed over is safe; the same command goes on with the rest."
    try:
        async with (
            open_node(
                home, network=settings.network, bootstrap=settings.bootstrap, serve=True, settings=chosen
            ) as node,
            open_progress(output) as progress,
        ):
            left = await node.leave(on_progress=progress)
    except AlreadyRunning as error:
        raise CommandError(running_words(home), Code.DAEMON_RUNS) from error
    output.result(words(left, visible(str(home.store_folder))))
    output.summary(
        handed_over=left.handed_over,
        elsewhere=left.elsewhere,
        ending=left.ending,
        remaining=left.remaining,
        sent_bytes=left.sent_bytes,
    )
    return Code.PARTIAL if left.remaining else Code.OK


def running_words(home: "Home") -> str:
    """What to do about the node that runs."""
    return (
        f"A node runs on {visible(str(home.data))}. Stop it first (Ctrl-C where it was started, or: systemctl stop), "
        "then run this command again: it serves others in the node's place until all shares are handed over."
    )


def words(left: "Left", store: str) -> str:
    """What was reached, and what is left to do. `store`: the folder of the shares."""
    parts = ["No share was left to hand over."]
    if left.handed_over or left.remaining:
        parts = [f"Handed over {plural(left.handed_over, 'share')} ({format_size(left.sent_bytes)})."]
    if left.elsewhere:
        parts.append(f"{plural(left.elsewhere, 'share')} had another host already.")
    if left.ending:
        parts.append(f"{plural(left.ending, 'share')} had a lease about to end.")
    if left.remaining:
        parts.append(
            f"{plural(left.remaining, 'share')} found no other host: run the command again later, or leave all the "
            "same: the other holders make up for it in time."
        )
    else:
        parts.append(f"This node may go: nothing is lost with it. To free the disk, remove {store}")
    return " ".join(parts)
