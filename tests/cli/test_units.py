"""Sizes, rates, durations: what people write is read exactly, everything else is refused with words."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.cli import units


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("4096", 4096),
        ("64MB", 64 * 10**6),
        ("64 mb", 64 * 10**6),
        (" 50GB ", 50 * 10**9),
        ("1GiB", 2**30),
        ("1.5KiB", 1536),
        ("0.001kB", 1),
        ("2tb", 2 * 10**12),
        ("1PiB", 2**50),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert units.parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("", "is not a size such as"),
        ("MB", "is not a size such as"),
        ("-1MB", "is not a size such as"),
        ("1e9", "is not a size such as"),
        ("50G", "write GB"),
        ("1 XB", "unknown unit"),
        ("0.3B", "whole number of bytes"),
        ("999999PB", "more than any disk"),
        ("nan", "is not a size"),
        ("٣MB", "is not a size"),
        ("1_000", "is not a size"),
        ("9" * 400, "is not a size"),
    ],
)
def test_bad_sizes(text: str, advice: str) -> None:
    with pytest.raises(units.UnitError, match=advice):
        units.parse_size(text)


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("2MB/s", 2 * 10**6),
        ("2MB", 2 * 10**6),
        ("1 MiB / s", 2**20),
        ("500kB/sec", 500_000),
        ("unlimited", None),
    ],
)
def test_rates(text: str, rate: int | None) -> None:
    assert units.parse_rate(text) == rate


@pytest.mark.parametrize("text", ["2Mb/s", "2Mbit/s", "10 Mibit/s", "3Gb", "2mbps", "100 bps"])
def test_bits_are_not_taken_for_bytes(text: str) -> None:
    with pytest.raises(units.UnitError, match="rates are in bytes"):
        units.parse_rate(text)


@pytest.mark.parametrize("text", ["0", "0MB/s"])
def test_a_rate_of_nothing_is_refused(text: str) -> None:
    with pytest.raises(units.UnitError, match="never move a byte"):
        units.parse_rate(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90m", 5400), ("12h", 43_200), ("3d", 259_200), ("2w", 1_209_600), ("1.5h", 5400), ("45 s", 45)],
)
def test_durations(text: str, seconds: int) -> None:
    assert units.parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("90", "has no unit"),
        ("3y", "unknown unit 'y'"),
        ("12H", "unknown unit 'H'"),
        ("1M", "unknown unit 'M'"),
        ("-3d", "is not a duration"),
        ("", "is not a duration"),
        ("999999w", "century"),
        ("0.5s", "whole number of seconds"),
    ],
)
def test_bad_durations(text: str, advice: str) -> None:
    with pytest.raises(units.UnitError, match=advice):
        units.parse_duration(text)


def test_counts() -> None:
    assert units.parse_count(" 16 ", least=1, most=256) == 16
    for text in ("0", "257", "1.5", "-1", "x", "", "9" * 30):
        with pytest.raises(units.UnitError, match="from 1 to 256"):
            units.parse_count(text, least=1, most=256)


@given(st.integers(0, units.MAX_SIZE_BYTES))
def test_exact_sizes_read_back(size: int) -> None:
    assert units.parse_size(units.exact_size(size)) == size


@given(st.integers(0, units.MAX_DURATION_S))
def test_exact_durations_read_back(seconds: int) -> None:
    assert units.parse_duration(units.exact_duration(seconds)) == seconds


@given(st.integers(0, 10**17))
def test_formatted_sizes_are_near_and_narrow(size: int) -> None:
    text = units.format_size(size)
    assert len(text) <= 9
    assert abs(units.parse_size(text) - size) <= 0.006 * size


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    for parse in (units.parse_size, units.parse_rate, units.parse_duration):
        with contextlib.suppress(units.UnitError):
            assert (parse(text) or 0) >= 0


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (999_499, "999 kB"),
        (999_500, "1.00 MB"),
        (2**30, "1.07 GB"),
    ],
)
def test_format_size(size: int, text: str) -> None:
    assert units.format_size(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0.00 s"),
        (0.42, "0.42 s"),
        (12.34, "12.3 s"),
        (245, "4 min 5 s"),
        (240, "4 min"),
        (12_000, "3 h 20 min"),
        (400_000, "4 d 15 h"),
    ],
)
def test_format_duration(seconds: float, text: str) -> None:
    assert units.format_duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(7.2, "0:07"), (754, "12:34"), (12_307, "3:25:07"), (5 * 86_400 + 7_300, "5d 02h")]
)
def test_format_clock(seconds: float, text: str) -> None:
    assert units.format_clock(seconds) == text


def test_plural() -> None:
    assert units.plural(1, "host") == "1 host"
    assert units.plural(0, "host") == "0 hosts"
    assert units.plural(2, "copy", "copies") == "2 copies"
