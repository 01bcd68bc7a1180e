"""Which part of a file a request is for (RFC 9110, section 14)."""

import re

from shoal.doors.web.http import HttpRequest
from shoal.values import dataclass

_ONE_RANGE = re.compile(r"bytes[ \t]*=[ \t]*([0-9]{0,18})-([0-9]{0,18})[ \t]*", re.IGNORECASE)


class UnsatisfiableError(Exception):
    """The file has none of the bytes that were asked for: 416."""


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes from `start` up to `end`, which is not one of them. `to_the_end`: no end was asked for."""

    start: int
    end: int
    to_the_end: bool = False

    @property
    def length(self) -> int:
        """How many."""
        return self.end - self.start


def wanted_part(request: HttpRequest, size: int, etag: str) -> Part | None:
    """The part of a file that is wanted; None for all of it.

    Several ranges, other units and what is no range are as none, as the standard allows. So is a range of a file that
    is not the one in `If-Range`.

    :raises UnsatisfiableError: there are no such bytes.
    """
    given = request.header("range")
    found = _ONE_RANGE.fullmatch(given) if given is not None else None
    if found is None or request.method not in ("GET", "HEAD"):
        return None
    condition = request.headers.get("if-range", (etag,))
    if condition != (etag,):
        return None
    first, last = found[1], found[2]
    if not first and not last:
        return None
    if not first:
        length = min(int(last), size)
        if not length:
            raise UnsatisfiableError
        return Part(size - length, size)
    start = int(first)
    if last and int(last) < start:
        return None
    if start >= size:
        raise UnsatisfiableError
    return Part(start, min(int(last) + 1, size) if last else size, to_the_end=not last)
