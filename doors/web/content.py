"""The second listener: contents of files, under tickets. They never come from the origin of the page.

A ticket is an unguessable name for one file, for as long as the door is open. A player, a script or a browser that has
it can read any part of the file.
"""

import hashlib
import logging
import os
import secrets
from collections import OrderedDict
from contextlib import aclosing
from urllib.parse import quote

from shoal.doors.web.errors import HttpError, bug_response, http_error
from shoal.doors.web.guard import Guard
from shoal.doors.web.http import ENDED, ClientGoneError, Headers, HttpRequest, HttpResponse, Send
from shoal.doors.web.media import DOWNLOAD, media_type
from shoal.doors.web.ranges import Part, UnsatisfiableError, wanted_part
from shoal.doors.web.readers import Readers
from shoal.node import Link, RemoteFile, RemoteFolder, ShoalError, UsageError
from shoal.values import dataclass

log = logging.getLogger(__name__)

TICKET_BYTES = 24
MAX_TICKETS = 4_096  # the oldest go first
SEND_STALL_S = 900.0  # a film that is paused for longer: players then ask again, at the place where they are
ETAG_CHARS = 32

HEADERS: Headers = (
    ("content-security-policy", "default-src 'none'; frame-ancestors 'none'; sandbox"),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "cross-origin"),  # to Chromium each port of an IP is a site of its own
    ("cache-control", "no-store"),
)


@dataclass(frozen=True, slots=True)
class Ticket:
    """A file that may be read. `path`: where it is in the folder of the link; empty for a file."""

    link: Link
    path: bytes
    name: str
    size: int
    download: bool

    @property
    def etag(self) -> str:
        """It never changes: a link is of the same bytes for ever."""
        digest = hashlib.sha256(bytes(self.link.id) + b"/" + self.path).hexdigest()
        return f'"{digest[:ETAG_CHARS]}"'

    @property
    def headers(self) -> Headers:
        """How a browser is to take it."""
        kind = DOWNLOAD if self.download else media_type(self.name)
        disposition = "attachment" if kind == DOWNLOAD else "inline"
        shown = quote(self.name.encode("utf-8", "replace"), safe="")
        return (
            ("content-type", kind),
            ("content-disposition", f"{disposition}; filename*=UTF-8''{shown}"),
            ("accept-ranges", "bytes"),
            ("etag", self.etag),
            *HEADERS,
        )


class Tickets:
    """All tickets of this door, and the files behind them."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers
        self._tickets: OrderedDict[str, Ticket] = OrderedDict()

    async def issue(self, link: Link, path: bytes, *, download: bool) -> str:
        """A path on the content listener, of a file or of a file in a folder.

        :raises ShoalError: what `Node.open_remote` raises; UsageError for what is no file.
        """
        inner = b"/".join(part for part in (link.path, path) if part)
        async with self._readers.opened(link) as remote:
            file = await _file(remote, inner)
            name = file.name or link.hash.replace(":", "-")
            ticket = Ticket(link, inner, name, file.size, download)
        for known, other in self._tickets.items():
            if other == ticket:
                self._tickets.move_to_end(known)
                return f"/{known}/{_quoted(name)}"
        key = secrets.token_urlsafe(TICKET_BYTES)
        self._tickets[key] = ticket
        while len(self._tickets) > MAX_TICKETS:
            self._tickets.popitem(last=False)
        return f"/{key}/{_quoted(name)}"

    async def answer(self, guard: Guard, request: HttpRequest) -> HttpResponse:
        """What the content listener answers."""
        try:
            guard.check(request)
            if request.method not in ("GET", "HEAD"):
                raise HttpError(405, "Files can only be read here.", headers=(("allow", "GET, HEAD"),))
            ticket = self._tickets.get(request.path.split("/", 2)[1])
            if ticket is None:
                raise HttpError(404, "This address is no longer good.", "Get a new one from the page.")
            return await self._answer(ticket, request)
        except HttpError as error:
            return error.response().with_headers(*HEADERS)
        except ShoalError as error:
            return http_error(error).response().with_headers(*HEADERS)
        except ENDED:
            raise
        except Exception:
            log.exception("a bug in an answer of the content listener")
            return bug_response().with_headers(*HEADERS)

    async def _answer(self, ticket: Ticket, request: HttpRequest) -> HttpResponse:
        if request.header("if-none-match") in ("*", ticket.etag):
            return HttpResponse(304, ticket.headers)
        try:
            part = wanted_part(request, ticket.size, ticket.etag)
        except UnsatisfiableError:
            return HttpResponse(416, (*ticket.headers, ("content-range", f"bytes */{ticket.size}")))
        async with self._readers.opened(ticket.link):
            pass  # what is wrong can be told now, and not in the middle of an answer
        if part is None:
            return self._body(ticket, request, 200, Part(0, ticket.size, to_the_end=True))
        place = ("content-range", f"bytes {part.start}-{part.end - 1}/{ticket.size}")
        return self._body(ticket, request, 206, part, place)

    def _body(
        self, ticket: Ticket, request: HttpRequest, status: int, part: Part, *more: tuple[str, str]
    ) -> HttpResponse:
        async def write(send: Send) -> None:
            try:
                async with self._readers.opened(ticket.link) as remote:
                    file = await _file(remote, ticket.path)
                    async with aclosing(file.chunks(part.start, None if part.to_the_end else part.length)) as chunks:
                        async for chunk in chunks:
                            await send(chunk)
            except (HttpError, ShoalError) as error:  # the head has gone out: only the end of the connection can tell
                log.warning("an answer ended before its end: %s", error)
                raise ClientGoneError from error

        return HttpResponse(status, (*ticket.headers, *more), write, part.length)


async def _file(remote: RemoteFile | RemoteFolder, path: bytes) -> RemoteFile:
    if isinstance(remote, RemoteFile):
        if path:
            raise UsageError("This is a file and not a folder: there are no paths in it.")
        return remote
    if not path:
        raise UsageError("This is a folder. Choose a file in it.")
    return await remote.open(path)


def _quoted(name: str) -> str:
    return quote(os.fsencode(name), safe="")
