"""A ping for whoever hears it, and what answers it: how nodes find each other without knowing an address.

The ping is signed for 32 zero bytes, as every ping to an unknown node. It is called out to many at once. The answers
are ordinary pongs, from the addresses at which their senders serve.
"""

from shoal.dht.errors import ProtocolError
from shoal.dht.identity import UNKNOWN_ID, Entropy, Identity, NodeId, has_proof
from shoal.dht.messages import REQUEST_ID_BYTES, Kind, Ping, decode_frame, encode_request
from shoal.dht.params import NetworkParameters
from shoal.dht.wire import open_envelope, seal


class OpenPing:
    """One ping that is called out; its answers have its number in them."""

    def __init__(self, params: NetworkParameters, identity: Identity, entropy: Entropy) -> None:
        self._params = params
        self._identity = identity
        self._number = entropy(REQUEST_ID_BYTES)
        body = encode_request(Ping(), self._number, b"", serving=False, addressed=False)
        self.datagram = seal(body, UNKNOWN_ID, params.network_id, identity)

    def is_answered_by(self, datagram: bytes) -> NodeId | None:
        """The node that a datagram is an answer of; None for anything else. Costs a signature where it may be one."""
        try:
            envelope = open_envelope(datagram, self._params.network_id)
            frame = decode_frame(envelope.body)
        except ProtocolError:
            return None
        node_id = envelope.node_id
        if not frame.is_reply or frame.kind != Kind.PING or frame.request_id != self._number:
            return None
        if node_id == self._identity.node_id or not has_proof(node_id, self._params.pow_bits):
            return None
        scheme = self._identity.scheme
        return node_id if envelope.is_signed_for(self._identity.node_id, self._params.network_id, scheme) else None


def is_open_ping(datagram: bytes, params: NetworkParameters, own_id: NodeId) -> bool:
    """Whether a datagram has the form of an open ping of another node; its signature is not looked at."""
    try:
        envelope = open_envelope(datagram, params.network_id)
        frame = decode_frame(envelope.body)
    except ProtocolError:
        return False
    return frame.kind == Kind.PING and not (frame.is_reply or frame.is_addressed) and envelope.node_id != own_id
