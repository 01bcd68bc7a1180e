"""Records: small signed statements kept by the nodes closest to a key.

    offset  bytes                      offset  bytes
         0      1  version                  82      8  issued, unix seconds
         1      1  kind                     90      8  expires, unix seconds
         2     32  key                      98      2  payload length
        34     32  public key              100    ...  payload, at most 872
        66      8  id nonce                 ...    64  signature
        74      8  sequence

Integers are big-endian and unsigned. The signature covers prefix("record") ‖ network id ‖ all before the
signature. A record proves itself: a node that holds it can only pass it on or withhold it. Among records of one
signer under one key the higher sequence wins.

No node compares `expires` with its wall clock. A storer counts the lifetime `expires - issued` on its own monotonic
clock, so a wrong clock neither kills records nor keeps them.
"""

import struct
from dataclasses import replace
from enum import IntEnum
from functools import cached_property
from typing import NewType

from shoal.dht.contact import Contact
from shoal.dht.errors import ProtocolError, RecordTooLargeError
from shoal.dht.hashing import HASH_BYTES, labelled_hash, signing_prefix
from shoal.dht.identity import ID_NONCE_BYTES, Identity, NodeId, has_proof, node_id_of
from shoal.dht.params import NetworkParameters
from shoal.dht.reach import MAX_REACH_BYTES, Reach, split_reach
from shoal.dht.signatures import PUBLIC_KEY_BYTES, SIGNATURE_BYTES, SignatureScheme
from shoal.values import dataclass

RecordKey = NewType("RecordKey", bytes)  # 32 bytes, a point of the same space as node ids

RECORD_VERSION = 2
MAX_PAYLOAD_BYTES = 872  # one record and the head of any message fit one datagram
MAX_RECORDS_PER_KEY = 64  # kept by one node under one key, and so the most one node can answer
MAX_LIFETIME_S = 48 * 3600  # one every 30 hours, and 15 more to repeat one that failed
TAG_BYTES = 8  # names a record between two nodes that both hold it; forging a twin takes 2**64 hashes
MAX_ANNOUNCEMENT_BYTES = MAX_PAYLOAD_BYTES - MAX_REACH_BYTES  # what is left after the ways to the signer

_HEAD = struct.Struct(f">BB{HASH_BYTES}s{PUBLIC_KEY_BYTES}s{ID_NONCE_BYTES}sQQQH")
MIN_RECORD_BYTES = _HEAD.size + SIGNATURE_BYTES
MAX_RECORD_BYTES = MIN_RECORD_BYTES + MAX_PAYLOAD_BYTES
_MAX_U64 = 2**64 - 1

_PREFIX = signing_prefix("record")
_tag_hash = labelled_hash("record tag")


class RecordKind(IntEnum):
    """What a record means. Nodes keep only the kinds they know."""

    PROVIDER = 1  # "I have what this key stands for, reached like this"; payload = reach ‖ announcement


@dataclass(frozen=True)
class Record:
    """A decoded record. Only `is_authentic` says whether it may be believed.

    kind: 0..255.    key: 32 bytes.    public_key, id_nonce: the signer.    sequence, issued, expires: u64,
    seconds. payload: at most 872 bytes.    signature: 64 bytes.
    """

    kind: int
    key: RecordKey
    public_key: bytes
    id_nonce: bytes
    sequence: int
    issued: int
    expires: int
    payload: bytes
    signature: bytes

    @cached_property
    def encoded(self) -> bytes:
        """The record's one and only form in bytes."""
        return self._unsigned + self.signature

    @cached_property
    def node_id(self) -> NodeId:
        """The signer's node id."""
        return node_id_of(self.public_key, self.id_nonce)

    @cached_property
    def tag(self) -> bytes:
        """8 bytes that name this very record."""
        return _tag_hash(self.encoded)[:TAG_BYTES]

    @property
    def lifetime_s(self) -> int:
        """How long a storer keeps it without renewal, in seconds."""
        return min(self.expires - self.issued, MAX_LIFETIME_S)

    @cached_property
    def reach(self) -> Reach:
        """The ways to the signer of a provider record. `decode` has made sure that there is one."""
        return split_reach(self.payload)[0]

    @property
    def provider(self) -> Contact:
        """The signer of a provider record as a contact."""
        return self.reach.contact(self.node_id)

    @property
    def announcement(self) -> bytes:
        """What follows the reach in a provider record."""
        return split_reach(self.payload)[1]

    @property
    def _unsigned(self) -> bytes:
        head = _HEAD.pack(
            RECORD_VERSION,
            self.kind,
            self.key,
            self.public_key,
            self.id_nonce,
            self.sequence,
            self.issued,
            self.expires,
            len(self.payload),
        )
        return head + self.payload

    def is_authentic(self, params: NetworkParameters, scheme: SignatureScheme) -> bool:
        """Whether its signer signed it for this network and has the proof of work. Costs about 0.1 ms."""
        if not has_proof(self.node_id, params.pow_bits):
            return False
        if self.kind == RecordKind.PROVIDER and not self.reach.allowed_in(params):
            return False
        return scheme.verify(self.public_key, _covered(params, self._unsigned), self.signature)

    @classmethod
    def decode(cls, data: bytes) -> "Record":
        """Read a record, checking all but signature and proof.

        Raises ProtocolError, whatever the bytes are.
        """
        if not MIN_RECORD_BYTES <= len(data) <= MAX_RECORD_BYTES:
            raise ProtocolError(f"a record of {len(data)} bytes")
        version, kind, key, public_key, nonce, sequence, issued, expires, length = _HEAD.unpack_from(data)
        if version != RECORD_VERSION:
            raise ProtocolError(f"a record of version {version}")
        if len(data) != MIN_RECORD_BYTES + length:
            raise ProtocolError("a record whose payload length is wrong")
        if expires <= issued:
            raise ProtocolError("a record that expires before it was issued")
        payload = data[_HEAD.size : _HEAD.size + length]
        if kind == RecordKind.PROVIDER:
            split_reach(payload)
        return cls(
            kind,
            RecordKey(key),
            public_key,
            nonce,
            sequence,
            issued,
            expires,
            payload,
            data[-SIGNATURE_BYTES:],
        )

    @classmethod
    def sign(
        cls,
        identity: Identity,
        params: NetworkParameters,
        *,
        kind: int,
        key: RecordKey,
        sequence: int,
        issued: int,
        lifetime_s: int,
        payload: bytes,
    ) -> "Record":
        """Make a record of ours.

        Raises RecordTooLargeError; ValueError for a key, time or lifetime out of range.
        """
        if len(payload) > MAX_PAYLOAD_BYTES:
            raise RecordTooLargeError(f"a payload of {len(payload)} bytes, the limit is {MAX_PAYLOAD_BYTES}")
        if len(key) != HASH_BYTES or lifetime_s < 1 or not 0 <= issued <= _MAX_U64 - lifetime_s:
            raise ValueError("a record needs a 32-byte key, a time of issue and a lifetime")
        bare = cls(
            kind,
            key,
            identity.public_key,
            identity.id_nonce,
            sequence,
            issued,
            issued + lifetime_s,
            payload,
            bytes(SIGNATURE_BYTES),
        )
        return replace(bare, signature=identity.sign(_covered(params, bare._unsigned)))


def provider_payload(reach: Reach, announcement: bytes) -> bytes:
    """The payload of a provider record: the ways to its signer ‖ content."""
    return reach.pack() + announcement


def _covered(params: NetworkParameters, unsigned: bytes) -> bytes:
    return _PREFIX + params.network_id + unsigned
