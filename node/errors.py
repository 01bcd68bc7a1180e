"""Every error a user of Shoal can meet, told apart by what to do next.

`ShoalError` is the root at the public boundary. `dht`, `erasure`, `node.store` and `node.channel` raise small
families of their own inside; they are translated here and there where an operation ends, with the numbers kept.
Messages are whole sentences for the person at the terminal: what failed, the numbers, what to do next.
"""

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from typing import TypeVar


class ToldReason(StrEnum):
    """A reason that people are told as well as programs. The value is the word in results and JSON.

    `one` and `several` are the words for people: for one host, and for more.
    """

    one: str
    several: str

    def __new__(cls, value: str, one: str, several: str) -> "ToldReason":
        """A reason with its words."""
        reason = str.__new__(cls, value)
        reason._value_, reason.one, reason.several = value, one, several
        return reason


class Cause(ToldReason):
    """Why a host did not do what it was asked. What a user does next depends on it: wait, ask others, or give up."""

    BUSY = "busy", "answered that it is busy", "answered that they are busy"
    FULL = "full", "was full", "were full"
    SILENT = "silent", "did not answer", "did not answer"
    MISSING = "missing", "has none of the file", "have none of the file"
    REFUSED = "refused", "refused", "refused"
    FOREIGN = "foreign", "belongs to another network", "belong to another network"
    LIED = "lied", "answered wrongly", "answered wrongly"


T = TypeVar("T", bound=ToldReason)


def in_words(counts: Mapping[T, int]) -> str:
    """`5 were full, 1 did not answer`, the commonest first; empty when nobody dropped out."""
    by_count = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(
        f"{count} {reason.one if count == 1 else reason.several}" for reason, count in by_count if count > 0
    )


def causes_in_words(causes: Mapping[str, int]) -> str:
    """The same for the causes in a result; words of a later version are left out."""
    return in_words({cause: causes[cause] for cause in Cause if cause in causes})


class ShoalError(Exception):
    """Root of the family. The text of each error can be shown to a user as it is.

    :ivar causes: how many of the hosts asked failed, by cause. Empty where no host was asked.
    """

    def __init__(self, message: str = "", *, causes: Mapping[Cause, int] | None = None) -> None:
        super().__init__(message)
        self.causes: Mapping[Cause, int] = {cause: count for cause, count in (causes or {}).items() if count > 0}


class UsageError(ShoalError):
    """The request cannot be carried out as asked: a malformed link, impossible numbers, a bad configuration."""


class LocalError(ShoalError):
    """This machine failed: a file, a disk, a port. Nothing is wrong with the network."""


NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
MAKE_ROOM = "Make room and run the same command again, or choose another folder with -o."


@contextmanager
def local_errors(what: str) -> Iterator[None]:
    """An OSError in this block becomes a `LocalError` that says `what` failed, and why."""
    try:
        yield
    except OSError as error:
        advice = f" {MAKE_ROOM}" if error.errno in NO_ROOM else ""
        raise LocalError(f"{what}: {error.strerror}.{advice}") from error


class AlreadyRunning(ShoalError):
    """Another daemon runs on this home."""


class NoPeers(ShoalError):
    """No peer of the network answered."""


class NotFound(ShoalError):
    """The network answered, and nobody announced the file."""


class TooFewShares(NotFound):
    """Fewer shares can be reached than the file needs.

    :ivar needed: k, the shares that are enough.
    :ivar found: distinct good shares that were reached.
    """

    def __init__(self, message: str, *, needed: int, found: int, causes: Mapping[Cause, int] | None = None) -> None:
        super().__init__(message, causes=causes)
        self.needed = needed
        self.found = found


class WrongKey(ShoalError):
    """The link's key is well formed and belongs to another file."""


class BadData(ShoalError):
    """Enough shares answered, and they are no file that an honest publisher could have made."""


class NeedsNewerShoal(ShoalError):
    """The file is whole, and its publisher used a kind of file or a format that this version does not know."""


class NotOneFile(BadData):
    """The shares are what the manifest promises, and what it promises is no file. The publisher's doing alone."""

    def __init__(self) -> None:
        super().__init__(
            "Enough good shares answered, but they do not belong to one file: whoever published it made it so, "
            "by fault or on purpose. No holder is to blame, and no other copy will be better."
        )


class Refused(ShoalError):
    """Peers answered, and too few of them took a share: they are full, over a quota, or do not store."""
