"""Every error a user of Shoal can meet, told apart by what to do next.

`ShoalError` is the root at the public boundary. `dht`, `erasure`, `node.store` and `node.channel` raise small
families of their own inside; they are translated here and there where an operation ends, with the numbers kept.
Messages are whole sentences for the person at the terminal: what failed, the numbers, what to do next.
"""


class ShoalError(Exception):
    """Root of the family. The text of each error can be shown to a user as it is."""


class UsageError(ShoalError):
    """The request cannot be carried out as asked: a malformed link, impossible numbers, a bad configuration."""


class LocalError(ShoalError):
    """This machine failed: a file, a disk, a port. Nothing is wrong with the network."""


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

    def __init__(self, message: str, *, needed: int, found: int) -> None:
        super().__init__(message)
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
