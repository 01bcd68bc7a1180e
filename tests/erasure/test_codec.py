"""The code against an independent piece of field arithmetic, and against every number zfec must never see."""

import random
from collections.abc import Callable, Collection
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.erasure import BadParameters, BadShareNumbers, Buffer, Codec

POLYNOMIAL = 0x11D  # x^8 + x^4 + x^3 + x^2 + 1; 2 generates all non-zero elements
POWERS = [1]
for _ in range(254):
    POWERS.append(POWERS[-1] << 1 ^ (POLYNOMIAL if POWERS[-1] & 0x80 else 0))
LOGS = {power: exponent for exponent, power in enumerate(POWERS)}


def times(a: int, b: int) -> int:
    return POWERS[(LOGS[a] + LOGS[b]) % 255] if a and b else 0


def over(a: int, b: int) -> int:
    return POWERS[(LOGS[a] - LOGS[b]) % 255] if a else 0


def point(share: int) -> int:
    """Where share number `share` stands on the polynomial: 0, 1, 2, 4, 8, …"""
    return 0 if share == 0 else POWERS[share - 1]


def interpolated(data: bytes, share: int) -> int:
    """The byte of `share` on the polynomial of degree < k through the data bytes, by Lagrange's formula."""
    total = 0
    for mine, value in enumerate(data):
        for other in range(len(data)):
            if other != mine:
                value = over(times(value, point(share) ^ point(other)), point(mine) ^ point(other))
        total ^= value
    return total


@pytest.mark.parametrize(("k", "n"), [(1, 3), (2, 6), (3, 10), (4, 12), (16, 48), (5, 256), (255, 256)])
def test_parity_is_the_polynomial_of_the_format(codec: Codec, k: int, n: int) -> None:
    data = random.Random(k).randbytes(k)
    parity = codec.parity(k, n, [bytes([value]) for value in data])
    chosen = sorted({k, (k + n) // 2, n - 1})
    assert [parity[share - k][0] for share in chosen] == [interpolated(data, share) for share in chosen]


@settings(max_examples=150)
@given(st.data())
def test_any_k_of_n_give_any_others(codec: Codec, data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 40) | st.just(256))
    k = data.draw(st.integers(1, n))
    length = data.draw(st.integers(1, 40))
    rng = random.Random(data.draw(st.integers(0, 1 << 32)))
    blocks: list[Buffer] = [rng.randbytes(length) for _ in range(k)]
    blocks += codec.parity(k, n, blocks)
    assert len(blocks) == n
    chosen = rng.sample(range(n), k)
    want = rng.sample(range(n), rng.randint(0, n))
    assert codec.rebuild(k, n, {share: blocks[share] for share in chosen}, want) == {
        share: blocks[share] for share in want
    }


@pytest.mark.parametrize(("k", "n"), [(1, 1), (1, 256), (256, 256), (255, 256), (128, 256)])
def test_extreme_codes(codec: Codec, k: int, n: int) -> None:
    blocks: list[Buffer] = [bytes([share, 255 - share]) for share in range(k)]
    blocks += codec.parity(k, n, blocks)
    have = {share: blocks[share] for share in range(n - k, n)}
    assert codec.rebuild(k, n, have, range(n)) == dict(enumerate(blocks))


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda data: memoryview(b"x" + data)[1:]])
def test_any_buffer_will_do(codec: Codec, kind: type[Any] | Callable[..., Any]) -> None:
    plain = [b"abc", b"def"]
    parity = codec.parity(2, 4, [kind(block) for block in plain])
    assert parity == codec.parity(2, 4, plain)
    assert codec.rebuild(2, 4, {3: kind(parity[1]), 1: kind(b"def")}, [0, 1, 2]) == {
        0: b"abc", 1: b"def", 2: parity[0],
    }  # fmt: skip


@pytest.mark.parametrize(
    "data",
    [
        [],
        [b"ab"],
        [b"ab"] * 3,
        [b"ab", b"a"],
        [b"", b""],
        [memoryview(b"abcd").cast("H"), b"ab"],
        [memoryview(b"abcd")[::2], b"ab"],
        [memoryview(b"ab")[::-1], b"ab"],
        [bytes(65537), bytes(65537)],
    ],
)
def test_parity_refuses_wrong_blocks(codec: Codec, data: list[bytes | memoryview]) -> None:
    with pytest.raises(BadShareNumbers):
        codec.parity(2, 4, data)


@pytest.mark.parametrize(
    "have",
    [
        {},
        {0: b"ab"},
        {0: b"ab", 1: b"cd", 2: b"ef"},
        {0: b"ab", 4: b"cd"},
        {-1: b"ab", 1: b"cd"},
        {0: b"ab", 256: b"cd"},
        {0: b"ab", 1 << 70: b"cd"},
        {0: b"ab", True: b"cd"},
        {0: b"ab", 1.0: b"cd"},
        {0: b"ab", "1": b"cd"},
        {0: b"ab", None: b"cd"},
        {0: b"ab", 1: b"c"},
        {0: b"ab", 1: memoryview(b"abcd")[::2]},
        {0: b"", 1: b""},
    ],
)
def test_rebuild_refuses_wrong_numbers_and_lengths(codec: Codec, have: dict[Any, Buffer]) -> None:
    with pytest.raises(BadShareNumbers):
        codec.rebuild(2, 4, have, [0])


@pytest.mark.parametrize("want", [[4], [-1], [0, 0], [True], [0.0], ["0"], [None], range(1000), [2] * 1000])
def test_rebuild_refuses_wrong_wishes(codec: Codec, want: Collection[Any]) -> None:
    with pytest.raises(BadShareNumbers):
        codec.rebuild(2, 4, {0: b"ab", 3: b"cd"}, want)


@pytest.mark.parametrize("code", [(0, 4), (5, 4), (2, 257), (True, 4), (2.0, 4), (None, None)])
def test_impossible_codes_are_refused(codec: Codec, code: tuple[Any, Any]) -> None:
    with pytest.raises(BadParameters):
        codec.parity(*code, [b"ab", b"cd"])
    with pytest.raises(BadParameters):
        codec.rebuild(*code, {0: b"ab", 1: b"cd"}, [2])
