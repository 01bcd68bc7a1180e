"""The door as a whole: two listeners on loopback, what guards them, and the parts behind them."""

import logging
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager

import trio

from shoal.doors.web import content as content_listener
from shoal.doors.web.api import PREFIX, Api, Parts
from shoal.doors.web.content import Tickets
from shoal.doors.web.errors import HttpError, bug_response, http_error
from shoal.doors.web.feed import Feed
from shoal.doors.web.gets import Gets
from shoal.doors.web.guard import Guard, check_token
from shoal.doors.web.http import ENDED, HttpRequest, HttpResponse
from shoal.doors.web.library import Library
from shoal.doors.web.listening import Connections, Listeners, listen
from shoal.doors.web.metrics import METRICS_PATH, Metrics
from shoal.doors.web.note import DoorNote, door_lock, new_token, remove_door_note, write_door_note, write_metrics_token
from shoal.doors.web.readers import Readers
from shoal.doors.web.sends import Sends
from shoal.doors.web.static_files import API_POLICY, HEADERS, load_static, page_policy
from shoal.doors.web.watch import Watch
from shoal.node import Network, Node, ShoalError
from shoal.node.nursery import open_nursery
from shoal.values import dataclass

log = logging.getLogger(__name__)

DEFAULT_PORT = 4780


@dataclass(frozen=True, slots=True)
class Ports:
    """Where a door listens."""

    control: int
    content: int


class Door:
    """What is behind the two listeners: every request comes here. Made by `open_door`."""

    def __init__(
        self, node: Node, network: Network, nursery: trio.Nursery, ports: Ports, token: str, metrics_token: str
    ) -> None:
        feed = Feed()
        readers = Readers(node, nursery)
        self.ports = ports
        self.token = token
        self.tickets = Tickets(readers)
        self.sends = Sends(node, feed, nursery)
        self.gets = Gets(node, readers, feed, nursery)
        self.watch = Watch(node, network, feed)
        library = Library(node, feed)
        self.api = Api(
            Parts(node, feed, self.sends, self.gets, readers, self.tickets, library, self.watch, ports.content)
        )
        self._connections: tuple[Connections, ...] = ()
        self._static = load_static()
        self._guard = Guard(ports.control)
        self._content_guard = Guard(ports.content, ports.control)
        self._metrics = Metrics(self.watch, metrics_token)

    @property
    def note(self) -> DoorNote:
        """Where the page is, with the right to use it."""
        return DoorNote(self.ports.control, self.token)

    async def load(self) -> None:
        """Go on with what an earlier door has left."""
        await self.sends.load()
        await self.gets.load()

    def connections(self) -> int:
        """How many are open, on both listeners."""
        return sum(len(each) for each in self._connections)

    def start(self, nursery: trio.Nursery, pages: Listeners, files: Listeners) -> None:
        """Answer on these listeners, and look at the node now and then, in the tasks of a nursery."""
        control = Connections(self.answer)
        content = Connections(self.answer_content, send_stall_s=content_listener.SEND_STALL_S)
        self._connections = (control, content)
        for connections, listeners in ((control, pages), (content, files)):
            for listener in listeners:
                nursery.start_soon(connections.accept, listener, nursery)
        nursery.start_soon(self.watch.run)

    async def answer(self, request: HttpRequest) -> HttpResponse:
        """What the control listener answers: the page, the API and the metrics."""
        policy = API_POLICY
        try:
            host = self._guard.check(request)
            if request.path.startswith(PREFIX):
                check_token(request, self.token)
                response = await self.api.answer(request)
            elif request.path == METRICS_PATH:
                response = await self._metrics.answer(request)
            else:
                policy = page_policy(f"http://{host}:{self.ports.content}")
                response = self._page(request)
        except HttpError as error:
            response = error.response()
        except ShoalError as error:
            response = http_error(error).response()
        except ENDED:
            raise
        except Exception:  # the page must be told of a bug too
            log.exception("a bug in an answer of the door")
            response = bug_response()
        return response.with_headers(policy, *HEADERS)

    def _page(self, request: HttpRequest) -> HttpResponse:
        response = self._static.get(request.path)
        if response is None:
            raise HttpError(404, "There is no such page.", "Open the page again with: shoal web", code="not_found")
        if request.method not in ("GET", "HEAD"):
            raise HttpError(405, "The page can only be read.", headers=(("allow", "GET, HEAD"),))
        return response

    async def answer_content(self, request: HttpRequest) -> HttpResponse:
        """What the content listener answers: files, under tickets."""
        return await self.tickets.answer(self._content_guard, request)


@asynccontextmanager
async def open_door(node: Node, network: Network, port: int | None = None) -> AsyncIterator[Door]:
    """A door to an open node for the length of a block. It writes its address into the home, for `shoal web`.

    Leaving the block ends every connection at once, and cancels what is under way. The next door goes on with it.

    :param port: of the page; by default 4780, or any that is free where that is taken.
    :raises AlreadyRunning: this home has an open door already.
    :raises LocalError: the port is taken, or the home cannot be written.
    """
    with door_lock(node.home), ExitStack() as after_tasks:
        remove_door_note(node.home)  # of a door that was killed
        control, pages = await _listen_somewhere(port)
        after_tasks.callback(_close, pages)
        content, files = await listen(0)
        after_tasks.callback(_close, files)
        after_tasks.callback(remove_door_note, node.home)
        async with open_nursery() as nursery:
            metrics_token = await node.context.env.call(write_metrics_token, node.home)
            door = Door(node, network, nursery, Ports(control, content), new_token(), metrics_token)
            await door.load()
            door.start(nursery, pages, files)
            await node.context.env.call(write_door_note, node.home, door.note)
            yield door
            nursery.cancel_scope.cancel()


def _close(listeners: Listeners) -> None:
    for listener in listeners:
        listener.socket.close()


async def _listen_somewhere(port: int | None) -> tuple[int, Listeners]:
    if port is not None:
        return await listen(port)
    try:
        return await listen(DEFAULT_PORT)
    except ShoalError:
        return await listen(0)


__all__ = ["DEFAULT_PORT", "Door", "open_door"]
