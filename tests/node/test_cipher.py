"""Sealing and opening: what is opened is what was sealed, at its place, under its key, or nothing at all."""

from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_encrypt

from shoal.node.cipher import (
    METADATA_STEP_BYTES,
    CipherError,
    FileCipher,
    FileKind,
    FromLaterVersion,
    Metadata,
    check_padding,
    derive_key,
)
from shoal.node.folders.index import IndexSummary
from shoal.node.formats import MAX_LEASE_S
from shoal.node.names import name_bytes, name_text

KEY = bytes(range(32))
OTHER_KEY = bytes(range(1, 33))
CIPHER = FileCipher(KEY)
NONCE = bytes(range(24))

indexes = st.integers(0, 2**64 - 1)
metadata = st.builds(
    Metadata,
    size=st.integers(0, 2**63 - 1),
    name=st.none() | st.binary(max_size=255).map(name_text),
    media_type=st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=127),
    lease_s=st.none() | st.integers(1, MAX_LEASE_S - 1),
)
folders = st.builds(
    lambda content, table, pages, entries, name: Metadata(
        content + table + pages,
        name_text(name),
        kind=FileKind.DIRECTORY,
        folder=IndexSummary(content, table + pages, table, bytes(range(32)), entries),
    ),
    *(st.integers(0, most) for most in (2**62, 8 * 2**20, 200 * 2**20, 1_000_000)),
    st.binary(min_size=1, max_size=255),
)
FOLDER = [1, 100, 40, bytes(32), 2]


def seal(described: Metadata) -> bytes:
    return CIPHER.seal_metadata(described, lambda length: NONCE[:length])


def forge(padded: bytes) -> bytes:
    """Metadata as a malicious publisher seals it: any bytes, authentic."""
    return NONCE + crypto_aead_xchacha20poly1305_ietf_encrypt(
        padded, b"metadata", NONCE, derive_key("metadata key", KEY)
    )


def forge_fields(fields: Any) -> bytes:
    body = msgpack.packb(fields)
    return forge(len(body).to_bytes(2, "big") + body)


# --- segments


@given(indexes, st.booleans(), st.binary(max_size=2000))
def test_what_was_sealed_opens(index: int, last: bool, plaintext: bytes) -> None:
    sealed = CIPHER.seal_segment(index, last, plaintext)
    assert len(sealed) == len(plaintext) + 40
    assert CIPHER.open_segment(index, last, sealed) == plaintext
    assert CIPHER.seal_segment(index, last, plaintext) == sealed


def test_every_flipped_bit_is_refused() -> None:
    sealed = bytearray(CIPHER.seal_segment(3, False, b"four score and seven"))
    for bit in range(8 * len(sealed)):
        sealed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CipherError):
            CIPHER.open_segment(3, False, bytes(sealed))
        sealed[bit // 8] ^= 1 << bit % 8
    assert CIPHER.open_segment(3, False, bytes(sealed)) == b"four score and seven"


def test_every_cut_is_refused() -> None:
    sealed = CIPHER.seal_segment(0, True, b"abc")
    for length in range(len(sealed)):
        with pytest.raises(CipherError):
            CIPHER.open_segment(0, True, sealed[:length])
    with pytest.raises(CipherError):
        CIPHER.open_segment(0, True, sealed + b"\0")


@pytest.mark.parametrize(
    ("cipher", "index", "last"),
    [(CIPHER, 6, False), (CIPHER, 5, True), (CIPHER, 5 + 2**32, False), (FileCipher(OTHER_KEY), 5, False)],
)
def test_another_place_or_key_is_refused(cipher: FileCipher, index: int, last: bool) -> None:
    sealed = CIPHER.seal_segment(5, False, bytes(100))
    with pytest.raises(CipherError):
        cipher.open_segment(index, last, sealed)


@given(st.binary(max_size=200), st.binary(max_size=200), indexes, indexes, st.booleans(), st.booleans())
def test_a_nonce_is_used_for_one_plaintext_at_one_place(
    one: bytes, other: bytes, index: int, elsewhere: int, last: bool, ends: bool
) -> None:
    nonces = {
        CIPHER.seal_segment(*place)[:24]
        for place in {(index, last, one), (index, last, other), (elsewhere, ends, one), (elsewhere, ends, other)}
    }
    assert len(nonces) == len(
        {(index, last, one), (index, last, other), (elsewhere, ends, one), (elsewhere, ends, other)}
    )


def test_sealed_bytes_are_no_metadata_and_the_other_way_round() -> None:
    """Each use has its own key: a holder cannot pass one off as the other."""
    with pytest.raises(CipherError):
        CIPHER.open_metadata(CIPHER.seal_segment(0, True, bytes(256)))
    with pytest.raises(CipherError):
        CIPHER.open_segment(0, True, seal(Metadata(1)))


@given(st.binary(max_size=300))
def test_garbage_is_refused(data: bytes) -> None:
    with pytest.raises(CipherError):
        CIPHER.open_segment(0, False, data)
    with pytest.raises(CipherError):
        CIPHER.open_metadata(data)


# --- keys


def test_a_commitment_names_one_key() -> None:
    assert CIPHER.commitment == FileCipher(KEY).commitment
    keys = [KEY, OTHER_KEY, bytes(32), *(bytes(at) + b"\1" + bytes(31 - at) for at in range(32))]
    assert len({FileCipher(key).commitment for key in keys}) == len(keys)
    assert CIPHER.commitment not in (
        KEY,
        *(derive_key(label, KEY) for label in ("segment key", "nonce key", "metadata key")),
    )


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_key_has_32_bytes(length: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        FileCipher(bytes(length))


# --- metadata


@given(metadata | folders)
def test_metadata_round_trip(described: Metadata) -> None:
    sealed = seal(described)
    assert CIPHER.open_metadata(sealed) == described
    assert (len(sealed) - 40) % METADATA_STEP_BYTES == 0


def test_common_names_are_all_one_length() -> None:
    lengths = {len(seal(Metadata(size, "n" * length, "text/plain"))) for length in range(1, 200) for size in (0, 2**62)}
    assert lengths == {40 + METADATA_STEP_BYTES}
    assert len(seal(Metadata(2**63 - 1, "n" * 255, "é" * 127))) <= 4096  # what a manifest takes


def test_metadata_of_another_key_or_changed_is_refused() -> None:
    sealed = seal(Metadata(5, "name"))
    with pytest.raises(CipherError):
        FileCipher(OTHER_KEY).open_metadata(sealed)
    for at in range(len(sealed)):
        with pytest.raises(CipherError):
            CIPHER.open_metadata(sealed[:at] + bytes([sealed[at] ^ 0x80]) + sealed[at + 1 :])


@pytest.mark.parametrize(
    "fields",
    [
        None,
        7,
        "text",
        {},
        [],
        [1, 0, b"n", 5],
        [0, 0, b"n", 5, None],
        [1, -1, b"n", 5, None],
        [1, None, b"n", 5, None],
        [1, True, b"n", 5, None],
        [1, 0, "text", 5, None],
        [1, 0, b"n" * 256, 5, None],
        [1, 0, b"n", -1, None],
        [1, 0, b"n", 2**63, None],
        [1, 0, b"n", True, None],
        [1, 0, b"n", 5.0, None],
        [1, 0, b"n", 5, b"text/plain"],
        [1, 0, b"n", 5, "m" * 128],
        [1, 0, [b"n"], 5, None],
        [0] * 17,
        [1, 1, b"n", 500, None],
        [1, 1, b"n", 500, None, None],
        [1, 1, b"n", 500, None, FOLDER],
        [1, 1, b"n", 500, None, None, []],
        [1, 1, b"n", 500, None, None, [0, *FOLDER[1:]]],
        [1, 1, b"n", 500, None, None, [True, *FOLDER[1:]]],
        [1, 1, b"n", 500, None, None, FOLDER[:4]],
        [1, 1, b"n", 99, None, None, FOLDER],
        [1, 1, b"n", 500, None, None, [1, 39, 40, bytes(32), 2]],
        [1, 1, b"n", 500, None, None, [1, 100, -1, bytes(32), 2]],
        [1, 1, b"n", 500, None, None, [1, 100.0, 40, bytes(32), 2]],
        [1, 1, b"n", 500, None, None, [1, 100, 40, bytes(31), 2]],
        [1, 1, b"n", 500, None, None, [1, 100, 40, "0" * 32, 2]],
        [1, 1, b"n", 500, None, None, [1, 100, 40, bytes(32), -1]],
        [1, 1, b"n", 500, None, None, [1, 100, 40, bytes(32), 1_000_001]],
        [1, 1, b"n", 2**40, None, None, [1, 2**28 + 1, 40, bytes(32), 2]],
        [1, 1, b"n", 2**40, None, None, [1, 2**28, 2**23 + 1, bytes(32), 2]],
    ],
)
def test_a_malicious_publishers_metadata_is_refused(
    fields: Any,
) -> None:
    with pytest.raises(CipherError):
        CIPHER.open_metadata(forge_fields(fields))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ([1, 2, b"n", 5, None], "a file of kind 2"),
        ([1, 1, b"n", 5, None, None, [2, "anything"]], "a folder with an index of version 2"),
        ([1, 2**40, b"n", 5, None, "more"], f"a file of kind {2**40}"),
        ([2, 0, b"n", 5, None], "metadata of version 2"),
        ([3, 7], "metadata of version 3"),
    ],
)
def test_what_only_a_later_version_knows_is_told_apart(fields: list[Any], words: str) -> None:
    with pytest.raises(FromLaterVersion, match=words):
        CIPHER.open_metadata(forge_fields(fields))


def test_later_versions_may_add_fields() -> None:
    described = CIPHER.open_metadata(forge_fields([1, 1, b"n", 500, None, None, [*FOLDER, "later"], "later"]))
    assert described.folder == IndexSummary(400, 100, 40, bytes(32), 2)
    assert CIPHER.open_metadata(forge_fields([1, 0, b"n", 5, None, 3600, "later"])) == Metadata(5, "n", lease_s=3600)


@pytest.mark.parametrize("lease", ["soon", None, True, 0, -1, MAX_LEASE_S, 2**64 - 1, 3600.0])
def test_what_is_no_short_lease_is_no_wish(lease: Any) -> None:
    assert CIPHER.open_metadata(forge_fields([1, 0, b"n", 5, None, lease])) == Metadata(5, "n")


@given(st.binary(max_size=600))
def test_authentic_garbage_is_metadata_or_one_error(padded: bytes) -> None:
    try:
        described = CIPHER.open_metadata(forge(padded))
    except CipherError:
        return
    assert 0 <= described.size < 2**63


@pytest.mark.parametrize("body", [b"\x91" * 5000, b"\xd9\x05\xff\xff\xff\xff\xff", b"\xc7\x0c\xff" + b"\xff" * 12])
def test_hostile_msgpack_is_refused(body: bytes) -> None:
    """Arrays in arrays, text that is not UTF-8, a time that cannot be."""
    with pytest.raises(CipherError):
        CIPHER.open_metadata(forge(len(body).to_bytes(2, "big") + body))


# --- padding and names


@pytest.mark.parametrize(("size", "padded"), [(0, 256), (1, 256), (256, 256), (257, 272), (1000, 1024)])
def test_padding_is_what_the_formula_says(size: int, padded: int) -> None:
    check_padding(size, padded)
    for wrong in (padded - 1, padded + 1, 2 * padded):
        with pytest.raises(CipherError):
            check_padding(size, wrong)


@given(st.binary(min_size=1, max_size=255).filter(lambda raw: not {0, 0x2F} & set(raw) and raw not in (b".", b"..")))
def test_any_plain_name_keeps_its_bytes(raw: bytes) -> None:
    assert name_bytes(raw.decode("utf-8", "surrogateescape")) == raw


@pytest.mark.parametrize("name", ["", ".", "..", "/", "a/b", "../x", "/etc/x", "a\0b", "n" * 256, "é" * 128])
def test_no_path_is_a_name(name: str) -> None:
    with pytest.raises(ValueError, match=r"not a plain file name|longer than"):
        name_bytes(name)
