"""Counters of what the care of files has cost and found since the node's start, for its status."""

from shoal.values import dataclass


@dataclass
class RoundCounts:
    """Of all rounds together. A round adds to them as it goes on."""

    surveys: int = 0
    audits_passed: int = 0
    audits_failed: int = 0
    audit_bytes: int = 0


@dataclass(frozen=True, slots=True)
class CareStatistics:
    """A snapshot of what was done."""

    turns: int = 0
    repairs: int = 0
    rebuilt_shares: int = 0
    surveys: int = 0
    audits_passed: int = 0
    audits_failed: int = 0
    audit_bytes: int = 0
    repair_bytes: int = 0  # of shares, fetched and sent
