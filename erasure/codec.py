"""The erasure code itself: k blocks of data in, n - k blocks of parity out, and back.

zfec defines the bytes: a systematic code over GF(2^8) (docs/format.md, "Blocks"). Any other codec gives the same bytes,
only faster (isal.py; choice.py picks).

zfec's decoder hangs for ever, or gives wrong bytes, on share numbers that it should have refused. ISA-L checks nothing.
So the checks below come before every call into either, and no other module may import zfec.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import Protocol

import zfec

from shoal.erasure.errors import BadShareNumbers
from shoal.erasure.hashing import Buffer
from shoal.erasure.layout import BLOCK_BYTES, check_code, is_count

CACHED_MATRICES = 8  # a process uses few widths at a time; a matrix has at most 64 KiB and a small one takes 50 µs


class Codec(Protocol):
    """A k-of-n code. The blocks of one call have the same length, from one byte to BLOCK_BYTES.

    Calls are pure, may run in any thread and in several at once. Wrong numbers raise BadParameters or
    BadShareNumbers. Content is not checked: blocks that were never verified give wrong bytes, not an error.
    What is returned stays as it is for as long as anybody holds it.
    """

    @property
    def name(self) -> str:
        """Shown in a node's status."""

    def parity(self, k: int, n: int, data: Sequence[Buffer]) -> Sequence[Buffer]:
        """Shares k to n-1 of the k data blocks."""

    def rebuild(self, k: int, n: int, have: Mapping[int, Buffer], want: Collection[int]) -> dict[int, Buffer]:
        """The wanted shares, by number, from any k shares in `have` (exactly k, primaries or not)."""


class CheckedCodec(ABC):
    """The checks that every codec needs, around the one thing it must do."""

    @abstractmethod
    def _compute(
        self, k: int, n: int, have: tuple[int, ...], blocks: Sequence[Buffer], want: tuple[int, ...]
    ) -> Sequence[Buffer]:
        """Shares `want`, at least one, from the blocks of the k shares `have`; no number occurs twice or in both.

        All numbers and lengths have been checked. `have` is in rising order.
        """

    def parity(self, k: int, n: int, data: Sequence[Buffer]) -> Sequence[Buffer]:
        """Shares k to n-1 of the k data blocks."""
        check_code(k, n)
        check_data(k, data)
        return self._compute(k, n, tuple(range(k)), data, tuple(range(k, n))) if n > k else []

    def rebuild(self, k: int, n: int, have: Mapping[int, Buffer], want: Collection[int]) -> dict[int, Buffer]:
        """The wanted shares from any k others; only what is missing is computed."""
        check_code(k, n)
        check_have(k, n, have)
        check_want(n, want)
        found: dict[int, Buffer] = {number: bytes(have[number]) for number in want if number in have}
        missing = tuple(number for number in want if number not in have)
        if missing:
            numbers = tuple(sorted(have))
            made = self._compute(k, n, numbers, [have[number] for number in numbers], missing)
            found.update(zip(missing, made, strict=True))
        return found


class ZfecCodec(CheckedCodec):
    """The reference codec: the zfec library, which releases the interpreter lock while it works."""

    name = "zfec"

    def _compute(
        self, k: int, n: int, have: tuple[int, ...], blocks: Sequence[Buffer], want: tuple[int, ...]
    ) -> Sequence[Buffer]:
        """zfec makes parity from data only, so all data comes first."""
        data = blocks if have[-1] < k else _decoder(k, n).decode(tuple(blocks), have)
        parity = [number for number in want if number >= k]
        made = dict(zip(parity, _encoder(k, n).encode(tuple(data), tuple(parity)), strict=True)) if parity else {}
        return [made[number] if number >= k else bytes(data[number]) for number in want]


def check_data(k: int, data: Sequence[Buffer]) -> None:
    """Raise BadShareNumbers unless there are k data blocks of equal, non-zero length."""
    if len(data) != k:
        raise BadShareNumbers(f"{len(data)} data blocks where the code needs {k}")
    _check_lengths(data)


def check_have(k: int, n: int, have: Mapping[int, Buffer]) -> None:
    """Raise BadShareNumbers unless `have` is k blocks of equal, non-zero length with numbers below n.

    A mapping cannot name a number twice, except by a key that only equals an int: bools and floats are refused.
    """
    if len(have) != k:
        raise BadShareNumbers(f"{len(have)} blocks where the code needs exactly {k}")
    if not all(is_count(number, 0, n - 1) for number in have):
        raise BadShareNumbers(f"share numbers must be whole numbers from 0 to {n - 1}")
    _check_lengths(have.values())


def check_want(n: int, want: Collection[int]) -> None:
    """Raise BadShareNumbers unless the numbers are distinct and below n (zfec crashes on thousands)."""
    if len(want) > n or len(set(want)) != len(want):
        raise BadShareNumbers("wanted share numbers must be distinct")
    if not all(is_count(number, 0, n - 1) for number in want):
        raise BadShareNumbers(f"wanted share numbers must be whole numbers from 0 to {n - 1}")


def _check_lengths(blocks: Collection[Buffer]) -> None:
    """Raise BadShareNumbers unless all blocks are contiguous and of one allowed length: C sees no more than that."""
    views = [memoryview(block) for block in blocks]
    lengths = {view.nbytes for view in views}
    if len(lengths) != 1 or not 0 < lengths.pop() <= BLOCK_BYTES:
        raise BadShareNumbers(f"blocks of one segment must have the same length, from 1 to {BLOCK_BYTES} bytes")
    if not all(view.c_contiguous for view in views):
        raise BadShareNumbers("a block must be contiguous")


@lru_cache(CACHED_MATRICES)
def _encoder(k: int, n: int) -> zfec.Encoder:
    return zfec.Encoder(k, n)


@lru_cache(CACHED_MATRICES)
def _decoder(k: int, n: int) -> zfec.Decoder:
    return zfec.Decoder(k, n)
