"""The stream of changes: JSON objects, one a line, for as long as a tab is open."""

import json
from collections.abc import Iterator
from typing import Any

import trio

from shoal.doors.web.errors import HttpError
from shoal.doors.web.feed import MAX_LISTENERS, Feed, Listener
from shoal.doors.web.gets import Gets
from shoal.doors.web.http import HttpResponse, Send
from shoal.doors.web.sends import Sends

BEAT_S = 15.0  # at least one line in so long, so that both ends notice when the other is gone


def events(feed: Feed, sends: Sends, gets: Gets) -> HttpResponse:
    """First the state of every send and get, then what changes.

    :raises HttpError: too many listen: 503.
    """
    listener = feed.open()
    if listener is None:
        raise HttpError(503, f"{MAX_LISTENERS} tabs are open.", "Close some.", code="failed")

    async def write(send: Send) -> None:
        try:
            for each in sends.all():
                listener.note("send", each.id)
            for get in gets.all():
                listener.note("get", get.id)
            await send(_line({"type": "beat"}))
            while True:
                for line in await _next(listener, sends, gets):
                    await send(line)
        finally:
            feed.close(listener)

    return HttpResponse(200, (("content-type", "application/x-ndjson"),), write)


async def _next(listener: Listener, sends: Sends, gets: Gets) -> list[bytes]:
    with trio.move_on_after(BEAT_S):
        return [_line(fields) for change in await listener.wait() for fields in _fields(*change, sends, gets)]
    return [_line({"type": "beat"})]


def _fields(kind: str, name: str, sends: Sends, gets: Gets) -> Iterator[dict[str, Any]]:
    if kind == "send":
        if (send := sends.find(name)) is not None:
            yield {"type": "send", "send": send.summary()}
    elif kind == "get":
        if (get := gets.find(name)) is not None:
            yield {"type": "get", "get": get.state()}
    elif kind == "gone":
        of, _, gone_id = name.partition("/")
        yield {"type": "gone", "kind": of, "id": gone_id}
    else:
        yield {"type": kind}


def _line(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields).encode("ascii") + b"\n"
