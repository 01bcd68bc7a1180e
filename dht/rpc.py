"""Asking: requests to peers, their retries and time limits, and the matching of replies.

A reply counts only if we wait for its request id, it comes from the address we asked, and the id we asked has signed it
for us. If we knew no id, any id with the proof of work may sign. A cancelled request leaves nothing behind.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import field
from functools import partial
from typing import Protocol

import trio

from shoal.dht.address import Address
from shoal.dht.contact import Contact
from shoal.dht.errors import MisbehaviourError, NoReplyError, ProtocolError, QueryError, UnsupportedError
from shoal.dht.guard import COOKIE_ROTATION_S
from shoal.dht.identity import UNKNOWN_ID, Entropy, Identity, NodeId, has_proof
from shoal.dht.messages import (
    REQUEST_ID_BYTES,
    Answered,
    Frame,
    KnownRequest,
    QueryStatus,
    Reply,
    ReplyHead,
    Stored,
    StoreStatus,
    Unsupported,
    decode_reply,
    encode_request,
)
from shoal.dht.params import NetworkParameters
from shoal.dht.wire import ENVELOPE_BYTES, Envelope, seal
from shoal.values import dataclass

MAX_PENDING = 512  # requests under way; more wait for their turn
MAX_COOKIES = 4_096
COOKIE_USE_S = COOKIE_ROTATION_S - 30.0  # the giver honours a cookie for 300 s at least
MAX_CHECKS_PER_REQUEST = 4  # signatures checked for one request: a forger must know the request id anyway

# Waiting for an answer: three attempts, so that 20 % loss each way fails one request in twenty and 5 % one in
# a thousand. Waits are multiples of the current estimate of a slow round trip.
ATTEMPT_WAITS = (1.0, 1.5, 2.0)
MAX_ATTEMPTS = len(ATTEMPT_WAITS)
FIRST_WAIT_S = 0.5  # the estimate before anything was measured
MIN_WAIT_S = 0.2  # a busy process on this very machine can take this long
MAX_WAIT_S = 2.0  # so a dead peer costs 9 s at most


class Sender(Protocol):
    """Gets a datagram out."""

    async def __call__(self, datagram_for: Callable[[bool], bytes], address: Address, /) -> bool:
        """Send `datagram_for(serving)`, serving = from a socket that answers.

        False if the address cannot be reached.
        """
        ...


Permit = Callable[[int], bool]
"""Whether a datagram of so many bytes may go out; it is asked before each, repetitions included."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A verified answer: from whom (with its space class), what it said beside, and what it said."""

    contact: Contact
    head: ReplyHead
    reply: Reply


@dataclass(slots=True)
class _Pending:
    address: Address
    expected: NodeId | None
    kind: int
    checks_left: int = MAX_CHECKS_PER_REQUEST
    done: trio.Event = field(default_factory=trio.Event)
    answer: Answer | None = None
    failure: QueryError | None = None


class RoundTrips:
    """A smoothed estimate of how long a slow answer takes (Jacobson & Karels 1988, Karn & Partridge 1987; RFC 6298)."""

    def __init__(self) -> None:
        self._mean: float | None = None
        self._deviation = 0.0
        self._longer = 1.0  # how many times as long as the estimate we wait

    def note_repeated(self) -> None:
        """An answer came to a request that was sent more than once.

        Which of them it answers nobody knows, so nothing was measured. Where peers take longer than we wait, nothing
        ever would be, and each request would be sent three times. So we wait longer until one was sent once.
        """
        self._longer = min(2 * self._longer, MAX_WAIT_S / MIN_WAIT_S)

    def note(self, seconds: float) -> None:
        """A round trip was measured, on a request that was sent once."""
        self._longer = 1.0
        if self._mean is None:
            self._mean, self._deviation = seconds, seconds / 2
            return
        self._deviation += (abs(seconds - self._mean) - self._deviation) / 4
        self._mean += (seconds - self._mean) / 8

    def wait_s(self) -> float:
        """How long to wait before asking again."""
        estimate_s = FIRST_WAIT_S if self._mean is None else max(self._mean + 4 * self._deviation, MIN_WAIT_S)
        return min(self._longer * estimate_s, MAX_WAIT_S)


class _Datagrams:
    """The datagrams of one request: the same bytes each time, but for what our socket is (`signed`)."""

    def __init__(
        self,
        params: NetworkParameters,
        identity: Identity,
        pending: _Pending,
        message: KnownRequest,
        request_id: bytes,
        cookie: bytes,
    ) -> None:
        self._params = params
        self._identity = identity
        self._receiver = pending.expected or UNKNOWN_ID
        addressed = pending.expected is not None
        self._body = partial(encode_request, message, request_id, cookie, addressed=addressed)
        self._made: dict[bool, bytes] = {}

    @property
    def size(self) -> int:
        """Bytes of each of them."""
        return ENVELOPE_BYTES + len(self._body(serving=False))

    def signed(self, serving: bool) -> bytes:
        """The datagram; serving: whether it says that we serve there. Each is made once."""
        if serving not in self._made:
            body = self._body(serving=serving)
            self._made[serving] = seal(body, self._receiver, self._params.network_id, self._identity)
        return self._made[serving]


class RequestSender:
    """Sends requests and waits for their replies."""

    def __init__(self, params: NetworkParameters, identity: Identity, entropy: Entropy, send: Sender) -> None:
        self._params = params
        self._identity = identity
        self._entropy = entropy
        self._send = send
        self._pending: dict[bytes, _Pending] = {}
        self._slots = trio.CapacityLimiter(MAX_PENDING)
        self._cookies: OrderedDict[tuple[Address, NodeId], tuple[bytes, float]] = OrderedDict()
        self._round_trips = RoundTrips()

    @property
    def pending_count(self) -> int:
        """Requests waiting for a reply."""
        return len(self._pending)

    async def request(
        self,
        address: Address,
        expected: NodeId | None,
        message: KnownRequest,
        *,
        attempts: int = MAX_ATTEMPTS,
        permit: Permit | None = None,
    ) -> Answer:
        """Ask `expected` (None: whoever is there, for a ping only) at `address`.

        permit: asked for each datagram until the peer has answered; None for an address that may be sent everything.
        Raises NoReplyError after all attempts (at most 9 s), UnsupportedError or MisbehaviourError.
        """
        try:
            self._slots.acquire_nowait()  # nearly always; without giving way to other tasks first
        except trio.WouldBlock:
            await self._slots.acquire()
        try:
            return await self._request(address, expected, message, attempts, permit)
        finally:
            self._slots.release()

    async def _request(
        self,
        address: Address,
        expected: NodeId | None,
        message: KnownRequest,
        attempts: int,
        permit: Permit | None,
    ) -> Answer:
        """An exchange, and another one where the first has only brought a cookie."""
        had_cookie = expected is not None and bool(self.cookie_for(address, expected))
        answer = await self._exchange(address, expected, message, attempts, permit)
        if (had_cookie and not answer.head.validated) or _lacks_cookie(answer):
            # The peer has restarted and kept its answer as short as our request, or it does not know us well enough
            # to store something without a cookie. Ask with the new one.
            answer = await self._exchange(address, expected, message, MAX_ATTEMPTS)
        return answer

    def cookie_for(self, address: Address, node_id: NodeId) -> bytes:
        """The cookie this peer gave us lately, or nothing."""
        cookie, received = self._cookies.get((address, node_id), (b"", 0.0))
        return cookie if trio.current_time() - received < COOKIE_USE_S else b""

    def expects(self, frame: Frame, source: Address) -> bool:
        """Whether a reply belongs to a request under way to that address.

        Cheap: comes before the signature.
        """
        pending = self._pending.get(frame.request_id)
        return pending is not None and pending.address == source and pending.checks_left > 0

    def on_reply(self, envelope: Envelope, frame: Frame, source: Address) -> str | None:
        """Take a reply that `expects` has let through. Returns why it was dropped, or None."""
        pending = self._pending[frame.request_id]
        pending.checks_left -= 1
        if not envelope.is_signed_for(self._identity.node_id, self._params.network_id, self._identity.scheme):
            return "signature"
        try:
            head, reply = decode_reply(frame)
        except ProtocolError:
            self._finish(pending, MisbehaviourError(f"{source} answered with a malformed reply"))
            return "schema"
        self._remember_cookie(source, envelope.node_id, head.cookie)
        self._finish(pending, self._judge(pending, envelope.node_id, head, reply))
        return None

    def _judge(self, pending: _Pending, node_id: NodeId, head: ReplyHead, reply: Reply) -> Answer | QueryError:
        if pending.expected is not None and pending.expected != node_id:
            return NoReplyError(f"another node answers at {pending.address}")
        if not has_proof(node_id, self._params.pow_bits):
            return MisbehaviourError(f"the node at {pending.address} has no proof of work")
        if isinstance(reply, Unsupported):
            return UnsupportedError(f"the node at {pending.address} does not know request {pending.kind}")
        if reply.kind != pending.kind:
            return MisbehaviourError(f"{pending.address} answered another question")
        return Answer(Contact(node_id, pending.address, head.space), head, reply)

    def _finish(self, pending: _Pending, outcome: Answer | QueryError) -> None:
        if isinstance(outcome, Answer):
            pending.answer = outcome
        else:
            pending.failure = outcome
        pending.done.set()

    async def _exchange(
        self,
        address: Address,
        expected: NodeId | None,
        message: KnownRequest,
        attempts: int,
        permit: Permit | None = None,
    ) -> Answer:
        request_id = self._entropy(REQUEST_ID_BYTES)
        pending = _Pending(address, expected, message.kind)
        self._pending[request_id] = pending
        try:
            datagrams = _Datagrams(self._params, self._identity, pending, message, request_id, self._cookie_to(pending))
            permitted = None if permit is None else partial(permit, datagrams.size)
            await self._attempt(pending, datagrams, attempts, permitted)
        finally:
            del self._pending[request_id]
        if pending.failure is not None:
            raise pending.failure
        if pending.answer is None:
            raise NoReplyError(f"no reply from {address}")
        return pending.answer

    async def _attempt(
        self, pending: _Pending, datagrams: "_Datagrams", attempts: int, permit: Callable[[], bool] | None
    ) -> None:
        """Send, wait, send again. The bytes are the same each time: a peer may answer twice, and we take one answer."""
        started = trio.current_time()
        unit = self._round_trips.wait_s()
        for number, waits in enumerate(ATTEMPT_WAITS[:attempts]):
            permitted = permit is None or permit()
            if not (permitted or number):
                return
            if permitted and not await self._send(datagrams.signed, pending.address):
                return
            with trio.move_on_after(unit * waits):
                await pending.done.wait()
            if pending.done.is_set():
                if number == 0:
                    self._round_trips.note(trio.current_time() - started)
                else:
                    self._round_trips.note_repeated()
                return

    def _cookie_to(self, pending: _Pending) -> bytes:
        return self.cookie_for(pending.address, pending.expected or UNKNOWN_ID)

    def _remember_cookie(self, address: Address, node_id: NodeId, cookie: bytes) -> None:
        self._cookies[address, node_id] = (cookie, trio.current_time())
        self._cookies.move_to_end((address, node_id))
        if len(self._cookies) > MAX_COOKIES:
            self._cookies.popitem(last=False)


def _lacks_cookie(answer: Answer) -> bool:
    match answer.reply:
        case Stored(statuses):
            return StoreStatus.NO_COOKIE in statuses
        case Answered(status):
            return status == QueryStatus.NO_COOKIE
    return False
