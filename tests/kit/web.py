"""A door, and a client of it that says exactly what it is told to: over memory streams in a simulated world, or TCP."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import h11
import jsonschema_rs
import trio
import trio.testing
import yaml

from shoal.doors.web import door as door_module
from shoal.doors.web.door import Door, Ports
from shoal.doors.web.http import HttpConnection
from shoal.node import Node
from shoal.simulation.world import World

CONTROL, CONTENT = 4780, 4781
TOKEN, METRICS_TOKEN = "token-of-the-page", "token-of-the-metrics"
READ_BYTES = 65_536

Connect = Callable[[], Awaitable[trio.abc.Stream]]


@dataclass(frozen=True)
class Answer:
    """What came back. Header names are in small letters."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body's value."""
        return json.loads(self.body)


class WebClient:
    """Asks, each time on a connection of its own."""

    def __init__(self, connect: Connect, port: int, token: str | None) -> None:
        self._connect = connect
        self._port = port
        self._token = token

    async def connected(self) -> trio.abc.Stream:
        """A new connection."""
        return await self._connect()

    async def ask(
        self, method: str, target: str, body: bytes | None = None, headers: Mapping[str, str | None] | None = None
    ) -> Answer:
        """One request to its end. A header of None is left out."""
        async with await self._connect() as stream:
            http = await self.begin(stream, method, target, body, headers)
            return await read_answer(stream, http)

    async def begin(
        self,
        stream: trio.abc.Stream,
        method: str,
        target: str,
        body: bytes | None = None,
        headers: Mapping[str, str | None] | None = None,
        *,
        is_whole: bool = True,
    ) -> h11.Connection:
        """Send a request, and read nothing yet. One that is not whole has more in its body than is sent."""
        http = h11.Connection(h11.CLIENT)
        given: dict[str, str | None] = {"host": f"127.0.0.1:{self._port}"}
        if self._token is not None:
            given["authorization"] = f"Bearer {self._token}"
        if body is not None:
            given["content-length"] = str(len(body))
        given.update(headers or {})
        sent = [(name, value) for name, value in given.items() if value is not None]
        data = http.send(h11.Request(method=method, target=target, headers=sent)) or b""
        data += http.send(h11.Data(data=body or b"")) or b""
        await stream.send_all(data + ((http.send(h11.EndOfMessage()) or b"") if is_whole else b""))
        return http

    async def call(self, method: str, path: str, value: object = None) -> Answer:
        """A call of the API. What comes back has to be as openapi.yaml says."""
        body = None if value is None else json.dumps(value).encode()
        answer = await self.ask(method, f"/api/v1/{path}", body, {"content-type": "application/json"})
        check_answer(method, path, answer)
        return answer

    async def good(self, method: str, path: str, value: object = None) -> Any:
        """The same for one that has to succeed; its value."""
        answer = await self.call(method, path, value)
        assert 200 <= answer.status < 300, answer
        return answer.json() if answer.body else None

    async def until(self, path: str, *phases: str, most_s: float = 600.0) -> Any:
        """The state of a send or a get once it is in one of these phases."""
        with trio.fail_after(most_s):
            while (state := await self.good("GET", path))["phase"] not in phases:  # noqa: ASYNC110 - asked as a page asks
                await trio.sleep(0.1)
        return state


@cache
def specification() -> dict[str, Any]:
    """openapi.yaml."""
    found: dict[str, Any] = yaml.safe_load((Path(door_module.__file__).parent / "openapi.yaml").read_text("utf-8"))
    return found


def check_answer(method: str, path: str, answer: Answer) -> None:
    """The status and the value of an answer are those that openapi.yaml has for the call."""
    names = path.split("/")
    for pattern, calls in specification()["paths"].items():
        parts = pattern.strip("/").split("/")
        if len(parts) == len(names) and all(p.startswith("{") or p == n for p, n in zip(parts, names, strict=True)):
            responses = calls[method.lower()]["responses"]
            found = responses.get(str(answer.status), responses["default"])
            assert str(answer.status) in responses or answer.status >= 400, answer
            found = specification()["components"]["responses"]["Problem"] if "$ref" in found else found
            if "content" in found:
                schema = found["content"]["application/json"]["schema"]
                whole = {**schema, "components": specification()["components"]}
                jsonschema_rs.validator_for(whole).validate(answer.json())
            return
    raise AssertionError(f"{path} is in no specification")


async def read_answer(stream: trio.abc.Stream, http: h11.Connection) -> Answer:
    """Read one answer to its end."""
    status, headers, body = 0, {}, bytearray()
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            http.receive_data(bytes(await stream.receive_some(READ_BYTES)))
        elif isinstance(event, h11.Response):
            status = event.status_code
            headers = {name.decode(): value.decode() for name, value in event.headers}
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
            return Answer(status, headers, bytes(body))


@dataclass(frozen=True)
class Opened:
    """A door in a simulated world, and clients of its two listeners."""

    door: Door
    page: WebClient
    files: WebClient


@asynccontextmanager
async def opened_door(world: World, node: Node) -> AsyncIterator[Opened]:
    """A door of a node in a simulated world, without sockets."""
    async with trio.open_nursery() as nursery:
        door = Door(node, world.network, nursery, Ports(CONTROL, CONTENT), TOKEN, METRICS_TOKEN)
        await door.load()

        def connect(handler: Any) -> Connect:
            async def connected() -> trio.abc.Stream:
                client, server = trio.testing.memory_stream_pair()

                async def serve() -> None:
                    async with server:
                        await HttpConnection(server).serve(handler)

                nursery.start_soon(serve)
                return client

            return connected

        yield Opened(
            door,
            WebClient(connect(door.answer), CONTROL, TOKEN),
            WebClient(connect(door.answer_content), CONTENT, None),
        )
        nursery.cancel_scope.cancel()
