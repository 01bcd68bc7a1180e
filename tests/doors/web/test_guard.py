"""Who may ask: tables of Host, Origin, Sec-Fetch-Site, method, path and token, on both listeners."""

from collections.abc import Mapping

import pytest

from shoal.doors.web.errors import HttpError
from shoal.doors.web.guard import Guard, check_token
from shoal.doors.web.http import Body, HttpRequest

PAGE, FILES = Guard(4780), Guard(4781, 4780)
TAB = {"sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}


async def _nothing() -> bytes:
    return b""


def request(target: str, headers: Mapping[str, str | tuple[str, ...]], method: str = "GET") -> HttpRequest:
    """A request with the right Host, unless the headers have another; `()` for none at all."""
    given = {"host": ("127.0.0.1:4780",)} | {
        name: (value,) if isinstance(value, str) else value for name, value in headers.items()
    }
    return HttpRequest(method, target, {name: values for name, values in given.items() if values}, Body(_nothing))


def status(guard: Guard, asked: HttpRequest) -> int:
    """200 for what may be asked."""
    try:
        guard.check(asked)
    except HttpError as error:
        return error.status
    return 200


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1:4780", 200),
        ("localhost:4780", 200),
        ("[::1]:4780", 200),
        ("127.0.0.1", 421),
        ("localhost", 421),
        ("127.0.0.1:80", 421),
        ("127.0.0.1:4781", 421),
        ("127.0.0.2:4780", 421),
        ("127.1:4780", 421),
        ("2130706433:4780", 421),
        ("0.0.0.0:4780", 421),
        ("[::]:4780", 421),
        ("[::ffff:127.0.0.1]:4780", 421),
        ("::1:4780", 421),
        ("LOCALHOST:4780", 421),
        ("localhost.:4780", 421),
        ("rebound.example:4780", 421),
        ("127.0.0.1.rebound.example:4780", 421),
        ("localhost:4780.rebound.example", 421),
        ("user@127.0.0.1:4780", 421),
        ("127.0.0.1:4780 ", 421),
        ("127.0.0.1:04780", 421),
        ("", 421),
        ((), 421),
        (("127.0.0.1:4780", "127.0.0.1:4780"), 421),
        (("127.0.0.1:4780", "rebound.example"), 421),
    ],
)
def test_hosts(host: str | tuple[str, ...], expected: int) -> None:
    assert status(PAGE, request("/api/v1/status", {"host": host})) == expected


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        ((), 200),
        ("http://127.0.0.1:4780", 200),
        ("http://localhost:4780", 403),  # of the Host that was named, and of no other name of ours
        ("https://127.0.0.1:4780", 403),
        ("http://127.0.0.1", 403),
        ("http://127.0.0.1:4781", 403),
        ("http://127.0.0.1:4780/", 403),
        ("http://evil.example", 403),
        ("http://127.0.0.1:4780.evil.example", 403),
        ("null", 403),
        ("", 403),
        (("http://127.0.0.1:4780", "http://evil.example"), 403),
    ],
)
def test_origins(origin: str | tuple[str, ...], expected: int) -> None:
    assert status(PAGE, request("/api/v1/status", {"origin": origin})) == expected
    assert status(PAGE, request("/", {"origin": origin, **TAB})) == expected


@pytest.mark.parametrize(
    ("site", "to_api", "to_page", "to_page_in_a_tab", "to_files"),
    [
        ((), 200, 200, 200, 200),
        ("none", 200, 200, 200, 200),
        ("same-origin", 200, 200, 200, 200),
        ("same-site", 403, 403, 200, 200),
        ("cross-site", 403, 403, 200, 403),
        ("Same-Origin", 403, 403, 200, 403),
        ("", 403, 403, 200, 403),
        (("none", "cross-site"), 403, 403, 200, 403),
    ],
)
def test_sites(site: str | tuple[str, ...], to_api: int, to_page: int, to_page_in_a_tab: int, to_files: int) -> None:
    own = {"sec-fetch-site": site}
    assert status(PAGE, request("/api/v1/status", own | TAB)) == to_api
    assert status(PAGE, request("/", own)) == to_page
    assert status(PAGE, request("/", own | {"sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"})) == to_page
    assert status(PAGE, request("/", own | {"sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"})) == to_page
    assert status(PAGE, request("/", own | TAB, "POST")) == to_page
    assert status(PAGE, request("/", own | TAB)) == to_page_in_a_tab
    assert status(FILES, request("/ticket/film.mp4", own | {"host": "127.0.0.1:4781"})) == to_files


def test_the_content_listener_knows_the_page_by_its_port() -> None:
    own = {"host": "127.0.0.1:4781"}
    assert status(FILES, request("/t/a", own | {"origin": "http://127.0.0.1:4780"})) == 200
    assert status(FILES, request("/t/a", own | {"origin": "http://127.0.0.1:4781"})) == 403
    assert status(FILES, request("/t/a", {})) == 421


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/", 200),
        ("/a/../b?c=d", 200),
        ("//evil.example/", 200),
        ("http://127.0.0.1:4780/", 400),
        ("http://evil.example/", 400),
        ("*", 400),
        ("evil.example:443", 400),
        ("", 400),
        ("/a b", 400),
        ("/\x7f", 400),
        ("/\xe4", 400),
    ],
)
def test_targets(target: str, expected: int) -> None:
    assert status(PAGE, request(target, {})) == expected


@pytest.mark.parametrize(
    ("given", "is_good"),
    [
        ("Bearer secret", True),
        ("bearer secret", False),
        ("Bearer secre", False),
        ("Bearer secrets", False),
        ("Bearer  secret", False),
        ("Basic secret", False),
        ("secret", False),
        ("Bearer ", False),
        ("", False),
        ("Bearer s\xe9cret", False),
        ((), False),
        (("Bearer secret", "Bearer secret"), False),
    ],
)
def test_tokens(given: str | tuple[str, ...], is_good: bool) -> None:
    asked = request("/api/v1/status?token=secret", {"authorization": given, "cookie": "token=secret"})
    if is_good:
        check_token(asked, "secret")
        return
    with pytest.raises(HttpError) as raised:
        check_token(asked, "secret")
    assert raised.value.status == 401
