"""Signatures for long simulations, where real ones would be most of the work. They protect nothing."""

import hashlib
import zlib
from functools import lru_cache

from shoal.dht.signatures import PUBLIC_KEY_BYTES, SIGNATURE_BYTES

_LABEL = b"simulated key"
_CHECKSUM_BYTES = 4  # CRC-32
KEYS = 4_096  # public keys that are remembered: more than there are nodes


class FastSignatures:
    """Stands in for Ed25519 (a `SignatureScheme`): same lengths, deterministic, some hundred times faster.

    The signature is a checksum of the *public* key and the message, so it catches accidents (another message, another
    key, a flipped bit) and anybody can forge it. Nodes that use it understand only each other. Simulations only:
    nothing outside shoal.simulation and tests may import this module.
    """

    def public_key(self, secret: bytes) -> bytes:
        """The 32-byte public key that belongs to `secret`; different from the secret, and that is all."""
        return _public_key(secret)

    def sign(self, secret: bytes, message: bytes) -> bytes:
        """64 bytes that `verify` accepts for this key and message."""
        return _tag(_public_key(secret), message)

    def verify(self, public_key: bytes, message: bytes, signature: bytes) -> bool:
        """Whether `sign` gave `signature` for `message`. Never raises, whatever bytes it is given."""
        return len(public_key) == PUBLIC_KEY_BYTES and signature == _tag(public_key, message)


@lru_cache(KEYS)
def _public_key(secret: bytes) -> bytes:
    return hashlib.blake2b(_LABEL + secret, digest_size=PUBLIC_KEY_BYTES).digest()


def _tag(public_key: bytes, message: bytes) -> bytes:
    checksum = zlib.crc32(message, zlib.crc32(public_key))
    return checksum.to_bytes(_CHECKSUM_BYTES, "big") * (SIGNATURE_BYTES // _CHECKSUM_BYTES)
