"""Memory that is used again: page-aligned, never zeroed twice, and handed out as long as somebody looks at it.

Fresh memory costs more than most that is done with it: the system finds, clears and maps each page. And a disk can be
written from whole pages without a copy in between.
"""

import mmap
from collections import deque
from typing import Any, NamedTuple, TypeAlias

from shoal.erasure._isal_cdef import ffi as _ffi

SPARE_PAYLOAD_BYTES = 2 * 2**20  # payloads that nobody needs any more, of the whole process: two full reads or writes
UNIT_BYTES = 64 * 1024  # sizes are rounded up to it, so that payloads of about one size share their memory

CData: TypeAlias = Any
"""Memory of C, owned by the Python object; cffi has no types for it."""

_BYTES = _ffi.typeof("unsigned char[]")


class Spare(NamedTuple):
    """Freed buffers, all of one size."""

    size: int
    buffers: deque[CData]


class RecycledMemory:
    """Buffers. One is used again once its last view is gone, so nobody has to give it back, or could too early.

    A buffer comes back when the last view of it is gone, whichever thread dropped it. Only the size asked for last is
    kept, `spare_bytes` of it at most. There is no lock, because a buffer may come back in the middle of anything:
    everything here is one operation of a deque, or the exchange of one reference.
    """

    def __init__(self, spare_bytes: int) -> None:
        self.spare_bytes = spare_bytes
        self.spare = Spare(0, deque())

    def take(self, size: int) -> CData:
        """`size` bytes with anything in them, as an array that has forgotten its length (gc does that)."""
        size = -(-size // UNIT_BYTES) * UNIT_BYTES
        spare = self.spare
        if spare.size != size:
            spare = self.spare = Spare(size, deque(maxlen=self.spare_bytes // size))
        try:
            buffer = spare.buffers.pop()
        except IndexError:
            buffer = _ffi.from_buffer(_BYTES, mmap.mmap(-1, size))
        return _ffi.gc(buffer, spare.buffers.append)

    def view(self, size: int) -> memoryview:
        """The same as a writable view of just `size` bytes."""
        return memoryview(_ffi.buffer(self.take(size), size))


payload_memory = RecycledMemory(SPARE_PAYLOAD_BYTES)
"""For blocks on their way between network and disk: one for the process, whatever serves, fetches or repairs in it."""
