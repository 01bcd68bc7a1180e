"""What all nodes of one network agree on."""

from functools import cached_property

from shoal.dht.address import Address
from shoal.dht.hashing import labelled_hash
from shoal.values import dataclass

NETWORK_ID_BYTES = 8  # tells networks apart, no security rests on it
MAX_NAME_BYTES = 64
MAX_POW_BITS = 64  # beyond any use: 2**64 hashes
PUBLIC_POW_BITS = 20  # about a million hashes, seconds once for an honest node

_network_hash = labelled_hash("network id")


@dataclass(frozen=True)
class NetworkParameters:
    """The parameters of one network, as its `bootstrap_peers.toml` gives them.

    name: 1..64 bytes of UTF-8.    pow_bits: leading zero bits a serving node's id proof must have.
    private: lifts every per-address and per-prefix limit, allows private addresses; it is no access control.
    epoch_s: rhythm of audit and repair in seconds; no part of the network id.
    Raises ValueError when a value is out of range.
    """

    name: str
    pow_bits: int = PUBLIC_POW_BITS
    private: bool = False
    epoch_s: float = 86_400.0

    def __post_init__(self) -> None:
        if not 1 <= len(self.name.encode()) <= MAX_NAME_BYTES:
            raise ValueError(f"a network name has 1 to {MAX_NAME_BYTES} bytes")
        if not 0 <= self.pow_bits <= MAX_POW_BITS:
            raise ValueError(f"pow_bits must be between 0 and {MAX_POW_BITS}")
        if not self.epoch_s > 0:
            raise ValueError("the epoch must be longer than nothing")

    @cached_property
    def network_id(self) -> bytes:
        """8 bytes: H("network id")(pow_bits u8 ‖ private u8 ‖ name in UTF-8)."""
        material = bytes([self.pow_bits, int(self.private)]) + self.name.encode()
        return _network_hash(material)[:NETWORK_ID_BYTES]

    def allows(self, address: Address) -> bool:
        """Whether a node of this network may send to `address` or hear from it."""
        return address.is_usable and (self.private or address.is_public)
