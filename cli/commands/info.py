"""`shoal info`: what the network and a link tell of a file or a folder, without fetching it."""

from typing import TYPE_CHECKING

import typer

from shoal.cli.arguments import HashArgument, LinkFileOption
from shoal.cli.context import Globals, Job, globals_of
from shoal.cli.exits import Code
from shoal.cli.tables import columns, day, fields
from shoal.cli.units import format_size, plural

if TYPE_CHECKING:
    from shoal.erasure import Link
    from shoal.node import FileInfo


def info(
    context: typer.Context,
    link: HashArgument = None,
    link_file: LinkFileOption = None,
) -> Job:
    """Show what is known of a file or a folder: size, shares, and the hosts that claim them.

    The hash is enough. The name and the exact size of a private file need the whole link.
    """
    from shoal.cli.links import take_link

    settings = globals_of(context)
    wanted = take_link(link, link_file, needs_key=False, settings=settings)
    return settings.job(lambda: _info(settings, wanted))


async def _info(settings: Globals, link: "Link") -> int:
    async with settings.open_client() as node:
        found = await node.info(link)
    settings.output.result(table(link, found))
    settings.output.summary(**summary_fields(link, found))
    return Code.OK


def summary_fields(link: "Link", found: "FileInfo") -> dict[str, object]:
    """The JSON summary."""
    return {
        "id": link.hash,
        "public": found.public,
        "kind": kind_word(found),
        "name": found.name,
        "size": found.size,
        "entries": found.entries,
        "media_type": found.media_type,
        "k": found.k,
        "n": found.n,
        "ciphertext_bytes": found.ciphertext_bytes,
        "shares": len({holder.share for holder in found.holders}),
        "holders": [
            {
                "share": holder.share,
                "node_id": holder.node_id.hex(),
                "address": str(holder.address),
                "lease_end": round(holder.lease_end),
            }
            for holder in sorted(found.holders, key=lambda holder: holder.share)
        ],
    }


def kind_word(found: "FileInfo") -> str | None:
    """What it is, as JSON has it; None where the key would be needed to know."""
    return None if found.is_folder is None else "directory" if found.is_folder else "file"


def table(link: "Link", found: "FileInfo") -> str:
    """The same for people."""
    shares = len({holder.share for holder in found.holders})
    lines = fields(
        [
            ("hash", link.hash),
            ("kind", ("public" if found.public else "private") + (" folder" if found.is_folder else "")),
            (
                "name",
                found.name if found.name is not None else "(needs the key)" if link.key is None else "(none)",
            ),
            (
                "size",
                format_size(found.size)
                if found.size is not None
                else f"at most {format_size(found.ciphertext_bytes)} (the exact size needs the key)",
            ),
            ("entries", "" if found.entries is None else plural(found.entries, "entry", "entries")),
            ("type", found.media_type or ""),
            ("code", f"any {found.k} of {found.n} shares are enough"),
            ("shares", f"{shares} of {found.n} shares claimed by a host"),
        ]
    )
    rows = [
        (str(holder.share), str(holder.address), day(holder.lease_end), holder.node_id.hex()[:16])
        for holder in sorted(found.holders, key=lambda holder: holder.share)
    ]
    return f"{lines}\n\n{columns(('share', 'host', 'kept until', 'node'), rows)}" if rows else lines
