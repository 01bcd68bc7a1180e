"""Files in the network that are open to be read: what a player or a listing asks for again costs no new search."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import field, replace

import trio

from shoal.doors.web.errors import BUG, HttpError
from shoal.node import Link, Node, RemoteFile, RemoteFolder, ShoalError
from shoal.values import dataclass

log = logging.getLogger(__name__)

MAX_OPEN = 8  # links; each takes CACHE_BYTES and 24 MiB for what is under way at most
CACHE_BYTES = 32 * 2**20
IDLE_S = 300.0  # a player that is paused for longer costs a new search


@dataclass(eq=False)
class _Opened:
    """One link that is open, or being opened."""

    ready: trio.Event = field(default_factory=trio.Event)
    idle: trio.Event = field(default_factory=trio.Event)
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    remote: RemoteFile | RemoteFolder | None = None
    error: ShoalError | None = None
    users: int = 0
    used_at: float = 0.0


class Readers:
    """All links that are open. Its tasks live in the door's nursery."""

    def __init__(self, node: Node, nursery: trio.Nursery) -> None:
        self._node = node
        self._nursery = nursery
        self._opened: dict[Link, _Opened] = {}

    @asynccontextmanager
    async def opened(self, link: Link) -> AsyncIterator[RemoteFile | RemoteFolder]:
        """The whole that a link is of: its path does not count.

        :raises ShoalError: what `Node.open_remote` raises.
        :raises HttpError: too many are in use: 503.
        """
        whole = replace(link, path=b"")
        opened = self._opened.get(whole) or self._open(whole)
        opened.users += 1
        try:
            await opened.ready.wait()
            if opened.remote is None:
                raise opened.error or HttpError(503, "The node is closing.", "Open the page again with: shoal web")
            yield opened.remote
        finally:
            opened.users -= 1
            opened.used_at = trio.current_time()
            opened.idle.set()

    def _open(self, link: Link) -> _Opened:
        if len(self._opened) >= MAX_OPEN:
            unused = [each for each in self._opened.items() if not each[1].users]
            if not unused:
                raise HttpError(
                    503, f"{MAX_OPEN} files are being read.", "Close a player, then try again.", code="failed"
                )
            oldest, opened = min(unused, key=lambda each: each[1].used_at)
            del self._opened[oldest]
            opened.scope.cancel()
        opened = self._opened[link] = _Opened(used_at=trio.current_time())
        self._nursery.start_soon(self._hold, link, opened)
        return opened

    async def _hold(self, link: Link, opened: _Opened) -> None:
        """Keep a link open until nobody has used it for a while."""
        try:
            with opened.scope:
                async with self._node.open_remote(link, cache_bytes=CACHE_BYTES) as remote:
                    opened.remote = remote
                    opened.ready.set()
                    await self._wait_unused(opened)
        except ShoalError as error:
            opened.error = error
        except Exception:  # a bug ends this link alone
            log.exception("a bug while a link was open")
            opened.error = ShoalError(BUG["error"])
        finally:
            opened.remote = None
            if self._opened.get(link) is opened:
                del self._opened[link]
            opened.ready.set()

    async def _wait_unused(self, opened: _Opened) -> None:
        while opened.users or trio.current_time() - opened.used_at < IDLE_S:
            opened.idle = trio.Event()
            if opened.users:
                await opened.idle.wait()
            else:
                await trio.sleep_until(opened.used_at + IDLE_S)
