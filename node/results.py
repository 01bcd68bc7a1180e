"""What operations give back: plain frozen values, no sockets and no tasks inside."""

from collections.abc import Mapping
from dataclasses import field
from enum import Enum
from pathlib import Path
from typing import Protocol

from shoal.dht import Address, NodeId
from shoal.erasure import FileId, Link
from shoal.values import dataclass


class Phase(Enum):
    """What an operation is doing now, for a progress line."""

    LISTING = "listing"
    CONNECTING = "connecting"
    PLACING = "placing"
    VERIFYING = "verifying"
    SENDING = "sending"
    COMMITTING = "committing"
    ANNOUNCING = "announcing"
    SEARCHING = "searching"
    FETCHING = "fetching"
    CHECKING = "checking"
    REBUILDING = "rebuilding"


@dataclass(frozen=True, slots=True)
class Progress:
    """A moment of a publish or fetch.

    `done_bytes` and `total_bytes` count plaintext (`None` while the size is unknown, as from a pipe); `shares` are
    shares placed (publish) or in use (fetch) of `wanted_shares`; `hosts` are the distinct hosts behind them.
    `done_files` and `total_files` count the files of a folder (`None` where it is none). While a tree is listed,
    `done_files` counts all entries that were found, and `total_files` is not known.
    """

    phase: Phase
    done_bytes: int = 0
    total_bytes: int | None = None
    shares: int = 0
    wanted_shares: int = 0
    hosts: int = 0
    done_files: int | None = None
    total_files: int | None = None


class OnProgress(Protocol):
    """A function that the operation calls often, from its own task. It must return at once."""

    def __call__(self, progress: Progress, /) -> None: ...


@dataclass(frozen=True, slots=True)
class Published:
    """A finished publish.

    :ivar size: bytes of the file, or of all files in a folder.
    :ivar happy: hosts that had to take a share to make it `complete`.
    :ivar shares: shares that were placed.
    :ivar hosts: distinct hosts that have one.
    :ivar sent_bytes: share bytes sent by this run.
    :ivar resumed_bytes: share bytes that holders already had from an interrupted run.
    :ivar lease_until: until when k shares are promised, in seconds since 1970.
    :ivar findable: enough nodes of the DHT stored where the shares are.
    :ivar refusals: how many hosts refused, by reason.
    :ivar holders: the address of the host that has each share, by its number.
    :ivar possible_n: n of the widest code that the network would have allowed, had all hosts answered. It is more than
        `n` where hosts that kept silent made the file narrower. `happy` is three quarters of it unless chosen.
    :ivar entries: how many files, directories and links a folder has; None for a file.
    """

    link: Link
    size: int
    k: int
    n: int
    happy: int
    shares: int
    hosts: int
    seconds: float
    sent_bytes: int
    resumed_bytes: int
    lease_until: float
    findable: bool = True
    refusals: Mapping[str, int] = field(default_factory=dict)
    holders: Mapping[int, Address] = field(default_factory=dict)
    possible_n: int = 0
    entries: int | None = None

    @property
    def complete(self) -> bool:
        """Whether as many distinct hosts hold a share as were asked for, and the network can find them."""
        return self.hosts >= self.happy and self.findable

    @property
    def narrowed(self) -> bool:
        """Whether the file has fewer shares than the network would have allowed, had all hosts answered."""
        return self.n < self.possible_n

    @property
    def can_complete(self) -> bool:
        """Whether the same command can make it complete: not where more hosts are wanted than the file has shares."""
        return self.happy <= self.n

    @property
    def survives(self) -> int:
        """How many of the hosts may vanish before the file becomes unreadable."""
        return self.shares - self.k


@dataclass(frozen=True, slots=True)
class Fetched:
    """A finished fetch.

    :ivar path: where the file is; None when the bytes went to a stream.
    :ivar received_bytes: share bytes received by this run.
    :ivar resumed_bytes: bytes of the file that an interrupted run had written; they were verified, not fetched again.
    :ivar lease_until: until when k shares are promised, in seconds since 1970; None where the fetch renewed nothing.
    :ivar entries: what a folder has in it, at any depth; None for a file.
    :ivar left_out: how many of them were not made: symbolic links that lead out of the folder.
    :ivar left_out_paths: some of these.
    """

    path: Path | None
    name: str | None
    size: int
    seconds: float
    received_bytes: int
    resumed_bytes: int
    lease_until: float | None = None
    entries: int | None = None
    left_out: int = 0
    left_out_paths: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Holder:
    """One host that says, signed, that it keeps one share until `lease_end` (seconds since the epoch)."""

    share: int
    node_id: NodeId
    address: Address
    lease_end: float


@dataclass(frozen=True, slots=True)
class FileInfo:
    """What the network and a link tell of a file or a folder. Without the key some of it is None.

    :ivar size: of a folder, the bytes of all files in it.
    :ivar entries: what a folder has in it, at any depth; None for a file.
    """

    file_id: FileId
    public: bool
    k: int
    n: int
    ciphertext_bytes: int
    name: str | None
    size: int | None
    media_type: str | None
    holders: tuple[Holder, ...]
    is_folder: bool | None = None
    entries: int | None = None


@dataclass(frozen=True, slots=True)
class Width:
    """How wide a file is cut, and how wide a publish would cut it now (`Node.republish`).

    :ivar possible_k: k of the widest code that the network allows; the file's own where that is no better.
    :ivar possible_n: n of that code.
    :ivar hosts: hosts with room that were found. Nobody is looked for where the file is as wide as its size allows.
    """

    k: int
    n: int
    possible_k: int
    possible_n: int
    hosts: int

    @property
    def survives(self) -> int:
        """How many hosts may vanish, when all shares are good."""
        return self.n - self.k

    @property
    def could_survive(self) -> int:
        """How many might, after a republish."""
        return self.possible_n - self.possible_k

    @property
    def can_grow(self) -> bool:
        """Whether a republish would gain anything."""
        return self.could_survive > self.survives


@dataclass(frozen=True, slots=True)
class Republished:
    """A file that was published again under a wider code.

    :ivar published: the new file, with its link.
    :ivar old: the old link. It works until its lease ends.
    :ivar before: how wide the old file is.
    :ivar is_kept: this home kept the old file, and keeps the new one too.
    """

    published: Published
    old: Link
    before: Width
    is_kept: bool


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """A line of this home's own list of what it has published (`shoal ls`).

    :ivar width: how wide it could be, by the hosts that this home has met lately; None for a deleted file.
    :ivar replaced_by: the hash of the file that a republish has made of it.
    """

    link: Link
    name: str | None
    size: int
    k: int
    n: int
    shares: int
    published_at: float
    lease_end: float
    deleted_at: float | None = None
    width: Width | None = None
    replaced_by: str | None = None


@dataclass(frozen=True, slots=True)
class KeptFile:
    """A file that this home's node renews (`shoal keep`). Times are in seconds since 1970.

    :ivar link: the hash alone, without the key.
    :ivar lease_until: as it was seen at the last renewal, which was at `renewed_at`.
    """

    link: Link
    kept_since: float
    renewed_at: float
    lease_until: float


@dataclass(frozen=True, slots=True)
class Checked:
    """The health of a file, by what its holders could prove just now.

    :ivar good_shares: distinct shares on distinct hosts. A host that keeps several counts for one of them.
    :ivar hosts: all hosts that proved a share.
    :ivar networks: the /24 (or /48 of IPv6) that these hosts are in.
    :ivar readable: k distinct shares answered, wherever they are.
    :ivar survives: any so many of the hosts may vanish for good.
    :ivar lease_until: until when k shares are promised, in seconds since 1970. None when fewer are good.
    :ivar outcomes: how many of the known placements were "ok", "wrong", "missing", "offline", "stalled",
        "busy".
    :ivar read_bytes: share bytes that were read for it.
    :ivar deleted: a holder shows that the file's owner has deleted it.
    :ivar width: how wide the file could be on this network; None for one that is deleted or cannot be read.
    """

    file_id: FileId
    k: int
    n: int
    good_shares: int
    hosts: int
    networks: int
    readable: bool
    survives: int
    lease_until: float | None
    outcomes: Mapping[str, int]
    read_bytes: int
    verified: bool
    deleted: bool
    seconds: float
    width: Width | None = None

    @property
    def healthy(self) -> bool:
        """Whether all n shares are good, each on a host of its own."""
        return self.good_shares == self.n


@dataclass(frozen=True, slots=True)
class Repaired:
    """A finished repair.

    :ivar rebuilt: the numbers of the shares that are on new hosts now.
    :ivar good_before: good shares before it, counted as in `Checked`.
    :ivar good_after: good shares after it.
    :ivar sent_bytes: share bytes sent.
    :ivar received_bytes: share bytes received.
    :ivar findable: the network was seen to know where the shares are.
    :ivar refusals: how many hosts refused, by reason.
    """

    file_id: FileId
    k: int
    n: int
    rebuilt: tuple[int, ...]
    good_before: int
    good_after: int
    hosts: int
    sent_bytes: int
    received_bytes: int
    lease_until: float
    findable: bool
    refusals: Mapping[str, int]
    seconds: float

    @property
    def complete(self) -> bool:
        """Whether all n shares are good now."""
        return self.good_after == self.n


@dataclass(frozen=True, slots=True)
class Renewed:
    """A finished renewal.

    :ivar shares: distinct shares that are promised now.
    :ivar hosts: the hosts that promise them.
    :ivar causes: how many of the other hosts did not renew, by cause.
    :ivar lease_until: until when k shares are promised, in seconds since 1970.
    :ivar width: how wide the file could be on this network, from `Node.keep` alone.
    """

    file_id: FileId
    k: int
    n: int
    shares: int
    hosts: int
    causes: Mapping[str, int]
    lease_until: float
    width: Width | None = None


@dataclass(frozen=True, slots=True)
class Deleted:
    """A finished deletion.

    :ivar confirmed: hosts that have dropped the file.
    :ivar causes: how many of the other hosts did not confirm, by cause. They keep their shares until they hear of it,
        or until the lease ends.
    """

    file_id: FileId
    confirmed: int
    causes: Mapping[str, int]

    @property
    def complete(self) -> bool:
        """Whether every known host has confirmed, and there was one."""
        return self.confirmed > 0 and not any(self.causes.values())


@dataclass(frozen=True, slots=True)
class Left:
    """What came of leaving, counted in shares.

    :ivar handed_over: other hosts took them now.
    :ivar elsewhere: another host has proven to keep them, too.
    :ivar ending: their lease is over or about to end, and the peers' clocks agree.
    :ivar remaining: no host took them. The other holders make them again in time.
    :ivar refusals: how many hosts refused a share, by reason, for the share that most refused.
    """

    handed_over: int
    elsewhere: int
    ending: int
    remaining: int
    sent_bytes: int
    refusals: Mapping[str, int] = field(default_factory=dict)
