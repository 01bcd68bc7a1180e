"""The second look: a publish reads its file once more, and goes on only when it finds what was sealed.

A file may change while it is read. Metadata cannot rule that out: an mtime can be set back, and a writer through mmap
changes no time for a while. So all bytes are read again after the last one was sealed. Where each byte is the same
both times, the file had just this content at the moment between the two readings, unless a byte was changed and
changed back. The same look proves that a file is still the one that an interrupted publish has sent a part of.

What is compared is a chain of the segments' nonces, which are keyed hashes of the plaintext: a read and one hash.
"""

from collections.abc import Callable

from shoal.erasure import BLOCK_BYTES, SEGMENT_OVERHEAD
from shoal.node.cipher import FileCipher
from shoal.node.environment import Environment
from shoal.node.publishing.sealing import NOTHING_SEALED, PaddedReader, chained
from shoal.node.publishing.sources import Source, changed
from shoal.values import dataclass

LOOK_BYTES = 8 * 2**20  # read at once: what is held in memory
LOOKS = 3  # readings of a file whose ctime does not rest, before it is refused


@dataclass(frozen=True, slots=True)
class Sealed:
    """What was sealed of a file: its first `segments` segments, with `chain` over them; `ends` when these are all.

    `size` counts the bytes of the file in them, without the padding.
    """

    segments: int
    chain: bytes
    size: int
    ends: bool


class SecondLook:
    """Reads a source from the start and compares. `report` is told the bytes looked at so far."""

    def __init__(
        self, source: Source, cipher: FileCipher, k: int, env: Environment, report: Callable[[int], None]
    ) -> None:
        self._source = source
        self._cipher = cipher
        self._step = k * BLOCK_BYTES - SEGMENT_OVERHEAD
        self._env = env
        self._report = report

    async def require(self, sealed: Sealed) -> None:
        """Make sure that the whole file is what was sealed of it, at one moment.

        The ctime must rest meanwhile: a write that is undone before it is read again would not show otherwise.

        :raises SourceChanged: it is not, or its ctime did not rest in so many readings.
        """
        for _ in range(LOOKS):
            before = await self._source.look()
            if not await self.finds(sealed):
                break
            await self._source.finish()
            if await self._source.look() == before:
                return
        raise changed(self._source.shown)

    async def finds(self, sealed: Sealed) -> bool:
        """Whether the source begins with what was sealed of it."""
        await self._source.seek(0)
        reader, chain, index = PaddedReader(self._source), NOTHING_SEALED, 0
        while index < sealed.segments:
            count = min(max(1, LOOK_BYTES // self._step), sealed.segments - index)
            plaintext = await reader.read(count * self._step)
            last = sealed.segments - 1 if sealed.ends else None
            nonces = await self._env.call(self._nonces, index, last, plaintext)
            chain, index = chained(chain, nonces), index + count
            self._report(reader.size)
        return chain == sealed.chain and reader.size == sealed.size

    def _nonces(self, first: int, last: int | None, plaintext: bytes) -> list[bytes]:
        """The nonce of each segment of a run; called in a worker."""
        pieces = [plaintext[at : at + self._step] for at in range(0, len(plaintext), self._step)]
        return [self._cipher.nonce_of(index, index == last, piece) for index, piece in enumerate(pieces, first)]
