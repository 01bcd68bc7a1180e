"""Headers of a tar archive for the entries of a folder. Python's `tarfile` makes them; it would keep all in memory.

Names that are UTF-8, and times to the nanosecond, stand in POSIX (pax) headers. A name of other bytes stands in a GNU
header, as it is: GNU tar and others do not know how pax marks such names. Its time is then in whole seconds.
"""

import os
import tarfile

from shoal.node.folders.entries import Entry, EntryKind

BLOCK_BYTES = tarfile.BLOCKSIZE
END = bytes(2 * BLOCK_BYTES)  # of an archive

_TYPES = {EntryKind.FILE: tarfile.REGTYPE, EntryKind.DIRECTORY: tarfile.DIRTYPE, EntryKind.SYMLINK: tarfile.SYMTYPE}
_NS = 10**9


def header(entry: Entry, prefix: bytes = b"") -> bytes:
    """The header of an entry below `prefix`, which ends with a slash. The contents follow it, and `padding`."""
    raw = [prefix + entry.path, entry.target]
    info = tarfile.TarInfo(os.fsdecode(raw[0]))
    info.type = _TYPES[entry.kind]
    info.size = entry.size
    info.linkname = os.fsdecode(entry.target)
    info.mode = 0o755 if entry.kind is not EntryKind.FILE or entry.executable else 0o644  # root's tar takes no mask off
    seconds, rest = divmod(entry.mtime_ns, _NS)
    info.mtime = seconds
    if not all(_is_text(each) for each in raw):
        return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
    if rest or seconds < 0:
        info.pax_headers = {"mtime": f"{seconds}.{rest:09d}" if seconds >= 0 else _negative(entry.mtime_ns)}
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")


def padding(size: int) -> bytes:
    """What stands behind contents of this size."""
    return bytes(-size % BLOCK_BYTES)


def _is_text(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


def _negative(mtime_ns: int) -> str:
    seconds, rest = divmod(-mtime_ns, _NS)
    return f"-{seconds}.{rest:09d}"
