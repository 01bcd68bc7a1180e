"""Records: self-authenticating, bound to network, key, signer and address."""

from collections.abc import Callable
from random import Random
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.dht import (
    MAX_ANNOUNCEMENT_BYTES,
    Address,
    Contact,
    Ed25519,
    Identity,
    NetworkParameters,
    NodeId,
    ProtocolError,
    Reach,
    Record,
    RecordKind,
    RecordTooLargeError,
    has_proof,
)
from shoal.dht.reach import MAX_RELAYS
from shoal.dht.records import MAX_PAYLOAD_BYTES, provider_payload

PARAMS = NetworkParameters("records", pow_bits=2, private=True)
HERE = Address("192.168.7.1", 4100)


@pytest.fixture
def identity(rng: Random) -> Identity:
    return Identity.create(PARAMS.pow_bits, rng.randbytes)


def make(
    identity: Identity, *, payload: bytes | None = None, params: NetworkParameters = PARAMS, **options: Any
) -> Record:
    fields: dict[str, Any] = {"kind": 1, "key": bytes(32), "sequence": 5, "issued": 1000, "lifetime_s": 3600} | options
    return Record.sign(identity, params, payload=payload or provider_payload(Reach.of(HERE), b"content"), **fields)


def test_signed_encoded_decoded(identity: Identity) -> None:
    record = make(identity)
    again = Record.decode(record.encoded)
    assert again == record
    assert again.is_authentic(PARAMS, Ed25519())
    assert (again.node_id, again.reach.address, again.announcement) == (identity.node_id, HERE, b"content")
    assert again.provider.address == HERE
    assert again.lifetime_s == 3600
    assert len(again.tag) == 8


def test_lifetime_is_capped_at_two_days(identity: Identity) -> None:
    assert make(identity, lifetime_s=10**6).lifetime_s == 48 * 3600


def test_every_flipped_bit_is_noticed(identity: Identity) -> None:
    encoded = make(identity).encoded
    for position in range(len(encoded)):
        changed = bytearray(encoded)
        changed[position] ^= 1 << position % 8
        try:
            record = Record.decode(bytes(changed))
        except ProtocolError:
            continue
        assert not record.is_authentic(PARAMS, Ed25519()), position


def test_bound_to_the_network(identity: Identity) -> None:
    assert not make(identity).is_authentic(NetworkParameters("else", 2, True), Ed25519())


def test_needs_the_proof_of_work(rng: Random) -> None:
    made = (Identity.create(0, rng.randbytes) for _ in range(99))
    cheap = next(each for each in made if not has_proof(each.node_id, PARAMS.pow_bits))
    assert not make(cheap).is_authentic(PARAMS, Ed25519())
    assert make(cheap, params=NetworkParameters("free", 0, True)).is_authentic(
        NetworkParameters("free", 0, True), Ed25519()
    )


def test_public_networks_refuse_private_providers(identity: Identity) -> None:
    public = NetworkParameters("public", 0, False)
    assert not make(identity, params=public).is_authentic(public, Ed25519())
    somewhere = provider_payload(Reach.of(Address("8.8.8.8", 4100)), b"")
    assert make(identity, params=public, payload=somewhere).is_authentic(public, Ed25519())


def test_limits(identity: Identity) -> None:
    address = Address.of("2001:db8::1", 1)
    relays = tuple(Contact(NodeId(bytes([number]) * 32), address) for number in range(MAX_RELAYS))
    longest = provider_payload(Reach((address,), relays), bytes(MAX_ANNOUNCEMENT_BYTES))
    assert len(longest) == MAX_PAYLOAD_BYTES
    assert Record.decode(make(identity, payload=longest).encoded).payload == longest
    with pytest.raises(RecordTooLargeError):
        make(identity, payload=longest + b"x")
    with pytest.raises(ValueError, match="key"):
        make(identity, key=b"short")
    with pytest.raises(ValueError, match="lifetime"):
        make(identity, lifetime_s=0)


@pytest.mark.parametrize("payload", [b"\x07" + bytes(9), b"\x06" + bytes(5), b"\x12" + bytes(17), b"\x00"])
def test_provider_without_an_address(identity: Identity, payload: bytes) -> None:
    with pytest.raises(ProtocolError):
        Record.decode(make(identity, payload=payload).encoded)
    assert Record.decode(make(identity, payload=payload, kind=9).encoded).kind != RecordKind.PROVIDER


def test_expiry_before_issue(identity: Identity) -> None:
    encoded = bytearray(make(identity).encoded)
    encoded[90:98] = encoded[82:90]
    with pytest.raises(ProtocolError):
        Record.decode(bytes(encoded))


@given(st.binary(max_size=900))
def test_random_bytes(data: bytes) -> None:
    try:
        record = Record.decode(data)
    except ProtocolError:
        return
    assert record.encoded == data


def test_mutated_records_decode_or_raise(identity: Identity, rng: Random) -> None:
    encoded = make(identity).encoded
    for _ in range(5_000):
        changed = bytearray(encoded)
        for _ in range(rng.randint(1, 3)):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        size = rng.choice([len(changed), rng.randint(0, 900)])
        data = bytes(changed[:size]) + bytes(max(0, size - len(changed)))
        try:
            record = Record.decode(data)
        except ProtocolError:
            continue
        assert record.encoded == data


def test_vectors(vector_builder: ModuleType, stored_vectors: Callable[[str], Any]) -> None:
    assert vector_builder.build_records() == stored_vectors("records")
    record = Record.decode(bytes.fromhex(stored_vectors("records")["provider"]))
    assert record.is_authentic(vector_builder.PARAMS, Ed25519())
