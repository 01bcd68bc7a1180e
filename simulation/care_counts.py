"""Adding up what nodes have done for files, over all their lives: a node counts from its start only."""

from dataclasses import fields

from shoal.node.care.counts import CareStatistics
from shoal.simulation.report import Report


class CareCounts:
    """Sums of `CareStatistics`."""

    def __init__(self) -> None:
        self._sums = {field.name: 0 for field in fields(CareStatistics)}

    def add(self, statistics: CareStatistics) -> None:
        """A node ends."""
        for name in self._sums:
            self._sums[name] += getattr(statistics, name)

    def fill_in(self, report: Report) -> None:
        """Write the sums into a report."""
        for name in ("repairs", "rebuilt_shares", "repair_bytes", "surveys", "audits_passed", "audits_failed"):
            setattr(report, name, self._sums[name])
        report.audit_bytes = self._sums["audit_bytes"]
