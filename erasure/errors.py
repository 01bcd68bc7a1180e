"""What can go wrong between bytes and shares: one small family, rooted in ErasureError.

The classes tell apart who is to blame, because the caller must act on it: the text a person typed
(MalformedLink), the publisher of a file (MalformedManifest, NotACodeword), one holder (CorruptBlock,
CorruptDataLeaf), our own saved state (BadState) or the caller's numbers (BadParameters, BadShareNumbers).
"""


class ErasureError(Exception):
    """Root of everything this package raises on purpose."""


class BadParameters(ErasureError):
    """k, n or a size outside what the format allows."""


class BadShareNumbers(ErasureError):
    """A set of blocks that no codec may be given: wrong count, number out of range, or unequal lengths."""


class BadState(ErasureError):
    """Saved encoder state that this package cannot have written, or that belongs to other parameters."""


class MalformedManifest(ErasureError):
    """Bytes that are no manifest of this format."""


class MalformedLink(ErasureError):
    """Text that is no link; the message is worded for the person who typed it."""


class CorruptBlock(ErasureError):
    """Blocks from a holder that do not belong to the share it claims to hold.

    share: number of the share.    index: first block in doubt.
    count: how many blocks from `index` on the doubt covers; 1 whenever the bad block itself could be told.
    """

    def __init__(self, share: int, index: int, count: int = 1) -> None:
        self.share, self.index, self.count = share, index, count
        where = f"block {index}" if count == 1 else f"one of blocks {index} to {index + count - 1}"
        super().__init__(f"{where} of share {share} is not what the manifest says")


class CorruptDataLeaf(ErasureError):
    """Data-tree leaves from a holder that miss the data root; `index` and `count` name the segments."""

    def __init__(self, index: int, count: int = 1) -> None:
        self.index, self.count = index, count
        super().__init__(f"{count} data leaves from segment {index} on are not what the manifest says")


class NotACodeword(ErasureError):
    """Verified blocks do not make the segment their manifest promises: the *manifest* is bad, no holder is.

    A publisher can name share roots of two different files in one manifest. Nobody can repair such a file.
    """

    def __init__(self, segment: int) -> None:
        self.segment = segment
        super().__init__(f"the shares of segment {segment} do not fit together: the file was published malformed")
