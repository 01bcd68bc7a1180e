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
            help="Delete the file that this receipt is for, published elsewhere. Made with: shoal ls --receipt LINK",
            show_default=False,
        ),
    ] = None,
    link_file: LinkFileOption = None,
) -> Job:
    """Have all holders drop a file, for ever. Only the home that published it can, or who has its receipt.

    A holder that is away keeps its share until it hears of it or its lease ends; the same command may be repeated.
    Ends with 0 when every known holder has confirmed, 3 when some did not.
    """
    from shoal.cli.links import take_link

    settings = globals_of(context)
    is_named = link is not None or link_file is not None
    wanted = take_link(link, link_file, needs_key=False) if is_named or receipt is None else None
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
            "A holder that did not confirm keeps its share until it hears of the deletion or its lease ends. "
            "The same command may be repeated."
        )
    output.summary(**summary_fields(link.hash if link is not None else receipt.hash if receipt else "", done))
    return Code.OK if done.complete else Code.PARTIAL


def _read_receipt(path: Path) -> "Receipt":
    from shoal.node import parse_receipt

    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return parse_receipt(file.read(MAX_RECEIPT_CHARS))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "its name is not a valid one"
        raise CommandError(f"Cannot read the receipt {visible(str(path))}: {reason}.") from error


def words(done: "Deleted") -> str:
    """What a deletion tells people."""
    parts = [f"{plural(done.confirmed, 'host')} dropped the file"]
    if done.silent:
        parts.append(f"{done.silent} did not answer")
    if done.refused:
        parts.append(f"{done.refused} would not")
    return ", ".join(parts)


def summary_fields(file_hash: str, done: "Deleted") -> dict[str, object]:
    """The JSON summary."""
    return {
        "id": file_hash,
        "confirmed": done.confirmed,
        "silent": done.silent,
        "refused": done.refused,
        "complete": done.complete,
    }
