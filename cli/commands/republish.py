"""`shoal republish`: publish a file again, under the widest code that the network allows now."""

from typing import TYPE_CHECKING, Annotated

import typer

from shoal.cli.arguments import LinkArgument, LinkFileOption
from shoal.cli.commands import publish
from shoal.cli.context import Globals, Job, globals_of
from shoal.cli.exits import Code
from shoal.cli.units import plural

if TYPE_CHECKING:
    from shoal.erasure import Link
    from shoal.node import Invitation, Republished


def republish(
    context: typer.Context,
    link: LinkArgument = None,
    ttl: Annotated[
        str | None,
        typer.Option(
            "--ttl",
            metavar="TIME",
            help="How long to keep the new file: 1h to 90d.",
            show_default="as the old one was to be kept",
        ),
    ] = None,
    link_file: LinkFileOption = None,
) -> Job:
    """Publish a file again on more hosts, when the network has grown. It gets a new link.

    The file streams from its hosts to the new ones and is never written to this machine's disk. The old link goes on
    working until its lease ends.

    Exit code: 0 when the new file is complete, 3 when it is not, 15 when the network allows no wider file.
    """
    from shoal.cli.links import take_link

    settings = globals_of(context)
    ttl_s = None if ttl is None else publish.lease("--ttl", ttl)
    wanted = take_link(link, link_file, needs_key=True, settings=settings)
    return settings.job(lambda: _republish(settings, wanted, ttl_s))


async def _republish(settings: Globals, link: "Link", ttl_s: int | None) -> int:
    from shoal.cli.progress import open_progress

    output = settings.output
    output.interrupt_hint = "Nothing is lost: the old link works. Run the same command again from the start."
    async with settings.open_client() as node, open_progress(output) as progress:
        done = await node.republish(link, ttl_s=ttl_s, on_progress=progress)
        is_ours = any(file.link.id == link.id for file in node.published())
        invite = await publish.invite_to_it(node)
    if done.published.complete:
        output.note(publish.success_words(done.published))
    else:
        output.complain(settings.in_full(publish.partial_words(done.published, resumable=False)))
    output.note(gain_words(done))
    publish.deliver(output, str(done.published.link))
    output.note(old_words(settings, done, is_ours=is_ours))
    output.summary(**summary_fields(done, invite))
    return Code.OK if done.published.complete else Code.PARTIAL


def gain_words(done: "Republished") -> str:
    """What is better now."""
    losses = plural(done.before.survives, "loss", "losses")
    kept = " This home keeps both alive." if done.is_kept else ""
    return f"Before, it had {plural(done.before.n, 'share')} and survived {losses}.{kept}"


def old_words(settings: Globals, done: "Republished", *, is_ours: bool) -> str:
    """What becomes of the old file."""
    text = "The old link works until its lease ends. Give the new one to those who have it."
    if not is_ours or not done.published.complete:
        return text
    return f"{text} Delete the old file with: {settings.command('delete', done.old.hash)}"


def summary_fields(done: "Republished", invite: "Invitation | None" = None) -> dict[str, object]:
    """The JSON summary."""
    return publish.summary_fields(done.published, invite=invite) | {
        "survives": done.published.survives,
        "old_id": done.old.hash,
        "old_k": done.before.k,
        "old_n": done.before.n,
        "old_survives": done.before.survives,
        "kept": done.is_kept,
    }
