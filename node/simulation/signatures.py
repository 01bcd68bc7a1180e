"""Signatures for long simulations, where real ones would be most of the work. They protect nothing."""

import hashlib

from shoal.dht.signatures import PUBLIC_KEY_BYTES, SIGNATURE_BYTES

_LABEL = b"simulated key"


class FastSignatures:
    """Stands in for Ed25519 (a `SignatureScheme`): same lengths, deterministic, some hundred times faster.

    The signature is a hash keyed with the *public* key, so it catches accidents (another message, another key, a
    flipped bit) and anybody can forge it. Nodes that use it understand only each other. Simulations only: nothing
    outside shoal.node.simulation and tests may import this module.
    """

    def public_key(self, secret: bytes) -> bytes:
        """The 32-byte public key that belongs to `secret`; different from the secret, and that is all."""
        return hashlib.blake2b(_LABEL + secret, digest_size=PUBLIC_KEY_BYTES).digest()

    def sign(self, secret: bytes, message: bytes) -> bytes:
        """64 bytes that `verify` accepts for this key and message."""
        return self._tag(self.public_key(secret), message)

    def verify(self, public_key: bytes, message: bytes, signature: bytes) -> bool:
        """Whether `sign` gave `signature` for `message`. Never raises, whatever bytes it is given."""
        return len(public_key) == PUBLIC_KEY_BYTES and signature == self._tag(public_key, message)

    def _tag(self, public_key: bytes, message: bytes) -> bytes:
        return hashlib.blake2b(message, key=public_key, digest_size=SIGNATURE_BYTES).digest()
