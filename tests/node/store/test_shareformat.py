"""The share file: golden bytes behind the blocks, and a decoder that takes nothing but whole trailers."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit import stores
from kit.stores import Place
from shoal.erasure import BLOCK_BYTES, HASH_BYTES, Manifest, ShareEncoder, ZfecCodec
from shoal.node.store.shareformat import (
    TRAILER_BYTES,
    NotAShareFile,
    Trailer,
    decode_trailer,
    folder_of,
    parse_share_name,
    share_name,
)

VECTOR = Path(__file__).parent / "vectors" / "share_tail.hex"
SHARE, LENGTH = 1, 2 * BLOCK_BYTES + 1000


@pytest.fixture(scope="module")
def fixed() -> stores.Published:
    """A 1-of-2 file of three segments whose ciphertext is the bytes 0 to 250 over and over."""
    ciphertext = (bytes(range(251)) * (LENGTH // 251 + 1))[:LENGTH]
    encoder = ShareEncoder(1, 2, ZfecCodec())
    blocks, leaves = [], []
    for at in range(0, LENGTH, BLOCK_BYTES):
        segment = encoder.add_segment(ciphertext[at : at + BLOCK_BYTES], at + BLOCK_BYTES >= LENGTH)
        blocks.append(bytes(segment.blocks[SHARE]))
        leaves.append(segment.data_leaf)
    roots = encoder.finish()
    manifest = Manifest(
        k=1,
        n=2,
        block_bytes=BLOCK_BYTES,
        ciphertext_bytes=roots.ciphertext_bytes,
        data_root=roots.data_root,
        share_roots=tuple(roots.share_roots),
        metadata=b"m" * 16,
        key_commitment=b"c" * 32,
        owner_key=b"o" * 32,
    )
    return stores.Published(manifest, [[], blocks], leaves)


def test_golden_bytes_behind_the_blocks(place: Place, fixed: stores.Published) -> None:
    store = place.open()
    store.begin(b"u" * 16, b"", 0, 1_700_000_000)
    store.write(b"u" * 16, 0, fixed.blocks[SHARE], fixed.data_leaves, 1_700_000_000)
    store.commit(b"u" * 16, SHARE, fixed.encoded, 1_707_776_000, 1_700_000_000)
    path = place.share_path(fixed, SHARE)
    assert path.parent.name == "30"
    file = place.disk.open(path)
    assert file.read_at(0, LENGTH) == b"".join(fixed.blocks[SHARE])
    tail = file.read_at(LENGTH, 10_000)
    file.close()
    lines = [line.split("#")[0] for line in VECTOR.read_text().splitlines()]
    assert tail.hex() == "".join("".join(lines).split())


@pytest.fixture(scope="module")
def trailer() -> Trailer:
    return Trailer(b"f" * 32, 7, 3 * BLOCK_BYTES + 5, 700, 1_900_000_000, 1_800_000_000, b"u" * 16)


def test_layout_of_an_odd_tree(trailer: Trailer) -> None:
    nodes = 4 + 2 + 1
    assert trailer.block_count == 4
    assert trailer.data_tree_offset == trailer.share_bytes + HASH_BYTES * nodes
    assert trailer.file_bytes == trailer.share_bytes + 2 * HASH_BYTES * nodes + 700 + TRAILER_BYTES


def test_round_trip(trailer: Trailer) -> None:
    assert decode_trailer(trailer.encode(), trailer.file_bytes) == trailer


def test_every_flipped_bit_is_found(trailer: Trailer) -> None:
    encoded = trailer.encode()
    for bit in range(8 * TRAILER_BYTES):
        torn = bytearray(encoded)
        torn[bit // 8] ^= 1 << (bit % 8)
        with pytest.raises(NotAShareFile):
            decode_trailer(bytes(torn), trailer.file_bytes)


@pytest.mark.parametrize(
    "changes", [{"share_bytes": 0}, {"share_bytes": 1 << 60}, {"share_number": 256}, {"manifest_bytes": 1 << 20}]
)
def test_numbers_out_of_range(trailer: Trailer, changes: dict[str, Any]) -> None:
    with pytest.raises(NotAShareFile):
        decode_trailer(replace(trailer, **changes).encode(), trailer.file_bytes)


def test_another_length_of_file(trailer: Trailer) -> None:
    with pytest.raises(NotAShareFile):
        decode_trailer(trailer.encode(), trailer.file_bytes + 1)


@given(data=st.binary(max_size=200), length=st.integers(0, 1 << 63))
def test_noise_is_no_trailer(data: bytes, length: int) -> None:
    with pytest.raises(NotAShareFile):
        decode_trailer(data, length)


@given(st.text(max_size=80))
def test_names_are_taken_only_in_their_one_form(name: str) -> None:
    key = parse_share_name(name)
    assert key is None or share_name(*key) == name


def test_names() -> None:
    name = share_name(bytes(range(32)), 255)
    assert parse_share_name(name) == (bytes(range(32)), 255)
    for other in (name.upper(), name + " ", "0" + name, name.replace(".255", ".0255"), name.replace(".", "")):
        assert parse_share_name(other) is None
    assert len({folder_of(bytes([number]) * 16) for number in range(256)}) > 100
