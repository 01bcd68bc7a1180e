"""The erasure code itself: k blocks of data in, n - k blocks of parity out, and back.

zfec defines the bytes: a systematic code over GF(2^8) (docs/format.md, "Blocks"). A codec is anything that
gives the same bytes faster. zfec's decoder hangs for ever, or answers silently wrong, on share numbers it
should have refused, so the checks below come before every call into it; no other module may import zfec.
"""

from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import Protocol

import zfec

from shoal.erasure.errors import BadShareNumbers
from shoal.erasure.hashing import Buffer
from shoal.erasure.layout import check_code, is_count

CACHED_MATRICES = (
    8  # a process uses few widths at a time; a matrix has at most 64 KiB and a small one takes 50 µs
)


class Codec(Protocol):
    """A k-of-n code. The blocks of one call have the same length, at least one byte.

    Calls are pure, may run in any thread and in several at once. Wrong numbers raise BadParameters or
    BadShareNumbers. Content is not checked: blocks that were never verified give wrong bytes, not an error.
    """

    @property
    def name(self) -> str:
        """Shown in a node's status."""

    def parity(self, k: int, n: int, data: Sequence[Buffer]) -> list[bytes]:
        """Shares k to n-1 of the k data blocks."""

    def rebuild(self, k: int, n: int, have: Mapping[int, Buffer], want: Collection[int]) -> dict[int, bytes]:
        """The wanted shares, by number, from any k shares in `have` (exactly k, primaries or not)."""


class ZfecCodec:
    """The reference codec: the zfec library, which releases the interpreter lock while it works."""

    name = "zfec"

    def parity(self, k: int, n: int, data: Sequence[Buffer]) -> list[bytes]:
        """Shares k to n-1 of the k data blocks."""
        check_code(k, n)
        check_data(k, data)
        if n == k:
            return []
        made: list[bytes] = _encoder(k, n).encode(tuple(data), tuple(range(k, n)))
        return made

    def rebuild(self, k: int, n: int, have: Mapping[int, Buffer], want: Collection[int]) -> dict[int, bytes]:
        """The wanted shares from any k others; only what is missing is computed."""
        check_code(k, n)
        check_have(k, n, have)
        check_want(n, want)
        found = {number: bytes(have[number]) for number in want if number in have}
        missing = [number for number in want if number not in have]
        if missing:
            data = self._primaries(k, n, have)
            found.update((number, bytes(data[number])) for number in missing if number < k)
            found.update(self._chosen_parity(k, n, data, [number for number in missing if number >= k]))
        return found

    def _primaries(self, k: int, n: int, have: Mapping[int, Buffer]) -> list[Buffer]:
        """All k data blocks, in order."""
        if all(number in have for number in range(k)):
            return [have[number] for number in range(k)]
        numbers = tuple(have)
        data: list[Buffer] = _decoder(k, n).decode(tuple(have[number] for number in numbers), numbers)
        return data

    def _chosen_parity(self, k: int, n: int, data: list[Buffer], numbers: list[int]) -> dict[int, bytes]:
        if not numbers:
            return {}
        return dict(zip(numbers, _encoder(k, n).encode(tuple(data), tuple(numbers)), strict=True))


def best_codec() -> Codec:
    """The fastest codec that works here. All give the same bytes, so the choice shows in no format."""
    return ZfecCodec()


def check_data(k: int, data: Sequence[Buffer]) -> None:
    """Raise BadShareNumbers unless there are k data blocks of equal, non-zero length."""
    if len(data) != k:
        raise BadShareNumbers(f"{len(data)} data blocks where the code needs {k}")
    _check_lengths(data)


def check_have(k: int, n: int, have: Mapping[int, Buffer]) -> None:
    """Raise BadShareNumbers unless `have` is k blocks of equal, non-zero length with numbers below n.

    A mapping cannot name a number twice, except by a key that only equals an int: bools and floats are
    refused.
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
    lengths = {memoryview(block).nbytes for block in blocks}
    if len(lengths) != 1 or 0 in lengths:
        raise BadShareNumbers("blocks of one segment must have the same length, and not zero")


@lru_cache(CACHED_MATRICES)
def _encoder(k: int, n: int) -> zfec.Encoder:
    return zfec.Encoder(k, n)


@lru_cache(CACHED_MATRICES)
def _decoder(k: int, n: int) -> zfec.Decoder:
    return zfec.Decoder(k, n)
