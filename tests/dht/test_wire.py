"""The envelope: bound to sender, receiver and network; nothing but ProtocolError for foreign bytes."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.dht import Identity, NetworkParameters, ProtocolError
from shoal.dht.wire import (
    ENVELOPE_BYTES,
    MAX_BODY_BYTES,
    MAX_DATAGRAM_BYTES,
    OtherNetworkError,
    open_envelope,
    seal,
)

NETWORK = NetworkParameters("wire", 0, True).network_id
OTHER = NetworkParameters("other", 0, True).network_id


@pytest.fixture
def pair(rng: Random) -> tuple[Identity, Identity]:
    return Identity.create(0, rng.randbytes), Identity.create(0, rng.randbytes)


def test_sealed_and_opened(pair: tuple[Identity, Identity]) -> None:
    alice, bob = pair
    datagram = seal(b"body", bob.node_id, NETWORK, alice)
    assert len(datagram) == ENVELOPE_BYTES + 4
    envelope = open_envelope(datagram, NETWORK)
    assert (envelope.node_id, envelope.public_key, envelope.body) == (alice.node_id, alice.public_key, b"body")
    assert envelope.is_signed_for(bob.node_id, NETWORK, alice.scheme)
    assert not envelope.is_signed_for(alice.node_id, NETWORK, alice.scheme)
    assert not envelope.is_signed_for(bob.node_id, OTHER, alice.scheme)


def test_every_flipped_bit_is_noticed(pair: tuple[Identity, Identity]) -> None:
    alice, bob = pair
    datagram = seal(b"body", bob.node_id, NETWORK, alice)
    for position in range(len(datagram)):
        changed = bytearray(datagram)
        changed[position] ^= 1 << position % 8
        try:
            envelope = open_envelope(bytes(changed), NETWORK)
        except OtherNetworkError:
            assert position < 9
            continue
        assert not envelope.is_signed_for(bob.node_id, NETWORK, alice.scheme), position


def test_sizes(pair: tuple[Identity, Identity]) -> None:
    alice, bob = pair
    longest = seal(bytes(MAX_BODY_BYTES), bob.node_id, NETWORK, alice)
    assert len(longest) == MAX_DATAGRAM_BYTES
    open_envelope(longest, NETWORK)
    for bad in (longest + b"x", longest[:ENVELOPE_BYTES], b""):
        with pytest.raises(ProtocolError):
            open_envelope(bad, NETWORK)
    with pytest.raises(ValueError, match="limit"):
        seal(bytes(MAX_BODY_BYTES + 1), bob.node_id, NETWORK, alice)


@given(st.binary(max_size=1400))
def test_random_bytes(data: bytes) -> None:
    try:
        open_envelope(data, NETWORK)
    except ProtocolError:
        pass
    else:
        assert data[:1] + data[1:9] == b"\x01" + NETWORK
