"""`shoal ls`: what this home has published, and what it keeps alive; or what is in a folder."""

import os
import time
from collections.abc import AsyncGenerator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from shoal.cli.arguments import LinkFileOption, PathLinkArgument
from shoal.cli.commands.check import width_fields
from shoal.cli.context import Globals, Job, globals_of
from shoal.cli.exits import BadUsageError, Code
from shoal.cli.stdout import write_stdout
from shoal.cli.tables import columns, day, shortened
from shoal.cli.units import format_size, plural

if TYPE_CHECKING:
    from shoal.erasure import Link
    from shoal.node import Entry, KeptFile, Node, PublishedFile

MOST_NOTES = 5
ENTRIES_AT_ONCE = 500  # of a folder, written together
NAME_COLUMNS = 40  # one very long name must not push the links of all files out of sight


def ls(
    context: typer.Context,
    link: PathLinkArgument = None,
    long: Annotated[bool, typer.Option("--long", "-l", help="With kind, size and time of each entry.")] = False,
    recursive: Annotated[bool, typer.Option("--recursive", "-R", help="With all that is deeper.")] = False,
    link_file: LinkFileOption = None,
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
    """List what is in a folder; without a link, what this home has published and keeps.

    The entries of a folder come from the network, and nothing else of the folder is fetched. The list of this home is
    on this machine, with all links in it. `info` and `check` ask the network about these.
    """
    from shoal.cli.links import take_link

    settings = globals_of(context)
    if link is not None or link_file is not None:
        if receipt is not None:
            raise BadUsageError("Give a link or --receipt, not both.")
        folder = take_link(link, link_file, needs_key=True, takes_path=True, settings=settings)
        return settings.job(lambda: _ls_folder(settings, folder, long, recursive))
    if long or recursive:
        raise BadUsageError("--long and --recursive are for the entries of a folder. Give its link.")
    if receipt is None:
        return settings.job(lambda: _ls(settings))
    wanted = take_link(receipt, None, needs_key=False, settings=settings)
    return settings.job(lambda: _receipt(settings, wanted))


async def _ls_folder(settings: Globals, link: "Link", long: bool, recursive: bool) -> int:
    """Entries are written as they come, at the pace of the reader."""
    from contextlib import aclosing

    from shoal.cli.listing import json_lines, lines

    output = settings.output
    count = size = 0
    async with settings.open_client() as node, aclosing(_batches(node, link, recursive)) as batches:
        async for batch in batches:
            count += len(batch)
            size += sum(entry.size for entry in batch)
            text = json_lines(batch) if output.json else lines(batch, long=long)
            await write_stdout(text.encode("utf-8", "surrogateescape"))
    output.summary(entries=count, size=size)
    return Code.OK


async def _batches(node: "Node", link: "Link", recursive: bool) -> AsyncGenerator[list["Entry"], None]:
    """What is at a link, some hundred entries at a time: what is in a folder, or the one file."""
    from contextlib import aclosing
    from dataclasses import replace

    from shoal.cli.listing import UNTOLD_NS
    from shoal.node import Entry, EntryKind, NotFound, RemoteFolder

    async with node.open_remote(replace(link, path=b"")) as remote:
        if not isinstance(remote, RemoteFolder):
            if link.path:
                raise NotFound("This is a file and not a folder: there are no paths in it.")
            yield [Entry(os.fsencode(remote.name or ""), EntryKind.FILE, remote.size, mtime_ns=UNTOLD_NS)]
            return
        entry = await remote.find(link.path) if link.path else None
        if entry is not None and entry.kind is not EntryKind.DIRECTORY:
            yield [replace(entry, path=entry.name)]
            return
        folder = await remote.folder(link.path) if link.path else remote
        if recursive:
            async with aclosing(folder.batches()) as pages:
                async for page in pages:
                    yield page
            return
        batch: list[Entry] = []
        async with aclosing(folder.children()) as children:
            async for child in children:
                batch.append(child)
                if len(batch) >= ENTRIES_AT_ONCE:
                    yield batch
                    batch = []
        yield batch


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
