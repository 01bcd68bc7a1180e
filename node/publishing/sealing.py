"""The CPU half of a publish: plaintext in, batches of sealed, coded and hashed blocks out, in constant memory.

A batch is a run of whole segments, large enough that handing it to a worker costs nothing beside the work in it, and
small enough that the few batches under way fit in memory whatever k and n are.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from shoal.dht import labelled_hash
from shoal.erasure import (
    BLOCK_BYTES,
    SEGMENT_OVERHEAD,
    Roots,
    ShareEncoder,
    padded_size,
)
from shoal.node.channel import Buffer
from shoal.node.cipher import NONCE_BYTES, FileCipher
from shoal.node.environment import Environment
from shoal.node.publishing.sources import Source
from shoal.values import dataclass

BATCH_BYTES = 12 * 2**20  # all shares of a batch together; three batches are under way at once
MAX_BATCH_SEGMENTS = 16  # blocks of one share in one write request: 1 MiB

NOTHING_SEALED = bytes(32)  # the chain before the first segment

_link = labelled_hash("publish content")


def chained(chain: bytes, nonces: Iterable[bytes]) -> bytes:
    """The chain over a file's content, longer by the segments with these nonces, which are hashes of them."""
    for nonce in nonces:
        chain = _link(chain + nonce)
    return chain


def batch_segments(n: int) -> int:
    """How many segments make a batch for n shares."""
    return max(1, min(MAX_BATCH_SEGMENTS, BATCH_BYTES // (n * BLOCK_BYTES)))


class Column(Protocol):
    """One segment's blocks, by share number; an `EncodedSegment` is one."""

    @property
    def blocks(self) -> Mapping[int, Buffer] | Sequence[Buffer]: ...

    @property
    def data_leaf(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Batch:
    """A run of encoded segments.

    `state` is the encoder's after it; `plain_bytes` the file's bytes up to its end, and `chain` the chain over them.
    """

    first: int
    segments: Sequence[Column]
    state: list[object]
    plain_bytes: int
    chain: bytes = NOTHING_SEALED

    @property
    def end(self) -> int:
        """Index of the first segment after the batch."""
        return self.first + len(self.segments)

    def blocks(self, share: int, start: int) -> list[Buffer]:
        """The blocks of one share from segment `start` on."""
        return [segment.blocks[share] for segment in self.segments[start - self.first :]]

    def data_leaves(self, start: int) -> bytes:
        """The leaves of the data tree from segment `start` on."""
        return b"".join(segment.data_leaf for segment in self.segments[start - self.first :])


class PaddedReader:
    """A source's plaintext with the padding of the format behind it.

    `offset` is where reading begins; the source must have been moved there. It may lie in the padding, which can be
    several segments long.
    """

    def __init__(self, source: Source, offset: int = 0) -> None:
        self._source = source
        self._zeros_left: int | None = None
        self.size = offset
        if source.size is not None and offset > source.size:
            self.size = source.size
            self._zeros_left = max(0, padded_size(self.size) - offset)

    async def read(self, wanted: int) -> bytes:
        """The next bytes; fewer than `wanted` only at the end of the padding."""
        data = b""
        if self._zeros_left is None:
            data = await self._source.read(wanted)
            self.size += len(data)
            if len(data) == wanted:
                return data
            self._zeros_left = padded_size(self.size) - self.size
        zeros = min(wanted - len(data), self._zeros_left)
        self._zeros_left -= zeros
        return data + bytes(zeros)


class Sealer:
    """Reads, pads, seals, codes and hashes; `next_batch` until it gives None, then `finish`."""

    def __init__(
        self,
        source: Source,
        cipher: FileCipher,
        encoder: ShareEncoder,
        env: Environment,
        chain: bytes = NOTHING_SEALED,
    ) -> None:
        """`chain`: over the segments that the encoder has already."""
        self.chain = chain
        self._cipher = cipher
        self._encoder = encoder
        self._env = env
        self._index = encoder.segment_count
        self._step = encoder.k * BLOCK_BYTES - SEGMENT_OVERHEAD
        self._reader = PaddedReader(source, self._index * self._step)
        self._ahead: bytes | None = None

    @property
    def size(self) -> int:
        """Bytes of the file read so far; its size once `next_batch` gave None."""
        return self._reader.size

    async def next_batch(self) -> Batch | None:
        """The next run of segments, worked on in a worker; None after the last one."""
        wanted = self._step * batch_segments(self._encoder.n)
        if self._ahead is None:
            self._ahead = await self._reader.read(wanted)
        current = self._ahead
        if not current:
            return None
        plain_bytes = self._reader.size
        self._ahead = await self._reader.read(wanted)
        return await self._env.call(self._seal, current, not self._ahead, plain_bytes)

    def _seal(self, plaintext: bytes, ends: bool, plain_bytes: int) -> Batch:
        first = self._index
        pieces = [plaintext[at : at + self._step] for at in range(0, len(plaintext), self._step)]
        segments = []
        for number, piece in enumerate(pieces, 1):
            last = ends and number == len(pieces)
            sealed = self._cipher.seal_segment(self._index, last, piece)
            self.chain = chained(self.chain, [sealed[:NONCE_BYTES]])
            segments.append(self._encoder.add_segment(sealed, last))
            self._index += 1
        return Batch(first, segments, self._encoder.state(), plain_bytes, self.chain)

    def finish(self) -> Roots:
        """The roots of all trees, after the last batch."""
        return self._encoder.finish()
