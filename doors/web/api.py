"""The JSON API: which method and path is which call. docs/web.md and openapi.yaml describe all of it."""

import os
from collections.abc import Awaitable, Callable
from typing import TypeAlias
from urllib.parse import parse_qsl

from shoal.doors.web.content import Tickets
from shoal.doors.web.errors import HttpError
from shoal.doors.web.events import events
from shoal.doors.web.feed import Feed
from shoal.doors.web.fields import Fields, bad, json_response, parse_body, read_body
from shoal.doors.web.gets import MAX_PATHS, Gets
from shoal.doors.web.http import HttpRequest, HttpResponse
from shoal.doors.web.library import Library
from shoal.doors.web.looking import DEFAULT_LISTED, MAX_LISTED, entries, info, pasted, qr, read_link
from shoal.doors.web.readers import Readers
from shoal.doors.web.sends import Choices, Sends, check_choices
from shoal.doors.web.spool import MAX_ENTRIES, MAX_FILE_BYTES, SendEntry
from shoal.doors.web.watch import Watch
from shoal.node import Node
from shoal.node.fetching.folder import inner_path
from shoal.values import dataclass

PREFIX = "/api/v1/"
MAX_SEND_BODY_BYTES = 32 * 2**20  # the list of what is in a folder
MAX_LEASE_DAYS = 90
MAX_SHARES = 256
_TIMES_MS = 8_640_000_000_000_000  # what a Date of JavaScript can be, before and after 1970

Call: TypeAlias = Callable[[HttpRequest, tuple[str, ...]], Awaitable[HttpResponse]]


@dataclass(frozen=True, slots=True)
class Parts:
    """What the calls work with. `content_port`: of the content listener."""

    node: Node
    feed: Feed
    sends: Sends
    gets: Gets
    readers: Readers
    tickets: Tickets
    library: Library
    watch: Watch
    content_port: int


class Api:
    """Finds the call for a request. A part of a path that is `*` stands for any one name."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._calls: dict[tuple[str, ...], dict[str, Call]] = {}
        for method, path, call in (
            ("GET", "status", self._status),
            ("GET", "doctor", self._doctor),
            ("GET", "history", self._history),
            ("GET", "events", self._events),
            ("GET", "sends", self._list_sends),
            ("POST", "sends", self._create_send),
            ("GET", "sends/*", self._show_send),
            ("DELETE", "sends/*", self._remove_send),
            ("PUT", "sends/*/files/*", self._put_file),
            ("POST", "sends/*/start", self._start_send),
            ("GET", "gets", self._list_gets),
            ("POST", "gets", self._create_get),
            ("GET", "gets/*", self._show_get),
            ("DELETE", "gets/*", self._remove_get),
            ("POST", "info", self._info),
            ("POST", "entries", self._entries),
            ("POST", "tickets", self._ticket),
            ("POST", "links", self._links),
            ("POST", "qr", self._qr),
            ("GET", "library", self._list_library),
            ("POST", "library/*/check", self._check),
            ("POST", "library/*/renew", self._renew),
            ("POST", "library/*/keep", self._keep),
            ("POST", "library/*/unkeep", self._unkeep),
            ("DELETE", "library/*", self._delete),
        ):
            self._calls.setdefault(tuple(path.split("/")), {})[method] = call

    def paths(self) -> set[tuple[str, str]]:
        """Every method and path, as openapi.yaml has to have them."""
        return {(method, "/".join(pattern)) for pattern, calls in self._calls.items() for method in calls}

    async def answer(self, request: HttpRequest) -> HttpResponse:
        """The answer of the call that a request is for.

        :raises HttpError: there is no such call, or it fails.
        :raises ShoalError: it fails.
        """
        names = tuple(request.path.removeprefix(PREFIX).split("/"))
        for pattern, calls in self._calls.items():
            if len(names) == len(pattern) and all(p in ("*", name) for p, name in zip(pattern, names, strict=True)):
                call = calls.get(request.method)
                if call is None:
                    raise HttpError(405, "This cannot be done here.", headers=(("allow", ", ".join(sorted(calls))),))
                return await call(request, tuple(n for p, n in zip(pattern, names, strict=True) if p == "*"))
        raise HttpError(404, "There is no such call.", code="not_found")

    # --- the node

    async def _status(self, request: HttpRequest, names: tuple[str, ...]) -> HttpResponse:
        return json_response(await self._parts.watch.status())

    async def _doctor(self, request: HttpRequest, names: tuple[str, ...]) -> HttpResponse:
        return json_response(await self._parts.watch.doctor())

    async def _history(self, request: HttpRequest, names: tuple[str, ...]) -> HttpResponse:
        return json_response(self._parts.watch.history())

    async def _events(self, request: HttpRequest, names: tuple[str, ...]) -> HttpResponse:
        return events(self._parts.feed, self._parts.sends, self._parts.gets)

    # --- sends

    async def _list_sends(self, request: HttpRequest, names: tuple[str, ...]) -> HttpResponse:
        return json_response([send.summary() for send in self._parts.sends.all()])

    async def _create_send(self, request: HttpRequest, names: tuple[str, ...]) -> HttpResponse:
        body = await read_body(request, MAX_SEND_BODY_BYTES)
        name, folder, listed = await self._parts.node.context.env.call(_announced, body)
        send = await self._parts.sends.create(name, folder, listed)
        return json_response(send.state(), 201)

    async def _show_send(self, request: HttpRequest, names: tuple[str, ...]) -> HttpResponse:
        send = self._parts.sends.get(names[0])
        listed = [
            {"path": e.path, "size": e.size, "modified_ms": e.modified_ms, "directory": e.directory}
            for e in send.entries  # so that a browser knows its files again
        ]
        return json_response({**send.state(), "entries": listed})

    async def _remove_send(self, request: HttpRequest, names: tuple[str, ...]) -> HttpResponse:
        await self._parts.sends.remove(self._parts.sends.get(names[0]))
        return HttpResponse(204)

    async def _put_file(self, request: HttpRequest, names: tuple[str, ...]) -> HttpResponse:
        send = self._parts.sends.get(names[0])
        query = parse_qsl(request.query, keep_blank_values=True)  # a head is short
        if any(name != "offset" for name, _ in query) or len(query) > 1:
            raise bad("Only the offset can be told here.")
        offset = _number(query[0][1] if query else "0")
        length = _number(request.header("content-length") or "0")
        received = await self._parts.sends.receive(send, _number(names[1]), offset, request.body, length)
        return json_response({"received": received})

    async def _start_send(self, request: HttpRequest, names: tuple[str, ...]) -> HttpResponse:
        send = self._parts.sends.get(names[0])
        fields = await Fields.of(request)
        choices = Choices(
            fields.maybe_number("lease_days", 1, MAX_LEASE_DAYS),
            fields.maybe_number("needed", 1, MAX_SHARES),
            fields.maybe_number("total", 1, MAX_SHARES),
            fields.flag("public"),
        )
        fields.done()
        check_choices(choices)
        await self._parts.sends.start(send, choices)
        return json_response(send.state(), 202)

    # --- gets

    async def _list_gets(self, request: HttpRequest, names: tuple[str, ...]) -> HttpResponse:
        return json_response([get.state() for get in self._parts.gets.all()])

    async def _create_get(self, request: HttpRequest, names: tuple[str, ...]) -> HttpResponse:
        fields = await Fields.of(request)
        link, paths, into = read_link(fields), fields.texts("paths", MAX_PATHS), fields.maybe_text("into", most=4096)
        fields.done()
        for path in paths:
            inner_path(path)
        return json_response((await self._parts.gets.create(link, paths, into)).state(), 201)

    async def _show_get(self, request: HttpRequest, names: tuple[str, ...]) -> HttpResponse:
        return json_response(self._parts.gets.get(names[0]).state())

    async def _remove_get(self, request: HttpRequest, names: tuple[str, ...]) -> HttpResponse:
        await self._parts.gets.remove(self._parts.gets.get(names[0]))
        return HttpResponse(204)

    # --- links

    async def _info(self, request: HttpRequest, names: tuple[str, ...]) -> HttpResponse:
        fields = await Fields.of(request)
        link = read_link(fields)
        fields.done()
        return json_response(await info(self._parts.node, self._parts.readers, link))

    async def _entries(self, request: HttpRequest, names: tuple[str, ...]) -> HttpResponse:
        fields = await Fields.of(request)
        link, path, after = read_link(fields), fields.maybe_text("path"), fields.maybe_text("after")
        limit = fields.maybe_number("limit", 1, MAX_LISTED) or DEFAULT_LISTED
        fields.done()
        return json_response(await entries(self._parts.readers, link, path, after, limit))

    async def _ticket(self, request: HttpRequest, names: tuple[str, ...]) -> HttpResponse:
        fields = await Fields.of(request)
        link, path, download = read_link(fields), fields.maybe_text("path"), fields.flag("download")
        fields.done()
        inner = inner_path(path) if path else b""
        ticket = await self._parts.tickets.issue(link, inner, download=download)
        host = (request.header("host") or "").rpartition(":")[0] or "127.0.0.1"
        return json_response({"url": f"http://{host}:{self._parts.content_port}{ticket}"})

    async def _links(self, request: HttpRequest, names: tuple[str, ...]) -> HttpResponse:
        fields = await Fields.of(request)
        text = fields.text("text")
        fields.done()
        return json_response(pasted(text))

    async def _qr(self, request: HttpRequest, names: tuple[str, ...]) -> HttpResponse:
        fields = await Fields.of(request)
        link = read_link(fields)
        fields.done()
        return json_response(qr(link))

    # --- the library

    async def _list_library(self, request: HttpRequest, names: tuple[str, ...]) -> HttpResponse:
        return json_response(self._parts.library.all())

    async def _check(self, request: HttpRequest, names: tuple[str, ...]) -> HttpResponse:
        return json_response(await self._parts.library.check(names[0]))

    async def _renew(self, request: HttpRequest, names: tuple[str, ...]) -> HttpResponse:
        return json_response(await self._parts.library.renew(names[0]))

    async def _keep(self, request: HttpRequest, names: tuple[str, ...]) -> HttpResponse:
        return json_response(await self._parts.library.keep(names[0]))

    async def _unkeep(self, request: HttpRequest, names: tuple[str, ...]) -> HttpResponse:
        return json_response(await self._parts.library.unkeep(names[0]))

    async def _delete(self, request: HttpRequest, names: tuple[str, ...]) -> HttpResponse:
        return json_response(await self._parts.library.delete(names[0]))


def _announced(body: bytes) -> tuple[str, bool, list[SendEntry]]:
    """What is to be sent. It may be long, so it is read in a worker."""
    fields = Fields(parse_body(body))
    name, folder = fields.text("name", most=255), fields.flag("folder")
    listed = fields.items("entries", MAX_ENTRIES)
    fields.done()
    return name, folder, [_entry(each) for each in listed]


def _entry(value: object) -> SendEntry:
    fields = Fields(value)
    entry = SendEntry(
        fields.text("path", most=4096),
        fields.number("size", 0, MAX_FILE_BYTES),
        fields.maybe_number("modified_ms", -_TIMES_MS, _TIMES_MS),
        fields.flag("executable"),
        fields.flag("directory"),
    )
    fields.done()
    return entry


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 16):
        raise bad(f"{os.fsencode(text)[:40]!r} is not a whole number.")
    return int(text)
