"""Which codec this process uses: ISA-L where it is installed and gives the bytes of zfec, else zfec itself.

A library is sought in the pyeclib wheel (`pip install 'shoal[fast]'`; pyeclib itself is not imported) and where the
system keeps its libraries (Debian: libisal2). The choice cannot fail: zfec is always there. The codec's name tells
which one runs.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path

from blake3 import blake3

from shoal.erasure.codec import Codec, ZfecCodec
from shoal.erasure.hashing import Buffer
from shoal.erasure.isal import IsalCodec, LibraryUnusable

SYSTEM_LIBRARY = "libisal.so.2"
# A line of RECORD (the format of installed packages): path, hash, length. No release promises the library's full name.
RECORDED = re.compile(r"^(pyeclib\.libs/libisal[^,/]*\.so[^,/]*),[^,]*,(\d+)$", re.MULTILINE)
TRIAL_CODE = (4, 25)
TRIAL_BLOCK_BYTES = (333, 7)  # some vector registers and a remainder; less than any register
TRIAL_ROWS = (1, 2, 3, 4, 5, 6)  # ISA-L has a routine of its own for each of these numbers of wanted shares


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
    """Where ISA-L may be, best first."""
    pyeclib = PathFinder.find_spec("pyeclib")
    if pyeclib is not None and pyeclib.origin is not None:
        yield from _recorded(Path(pyeclib.origin).parent.parent)
    yield SYSTEM_LIBRARY


def _recorded(site_packages: Path) -> Iterator[str]:
    """The wheel's libraries that are as long as the installer noted in its RECORD.

    A full disk or a power cut may leave a library cut off. The system's loader ends the process (SIGBUS) when it opens
    one. A file without a note is not opened either; zfec runs then.
    """
    for record in site_packages.glob("pyeclib-*.dist-info/RECORD"):
        with suppress(OSError):
            for name, size in RECORDED.findall(record.read_text(errors="replace")):
                path = site_packages / name
                if path.is_file() and path.stat().st_size == int(size):
                    yield str(path)


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
