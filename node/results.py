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
