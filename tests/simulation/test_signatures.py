"""The simulated signature scheme keeps the shape of the real one, and its verdicts on honest and damaged input."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import shoal.node
from shoal.dht import Ed25519, Identity, SignatureScheme
from shoal.simulation.signatures import FastSignatures

SCHEMES = [FastSignatures(), Ed25519()]
secrets = st.binary(min_size=32, max_size=32)


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda scheme: type(scheme).__name__)
@given(secret=secrets, other=secrets, message=st.binary(max_size=200), bit=st.integers(0, 511))
def test_behaves_as_a_scheme(scheme: SignatureScheme, secret: bytes, other: bytes, message: bytes, bit: int) -> None:
    public, signature = scheme.public_key(secret), scheme.sign(secret, message)
    assert (len(public), len(signature)) == (32, 64)
    assert public != secret
    assert signature == scheme.sign(secret, message)
    assert scheme.verify(public, message, signature)
    assert not scheme.verify(public, message + b"x", signature)
    assert scheme.verify(scheme.public_key(other), message, signature) == (other == secret)
    flipped = (int.from_bytes(signature, "big") ^ 1 << bit).to_bytes(64, "big")
    assert not scheme.verify(public, message, flipped)


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda scheme: type(scheme).__name__)
@given(st.binary(max_size=80), st.binary(max_size=10), st.binary(max_size=80))
def test_garbage_is_refused_without_raising(
    scheme: SignatureScheme, public: bytes, message: bytes, signature: bytes
) -> None:
    assert not scheme.verify(public, message, signature)


def test_identities_can_be_made_with_it() -> None:
    made = Identity.create(0, lambda count: bytes(count), FastSignatures())
    assert FastSignatures().verify(made.public_key, b"message", made.sign(b"message"))


def test_nothing_outside_simulations_imports_it() -> None:
    node = Path(shoal.node.__file__).parent
    for path in node.rglob("*.py"):
        if "simulation" not in path.parts:
            assert "FastSignatures" not in path.read_text(), path
