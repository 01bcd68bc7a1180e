"""Segments in, shares and roots out: the publishing half of the format.

The work splits in two so that several cores can share it: `encode` is pure and heavy (erasure code and
hashes) and may run for several segments at once in any order; `append` is light and takes the results in
order. `add_segment` is both.
"""

from collections.abc import Sequence

from shoal.erasure.codec import Codec
from shoal.erasure.errors import BadParameters, BadState
from shoal.erasure.hashing import Buffer
from shoal.erasure.layout import (
    MAX_CIPHERTEXT_BYTES,
    MIN_SEGMENT_BYTES,
    ceil_div,
    check_code,
    full_segment_bytes,
    is_count,
)
from shoal.erasure.merkle import Frontier, block_leaf, block_node, data_leaf, data_node
from shoal.values import dataclass

STATE_VERSION = 1


@dataclass(frozen=True, slots=True)
class EncodedSegment:
    """One segment as it goes to the holders.

    index: segment number.                     ciphertext_bytes: length of the segment, zero fill not counted.
    blocks: block `index` of shares 0 to n-1; the first k may be views of the ciphertext that was given.
    leaves: the n blocks' leaf hashes.         data_leaf: the segment's leaf in the data tree.
    last: whether the file ends here.
    """

    index: int
    ciphertext_bytes: int
    blocks: Sequence[Buffer]
    leaves: Sequence[bytes]
    data_leaf: bytes
    last: bool


@dataclass(frozen=True, slots=True)
class Roots:
    """What the manifest needs from the encoder."""

    data_root: bytes
    share_roots: tuple[bytes, ...]
    ciphertext_bytes: int


class ShareEncoder:
    """Turns the segments of one file into blocks; keeps the frontiers of its n share trees and data tree."""

    def __init__(self, k: int, n: int, codec: Codec) -> None:
        """Raises BadParameters unless 1 <= k <= n <= 256."""
        check_code(k, n)
        self.k, self.n = k, n
        self._codec = codec
        self._data = Frontier(data_node)
        self._shares = [Frontier(block_node) for _ in range(n)]
        self._ciphertext_bytes = 0
        self._finished = False

    @property
    def segment_count(self) -> int:
        """Segments appended so far; also the number of the next one."""
        return self._data.count

    @property
    def finished(self) -> bool:
        """Whether the last segment has been appended."""
        return self._finished

    def add_segment(self, ciphertext: Buffer, last: bool) -> EncodedSegment:
        """Encode and append the next segment; see `encode` and `append`."""
        encoded = self.encode(self.segment_count, ciphertext, last)
        self.append(encoded)
        return encoded

    def encode(self, index: int, ciphertext: Buffer, last: bool) -> EncodedSegment:
        """Blocks and hashes of one segment; changes nothing, so any thread may call it for any segment.

        Raises BadParameters when a segment other than the last has not exactly k blocks of 64 KiB. `ciphertext` must
        stay unchanged as long as the blocks are in use: they are views of it when no zero fill is needed.
        """
        length = memoryview(ciphertext).nbytes
        self._check_length(length, last)
        primaries = _split(ciphertext, length, self.k)
        blocks: list[Buffer] = [*primaries, *self._codec.parity(self.k, self.n, primaries)]
        leaves = [block_leaf(block) for block in blocks]
        return EncodedSegment(index, length, blocks, leaves, data_leaf(index, leaves[: self.k]), last)

    def append(self, segment: EncodedSegment) -> None:
        """Take an encoded segment into the trees. Raises BadParameters when it is not the next one of this file."""
        if self._finished or segment.index != self.segment_count or len(segment.leaves) != self.n:
            raise BadParameters(f"segment {segment.index} cannot follow {self.segment_count} segments here")
        if self._ciphertext_bytes + segment.ciphertext_bytes > MAX_CIPHERTEXT_BYTES:
            raise BadParameters(f"a file has at most {MAX_CIPHERTEXT_BYTES} bytes of ciphertext")
        self._data.append(segment.data_leaf)
        for share, leaf in zip(self._shares, segment.leaves, strict=True):
            share.append(leaf)
        self._ciphertext_bytes += segment.ciphertext_bytes
        self._finished = segment.last

    def finish(self) -> Roots:
        """Return the roots of the whole file. Raises BadParameters before the last segment."""
        if not self._finished:
            raise BadParameters("the last segment has not been added")
        return Roots(self._data.root(), tuple(share.root() for share in self._shares), self._ciphertext_bytes)

    def state(self) -> list[object]:
        """Everything needed to go on after a restart, as lists, ints and bytes that msgpack can carry.

        A snapshot: later segments do not change it. Some 32·(n+1)·log2(segments) bytes.
        """
        shares = [share.state() for share in self._shares]
        return [
            STATE_VERSION,
            self.k,
            self.n,
            self._ciphertext_bytes,
            self._finished,
            self._data.state(),
            shares,
        ]

    @classmethod
    def from_state(cls, codec: Codec, state: object) -> "ShareEncoder":
        """Restore the encoder that `state()` described. Raises BadState when `state()` cannot have written this."""
        if not (isinstance(state, list | tuple) and len(state) == 7 and state[0] == STATE_VERSION):
            raise BadState(f"encoder state is a list of seven that begins with {STATE_VERSION}")
        _, k, n, ciphertext_bytes, finished, data, shares = state
        try:
            encoder = cls(k, n, codec)
        except BadParameters as error:
            raise BadState(str(error)) from error
        if not (isinstance(shares, list | tuple) and len(shares) == n):
            raise BadState(f"encoder state has {n} frontiers")
        encoder._data = Frontier.from_state(data_node, data)
        encoder._shares = [Frontier.from_state(block_node, share) for share in shares]
        encoder._restore_counts(ciphertext_bytes, finished)
        return encoder

    def _restore_counts(self, ciphertext_bytes: object, finished: object) -> None:
        count, full = self.segment_count, full_segment_bytes(self.k)
        if any(share.count != count for share in self._shares):
            raise BadState("the frontiers have different lengths")
        if type(finished) is not bool or (finished and count == 0):
            raise BadState("only a file with segments can be finished")
        least = (count - 1) * full + MIN_SEGMENT_BYTES if finished else count * full
        if not is_count(ciphertext_bytes, least, min(count * full, MAX_CIPHERTEXT_BYTES)):
            raise BadState(f"{count} segments do not have {ciphertext_bytes!r} bytes")
        self._ciphertext_bytes, self._finished = ciphertext_bytes, finished

    def _check_length(self, length: int, last: bool) -> None:
        full = full_segment_bytes(self.k)
        if not (MIN_SEGMENT_BYTES if last else full) <= length <= full:
            raise BadParameters(f"a segment of {length} bytes where a full one has {full} bytes")


def _split(ciphertext: Buffer, length: int, k: int) -> list[Buffer]:
    """The k data blocks of a segment: views of it, or of a zero-filled copy where k does not divide it."""
    block_bytes = ceil_div(length, k)
    whole = ciphertext if length == k * block_bytes else bytes(ciphertext).ljust(k * block_bytes, b"\0")
    view = memoryview(whole).cast("B")
    return [view[at : at + block_bytes] for at in range(0, k * block_bytes, block_bytes)]
