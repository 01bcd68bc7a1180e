"""Shares back to the file: any k do, every lie is caught and blamed on the right one."""

import random
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kit.coded_files import Published
from shoal.erasure import (
    BadParameters,
    BadShareNumbers,
    CorruptBlock,
    CorruptDataLeaf,
    ErasureError,
    NotACodeword,
    SegmentDecoder,
)


def fetch_segment(file: Published, index: int, shares: list[int], decoder: SegmentDecoder | None = None) -> bytes:
    """Read one segment as a reader does, from the given shares."""
    decoder = decoder or file.decoder
    (data_leaf,) = file.data_leaves(index, 1)
    decoder.check_data_leaves(index, [data_leaf], file.data_proof(index, 1))
    blocks, leaves = {}, {}
    for share in shares:
        (blocks[share],) = file.blocks(share, index, 1)
        (leaves[share],) = decoder.check_blocks(share, index, [blocks[share]], file.proof(share, index, 1))
    return decoder.decode(index, blocks, leaves, data_leaf)


@settings(max_examples=40)
@given(st.data())
def test_any_k_shares_give_the_file_back(publish: Callable[..., Published], data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 12) | st.sampled_from([48, 256]))
    k = data.draw(st.integers(1, min(n, 6)) | st.just(n))
    segments = data.draw(st.integers(0, 3)) if k <= 6 else 0
    size = segments * k * 65536 + data.draw(st.integers(41, 5000))
    file = publish(k, n, size)
    rng = random.Random(size)
    parts = [
        fetch_segment(file, index, rng.sample(range(n), rng.randint(k, min(n, k + 2))))
        for index in range(len(file.segments))
    ]
    assert b"".join(parts) == file.ciphertext


@pytest.mark.parametrize("size", [41, 296, 65536, 65537, 3 * 65536, 3 * 65536 + 41, 6 * 65536])
def test_border_sizes(publish: Callable[..., Published], size: int) -> None:
    file = publish(3, 7, size)
    for shares in ([0, 1, 2], [4, 5, 6], [6, 0, 3]):
        got = [fetch_segment(file, index, shares) for index in range(len(file.segments))]
        assert b"".join(got) == file.ciphertext


@settings(max_examples=150)
@given(st.data())
def test_any_flipped_bit_is_caught_and_named(publish: Callable[..., Published], data: st.DataObject) -> None:
    file = publish(2, 4, 2 * 2 * 65536 + 900)
    share = data.draw(st.integers(0, 3))
    index = data.draw(st.integers(0, 2))
    block = bytearray(file.blocks(share, index, 1)[0])
    block[data.draw(st.integers(0, len(block) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(CorruptBlock) as caught:
        file.decoder.check_blocks(share, index, [block], file.proof(share, index, 1))
    assert (caught.value.share, caught.value.index, caught.value.count) == (share, index, 1)

    blocks = file.blocks(share)
    blocks[index] = bytes(block)
    with pytest.raises(CorruptBlock) as caught:
        file.decoder.check_blocks(share, 0, blocks, file.proof(share, 0, 3))
    assert (caught.value.share, caught.value.index, caught.value.count) == (share, 0, 3)


def test_good_ranges_pass(publish: Callable[..., Published]) -> None:
    file = publish(2, 4, 5 * 2 * 65536)
    for first in range(5):
        for count in range(1, 6 - first):
            leaves = file.decoder.check_blocks(3, first, file.blocks(3, first, count), file.proof(3, first, count))
            assert leaves == [segment.leaves[3] for segment in file.segments[first : first + count]]
            file.decoder.check_data_leaves(first, file.data_leaves(first, count), file.data_proof(first, count))


def test_swapped_shares_blocks_and_positions_are_caught(publish: Callable[..., Published]) -> None:
    file = publish(2, 4, 3 * 2 * 65536)
    cases = [(1, 0, file.blocks(0, 0, 1)), (0, 1, file.blocks(0, 0, 1)), (0, 0, file.blocks(0, 0, 2)[::-1])]
    for share, first, blocks in cases:
        with pytest.raises(CorruptBlock):
            file.decoder.check_blocks(share, first, blocks, file.proof(share, first, len(blocks)))


def test_wrong_lengths_and_counts_name_the_block(publish: Callable[..., Published]) -> None:
    file = publish(2, 4, 2 * 2 * 65536 + 900)
    good, proof = file.blocks(2), file.proof(2, 0, 3)
    for at, block in [(0, good[0][:-1]), (1, good[1] + b"\0"), (2, b""), (2, bytes(65536))]:
        with pytest.raises(CorruptBlock) as caught:
            file.decoder.check_blocks(2, 0, [*good[:at], block, *good[at + 1 :]], proof)
        assert (caught.value.index, caught.value.count) == (at, 1)
    for blocks in ([], [*good, good[2]]):
        with pytest.raises(CorruptBlock):
            file.decoder.check_blocks(2, 0, blocks, proof)
    for share, first in [(4, 0), (-1, 0), (0, 3), (0, -1)]:
        with pytest.raises(BadParameters):
            file.decoder.check_blocks(share, first, good, proof)


@settings(max_examples=200)
@given(st.binary(max_size=150), st.lists(st.binary(max_size=40), max_size=4), st.integers(-2, 6))
def test_random_answers_never_crash_the_reader(
    publish: Callable[..., Published], proof: bytes, blocks: list[bytes], first: int
) -> None:
    file = publish(2, 4, 2 * 65536 + 41)
    for check in (
        lambda: file.decoder.check_blocks(1, first, blocks, proof),
        lambda: file.decoder.check_data_leaves(first, blocks, proof),
    ):
        with pytest.raises(ErasureError):
            check()


def test_a_wrong_data_leaf_is_the_holders_fault(publish: Callable[..., Published]) -> None:
    file = publish(2, 4, 3 * 2 * 65536)
    leaves = file.data_leaves(0, 2)
    with pytest.raises(CorruptDataLeaf) as caught:
        file.decoder.check_data_leaves(0, leaves[::-1], file.data_proof(0, 2))
    assert (caught.value.index, caught.value.count) == (0, 2)
    with pytest.raises(CorruptDataLeaf):
        file.decoder.check_data_leaves(1, leaves, file.data_proof(0, 2))


@pytest.mark.parametrize("foreign", [{0}, {1}, {3}, {0, 2}, {1, 2, 3}])
def test_two_files_mixed_in_one_manifest(publish: Callable[..., Published], foreign: set[int]) -> None:
    """Every share verifies against its root, yet no two readers would get the same file: NotACodeword."""
    mine, other = publish(2, 4, 2 * 2 * 65536, "a"), publish(2, 4, 2 * 2 * 65536, "b")
    roots = [(other if share in foreign else mine).manifest.share_root(share) for share in range(4)]
    manifest = replace(mine.manifest, share_roots=tuple(roots))
    decoder = SegmentDecoder(manifest, mine.codec)
    blocks, leaves = {}, {}
    for share in range(4):
        source = other if share in foreign else mine
        blocks[share] = source.blocks(share, 1, 1)[0]
        (leaves[share],) = decoder.check_blocks(share, 1, [blocks[share]], source.proof(share, 1, 1))
    (data_leaf,) = mine.data_leaves(1, 1)
    for pair in [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]:
        chosen = {share: blocks[share] for share in pair}
        if foreign.isdisjoint(pair):
            assert decoder.decode(1, chosen, leaves, data_leaf) == mine.ciphertext[2 * 65536 :]
            continue
        with pytest.raises(NotACodeword) as caught:
            decoder.decode(1, chosen, leaves, data_leaf)
        assert caught.value.segment == 1


def test_data_in_the_zero_fill_is_no_codeword(publish: Callable[..., Published]) -> None:
    """299 bytes need one byte of fill to make 3 blocks of 100; a publisher who put data there is refused."""
    file = publish(3, 5, 300)
    decoder = SegmentDecoder(replace(file.manifest, ciphertext_bytes=299), file.codec)
    segment = file.segments[0]
    for shares in ([0, 1, 2], [2, 3, 4]):
        with pytest.raises(NotACodeword):
            decoder.decode(
                0,
                {share: segment.blocks[share] for share in shares},
                dict(enumerate(segment.leaves)),
                segment.data_leaf,
            )


def test_rebuilt_blocks_are_the_originals(publish: Callable[..., Published]) -> None:
    file = publish(3, 8, 3 * 65536 + 1000)
    for index in range(2):
        have = {share: file.blocks(share, index, 1)[0] for share in (1, 5, 6, 7)}
        rebuilt = file.decoder.rebuild(index, have, [0, 2, 3, 4])
        assert rebuilt == {share: file.blocks(share, index, 1)[0] for share in (0, 2, 3, 4)}


def test_too_few_or_ragged_blocks_are_refused_before_the_codec(publish: Callable[..., Published]) -> None:
    file = publish(3, 8, 1000)
    segment = file.segments[0]
    leaves = dict(enumerate(segment.leaves))
    good = {share: segment.blocks[share] for share in (1, 5, 6)}
    for have in ({}, {1: good[1]}, {**good, 6: b"short"}, {1: good[1], 5: good[5], 8: good[6]}):
        with pytest.raises(BadShareNumbers):
            file.decoder.decode(0, have, leaves, segment.data_leaf)
        with pytest.raises(BadShareNumbers):
            file.decoder.rebuild(0, have, [0])
    with pytest.raises(BadParameters):
        file.decoder.decode(1, good, leaves, segment.data_leaf)
    with pytest.raises(BadShareNumbers):
        file.decoder.rebuild(0, good, [8])
