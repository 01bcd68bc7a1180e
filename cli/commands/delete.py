"""`shoal delete`: end a file that this home published."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shoal.cli.arguments import HashArgument, LinkFileOption
from shoal.cli.context import Globals, Job, globals_of
from shoal.cli.exits import Code, CommandError
from shoal.cli.output import visible
from shoal.cli.units import plural

if TYPE_CHECKING:
    from shoal.erasure import Link
    from shoal.node import Deleted, Receipt

MAX_RECEIPT_CHARS = 4096


def delete(
    context: typer.Context,
    link: HashArgument = None,
    receipt: Annotated[
        str | None,
        typer.Option(
            "--receipt",
            metavar="FILE",
            help="Delete the file of this receipt. The home that published it made it with: shoal ls --receipt LINK",
            show_default=False,
        ),
    ] = None,
    link_file: LinkFileOption = None,
) -> Job:
    """Permanently delete a file from all hosts.

    Only the home that published the file can delete it, or somebody who has its receipt. A host that is away keeps its
    share until it learns of the deletion, or until the lease ends. You can run the command again.

    Exit code: 0 when every known host has confirmed, 3 when some did not.
    """
    from shoal.cli.links import take_link

    settings = globals_of(context)
    wanted = None
    if link is not None or link_file is not None or receipt is None:
        wanted = take_link(link, link_file, needs_key=False, settings=settings)
    path = None if receipt is None else Path(receipt)
    right = None if path is None else _read_receipt(path)
    return settings.job(lambda: _delete(settings, wanted, right))


async def _delete(settings: Globals, link: "Link | None", receipt: "Receipt | None") -> int:
    output = settings.output
    async with settings.open_client() as node:
        done = await node.delete(link, receipt=receipt)
    output.result(words(done))
    if not done.complete:
        output.note(
            "A host that did not confirm keeps its share until it learns of the deletion, or until the lease ends. "
            "You can run the same command again."
        )
    output.summary(**summary_fields(link.hash if link is not None else receipt.hash if receipt else "", done))
    return Code.OK if done.complete else Code.PARTIAL


def _read_receipt(path: Path) -> "Receipt":
    from shoal.node import parse_receipt

    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return parse_receipt(file.read(MAX_RECEIPT_CHARS))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a possible file name"
        raise CommandError(f"Cannot read the receipt {visible(str(path))}: {reason}.") from error


def words(done: "Deleted") -> str:
    """What a deletion tells people."""
    from shoal.node import causes_in_words

    told = causes_in_words(done.causes)
    return f"{plural(done.confirmed, 'host')} dropped the file{f', {told}' if told else ''}"


def summary_fields(file_hash: str, done: "Deleted") -> dict[str, object]:
    """The JSON summary."""
    return {
        "id": file_hash,
        "confirmed": done.confirmed,
        "silent": done.causes.get("silent", 0),
        "refused": done.causes.get("refused", 0),
        "causes": dict(done.causes),
        "complete": done.complete,
    }
