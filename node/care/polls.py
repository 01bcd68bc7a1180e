"""Polls: one datagram asks a peer which shares of some files it keeps, and one answers.

Nearly every survey hears what was heard the last time, and a connection for it costs both ends some milliseconds. So a
holder is polled first. Where its answer is not the usual one, it is asked again by survey, over the channel. Datagrams
are signed but not encrypted. So a file goes by a pseudonym, which differs from holder to holder. It tells nothing to a
reader that does not know the file's id (docs/protocol.md, "Staying alive").
"""

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import TypeAlias

from shoal.dht import Contact, NodeId, labelled_hash
from shoal.erasure import FileId
from shoal.node.context import Context
from shoal.node.environment import Environment
from shoal.node.store import ShareStore, StoreError

TOPIC = 1  # of the DHT's queries
PSEUDONYM_BYTES = 16
MAX_POLLED = 60  # files in one poll: 968 of a query's 1,024 bytes
MAX_ANSWER_BYTES = 1_024
_CLOCK_BYTES = 8

_pseudonym_hash = labelled_hash("poll pseudonym")

Shares: TypeAlias = Collection[int]
"""The numbers of the shares of one file that a peer says it keeps."""


class MalformedPoll(Exception):
    """Bytes that are neither a poll nor the answer to ours."""


def pseudonym(holder: NodeId, file_id: FileId) -> bytes:
    """What a file is called in polls of this holder."""
    return _pseudonym_hash(holder + file_id)[:PSEUDONYM_BYTES]


def pack_poll(clock: int, holder: NodeId, file_ids: Sequence[FileId]) -> bytes:
    """Ask a holder about up to 60 files. `clock`: the asker's, s since the epoch."""
    return b"".join([clock.to_bytes(_CLOCK_BYTES, "big"), *(pseudonym(holder, file_id) for file_id in file_ids)])


def unpack_poll(payload: bytes) -> tuple[int, list[bytes]]:
    """The asker's clock and the pseudonyms; MalformedPoll."""
    names = payload[_CLOCK_BYTES:]
    if not names or len(names) % PSEUDONYM_BYTES or len(names) > MAX_POLLED * PSEUDONYM_BYTES:
        raise MalformedPoll
    clock = int.from_bytes(payload[:_CLOCK_BYTES], "big")
    return clock, [names[at : at + PSEUDONYM_BYTES] for at in range(0, len(names), PSEUDONYM_BYTES)]


def pack_answer(clock: int, found: Sequence[Shares]) -> bytes:
    """Answer a poll; ends with the last file that fits. `clock`: the answerer's."""
    packed = clock.to_bytes(_CLOCK_BYTES, "big")
    for shares in found:
        item = bytes([min(len(shares), 255), *sorted(shares)[:255]])
        if len(packed) + len(item) > MAX_ANSWER_BYTES:
            break
        packed += item
    return packed


def unpack_answer(payload: bytes, asked: int) -> tuple[int, list[Shares]]:
    """The answerer's clock, and what it keeps of the first of the `asked` files; MalformedPoll."""
    if len(payload) < _CLOCK_BYTES:
        raise MalformedPoll
    found: list[Shares] = []
    at = _CLOCK_BYTES
    while at < len(payload):
        shares = payload[at + 1 : at + 1 + payload[at]]
        if len(shares) < payload[at] or len(found) == asked:
            raise MalformedPoll
        found.append(frozenset(shares))
        at += 1 + len(shares)
    return int.from_bytes(payload[:_CLOCK_BYTES], "big"), found


async def poll(context: Context, contact: Contact, file_ids: Sequence[FileId]) -> tuple[int, list[Shares]]:
    """A peer's clock and what it keeps of up to 60 files. `shoal.dht.QueryError`, MalformedPoll."""
    question = pack_poll(max(0, int(context.env.wall())), contact.node_id, file_ids)
    return unpack_answer(await context.dht.query(contact, TOPIC, question), len(file_ids))


Kept: TypeAlias = Callable[[Sequence[FileId]], Awaitable[Sequence[Shares]]]
"""Looks up which shares of each file are kept here."""


class Polls:
    """Answers the polls of others. `on_poll(caller, its clock, files)` is told of every file polled that we keep."""

    def __init__(
        self,
        env: Environment,
        me: NodeId,
        store: ShareStore,
        on_poll: Callable[[NodeId, int, Collection[FileId]], None],
    ) -> None:
        self._env = env
        self._me = me
        self._store = store
        self._on_poll = on_poll
        self._files: dict[bytes, FileId] = {}  # by pseudonym
        self.wall = env.wall  # what our answers give as the time
        self.kept: Kept = self._look_up  # a simulation may put another in its place: so a machine lies

    def keep(self, file_id: FileId) -> None:
        """Something of this file is kept here."""
        self._files[pseudonym(self._me, file_id)] = file_id

    def forget(self, file_id: FileId) -> None:
        """Nothing of it is, any more."""
        self._files.pop(pseudonym(self._me, file_id), None)

    async def answer(self, caller: Contact, payload: bytes) -> bytes | None:
        """Answer one poll; None where it is none, or our disk fails."""
        try:
            clock, names = unpack_poll(payload)
        except MalformedPoll:
            return None
        known = {name: self._files[name] for name in names if name in self._files}
        try:
            kept = await self.kept(list(known.values())) if known else []
        except StoreError:
            return None
        shares = dict(zip(known, kept, strict=True))
        self._on_poll(caller.node_id, clock, known.values())
        return pack_answer(max(0, int(self.wall())), [shares.get(name, ()) for name in names])

    async def _look_up(self, file_ids: Sequence[FileId]) -> list[Shares]:
        return await self._env.call(lambda: [self._shares(file_id) for file_id in file_ids])

    def _shares(self, file_id: FileId) -> Shares:
        return [held.share_number for held in self._store.held(file_id)]
