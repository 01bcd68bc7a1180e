"""HTTP/1.1 on one connection: h11 reads and writes the bytes, this module waits. Every wait has a deadline.

A handler gets a request and returns a response. When the client goes away, the handler is cancelled. Nothing is
shielded, so a client that reads nothing holds nobody up.
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import field
from email.utils import formatdate
from typing import TypeAlias

import h11
import trio

from shoal.node.nursery import open_nursery
from shoal.values import dataclass

HEAD_BYTES = 16 * 1024  # a request's first line and headers; a browser sends some 1 KiB
IDLE_S = 75.0  # between two requests on one connection
HEAD_S = 10.0  # from the first byte of a head to its last
BODY_STALL_S = 60.0  # a body that brings nothing for so long
SEND_STALL_S = 60.0  # a client that takes nothing for so long
LINGER_S, LINGER_BYTES = 2.0, 2**20  # of a body that nobody wants: so the client can read why
READ_BYTES = 256 * 1024
WRITE_BYTES = 256 * 1024  # sent at once; each piece has SEND_STALL_S

Send: TypeAlias = Callable[[bytes], Awaitable[None]]
Writer: TypeAlias = Callable[[Send], Awaitable[None]]
Headers: TypeAlias = tuple[tuple[str, str], ...]


class ClientGoneError(Exception):
    """The client closed the connection, or let a deadline pass."""


ENDED = (ClientGoneError, trio.BrokenResourceError, trio.ClosedResourceError)  # nobody is there to be answered


class BodyTooLargeError(Exception):
    """A body has more bytes than its handler takes."""


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """An answer. A body is bytes, or a function that writes it with `send`.

    length: how many bytes such a function writes; None if that is not known.
    """

    status: int
    headers: Headers = ()
    body: bytes | Writer = b""
    length: int | None = None

    def with_headers(self, *more: tuple[str, str]) -> "HttpResponse":
        """The same with further headers. One that is there already stays as it is."""
        names = {name.lower() for name, _ in self.headers}
        added = tuple((name, value) for name, value in more if name.lower() not in names)
        return HttpResponse(self.status, self.headers + added, self.body, self.length)


class Body:
    """The body of a request, in pieces as they come."""

    def __init__(self, receive: Callable[[], Awaitable[bytes]]) -> None:
        self._receive = receive

    async def chunk(self) -> bytes:
        """The next piece; empty at the end.

        :raises ClientGoneError: the rest will not come.
        """
        return await self._receive()

    async def read(self, limit: int) -> bytes:
        """All of it.

        :raises BodyTooLargeError: there is more than `limit`.
        :raises ClientGoneError: the rest will not come.
        """
        pieces = bytearray()
        while piece := await self._receive():
            pieces += piece
            if len(pieces) > limit:
                raise BodyTooLargeError
        return bytes(pieces)


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request. Header names are in small letters; a header that came twice has two values."""

    method: str
    target: str
    headers: Mapping[str, tuple[str, ...]]
    body: Body = field(repr=False)

    @property
    def path(self) -> str:
        """The target without what follows a question mark."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        """What follows the question mark."""
        return self.target.partition("?")[2]

    def header(self, name: str) -> str | None:
        """The value of a header; None if it is missing, or came more than once."""
        values = self.headers.get(name, ())
        return values[0] if len(values) == 1 else None


Handler: TypeAlias = Callable[[HttpRequest], Awaitable[HttpResponse]]


class HttpConnection:
    """One connection of one client.

    send_stall_s: for how long a client may take nothing.
    """

    def __init__(self, stream: trio.abc.HalfCloseableStream, *, send_stall_s: float = SEND_STALL_S) -> None:
        self._stream = stream
        self._send_stall_s = send_stall_s
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES)
        self._body_done = trio.Event()
        self._is_broken = False
        self.waits_since: float | None = trio.current_time()
        """Since when it has waited for its client to ask, or to take what it asked for; None while it works for it."""

    async def serve(self, handler: Handler) -> None:
        """Answer requests, one after another, until the client goes or a deadline passes."""
        try:
            while await self._serve_one(handler):
                self._http.start_next_cycle()
        except ENDED:
            return
        except h11.RemoteProtocolError as error:
            await self._complain(error)

    async def _serve_one(self, handler: Handler) -> bool:
        """Answer one request; whether another may follow on this connection."""
        request = await self._request()
        if request is None:
            return False
        async with open_nursery() as nursery:
            nursery.start_soon(self._watch, nursery.cancel_scope)
            await self._answer(handler, request)
            nursery.cancel_scope.cancel()
        if self._is_broken:
            return False
        if self._http.their_state is h11.SEND_BODY:
            await self._linger()
        return self._http.our_state is h11.DONE and self._http.their_state is h11.DONE

    # --- reading

    async def _request(self) -> HttpRequest | None:
        """The next request; None at the end of the connection."""
        self.waits_since = trio.current_time()
        with trio.CancelScope(deadline=trio.current_time() + IDLE_S) as scope:
            while (event := self._http.next_event()) is h11.NEED_DATA:
                data = await self._stream.receive_some(HEAD_BYTES)
                if data:
                    scope.deadline = min(scope.deadline, trio.current_time() + HEAD_S)
                self._http.receive_data(bytes(data))
        if scope.cancelled_caught or not isinstance(event, h11.Request):
            return None
        self.waits_since = None
        self._body_done = trio.Event()
        if event.http_version not in (b"1.0", b"1.1"):
            raise h11.RemoteProtocolError("another version of HTTP", error_status_hint=505)
        if len(event.target) + sum(len(name) + len(value) for name, value in event.headers) > HEAD_BYTES:
            raise h11.RemoteProtocolError("too large a head", error_status_hint=431)
        headers: dict[str, tuple[str, ...]] = {}
        for name, value in event.headers:
            key = name.decode("ascii")
            headers[key] = (*headers.get(key, ()), value.decode("latin-1"))
        if "transfer-encoding" in headers and "content-length" in headers:
            raise h11.RemoteProtocolError("both a length and chunks", error_status_hint=400)
        return HttpRequest(event.method.decode("ascii"), event.target.decode("ascii"), headers, Body(self._piece))

    async def _piece(self) -> bytes:
        """The next piece of the body; empty at its end."""
        while not self._body_done.is_set():
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError as error:
                raise ClientGoneError from error
            if isinstance(event, h11.Data):
                if event.data:
                    return bytes(event.data)
            elif event is h11.NEED_DATA:
                if self._http.they_are_waiting_for_100_continue:
                    await self._write(self._http.send(h11.InformationalResponse(status_code=100, headers=[])))
                self._http.receive_data(await self._received())
            else:
                self._body_done.set()
        return b""

    async def _received(self) -> bytes:
        self.waits_since = trio.current_time()
        with trio.move_on_after(BODY_STALL_S):
            data = bytes(await self._stream.receive_some(READ_BYTES))
            self.waits_since = None
            return data
        raise ClientGoneError

    async def _watch(self, scope: trio.CancelScope) -> None:
        """Once the body is there, cancel the handler when the client goes."""
        await self._body_done.wait()
        try:
            data = bytes(await self._stream.receive_some(READ_BYTES))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            data = b""
        if data:
            self._http.receive_data(data)  # the next request, sent before its time: h11 keeps it, and we read no more
            return
        self._is_broken = True
        scope.cancel()

    async def _linger(self) -> None:
        """Take some of what nobody wanted: a client that is still sending could not read the answer."""
        taken = 0
        self.waits_since = trio.current_time()
        with trio.move_on_after(LINGER_S):
            await self._stream.send_eof()
            while taken < LINGER_BYTES and (data := await self._stream.receive_some(READ_BYTES)):
                taken += len(data)

    # --- writing

    async def _answer(self, handler: Handler, request: HttpRequest) -> None:
        if "transfer-encoding" not in request.headers and request.header("content-length") in (None, "0"):
            await self._piece()  # there is no body, and now h11 knows it too
        response = await handler(request)
        closing = self._http.their_state is h11.SEND_BODY
        await self._write(self._http.send(_head(response, closing=closing)))
        if request.method == "HEAD" or response.status in (204, 304):
            pass
        elif isinstance(response.body, bytes):
            await self._send(response.body)
        else:
            await response.body(self._send)
        try:
            rest = self._http.send(h11.EndOfMessage())
        except h11.LocalProtocolError as error:  # fewer bytes than were promised
            raise ClientGoneError from error
        await self._write(rest)

    async def _send(self, data: bytes) -> None:
        view = memoryview(data)
        for start in range(0, len(view), WRITE_BYTES):
            await self._write(self._http.send(h11.Data(data=bytes(view[start : start + WRITE_BYTES]))))

    async def _write(self, data: bytes | None) -> None:
        if not data:
            return
        self.waits_since = trio.current_time()
        with trio.move_on_after(self._send_stall_s):
            await self._stream.send_all(data)
            self.waits_since = None
            return
        raise ClientGoneError

    async def _complain(self, error: h11.RemoteProtocolError) -> None:
        """Tell a client that what it sent is no HTTP, if it can still be told."""
        if self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        status = error.error_status_hint
        response = HttpResponse(
            status, (("content-type", "text/plain"),), b"This is no request that can be answered.\n"
        )
        try:
            await self._write(self._http.send(_head(response, closing=True)))
            await self._send(response.body if isinstance(response.body, bytes) else b"")
            await self._write(self._http.send(h11.EndOfMessage()))
            await self._linger()
        except (*ENDED, h11.LocalProtocolError):
            return


def _head(response: HttpResponse, *, closing: bool) -> h11.Response:
    headers = [("date", formatdate(usegmt=True)), *response.headers]
    if response.status in (204, 304):
        pass  # there is no body, and a length would be that of another answer
    elif isinstance(response.body, bytes):
        headers.append(("content-length", str(len(response.body) if response.length is None else response.length)))
    elif response.length is not None:
        headers.append(("content-length", str(response.length)))
    if closing:
        headers.append(("connection", "close"))
    return h11.Response(status_code=response.status, headers=list(_encoded(headers)))


def _encoded(headers: Iterable[tuple[str, str]]) -> Iterator[tuple[bytes, bytes]]:
    for name, value in headers:
        yield name.encode("ascii"), value.encode("latin-1")
