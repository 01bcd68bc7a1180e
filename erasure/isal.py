"""ISA-L, Intel's library for erasure codes: what zfec computes, more than ten times faster.

ISA-L multiplies blocks by any matrix over GF(2^8), and its field is the format's. With the format's own matrices
(gf256.py) it gives the bytes that zfec gives. It is called through cffi's out-of-line ABI mode: nothing is compiled,
and a call releases the interpreter lock. _isal_cdef.py has the declarations as cffi parsed them. Parsing them at start
would cost each command 40 to 70 ms.
"""

from collections.abc import Sequence
from functools import lru_cache

from shoal.erasure._isal_cdef import ffi as _ffi
from shoal.erasure.codec import CheckedCodec
from shoal.erasure.errors import ErasureError
from shoal.erasure.gf256 import interpolation
from shoal.erasure.hashing import Buffer
from shoal.erasure.memory import CData, RecycledMemory

COEFFICIENT_BYTES = 32  # ISA-L expands each coefficient to so many (ec_init_tables in erasure_code.h)
# One table per choice of shares given and wanted: 0.2 ms to make for 16 of 48, and 512 KiB at most (128 of 256).
CACHED_TABLES = 16
# Freed output kept for the next call: the parity of one batch of a publish (node/publishing/sealing.py).
SPARE_BYTES = 8 * 2**20

_BYTES = _ffi.typeof("unsigned char[]")
_POINTERS = _ffi.typeof("unsigned char *[]")


class LibraryUnusable(ErasureError):
    """The file is missing, is no library for this machine, or is not ISA-L."""


class IsalCodec(CheckedCodec):
    """The same code by ISA-L. Whether a library does give the same bytes is for the caller to try (choice.py)."""

    name = "isa-l"

    def __init__(self, library: str) -> None:
        """Open a library by path, or by a name that the system's loader knows; LibraryUnusable when that fails."""
        try:
            self._isal = _ffi.dlopen(library)  # closed when this reference goes, so its functions are not kept apart
            _ = self._isal.ec_init_tables, self._isal.ec_encode_data
        except (OSError, _ffi.error) as error:
            raise LibraryUnusable(str(error)) from error
        self.library = library
        self.tables = lru_cache(CACHED_TABLES)(self._make_tables)
        self._memory = RecycledMemory(SPARE_BYTES)

    def _compute(
        self, k: int, n: int, have: tuple[int, ...], blocks: Sequence[Buffer], want: tuple[int, ...]
    ) -> Sequence[Buffer]:
        """One product of a matrix with the blocks, whichever shares are given and wanted."""
        rows = len(want)
        tables = self.tables(have, want)
        sources = [_ffi.from_buffer(_BYTES, block) for block in blocks]  # must live until the call returns
        size = len(sources[0])
        made = self._memory.take(rows * size)
        targets = [made + at for at in range(0, rows * size, size)]
        self._isal.ec_encode_data(size, k, rows, tables, _ffi.new(_POINTERS, sources), _ffi.new(_POINTERS, targets))
        view = memoryview(_ffi.buffer(made, rows * size)).toreadonly()
        return [view[at : at + size] for at in range(0, rows * size, size)]

    def _make_tables(self, have: tuple[int, ...], want: tuple[int, ...]) -> CData:
        """The matrix from shares `have` to shares `want` in the form that ISA-L computes with."""
        tables = _ffi.new(_BYTES, COEFFICIENT_BYTES * len(have) * len(want))
        self._isal.ec_init_tables(len(have), len(want), interpolation(have, want), tables)
        return tables
