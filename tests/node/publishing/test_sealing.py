"""From plaintext to shares in constant memory: whatever the size, it decodes back, and a resume changes nothing."""

from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import msgpack
import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from shoal.erasure import (
    BLOCK_BYTES,
    EncodedSegment,
    Layout,
    Manifest,
    Roots,
    SegmentDecoder,
    ShareEncoder,
    best_codec,
    block_node,
    data_node,
    level_positions,
    padded_size,
    range_proof,
    stored_tree,
)
from shoal.node import Environment
from shoal.node.cipher import FileCipher
from shoal.node.publishing.opening import open_source
from shoal.node.publishing.sealing import (
    BATCH_BYTES,
    MAX_BATCH_SEGMENTS,
    Batch,
    Column,
    PaddedReader,
    Sealer,
    batch_segments,
)
from shoal.node.publishing.sources import Source

KEY = blake3(b"file key").digest()
CIPHER = FileCipher(KEY)
STEP = 2 * BLOCK_BYTES - 40  # plaintext of a segment at k = 2
PADDING_SPANS_SEGMENTS = 4_130_000  # k = 1: the 65 segments end 64,304 bytes after it, and a batch ends in between
SIZES = [0, 1, 255, 256, 257, STEP - 1, STEP, STEP + 1, 3 * STEP, 17 * STEP + 5]


def plaintext_of(size: int) -> bytes:
    return blake3(b"plaintext").digest(size)


async def chunks_of(data: bytes, step: int = 100_000) -> AsyncIterator[bytes]:
    for at in range(0, len(data), step):
        yield data[at : at + step]


async def seal_all(sealer: Sealer) -> tuple[list[Batch], Roots]:
    """Every batch, and the roots."""
    batches = []
    while (batch := await sealer.next_batch()) is not None:
        batches.append(batch)
    return batches, sealer.finish()


async def seal(
    source: Source, env: Environment, k: int = 2, n: int = 3, encoder: ShareEncoder | None = None
) -> tuple[list[Batch], Roots, int]:
    sealer = Sealer(source, CIPHER, encoder or ShareEncoder(k, n, best_codec()), env)
    return *await seal_all(sealer), sealer.size


def leaves_of(segment: Column) -> Sequence[bytes]:
    """The leaves of a segment that came from the encoder itself."""
    assert isinstance(segment, EncodedSegment)
    return segment.leaves


def decode(batches: list[Batch], roots: Roots, k: int, n: int, shares: tuple[int, ...]) -> bytes:
    """Plaintext with its padding, from the blocks of the given shares alone, every proof checked."""
    manifest = Manifest(
        k=k,
        n=n,
        block_bytes=BLOCK_BYTES,
        ciphertext_bytes=roots.ciphertext_bytes,
        data_root=roots.data_root,
        share_roots=roots.share_roots,
        metadata=b"",
        key_commitment=CIPHER.commitment,
        owner_key=bytes(32),
    )
    decoder = SegmentDecoder(manifest, best_codec())
    segments = [segment for batch in batches for segment in batch.segments]
    count = len(segments)
    positions = level_positions(count)

    def proof(tree: bytes, index: int) -> bytes:
        return range_proof(count, index, 1, lambda level, at: tree[(positions[level] + at) * 32 :][:32])

    data_tree = stored_tree(data_node, [segment.data_leaf for segment in segments])
    trees = {share: stored_tree(block_node, [leaves_of(segment)[share] for segment in segments]) for share in shares}
    plaintext = b""
    for index, segment in enumerate(segments):
        decoder.check_data_leaves(index, [segment.data_leaf], proof(data_tree, index))
        blocks = {share: segment.blocks[share] for share in shares}
        leaves = {
            share: decoder.check_blocks(share, index, [block], proof(trees[share], index))[0]
            for share, block in blocks.items()
        }
        sealed = decoder.decode(index, blocks, leaves, segment.data_leaf)
        plaintext += CIPHER.open_segment(index, index == count - 1, sealed)
    return plaintext


# --- whole files


@pytest.mark.parametrize("size", SIZES)
async def test_every_size_comes_back_from_the_parity(env: Environment, size: int) -> None:
    data = plaintext_of(size)
    batches, roots, seen = await seal(await open_source(chunks_of(data), env), env)
    assert seen == size
    assert roots.ciphertext_bytes == Layout.for_plaintext(2, 3, size).ciphertext_bytes
    decoded = decode(batches, roots, 2, 3, shares=(1, 2))
    assert decoded == data.ljust(padded_size(size), b"\0")
    assert batches[-1].plain_bytes == size


async def test_a_file_and_a_stream_give_the_same_shares(env: Environment, tmp_path: Path) -> None:
    data = plaintext_of(3 * STEP + 7)
    (tmp_path / "f").write_bytes(data)
    source = await open_source(tmp_path / "f", env)
    _, from_file, _ = await seal(source, env)
    _, from_stream, _ = await seal(await open_source(chunks_of(data, 999), env), env)
    assert from_file == from_stream
    await source.finish()
    await source.aclose()


@pytest.mark.parametrize(
    ("name", "data"), [("small", b"a shoal has no leader"), ("two segments", plaintext_of(140_000))]
)
async def test_the_sealer_makes_the_stored_object(
    env: Environment, node_vectors: Callable[[str], Any], name: str, data: bytes
) -> None:
    """The golden vectors, by the way a publish takes."""
    case = node_vectors("published")[name]
    batches, roots, _ = await seal(await open_source(chunks_of(data), env), env, 2, 4)
    assert [root.hex() for root in roots.share_roots] == case["share roots"]
    assert roots.data_root.hex() == case["data root"]
    leaves = [
        [leaves_of(segment)[share].hex() for batch in batches for segment in batch.segments] for share in range(4)
    ]
    assert leaves == case["leaves by share"]


async def test_padding_of_several_segments(env: Environment) -> None:
    size = PADDING_SPANS_SEGMENTS
    batches, roots, seen = await seal(await open_source(chunks_of(plaintext_of(size)), env), env, 1, 1)
    assert (seen, batches[-1].end) == (size, 65)
    decoded = decode(batches, roots, 1, 1, shares=(0,))
    assert decoded == plaintext_of(size).ljust(padded_size(size), b"\0")


# --- batches


@given(st.integers(1, 256))
def test_batches_are_bounded(n: int) -> None:
    segments = batch_segments(n)
    assert 1 <= segments <= MAX_BATCH_SEGMENTS
    assert segments * n * BLOCK_BYTES <= max(BATCH_BYTES, n * BLOCK_BYTES)


async def test_batches_follow_each_other(env: Environment) -> None:
    batches, _, _ = await seal(await open_source(chunks_of(plaintext_of(35 * STEP)), env), env)
    assert [(batch.first, batch.end) for batch in batches] == [(0, 16), (16, 32), (32, 36)]
    assert [batch.plain_bytes for batch in batches] == [16 * STEP, 32 * STEP, 35 * STEP]
    middle = batches[1]
    assert middle.blocks(2, 30) == [segment.blocks[2] for segment in middle.segments[14:]]
    assert middle.data_leaves(31) == middle.segments[15].data_leaf
    assert middle.blocks(0, 32) == []


# --- resuming


@pytest.mark.parametrize(("size", "k"), [(40 * STEP + 9, 2), (PADDING_SPANS_SEGMENTS, 1), (16 * STEP, 2), (0, 2)])
async def test_a_resume_at_any_checkpoint_gives_the_same_file(
    env: Environment, tmp_path: Path, size: int, k: int
) -> None:
    """Also where the checkpoint lies in the padding, and after the last segment."""
    (tmp_path / "f").write_bytes(plaintext_of(size))
    source = await open_source(tmp_path / "f", env)
    batches, roots, _ = await seal(source, env, k, k)
    for at, batch in enumerate(batches):
        state = msgpack.unpackb(msgpack.packb(batch.state))
        encoder = ShareEncoder.from_state(best_codec(), state)
        await source.seek(batch.end * (k * BLOCK_BYTES - 40))
        rest, again, seen = await seal(source, env, encoder=encoder)
        assert again == roots
        assert seen == size
        assert [each.state for each in rest] == [each.state for each in batches[at + 1 :]]
        await source.finish()
    await source.aclose()


# --- padding


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 1000, 5000])
@pytest.mark.parametrize("wanted", [1, 100, 256, 10_000])
async def test_the_reader_pads_to_the_formula(env: Environment, size: int, wanted: int) -> None:
    reader = PaddedReader(await open_source(chunks_of(plaintext_of(size)), env))
    pieces = []
    while piece := await reader.read(wanted):
        pieces.append(piece)
    assert b"".join(pieces) == plaintext_of(size).ljust(padded_size(size), b"\0")
    assert all(len(piece) == wanted for piece in pieces[:-1]), "short only at the end"
    assert reader.size == size
    assert await reader.read(wanted) == b""
