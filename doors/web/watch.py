"""How the node does: its status now, and one look in five minutes for the plots of a day.

The node of the door itself tells it, or the daemon of the same home where one runs.
"""

import json
import logging
import time
from collections import deque
from contextlib import suppress
from typing import Any

import trio

from shoal.doors.web.feed import Feed
from shoal.doors.web.gets import downloads_folder
from shoal.node import LocalError, Network, Node, ShoalError, UsageError, daemon_status, diagnose
from shoal.node.home.home import read_plain, write_private
from shoal.values import dataclass

log = logging.getLogger(__name__)

LOOK_S = 300.0
POINTS = 288  # of LOOK_S: a day
FRESH_S = 2.0  # a status is told again for so long: several tabs cost one look
MAX_FILE_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class Point:
    """One look. Bytes are those since the look before. None: the node does not tell."""

    at: int
    sent_bytes: int
    received_bytes: int
    stored_bytes: int | None
    peers: int


class Watch:
    """The status and the history of a node."""

    def __init__(self, node: Node, network: Network, feed: Feed) -> None:
        self._node = node
        self._network = network
        self._feed = feed
        self._file = node.home.data / "web" / "history.json"
        self._points: deque[Point] = deque(maxlen=POINTS)
        self._month = ""
        self._month_sent = self._month_received = 0
        self._counters: tuple[str, int, int] | None = None  # of which node, bytes sent, bytes received
        self._found: tuple[float, dict[str, Any]] | None = None
        self._looking = trio.Lock()

    async def status(self) -> dict[str, Any]:
        """How the node does. See docs/web.md for the fields.

        :raises ShoalError: the node is closing.
        """
        async with self._looking:
            if self._found is None or trio.current_time() - self._found[0] > FRESH_S:
                self._found = (trio.current_time(), await self._status())
            return self._found[1]

    async def _status(self) -> dict[str, Any]:
        own = await self._node.status()
        daemon = own if self._node.serving is not None else await self._daemon()
        told = daemon or own
        return {
            "version": own["version"],
            "network": own["network"],
            "home": str(self._node.home.data),
            "downloads": _downloads(),
            "serves": daemon is not None,
            "set_up": self._node.home.key_file.exists(),
            "peers": told["peers"],
            "problems": list(told.get("problems", [])),
            "node": told,
        }

    async def doctor(self) -> dict[str, Any]:
        """What is wrong with the node of this home, and what to do. A home without a running node has no findings.

        :raises ShoalError: the node is closing.
        """
        status = await self.status()
        if not status["serves"]:
            return {"serves": False, "well": True, "findings": []}
        found = diagnose(status["node"], version=status["version"])
        return {"serves": True, "well": found.is_well, "findings": [each.as_plain() for each in found.findings]}

    async def _daemon(self) -> dict[str, Any] | None:
        """The status of the daemon of this home, if one runs."""
        home = self._node.home
        if not home.daemon_file.exists():
            return None
        try:
            return await daemon_status(home, network=self._network)
        except (LocalError, UsageError):
            return None

    def history(self) -> dict[str, Any]:
        """The points of the last day, and what went through the node this month, as far as a door was open."""
        return {
            "every_s": int(LOOK_S),
            "points": [
                {
                    "at": point.at,
                    "sent_bytes": point.sent_bytes,
                    "received_bytes": point.received_bytes,
                    "stored_bytes": point.stored_bytes,
                    "peers": point.peers,
                }
                for point in self._points
            ],
            "month": {"month": self._month, "sent_bytes": self._month_sent, "received_bytes": self._month_received},
        }

    async def run(self) -> None:
        """Look now and then, until cancelled."""
        await self._node.context.env.call(self._load)
        while True:
            try:
                await self.look()
            except ShoalError as error:
                log.info("the node does not tell how it does: %s", error)
            except Exception:  # a bug in a look must not end the node
                log.exception("a bug while the door looked at the node")
            await trio.sleep(LOOK_S)

    async def look(self) -> None:
        """Take one point, and write all of them down."""
        status = await self.status()
        node, now = status["node"], self._node.context.env.wall()
        sent, received = self._since_last(str(node["node_id"]), int(node["sent_bytes"]), int(node["received_bytes"]))
        month = time.strftime("%Y-%m", time.gmtime(now))
        if month != self._month:
            self._month, self._month_sent, self._month_received = month, 0, 0
        self._month_sent += sent
        self._month_received += received
        self._points.append(Point(int(now), sent, received, node.get("used_bytes"), int(status["peers"])))
        self._feed.note("status")
        with suppress(LocalError):  # a full disk: the plots are not worth a word
            await self._node.context.env.call(self._save)

    def _since_last(self, node_id: str, sent: int, received: int) -> tuple[int, int]:
        """Bytes since the last look. A node that was started again counts from zero."""
        before, self._counters = self._counters, (node_id, sent, received)
        if before is None:
            return 0, 0
        if before[0] != node_id or sent < before[1] or received < before[2]:
            return sent, received
        return sent - before[1], received - before[2]

    def _save(self) -> None:
        fields = self.history()
        self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(self._file, json.dumps(fields).encode(), durable=False)

    def _load(self) -> None:
        with suppress(OSError, ValueError, TypeError, LookupError):
            fields = json.loads(read_plain(self._file, MAX_FILE_BYTES))
            oldest = self._node.context.env.wall() - LOOK_S * POINTS
            points = [Point(**each) for each in fields["points"]]
            month = fields["month"]
            self._month, sent, received = str(month["month"]), int(month["sent_bytes"]), int(month["received_bytes"])
            self._month_sent, self._month_received = sent, received
            self._points.extend(point for point in points if point.at >= oldest)


def _downloads() -> str | None:
    try:
        return str(downloads_folder())
    except LocalError:
        return None
