"""Which bytes a Range is of, by the rules of RFC 9110."""

import pytest

from shoal.doors.web.http import Body, HttpRequest
from shoal.doors.web.media import media_type
from shoal.doors.web.ranges import Part, UnsatisfiableError, wanted_part

SIZE, ETAG = 1000, '"etag"'


async def _nothing() -> bytes:
    return b""


def part(size: int = SIZE, method: str = "GET", **headers: str) -> Part | str | None:
    given = {name.replace("_", "-"): (value,) for name, value in headers.items()}
    try:
        return wanted_part(HttpRequest(method, "/", given, Body(_nothing)), size, ETAG)
    except UnsatisfiableError:
        return "416"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("bytes=0-0", Part(0, 1)),
        ("bytes=0-999", Part(0, 1000)),
        ("bytes=10-19", Part(10, 20)),
        ("bytes=990-5000", Part(990, 1000)),
        ("bytes=990-", Part(990, 1000, to_the_end=True)),
        ("bytes=0-", Part(0, 1000, to_the_end=True)),
        ("bytes=-1", Part(999, 1000)),
        ("bytes=-5000", Part(0, 1000)),
        ("BYTES = 1-2", Part(1, 3)),
        ("bytes=1000-", "416"),
        ("bytes=1000-1001", "416"),
        ("bytes=-0", "416"),
        ("bytes=999999999999999999-", "416"),
        ("bytes=20-10", None),
        ("bytes=-", None),
        ("bytes=", None),
        ("bytes=a-b", None),
        ("bytes=1-2,4-5", None),
        ("bytes=1 -2", None),
        ("bytes=+1-2", None),
        ("bytes=0x1-2", None),
        ("bytes=\u0661-2", None),
        ("bytes=9999999999999999999-", None),
        ("items=0-1", None),
        ("", None),
    ],
)
def test_ranges(given: str, expected: Part | str | None) -> None:
    assert part(range=given) == expected
    assert part(range=given, method="HEAD") == expected
    assert part(range=given, method="POST") is None


def test_no_range_is_all_of_it() -> None:
    assert part() is None


def test_an_empty_file_has_no_range() -> None:
    assert part(0, range="bytes=0-") == "416"
    assert part(0, range="bytes=-1") == "416"


@pytest.mark.parametrize(
    ("condition", "holds"),
    [(ETAG, True), ('"other"', False), (f"W/{ETAG}", False), ("etag", False), ("Sun, 29 Nov 2026 12:00:00 GMT", False)],
)
def test_a_range_of_another_file_is_none(condition: str, holds: bool) -> None:
    assert part(range="bytes=1-2", if_range=condition) == (Part(1, 3) if holds else None)
    assert part(range="bytes=5000-", if_range=condition) == ("416" if holds else None)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("film.MP4", "video/mp4"),
        ("a.b.flac", "audio/flac"),
        ("picture.jpeg", "image/jpeg"),
        ("page.html", "application/octet-stream"),
        ("picture.svg", "application/octet-stream"),
        ("paper.pdf", "application/octet-stream"),
        ("data.xml", "application/octet-stream"),
        (".mp4", "application/octet-stream"),
        ("mp4", "application/octet-stream"),
        ("film.mp4 ", "application/octet-stream"),
        (None, "application/octet-stream"),
    ],
)
def test_only_audio_video_and_images_of_dots_are_shown(name: str | None, expected: str) -> None:
    assert media_type(name) == expected
