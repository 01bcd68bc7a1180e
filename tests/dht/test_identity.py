"""Identities: the id is bound to the key, and costs what the network asks."""

import os
from collections.abc import Callable
from random import Random
from types import ModuleType
from typing import Any

import pytest

from shoal.dht import Ed25519, Identity, NetworkParameters, distance, has_proof, node_id_of


def test_an_identity_signs_and_is_restored() -> None:
    identity = Identity.create(0, os.urandom)
    signature = identity.sign(b"message")
    assert identity.scheme.verify(identity.public_key, b"message", signature)
    assert not identity.scheme.verify(identity.public_key, b"massage", signature)
    assert Identity.restore(identity.secret, identity.id_nonce) == identity
    assert identity.secret.hex() not in repr(identity)
    assert repr(identity.secret) not in repr(identity)


def test_proof_of_work_is_searched_and_checked(rng: Random) -> None:
    identity = Identity.create(8, rng.randbytes)
    assert has_proof(identity.node_id, 8)
    assert identity.node_id == node_id_of(identity.public_key, identity.id_nonce)
    lucky = sum(has_proof(rng.randbytes(32), 8) for _ in range(10_000))
    assert 10 < lucky < 90  # one in 256
    assert all(has_proof(rng.randbytes(32), 0) for _ in range(10))
    assert not has_proof(identity.node_id, 256)


def test_distance_is_the_xor_metric() -> None:
    assert distance(bytes(32), bytes(31) + b"\x05") == 5
    assert distance(b"\xff" * 32, b"\xff" * 32) == 0


@pytest.mark.parametrize(("secret", "nonce"), [(b"short", bytes(8)), (bytes(32), bytes(7))])
def test_restoring_from_wrong_lengths(secret: bytes, nonce: bytes) -> None:
    with pytest.raises(ValueError, match="identity"):
        Identity.restore(secret, nonce)


@pytest.mark.parametrize("key", [b"", bytes(32), bytes(31), b"\xff" * 32, bytes(33)])
@pytest.mark.parametrize("signature", [b"", bytes(64), bytes(63), b"\xff" * 64])
def test_verifying_garbage_is_false_and_never_raises(key: bytes, signature: bytes) -> None:
    assert Ed25519().verify(key, b"anything", signature) is False


def test_network_ids_tell_parameters_apart() -> None:
    variants = [
        NetworkParameters("a", 0, False),
        NetworkParameters("b", 0, False),
        NetworkParameters("a", 1, False),
        NetworkParameters("a", 0, True),
    ]
    assert len({params.network_id for params in variants}) == 4
    assert NetworkParameters("a", 0, False, epoch_s=5).network_id == variants[0].network_id


@pytest.mark.parametrize(
    "options", [{"name": ""}, {"name": "x" * 65}, {"name": "x", "pow_bits": 65}, {"name": "x", "epoch_s": 0}]
)
def test_parameters_out_of_range(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - each message names its own parameter
        NetworkParameters(**options)


def test_vectors(vector_builder: ModuleType, stored_vectors: Callable[[str], Any]) -> None:
    assert vector_builder.build_identity() == stored_vectors("identity")
