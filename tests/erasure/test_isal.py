"""ISA-L beside zfec: the same bytes for every code, length and loss, from several threads, and results that stay."""

import gc
import random
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kit.scripts import load_script
from shoal.erasure import (
    BadParameters,
    BadShareNumbers,
    Buffer,
    ErasureError,
    IsalCodec,
    LibraryUnusable,
    ZfecCodec,
    isal,
)

ZFEC = ZfecCodec()
LENGTHS = st.integers(1, 130) | st.sampled_from([255, 256, 257, 4095, 4096, 4097, 65504, 65535, 65536])
WIDTHS = st.tuples(st.integers(1, 50), st.integers(0, 40)) | st.sampled_from([(1, 255), (128, 128), (255, 1), (256, 0)])


@pytest.fixture(scope="module")
def fast(isal_library: str) -> IsalCodec:
    return IsalCodec(isal_library)


def shares_of(k: int, n: int, length: int, seed: int) -> list[bytes]:
    rng = random.Random(seed)
    data = [rng.randbytes(length) for _ in range(k)]
    return [*data, *map(bytes, ZFEC.parity(k, n, data))]


@settings(max_examples=200)
@given(WIDTHS, LENGTHS, st.integers(0, 1 << 32))
def test_both_codecs_give_the_same_bytes_both_ways(
    fast: IsalCodec, width: tuple[int, int], length: int, seed: int
) -> None:
    k, n = width[0], sum(width)
    length = min(length, 2**20 // n)  # the largest blocks only where that is quick
    shares = shares_of(k, n, length, seed)
    assert list(fast.parity(k, n, shares[:k])) == shares[k:]
    rng = random.Random(seed)
    have = {share: shares[share] for share in rng.sample(range(n), k)}
    want = rng.sample(range(n), rng.randint(0, n))
    assert fast.rebuild(k, n, have, want) == {share: shares[share] for share in want}
    assert ZFEC.rebuild(k, n, have, want) == fast.rebuild(k, n, have, want)


@pytest.mark.parametrize(("k", "n"), [(3, 10), (4, 12), (8, 24), (16, 48)])
def test_whole_blocks_at_the_usual_widths_whatever_is_lost(fast: IsalCodec, k: int, n: int) -> None:
    shares = shares_of(k, n, 65536, k)
    assert list(fast.parity(k, n, shares[:k])) == shares[k:]
    for first in (1, k // 2 + 1, n - k):
        have = {share: shares[share] for share in range(first, first + k)}
        assert fast.rebuild(k, n, have, range(n)) == dict(enumerate(shares))


@settings(max_examples=50)
@given(st.data())
def test_views_into_larger_buffers_will_do(fast: IsalCodec, data: st.DataObject) -> None:
    length, starts = data.draw(st.integers(1, 200)), data.draw(st.lists(st.integers(0, 100), min_size=3, max_size=3))
    room = random.Random(length).randbytes(300)
    rooms: tuple[Buffer, ...] = (room, bytearray(room), memoryview(room))
    views = [memoryview(room)[at : at + length] for at, room in zip(starts, rooms, strict=True)]
    want = ZFEC.parity(3, 7, [bytes(view) for view in views])
    assert list(fast.parity(3, 7, views)) == want
    assert fast.rebuild(3, 7, {6: memoryview(want[3]), 0: views[0], 4: bytearray(want[1])}, [1, 2]) == {
        1: views[1], 2: views[2],
    }  # fmt: skip


def test_results_are_read_only_and_stay_while_anybody_holds_them(fast: IsalCodec) -> None:
    shares = shares_of(4, 12, 65536, 1)
    kept = fast.parity(4, 12, shares[:4])
    one: Any = fast.parity(4, 12, shares[:4])[3]  # one block of a result whose others are gone
    with pytest.raises(TypeError):
        one[0] = 1
    for seed in range(30):  # enough to use every spare buffer again
        fast.parity(4, 12, shares_of(4, 12, 65536, seed)[:4])
    gc.collect()
    assert list(kept) == shares[4:]
    assert one == shares[7]


def test_several_threads_at_once_disturb_nobody(fast: IsalCodec) -> None:
    codes = [(3, 10), (4, 12), (16, 48), (2, 6), (1, 3), (8, 24)]
    expected = {code: shares_of(*code, 8192, 9) for code in codes}

    def work(seed: Any) -> Any:
        rng = random.Random(seed)
        wrong = 0
        for _ in range(60):
            k, n = code = rng.choice(codes)
            shares = expected[code]
            wrong += list(fast.parity(k, n, shares[:k])) != shares[k:]
            have = {share: shares[share] for share in rng.sample(range(n), k)}
            wrong += fast.rebuild(k, n, have, range(k)) != dict(enumerate(shares[:k]))
        return wrong

    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(work, range(8))) == [0] * 8
    finally:
        sys.setswitchinterval(switch)


def test_the_cache_of_tables_is_bounded(isal_library: str) -> None:
    fast = IsalCodec(isal_library)
    for n in range(3, 60):
        fast.parity(2, n, [b"ab", b"cd"])
    assert fast.tables.cache_info().currsize == isal.CACHED_TABLES


HOSTILE = [
    (BadParameters, 0, 4, {}, []),
    (BadParameters, 3, 300, {0: b"a", 1: b"b", 2: b"c"}, [3]),
    (BadShareNumbers, 2, 4, {0: b"a", 4: b"b"}, [1]),
    (BadShareNumbers, 2, 4, {0: b"a", -1: b"b"}, [1]),
    (BadShareNumbers, 2, 4, {0: b"a", 1 << 31: b"b"}, [1]),
    (BadShareNumbers, 2, 4, {0: b"a", True: b"b"}, [3]),
    (BadShareNumbers, 2, 4, {0: b"a"}, [1]),
    (BadShareNumbers, 2, 4, {0: b"a", 3: b"bc"}, [1]),
    (BadShareNumbers, 2, 4, {0: b"", 3: b""}, [1]),
    (BadShareNumbers, 2, 4, {0: bytes(65537), 3: bytes(65537)}, [1]),
    (BadShareNumbers, 2, 4, {0: b"a", 3: b"b"}, [1, 1]),
    (BadShareNumbers, 2, 4, {0: b"a", 3: b"b"}, [256]),
    (BadShareNumbers, 2, 4, {0: b"a", 3: b"b"}, [-1]),
    (BadShareNumbers, 2, 4, {0: b"a", 3: b"b"}, range(1 << 40)),
]


@pytest.mark.parametrize(("error", "k", "n", "have", "want"), HOSTILE)
def test_hostile_numbers_never_reach_c(
    isal_library: str, error: type[ErasureError], k: int, n: int, have: dict[int, bytes], want: range | list[int]
) -> None:
    fast = IsalCodec(isal_library)
    with pytest.raises(error):
        fast.rebuild(k, n, have, want)
    with pytest.raises((BadParameters, BadShareNumbers)):
        fast.parity(k, n, [*have.values(), b"one too many"])
    assert fast.tables.cache_info().misses == 0  # nothing was computed


def test_what_is_no_isal_is_refused_in_one_way(tmp_path: Path) -> None:
    (tmp_path / "text.so").write_text("not a library")
    (tmp_path / "empty.so").touch()
    for library in (tmp_path / "missing.so", tmp_path / "text.so", tmp_path / "empty.so", tmp_path):
        with pytest.raises(LibraryUnusable):
            IsalCodec(str(library))


def test_a_library_without_the_functions_is_refused(other_library: str) -> None:
    with pytest.raises(LibraryUnusable, match="ec_init_tables"):
        IsalCodec(other_library)


def test_the_binding_is_what_cffi_makes_of_the_declarations(tmp_path: Path) -> None:
    script = load_script(Path(__file__).parent / "regenerate_isal_cdef.py")
    script.write(tmp_path / "made.py")
    assert (tmp_path / "made.py").read_text() == script.TARGET.read_text()
