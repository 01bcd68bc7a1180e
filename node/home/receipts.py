"""A receipt: the right to delete one file, as a line of text that can be taken elsewhere.

`receipt:` and base32 of: type byte, as in the link ‖ file id (32) ‖ owner secret (32) ‖ checksum (10).
Whoever has it can delete the file and nothing more; it does not help to read it.
"""

import base64
from dataclasses import field

from shoal.dht import labelled_hash
from shoal.erasure import FileId, Link, LinkKind, unwrapped
from shoal.node.errors import UsageError
from shoal.values import dataclass

SCHEME = "receipt:"
CHECKSUM_BYTES = 10  # 1 + 32 + 32 + 10 is a multiple of 5: base32 without a bit to spare
PART_CHARS = 120
MAX_TEXT_CHARS = 4096
ALPHABET = frozenset("abcdefghijklmnopqrstuvwxyz234567")

_checksum = labelled_hash("receipt checksum")


@dataclass(frozen=True, slots=True)
class Receipt:
    """A file's id, its owner's secret, and the kind of its link. `repr()` leaves the secret out."""

    file_id: FileId
    secret: bytes = field(repr=False)
    kind: LinkKind = LinkKind.PRIVATE

    @property
    def hash(self) -> str:
        """The hash of the file."""
        return Link(self.file_id, self.kind).hash

    def __str__(self) -> str:
        body = bytes([self.kind]) + self.file_id + self.secret
        return SCHEME + base64.b32encode(body + _checksum(body)[:CHECKSUM_BYTES]).decode().lower()


def parse_receipt(text: str) -> Receipt:
    """The receipt in `text`.

    :raises UsageError: it is none, or mistyped. The message never repeats the text, which is a secret.
    """
    part = unwrapped(text[: MAX_TEXT_CHARS + 1]).removeprefix(SCHEME)
    if len(text) > MAX_TEXT_CHARS or len(part) != PART_CHARS or not set(part) <= ALPHABET:
        raise UsageError("This is not a receipt. Make one with: shoal ls --receipt LINK")
    data = base64.b32decode(part.upper())
    body, check = data[:-CHECKSUM_BYTES], data[-CHECKSUM_BYTES:]
    if _checksum(body)[:CHECKSUM_BYTES] != check:
        raise UsageError("The receipt is mistyped: its checksum is wrong.")
    try:
        return Receipt(FileId(body[1:33]), body[33:], LinkKind(body[0]))
    except ValueError:
        raise UsageError("This receipt needs a newer version of Shoal.") from None
