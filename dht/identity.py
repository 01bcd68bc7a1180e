"""A node's identity: a key pair, an id bound to it, and the proof of work that makes ids cost something.

node id = H("node id")(public key ‖ id nonce)
the proof holds when H("node id proof")(node id) begins with `pow_bits` zero bits
"""

from collections.abc import Callable
from dataclasses import field
from functools import lru_cache
from typing import NewType

from shoal.dht.hashing import HASH_BYTES, labelled_hash
from shoal.dht.signatures import SECRET_BYTES, Ed25519, SignatureScheme
from shoal.values import dataclass

NodeId = NewType("NodeId", bytes)  # 32 bytes; as a big-endian integer, a point of the XOR metric
Entropy = Callable[[int], bytes]  # n -> n unpredictable bytes; `os.urandom` in real life

NODE_ID_BYTES = HASH_BYTES
ID_NONCE_BYTES = 8
UNKNOWN_ID = NodeId(bytes(NODE_ID_BYTES))  # stands for "whoever you are" in the signature of a first ping

_CACHE_ENTRIES = 4_096  # the same peers are met again and again; bounds what strangers can fill

_id_hash = labelled_hash("node id")
_proof_hash = labelled_hash("node id proof")


@lru_cache(maxsize=_CACHE_ENTRIES)
def node_id_of(public_key: bytes, id_nonce: bytes) -> NodeId:
    """The id that belongs to a 32-byte key and an 8-byte nonce."""
    return NodeId(_id_hash(public_key + id_nonce))


def has_proof(node_id: bytes, pow_bits: int) -> bool:
    """Whether the proof of work behind `node_id` has at least `pow_bits` leading zero bits."""
    return pow_bits == 0 or _known_proof(node_id, pow_bits)


@lru_cache(maxsize=_CACHE_ENTRIES)
def _known_proof(node_id: bytes, pow_bits: int) -> bool:
    return _check_proof(node_id, pow_bits)


def _check_proof(node_id: bytes, pow_bits: int) -> bool:
    return int.from_bytes(_proof_hash(node_id), "big") >> (8 * HASH_BYTES - pow_bits) == 0


def distance(one: bytes, other: bytes) -> int:
    """The XOR metric (Kademlia, section 2)."""
    return int.from_bytes(one, "big") ^ int.from_bytes(other, "big")


@dataclass(frozen=True, slots=True)
class Identity:
    """A node's secret and public self. Never printed with its secret.

    secret: 32 bytes.    public_key: 32 bytes.    id_nonce: 8 bytes.    node_id: 32 bytes.
    Build one with `create` or, from what was saved, with `restore`.
    """

    secret: bytes = field(repr=False)
    public_key: bytes
    id_nonce: bytes
    node_id: NodeId
    scheme: SignatureScheme = field(repr=False, compare=False)

    @classmethod
    def create(cls, pow_bits: int, entropy: Entropy, scheme: SignatureScheme | None = None) -> "Identity":
        """Make a new identity with a proof of `pow_bits` bits (0 for a throw-away client identity).

        Blocks for about 2**pow_bits / 300,000 seconds: with 20 bits that is seconds, so call it in a worker.
        """
        scheme = scheme or Ed25519()
        secret = entropy(SECRET_BYTES)
        public_key = scheme.public_key(secret)
        start = int.from_bytes(entropy(ID_NONCE_BYTES), "big")
        id_nonce = _find_nonce(public_key, pow_bits, start)
        return cls(secret, public_key, id_nonce, node_id_of(public_key, id_nonce), scheme)

    @classmethod
    def restore(cls, secret: bytes, id_nonce: bytes, scheme: SignatureScheme | None = None) -> "Identity":
        """Rebuild an identity from what a home keeps. Raises ValueError for wrong lengths."""
        if len(secret) != SECRET_BYTES or len(id_nonce) != ID_NONCE_BYTES:
            raise ValueError(f"an identity is {SECRET_BYTES} secret bytes and an {ID_NONCE_BYTES}-byte nonce")
        scheme = scheme or Ed25519()
        public_key = scheme.public_key(secret)
        return cls(secret, public_key, id_nonce, node_id_of(public_key, id_nonce), scheme)

    def sign(self, message: bytes) -> bytes:
        """Sign `message`, which must begin with a label of its own (`hashing.signing_prefix`): 64 bytes."""
        return self.scheme.sign(self.secret, message)


def _find_nonce(public_key: bytes, pow_bits: int, start: int) -> bytes:
    """Search upwards from a random start, so that two runs over one key do not repeat each other's work."""
    modulus = 1 << (8 * ID_NONCE_BYTES)
    for step in range(modulus):
        nonce = ((start + step) % modulus).to_bytes(ID_NONCE_BYTES, "big")
        if pow_bits == 0 or _check_proof(_id_hash(public_key + nonce), pow_bits):  # past the caches
            return nonce
    raise ValueError(f"no nonce gives a proof of {pow_bits} bits")
