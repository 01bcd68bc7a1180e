"""What a link is of: name and size, what is in a folder, a QR code; and links that people paste."""

import os
import re
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import segno

from shoal.doors.web.errors import HttpError
from shoal.doors.web.fields import Fields
from shoal.doors.web.media import DOWNLOAD, media_type
from shoal.doors.web.readers import Readers
from shoal.node import Entry, EntryKind, Link, LinkKind, Node, NotFound, RemoteFolder, UsageError, parse_link
from shoal.node.fetching.folder import inner_path

MAX_LISTED = 5_000  # entries in one answer
DEFAULT_LISTED = 1_000
QR_BORDER = 4  # modules of white around, as the standard asks
_WITHIN = re.compile(r"shoal:[a-z2-7]{64}(?:(?:#|%23)[a-z2-7]{64}(?:/\S*)?)?(?![a-z0-9#%])")
_KINDS = {EntryKind.FILE: "file", EntryKind.DIRECTORY: "folder", EntryKind.SYMLINK: "link"}


def read_link(fields: Fields) -> Link:
    """The link of a request, which has to have its key.

    :raises ShoalError: it is none.
    """
    link = parse_link(fields.text("link"))
    if link.kind is LinkKind.PRIVATE and link.key is None:
        raise HttpError(
            400,
            "This is only the hash of a private file. Its link has a part behind # too.",
            "Copy the whole link.",
        )
    return link


def pasted(text: str) -> dict[str, Any]:
    """The link in what somebody pasted, be it with the words around it.

    :raises ShoalError: there is none.
    """
    try:
        link = parse_link(text)
    except UsageError:
        within = _WITHIN.search(text)
        if within is None:
            raise
        link = parse_link(within[0])
    return {
        "link": str(link),
        "hash": link.hash,
        "public": link.kind is LinkKind.PUBLIC,
        "has_key": link.kind is LinkKind.PUBLIC or link.key is not None,
        "path": os.fsdecode(link.path) or None,
    }


async def info(node: Node, readers: Readers, link: Link) -> dict[str, Any]:
    """Name and size of what is at a link. The errors are those of `Node.open_remote`."""
    found = await node.info(replace(link, path=b""))
    fields: dict[str, Any] = {
        "hash": link.hash,
        "name": found.name,
        "size": found.size,
        "kind": "folder" if found.is_folder else "file",
        "media_type": DOWNLOAD if found.is_folder else media_type(found.name),
        "entries": found.entries,
        "k": found.k,
        "n": found.n,
        "hosts": len({str(holder.address) for holder in found.holders}),
    }
    if not link.path:
        return fields
    async with readers.opened(link) as remote:
        if not isinstance(remote, RemoteFolder):
            raise NotFound("This is a file and not a folder: there are no paths in it.")
        entry = await remote.find(link.path)
    name = os.fsdecode(entry.name)
    is_file = entry.kind is EntryKind.FILE
    return {
        **fields,
        "name": name,
        "size": entry.size if is_file else None,
        "kind": _KINDS[entry.kind],
        "media_type": media_type(name) if is_file else DOWNLOAD,
        "entries": None,
    }


async def entries(readers: Readers, link: Link, path: str | None, after: str | None, limit: int) -> dict[str, Any]:
    """What is directly in a folder, in order, from behind `after` on. The errors are those of `Node.open_remote`."""
    inner = b"/".join(part for part in (link.path, inner_path(path) if path else b"") if part)
    start = None if after is None else os.fsencode(after)
    found: list[dict[str, Any]] = []
    async with readers.opened(link) as remote:
        if not isinstance(remote, RemoteFolder):
            raise NotFound("This is a file and not a folder: there is nothing in it.")
        async with aclosing(remote.children(inner)) as children:
            async for child in children:
                if start is not None and child.name <= start:
                    continue
                if len(found) == limit:
                    return {"entries": found, "more": True}
                found.append(_entry(child))
    return {"entries": found, "more": False}


def _entry(entry: Entry) -> dict[str, Any]:
    name = os.fsdecode(entry.name)
    is_file = entry.kind is EntryKind.FILE
    return {
        "name": name,
        "kind": _KINDS[entry.kind],
        "size": entry.size if is_file else None,
        "modified_ms": entry.mtime_ns // 1_000_000,
        "media_type": media_type(name) if is_file else DOWNLOAD,
    }


def qr(link: Link) -> dict[str, Any]:
    """A QR code of a link: one path of an SVG, on a square of so many modules, with its white border.

    :raises UsageError: no code has room for it.
    """
    try:
        code = segno.make(str(link), micro=False, error="m")
    except segno.DataOverflowError:
        raise UsageError("This link is too long for a QR code: its path has too many characters.") from None
    rows = [list(row) for row in code.matrix_iter(border=QR_BORDER)]
    path = []
    for y, row in enumerate(rows):
        x = 0
        while x < len(row):
            start = x
            while x < len(row) and row[x]:
                x += 1
            if x > start:
                path.append(f"M{start} {y}h{x - start}v1h-{x - start}z")
            x += 1
    return {"svg": "".join(path), "size": len(rows)}
