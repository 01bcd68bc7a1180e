"""`shoal ls`: what this home has published."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from shoal.cli.context import Globals, Job, globals_of
from shoal.cli.exits import Code
from shoal.cli.tables import columns, day
from shoal.cli.units import format_size

if TYPE_CHECKING:
    from shoal.node import PublishedFile


def ls(context: typer.Context) -> Job:
    """List what this home has published, with the links. It asks nobody; `info` asks the network."""
    settings = globals_of(context)
    return settings.job(lambda: _ls(settings))


async def _ls(settings: Globals) -> int:
    async with settings.open_client() as node:
        files = node.published()
    if files:
        settings.output.result(table(files))
    else:
        settings.output.note("Nothing has been published from this home yet.")
    settings.output.summary(files=[file_fields(file) for file in files])
    return Code.OK


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
    }


def table(files: Sequence["PublishedFile"]) -> str:
    """The same for people."""
    rows = [
        (
            day(file.published_at),
            day(file.lease_end),
            format_size(file.size),
            f"{file.shares}/{file.n}",
            file.name or "",
            str(file.link),
        )
        for file in files
    ]
    return columns(("published", "kept until", "size", "shares", "name", "link"), rows)
