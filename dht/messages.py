"""The messages inside the envelope: typed values, one encoder and one decoder.

Every message is a msgpack array. A request is
    [kind, request id, cookie, flags, padding, *fields]
and a reply
    [kind + 128, request id, cookie for the requester, flags, address the request came from, space class,
    *fields]
Only non-negative integers, byte strings and arrays occur. Elements after those known are ignored, so that
fields can be added; numbers are never reused. `docs/dht.md` describes every field and changes together with
this module.
"""

from collections.abc import Sequence
from enum import IntEnum
from typing import Any, ClassVar

import msgpack

from shoal.dht.address import PACKED_V6_BYTES, Address
from shoal.dht.contact import MAX_SPACE_CLASS, Contact
from shoal.dht.errors import ProtocolError
from shoal.dht.hashing import HASH_BYTES
from shoal.dht.records import MAX_RECORD_BYTES, MAX_RECORDS_PER_KEY, MIN_RECORD_BYTES, TAG_BYTES
from shoal.dht.wire import ENVELOPE_BYTES, MAX_BODY_BYTES, MAX_DATAGRAM_BYTES
from shoal.values import dataclass

REQUEST_ID_BYTES = 16  # guessing one to forge a reply takes 2**127 tries on average
COOKIE_BYTES = 16

REPLY_BIT = 0x80
MAX_KIND = 0x7F

MAX_CONTACTS = 20  # in one reply: K, as many IPv6 contacts as fit a datagram beside the reply's head
MAX_STORES = 16  # records in one request; the datagram's size allows six of the smallest
MAX_ELEMENTS = 128  # of any array, now and later
MAX_QUERY_BYTES = 1_024  # payload of a query, and of its answer

# Every request is at least this long, so that a pong or "unsupported" (at most 180 bytes) never is the longer
# one.
MIN_REQUEST_BYTES = 192

# Bytes of a reply before its fields, at most: envelope, array head 1, kind 2, request id 18, cookie 18, flags
# 1, observed address 20, space class 1.
_REPLY_HEAD_BYTES = ENVELOPE_BYTES + 41 + 2 + PACKED_V6_BYTES
assert _REPLY_HEAD_BYTES + 8 <= MIN_REQUEST_BYTES, "the shortest replies must fit the shortest request"

# Body of a store request before its records: array head 1, kind 1, request id 18, cookie 18, flags 1, no
# padding 2, head of the list 3.
_STORE_HEAD_BYTES = 44
assert _STORE_HEAD_BYTES + 3 + MAX_RECORD_BYTES <= MAX_BODY_BYTES, "the longest record must fit"

_ANSWER_OVERHEAD_BYTES = 4  # status 1, msgpack head of the payload 3
assert _REPLY_HEAD_BYTES + _ANSWER_OVERHEAD_BYTES + MAX_QUERY_BYTES <= MAX_DATAGRAM_BYTES, "the longest answer must fit"

_CONTACT_OVERHEAD_BYTES = 2  # msgpack head of a byte string shorter than 256
_RECORD_OVERHEAD_BYTES = 3  # msgpack head of a byte string shorter than 65,536
_LIST_OVERHEAD_BYTES = 3  # msgpack head of an array of up to 65,535


class Kind(IntEnum):
    """Numbers of the requests; the reply to each has 128 added. Never reused."""

    PING = 1
    FIND_NODE = 2
    GET_RECORDS = 3
    STORE = 4
    QUERY = 5
    UNSUPPORTED = 127  # only as a reply


class StoreStatus(IntEnum):
    """What became of one record of a store request. A number unknown to the reader means "not stored"."""

    STORED = 0
    STALE = 1  # a record with a higher sequence is held
    CONFLICT = 2  # another record with the same sequence is held
    FULL = 3  # a limit per key, per source, per prefix or in total
    INVALID = 4  # malformed, badly signed, or its signer's id lacks the proof of work
    NOT_YOURS = 5  # a provider record from somebody else, or from another address than the one inside it
    NO_COOKIE = 6  # the request carried no valid cookie; the reply carries one
    NOT_SERVED = 7  # a kind of record this node does not keep


class QueryStatus(IntEnum):
    """What became of a query. A number unknown to the reader means "not answered"."""

    ANSWERED = 0
    NO_COOKIE = 1  # the request carried no valid cookie, and is too short or comes amid many; the reply carries one
    NOT_SERVED = 2  # a topic that this node knows nothing of, or a question it does not understand


@dataclass(frozen=True, slots=True)
class Ping:
    """Are you there, and who are you (kind 1)?"""

    kind: ClassVar[int] = Kind.PING


@dataclass(frozen=True, slots=True)
class FindNode:
    """Ask for the K contacts closest to `target`, 32 bytes (kind 2; Kademlia, FIND_NODE)."""

    target: bytes
    kind: ClassVar[int] = Kind.FIND_NODE


@dataclass(frozen=True, slots=True)
class GetRecords:
    """Ask for the records under (record kind, key) (kind 3; Kademlia, FIND_VALUE).

    have: tags (8 bytes) of records that the asker already holds. They are not sent again, so a long answer can be read
    page by page. want_contacts: also send the contacts closest to the key.
    """

    record_kind: int
    key: bytes
    have: tuple[bytes, ...] = ()
    want_contacts: bool = True
    kind: ClassVar[int] = Kind.GET_RECORDS


@dataclass(frozen=True, slots=True)
class Store:
    """Keep these encoded records (kind 4; Kademlia, STORE). Needs a valid cookie."""

    records: tuple[bytes, ...]
    kind: ClassVar[int] = Kind.STORE


@dataclass(frozen=True, slots=True)
class Query:
    """A small question of the layer above (kind 5). topic: u8.    payload: at most 1,024 bytes, signed, not secret."""

    topic: int
    payload: bytes
    kind: ClassVar[int] = Kind.QUERY


@dataclass(frozen=True, slots=True)
class Unknown:
    """A well-formed request of a kind we do not know: to be answered `Unsupported`."""

    kind: int


@dataclass(frozen=True, slots=True)
class Pong:
    """I am (reply to kind 1)."""

    kind: ClassVar[int] = Kind.PING


@dataclass(frozen=True, slots=True)
class Nodes:
    """Verified contacts, nearest to the target first (reply to kind 2)."""

    contacts: tuple[Contact, ...]
    kind: ClassVar[int] = Kind.FIND_NODE


@dataclass(frozen=True, slots=True)
class Records:
    """Encoded records the asker lacks, as many as fit (reply to kind 3).

    remaining: how many more there are.    contacts: verified contacts closest to the key, when asked for.
    """

    contacts: tuple[Contact, ...]
    records: tuple[bytes, ...]
    remaining: int
    kind: ClassVar[int] = Kind.GET_RECORDS


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of each record, in the order of the request (reply to kind 4): `StoreStatus` numbers."""

    statuses: tuple[int, ...]
    kind: ClassVar[int] = Kind.STORE


@dataclass(frozen=True, slots=True)
class Answered:
    """What became of a query (reply to kind 5): a `QueryStatus` number, and the answer, empty unless it is 0."""

    status: int
    payload: bytes
    kind: ClassVar[int] = Kind.QUERY


@dataclass(frozen=True, slots=True)
class Unsupported:
    """The request's kind is not known here (reply to any kind). unsupported_kind: that kind."""

    unsupported_kind: int
    kind: ClassVar[int] = Kind.UNSUPPORTED


KnownRequest = Ping | FindNode | GetRecords | Store | Query
Request = KnownRequest | Unknown
Reply = Pong | Nodes | Records | Stored | Answered | Unsupported


@dataclass(frozen=True, slots=True)
class Frame:
    """A body whose common head is well formed; the rest is looked at only after the signature.

    kind: without the reply bit.    request_id: 16 bytes.    cookie: 16 bytes or empty.    flags: bits,
    unknown ones ignored.    elements: the whole array.
    """

    kind: int
    is_reply: bool
    request_id: bytes
    cookie: bytes
    flags: int
    elements: tuple[Any, ...]

    @property
    def is_serving(self) -> bool:
        """Request: the sender answers requests itself and wants to be known."""
        return bool(self.flags & _SERVING)

    @property
    def is_addressed(self) -> bool:
        """Request: signed for the receiver's id. False is allowed for a ping only."""
        return bool(self.flags & _ADDRESSED)

    @property
    def is_validated(self) -> bool:
        """Reply: the request carried a valid cookie, so nothing was cut off for its sake."""
        return bool(self.flags & _VALIDATED)


_SERVING = 1  # request flags
_ADDRESSED = 2
_VALIDATED = 1  # reply flags


@dataclass(frozen=True, slots=True)
class ReplyHead:
    """What every reply says beside its fields.

    cookie: 16 bytes, proves our address to this peer later.    validated: our request's cookie was good.
    observed: the address our request came from, as the peer saw it.    space: the peer's space class.
    """

    cookie: bytes
    validated: bool
    observed: Address
    space: int


def encode_request(
    request: KnownRequest,
    request_id: bytes,
    cookie: bytes,
    *,
    serving: bool,
    addressed: bool,
) -> bytes:
    """The body of a request, padded as the rule against amplification demands.

    With a cookie the reply may be of any size, so a request is only filled up to the common minimum. Without one,
    requests for lists are filled up to a whole datagram, because the answer will not be longer than the request.
    """
    flags = (_SERVING if serving else 0) | (_ADDRESSED if addressed else 0)
    fields = _request_fields(request)
    bare = _pack([request.kind, request_id, cookie, flags, b"", *fields])
    asks_for_lists = isinstance(request, FindNode | GetRecords)
    wanted = MAX_BODY_BYTES if asks_for_lists and not cookie else MIN_REQUEST_BYTES - ENVELOPE_BYTES
    missing = wanted - len(bare)
    if missing <= 0:
        return bare
    padding = bytes(missing - 1 if missing > 255 else missing)  # the head of a longer byte string is longer by one
    return _pack([request.kind, request_id, cookie, flags, padding, *fields])


def encode_reply(reply: Reply, request_id: bytes, head: ReplyHead) -> bytes:
    """The body of a reply. The caller has cut the lists to size with `nodes_within` or `records_within`."""
    flags = _VALIDATED if head.validated else 0
    common = [reply.kind | REPLY_BIT, request_id, head.cookie, flags, head.observed.pack(), head.space]
    return _pack([*common, *_reply_fields(reply)])


def nodes_within(limit: int, contacts: Sequence[Contact]) -> Nodes:
    """A `Nodes` reply whose whole datagram has at most `limit` bytes: the first contacts that fit."""
    room = limit - _REPLY_HEAD_BYTES - _LIST_OVERHEAD_BYTES
    return Nodes(_contacts_within(room, contacts)[0])


def records_within(limit: int, contacts: Sequence[Contact], records: Sequence[bytes]) -> Records:
    """A `Records` reply of at most `limit` bytes: contacts first (they are the way on), then records that
    fit.
    """
    room = limit - _REPLY_HEAD_BYTES - 2 * _LIST_OVERHEAD_BYTES - 1
    sent_contacts, room = _contacts_within(room, contacts)
    sent: list[bytes] = []
    for record in records:
        cost = len(record) + _RECORD_OVERHEAD_BYTES
        if cost <= room:
            sent.append(record)
            room -= cost
    return Records(sent_contacts, tuple(sent), len(records) - len(sent))


def answer_within(limit: int, payload: bytes) -> Answered:
    """The answer if its whole datagram has at most `limit` bytes, else the demand for a cookie."""
    if _REPLY_HEAD_BYTES + _ANSWER_OVERHEAD_BYTES + len(payload) <= limit:
        return Answered(QueryStatus.ANSWERED, payload)
    return Answered(QueryStatus.NO_COOKIE, b"")


def stores_within(records: Sequence[bytes]) -> int:
    """How many of the first `records` fit one store request with its cookie: at least one if there are
    any.
    """
    room = MAX_BODY_BYTES - _STORE_HEAD_BYTES
    for count, record in enumerate(records[:MAX_STORES]):
        room -= len(record) + _RECORD_OVERHEAD_BYTES
        if room < 0:
            return max(count, 1)
    return min(len(records), MAX_STORES)


def decode_frame(body: bytes) -> Frame:
    """Check the array and its common head. Raises ProtocolError, whatever the bytes are."""
    elements = _unpack(body)
    if len(elements) < 5:
        raise ProtocolError("a message with too few elements")
    kind = _integer(elements[0], MAX_KIND | REPLY_BIT)
    request_id = _exact(elements[1], REQUEST_ID_BYTES)
    cookie = elements[2]
    if cookie != b"":
        cookie = _exact(cookie, COOKIE_BYTES)
    flags = _integer(elements[3], 0xFF)
    return Frame(kind & MAX_KIND, bool(kind & REPLY_BIT), request_id, cookie, flags, elements)


def decode_request(frame: Frame) -> Request:
    """The request in a frame. Raises ProtocolError."""
    _padding(frame.elements[4])
    fields = frame.elements[5:]
    if frame.kind == Kind.PING:
        return Ping()
    if frame.kind == Kind.FIND_NODE:
        (target,) = _take(fields, 1)
        return FindNode(_exact(target, HASH_BYTES))
    if frame.kind == Kind.GET_RECORDS:
        record_kind, key, have, want_contacts = _take(fields, 4)
        tags = tuple(_exact(tag, TAG_BYTES) for tag in _list(have, MAX_RECORDS_PER_KEY))
        return GetRecords(_integer(record_kind, 0xFF), _exact(key, HASH_BYTES), tags, bool(_integer(want_contacts, 1)))
    if frame.kind == Kind.STORE:
        (records,) = _take(fields, 1)
        return Store(_record_list(records, MAX_STORES))
    if frame.kind == Kind.QUERY:
        topic, payload = _take(fields, 2)
        return Query(_integer(topic, 0xFF), _bytes(payload, MAX_QUERY_BYTES))
    return Unknown(frame.kind)


def decode_reply(frame: Frame) -> tuple[ReplyHead, Reply]:
    """The reply in a frame and what it says beside. Raises ProtocolError."""
    observed, space, *fields = _take(frame.elements[4:], 2, rest=True)
    head = ReplyHead(
        cookie=_exact(frame.cookie, COOKIE_BYTES),
        validated=frame.is_validated,
        observed=Address.unpack(_bytes(observed, PACKED_V6_BYTES)),
        space=_integer(space, MAX_SPACE_CLASS),
    )
    return head, _decode_reply_fields(frame.kind, fields)


def _decode_reply_fields(kind: int, fields: Sequence[Any]) -> Reply:
    if kind == Kind.PING:
        return Pong()
    if kind == Kind.FIND_NODE:
        (contacts,) = _take(fields, 1)
        return Nodes(_contact_list(contacts))
    if kind == Kind.GET_RECORDS:
        contacts, records, remaining = _take(fields, 3)
        return Records(
            _contact_list(contacts),
            _record_list(records, MAX_STORES),
            _integer(remaining, MAX_RECORDS_PER_KEY),
        )
    if kind == Kind.STORE:
        (statuses,) = _take(fields, 1)
        return Stored(tuple(_integer(status, 0xFF) for status in _list(statuses, MAX_STORES)))
    if kind == Kind.QUERY:
        status, payload = _take(fields, 2)
        return Answered(_integer(status, 0xFF), _bytes(payload, MAX_QUERY_BYTES))
    if kind == Kind.UNSUPPORTED:
        (unsupported,) = _take(fields, 1)
        return Unsupported(_integer(unsupported, MAX_KIND))
    raise ProtocolError(f"a reply of unknown kind {kind}")


def _request_fields(request: KnownRequest) -> list[Any]:
    match request:
        case Ping():
            return []
        case FindNode(target):
            return [target]
        case GetRecords(record_kind, key, have, want_contacts):
            return [record_kind, key, list(have), int(want_contacts)]
        case Store(records):
            return [list(records)]
        case Query(topic, payload):
            return [topic, payload]


def _reply_fields(reply: Reply) -> list[Any]:
    match reply:
        case Pong():
            return []
        case Nodes(contacts):
            return [[contact.pack() for contact in contacts]]
        case Records(contacts, records, remaining):
            return [[contact.pack() for contact in contacts], list(records), remaining]
        case Stored(statuses):
            return [list(statuses)]
        case Answered(status, payload):
            return [status, payload]
        case Unsupported(unsupported_kind):
            return [unsupported_kind]


def _contacts_within(room: int, contacts: Sequence[Contact]) -> tuple[tuple[Contact, ...], int]:
    sent: list[Contact] = []
    for contact in contacts[:MAX_CONTACTS]:
        cost = contact.packed_bytes + _CONTACT_OVERHEAD_BYTES
        if cost > room:
            break
        sent.append(contact)
        room -= cost
    return tuple(sent), room


def _pack(elements: list[Any]) -> bytes:
    packed: bytes = msgpack.packb(elements, use_bin_type=True)
    return packed


def _unpack(body: bytes) -> tuple[Any, ...]:
    """One array with the limits set before parsing: no strings, maps or extension types."""
    try:
        value = msgpack.unpackb(
            body,
            use_list=False,
            raw=True,
            max_array_len=MAX_ELEMENTS,
            max_bin_len=MAX_DATAGRAM_BYTES,
            max_str_len=0,
            max_map_len=0,
            max_ext_len=0,
        )
    except MemoryError:
        raise  # no fault of the bytes
    except Exception as error:  # a stranger's bytes must not reach what the parser raises
        raise ProtocolError("not a msgpack array within the limits") from error
    if not isinstance(value, tuple):
        raise ProtocolError("not a msgpack array")
    return value


def _take(fields: Sequence[Any], count: int, *, rest: bool = False) -> Sequence[Any]:
    """The first `count` fields; those after them are ignored unless `rest` asks for them."""
    if len(fields) < count:
        raise ProtocolError("a message with too few fields")
    return fields if rest else fields[:count]


def _integer(value: object, maximum: int) -> int:
    if type(value) is not int or not 0 <= value <= maximum:
        raise ProtocolError(f"not an integer between 0 and {maximum}")
    return value


def _bytes(value: object, maximum: int) -> bytes:
    if not isinstance(value, bytes) or len(value) > maximum:
        raise ProtocolError(f"not a byte string of at most {maximum} bytes")
    return value


def _exact(value: object, length: int) -> bytes:
    if not isinstance(value, bytes) or len(value) != length:
        raise ProtocolError(f"not a byte string of {length} bytes")
    return value


def _padding(value: object) -> None:
    _bytes(value, MAX_DATAGRAM_BYTES)


def _list(value: object, maximum: int) -> tuple[Any, ...]:
    if not isinstance(value, tuple) or len(value) > maximum:
        raise ProtocolError(f"not an array of at most {maximum}")
    return value


def _contact_list(value: object) -> tuple[Contact, ...]:
    return tuple(Contact.unpack(_bytes(packed, 64)) for packed in _list(value, MAX_CONTACTS))


def _record_list(value: object, maximum: int) -> tuple[bytes, ...]:
    """Encoded records by length only; each is decoded on its own, so that a bad one spoils no other."""
    records = tuple(_bytes(record, MAX_RECORD_BYTES) for record in _list(value, maximum))
    if any(len(record) < MIN_RECORD_BYTES for record in records):
        raise ProtocolError("a record that is too short")
    return records
