"""Names of files. In Python a name is a `str` everywhere: bytes that are no UTF-8 are lone surrogates, as in
`os.fsdecode`. Only what is written or sent has the bytes."""

import os
from pathlib import Path

MAX_NAME_BYTES = 255  # what file systems take


def name_bytes(name: str) -> bytes:
    """A file name as its bytes on disk; `ValueError` where it cannot be one plain name."""
    raw = os.fsencode(name)
    if not raw or raw in (b".", b"..") or b"/" in raw or b"\0" in raw:
        raise ValueError("not a plain file name")
    if len(raw) > MAX_NAME_BYTES:
        raise ValueError(f"longer than {MAX_NAME_BYTES} bytes")
    return raw


def name_text(raw: bytes) -> str:
    """The name whose bytes on disk are these; the inverse of `name_bytes`."""
    return os.fsdecode(raw)


def printable(path: Path | str) -> str:
    """A path for a message: control characters and undecodable bytes shown as escapes, never raw."""
    text = str(path)
    return text if text.isprintable() else ascii(text)[1:-1]
