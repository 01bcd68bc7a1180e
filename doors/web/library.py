"""What this home has published and keeps, as the page shows it, and what can be done with it."""

from typing import Any

from shoal.doors.web.errors import HttpError
from shoal.doors.web.feed import Feed
from shoal.node import Checked, Link, Node

MAX_HEALTH = 10_000  # files whose last check is remembered


class Library:
    """The lists of a home, with what the last checks found. What was found is forgotten when the door closes."""

    def __init__(self, node: Node, feed: Feed) -> None:
        self._node = node
        self._feed = feed
        self._health: dict[str, dict[str, Any]] = {}

    def all(self) -> list[dict[str, Any]]:
        """All files, the latest first.

        :raises ShoalError: the list of this home cannot be read.
        """
        kept = {file.link.hash: file for file in self._node.kept()}
        found = []
        for file in reversed(self._node.published()):
            keeping = kept.pop(file.link.hash, None)
            found.append(
                {
                    "id": file.link.hash.partition(":")[2],
                    "name": file.name,
                    "size": file.size,
                    "link": str(file.link),
                    "k": file.k,
                    "n": file.n,
                    "shares": file.shares,
                    "published_at": round(file.published_at),
                    "lease_end": round(file.lease_end),
                    "deleted_at": None if file.deleted_at is None else round(file.deleted_at),
                    "kept": keeping is not None,
                    "can_grow": bool(file.width and file.width.can_grow),
                    "health": self._health.get(file.link.hash),
                }
            )
        for kept_file in reversed(kept.values()):
            found.append(
                {
                    "id": kept_file.link.hash.partition(":")[2],
                    "name": None,
                    "size": None,
                    "link": None,
                    "lease_end": round(kept_file.lease_until),
                    "deleted_at": None,
                    "kept": True,
                    "health": self._health.get(kept_file.link.hash),
                }
            )
        return found

    def _link(self, file_id: str) -> Link:
        links = [file.link for file in self._node.published()] + [file.link for file in self._node.kept()]
        for link in links:
            if link.hash.partition(":")[2] == file_id:
                return link
        raise HttpError(404, "This file is not in the list of this home.")

    def one(self, file_id: str) -> dict[str, Any]:
        """One file as `all` tells it.

        :raises HttpError: it is in no list: 404.
        """
        for each in self.all():
            if each["id"] == file_id:
                return each
        raise HttpError(404, "This file is not in the list of this home.")

    async def check(self, file_id: str) -> dict[str, Any]:
        """Ask the hosts of a file what they have of it. The errors are those of `Node.check`."""
        link = self._link(file_id)
        checked = await self._node.check(link)
        self._remember(link, checked)
        return self.one(file_id)

    async def renew(self, file_id: str) -> dict[str, Any]:
        """Have a file kept for longer. The errors are those of `Node.renew`."""
        await self._node.renew(self._link(file_id))
        self._feed.note("library")
        return self.one(file_id)

    async def keep(self, file_id: str) -> dict[str, Any]:
        """Renew a file now and regularly. The errors are those of `Node.keep`."""
        await self._node.keep(self._link(file_id))
        self._feed.note("library")
        return self.one(file_id)

    async def unkeep(self, file_id: str) -> dict[str, Any]:
        """Renew a file no more. One that this home only kept leaves the list, and is told as it was."""
        before = self.one(file_id)
        self._node.unkeep(self._link(file_id))
        self._feed.note("library")
        return {**before, "kept": False}

    async def delete(self, file_id: str) -> dict[str, Any]:
        """Have all hosts of a file drop it. The errors are those of `Node.delete`."""
        deleted = await self._node.delete(self._link(file_id))
        self._feed.note("library")
        return {"confirmed": deleted.confirmed, "complete": deleted.complete, "causes": dict(deleted.causes)}

    def _remember(self, link: Link, checked: Checked) -> None:
        if len(self._health) >= MAX_HEALTH:
            self._health.clear()
        self._health[link.hash] = {
            "checked_at": round(self._node.context.env.wall()),
            "good_shares": checked.good_shares,
            "k": checked.k,
            "n": checked.n,
            "hosts": checked.hosts,
            "survives": checked.survives,
            "readable": checked.readable,
        }
        self._feed.note("library")
