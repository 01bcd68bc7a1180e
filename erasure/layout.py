"""The arithmetic of a published file: padding, segments, blocks and their lengths (docs/format.md).

A ciphertext of C bytes is cut into segments of k·65,536 bytes; only the last may be shorter. A segment is cut
into k equal blocks; the last one is zero-filled to a multiple of k first. Share i is block i of every
segment, in order.
"""

from typing import TypeGuard

from shoal.erasure.errors import BadParameters
from shoal.values import dataclass

BLOCK_BYTES = 65536  # one read request and one Merkle leaf: 1/2000 overhead in hashes, 1 ms of a 500 Mbit/s line
SEGMENT_OVERHEAD = 40  # bytes the cipher adds to each segment: a 24-byte nonce before it and a 16-byte tag after it
MIN_PADDED_BYTES = 256  # small files all look alike
MAX_SHARES = 256  # the code works in GF(2^8): one share per field element
MAX_CIPHERTEXT_BYTES = 1 << 54  # 16 PiB. Then n shares together stay below 2^63, whatever k and n are
MIN_SEGMENT_BYTES = SEGMENT_OVERHEAD + 1  # a segment carries at least one byte of plaintext

MIB = 1 << 20
EXPANSION = 3  # shares in all for each one needed: any two thirds of the holders may be lost
WIDTHS = (  # (least file size in bytes, k, n), widest first; reasons in docs/format.md
    (MIB, 16, 48),
    (65536, 8, 24),
    (0, 4, 12),
    (0, 2, 6),
    (0, 1, 3),
)


def padme(size: int) -> int:
    """`size` rounded up, by at most 12 %, to leak O(log log size) bits of it (Nikitin et al., PETS 2019)."""
    if size < 2:
        return size
    exponent = size.bit_length() - 1
    low_bits = exponent - exponent.bit_length()
    mask = (1 << low_bits) - 1
    return (size + mask) & ~mask


def padded_size(size: int) -> int:
    """Bytes of plaintext that are encrypted for a file of `size` bytes; the rest is zeros."""
    return max(MIN_PADDED_BYTES, padme(size))


def is_count(value: object, least: int, most: int) -> TypeGuard[int]:
    """True when `value` is an int (a bool is not) within the limits."""
    return type(value) is int and least <= value <= most


def check_code(k: int, n: int) -> None:
    """Raise BadParameters unless 1 <= k <= n <= 256."""
    if not (is_count(n, 1, MAX_SHARES) and is_count(k, 1, n)):
        raise BadParameters(f"needed and total shares must satisfy 1 <= needed <= total <= {MAX_SHARES}")


def chosen_code(needed: int | None, total: int | None) -> tuple[int, int] | None:
    """(k, n) where a publisher chose one or both of them, else None. `EXPANSION` gives the one that it did not choose.

    The numbers are unchecked: see `check_code`.
    """
    if needed is None and total is None:
        return None
    k = max(1, (total or 0) // EXPANSION) if needed is None else needed
    return k, min(MAX_SHARES, EXPANSION * k) if total is None else total


def default_width(size: int | None, hosts: int) -> tuple[int, int]:
    """(k, n) for a file of `size` bytes (None: unknown, taken as large) when `hosts` hosts accept shares.

    The widest code that both allow; 1-of-3 where there are fewer than six hosts, even fewer than three.
    """
    for least_bytes, k, n in WIDTHS:
        if (size is None or size >= least_bytes) and hosts >= n:
            return k, n
    return WIDTHS[-1][1:]


def default_happy(n: int) -> int:
    """Hosts that must have acknowledged before a publish counts as done: three quarters of n, rounded up."""
    return (3 * n + 3) // 4


assert all(n == EXPANSION * k for _, k, n in WIDTHS), "a chosen code and a default one survive the same losses"


@dataclass(frozen=True, slots=True)
class Layout:
    """How a ciphertext lies in n shares. BadParameters for numbers that no published file can have."""

    k: int
    n: int
    ciphertext_bytes: int

    def __post_init__(self) -> None:
        check_code(self.k, self.n)
        if not is_count(self.ciphertext_bytes, MIN_SEGMENT_BYTES, MAX_CIPHERTEXT_BYTES):
            raise BadParameters(f"a ciphertext has {MIN_SEGMENT_BYTES} to {MAX_CIPHERTEXT_BYTES} bytes")
        if self.last_segment_bytes < MIN_SEGMENT_BYTES:
            raise BadParameters(f"a last segment of {self.last_segment_bytes} bytes carries no plaintext")

    @classmethod
    def for_plaintext(cls, k: int, n: int, size: int) -> "Layout":
        """Layout of a file of `size` bytes of plaintext, padding and cipher overhead included."""
        check_code(k, n)
        if not is_count(size, 0, MAX_CIPHERTEXT_BYTES):
            raise BadParameters(f"a file has 0 to {MAX_CIPHERTEXT_BYTES} bytes")
        padded = padded_size(size)
        segments = ceil_div(padded, full_segment_bytes(k) - SEGMENT_OVERHEAD)
        return cls(k, n, padded + segments * SEGMENT_OVERHEAD)

    @property
    def segment_count(self) -> int:
        """Segments of the file = blocks of each share."""
        return ceil_div(self.ciphertext_bytes, full_segment_bytes(self.k))

    @property
    def segment_plain_bytes(self) -> int:
        """Plaintext carried by each segment but the last."""
        return full_segment_bytes(self.k) - SEGMENT_OVERHEAD

    @property
    def padded_plain_bytes(self) -> int:
        """Plaintext of the whole file with its padding."""
        return self.ciphertext_bytes - self.segment_count * SEGMENT_OVERHEAD

    @property
    def last_segment_bytes(self) -> int:
        """Ciphertext bytes of the last segment, zero fill not counted."""
        return self.ciphertext_bytes - (self.segment_count - 1) * full_segment_bytes(self.k)

    @property
    def last_block_bytes(self) -> int:
        """Length of each share's last block."""
        return ceil_div(self.last_segment_bytes, self.k)

    @property
    def share_bytes(self) -> int:
        """Length of one share."""
        return (self.segment_count - 1) * BLOCK_BYTES + self.last_block_bytes

    def segment_bytes(self, index: int) -> int:
        """Ciphertext bytes of segment `index`. BadParameters when there is no such segment."""
        return self.last_segment_bytes if self._is_last(index) else full_segment_bytes(self.k)

    def block_bytes(self, index: int) -> int:
        """Length of block `index` of any share. BadParameters when there is no such block."""
        return self.last_block_bytes if self._is_last(index) else BLOCK_BYTES

    def _is_last(self, index: int) -> bool:
        count = self.segment_count
        if not is_count(index, 0, count - 1):
            raise BadParameters(f"no segment {index} in a file of {count}")
        return index == count - 1


def full_segment_bytes(k: int) -> int:
    """Ciphertext bytes of a full segment: exactly k blocks."""
    return k * BLOCK_BYTES


def ceil_div(value: int, divisor: int) -> int:
    """value / divisor, rounded up."""
    return -(-value // divisor)
