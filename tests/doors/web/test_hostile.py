"""A real door on real sockets, and what hostile programs and pages send to it."""

import re
import resource
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random

import pytest
import trio

from kit.web import Answer, WebClient
from shoal.doors.web import Door, listening, open_door
from shoal.doors.web import http as http_module
from shoal.doors.web.http import HttpRequest, HttpResponse, Send
from shoal.node import AlreadyRunning, Network, open_node

FLOOD = 10_000
LIMIT_S = 60.0


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Door]:
    async with open_node(folder) as node, open_door(node, Network.load(), 0) as door:
        yield door


def client(door: Door, token: str | None = None) -> WebClient:
    async def connect() -> trio.abc.Stream:
        return await trio.open_tcp_stream("127.0.0.1", door.ports.control)

    return WebClient(connect, door.ports.control, token or door.token)


async def raw(door: Door, data: bytes, *, port: int | None = None) -> bytes:
    """Send bytes, and read all that comes until the door closes the connection, or says nothing for a while."""
    received = b""
    async with await trio.open_tcp_stream("127.0.0.1", port or door.ports.control) as stream:
        await stream.send_all(data)
        with trio.move_on_after(0.5) as scope:
            while more := bytes(await stream.receive_some(65_536)):
                received += more
                scope.deadline = trio.current_time() + 0.5
    return received


def statuses(received: bytes) -> list[int]:
    """Of all answers on one connection."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 ([0-9]{3}) ", received)]


async def test_only_the_page_with_its_token_is_answered(tmp_path: Path) -> None:
    async with opened(tmp_path) as door:
        page, stranger = client(door), client(door, "another-token")
        assert (await page.ask("GET", "/api/v1/status")).status == 200
        assert (await page.ask("GET", "/api/v1/status", headers={"authorization": None})).status == 401
        assert (await page.ask("GET", "/api/v1/status", headers={"host": "rebound.example"})).status == 421
        assert (await page.ask("GET", "/api/v1/status", headers={"origin": "null"})).status == 403
        assert (await page.ask("GET", "/metrics")).status == 401
        for method, path in sorted(door.api.paths()):
            answer = await stranger.ask(method, f"/api/v1/{path.replace('*', '0' * 16)}", b"{}")
            assert answer.status == 401, (method, path)
            assert answer.headers["www-authenticate"] == "Bearer"
        for method in ("OPTIONS", "POST", "PUT", "DELETE", "PATCH", "TRACE", "PROPFIND"):
            assert (await page.ask(method, "/")).status == 405
            assert (await page.ask(method, "/api/v1/status")).status == 405
        form = {"content-type": "application/x-www-form-urlencoded"}
        assert (await page.ask("POST", "/api/v1/gets", b"link=x", form)).status == 415
        preflight = {"origin": f"http://127.0.0.1:{door.ports.control}", "access-control-request-method": "PUT"}
        answer = await page.ask("OPTIONS", "/api/v1/sends", headers=preflight)
        assert not [name for name in answer.headers if name.startswith("access-control")]


async def test_every_answer_tells_the_browser_to_keep_out_others(tmp_path: Path) -> None:
    async with opened(tmp_path) as door:
        page = client(door)
        for answer in (
            await page.ask("GET", "/"),
            await page.ask("GET", "/nothing"),
            await page.ask("GET", "/api/v1/status"),
            await page.ask("GET", "/", headers={"host": "rebound.example"}),
        ):
            policy = answer.headers["content-security-policy"]
            assert policy.startswith("default-src 'none';")
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy
            assert "*" not in policy
            for name, value in {
                "x-content-type-options": "nosniff",
                "referrer-policy": "no-referrer",
                "cross-origin-opener-policy": "same-origin",
                "cross-origin-resource-policy": "same-origin",
                "cache-control": "no-store",
            }.items():
                assert answer.headers[name] == value
            assert "set-cookie" not in answer.headers
        assert "require-trusted-types-for 'script'" in (await page.ask("GET", "/")).headers["content-security-policy"]


@pytest.mark.parametrize(
    "path",
    [
        "/../../../../etc/passwd",
        "/..%2f..%2f..%2fetc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/static/../api.py",
        "//etc/passwd",
        "/.",
        "/..",
        "/index.html/",
        "/index.html%00.js",
        "/vendor/",
        "/./index.html",
        "/INDEX.HTML",
        "/api/v1/../v1/status",
        "/api/v1//status",
        "/api/v1/sends/../status",
    ],
)
async def test_no_path_leads_anywhere_else(tmp_path: Path, path: str) -> None:
    async with opened(tmp_path) as door:
        assert (await client(door).ask("GET", path)).status == 404


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nHost: HOST\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: HOST\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcd",
        b"GET / HTTP/1.1\r\nHost: HOST\r\nContent-Length: 4, 5\r\n\r\nabcd",
        b"GET / HTTP/1.1\r\nHost: HOST\r\nContent-Length: +4\r\n\r\nabcd",
        b"GET / HTTP/1.1\r\nHost: HOST\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: HOST\r\nContent-Length : 4\r\n\r\nabcd",
        b"GET / HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: HOST\r\n folded: yes\r\nHost: evil\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: HOST\r\nX: a\0b\r\n\r\n",
        b"GET  / HTTP/1.1\r\nHost: HOST\r\n\r\n",
        b"GET / HTTP/2.0\r\nHost: HOST\r\n\r\n",
        b"GET /\r\nHost: HOST\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET http://HOST/ HTTP/1.1\r\nHost: HOST\r\n\r\n",
        b"CONNECT HOST HTTP/1.1\r\nHost: HOST\r\n\r\n",
    ],
)
async def test_no_request_hides_in_another(tmp_path: Path, head: bytes) -> None:
    """What two parsers could read in two ways is refused. What follows it on the connection is never a request."""
    async with opened(tmp_path) as door:
        host = f"127.0.0.1:{door.ports.control}".encode()
        hidden = b"GET /api/v1/status HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n\r\n"
        received = await raw(door, head.replace(b"HOST", host) + hidden % (host, door.token.encode()))
        assert all(status >= 400 for status in statuses(received)), received
        assert b"node_id" not in received
        assert (await client(door).ask("GET", "/")).status == 200


async def test_requests_sent_at_once_are_answered_in_order(tmp_path: Path) -> None:
    async with opened(tmp_path) as door:
        host = f"127.0.0.1:{door.ports.control}".encode()
        one = b"GET %s HTTP/1.1\r\nHost: %s\r\n\r\n"
        received = await raw(door, one % (b"/", host) + one % (b"/nothing", host) + one % (b"/", host))
        assert statuses(received) == [200, 404, 200]


async def test_heads_have_a_largest_size_and_a_deadline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_module, "HEAD_S", 0.3)
    async with opened(tmp_path) as door:
        host = f"127.0.0.1:{door.ports.control}".encode()
        start = b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n"
        assert statuses(await raw(door, start + b"X: " + b"a" * 100_000 + b"\r\n\r\n")) == [431]
        assert statuses(await raw(door, start + b"X: a\r\n" * 20_000 + b"\r\n")) == [431]
        assert statuses(await raw(door, b"GET /" + b"a" * 100_000)) == [431]
        begun = trio.current_time()
        with trio.fail_after(LIMIT_S), pytest.raises(trio.BrokenResourceError):
            await drip(door, start)
        assert trio.current_time() - begun < LIMIT_S / 2


async def drip(door: Door, start: bytes) -> None:
    """Send a head that never ends, a line at a time."""
    async with await trio.open_tcp_stream("127.0.0.1", door.ports.control) as stream:
        await stream.send_all(start)
        while True:
            await trio.sleep(0.05)
            await stream.send_all(b"X: a\r\n")


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """As many as the flood needs, where the system lets this process have them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, FLOOD + 2_000)), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_descriptors")
async def test_ten_thousand_connections_keep_out_nobody(tmp_path: Path) -> None:
    """They ask nothing. A client that asks is answered, and at most a few hundred are open."""
    async with opened(tmp_path) as door:
        address = ("127.0.0.1", door.ports.control)
        flood: list[socket.socket] = []
        try:
            for number in range(FLOOD):
                idle = socket.socket()
                idle.setblocking(False)
                idle.connect_ex(address)
                flood.append(idle)
                if number % 250 == 0:
                    await trio.sleep(0.01)
                if number % 2_500 == 0:
                    assert (await within(client(door).ask("GET", "/"))).status == 200
            assert (await within(client(door).ask("GET", "/api/v1/status"))).status == 200
            assert door.connections() <= 2 * listening.MAX_CONNECTIONS
        finally:
            for idle in flood:
                idle.close()


async def test_readers_that_take_nothing_keep_out_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another user of the machine asks for the page without a token, and reads nothing of it: on all connections."""
    most = 8
    monkeypatch.setattr(listening, "MAX_CONNECTIONS", most)
    async with opened(tmp_path) as door, AsyncExitStack() as stack:
        host = f"127.0.0.1:{door.ports.control}".encode()
        for _ in range(most):
            stream = trio.socket.socket()
            stack.callback(stream.close)
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            await stream.connect(("127.0.0.1", door.ports.control))
            with trio.move_on_after(0.3):
                while True:
                    await stream.send(b"GET /style.css HTTP/1.1\r\nHost: %s\r\n\r\n" % host * 100)
        for _ in range(3):
            assert (await within(client(door).ask("GET", "/api/v1/status"))).status == 200
        assert door.connections() <= most


async def within(asking: "object") -> Answer:
    with trio.fail_after(LIMIT_S):
        answer = await asking  # type: ignore[misc]
    assert isinstance(answer, Answer)
    return answer


async def test_one_connection_takes_many_calls(tmp_path: Path) -> None:
    """A call without a body leaves the connection open, as browsers want it."""
    async with opened(tmp_path) as door:
        host = f"127.0.0.1:{door.ports.control}"
        head = f"POST /api/v1/qr HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {door.token}\r\n"
        received = await raw(door, 3 * f"{head}Content-Length: 0\r\n\r\n".encode())
        assert statuses(received) == [415, 415, 415]


async def test_readers_that_stall_do_not_hold_up_the_end() -> None:
    """Twenty ask for what never ends, and read nothing of it. Each is ended at once, in the middle of its answer."""
    stalled = 0

    async def endless(send: Send) -> None:
        nonlocal stalled
        with trio.CancelScope() as scope:
            while True:
                scope.deadline = trio.current_time() + 0.2
                await send(bytes(100_000))
        stalled += 1
        await send(bytes(100_000))

    async def answer(request: HttpRequest) -> HttpResponse:
        return HttpResponse(200, (), endless)

    port, listeners = await listening.listen(0)
    async with trio.open_nursery() as nursery, AsyncExitStack() as stack:
        connections = listening.Connections(answer)
        for listener in listeners:
            nursery.start_soon(connections.accept, listener, nursery)
        for _ in range(20):
            stream = await stack.enter_async_context(await trio.open_tcp_stream("127.0.0.1", port))
            await stream.send_all(b"GET / HTTP/1.1\r\nHost: any\r\n\r\n")
        with trio.fail_after(LIMIT_S):
            while stalled < 20:  # noqa: ASYNC110 - they are on the other end
                await trio.sleep(0.05)
        begun = trio.current_time()
        nursery.cancel_scope.cancel()
    assert trio.current_time() - begun < 2.0
    for listener in listeners:
        await listener.aclose()


async def test_a_client_that_goes_ends_what_is_done_for_it() -> None:
    ended = trio.Event()

    async def answer(request: HttpRequest) -> HttpResponse:
        try:
            await trio.sleep_forever()
        finally:
            ended.set()
        raise AssertionError

    port, listeners = await listening.listen(0)
    async with trio.open_nursery() as nursery:
        connections = listening.Connections(answer)
        for listener in listeners:
            nursery.start_soon(connections.accept, listener, nursery)
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(b"GET / HTTP/1.1\r\nHost: any\r\n\r\n")
            await trio.sleep(0.05)
        with trio.fail_after(LIMIT_S):
            await ended.wait()
        nursery.cancel_scope.cancel()
    for listener in listeners:
        await listener.aclose()


async def test_a_home_has_one_door_at_a_time(tmp_path: Path) -> None:
    async with opened(tmp_path) as door:
        assert (tmp_path / "web" / "door.json").stat().st_mode & 0o777 == 0o600
        async with open_node(tmp_path) as node:
            with pytest.raises(AlreadyRunning):
                async with open_door(node, Network.load(), 0):
                    raise AssertionError
        assert (await client(door).ask("GET", "/")).status == 200
    assert not (tmp_path / "web" / "door.json").exists()
    async with opened(tmp_path) as another:
        assert another.token != door.token


async def test_random_bytes_do_not_end_it(tmp_path: Path) -> None:
    rng = Random(1)
    async with opened(tmp_path) as door:
        for port in (door.ports.control, door.ports.content):
            for _ in range(4):
                await raw(door, rng.randbytes(rng.randrange(1, 4_000)) + b"\r\n\r\n", port=port)
        assert (await client(door).ask("GET", "/")).status == 200
