"""Deleting a file: its owner signs once, and every honest holder that hears of it drops its shares and remembers.

A deletion is for ever, since a file's id never comes back: whoever has one may pass it on, and a holder that was away
learns of it from the others' surveys. Nothing else that a peer says makes a holder drop anything.
"""

import struct

import msgpack

from shoal.dht import SignatureScheme
from shoal.erasure import FileId, Manifest
from shoal.node.channel import Delete, Done
from shoal.node.context import Context
from shoal.node.errors import Cause, NotFound, WrongKey
from shoal.node.formats import unpack
from shoal.node.holders.everyone import ask_everyone, by_node, causes_of_answers
from shoal.node.holders.search import Search
from shoal.node.results import Deleted
from shoal.values import dataclass

LABEL = b"shoal/1 delete\0"
TOMBSTONE_S = 180 * 86400  # remembered longer than any lease (90 days) with its grace (14) lasts elsewhere
MAX_BEHIND_S = 365 * 86400  # how far our clock may be behind the owner's, and not the owner's ahead of all others
DELETE_TIMEOUT_S = 20.0  # of all holders together
MAX_ISSUED = 2**40  # s since the epoch; no clock in use says more


class MalformedDeletion(Exception):
    """Bytes that are no deletion."""


@dataclass(frozen=True, slots=True)
class Deletion:
    """An owner's word that a file is to be dropped. `issued`: s since the epoch. Unchecked until `is_by_owner`."""

    file_id: FileId
    issued: int
    signature: bytes

    def pack(self) -> bytes:
        """What a holder keeps, and hands out in surveys."""
        packed: bytes = msgpack.packb([self.issued, self.signature], use_bin_type=True)
        return packed

    def remembered_until(self, now: float) -> int:
        """When a holder whose clock reads `now` may forget it: counted from the owner's clock where ours is behind.

        Else it were forgotten as soon as our clock is set right, and a holder that comes back would repair the file.
        """
        return max(int(now), min(self.issued, int(now) + MAX_BEHIND_S)) + TOMBSTONE_S

    def is_by_owner(self, manifest: Manifest, network_id: bytes, scheme: SignatureScheme) -> bool:
        """Whether the owner named in the file's manifest signed it."""
        if manifest.id != self.file_id or self.issued > MAX_ISSUED:
            return False
        return scheme.verify(manifest.owner_key, _message(network_id, self.file_id, self.issued), self.signature)


def sign_deletion(secret: bytes, scheme: SignatureScheme, network_id: bytes, file_id: FileId, now: float) -> Deletion:
    """A deletion by whoever has the owner's secret."""
    issued = int(now)
    return Deletion(file_id, issued, scheme.sign(secret, _message(network_id, file_id, issued)))


def read_deletion(packed: bytes, file_id: FileId) -> Deletion:
    """A deletion that was kept or handed on; `MalformedDeletion` when it is none."""
    fields = unpack(packed, MalformedDeletion, most_items=2)
    match fields:
        case [int(issued), bytes(signature)] if type(issued) is int and 0 <= issued <= MAX_ISSUED:
            if len(signature) == 64:
                return Deletion(file_id, issued, signature)
    raise MalformedDeletion("not a time and a signature")


def _message(network_id: bytes, file_id: FileId, issued: int) -> bytes:
    return LABEL + network_id + file_id + struct.pack(">Q", issued)


async def delete_file(context: Context, file_id: FileId, secret: bytes) -> Deleted:
    """See `Node.delete`."""
    scheme, network_id = context.env.scheme, context.network.network_id
    search = Search(context, file_id)
    unknown: NotFound | None = None
    try:
        located = await search.run(thorough=True)
        if located.manifest.owner_key != scheme.public_key(secret):
            raise WrongKey("This owner key belongs to another file, so nothing was deleted.")
        hints = located.hints
    except NotFound as error:  # deleted before, perhaps: the holders of then say so, or are still away
        hints, unknown = search.named, error
    deletion = sign_deletion(secret, scheme, network_id, file_id, context.env.wall())
    request = Delete(file_id, deletion.issued, deletion.signature)
    nodes = [contacts for contacts, _ in by_node(hints)]
    answers = await ask_everyone(
        nodes,
        lambda contact, on_busy: context.ask(contact, request, patience_s=DELETE_TIMEOUT_S, on_busy=on_busy),
        timeout_s=DELETE_TIMEOUT_S,
    )
    if unknown is not None and not any(isinstance(each, Done) for each in answers.values()):
        raise unknown
    causes = causes_of_answers(answers.values())
    del causes[Cause.MISSING]  # there is nothing left to delete
    return Deleted(
        file_id=file_id,
        confirmed=sum(isinstance(each, Done) for each in answers.values()),
        causes={cause.value: count for cause, count in causes.items()},
    )
