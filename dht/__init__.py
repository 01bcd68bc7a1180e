"""Finding peers: identities, contacts, lookups and signed records over UDP. This layer knows nothing of files.

The pure parts (`routing`, `lookup`, `store`, `guard`, `responder`, `messages`, `records`) take time and
randomness as arguments; trio appears in `service` and the modules it drives. `docs/dht.md` is the protocol.
"""

from shoal.dht.address import Address
from shoal.dht.announcer import Announcement, StoreReport
from shoal.dht.contact import Contact, space_class
from shoal.dht.counters import DhtStatistics
from shoal.dht.errors import (
    AddressError,
    DhtError,
    ListenError,
    MisbehaviourError,
    NobodyAnsweredError,
    NoReplyError,
    ProtocolError,
    QueryError,
    RecordTooLargeError,
    UnsupportedError,
)
from shoal.dht.hashing import labelled_hash
from shoal.dht.hearsay import Allowance, KnockBudget
from shoal.dht.identity import Identity, NodeId, distance, has_proof, node_id_of
from shoal.dht.multicast import LanLink, LanNetwork, UdpLan
from shoal.dht.open_ping import OpenPing
from shoal.dht.own_address import AddressSource, Belief, OwnAddress
from shoal.dht.params import NetworkParameters
from shoal.dht.reach import Reach, reach_of
from shoal.dht.records import MAX_ANNOUNCEMENT_BYTES, Record, RecordKey, RecordKind
from shoal.dht.routing import K
from shoal.dht.service import DhtService
from shoal.dht.signatures import Ed25519, SignatureScheme
from shoal.dht.store import StoreLimits
from shoal.dht.transport import DatagramNetwork, DatagramSocket, UdpNetwork

__all__ = [
    "MAX_ANNOUNCEMENT_BYTES",
    "Address",
    "AddressError",
    "AddressSource",
    "Allowance",
    "Announcement",
    "Belief",
    "Contact",
    "DatagramNetwork",
    "DatagramSocket",
    "DhtError",
    "DhtService",
    "DhtStatistics",
    "Ed25519",
    "Identity",
    "K",
    "KnockBudget",
    "LanLink",
    "LanNetwork",
    "ListenError",
    "MisbehaviourError",
    "NetworkParameters",
    "NoReplyError",
    "NobodyAnsweredError",
    "NodeId",
    "OpenPing",
    "OwnAddress",
    "ProtocolError",
    "QueryError",
    "Reach",
    "Record",
    "RecordKey",
    "RecordKind",
    "RecordTooLargeError",
    "SignatureScheme",
    "StoreLimits",
    "StoreReport",
    "UdpLan",
    "UdpNetwork",
    "UnsupportedError",
    "distance",
    "has_proof",
    "labelled_hash",
    "node_id_of",
    "reach_of",
    "space_class",
]
