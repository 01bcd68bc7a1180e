"""Sizes, rates and durations as people write them, and back.

Sizes: GB = 10^9 and GiB = 2^30 bytes. Durations: `90m`, `12h`, `3d`, `2w`. Every parser gives an exact whole
number or raises `UnitError`, whose text tells the person what to write instead.
"""

import re
from fractions import Fraction

DECIMAL_UNITS = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "PB": 10**15}
BINARY_UNITS = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40, "PiB": 2**50}
DURATION_UNITS_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}

# Every unit by its lower-case spelling: people write 50gb and 50GB alike.
_SIZE_UNITS = {name.lower(): factor for name, factor in (DECIMAL_UNITS | BINARY_UNITS).items()}

MAX_SIZE_BYTES = 2**63 - 1  # what a signed 64-bit offset can name: no file system takes a longer file
MAX_DURATION_S = 100 * 366 * 86_400  # a century: longer is a slip of the finger, and would overflow some clocks

# 19 digits are what MAX_SIZE_BYTES has; the bound keeps an absurd argument from costing anything.
_QUANTITY = re.compile(r"([0-9]{1,19}(?:\.[0-9]{1,19})?)\s*([A-Za-z]*)", re.ASCII)
# "mb" passes for a lazy "MB"; "Mb" is what line speeds are sold in, and eight times less.
_BITS = re.compile(r"[0-9. ]*([KMGTP]i?b|[A-Za-z]*bits?|[A-Za-z]*bps)\s*", re.ASCII)


class UnitError(ValueError):
    """The text is not a quantity of the kind asked for; `str()` says what to write."""


def parse_size(text: str) -> int:
    """`64MB`, `1.5 GiB`, `4096` (bytes) as a whole number of bytes."""
    number, unit = _split(text, "a size such as 64MB, 50GB or 1.5GiB")
    if unit and unit.lower() not in _SIZE_UNITS:
        raise UnitError(_unknown_size_unit(text, unit))
    size = number * _SIZE_UNITS.get(unit.lower(), 1)
    if size.denominator != 1:
        raise UnitError(f"{text!r} is not a whole number of bytes")
    if size > MAX_SIZE_BYTES:
        raise UnitError(f"{text!r} is more than any disk holds")
    return int(size)


def parse_rate(text: str) -> int | None:
    """`2MB/s` (the `/s` may be left out) as bytes per second; `unlimited` is None."""
    if text.strip().lower() in ("unlimited", "none"):
        return None
    bare = re.sub(r"\s*/\s*s(ec)?\s*$", "", text, flags=re.IGNORECASE)
    if _BITS.fullmatch(bare):
        raise UnitError(f"{text!r}: rates are in bytes. Write for example 2MB/s, which is 16 megabits per second")
    rate = parse_size(bare)
    if rate == 0:
        raise UnitError(f"{text!r} would never move a byte. For no limit, write unlimited or leave the option out")
    return rate


def parse_duration(text: str) -> int:
    """`90m`, `12h`, `3d`, `2w` as a whole number of seconds."""
    number, unit = _split(text, "a duration such as 90m, 12h, 3d or 2w")
    if unit not in DURATION_UNITS_S:
        what = f"has the unknown unit {unit!r}" if unit else "has no unit"
        raise UnitError(f"{text!r} {what}: write a duration such as 90m, 12h, 3d or 2w")
    duration_s = number * DURATION_UNITS_S[unit]
    if duration_s.denominator != 1:
        raise UnitError(f"{text!r} is not a whole number of seconds")
    if duration_s > MAX_DURATION_S:
        raise UnitError(f"{text!r} is more than a century")
    return int(duration_s)


def parse_count(text: str, *, least: int, most: int) -> int:
    """A plain whole number between `least` and `most`, both included."""
    stripped = text.strip()
    if not re.fullmatch(r"[0-9]{1,18}", stripped, re.ASCII) or not least <= int(stripped) <= most:
        raise UnitError(f"{text!r} is not a whole number from {least} to {most}")
    return int(stripped)


def format_size(size: float) -> str:
    """Three digits are enough to read: `999 B`, `64.0 MB`, `1.07 GB`."""
    # 999.5 would round to 1000 in three digits, so it belongs to the next unit already
    unit = next((name for name, factor in DECIMAL_UNITS.items() if size < 999.5 * factor), "PB")
    if unit == "B":
        return f"{round(size)} B"
    value = size / DECIMAL_UNITS[unit]
    decimals = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:.{decimals}f} {unit}"


def format_rate(bytes_per_s: float) -> str:
    """A rate in the words of `format_size`: `2.00 MB/s`."""
    return f"{format_size(bytes_per_s)}/s"


def exact_size(size: int) -> str:
    """The shortest spelling that `parse_size` reads back as exactly `size`: `50GB`, `64KiB`, `1001B`."""
    spellings = [
        f"{size // factor}{unit}"
        for unit, factor in (DECIMAL_UNITS | BINARY_UNITS).items()
        if size % factor == 0 and (size or factor == 1)
    ]
    return min(spellings, key=len)


def exact_duration(duration_s: int) -> str:
    """The spelling in the largest fitting unit, read back by `parse_duration` as the same: `2w`, `90m`."""
    unit = max((u for u, s in DURATION_UNITS_S.items() if duration_s % s == 0), key=DURATION_UNITS_S.__getitem__)
    return f"{duration_s // DURATION_UNITS_S[unit]}{unit}" if duration_s else "0s"


def format_duration(duration_s: float) -> str:
    """A time span to read: `0.42 s`, `12.3 s`, `4 min 5 s`, `3 h 20 min`, `12 d 4 h`."""
    if duration_s < 99.95:
        return f"{duration_s:.{2 if duration_s < 9.995 else 1}f} s"
    whole = round(duration_s)
    for large, small, large_s, small_s in (("min", "s", 60, 1), ("h", "min", 3_600, 60)):
        if whole < large_s * (60 if large == "min" else 48):
            return _two_units(whole, large, small, large_s, small_s)
    return _two_units(whole, "d", "h", 86_400, 3_600)


def format_clock(duration_s: float) -> str:
    """A remaining time of fixed shape for a progress line: `0:07`, `12:34`, `3:25:07`, `4d 02h`."""
    whole = int(duration_s + 0.5)
    if whole >= 100 * 3_600:
        return f"{whole // 86_400}d {whole % 86_400 // 3_600:02d}h"
    hours, rest = divmod(whole, 3_600)
    minutes, seconds = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def plural(count: int, noun: str, many: str | None = None) -> str:
    """`1 host`, `2 hosts`; `many` for a noun that does not just take an s."""
    return f"{count} {noun if count == 1 else many or noun + 's'}"


def _split(text: str, expected: str) -> tuple[Fraction, str]:
    match = _QUANTITY.fullmatch(text.strip())
    if match is None:
        raise UnitError(f"{text!r} is not {expected}")
    return Fraction(match[1]), match[2]


def _unknown_size_unit(text: str, unit: str) -> str:
    if unit.upper() in ("K", "M", "G", "T", "P"):
        letter = unit.upper()
        return f"{text!r} is ambiguous: write {letter}B (powers of 1000) or {letter}iB (powers of 1024)"
    return f"{text!r} has the unknown unit {unit!r}: write a size such as 64MB, 50GB or 1.5GiB"


def _two_units(whole_s: int, large: str, small: str, large_s: int, small_s: int) -> str:
    rest = whole_s % large_s // small_s
    return f"{whole_s // large_s} {large}" + (f" {rest} {small}" if rest else "")
