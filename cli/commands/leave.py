"""`shoal node leave`: hand over what this machine keeps, before it goes for good."""

from dataclasses import replace
from typing import TYPE_CHECKING

import typer

from shoal.cli.commands.publish import refusal_sentences
from shoal.cli.context import Globals, Job, globals_of
from shoal.cli.exits import Code, CommandError, explain
from shoal.cli.output import visible
from shoal.cli.units import format_size, plural

if TYPE_CHECKING:
    from shoal.node import Home, Left, NodeSettings

GOES_ON = "What was handed over is safe. Run the same command again to go on with the rest."
RESTARTED = "The node that ran here ended on request, but something started it again."


def leave(context: typer.Context) -> Job:
    """Hand over all shares to other hosts, before this machine leaves for good.

    A running node is stopped first. This command takes over until the hand-over is done.
    """
    settings = globals_of(context)
    return settings.job(lambda: _leave(settings))


async def _leave(settings: Globals) -> int:
    from shoal.node import AlreadyRunning, load_settings

    output = settings.output
    home = settings.locate_home()
    chosen = settings.with_lan(load_settings(home))
    output.interrupt_hint = GOES_ON
    restart = ""
    try:
        left = await _hand_over(settings, home, chosen)
    except AlreadyRunning:
        restart = settings.command("node", "run")
        left = await _take_over(settings, home, chosen, restart)
    output.result(words(left, visible(str(home.store_folder)), restart))
    output.summary(
        handed_over=left.handed_over,
        elsewhere=left.elsewhere,
        ending=left.ending,
        remaining=left.remaining,
        sent_bytes=left.sent_bytes,
        refusals=dict(left.refusals),
    )
    return Code.PARTIAL if left.remaining else Code.OK


async def _hand_over(settings: Globals, home: "Home", chosen: "NodeSettings") -> "Left":
    from shoal.cli.progress import open_progress
    from shoal.node import open_node

    async with (
        open_node(home, network=settings.network, bootstrap=settings.bootstrap, serve=True, settings=chosen) as node,
        open_progress(settings.output) as progress,
    ):
        return await node.leave(on_progress=progress)


async def _take_over(settings: Globals, home: "Home", chosen: "NodeSettings", restart: str) -> "Left":
    """End the node that runs, and hand over in its place. `restart`: the command that starts it again."""
    from shoal.node import AlreadyRunning, ShoalError, stop_daemon

    output = settings.output
    output.note("Stopping the running node; this command takes over until hand-over is done.")
    output.interrupt_hint = f"The node was asked to stop. {GOES_ON} Or start the node again: {restart}"
    try:
        addresses = await stop_daemon(home, network=settings.load_network())
    except AlreadyRunning as error:
        raise CommandError(running_words(error), Code.DAEMON_RUNS) from error
    stopped = f"The node that ran here has stopped. {GOES_ON} Or start the node again: {restart}"
    output.interrupt_hint = stopped
    # Where it was started with other addresses than the home's, the others know it by those.
    chosen = replace(chosen, listen=addresses or chosen.listen)
    try:
        return await _hand_over(settings, home, chosen)
    except AlreadyRunning as error:
        raise CommandError(running_words(RESTARTED), Code.DAEMON_RUNS) from error
    except ShoalError as error:
        raise CommandError(f"{error} {stopped}", explain(error).code) from error


def running_words(reason: object) -> str:
    """What to do about the node that runs on. `reason`: why it could not be ended, a sentence."""
    return (
        f"{visible(str(reason))} Stop it first (Ctrl-C where it was started, or: systemctl stop). Then run this "
        "command again: it takes the place of the node until all shares are handed over."
    )


def words(left: "Left", store: str, restart: str = "") -> str:
    """What was reached, and what is left to do. `store`: the folder of the shares; `restart`: the command that starts
    the node again, where it ran before."""
    parts = ["No shares were left to hand over."]
    if left.handed_over or left.remaining:
        parts = [f"Handed over {plural(left.handed_over, 'share')} ({format_size(left.sent_bytes)})."]
    if left.elsewhere:
        parts.append(f"{plural(left.elsewhere, 'share')} had another host already.")
    if left.ending:
        parts.append(f"{plural(left.ending, 'share')} had a lease about to end.")
    if left.remaining:
        parts.append(
            " ".join(
                (
                    f"{plural(left.remaining, 'share')} found no other host.",
                    *refusal_sentences(left.refusals),
                    "Run the command again later, or leave anyway: the other hosts of the file rebuild what is lost.",
                )
            )
        )
        if restart:
            parts.append(f"The node that ran here has stopped. To run it until then: {restart}")
    else:
        parts.append(f"This node can leave: nothing is lost with it. To free the disk, remove {store}")
    return " ".join(parts)
