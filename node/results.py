"""What operations give back: plain frozen values, no sockets and no tasks inside."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Protocol

from shoal.dht import Address, NodeId
from shoal.erasure import FileId, Link


class Phase(Enum):
    """What an operation is doing now, for a progress line."""

    CONNECTING = "connecting"
    PLACING = "placing"
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
    """

    phase: Phase
    done_bytes: int = 0
    total_bytes: int | None = None
    shares: int = 0
    wanted_shares: int = 0
    hosts: int = 0


class OnProgress(Protocol):
    """Called from the operation's own task, often; it must return at once."""

    def __call__(self, progress: Progress, /) -> None: ...


@dataclass(frozen=True, slots=True)
class Published:
    """A finished publish. `complete` is false when between k and happy-1 hosts took a share, or when too few nodes
    of the DHT stored where they are (`findable`).

    `sent_bytes` counts share bytes handed to peers by this run, `resumed_bytes` the share bytes that holders
    already had from an interrupted run and that were not sent again. `refusals` maps a reason to how many hosts
    gave it. `holders` maps a share number to the address of the host that acknowledged it.
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
    findable: bool = True
    refusals: Mapping[str, int] = field(default_factory=dict)
    holders: Mapping[int, Address] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether as many distinct hosts hold a share as were asked for, and the network can find them."""
        return self.hosts >= self.happy and self.findable

    @property
    def survives(self) -> int:
        """How many of the hosts may vanish before the file becomes unreadable."""
        return self.shares - self.k


@dataclass(frozen=True, slots=True)
class Fetched:
    """A finished fetch. `path` is None when the bytes went to a stream.

    `received_bytes` counts share bytes received by this run, `resumed_bytes` the plaintext bytes that an interrupted
    run had already written and that were verified instead of fetched.
    """

    path: Path | None
    name: str | None
    size: int
    seconds: float
    received_bytes: int
    resumed_bytes: int


@dataclass(frozen=True, slots=True)
class Holder:
    """One host that says, signed, that it keeps one share until `lease_end` (seconds since the epoch)."""

    share: int
    node_id: NodeId
    address: Address
    lease_end: float


@dataclass(frozen=True, slots=True)
class FileInfo:
    """What the network and a link tell of a file. `name`, `size`, `media_type` are None without the key."""

    file_id: FileId
    public: bool
    k: int
    n: int
    ciphertext_bytes: int
    name: str | None
    size: int | None
    media_type: str | None
    holders: tuple[Holder, ...]


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """A line of this home's own list of what it has published (`shoal ls`)."""

    link: Link
    name: str | None
    size: int
    k: int
    n: int
    shares: int
    published_at: float
    lease_end: float
    deleted_at: float | None = None


@dataclass(frozen=True, slots=True)
class KeptFile:
    """A file that this home's node renews (`shoal keep`). `link` is its hash alone. Times in s since the epoch;
    `lease_until` as it was seen at the last renewal, `renewed_at`."""

    link: Link
    kept_since: float
    renewed_at: float
    lease_until: float


@dataclass(frozen=True, slots=True)
class Checked:
    """How a file does, by what its holders could prove just now.

    Shares are counted distinct and on distinct hosts: `good_shares`; a host that keeps several counts for one of them.
    `hosts` and `networks` (/24, or /48 of IPv6) are all that proved a share. `readable` says that k distinct shares
    answered, wherever they are. `survives`: any so many of the hosts may vanish for good. `lease_until`: so long k
    shares are promised (s since the epoch), None when fewer are good. `outcomes`: how many placements, of those known,
    were "ok", "wrong", "missing", "offline", "stalled". `read_bytes`: share bytes read for it. `deleted`: a holder
    shows that the file's owner has deleted it.
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

    @property
    def healthy(self) -> bool:
        """Whether all n shares are good, each on a host of its own."""
        return self.good_shares == self.n


@dataclass(frozen=True, slots=True)
class Repaired:
    """A finished repair. `rebuilt` shares are on new hosts now. `good_before` and `good_after` as in `Checked`.

    `sent_bytes` and `received_bytes` are share bytes; `refusals` maps a reason to how many hosts gave it; `findable`
    says whether the network was seen to know where the shares are.
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
    """A finished renewal: so many distinct `shares` on so many `hosts` are promised now, k of them until
    `lease_until` (s since the epoch). `silent` hosts did not answer."""

    file_id: FileId
    k: int
    n: int
    shares: int
    hosts: int
    silent: int
    lease_until: float


@dataclass(frozen=True, slots=True)
class Deleted:
    """A finished deletion: `confirmed` hosts have dropped the file; `silent` ones did not answer, and keep their
    shares until they hear of it or the lease ends; `refused` answered and would not."""

    file_id: FileId
    confirmed: int
    silent: int
    refused: int

    @property
    def complete(self) -> bool:
        """Whether every host that is known to have kept a share has confirmed, and any was."""
        return self.confirmed > 0 and not self.silent and not self.refused


@dataclass(frozen=True, slots=True)
class Left:
    """What came of leaving, in shares: those that other hosts took now; those that another host has proven to keep as
    well; those whose lease is over or about to end, as the peers bear out; and those that nobody took."""

    handed_over: int
    elsewhere: int
    ending: int
    remaining: int
    sent_bytes: int
