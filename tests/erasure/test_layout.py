"""Padding and lengths: the formulas against brute force and against what a second reading of them gives."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.erasure import (
    MAX_CIPHERTEXT_BYTES,
    BadParameters,
    Layout,
    default_happy,
    default_width,
    padded_size,
    padme,
)

SIZES = st.one_of(st.integers(0, 5000), st.integers(0, 1 << 50))
CODES = st.tuples(st.integers(1, 256), st.integers(1, 256)).map(sorted)


def test_padme_values_from_the_paper_formula() -> None:
    assert [padme(size) for size in (0, 1, 2, 8, 9, 17, 200, 1000, 10**6)] == [
        0, 1, 2, 8, 10, 18, 208, 1024, 1015808,
    ]  # fmt: skip


@given(SIZES)
def test_padme_rounds_up_by_at_most_12_percent_and_stays(size: int) -> None:
    padded = padme(size)
    assert size <= padded <= max(size + 1, size * 1.12)
    assert padme(padded) == padded
    assert padded_size(size) == max(256, padded)


@given(st.integers(2, 1 << 50))
def test_padme_clears_the_low_bits_of_its_definition(size: int) -> None:
    exponent = math.floor(math.log2(size)) if size < 2**40 else size.bit_length() - 1
    low = exponent - (math.floor(math.log2(exponent)) + 1)
    assert padme(size) == -(-size // 2**low) * 2**low


@given(CODES, SIZES)
def test_lengths_add_up(code: tuple[int, int], size: int) -> None:
    layout = Layout.for_plaintext(*code, size)
    assert layout.padded_plain_bytes == padded_size(size)
    count = layout.segment_count
    assert (count - 1) * layout.segment_plain_bytes < padded_size(size) <= count * layout.segment_plain_bytes
    assert (count - 1) * code[0] * 65536 + layout.last_segment_bytes == layout.ciphertext_bytes
    assert layout.last_segment_bytes >= 41
    assert 0 <= code[0] * layout.last_block_bytes - layout.last_segment_bytes < code[0]
    assert layout.share_bytes == (count - 1) * 65536 + layout.block_bytes(count - 1)
    assert layout.n * layout.share_bytes < 1 << 63


def test_segment_borders() -> None:
    full = 4 * 65536 - 40
    assert Layout(4, 12, 4 * 65536).segment_count == 1
    assert Layout(4, 12, 4 * 65536 + 41).segment_count == 2
    layout = Layout.for_plaintext(4, 12, full + 1)
    assert [layout.segment_bytes(index) for index in range(2)] == [4 * 65536, layout.last_segment_bytes]
    assert [layout.block_bytes(index) for index in range(2)] == [65536, layout.last_block_bytes]
    impossible: list[Any] = [-1, 2, True, 0.0, None]
    for index in impossible:
        with pytest.raises(BadParameters):
            layout.block_bytes(index)
        with pytest.raises(BadParameters):
            layout.segment_bytes(index)


@pytest.mark.parametrize("size", [0, 40, -1, True, 1.0, "9", None, MAX_CIPHERTEXT_BYTES + 1, 1 << 80, 65536 * 4 + 40])
def test_impossible_ciphertext_lengths(size: Any) -> None:
    with pytest.raises(BadParameters):
        Layout(4, 12, size)


@pytest.mark.parametrize("code", [(0, 1), (2, 1), (1, 257), (-1, 3), (True, 3), (1, True), (1.0, 3), (None, 1)])
def test_impossible_codes(code: tuple[Any, Any]) -> None:
    with pytest.raises(BadParameters):
        Layout(*code, 1000)
    with pytest.raises(BadParameters):
        Layout.for_plaintext(*code, 1000)


@pytest.mark.parametrize("size", [-1, True, 1.5, 1 << 60])
def test_impossible_plaintext_lengths(size: Any) -> None:
    with pytest.raises(BadParameters):
        Layout.for_plaintext(1, 3, size)


@pytest.mark.parametrize(
    ("size", "hosts", "code"),
    [
        (0, 1000, (4, 12)),
        (65535, 1000, (4, 12)),
        (65536, 1000, (8, 24)),
        (65536, 23, (4, 12)),
        ((1 << 20) - 1, 1000, (8, 24)),
        (1 << 20, 48, (16, 48)),
        (1 << 20, 47, (8, 24)),
        (None, 48, (16, 48)),
        (None, 16, (4, 12)),
        (1 << 30, 11, (2, 6)),
        (1 << 30, 5, (1, 3)),
        (5, 0, (1, 3)),
    ],
)
def test_default_width(size: int | None, hosts: int, code: tuple[int, int]) -> None:
    assert default_width(size, hosts) == code


def test_default_happy_is_three_quarters_rounded_up() -> None:
    assert [default_happy(n) for n in (1, 2, 3, 6, 12, 24, 48, 256)] == [1, 2, 3, 5, 9, 18, 36, 192]
    assert all(default_happy(n) == math.ceil(0.75 * n) for n in range(1, 257))
