"""The field and its matrices, by their definitions."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.erasure import ZfecCodec
from shoal.erasure.gf256 import EXP, LOG, POINTS, interpolation


def test_two_generates_the_field_and_every_share_has_its_own_point() -> None:
    assert sorted(EXP) == list(range(1, 256))
    assert all(LOG[EXP[exponent]] == exponent for exponent in range(255))
    assert sorted(POINTS) == list(range(256))
    assert POINTS[:10] == [0, 1, 2, 4, 8, 16, 32, 64, 128, 0x1D]


@pytest.mark.parametrize(("k", "n"), [(1, 3), (2, 6), (3, 10), (4, 12), (16, 48), (128, 256), (255, 256)])
def test_unit_vectors_read_the_matrix_out_of_zfec(k: int, n: int) -> None:
    unit = [bytes(row == column for column in range(k)) for row in range(k)]
    assert interpolation(range(k), range(k, n)) == b"".join(ZfecCodec().parity(k, n, unit))


@given(st.integers(1, 30), st.integers(0, 1 << 32))
def test_there_and_back_is_the_identity(k: int, seed: int) -> None:
    numbers = random.Random(seed).sample(range(256), 2 * k)
    there, back = interpolation(numbers[:k], numbers[k:]), interpolation(numbers[k:], numbers[:k])

    def entry(row: int, column: int) -> int:
        total = 0
        for middle in range(k):
            left, right = back[row * k + middle], there[middle * k + column]
            total ^= EXP[(LOG[left] + LOG[right]) % 255] if left and right else 0
        return total

    assert all(entry(row, column) == (row == column) for row in range(min(k, 4)) for column in range(k))
