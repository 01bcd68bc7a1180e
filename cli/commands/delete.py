"""`shoal delete`: end a file that this home published."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shoal.cli.arguments import LinkFileOption
from shoal.cli.context import Globals, Job, globals_of
from shoal.cli.exits import BadUsageError, Code, CommandError
from shoal.cli.output import visible
from shoal.cli.tables import day
from shoal.cli.units import format_size, plural

if TYPE_CHECKING:
    from shoal.erasure import Link
    from shoal.node import Deleted, PublishedFile, Receipt

MAX_RECEIPT_CHARS = 4096


def delete(
    context: typer.Context,
    link: Annotated[
        str | None,
        typer.Argument(
            metavar="LINK|NAME",
            help="The link, the hash, or the name that shoal ls shows; - reads a link from standard input.",
            show_default=False,
        ),
    ] = None,
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
    is_given = link is not None or link_file is not None
    name = link if link is not None and link_file is None and is_name(link) else None
    wanted = None
    if name is None and (is_given or receipt is None):
        wanted = take_link(link, link_file, needs_key=False)
    path = None if receipt is None else Path(receipt)
    right = None if path is None else _read_receipt(path)
    return settings.job(lambda: _delete(settings, wanted, name, right))


async def _delete(settings: Globals, link: "Link | None", name: str | None, receipt: "Receipt | None") -> int:
    output = settings.output
    async with settings.open_client() as node:
        if name is not None:
            link = named(node.published(), name)
        done = await node.delete(link, receipt=receipt)
    output.result(words(done))
    if not done.complete:
        output.note(
            "A host that did not confirm keeps its share until it learns of the deletion, or until the lease ends. "
            "You can run the same command again."
        )
    output.summary(**summary_fields(link.hash if link is not None else receipt.hash if receipt else "", done))
    return Code.OK if done.complete else Code.PARTIAL


def is_name(text: str) -> bool:
    """Whether `text` can only be the name of a file: it is no link and does not look like one."""
    from shoal.erasure.errors import MalformedLink
    from shoal.erasure.link import SCHEME, parse_link, unwrapped

    if text == "-" or unwrapped(text).lower().startswith(SCHEME):
        return False
    try:
        parse_link(text)
    except MalformedLink:
        return bool(text.strip())
    return False


def named(files: "Sequence[PublishedFile]", name: str) -> "Link":
    """The link of the one published file of that name. A deleted one is meant only where no other has the name.

    Raises BadUsageError, with the candidates, where the name is not known or not clear.
    """
    found = [file for file in files if file.name == name]
    found = [file for file in found if file.deleted_at is None] or found
    if not found:
        raise BadUsageError(f"This home has published no file named {name!r}. See its files with: shoal ls")
    if len(found) > 1:
        lines = [f"  {file.link.hash}  {day(file.published_at)}  {format_size(file.size)}" for file in found]
        raise BadUsageError("\n".join((f"{len(found)} files are named {name!r}. Delete one by its hash:", *lines)))
    return found[0].link


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
