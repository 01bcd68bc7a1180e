"""Links: what a person copies to fetch a file. `shoal:<id part>#<key part>`, or the id part alone.

Both parts are 40 bytes, so 64 base32 digits with no bit to spare: there is one way to write a link. Each part carries a
checksum of its own, so a wrong character is refused without asking any peer. The id part alone is the
file's *hash*: enough to check, keep and repair the file, and to fetch a public one.
"""

import base64
from dataclasses import dataclass, field
from enum import IntEnum

from shoal.erasure.errors import MalformedLink
from shoal.erasure.hashing import HASH_BYTES, Hash, labelled
from shoal.erasure.manifest import FILE_KEY_BYTES, FileId

SCHEME = "shoal:"
KEY_VERSION = 0x10  # first byte of a key part: format 1 in the upper half, the lower half reserved
CHECKSUM_BYTES = 7  # a typing error passes once in 2^56, and 1 + 32 + 7 is a multiple of 5
PART_CHARS = 64  # base32 digits of 40 bytes
ALPHABET = frozenset("abcdefghijklmnopqrstuvwxyz234567")  # RFC 4648 in lower case; upper case is refused
MAX_TEXT_CHARS = 4096  # what is pasted with a link included; nothing longer is looked at
WRAPPING = frozenset(" \"'`<>«»‹›‘’‚‛“”„‟")  # with all that cannot be printed: no part of a link, wherever it stands
BEFORE, AFTER = "([{*_", ".,;!?…)]}*_"  # the same at its ends: marks of a sentence or a markup around it

_id_checksum = labelled("link id checksum")
_key_checksum = labelled("link key checksum")


class LinkKind(IntEnum):
    """First byte of an id part: format 1 in the upper half, the kind of file in the lower."""

    PRIVATE = 0x10
    PUBLIC = 0x11


@dataclass(frozen=True, slots=True)
class Link:
    """A file's id, its kind and, for a private file, perhaps its key. MalformedLink when they do not fit.

    `str()` gives the text with the key in it; `repr()` leaves the key out, so that logs do not leak it.
    """

    id: FileId
    kind: LinkKind = LinkKind.PRIVATE
    key: bytes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if len(self.id) != HASH_BYTES:
            raise MalformedLink(f"a file id has {HASH_BYTES} bytes")
        if self.key is not None and len(self.key) != FILE_KEY_BYTES:
            raise MalformedLink(f"a file key has {FILE_KEY_BYTES} bytes")
        if self.key is not None and self.kind is LinkKind.PUBLIC:
            raise MalformedLink("the link of a public file has no key part")

    @property
    def hash(self) -> str:
        """The text of the id part alone."""
        return SCHEME + _encode_part(self.kind, self.id, _id_checksum)

    def __str__(self) -> str:
        if self.key is None:
            return self.hash
        return self.hash + "#" + _encode_part(KEY_VERSION, self.key, _key_checksum)


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
    """
    if len(text) > MAX_TEXT_CHARS:
        raise MalformedLink("this is too long to be a link")
    stripped = unwrapped(text).replace("%23", "#", 1)
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
    return Link(FileId(file_id), kind, _parse_key(key_text) if separator else None)


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
