"""Where datagrams come in and go out. The sockets feed the first checks, which pass on to caller or responder."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress

import trio

from shoal.dht.address import Address
from shoal.dht.contact import Contact
from shoal.dht.counters import Counters
from shoal.dht.errors import ProtocolError
from shoal.dht.identity import Entropy, Identity, NodeId
from shoal.dht.messages import decode_frame
from shoal.dht.open_ping import is_open_ping
from shoal.dht.params import NetworkParameters
from shoal.dht.responder import Responder, Response, Work
from shoal.dht.rpc import RequestSender
from shoal.dht.sockets import SocketSet
from shoal.dht.transport import DatagramNetwork, DatagramSocket
from shoal.dht.wire import ENVELOPE_BYTES, MAX_DATAGRAM_BYTES, OtherNetworkError, open_envelope

MAX_WORK = 64  # replies that are being worked on; what comes beyond that is dropped, and asked again soon
MAX_WORK_OF_PLACE = 32  # of these for one /24 or /48, or for one host in a private network
WORK_LIMIT_S = 10.0  # nobody waits for a reply longer than 9 s

log = logging.getLogger(__name__)


class Endpoint:
    """The sockets of one node with the tasks that read them. `caller` sends our requests through it.

    on_newcomer: called with a serving node that asked us something from a proven address.
    """

    def __init__(
        self,
        params: NetworkParameters,
        identity: Identity,
        network: DatagramNetwork,
        entropy: Entropy,
        on_newcomer: Callable[[Contact], None],
    ) -> None:
        self._params = params
        self._sockets = SocketSet(network)
        self._on_newcomer = on_newcomer
        self._nursery: trio.Nursery | None = None
        self._working: Counter[bytes] = Counter()  # replies in work, by place
        self.counters = Counters()
        self.is_open: Callable[[bool], bool] = lambda ipv6: True  # whether to say that we serve, by family
        self.caller = RequestSender(params, identity, entropy, self._send)

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Where the listening sockets are bound."""
        return self._sockets.addresses

    async def listen(self, addresses: Sequence[Address]) -> None:
        """Bind all addresses to serve on. Raises ListenError."""
        await self._sockets.listen(addresses)

    def start(self, nursery: trio.Nursery, responder: Responder) -> None:
        """Read the sockets in tasks of `nursery` from now on; requests go to `responder`."""
        self._nursery = nursery
        for sock in self._sockets.listening:
            nursery.start_soon(self._receive, sock, responder)

    def close(self) -> None:
        """Close all sockets; the reading tasks end."""
        self._nursery = None
        self._sockets.close()

    # -- out -------------------------------------------------------------------------------------------

    async def _send(self, datagram_for: Callable[[bool], bytes], address: Address) -> bool:
        """Send `datagram_for(serving)`; see `rpc.Sender`."""
        sock = await self._socket_for(address)
        if sock is None:
            return False
        datagram = datagram_for(self._sockets.is_listening(sock) and self.is_open(address.is_ipv6))
        try:
            await sock.send(datagram, address)
        except trio.ClosedResourceError:
            return False
        self.counters.note_out(len(datagram))
        return True

    async def _socket_for(self, address: Address) -> DatagramSocket | None:
        if self._nursery is None or not self._params.allows(address):
            return None
        sock = self._sockets.existing(address)
        if sock is None:
            opened = await self._sockets.open_ephemeral(address)
            if opened is not None and self._nursery is not None:
                self._nursery.start_soon(self._receive, opened, None)
            sock = self._sockets.existing(address)
        return sock

    # -- in --------------------------------------------------------------------------------------------

    async def answer_open_ping(self, data: bytes, responder: Responder, own_id: NodeId, source: Address) -> None:
        """Answer an open ping that was called out to many, from the socket at which we serve. Anything else is dropped.

        What is counted, checked and bounded is what is so for a datagram that comes to that socket.
        """
        sock = self._sockets.existing(source)
        if sock is None or not self._sockets.is_listening(sock) or not is_open_ping(data, self._params, own_id):
            return
        self.counters.note_in(len(data))
        response = self._take(data, source, responder)
        if response.dropped is not None:
            self.counters.dropped[response.dropped] += 1
        if response.datagram is not None:
            with suppress(trio.ClosedResourceError):
                await sock.send(response.datagram, source)
                self.counters.note_out(len(response.datagram))

    async def _receive(self, sock: DatagramSocket, responder: Responder | None) -> None:
        """Read one socket until it is closed. Without a responder only replies are taken."""
        try:
            while True:
                data, source = await sock.receive()
                self.counters.note_in(len(data))
                response = self._take(data, source, responder)
                if response.work is not None and not self._start_work(sock, response.work, source):
                    self.counters.dropped["busy"] += 1
                if response.dropped is not None:
                    self.counters.dropped[response.dropped] += 1
                if response.datagram is not None:
                    await sock.send(response.datagram, source)
                    self.counters.note_out(len(response.datagram))
        except trio.ClosedResourceError:
            return

    def _start_work(self, sock: DatagramSocket, work: Work, source: Address) -> bool:
        """Work on a reply in a task of its own, unless there are too many of them."""
        place = source.place(private=self._params.private)
        is_full = self._working.total() >= MAX_WORK or self._working[place] >= MAX_WORK_OF_PLACE
        if self._nursery is None or is_full:
            return False
        self._working[place] += 1
        self._nursery.start_soon(self._work, sock, work, source, place)
        return True

    async def _work(self, sock: DatagramSocket, work: Work, source: Address, place: bytes) -> None:
        try:
            with trio.move_on_after(WORK_LIMIT_S):
                datagram = await work()
                if datagram is None:
                    self.counters.dropped["amplification"] += 1
                    return
                await sock.send(datagram, source)
                self.counters.note_out(len(datagram))
        except trio.ClosedResourceError:
            return
        except Exception:  # a stranger's bytes found a bug in the layer above: that must not end the node
            log.exception("a query failed on a bug")
            self.counters.dropped["bug"] += 1
        finally:
            self._working[place] -= 1
            if not self._working[place]:
                del self._working[place]

    def _take(self, data: bytes, source: Address, responder: Responder | None) -> Response:
        """Handle one datagram, in the order of checks that `guard` describes. Never raises."""
        if not ENVELOPE_BYTES < len(data) <= MAX_DATAGRAM_BYTES:
            return Response(dropped="size")
        if not self._params.allows(source):
            return Response(dropped="address")
        try:
            envelope = open_envelope(data, self._params.network_id)
            frame = decode_frame(envelope.body)
        except OtherNetworkError:
            return Response(dropped="network")
        except ProtocolError:
            return Response(dropped="malformed")
        if frame.is_reply:
            expected = self.caller.expects(frame, source)
            return Response(dropped=self.caller.on_reply(envelope, frame, source) if expected else "unasked")
        if responder is None:
            return Response(dropped="client")
        response = responder.respond(envelope, frame, source, len(data), trio.current_time())
        if response.newcomer is not None:
            self._on_newcomer(response.newcomer)
        return response
