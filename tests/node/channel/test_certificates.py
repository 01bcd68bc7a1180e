"""The key in a certificate is read as a whole library reads it, or not at all."""

from random import Random

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from kit.certificates import certificate_of
from shoal.dht import Identity
from shoal.node.channel import Misbehaved
from shoal.node.channel.certificates import certificate_key


def key_by_library(der: bytes) -> bytes | None:
    """The Ed25519 key that `cryptography` finds, if any."""
    try:
        key = x509.load_der_x509_certificate(der).public_key()
    except Exception:  # noqa: BLE001 - whatever that library says of nonsense
        return None
    return key.public_bytes_raw() if isinstance(key, Ed25519PublicKey) else None


def key_of(der: bytes) -> bytes | None:
    try:
        return certificate_key(der)
    except Misbehaved:
        return None


def test_the_key_of_an_honest_certificate() -> None:
    for seed in range(20):
        identity = Identity.create(0, Random(seed).randbytes)
        der = certificate_of(identity)
        assert certificate_key(der) == identity.public_key == key_by_library(der)


@pytest.mark.parametrize("seed", range(4))
def test_no_change_to_a_certificate_makes_two_readers_see_two_keys(seed: int) -> None:
    """Bytes changed, left out, put in and doubled: what the library reads is read as the same key, or refused."""
    rng = Random(seed)
    der = certificate_of(Identity.create(0, rng.randbytes))
    both = 0
    for _ in range(5_000):
        changed = bytearray(der)
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(changed))
            match rng.randrange(4):
                case 0:
                    changed[at] = rng.choice((0, 1, 0x30, 0x80, 0x81, 0x82, 0xA0, 0xFF, changed[at] ^ 1))
                case 1:
                    del changed[at]
                case 2:
                    changed.insert(at, rng.randrange(256))
                case _:
                    changed[at:at] = changed[at : at + rng.randint(1, 60)]
        ours, theirs = key_of(bytes(changed)), key_by_library(bytes(changed))
        both += ours is not None and theirs is not None
        assert ours is None or theirs is None or ours == theirs
    assert both > 100


def test_a_length_that_is_longer_than_need_be_is_refused() -> None:
    der = certificate_of(Identity.create(0, Random(1).randbytes))
    assert der[:2] == b"\x30\x81"
    assert key_of(der[:1] + b"\x82\x00" + der[2:]) is None
    assert key_of(der + b"\x00") is None
    assert key_of(b"\x30\x80" + der[3:] + bytes(2)) is None  # as BER would have it
