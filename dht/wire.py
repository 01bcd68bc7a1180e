"""The datagram: a signed envelope round one msgpack array.

    offset  bytes
         0      1  version
         1      8  network id
         9     32  public key of the sender
        41      8  id nonce of the sender
        49     64  signature
       113    ...  msgpack array (`messages`), at most 1,119 bytes

The signature covers prefix("datagram") ‖ version ‖ network id ‖ id nonce ‖ receiver id ‖ array. Kind and
request id are the first elements of the array, so they are covered too. The receiver id is not on the wire: a
receiver puts its own, which makes a datagram worthless to anybody else. Only a ping may be signed for 32 zero
bytes instead.
"""

from shoal.dht.errors import ProtocolError
from shoal.dht.hashing import signing_prefix
from shoal.dht.identity import ID_NONCE_BYTES, Identity, NodeId, node_id_of
from shoal.dht.params import NETWORK_ID_BYTES
from shoal.dht.signatures import PUBLIC_KEY_BYTES, SIGNATURE_BYTES, SignatureScheme
from shoal.values import dataclass

VERSION = 1
MAX_DATAGRAM_BYTES = 1_232  # IPv6's minimum MTU of 1,280 less IPv6 and UDP headers: never fragmented

_NETWORK_AT = 1
_KEY_AT = _NETWORK_AT + NETWORK_ID_BYTES
_NONCE_AT = _KEY_AT + PUBLIC_KEY_BYTES
_SIGNATURE_AT = _NONCE_AT + ID_NONCE_BYTES
ENVELOPE_BYTES = _SIGNATURE_AT + SIGNATURE_BYTES  # 113
MAX_BODY_BYTES = MAX_DATAGRAM_BYTES - ENVELOPE_BYTES

_PREFIX = signing_prefix("datagram")
_VERSION_BYTE = bytes([VERSION])


class OtherNetworkError(ProtocolError):
    """A datagram of another protocol version or another network: no offence, only not for us."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """A datagram taken apart, its signature not yet checked.

    public_key: 32 bytes.    id_nonce: 8 bytes.    signature: 64 bytes.    body: the msgpack array.
    node_id: the id that belongs to key and nonce; who it claims to be until `is_signed_for` has said yes.
    """

    public_key: bytes
    id_nonce: bytes
    signature: bytes
    body: bytes
    node_id: NodeId

    def is_signed_for(self, receiver: NodeId, network_id: bytes, scheme: SignatureScheme) -> bool:
        """Whether the sender signed these bytes for `receiver` in this network. Costs about 0.1 ms."""
        covered = _covered(network_id, self.id_nonce, receiver, self.body)
        return scheme.verify(self.public_key, covered, self.signature)


def seal(body: bytes, receiver: NodeId, network_id: bytes, identity: Identity) -> bytes:
    """Sign `body` for `receiver` and put it into an envelope.

    A body that is too long is a bug of ours: ValueError.
    """
    if len(body) > MAX_BODY_BYTES:
        raise ValueError(f"a body of {len(body)} bytes is over the limit of {MAX_BODY_BYTES}")
    signature = identity.sign(_covered(network_id, identity.id_nonce, receiver, body))
    return b"".join((_VERSION_BYTE, network_id, identity.public_key, identity.id_nonce, signature, body))


def open_envelope(datagram: bytes, network_id: bytes) -> Envelope:
    """Take a datagram apart, in the order size, version, network.

    Raises ProtocolError or OtherNetworkError.
    """
    if not ENVELOPE_BYTES < len(datagram) <= MAX_DATAGRAM_BYTES:
        raise ProtocolError(f"a datagram of {len(datagram)} bytes")
    if datagram[0] != VERSION or datagram[_NETWORK_AT:_KEY_AT] != network_id:
        raise OtherNetworkError("another version or network")
    public_key = datagram[_KEY_AT:_NONCE_AT]
    id_nonce = datagram[_NONCE_AT:_SIGNATURE_AT]
    return Envelope(
        public_key,
        id_nonce,
        datagram[_SIGNATURE_AT:ENVELOPE_BYTES],
        datagram[ENVELOPE_BYTES:],
        node_id_of(public_key, id_nonce),
    )


def _covered(network_id: bytes, id_nonce: bytes, receiver: NodeId, body: bytes) -> bytes:
    return b"".join((_PREFIX, _VERSION_BYTE, network_id, id_nonce, receiver, body))
