"""What a reader of ranges keeps and fetches ahead: two rules that know neither tasks nor peers."""

from collections import OrderedDict


class SegmentCache:
    """The segments that were used last, in at most `capacity` bytes. The latest stays whatever its size."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._segments: OrderedDict[int, bytes] = OrderedDict()
        self._bytes = 0

    def __contains__(self, index: int) -> bool:
        return index in self._segments

    @property
    def held_bytes(self) -> int:
        """Bytes in it."""
        return self._bytes

    def get(self, index: int) -> bytes | None:
        """A segment, which counts as used now."""
        segment = self._segments.get(index)
        if segment is not None:
            self._segments.move_to_end(index)
        return segment

    def put(self, index: int, segment: bytes) -> None:
        """Keep a segment, and let those go that were used longest ago."""
        self._bytes += len(segment) - len(self._segments.pop(index, b""))
        self._segments[index] = segment
        while self._bytes > self._capacity and len(self._segments) > 1:
            self._bytes -= len(self._segments.popitem(last=False)[1])


class ReadAhead:
    """How many segments to fetch beyond what is asked for: none after a seek, then twice as many with each segment that
    is read in sequence.

    A step back to the segment before is no seek: programs that read in several threads do that.
    """

    def __init__(self) -> None:
        self._last: int | None = None
        self._segments = 0

    def note(self, first: int, last: int, most: int) -> int:
        """The segments `first` to `last` are read now. How many to fetch behind them, at most `most`."""
        if self._last is None or not self._last - 1 <= first <= self._last + 1:
            self._segments, self._last = 0, last
        elif last > self._last:
            self._segments, self._last = min(most, max(1, 2 * self._segments)), last
        return self._segments
