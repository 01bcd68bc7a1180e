"""Who announces a file, under which keys, and what the announcement says. Pure rules; docs/format.md, "Announcements".

Not all n holders announce: that would cost more than small files are worth. A holder's class is fixed by a hash; in
each class the best-ranked holders announce under the key of the class. Three keys, so that no small region of the id
space can hide a file. Each announcement also names a slice of the other holders, and together they name all of them.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence

import msgpack

from shoal.dht import (
    Contact,
    NetworkParameters,
    NodeId,
    ProtocolError,
    Reach,
    Record,
    labelled_hash,
    reach_of,
)
from shoal.erasure import FileId
from shoal.node.formats import unpack
from shoal.values import dataclass

CLASSES = 3  # keys under which a file is announced: liars would have to surround all of them
LEAST_ANNOUNCERS = 2  # of a class: one may die and the class still answers
STAND_INS_DEEP = 3  # the first announcers of a class, and twice as many that announce when they are asked to
HOLDERS_PER_ANNOUNCER = 33  # of a class; 3 classes: slices are 11 hosts apart. 12 fit in IPv6, and one is to spare,
# because an announcer does not name itself and so its slice may begin one place later than another's reckoning
PAYLOAD_VERSION = 2
MAX_PAYLOAD_BYTES = 690  # of 872: the record puts the ways to its signer in front
NAMED_RELAYS = 1  # of a named holder: its other relays are in its statement
MAX_NAMED = 64
LEAST_NAMED = 8  # of holders by one announcer, where there are so many
NAMED_TIMES = 2  # each holder is named by so many announcers; shorter records share datagrams

_HEAD_BYTES = 8  # of the payload: two arrays, the version, the head of the own shares

_class_hash = labelled_hash("announcer class")
_rank_hash = labelled_hash("announcer rank")
_key_hash = labelled_hash("announcement key")


class MalformedAnnouncement(Exception):
    """The payload of a provider record does not say what one says."""


@dataclass(frozen=True, slots=True)
class Hint:
    """A host that is said to keep a share. Nothing is believed: its shares are checked against the manifest."""

    share: int
    contact: Contact


def class_of(file_id: FileId, holder: NodeId) -> int:
    """The class of a holder, fixed for ever."""
    return int.from_bytes(_class_hash(file_id + holder), "big") % CLASSES


def class_key(file_id: FileId, number: int) -> bytes:
    """The DHT key of a class of a file. It does not tell the file's id."""
    return _key_hash(file_id + bytes([number]))


def announcers(file_id: FileId, holders: Collection[NodeId], *, deep: int = 1) -> dict[int, list[NodeId]]:
    """For each class the holders that announce under its key, best-ranked first.

    `deep`: so many times as many, that is also those who stand in when the first ones are gone.
    """
    if len(holders) <= CLASSES:
        return {number: sorted(holders) for number in range(CLASSES)}
    wanted = max(LEAST_ANNOUNCERS, -(-len(holders) // HOLDERS_PER_ANNOUNCER))
    classes = {holder: class_of(file_id, holder) for holder in holders}
    return {number: _best(file_id, number, classes)[: deep * wanted] for number in range(CLASSES)}


def _best(file_id: FileId, number: int, classes: Mapping[NodeId, int]) -> list[NodeId]:
    """All holders in the order in which they announce for a class: its own first, then the others by rank."""
    salt = file_id + bytes([number])
    return sorted(classes, key=lambda holder: (classes[holder] != number, _rank_hash(salt + holder)))


def slice_for(announcer: NodeId, order: Sequence[NodeId], holders: Sequence[Hint]) -> list[Hint]:
    """The holders an announcer names: its part of the ring of all holders, and as many after it as may fit.

    `order` lists all announcers of the file once, the same on every node; `holders` are sorted here by share.
    """
    ring = sorted(holders, key=lambda hint: (hint.share, hint.contact.node_id))
    if not ring:
        return []
    start = order.index(announcer) * len(ring) // len(order) if announcer in order else 0
    named = max(LEAST_NAMED, NAMED_TIMES * -(-len(ring) // max(len(order), 1))) if order else MAX_NAMED
    return [ring[(start + step) % len(ring)] for step in range(min(len(ring), named, MAX_NAMED))]


def pack_announcement(own_shares: Sequence[int], named: Iterable[Hint]) -> bytes:
    """The payload: version, the announcer's own share numbers, then as many named holders as fit."""
    own = bytes(own_shares)
    entries: list[bytes] = []
    room = MAX_PAYLOAD_BYTES - len(own) - _HEAD_BYTES
    for hint in named:
        entry = bytes([hint.share]) + hint.contact.node_id + _named(hint.contact).pack()
        if len(entry) + 2 > room or len(entries) == MAX_NAMED:
            break
        entries.append(entry)
        room -= len(entry) + 2
    packed: bytes = msgpack.packb([PAYLOAD_VERSION, own, entries], use_bin_type=True)
    return packed


def _named(contact: Contact) -> Reach:
    """What an announcement says of the ways to a holder that it names: one, since room is short."""
    reach = reach_of(contact)
    return Reach(reach.direct[:1], () if reach.direct else reach.relays[:NAMED_RELAYS])


def read_announcement(payload: bytes, announcer: Contact) -> list[Hint]:
    """The holders that an announcement names, the announcer itself first."""
    fields = unpack(payload, MalformedAnnouncement, most_items=MAX_NAMED)
    match fields:
        case [2, bytes(own), list(entries), *_]:
            hints = [Hint(share, announcer) for share in own]
            return hints + [_read_entry(entry) for entry in entries]
    raise MalformedAnnouncement("not an announcement of this version")


def _read_entry(entry: object) -> Hint:
    if not isinstance(entry, bytes) or len(entry) < 33:
        raise MalformedAnnouncement("a named holder is too short")
    try:
        return Hint(entry[0], Reach.unpack(entry[33:]).contact(NodeId(entry[1:33])))
    except ProtocolError as error:
        raise MalformedAnnouncement("no way leads to a named holder") from error


def hints_of(record: Record, announcer: Contact, network: NetworkParameters) -> list[Hint]:
    """The holders a verified provider record names, where one can be; none when its payload is malformed."""
    try:
        hints = read_announcement(record.announcement, announcer)
    except MalformedAnnouncement:
        return []
    return [hint for hint in hints if reach_of(hint.contact).allowed_in(network)]
