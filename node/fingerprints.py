"""What tells whether a file on disk is still the one it was."""

import os
from dataclasses import replace

from shoal.values import dataclass


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What a file system tells of a file. Whoever may write a file can set its mtime back, but not its ctime.

    A new name, owner or mode changes the ctime too: alone it proves no change of the content.
    """

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> "Fingerprint":
        """What `stat` told."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)

    def may_have_the_content_of(self, other: "Fingerprint") -> bool:
        """Whether nothing but the ctime differs."""
        return replace(self, ctime_ns=other.ctime_ns) == other
