"""Lines about the entries of a folder."""

import time

import pytest

from shoal.cli.listing import lines
from shoal.node import Entry, EntryKind


@pytest.mark.parametrize(
    ("mtime_ns", "shown"),
    [
        (0, "1970-01-01 00:00"),
        (-1, "1969-12-31 23:59"),
        (-(10**18), "1938-04-24 22:13"),
        (1 - 2**63, "1677-09-21 00:12"),
        (2**63 - 1, "2262-04-11 23:47"),
    ],
)
def test_times_are_shown_as_they_are(monkeypatch: pytest.MonkeyPatch, mtime_ns: int, shown: str) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    assert lines([Entry(b"old", EntryKind.FILE, mtime_ns=mtime_ns)], long=True) == f"-      0 B  {shown}  old\n"
    monkeypatch.undo()
    time.tzset()
