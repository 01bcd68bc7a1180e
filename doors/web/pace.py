"""How fast something goes, and how long it will take: the mean of the last seconds."""

from collections import deque

from shoal.node import Progress

WINDOW_S = 10.0  # so long a mean is calm, and soon right after a change
SAMPLES = 40
LEAST_S = 2.0  # a guess from less would jump


class ShownProgress:
    """The progress of one thing, as the page shows it. Times are seconds of any steady clock."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque(maxlen=SAMPLES)
        self._progress: Progress | None = None

    def add(self, progress: Progress, now: float) -> bool:
        """Note a moment; whether it is another phase than before."""
        is_new = self._progress is None or self._progress.phase is not progress.phase
        done = progress.done_bytes
        while len(self._samples) > 1 and self._samples[0][0] < now - WINDOW_S:
            self._samples.popleft()
        if is_new or (self._samples and done < self._samples[-1][1]):
            self._samples.clear()
        if not self._samples or now - self._samples[-1][0] >= WINDOW_S / SAMPLES:
            self._samples.append((now, done))
        self._progress = progress
        return is_new

    def rate(self) -> float | None:
        """Bytes a second; None while nobody could say."""
        if len(self._samples) < 2 or self._samples[-1][0] - self._samples[0][0] < LEAST_S:
            return None
        (first_at, first), (last_at, last) = self._samples[0], self._samples[-1]
        return (last - first) / (last_at - first_at)

    def fields(self) -> dict[str, object] | None:
        """What the API tells; None before the first moment."""
        progress, rate = self._progress, self.rate()
        if progress is None:
            return None
        total = progress.total_bytes
        left_s = (total - progress.done_bytes) / rate if total is not None and rate else None
        return {
            "step": progress.phase.value,
            "bytes": progress.done_bytes,
            "total": total,
            "rate": None if rate is None else round(rate),
            "eta_s": None if left_s is None else round(left_s),
            "shares": progress.shares,
            "n": progress.wanted_shares,
            "hosts": progress.hosts,
            "files": progress.done_files,
            "files_total": progress.total_files,
        }
