"""Answering: one datagram with a request goes in, at most one reply comes out. No I/O, no waiting.

The order of checks is that of `guard`. What is sent to an address that has not proven itself with a cookie is
never longer than what came from there.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from shoal.dht.address import Address
from shoal.dht.contact import MAX_SPACE_CLASS, Contact
from shoal.dht.errors import ProtocolError
from shoal.dht.guard import CookieMint, RequestGuard
from shoal.dht.identity import UNKNOWN_ID, Identity, NodeId, has_proof
from shoal.dht.messages import (
    FindNode,
    Frame,
    GetRecords,
    Kind,
    Nodes,
    Ping,
    Pong,
    Records,
    Reply,
    ReplyHead,
    Request,
    Store,
    Stored,
    StoreStatus,
    Unsupported,
    decode_request,
    encode_reply,
    nodes_within,
    records_within,
)
from shoal.dht.params import NetworkParameters
from shoal.dht.records import Record, RecordKey, RecordKind
from shoal.dht.store import RecordStore
from shoal.dht.wire import MAX_DATAGRAM_BYTES, Envelope, seal


class Table(Protocol):
    """What is needed of the routing table."""

    def closest(self, target: bytes, *, exclude: NodeId | None = None) -> list[Contact]:
        """The K verified contacts nearest to `target`."""
        ...

    def get(self, node_id: NodeId) -> Contact | None:
        """The verified contact of that id."""
        ...


@dataclass(frozen=True, slots=True)
class Response:
    """What to do about a request.

    datagram: the reply, ready to send to where the request came from; None for no reply.
    dropped: why nothing is sent; None if something is.
    newcomer: the requester, when it serves, has its proof of work and proved its address: worth a ping.
    """

    datagram: bytes | None = None
    dropped: str | None = None
    newcomer: Contact | None = None


@dataclass(frozen=True, slots=True)
class _Asker:
    """Who asks: id, key and address, whether the cookie was good, and how long the answer may be."""

    node_id: NodeId
    public_key: bytes
    address: Address
    proven: bool
    limit: int


class Responder:
    """Answers the requests of others from the routing table and the record store."""

    def __init__(
        self,
        params: NetworkParameters,
        identity: Identity,
        table: Table,
        store: RecordStore,
        mint: CookieMint,
        guard: RequestGuard,
        space: Callable[[], int],
    ) -> None:
        self._params = params
        self._identity = identity
        self._table = table
        self._store = store
        self._mint = mint
        self._guard = guard
        self._space = space

    def respond(self, envelope: Envelope, frame: Frame, source: Address, size: int, now: float) -> Response:
        """Answer the request in `frame`, a datagram of `size` bytes from `source`; `now` is monotonic."""
        proven = self._guard.is_proven(frame.cookie, source, envelope.node_id, now)
        if not self._guard.admits(source, now, proven=proven):
            return Response(dropped="rate")
        if not self._is_signed(envelope, frame):
            return Response(dropped="signature")
        try:
            request = decode_request(frame)
        except ProtocolError:
            return Response(dropped="schema")
        limit = MAX_DATAGRAM_BYTES if proven else size
        asker = _Asker(envelope.node_id, envelope.public_key, source, proven, limit)
        datagram = self._seal(self._answer(request, asker, now), frame, asker, now)
        if len(datagram) > limit:
            return Response(dropped="amplification")
        return Response(datagram, newcomer=self._newcomer(frame, asker))

    def _is_signed(self, envelope: Envelope, frame: Frame) -> bool:
        if not frame.is_addressed and frame.kind != Kind.PING:
            return False
        receiver = self._identity.node_id if frame.is_addressed else UNKNOWN_ID
        return envelope.is_signed_for(receiver, self._params.network_id, self._identity.scheme)

    def _newcomer(self, frame: Frame, asker: _Asker) -> Contact | None:
        if not (frame.is_serving and asker.proven and has_proof(asker.node_id, self._params.pow_bits)):
            return None
        return Contact(asker.node_id, asker.address)

    def _answer(self, request: Request, asker: _Asker, now: float) -> Reply:
        match request:
            case Ping():
                return Pong()
            case FindNode(target):
                return self._nodes(target, asker)
            case GetRecords():
                return self._records(request, asker, now)
            case Store(records):
                return Stored(tuple(self._put(record, asker, now) for record in records))
            case _:
                return Unsupported(request.kind)

    def _nodes(self, target: bytes, asker: _Asker) -> Nodes:
        return nodes_within(asker.limit, self._table.closest(target, exclude=asker.node_id))

    def _records(self, request: GetRecords, asker: _Asker, now: float) -> Records:
        held = self._store.get(request.record_kind, RecordKey(request.key), now)
        lacking = [record.encoded for record in held if record.tag not in request.have]
        contacts = self._table.closest(request.key, exclude=asker.node_id) if request.want_contacts else []
        return records_within(asker.limit, contacts, lacking)

    def _put(self, encoded: bytes, asker: _Asker, now: float) -> StoreStatus:
        if not (asker.proven or self._is_known(asker)):
            return StoreStatus.NO_COOKIE
        try:
            record = Record.decode(encoded)
        except ProtocolError:
            return StoreStatus.INVALID
        if record.kind != RecordKind.PROVIDER:
            return StoreStatus.NOT_SERVED
        if record.node_id != asker.node_id or record.address != asker.address:
            return StoreStatus.NOT_YOURS
        if not record.is_authentic(self._params, self._identity.scheme):
            return StoreStatus.INVALID
        return self._store.put(record, now)

    def _is_known(self, asker: _Asker) -> bool:
        """Whether the asker has answered us from this address before, which a cookie would show as well."""
        known = self._table.get(asker.node_id)
        return known is not None and known.address == asker.address

    def _seal(self, reply: Reply, frame: Frame, asker: _Asker, now: float) -> bytes:
        head = ReplyHead(
            cookie=self._mint.mint(asker.address, asker.node_id, now),
            validated=asker.proven,
            observed=asker.address,
            space=min(max(self._space(), 0), MAX_SPACE_CLASS),
        )
        body = encode_reply(reply, frame.request_id, head)
        return seal(body, asker.node_id, self._params.network_id, self._identity)
