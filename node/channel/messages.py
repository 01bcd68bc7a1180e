"""The messages between peers, and the one place where they are encoded and decoded. Field by field:
docs/channel.md.

A request header is the msgpack array [type, request id, fields…], a reply header [0x80 | type, request id,
status, fields…]; a failure carries [.., status, reason, text, price] instead of fields. Type numbers are never
reused. A reply's `payload` follows its header in the frame; a request's payload is handed to
`PeerConnection.request` beside the message, as a list of buffers, so that blocks are never joined in memory.
"""

from dataclasses import field
from enum import IntEnum
from typing import Any, ClassVar, Generic, TypeAlias, TypeVar

from shoal.dht.address import PACKED_V6_BYTES
from shoal.dht.contact import MAX_SPACE_CLASS
from shoal.dht.identity import ID_NONCE_BYTES, NODE_ID_BYTES
from shoal.dht.params import MAX_NAME_BYTES, NETWORK_ID_BYTES
from shoal.dht.signatures import PUBLIC_KEY_BYTES, SIGNATURE_BYTES
from shoal.erasure import BLOCK_BYTES, HASH_BYTES, MAX_MANIFEST_BYTES, FileId, split_nodes
from shoal.node.channel import wire
from shoal.node.channel.errors import MalformedMessage, RemoteError
from shoal.node.channel.streams import Buffer
from shoal.node.errors import Cause
from shoal.node.formats import MAX_STATEMENT_BYTES, UPLOAD_ID_BYTES
from shoal.values import dataclass

VERSION = 1  # of this protocol; a hello carries the range a node speaks
HELLO_TYPE = 1
REPLY_BIT = 0x80
MAX_TYPE = 0x7F
MAX_REQUEST_ID = 2**32 - 1

MAX_BLOCKS_COUNT = 16  # in one write or read: 1 MiB
MAX_PAYLOAD_BYTES = MAX_BLOCKS_COUNT * BLOCK_BYTES  # hides a round trip; many fit into memory
MAX_SETTLE_BYTES = 128 * 1024  # 256 statements: each share at one holder
MAX_SHARE_NUMBER = 255
MAX_BLOCK_INDEX = 2**40 - 1  # 64 PiB in one share: beyond any disk, and no product of ours overflows 63 bits
MAX_PROOF_BYTES = 128 * HASH_BYTES  # a range proof has at most two hashes per level, and 2^40 blocks have 41 levels
MAX_STAMP_BYTES = 512
MAX_TEXT_CHARS = 200  # of a failure
MAX_ROLE_CHARS = 16
MAX_CLASSES_COUNT = 16  # three classes exist
MAX_SHARES_COUNT = 256
MAX_SURVEY_COUNT = 1024  # files asked about at once: 32 KiB of a header's 64

CHALLENGE_BYTES = 32
TOKEN_BYTES = 16  # of a circuit
# Less than the 20 s after which a connection counts as one that does nothing, and than any router forgets it.
MAX_RESERVE_WAIT_S = 15
MAX_RELAYED_COUNT = 20  # nodes behind one relay that are told at once
NONCE_BYTES = 16  # of a dial-back


class Status(IntEnum):
    """How a request ended. A caller decides by this number and by `Reason` alone.

    A number that we do not know comes from a later version. It is read as REFUSED.
    """

    OK = 0
    UNSUPPORTED = 1
    MALFORMED = 2
    NOT_FOUND = 3
    REFUSED = 4
    BUSY = 5
    INTERNAL = 6
    FORBIDDEN = 7
    FULL = 8


class Reason(IntEnum):
    """Why a request was not done. It comes with a `Status` and is more exact.

    A number that we do not know comes from a later version. It is read as UNSTATED.
    """

    UNSTATED = 0
    # with FULL: the limit of the volunteer that was reached
    CAPACITY = 1  # the share of the disk that is lent out
    DISK = 2  # free disk that is to be left alone
    UPLOADS = 3  # so many uploads are open, or of one address prefix
    SOURCE = 4  # what one address prefix may send in a day
    # with REFUSED
    LEAVING = 5  # the node is about to leave the network
    FROM_LATER = 6  # never sent: a status that we do not know was read as REFUSED
    # with FORBIDDEN
    NOT_PROVEN = 7  # the caller did not prove to be who it says it is
    NOT_ADMINISTRATOR = 8
    NOT_OWNER = 9  # the file was published by another
    DELETED = 10  # the owner of the file has deleted it
    # with BUSY
    STARTING = 11
    CONNECTIONS = 12  # too many connections
    MEMORY = 13
    TIME = 14  # the request took too long
    SHARE = 17  # the caller has had its share of the node's time; `price` says for how long
    # with INTERNAL
    DISK_FAILED = 15
    # with UNSUPPORTED
    NO_END = 16  # the program that the node is part of does not end on request


_CAUSES = {  # what a status says of the peer; the others say that it would not
    Status.BUSY: Cause.BUSY,
    Status.FULL: Cause.FULL,
    Status.NOT_FOUND: Cause.MISSING,
}

_UPLOAD_ID = wire.exactly(UPLOAD_ID_BYTES)
_FILE_ID = wire.exactly(HASH_BYTES)
_SHARE = wire.uint(MAX_SHARE_NUMBER)
_BLOCK = wire.uint(MAX_BLOCK_INDEX)
_PROOF = wire.blob(MAX_PROOF_BYTES, HASH_BYTES)
_LEAVES = wire.blob(MAX_BLOCKS_COUNT * HASH_BYTES, HASH_BYTES)
_U16 = wire.uint(2**16 - 1)


class Reply:
    """The answer to a request. `PAYLOAD_BYTES` is the longest payload that may come with it."""

    __slots__ = ()
    PAYLOAD_BYTES: ClassVar[int] = 0


R = TypeVar("R", bound=Reply)


class Request(Generic[R]):
    """What a peer may be asked, answered by an R. `PAYLOAD_BYTES` is the longest payload that may come with
    it.
    """

    __slots__ = ()
    TYPE: ClassVar[int]
    REPLY: ClassVar[type[Reply]]
    PAYLOAD_BYTES: ClassVar[int] = 0

    @property
    def reply_bound_bytes(self) -> int:
        """The longest payload an honest answer to this very request has."""
        return self.REPLY.PAYLOAD_BYTES


@dataclass(frozen=True, slots=True)
class ServerHello:
    """First frame from the server. `node_id` belongs to the key of the TLS certificate and `id_nonce`.

    `network_id` and `network`, its name, say which network the server belongs to.
    """

    min_version: int = field(metadata=_U16)
    max_version: int = field(metadata=_U16)
    features: int = field(metadata=wire.uint())
    node_id: bytes = field(metadata=wire.exactly(NODE_ID_BYTES))
    id_nonce: bytes = field(metadata=wire.exactly(ID_NONCE_BYTES))
    challenge: bytes = field(metadata=wire.exactly(CHALLENGE_BYTES))
    network_id: bytes = field(metadata=wire.exactly(NETWORK_ID_BYTES))
    network: str = field(metadata=wire.text(MAX_NAME_BYTES))


@dataclass(frozen=True, slots=True)
class ClientHello:
    """First frame from the caller. It says nothing of the caller's identity.

    `network_id` and `network` as in the server's; 8 zero bytes and no name of a caller that does not say.
    """

    min_version: int = field(metadata=_U16)
    max_version: int = field(metadata=_U16)
    features: int = field(metadata=wire.uint())
    network_id: bytes = field(metadata=wire.exactly(NETWORK_ID_BYTES))
    network: str = field(metadata=wire.text(MAX_NAME_BYTES))


@dataclass(frozen=True, slots=True)
class Done(Reply):
    """Done, and nothing to tell."""


@dataclass(frozen=True, slots=True)
class Identify(Request[Done]):
    """Prove who the caller is (type 2). `role` is "peer" or "admin"; see `hello.identify_message` for the
    signature.
    """

    TYPE = 2
    REPLY = Done
    role: str = field(metadata=wire.text(MAX_ROLE_CHARS))
    public_key: bytes = field(metadata=wire.exactly(PUBLIC_KEY_BYTES))
    id_nonce: bytes = field(metadata=wire.exactly(ID_NONCE_BYTES))
    signature: bytes = field(metadata=wire.exactly(SIGNATURE_BYTES))


@dataclass(frozen=True, slots=True)
class Offered(Reply):
    """The upload is open. `durable_blocks` are already safe on the holder's disk; `price` is 0 while storage
    is free.
    """

    durable_blocks: int = field(metadata=_BLOCK)
    price: int = field(metadata=wire.uint())


@dataclass(frozen=True, slots=True)
class Offer(Request[Offered]):
    """Open or renew an upload (type 3). `size_bound_bytes` of the share, 0 while unknown; `lease_s` wished
    for; `stamp` is proof of work a busy holder may ask for, else empty.
    """

    TYPE = 3
    REPLY = Offered
    upload_id: bytes = field(metadata=_UPLOAD_ID)
    size_bound_bytes: int = field(metadata=wire.uint())
    lease_s: int = field(metadata=wire.uint())
    stamp: bytes = field(metadata=wire.blob(MAX_STAMP_BYTES))


@dataclass(frozen=True, slots=True)
class Written(Reply):
    """Counts of blocks of the upload, from its start: received, and of these durable."""

    received_blocks: int = field(metadata=_BLOCK)
    durable_blocks: int = field(metadata=_BLOCK)


@dataclass(frozen=True, slots=True)
class Write(Request[Written]):
    """Append blocks to an upload (type 4).

    Payload: consecutive blocks from `first_block` on, 65,536 bytes each except possibly the very last of the
    share. `data_leaves`: one 32-byte leaf of the data tree per block. `sync` asks for them to be durable
    before the reply.
    """

    TYPE = 4
    REPLY = Written
    PAYLOAD_BYTES = MAX_PAYLOAD_BYTES
    upload_id: bytes = field(metadata=_UPLOAD_ID)
    first_block: int = field(metadata=_BLOCK)
    data_leaves: bytes = field(metadata=_LEAVES)
    sync: bool = field(metadata=wire.FLAG)


@dataclass(frozen=True, slots=True)
class Committed(Reply):
    """The share is durable and kept until `lease_end` (s since the epoch); `statement` is the holder's signed
    word.
    """

    lease_end: int = field(metadata=wire.uint())
    statement: bytes = field(metadata=wire.blob(MAX_STATEMENT_BYTES))


@dataclass(frozen=True, slots=True)
class Commit(Request[Committed]):
    """Turn an upload into a share (type 5). Payload: the manifest."""

    TYPE = 5
    REPLY = Committed
    PAYLOAD_BYTES = MAX_MANIFEST_BYTES
    upload_id: bytes = field(metadata=_UPLOAD_ID)
    share_number: int = field(metadata=_SHARE)
    lease_s: int = field(metadata=wire.uint())


@dataclass(frozen=True, slots=True)
class ManifestBytes(Reply):
    """A manifest, unchecked: the asking node compares its hash with the id."""

    PAYLOAD_BYTES = MAX_MANIFEST_BYTES
    payload: Buffer


@dataclass(frozen=True, slots=True)
class GetManifest(Request[ManifestBytes]):
    """Ask for the manifest of a file (type 6)."""

    TYPE = 6
    REPLY = ManifestBytes
    file_id: bytes = field(metadata=_FILE_ID)


@dataclass(frozen=True, slots=True)
class HolderList(Reply):
    """A msgpack array of holder statements, unchecked."""

    PAYLOAD_BYTES = MAX_PAYLOAD_BYTES
    payload: Buffer


@dataclass(frozen=True, slots=True)
class GetHolders(Request[HolderList]):
    """Ask which holders of a file the peer knows (type 7)."""

    TYPE = 7
    REPLY = HolderList
    file_id: bytes = field(metadata=_FILE_ID)


@dataclass(frozen=True, slots=True)
class Told(Reply):
    """How many valid statements of the file the peer knows now."""

    known_count: int = field(metadata=wire.uint())


@dataclass(frozen=True, slots=True)
class TellHolders(Request[Told]):
    """Tell a holder of other holders (type 8). Payload: a msgpack array of holder statements."""

    TYPE = 8
    REPLY = Told
    PAYLOAD_BYTES = MAX_PAYLOAD_BYTES
    file_id: bytes = field(metadata=_FILE_ID)


@dataclass(frozen=True, slots=True)
class Announced(Reply):
    """Rows (class, closest, stored): under that class's key, `stored` of the `closest` nearest nodes took the
    record.
    """

    classes: tuple[tuple[int, ...], ...] = field(metadata=wire.rows(3, MAX_CLASSES_COUNT))


@dataclass(frozen=True, slots=True)
class Announce(Request[Announced]):
    """Ask a holder to announce the classes of a file it is responsible for, now (type 9).

    `patient`: a holder that would stand in for others announces only after requests in four epochs.
    """

    TYPE = 9
    REPLY = Announced
    file_id: bytes = field(metadata=_FILE_ID)
    patient: bool = field(metadata=wire.FLAG)


@dataclass(frozen=True, slots=True)
class Blocks(Reply):
    """Blocks with their proofs. The payload is empty when `want_data` was false."""

    PAYLOAD_BYTES = MAX_PAYLOAD_BYTES
    share_proof: bytes = field(metadata=_PROOF)
    data_leaves: bytes = field(metadata=_LEAVES)
    data_proof: bytes = field(metadata=_PROOF)
    payload: Buffer


@dataclass(frozen=True, slots=True)
class Read(Request[Blocks]):
    """Read `count` blocks of a share from `first_block` on (type 10)."""

    TYPE = 10
    REPLY = Blocks
    file_id: bytes = field(metadata=_FILE_ID)
    share_number: int = field(metadata=_SHARE)
    first_block: int = field(metadata=_BLOCK)
    count: int = field(metadata=wire.uint(MAX_BLOCKS_COUNT, least=1))
    want_data: bool = field(metadata=wire.FLAG)

    @property
    def reply_bound_bytes(self) -> int:
        return self.count * BLOCK_BYTES if self.want_data else 0


@dataclass(frozen=True, slots=True)
class HeldShares(Reply):
    """Rows (share number, lease end in s since the epoch)."""

    shares: tuple[tuple[int, ...], ...] = field(metadata=wire.rows(2, MAX_SHARES_COUNT))


@dataclass(frozen=True, slots=True)
class GetHeld(Request[HeldShares]):
    """Ask which shares of a file the peer itself keeps (type 11)."""

    TYPE = 11
    REPLY = HeldShares
    file_id: bytes = field(metadata=_FILE_ID)


@dataclass(frozen=True, slots=True)
class StatusReport(Reply):
    """A msgpack map of plain values, for the administrator."""

    PAYLOAD_BYTES = MAX_PAYLOAD_BYTES
    payload: Buffer


@dataclass(frozen=True, slots=True)
class GetStatus(Request[StatusReport]):
    """Ask a node for its status (type 12). For the administrator alone."""

    TYPE = 12
    REPLY = StatusReport


@dataclass(frozen=True, slots=True)
class Abort(Request[Done]):
    """Give an upload up (type 13)."""

    TYPE = 13
    REPLY = Done
    upload_id: bytes = field(metadata=_UPLOAD_ID)


@dataclass(frozen=True, slots=True)
class Surveyed(Reply):
    """What is kept of each file asked about, in that order, as a msgpack array (`holders/surveys.py`); `clock` is the
    peer's wall clock in s since the epoch. An array shorter than asked for holds the first files only.
    """

    PAYLOAD_BYTES = MAX_PAYLOAD_BYTES
    clock: int = field(metadata=wire.uint())
    payload: Buffer


@dataclass(frozen=True, slots=True)
class Survey(Request[Surveyed]):
    """Ask what the peer keeps of many files at once (type 14). `file_ids` are 32 bytes each, end to end;
    `with_statements` asks for a signed statement with every share.
    """

    TYPE = 14
    REPLY = Surveyed
    file_ids: bytes = field(metadata=wire.blob(MAX_SURVEY_COUNT * HASH_BYTES, HASH_BYTES))
    with_statements: bool = field(metadata=wire.FLAG)

    @property
    def ids(self) -> list[FileId]:
        """The files asked about, in order."""
        return [FileId(each) for each in split_nodes(self.file_ids)]


@dataclass(frozen=True, slots=True)
class LeaseRenewed(Reply):
    """Rows (share number, lease end in s since the epoch) of the file's shares at the peer, as they are now."""

    shares: tuple[tuple[int, ...], ...] = field(metadata=wire.rows(2, MAX_SHARES_COUNT))


@dataclass(frozen=True, slots=True)
class Renew(Request[LeaseRenewed]):
    """Extend the leases of a file's shares to `lease_s` from now, at most 90 days; never shortens (type 15). Anyone
    may.
    """

    TYPE = 15
    REPLY = LeaseRenewed
    file_id: bytes = field(metadata=_FILE_ID)
    lease_s: int = field(metadata=wire.uint())


@dataclass(frozen=True, slots=True)
class Delete(Request[Done]):
    """Drop a file's shares for ever (type 16). `signature` by the manifest's owner key; `issued` in s since the epoch.
    See `node/holders/deletion.py` for what it covers.
    """

    TYPE = 16
    REPLY = Done
    file_id: bytes = field(metadata=_FILE_ID)
    issued: int = field(metadata=wire.uint())
    signature: bytes = field(metadata=wire.exactly(SIGNATURE_BYTES))


@dataclass(frozen=True, slots=True)
class Stop(Request[Done]):
    """Ask a node to end (type 17). For the administrator alone; A node whose process does not end on request answers
    "unsupported". Done means that it begins to end. Its home is free once it has ended.
    """

    TYPE = 17
    REPLY = Done


@dataclass(frozen=True, slots=True)
class Put(Request[Committed]):
    """Offer, write and commit a share of one block at once (type 18).

    Payload: the manifest, which has `manifest_bytes`, and behind it the block. `stamp` as in an offer.
    """

    TYPE = 18
    REPLY = Committed
    PAYLOAD_BYTES = MAX_MANIFEST_BYTES + BLOCK_BYTES
    upload_id: bytes = field(metadata=_UPLOAD_ID)
    share_number: int = field(metadata=_SHARE)
    lease_s: int = field(metadata=wire.uint())
    manifest_bytes: int = field(metadata=wire.uint(MAX_MANIFEST_BYTES, least=1))
    stamp: bytes = field(metadata=wire.blob(MAX_STAMP_BYTES))


@dataclass(frozen=True, slots=True)
class Settled(Reply):
    """How many valid statements of the file the peer knows now, and rows as of an announcement. No rows where others
    announce the file.
    """

    known_count: int = field(metadata=wire.uint())
    classes: tuple[tuple[int, ...], ...] = field(metadata=wire.rows(3, MAX_CLASSES_COUNT))


@dataclass(frozen=True, slots=True)
class Settle(Request[Settled]):
    """Tell a holder of the others, and have it announce the classes for which it is among the first (type 19).

    Payload: a msgpack array of holder statements.
    """

    TYPE = 19
    REPLY = Settled
    PAYLOAD_BYTES = MAX_SETTLE_BYTES
    file_id: bytes = field(metadata=_FILE_ID)


@dataclass(frozen=True, slots=True)
class Reserved(Reply):
    """The relay rings for the peer that asked. `observed` is the address at which it sees that peer.

    `token` names a caller that waits, and `caller` is its address, to which the peer may punch. Each is empty where
    there is none.
    """

    observed: bytes = field(metadata=wire.blob(PACKED_V6_BYTES))
    token: bytes = field(metadata=wire.blob(TOKEN_BYTES))
    caller: bytes = field(metadata=wire.blob(PACKED_V6_BYTES))


@dataclass(frozen=True, slots=True)
class Reserve(Request[Reserved]):
    """Ask a relay to ring, and wait `wait_s` seconds for a caller (type 21). The peer has to have proven its id.

    The reservation lasts while such a request is under way, and a few seconds beyond. `space` is the class of free
    space of the peer, for those that look for hosts.
    """

    TYPE = 21
    REPLY = Reserved
    wait_s: int = field(metadata=wire.uint(MAX_RESERVE_WAIT_S))
    space: int = field(metadata=wire.uint(MAX_SPACE_CLASS))


@dataclass(frozen=True, slots=True)
class Rung(Reply):
    """The token of a circuit to the node that was asked for, and the address at which the relay sees that node."""

    token: bytes = field(metadata=wire.exactly(TOKEN_BYTES))
    holder: bytes = field(metadata=wire.blob(PACKED_V6_BYTES))


@dataclass(frozen=True, slots=True)
class Ring(Request[Rung]):
    """Ask a relay for a circuit to a node that it rings for (type 22)."""

    TYPE = 22
    REPLY = Rung
    node_id: bytes = field(metadata=wire.exactly(NODE_ID_BYTES))


@dataclass(frozen=True, slots=True)
class RelayedNodes(Reply):
    """Nodes that the relay rings for, by chance: rows of node id (32) and class of free space (1), end to end."""

    nodes: bytes = field(metadata=wire.blob(MAX_RELAYED_COUNT * (NODE_ID_BYTES + 1), NODE_ID_BYTES + 1))


@dataclass(frozen=True, slots=True)
class GetRelayed(Request[RelayedNodes]):
    """Ask a relay for some of the nodes that it rings for (type 23)."""

    TYPE = 23
    REPLY = RelayedNodes


@dataclass(frozen=True, slots=True)
class Knock(Request[Done]):
    """Show a node that strangers can connect to it (type 20). `nonce` is what it has asked to be called with.

    The answer is "not found" where the node expects no such call.
    """

    TYPE = 20
    REPLY = Done
    nonce: bytes = field(metadata=wire.exactly(NONCE_BYTES))


REQUESTS: dict[int, type[Request[Any]]] = {
    each.TYPE: each
    for each in (
        Identify,
        Offer,
        Write,
        Commit,
        GetManifest,
        GetHolders,
        TellHolders,
        Announce,
        Read,
        GetHeld,
        GetStatus,
        Abort,
        Survey,
        Renew,
        Delete,
        Stop,
        Put,
        Settle,
        Reserve,
        Ring,
        GetRelayed,
        Knock,
    )
}
"""Every request of this version by its number. There is none to audit: a Read of one random block, with its path to
the share's root, proves as much."""


@dataclass(frozen=True, slots=True)
class UnknownRequest:
    """A request of a type we do not know, to be answered "unsupported"."""

    type_number: int


@dataclass(frozen=True, slots=True)
class Failure:
    """A request that was not done.

    `text` is for a person; nothing may depend on it. `price` says what would change the answer. With BUSY it is the
    seconds to wait before asking again, 0 where that is not known; else it is 0 while storage is free.
    """

    status: Status
    reason: Reason = Reason.UNSTATED
    text: str = ""
    price: int = 0

    def error(self) -> RemoteError:
        """The same as an exception, for the side that asked."""
        cause = _CAUSES.get(self.status, Cause.REFUSED)
        return RemoteError(self.status, self.reason, self.text, self.price, cause)


@dataclass(frozen=True, slots=True)
class RawReply:
    """A reply whose request is still to be looked up. `fields` are unchecked."""

    type_number: int
    request_id: int
    status: int
    fields: list[Any]


AnyRequest: TypeAlias = Request[Any]
Hello: TypeAlias = ServerHello | ClientHello
H = TypeVar("H", ServerHello, ClientHello)

_type_number = wire.uint(MAX_TYPE)["check"]
_request_id = wire.uint(MAX_REQUEST_ID)["check"]
_status = wire.uint(255)["check"]
_reason = wire.uint(2**16 - 1)["check"]
_text = wire.text(MAX_TEXT_CHARS)["check"]
_price = wire.uint()["check"]


def encode_hello(hello: Hello) -> bytes:
    """Header of a first frame; request id 0."""
    return wire.pack([HELLO_TYPE, 0, *wire.field_values(hello)])


def decode_hello(header: Buffer, expected: type[H]) -> H:
    """The hello in `header`. Raises MalformedMessage."""
    values = wire.unpack(header)
    if len(values) < 2 or _type_number(values[0]) != HELLO_TYPE:
        raise MalformedMessage("the first frame is no hello")
    return expected(**wire.read_fields(expected, values[2:]))


def encode_request(request_id: int, request: AnyRequest) -> bytes:
    """Header of a request."""
    return wire.pack([request.TYPE, request_id, *wire.field_values(request)])


def decode_request(header: Buffer, payload_bytes: int) -> tuple[int, AnyRequest | UnknownRequest]:
    """Request id and request. Raises MalformedMessage, with `request` set when that much could be read."""
    values = wire.unpack(header)
    if len(values) < 2:
        raise MalformedMessage("a request without type and id")
    type_number, request_id = _type_number(values[0]), _request_id(values[1])
    request = REQUESTS.get(type_number)
    if request is None:
        return request_id, UnknownRequest(type_number)
    try:
        _check_payload(request, payload_bytes)
        return request_id, request(**wire.read_fields(request, values[2:]))
    except MalformedMessage as error:
        error.request = type_number, request_id
        raise


def encode_reply(type_number: int, request_id: int, reply: Reply) -> bytes:
    """Header of a successful reply; its payload, if it has one, is `reply_payload(reply)`."""
    return wire.pack([REPLY_BIT | type_number, request_id, Status.OK.value, *wire.field_values(reply)])


def reply_payload(reply: Reply) -> Buffer:
    """The payload that goes with `reply`, empty for most."""
    payload: Buffer = getattr(reply, "payload", b"")
    return payload


def encode_failure(type_number: int, request_id: int, failure: Failure) -> bytes:
    """Header of a failure."""
    text = failure.text[:MAX_TEXT_CHARS]
    status, reason = failure.status.value, failure.reason.value
    return wire.pack([REPLY_BIT | type_number, request_id, status, reason, text, failure.price])


def decode_reply_head(header: Buffer) -> RawReply:
    """Read what is needed to find the request that `header` answers. Raises MalformedMessage."""
    values = wire.unpack(header)
    if len(values) < 3 or type(values[0]) is not int or not REPLY_BIT <= values[0] <= REPLY_BIT | MAX_TYPE:
        raise MalformedMessage("a frame that is no reply")
    return RawReply(values[0] & ~REPLY_BIT, _request_id(values[1]), _status(values[2]), values[3:])


def decode_reply(raw: RawReply, request: Request[R], payload: Buffer) -> R | Failure:
    """The reply to `request`. Raises MalformedMessage when it is none."""
    if raw.type_number != request.TYPE:
        raise MalformedMessage(f"a reply of type {raw.type_number} to a request of type {request.TYPE}")
    if raw.status != Status.OK:
        return _decode_failure(raw)
    expected: type[Any] = request.REPLY
    _check_payload(expected, len(payload))
    arguments = wire.read_fields(expected, raw.fields)
    if expected.PAYLOAD_BYTES:
        arguments["payload"] = payload
    reply: R = expected(**arguments)
    return reply


def _check_payload(message: type[Request[Any]] | type[Reply], payload_bytes: int) -> None:
    if payload_bytes > message.PAYLOAD_BYTES:
        raise MalformedMessage(f"{message.__name__} with a payload of {payload_bytes} bytes")


def _decode_failure(raw: RawReply) -> Failure:
    if len(raw.fields) < 3:
        raise MalformedMessage("a failure without reason, text and price")
    number, text, price = _reason(raw.fields[0]), _text(raw.fields[1]), _price(raw.fields[2])
    if raw.status not in _KNOWN_STATUS:
        return Failure(Status.REFUSED, Reason.FROM_LATER, text, price)
    reason = Reason(number) if number in _KNOWN_REASONS else Reason.UNSTATED
    return Failure(Status(raw.status), reason, text, price)


_KNOWN_STATUS = frozenset(int(status) for status in Status)
_KNOWN_REASONS = frozenset(int(reason) for reason in Reason)
