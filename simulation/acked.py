"""What clients were told is stored: the study's own memory, to compare everything that is read with."""

import hashlib
from collections.abc import Iterator

from shoal.erasure import FileId, Link
from shoal.values import dataclass


@dataclass(frozen=True, slots=True)
class Acked:
    """One publish that returned a link."""

    link: Link
    digest: bytes
    size: int
    k: int
    n: int

    @property
    def file_id(self) -> FileId:
        """What holders know the file by."""
        return self.link.id


class AckedFiles:
    """All of them, in the order of publishing."""

    def __init__(self) -> None:
        self._files: list[Acked] = []

    def __len__(self) -> int:
        return len(self._files)

    def __iter__(self) -> Iterator[Acked]:
        return iter(self._files)

    def add(self, link: Link, data: bytes, k: int, n: int) -> None:
        """A publish was acknowledged."""
        self._files.append(Acked(link, digest_of(data), len(data), k, n))

    def at(self, place: int) -> Acked:
        """One of them by its place."""
        return self._files[place]


def digest_of(data: bytes) -> bytes:
    """What is remembered of contents. Not the hash that the code under test uses."""
    return hashlib.sha256(data).digest()
