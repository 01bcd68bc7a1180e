"""What the service counts."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import field
from types import MappingProxyType

from shoal.values import dataclass


@dataclass(frozen=True, slots=True)
class DhtStatistics:
    """A snapshot.

    dropped: datagrams that came in and brought nothing, by reason: "size", "network", "malformed", "address",
    "unasked" (a reply nobody waits for), "rate", "signature", "schema", "amplification", "client" (a request
    to a node that answers none), "busy" (too many queries are being worked on), "bug" (a query that our own
    code failed on).    contacts: verified ones in the routing table.    records, record_bytes: kept for others.
    pending: requests waiting for a reply.    kept: announcements of ours that are renewed.
    """

    datagrams_in: int
    datagrams_out: int
    bytes_in: int
    bytes_out: int
    dropped: Mapping[str, int]
    contacts: int
    records: int
    record_bytes: int
    pending: int
    kept: int


@dataclass(slots=True)
class Counters:
    """The running totals behind the snapshot."""

    datagrams_in: int = 0
    datagrams_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    dropped: Counter[str] = field(default_factory=Counter)

    def note_in(self, size: int) -> None:
        self.datagrams_in += 1
        self.bytes_in += size

    def note_out(self, size: int) -> None:
        self.datagrams_out += 1
        self.bytes_out += size

    def snapshot(self, *, contacts: int, records: int, record_bytes: int, pending: int, kept: int) -> DhtStatistics:
        return DhtStatistics(
            self.datagrams_in,
            self.datagrams_out,
            self.bytes_in,
            self.bytes_out,
            MappingProxyType(dict(self.dropped)),
            contacts,
            records,
            record_bytes,
            pending,
            kept,
        )
