"""Deletions: signed once, by the owner, for one file on one network."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.dht import Ed25519
from shoal.erasure import FileId, Manifest
from shoal.node.holders.deletion import Deletion, MalformedDeletion, read_deletion, sign_deletion

DAY_S = 86400
SECRET, NETWORK = bytes(range(32)), b"network!"
SCHEME = Ed25519()
MANIFEST = Manifest(
    k=1,
    n=1,
    block_bytes=65536,
    ciphertext_bytes=296,
    data_root=bytes(32),
    share_roots=(bytes(32),),
    metadata=b"",
    key_commitment=bytes(32),
    owner_key=SCHEME.public_key(SECRET),
)
DELETION = sign_deletion(SECRET, SCHEME, NETWORK, MANIFEST.id, 1_800_000_000.7)


def test_the_owner_signs_and_a_holder_understands() -> None:
    again = read_deletion(DELETION.pack(), MANIFEST.id)
    assert again == DELETION
    assert again.is_by_owner(MANIFEST, NETWORK, SCHEME)


def test_what_the_signature_covers() -> None:
    message = b"shoal/1 delete\0" + NETWORK + MANIFEST.id + (1_800_000_000).to_bytes(8, "big")
    assert DELETION.signature == SCHEME.sign(SECRET, message)
    assert len(DELETION.pack()) == 72


@pytest.mark.parametrize(
    "forged",
    [
        replace(DELETION, issued=DELETION.issued + 1),
        replace(DELETION, issued=2**63 - 1),
        replace(DELETION, signature=bytes(64)),
        replace(DELETION, file_id=FileId(bytes(32))),
        sign_deletion(bytes(32), SCHEME, NETWORK, MANIFEST.id, 1.0),
        sign_deletion(SECRET, SCHEME, b"another!", MANIFEST.id, 1.0),
    ],
)
def test_nobody_else_can(forged: Deletion) -> None:
    assert not forged.is_by_owner(MANIFEST, NETWORK, SCHEME)


@pytest.mark.parametrize(
    ("now", "until"),
    [
        (DELETION.issued, DELETION.issued),
        (DELETION.issued + 100 * DAY_S, DELETION.issued + 100 * DAY_S),  # passed on, or our clock is ahead
        (DELETION.issued - 200 * DAY_S, DELETION.issued),  # our clock is behind
        (DELETION.issued - 1000 * DAY_S, DELETION.issued - 635 * DAY_S),  # or its owner's is far ahead
    ],
)
def test_how_long_it_is_remembered(now: int, until: int) -> None:
    assert DELETION.remembered_until(now + 0.5) == until + 180 * DAY_S


@given(st.binary(max_size=100))
def test_any_bytes_are_a_deletion_or_malformed(packed: bytes) -> None:
    try:
        found = read_deletion(packed, MANIFEST.id)
    except MalformedDeletion:
        return
    assert not found.is_by_owner(MANIFEST, NETWORK, SCHEME)
