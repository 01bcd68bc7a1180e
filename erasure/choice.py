"""Which codec this process uses: ISA-L where it is installed and gives the bytes of zfec, else zfec itself.

A library is looked for in the pyeclib wheel (`pip install 'shoal[fast]'`; pyeclib itself is not imported) and where
the system keeps its libraries (Debian: libisal2). Nothing about it can fail: zfec is always there, and the name of the
codec tells which one runs.
"""

import struct
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path

from blake3 import blake3

from shoal.erasure.codec import Codec, ZfecCodec
from shoal.erasure.hashing import Buffer
from shoal.erasure.isal import IsalCodec, LibraryUnusable

SYSTEM_LIBRARY = "libisal.so.2"
ELF_MAGIC = b"\x7fELF\x02\x01"
ELF_HEADER_BYTES = 64
ELF_SEGMENT = struct.Struct("<8xQ16xQ16x")  # of a program header: where in the file, how many bytes of it
TRIAL_CODE = (4, 25)
TRIAL_BLOCK_BYTES = (333, 7)  # more than a vector register and a remainder; less than any register
TRIAL_ROWS = (1, 2, 3, 4, 5, 6)  # wanted shares: ISA-L has a routine of its own for each of these numbers


@cache
def best_codec() -> Codec:
    """The fastest codec that works here. All give the same bytes, so the choice shows in no format."""
    return choose_codec(find_libraries())


def choose_codec(libraries: Iterable[str]) -> Codec:
    """ISA-L from the first of the libraries that opens and agrees with zfec; zfec when none does."""
    for library in libraries:
        try:
            codec = IsalCodec(library)
        except LibraryUnusable:
            continue
        if agrees_with_zfec(codec):
            return codec
    return ZfecCodec()


def find_libraries() -> Iterator[str]:
    """Where ISA-L may be, best first. Nobody promises the file's name inside the wheel, so it is a pattern."""
    pyeclib = PathFinder.find_spec("pyeclib")
    if pyeclib is not None and pyeclib.origin is not None:
        folder = Path(pyeclib.origin).parent.parent / "pyeclib.libs"
        yield from (str(path) for path in sorted(folder.glob("libisal*.so*")) if is_whole(path))
    yield SYSTEM_LIBRARY


def is_whole(path: Path) -> bool:
    """Whether a library (ELF, 64 bits, little-endian) is as long as its headers say.

    One that was cut off, by a full disk perhaps, must not be opened: the loader would end the process (SIGBUS).
    """
    try:
        with path.open("rb") as file:
            header = file.read(ELF_HEADER_BYTES)
            if len(header) < ELF_HEADER_BYTES or not header.startswith(ELF_MAGIC):
                return False
            (table,) = struct.unpack_from("<Q", header, 32)
            entry_bytes, count = struct.unpack_from("<HH", header, 54)
            if entry_bytes != ELF_SEGMENT.size:
                return False
            file.seek(table)
            segments = file.read(entry_bytes * count)
            length = file.seek(0, 2)
    except (OSError, ValueError):  # ValueError: no such place in any file
        return False
    if len(segments) < entry_bytes * count:
        return False
    return all(start + size <= length for start, size in ELF_SEGMENT.iter_unpack(segments))


def agrees_with_zfec(codec: Codec) -> bool:
    """Whether the codec gives zfec's bytes, both ways, on a little noise. Fixed noise: a choice must not be luck."""
    return all(_agrees(codec, size) for size in TRIAL_BLOCK_BYTES)


def _agrees(codec: Codec, size: int) -> bool:
    k, n = TRIAL_CODE
    noise = blake3(b"shoal codec trial").digest(length=k * size)
    data = [noise[at : at + size] for at in range(0, k * size, size)]
    shares: list[Buffer] = [*data, *ZfecCodec().parity(k, n, data)]
    last: Mapping[int, Buffer] = {number: shares[number] for number in range(n - k, n)}
    return list(codec.parity(k, n, data)) == shares[k:] and all(
        codec.rebuild(k, n, last, range(rows)) == dict(enumerate(shares[:rows])) for rows in TRIAL_ROWS
    )
