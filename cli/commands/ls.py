"""`shoal ls`: what this home has published, and what it keeps alive."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from shoal.cli.commands.check import width_fields
from shoal.cli.context import Globals, Job, globals_of
from shoal.cli.exits import Code
from shoal.cli.tables import columns, day, shortened
from shoal.cli.units import format_size, plural

if TYPE_CHECKING:
    from shoal.erasure import Link
    from shoal.node import KeptFile, PublishedFile

MOST_NOTES = 5
NAME_COLUMNS = 40  # one very long name must not push the links of all files out of sight


def ls(
    context: typer.Context,
    receipt: Annotated[
        str | None,
        typer.Option(
            "--receipt",
            metavar="LINK|NAME",
            help="Print the receipt of one file instead. Its owner can delete the file, but not read it.",
            show_default=False,
        ),
    ] = None,
) -> Job:
    """List the files that this home has published, with their links, and those it keeps.

    The list is on this machine. `info` and `check` ask the network.
    """
    settings = globals_of(context)
    if receipt is None:
        return settings.job(lambda: _ls(settings))
    from shoal.cli.links import take_link

    wanted = take_link(receipt, None, needs_key=False, settings=settings)
    return settings.job(lambda: _receipt(settings, wanted))


async def _receipt(settings: Globals, link: "Link") -> int:
    async with settings.open_client() as node:
        receipt = node.receipt(link)
    settings.output.result(str(receipt))
    settings.output.summary(id=receipt.hash, receipt=str(receipt))
    return Code.OK


async def _ls(settings: Globals) -> int:
    async with settings.open_client() as node:
        files, kept = node.published(), node.kept()
    if files:
        settings.output.result(table(files, links_apart=settings.output.results_on_terminal))
    else:
        settings.output.note("This home has not published anything yet.")
    if kept:
        gap = "\n" if files else ""
        settings.output.result(f"{gap}{kept_table(kept)}")
    if files or kept:
        settings.output.result(f"\n{total(files, kept)}")
    for text in wider_notes(settings, files):
        settings.output.note(text)
    settings.output.summary(files=[file_fields(file) for file in files], kept=[kept_fields(file) for file in kept])
    return Code.OK


def wider_notes(settings: Globals, files: Sequence["PublishedFile"]) -> list[str]:
    """Which files could be wider; a few of them by name, the latest first."""
    found = [(file, file.width) for file in reversed(files) if _is_narrow(file) and file.width is not None]
    notes = [
        f"{shortened(file.name or file.link.hash, NAME_COLUMNS)} survives {plural(width.survives, 'loss', 'losses')}; "
        f"on this network of {plural(width.hosts, 'host')} it could survive {width.could_survive}: "
        f"{settings.command('republish', file.name or 'LINK')}"
        for file, width in found[:MOST_NOTES]
    ]
    more = len(found) - len(notes)
    return [*notes, *([f"{plural(more, 'more file')} could be wider: see --json."] if more else [])]


def _is_narrow(file: "PublishedFile") -> bool:
    ended = file.lease_end < time.time()
    return not ended and file.replaced_by is None and file.width is not None and file.width.can_grow


def file_fields(file: "PublishedFile") -> dict[str, object]:
    """One file in the JSON summary."""
    return {
        "link": str(file.link),
        "id": file.link.hash,
        "name": file.name,
        "size": file.size,
        "k": file.k,
        "n": file.n,
        "shares": file.shares,
        "published_at": round(file.published_at),
        "lease_end": round(file.lease_end),
        "deleted_at": None if file.deleted_at is None else round(file.deleted_at),
        "survives": file.shares - file.k,
        **width_fields(file.width),
        "replaced_by": file.replaced_by,
    }


def kept_fields(file: "KeptFile") -> dict[str, object]:
    """One kept file in the JSON summary."""
    return {
        "id": file.link.hash,
        "kept_since": round(file.kept_since),
        "renewed_at": round(file.renewed_at),
        "lease_until": round(file.lease_until),
    }


def table(files: Sequence["PublishedFile"], *, links_apart: bool = False) -> str:
    """The files published, for people; with `links_apart` each link on a line of its own, as a window is too narrow."""
    rows = [
        (
            day(file.published_at),
            day(file.lease_end) if file.deleted_at is None else "deleted",
            format_size(file.size),
            f"{file.shares}/{file.n}",
            shortened(file.name or "", NAME_COLUMNS),
            *(() if links_apart else (str(file.link),)),
        )
        for file in files
    ]
    titles = ("published", "kept until", "size", "shares", "name", "link")
    if not links_apart:
        return columns(titles, rows)
    title, *lines = columns(titles[:-1], rows).split("\n")
    return "\n".join([title, *(f"{line}\n  {file.link}" for line, file in zip(lines, files, strict=True))])


def total(files: Sequence["PublishedFile"], kept: Sequence["KeptFile"]) -> str:
    """The last line: how much all of it is. What was deleted does not count."""
    there = [file for file in files if file.deleted_at is None]
    words = f"Total: {plural(len(there), 'file')} published, {format_size(sum(file.size for file in there))}"
    return f"{words}; {plural(len(kept), 'file')} kept" if kept else words


def kept_table(files: Sequence["KeptFile"]) -> str:
    """The files kept, for people."""
    rows = [(day(file.kept_since), day(file.renewed_at), day(file.lease_until), file.link.hash) for file in files]
    return columns(("kept since", "renewed", "until", "hash"), rows)
