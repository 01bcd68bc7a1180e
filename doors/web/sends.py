"""Sends: what a browser uploads to this machine, to be published from here.

receiving -> waiting -> publishing -> done, or failed. All but the bytes under way outlives the door: one that is opened
again goes on where the last one stopped.
"""

import logging
from collections.abc import Sequence
from dataclasses import field
from enum import StrEnum
from typing import Any

import trio

from shoal.doors.web.errors import BUG, HttpError, error_fields
from shoal.doors.web.feed import Feed
from shoal.doors.web.http import Body
from shoal.doors.web.pace import ShownProgress
from shoal.doors.web.spool import SendEntry, Spool, SpoolFolder, check_entries, no_room
from shoal.node import Node, Progress, Published, ShoalError, UsageError
from shoal.values import dataclass

log = logging.getLogger(__name__)

MAX_SENDS = 200  # those that are done are forgotten first
MAX_ENTRIES_IN_ALL = 250_000  # of sends that are not done: some 250 bytes of memory each
PUBLISHES_AT_ONCE = 2
PUTS_AT_ONCE = 16  # each holds BATCH_BYTES and what is read of its connection
BATCH_BYTES = 512 * 1024  # written at once
NOTICE_S = 0.25  # between two events of one send
ID_BYTES = 8


class SendPhase(StrEnum):
    """Where a send stands."""

    RECEIVING = "receiving"
    WAITING = "waiting"
    PUBLISHING = "publishing"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Choices:
    """How to publish. None leaves it to the library."""

    lease_days: int | None = None
    needed: int | None = None
    total: int | None = None
    public: bool = False

    def options(self) -> dict[str, Any]:
        """Arguments of `Node.publish`."""
        lease = {} if self.lease_days is None else {"ttl_s": self.lease_days * 86_400}
        return {"needed": self.needed, "total": self.total, "public": self.public, **lease}


@dataclass
class Send:
    """One send. `received`: bytes of each entry. `outcome`: further fields once it is done or has failed.

    files, size: of all entries together. The entries themselves are forgotten with the bytes.
    """

    id: str
    name: str
    folder: bool
    created: float
    entries: Sequence[SendEntry]
    spool: SpoolFolder
    files: int
    size: int
    phase: SendPhase = SendPhase.RECEIVING
    choices: Choices = field(default_factory=Choices)
    outcome: dict[str, Any] = field(default_factory=dict)
    received: list[int] = field(default_factory=list)
    received_bytes: int = 0
    pace: ShownProgress = field(default_factory=ShownProgress)
    scope: trio.CancelScope | None = None
    is_gone: bool = False
    writers: dict[int, trio.CancelScope] = field(default_factory=dict)
    told_at: float = 0.0

    @property
    def has_content(self) -> bool:
        """Whether its bytes are, or are to be, on this machine's disk."""
        return self.phase is not SendPhase.DONE or self.outcome.get("can_complete") is True

    def summary(self) -> dict[str, Any]:
        """What the list and the events tell."""
        return {
            "id": self.id,
            "name": self.name,
            "folder": self.folder,
            "created": round(self.created),
            "files": self.files,
            "size": self.size,
            "phase": self.phase.value,
            "lease_days": self.choices.lease_days,
            "received_bytes": self.received_bytes,
            "progress": self.pace.fields() if self.phase is SendPhase.PUBLISHING else None,
            **self.outcome,
        }

    def state(self) -> dict[str, Any]:
        """What is told of one."""
        return {**self.summary(), "received": self.received}

    def stored(self) -> dict[str, Any]:
        """What outlives the door."""
        choices = self.choices
        return {
            "name": self.name,
            "folder": self.folder,
            "created": self.created,
            "files": self.files,
            "size": self.size,
            "phase": self.phase.value,
            "choices": [choices.lease_days, choices.needed, choices.total, choices.public],
            "outcome": self.outcome,
        }


class Sends:
    """All sends of a home. Its tasks live in the door's nursery."""

    def __init__(self, node: Node, feed: Feed, nursery: trio.Nursery) -> None:
        self._node = node
        self._env = node.context.env
        self._feed = feed
        self._nursery = nursery
        self._spool = Spool(node.home.data / "web" / "sends")
        self._sends: dict[str, Send] = {}
        self._puts = trio.CapacityLimiter(PUTS_AT_ONCE)
        self._publishes = trio.CapacityLimiter(PUBLISHES_AT_ONCE)

    async def load(self) -> None:
        """Take up what an earlier door has left, and go on with it."""
        for send_id, state, entries in await self._env.call(self._spool.load):
            spool = self._spool.folder(send_id, state["name"], is_folder=state["folder"])
            try:
                send = _restored(send_id, state, entries, spool)
            except (ValueError, TypeError, LookupError):  # no state of ours
                await self._env.call(spool.remove)
                continue
            if not send.has_content:
                await self._forget_content(send)
            await self._env.call(_count, send)
            self._sends[send_id] = send
            if send.phase is SendPhase.WAITING:
                self._nursery.start_soon(self._publish, send)

    def all(self) -> list[Send]:
        """All of them, the latest last."""
        return sorted(self._sends.values(), key=lambda send: send.created)

    def find(self, send_id: str) -> Send | None:
        """One of them, if it is still there."""
        return self._sends.get(send_id)

    def get(self, send_id: str) -> Send:
        """One of them.

        :raises HttpError: there is none of this id: 404.
        """
        if send_id not in self._sends:
            raise HttpError(404, "There is no such send. It was cancelled, or it is long done.", "Send it again.")
        return self._sends[send_id]

    async def create(self, name: str, folder: bool, entries: Sequence[SendEntry]) -> Send:
        """A new send, which waits for its bytes.

        :raises ShoalError: a name cannot be published, or the disk has no room.
        :raises HttpError: there are too many: 409.
        """
        await self._env.call(check_entries, name, folder, entries)
        await self._make_way(len(entries))
        size = sum(entry.size for entry in entries)
        free = await self._env.call(self._spool.free_bytes)
        free -= sum(send.size - send.received_bytes for send in self._sends.values() if send.has_content)
        if size > free:
            raise no_room(size, max(0, free))
        send_id = self._env.entropy(ID_BYTES).hex()
        spool = self._spool.folder(send_id, name, is_folder=folder)
        files = sum(not entry.directory for entry in entries)
        send = Send(send_id, name, folder, self._env.wall(), tuple(entries), spool, files, size)
        send.received = [0] * len(entries)
        self._sends[send_id] = send
        try:
            await self._env.call(spool.make, entries)
            await self._save(send)
        except BaseException:
            del self._sends[send_id]
            with trio.CancelScope(shield=True):  # blocking work alone, which ends
                await self._env.call(spool.remove)
            raise
        self._tell(send)
        return send

    async def _make_way(self, entries: int) -> None:
        known = sum(len(send.entries) for send in self._sends.values())
        if known + entries > MAX_ENTRIES_IN_ALL:
            raise HttpError(
                409,
                f"Sends that are not done have {known} files and folders, and this one {entries} more.",
                "Wait until some are done, or cancel some.",
                code="failed",
            )
        if len(self._sends) < MAX_SENDS:
            return
        done = [send for send in self.all() if not send.has_content]
        if not done:
            raise HttpError(
                409,
                f"There are {MAX_SENDS} sends that are not done.",
                "Cancel some that you do not need.",
                code="failed",
            )
        await self.remove(done[0])

    async def receive(self, send: Send, number: int, offset: int, body: Body, length: int) -> int:
        """Add a body to one file of a send; how many bytes of it there are then. `length`: of the body, 0 if unknown.

        :raises HttpError: the file does not end at this offset: 409. The body has too much: 413.
        :raises ShoalError: the disk refuses.
        """
        if not 0 <= number < len(send.entries) or send.entries[number].directory:
            raise HttpError(404, "This send has no such file.")
        if offset + length > send.entries[number].size:
            raise _too_long(send.entries[number])
        await self._end_older(send, number)
        self.get(send.id)  # it may have been cancelled meanwhile
        if send.phase is not SendPhase.RECEIVING:
            raise HttpError(409, "This send takes no bytes any more.", more={"received": send.received[number]})
        scope = send.writers[number] = trio.CancelScope()
        try:
            with scope:
                async with self._puts:
                    await self._append(send, number, offset, body)
        finally:
            if send.writers.get(number) is scope:
                del send.writers[number]
        if scope.cancelled_caught:
            raise HttpError(409, "Another request sends this file now.", more={"received": send.received[number]})
        self._tell(send)
        return send.received[number]

    async def _end_older(self, send: Send, number: int) -> None:
        """End an earlier request for the same file: its connection was cut, and nobody has noticed yet."""
        while number in send.writers:
            send.writers[number].cancel()
            await trio.sleep(0.01)

    async def _append(self, send: Send, number: int, offset: int, body: Body) -> None:
        entry = send.entries[number]
        incoming = await self._env.call(send.spool.open, entry)
        try:
            there = incoming.size()
            self._note_received(send, number, there)
            if there != offset:
                raise HttpError(409, f"{there} bytes of this file are here.", more={"received": there})
            batch = bytearray()
            while True:
                piece = await body.chunk()
                batch += piece
                if there + len(batch) > entry.size:
                    raise _too_long(entry)
                if batch and (not piece or len(batch) >= BATCH_BYTES):
                    await self._env.call(incoming.write, bytes(batch))
                    there += len(batch)
                    batch.clear()
                    self._note_received(send, number, there)
                    self._tell(send, at_most_every_s=NOTICE_S)
                if not piece:
                    return
        finally:
            incoming.close()

    def _note_received(self, send: Send, number: int, there: int) -> None:
        send.received_bytes += there - send.received[number]
        send.received[number] = there

    async def start(self, send: Send, choices: Choices) -> None:
        """Publish a send whose bytes are all there. One that failed, or reached too few hosts, is tried again.

        :raises HttpError: bytes are missing, or it is being published: 409.
        """
        can_start = send.phase in (SendPhase.RECEIVING, SendPhase.FAILED) or (
            send.phase is SendPhase.DONE and send.has_content
        )
        if not can_start:
            raise HttpError(409, f"This send is {send.phase.value}.")
        missing = send.size - send.received_bytes
        if missing or send.writers:
            raise HttpError(409, f"{missing} bytes of this send have not come yet.", "Send them first.")
        before = send.phase, send.choices, send.outcome
        send.phase, send.choices, send.outcome = SendPhase.WAITING, choices, {}
        try:
            await self._save(send)
        except BaseException:  # also where the client went away: nobody else would start it
            send.phase, send.choices, send.outcome = before
            raise
        self._tell(send)
        self._nursery.start_soon(self._publish, send)

    async def _publish(self, send: Send) -> None:
        """Publish one send; its failure is told in its state."""
        send.scope = trio.CancelScope(deadline=-float("inf") if send.is_gone else float("inf"))
        with send.scope:
            try:
                async with self._publishes:
                    send.phase, send.pace = SendPhase.PUBLISHING, ShownProgress()
                    self._tell(send)
                    await self._env.call(send.spool.finish, send.entries)
                    done = await self._node.publish(
                        send.spool.content,
                        **send.choices.options(),
                        on_progress=lambda moment: self._moment(send, moment),
                    )
                    send.phase, send.outcome = SendPhase.DONE, _outcome(done)
            except ShoalError as error:
                send.phase, send.outcome = SendPhase.FAILED, {"error": error_fields(error)}
            except Exception:
                log.exception("a bug while a send was published")
                send.phase, send.outcome = SendPhase.FAILED, {"error": BUG}
            await self._end(send)
        send.scope = None

    async def _end(self, send: Send) -> None:
        """Write down what came of it, and let go of its bytes if they are not needed any more."""
        try:
            with trio.CancelScope(shield=True):  # or a door that is opened again would publish it once more
                await self._save(send)
        except ShoalError as error:
            log.error("%s The link is in the list of this home all the same.", error)
        if not send.has_content:
            await self._forget_content(send)
        self._tell(send)
        self._feed.note("library")

    async def _forget_content(self, send: Send) -> None:
        send.entries, send.received = (), []
        await self._env.call(send.spool.remove_content)

    def _moment(self, send: Send, progress: Progress) -> None:
        is_new = send.pace.add(progress, trio.current_time())
        self._tell(send, at_most_every_s=0.0 if is_new else NOTICE_S)

    async def remove(self, send: Send) -> None:
        """Cancel a send, or forget one that is done. Its bytes on this machine go."""
        send.is_gone = True
        self._sends.pop(send.id, None)
        for scope in [*send.writers.values(), *([send.scope] if send.scope is not None else [])]:
            scope.cancel()
        while send.writers or send.scope is not None:  # noqa: ASYNC110 - they end within moments
            await trio.sleep(0.01)
        await self._env.call(send.spool.remove)
        self._feed.note("gone", f"send/{send.id}")

    async def _save(self, send: Send) -> None:
        if not send.is_gone:
            await self._env.call(send.spool.write_state, send.stored())

    def _tell(self, send: Send, *, at_most_every_s: float = 0.0) -> None:
        now = trio.current_time()
        if now - send.told_at >= at_most_every_s:
            send.told_at = now
            self._feed.note("send", send.id)


def _too_long(entry: SendEntry) -> HttpError:
    return HttpError(413, f"This file was announced with {entry.size} bytes, and has more.", "Send it again.")


def _restored(send_id: str, state: dict[str, Any], entries: Sequence[SendEntry], spool: SpoolFolder) -> Send:
    """A send that an earlier door has written down. What that one was publishing waits for its turn again."""
    files, size = int(state["files"]), int(state["size"])
    send = Send(send_id, state["name"], state["folder"], float(state["created"]), entries, spool, files, size)
    phase = SendPhase(state["phase"])
    send.phase = SendPhase.WAITING if phase is SendPhase.PUBLISHING else phase
    send.choices, send.outcome = Choices(*state["choices"]), dict(state["outcome"])
    return send


def _count(send: Send) -> None:
    send.received = [0 if entry.directory else send.spool.received(entry) for entry in send.entries]
    send.received_bytes = sum(send.received) if send.has_content else send.size


def _outcome(done: Published) -> dict[str, Any]:
    return {
        "link": str(done.link),
        "hash": done.link.hash,
        "k": done.k,
        "n": done.n,
        "shares": done.shares,
        "hosts": done.hosts,
        "survives": max(0, done.survives),
        "kept_until": round(done.lease_until),
        "complete": done.complete,
        "can_complete": not done.complete and done.can_complete and not done.narrowed,
    }


def check_choices(choices: Choices) -> None:
    """UsageError for a code that is none, before a send waits for it."""
    if choices.needed is not None and choices.total is not None and choices.needed > choices.total:
        raise UsageError(f"{choices.needed} shares cannot be needed of {choices.total}.")
