"""Links: what a person copies to fetch a file. `shoal:<id part>#<key part>`, or the id part alone.

Both parts are 40 bytes, so 64 base32 digits with no bit to spare: there is one way to write a link. Each part carries a
checksum of its own, so a wrong character is refused without asking any peer. The id part alone is the
file's *hash*: enough to check, keep and repair the file, and to fetch a public one.

A path may follow, behind a slash: it names something in a folder, percent-encoded, and is never sent to anybody.
"""

import base64
import re
from dataclasses import field
from enum import IntEnum

from shoal.erasure.errors import MalformedLink
from shoal.erasure.hashing import HASH_BYTES, Hash, labelled
from shoal.erasure.manifest import FILE_KEY_BYTES, FileId
from shoal.values import dataclass

SCHEME = "shoal:"
KEY_VERSION = 0x10  # first byte of a key part: format 1 in the upper half, the lower half reserved
CHECKSUM_BYTES = 7  # a typing error passes once in 2^56, and 1 + 32 + 7 is a multiple of 5
PART_CHARS = 64  # base32 digits of 40 bytes
ALPHABET = frozenset("abcdefghijklmnopqrstuvwxyz234567")  # RFC 4648 in lower case; upper case is refused
MAX_PATH_BYTES = 4096  # as in a folder's index
MAX_TEXT_CHARS = 16384  # the longest path has 12,288 when all of it is encoded; nothing longer is looked at
WRAPPING = frozenset(" \"'`<>«»‹›‘’‚‛“”„‟")  # with all that cannot be printed: no part of a link, wherever it stands
BEFORE, AFTER = "([{*_", ".,;!?…)]}*_"  # the same at its ends: marks of a sentence or a markup around it
PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_~./")  # in a path, as they are

_ENCODED = re.compile(rb"%([0-9A-Fa-f]{2})")
_STRAY_PERCENT = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_id_checksum = labelled("link id checksum")
_key_checksum = labelled("link key checksum")


class LinkKind(IntEnum):
    """First byte of an id part: format 1 in the upper half, the kind of file in the lower."""

    PRIVATE = 0x10
    PUBLIC = 0x11


@dataclass(frozen=True, slots=True)
class Link:
    """A file's id, its kind, perhaps the key of a private file, and perhaps a path into a folder. MalformedLink when
    they do not fit.

    `str()` gives the text with key and path in it; `repr()` leaves both out, so that logs do not leak them.
    """

    id: FileId
    kind: LinkKind = LinkKind.PRIVATE
    key: bytes | None = field(default=None, repr=False)
    path: bytes = field(default=b"", repr=False)  # "/" between names, none at the ends; empty is the whole

    def __post_init__(self) -> None:
        if len(self.id) != HASH_BYTES:
            raise MalformedLink(f"a file id has {HASH_BYTES} bytes")
        if self.key is not None and len(self.key) != FILE_KEY_BYTES:
            raise MalformedLink(f"a file key has {FILE_KEY_BYTES} bytes")
        if self.key is not None and self.kind is LinkKind.PUBLIC:
            raise MalformedLink("the link of a public file has no key part")
        if self.path and self.key is None and self.kind is LinkKind.PRIVATE:
            raise MalformedLink("a path stands behind the key, and this link has none")
        _check_path(self.path)

    @property
    def hash(self) -> str:
        """The text of the id part alone: neither key nor path."""
        return SCHEME + _encode_part(self.kind, self.id, _id_checksum)

    def __str__(self) -> str:
        key = "" if self.key is None else "#" + _encode_part(KEY_VERSION, self.key, _key_checksum)
        return self.hash + key + (f"/{_encode_path(self.path)}" if self.path else "")


def unwrapped(text: str) -> str:
    """`text` without what people paste along with it: white space and line breaks of any kind, characters that cannot
    be seen, quotes, angle brackets, and the marks of a sentence around it.

    A link has none of them, and its checksums tell a part that was lost.
    """
    kept = "".join(char for char in text if char.isprintable() and char not in WRAPPING)
    return kept.lstrip(BEFORE).rstrip(AFTER)


def parse_link(text: str) -> Link:
    """Read the link in `text`, however it was pasted: it may be wrapped (see `unwrapped`), lack `shoal:`, and have
    `%23` for `#`. Raises MalformedLink for other text.

    A path may have any printable characters that no text wraps around a link. A slash at its end does not count.
    """
    if len(text) > MAX_TEXT_CHARS:
        raise MalformedLink("this is too long to be a link")
    before, slash, path_text = text.partition("/")
    stripped = unwrapped(before + slash).removesuffix("/").replace("%23", "#", 1)
    if not stripped.startswith(SCHEME) and stripped.lower().startswith(SCHEME):
        raise MalformedLink("the link has capital letters, but links have only small ones")
    id_text, separator, key_text = stripped.removeprefix(SCHEME).partition("#")
    if not stripped.startswith(SCHEME) and len(id_text) != PART_CHARS:
        raise MalformedLink(f"it does not start with {SCHEME}")
    first, file_id = _decode_part(id_text, _id_checksum, "link")
    try:
        kind = LinkKind(first)
    except ValueError:
        raise MalformedLink("this kind of link needs a newer version of Shoal") from None
    return Link(FileId(file_id), kind, _parse_key(key_text) if separator else None, _parse_path(path_text))


def _parse_path(text: str) -> bytes:
    """The path behind the slash. A line may be broken anywhere, as in a quoted mail; a blank within one has to be
    written `%20`, for nobody could tell it from one that came with the wrapping."""
    joined = _trimmed("".join(_trimmed(line) for line in text.splitlines()), AFTER)
    if any(char in WRAPPING or char.isspace() or "\ud800" <= char <= "\udfff" for char in joined):
        raise MalformedLink("its path has a blank or a quotation mark, which must be encoded: a blank is %20")
    encoded = "".join(char for char in joined if char.isprintable()).encode()
    if _STRAY_PERCENT.search(encoded):
        raise MalformedLink("its path has a % without two hexadecimal digits behind it: a % itself is %25")
    return _ENCODED.sub(lambda found: bytes.fromhex(found[1].decode()), encoded).removesuffix(b"/")


def _trimmed(text: str, marks: str = "") -> str:
    """`text` without what cannot be part of a link at its ends, nor `marks` at its end."""
    kept = [at for at, char in enumerate(text) if char.isprintable() and char not in WRAPPING]
    last = next((at for at in reversed(kept) if text[at] not in marks), -1)
    return text[kept[0] : last + 1] if kept else ""


def _encode_path(path: bytes) -> str:
    """Percent-encoded, with nothing at its end that could belong to the sentence around the link."""
    text = "".join(chr(byte) if byte in PLAIN else f"%{byte:02X}" for byte in path)
    return text if text[-1] not in AFTER else f"{text[:-1]}%{ord(text[-1]):02X}"


def _check_path(path: bytes) -> None:
    if len(path) > MAX_PATH_BYTES:
        raise MalformedLink(f"its path has more than {MAX_PATH_BYTES} bytes")
    if path and (b"\0" in path or not {b"", b".", b".."}.isdisjoint(path.split(b"/"))):
        raise MalformedLink("its path has an empty name, or one of '.', '..' or a zero byte")


def _parse_key(text: str) -> bytes:
    first, key = _decode_part(text, _key_checksum, "key part of the link")
    if first != KEY_VERSION:
        raise MalformedLink("the key part of this link needs a newer version of Shoal")
    return key


def _encode_part(first: int, value: bytes, checksum: Hash) -> str:
    body = bytes([first]) + value
    return base64.b32encode(body + checksum(body)[:CHECKSUM_BYTES]).decode().lower()


def _decode_part(text: str, checksum: Hash, what: str) -> tuple[int, bytes]:
    """(first byte, 32-byte value) of one part; `what` names it in messages."""
    if len(text) != PART_CHARS:
        raise MalformedLink(f"the {what} has {len(text)} characters instead of {PART_CHARS}")
    if not set(text) <= ALPHABET:
        raise MalformedLink(f"the {what} has a character that is not a-z or 2-7")
    data = base64.b32decode(text.upper())
    body, check = data[:-CHECKSUM_BYTES], data[-CHECKSUM_BYTES:]
    if checksum(body)[:CHECKSUM_BYTES] != check:
        raise MalformedLink(f"the {what} is mistyped: its checksum is wrong")
    return body[0], body[1:]
