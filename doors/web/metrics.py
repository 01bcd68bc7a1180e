"""Counts for Prometheus, under a token of their own. No label names a peer: their number has no bound."""

from collections.abc import Iterator
from typing import Any

from shoal.doors.web.errors import HttpError
from shoal.doors.web.guard import check_token
from shoal.doors.web.http import HttpRequest, HttpResponse
from shoal.doors.web.watch import Watch

METRICS_PATH = "/metrics"

# The field of the status, the name, and what it is. Counters start at zero with the node.
_GAUGES = (
    ("peers", "shoal_peers", "Verified contacts in the routing table."),
    ("peers_answered", "shoal_peers_answered", "Contacts that answered within 15 minutes."),
    ("shares", "shoal_shares", "Shares that are kept here."),
    ("files", "shoal_files", "Files that these shares are of."),
    ("uploads", "shoal_uploads", "Shares that are being received."),
    ("used_bytes", "shoal_used_bytes", "Disk that shares take."),
    ("capacity_bytes", "shoal_capacity_bytes", "Disk that is offered."),
    ("available_bytes", "shoal_available_bytes", "Room for further shares."),
    ("free_disk_bytes", "shoal_free_disk_bytes", "Free disk."),
    ("damaged_shares", "shoal_damaged_shares", "Shares that the disk has damaged."),
    ("lost_shares", "shoal_lost_shares", "Shares that the disk has lost."),
    ("records", "shoal_dht_records", "Records that are kept for the DHT."),
    ("uptime_s", "shoal_uptime_seconds", "How long the node has been running."),
)
_COUNTERS = (
    ("sent_bytes", "shoal_sent_bytes", "Bytes sent to peers."),
    ("received_bytes", "shoal_received_bytes", "Bytes received from peers."),
    ("turns", "shoal_care_turns", "Looks at files whose turn it was."),
    ("surveys", "shoal_care_surveys", "Surveys of holders."),
    ("repairs", "shoal_repairs", "Repairs of files."),
    ("rebuilt_shares", "shoal_rebuilt_shares", "Shares that were made again."),
    ("repair_bytes", "shoal_repair_bytes", "Bytes that repairs moved."),
    ("audits_passed", "shoal_audits_passed", "Audits that a holder passed."),
    ("audits_failed", "shoal_audits_failed", "Audits that a holder failed."),
    ("audit_bytes", "shoal_audit_bytes", "Bytes that audits moved."),
    ("connections", "shoal_connections", "Connections that were served."),
    ("requests", "shoal_requests", "Requests that were answered."),
    ("bugs", "shoal_bugs", "Errors that nobody foresaw."),
)


class Metrics:
    """Answers what Prometheus asks."""

    def __init__(self, watch: Watch, token: str) -> None:
        self._watch = watch
        self._token = token

    async def answer(self, request: HttpRequest) -> HttpResponse:
        """The counts as text.

        :raises HttpError: another method, no token, or prometheus-client is not installed.
        """
        if request.method not in ("GET", "HEAD"):
            raise HttpError(405, "Metrics can only be read.", headers=(("allow", "GET, HEAD"),))
        check_token(request, self._token)
        try:
            from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
            from prometheus_client.registry import CollectorRegistry
        except ImportError:
            raise HttpError(
                501, "Metrics need one more package.", "Install it with: pip install 'shoal[metrics]'", code="failed"
            ) from None
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_StatusCollector(await self._watch.status()))
        return HttpResponse(200, (("content-type", CONTENT_TYPE_LATEST),), generate_latest(registry))


class _StatusCollector:
    """One status as metrics. What the node does not tell is left out."""

    def __init__(self, status: dict[str, Any]) -> None:
        self._status = status

    def collect(self) -> Iterator[Any]:
        """All metrics."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        node = self._status["node"]
        for field, name, words in _GAUGES:
            if node.get(field) is not None:
                yield GaugeMetricFamily(name, words, value=node[field])
        for field, name, words in _COUNTERS:
            if node.get(field) is not None:
                yield CounterMetricFamily(name, words, value=node[field])
        yield GaugeMetricFamily(
            "shoal_problems", "What is wrong, as shoal node status tells.", value=len(self._status["problems"])
        )
