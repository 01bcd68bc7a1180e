"""Segments to shares: what goes out, resuming from saved state, and the lengths that are refused."""

import contextlib
import random
from collections.abc import Callable, Sequence
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kit.coded_files import Published
from shoal.erasure import (
    BadParameters,
    BadState,
    Codec,
    ShareEncoder,
    block_leaf,
    block_node,
    data_leaf,
    data_node,
    stored_tree,
)

FULL = 2 * 65536  # one segment of a 2-of-n code


def test_shares_are_blocks_of_the_segments_and_roots_are_over_them(publish: Callable[..., Published]) -> None:
    file = publish(2, 5, FULL + 1001)
    assert b"".join(file.blocks(0, 0, 1) + file.blocks(1, 0, 1)) == file.ciphertext[:FULL]
    last = b"".join(file.blocks(0, 1, 1) + file.blocks(1, 1, 1))
    assert last == file.ciphertext[FULL:] + b"\0"
    for share in range(5):
        leaves = [block_leaf(block) for block in file.blocks(share)]
        assert file.manifest.share_root(share) == stored_tree(block_node, leaves)[-32:]
        assert [len(block) for block in file.blocks(share)] == [65536, 501]
    leaves = [data_leaf(at, segment.leaves[:2]) for at, segment in enumerate(file.segments)]
    assert file.manifest.data_root == stored_tree(data_node, leaves)[-32:]


def test_full_segments_are_not_copied(codec: Codec, random_bytes: Callable[..., bytes]) -> None:
    segment = bytearray(random_bytes(FULL))
    blocks = ShareEncoder(2, 3, codec).add_segment(segment, True).blocks
    segment[70000] ^= 1
    assert blocks[1] == segment[65536:]


def test_segments_encoded_out_of_order_give_the_same_roots(codec: Codec, random_bytes: Callable[..., bytes]) -> None:
    data = random_bytes(5 * FULL - 777)
    parts = [data[at : at + FULL] for at in range(0, len(data), FULL)]
    straight, mixed = ShareEncoder(2, 4, codec), ShareEncoder(2, 4, codec)
    for at, part in enumerate(parts):
        straight.add_segment(part, last=at == 4)
    order = [3, 0, 4, 1, 2]
    encoded = {at: mixed.encode(at, parts[at], last=at == 4) for at in order}
    with pytest.raises(BadParameters):
        mixed.append(encoded[1])
    for at in range(5):
        mixed.append(encoded[at])
    assert mixed.finish() == straight.finish()


@settings(max_examples=25)
@given(st.integers(1, 4), st.integers(0, 4), st.integers(0, 5), st.integers(41, 65536))
def test_state_survives_msgpack_at_any_segment(codec: Codec, k: int, extra: int, count: int, last_bytes: int) -> None:
    rng, full = random.Random(k), k * 65536
    encoder = ShareEncoder(k, k + extra, codec)
    again = ShareEncoder.from_state(codec, encoder.state())
    for segment in [rng.randbytes(full)] * count + [rng.randbytes(last_bytes)]:
        last = len(segment) == last_bytes and encoder.segment_count == count
        state = msgpack.unpackb(msgpack.packb(again.state()))
        again = ShareEncoder.from_state(codec, state)
        assert again.segment_count == encoder.segment_count
        encoder.add_segment(segment, last)
        again.add_segment(segment, last)
    finished = ShareEncoder.from_state(codec, msgpack.unpackb(msgpack.packb(again.state())))
    assert finished.finished
    assert finished.finish() == encoder.finish() == again.finish()


def changed(
    state: Sequence[Any],
    at: int,
    value: Any,
) -> list[Any]:
    return [*state[:at], value, *state[at + 1 :]]


def test_foreign_states_are_refused(codec: Codec, random_bytes: Callable[..., bytes]) -> None:
    encoder = ShareEncoder(2, 3, codec)
    encoder.add_segment(random_bytes(FULL), False)
    good: list[Any] = encoder.state()
    ShareEncoder.from_state(codec, good)
    wrong: list[Any] = [
        None,
        b"",
        {},
        [],
        good[:-1],
        [*good, 0],
        changed(good, 0, 2),
        changed(good, 1, 4),
        changed(good, 1, True),
    ]
    wrong += [changed(good, 2, n) for n in (1, 2, 4, 300, None)]
    wrong += [changed(good, 3, length) for length in (0, FULL - 1, FULL + 1, -1, True, None, 1 << 60, float(FULL))]
    wrong += [changed(good, 4, flag) for flag in (0, 1, None, b"")]
    wrong += [changed(good, 5, data) for data in (None, [0, b""], [2, bytes(32)], [1, bytes(31)])]
    wrong += [changed(good, 6, shares) for shares in (None, [], good[6][:2], [*good[6][:2], [2, bytes(32)]], [1, 2, 3])]
    wrong += [changed(ShareEncoder(2, 3, codec).state(), 4, True)]
    for state in wrong:
        with pytest.raises(BadState):
            ShareEncoder.from_state(codec, state)


@settings(max_examples=200)
@given(st.data())
def test_random_states_never_crash(codec: Codec, data: st.DataObject) -> None:
    leaf = st.none() | st.booleans() | st.integers(-1, 300) | st.binary(max_size=70)
    state = data.draw(st.lists(st.just(1) | leaf | st.lists(leaf | st.lists(leaf, max_size=3), max_size=4), max_size=8))
    with contextlib.suppress(BadState):
        ShareEncoder.from_state(codec, state)


@pytest.mark.parametrize(
    ("length", "last"),
    [
        (0, False),
        (0, True),
        (40, True),
        (1000, False),
        (FULL - 1, False),
        (FULL + 1, False),
        (FULL + 1, True),
    ],
)
def test_wrong_segment_lengths(codec: Codec, length: int, last: bool) -> None:
    encoder = ShareEncoder(2, 3, codec)
    with pytest.raises(BadParameters):
        encoder.add_segment(bytes(length), last)
    assert encoder.segment_count == 0


def test_nothing_follows_the_last_segment_and_no_roots_come_before_it(codec: Codec) -> None:
    encoder = ShareEncoder(2, 3, codec)
    with pytest.raises(BadParameters):
        encoder.finish()
    encoder.add_segment(bytes(FULL), False)
    with pytest.raises(BadParameters):
        encoder.finish()
    encoder.add_segment(bytes(FULL), True)
    with pytest.raises(BadParameters):
        encoder.add_segment(bytes(100), True)
    assert encoder.finish().ciphertext_bytes == 2 * FULL


@pytest.mark.parametrize("code", [(0, 3), (4, 3), (1, 257)])
def test_impossible_codes(codec: Codec, code: tuple[int, int]) -> None:
    with pytest.raises(BadParameters):
        ShareEncoder(*code, codec)
