"""Answering: one datagram with a request goes in, at most one reply comes out. Nothing here waits or does I/O. A query
that the layer above has to answer is handed back to the caller as work.

The order of checks is that of `guard`. What is sent to an address that has not proven itself with a cookie is
never longer than what came from there: `Responder._seal` gives nothing longer, whatever the reply is.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol

from shoal.dht.address import Address
from shoal.dht.contact import MAX_SPACE_CLASS, Contact
from shoal.dht.errors import ProtocolError
from shoal.dht.guard import CookieMint, RequestGuard
from shoal.dht.identity import UNKNOWN_ID, Identity, NodeId, has_proof
from shoal.dht.messages import (
    MAX_QUERY_BYTES,
    MIN_REQUEST_BYTES,
    Answered,
    FindNode,
    Frame,
    GetRecords,
    Kind,
    Nodes,
    Ping,
    Pong,
    Query,
    QueryStatus,
    Records,
    Reply,
    ReplyHead,
    Request,
    Store,
    Stored,
    StoreStatus,
    Unsupported,
    answer_within,
    decode_request,
    encode_reply,
    nodes_within,
    records_within,
)
from shoal.dht.params import NetworkParameters
from shoal.dht.records import Record, RecordKey, RecordKind
from shoal.dht.store import RecordStore
from shoal.dht.wire import ENVELOPE_BYTES, MAX_DATAGRAM_BYTES, Envelope, seal
from shoal.values import dataclass

QueryHandler = Callable[[Contact, bytes], Awaitable[bytes | None]]
"""Answers a query of one topic: who asks and from where, and the payload; None for what is not understood.

What it raises is a bug.
"""


QueryGate = Callable[[Address | None, int, float], bool]
"""Whether to work on a query: where it comes from (None where that is not proven), its payload's length, the time."""


Work = Callable[[], Awaitable[bytes | None]]
"""Gives the datagram of a reply, or None when there is none to send."""


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
    work: gives the reply when that takes more than memory; it may wait. None is no reply.
    """

    datagram: bytes | None = None
    dropped: str | None = None
    newcomer: Contact | None = None
    work: Work | None = None


@dataclass(frozen=True, slots=True)
class _Asker:
    """The asking node: id, key and address, whether its cookie was good, and how long the answer may be."""

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
        self.table = table
        self._store = store
        self._mint = mint
        self._guard = guard
        self._space = space
        self._topics: dict[int, tuple[QueryHandler, QueryGate]] = {}

    def serves(self, topic: int) -> bool:
        """Whether there is a handler for a topic."""
        return topic in self._topics

    def serve(self, topic: int, handler: QueryHandler, gate: QueryGate) -> None:
        """Let `handler` answer those queries of one topic (u8) from now on that `gate` admits."""
        self._topics[topic] = handler, gate

    def respond(self, envelope: Envelope, frame: Frame, source: Address, size: int, now: float) -> Response:
        """Answer the request in `frame`, a datagram of `size` bytes from `source`; `now` is monotonic."""
        proven = self._guard.is_proven(frame.cookie, source, envelope.node_id, now)
        if size < MIN_REQUEST_BYTES and not proven:
            return Response(dropped="amplification")  # no reply is so short: it is worth no work
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
        if isinstance(request, Query) and self._is_for_above(request, asker, now):
            return Response(newcomer=self._newcomer(frame, asker), work=partial(self._work, request, frame, asker, now))
        datagram = self._seal(self._answer(request, asker, now), frame, asker, now)
        if datagram is None:
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
            case Query():
                is_refused = request.topic in self._topics and not asker.proven
                return Answered(QueryStatus.NO_COOKIE if is_refused else QueryStatus.NOT_SERVED, b"")
            case _:
                return Unsupported(request.kind)

    def _is_for_above(self, query: Query, asker: _Asker, now: float) -> bool:
        """Whether the layer above answers a query. One that it refuses for now comes again with a cookie."""
        if query.topic not in self._topics:
            return False
        _, admits = self._topics[query.topic]
        return admits(asker.address if asker.proven else None, len(query.payload), now)

    async def _work(self, query: Query, frame: Frame, asker: _Asker, now: float) -> bytes | None:
        """The reply to a query that the layer above answers."""
        handler, _ = self._topics[query.topic]
        answer = await handler(Contact(asker.node_id, asker.address), query.payload)
        if answer is None or len(answer) > MAX_QUERY_BYTES:
            return self._seal(Answered(QueryStatus.NOT_SERVED, b""), frame, asker, now)
        return self._seal(answer_within(asker.limit, answer), frame, asker, now)

    def _nodes(self, target: bytes, asker: _Asker) -> Nodes:
        return nodes_within(asker.limit, self.table.closest(target, exclude=self._excluded(asker)))

    def _excluded(self, asker: _Asker) -> NodeId | None:
        """The asker itself is no news to it; its id at another address is: somebody else may have its key."""
        known = self.table.get(asker.node_id)
        return asker.node_id if known is None or known.address == asker.address else None

    def _records(self, request: GetRecords, asker: _Asker, now: float) -> Records:
        held = self._store.get(request.record_kind, RecordKey(request.key), now)
        lacking = [record.encoded for record in held if record.tag not in request.have]
        contacts = self.table.closest(request.key, exclude=self._excluded(asker)) if request.want_contacts else []
        return records_within(asker.limit, contacts, lacking)

    def _put(self, encoded: bytes, asker: _Asker, now: float) -> StoreStatus:
        if not (asker.proven or self._is_known(asker)):
            return StoreStatus.NO_COOKIE
        if not self._guard.admits_store(asker.address, now):
            return StoreStatus.FULL
        try:
            record = Record.decode(encoded)
        except ProtocolError:
            return StoreStatus.INVALID
        if record.kind != RecordKind.PROVIDER:
            return StoreStatus.NOT_SERVED
        if record.node_id != asker.node_id or any(way != asker.address for way in record.reach.direct):
            return StoreStatus.NOT_YOURS
        if not record.is_authentic(self._params, self._identity.scheme):
            return StoreStatus.INVALID
        return self._store.put(record, now, asker.address)

    def _is_known(self, asker: _Asker) -> bool:
        """Whether the asker has answered us from this address before, which a cookie would show as well."""
        known = self.table.get(asker.node_id)
        return known is not None and known.address == asker.address

    def _seal(self, reply: Reply, frame: Frame, asker: _Asker, now: float) -> bytes | None:
        """The datagram of a reply. Every reply passes here; None for one that is longer than this asker may be sent."""
        head = ReplyHead(
            cookie=self._mint.mint(asker.address, asker.node_id, now),
            validated=asker.proven,
            observed=asker.address,
            space=min(max(self._space(), 0), MAX_SPACE_CLASS),
        )
        body = encode_reply(reply, frame.request_id, head)
        if ENVELOPE_BYTES + len(body) > asker.limit:
            return None
        return seal(body, asker.node_id, self._params.network_id, self._identity)
