"""Who may ask the door at all: rules on the head of a request, without any state.

A browser sends what a page asks for, whatever page that is. So every request is judged by what a page cannot choose:
`Host`, `Origin` and `Sec-Fetch-Site` tell where a request comes from, and only our page has the token.
"""

import hmac
import re
from collections.abc import Mapping

from shoal.doors.web.errors import HttpError
from shoal.doors.web.http import HttpRequest
from shoal.values import dataclass

HOSTS = ("127.0.0.1", "localhost", "[::1]")
HTTP_PORT = 80  # its number is left out of `Host`
BEARER = "Bearer "
CONTENT_SITES = ("same-origin", "same-site", "none")  # our page has another port, which is the same site
_TARGET = re.compile(r"/[!-~]*")  # a path alone: no other server's address, as proxies get, and no `*`
_SAFE = ("GET", "HEAD")


@dataclass(frozen=True, slots=True)
class Guard:
    """The rules of one listener.

    port: where it listens.    page_port: where our page comes from, if that is another.
    """

    port: int
    page_port: int | None = None

    def check(self, request: HttpRequest) -> str:
        """The host that the request named.

        :raises HttpError: it may not be answered: 400, 403 or 421.
        """
        if _TARGET.fullmatch(request.target) is None:
            raise _refused(400, "This address is not a path on this machine.")
        host = self._host(request.headers)
        self._check_origin(request.headers, host)
        self._check_site(request)
        return host

    def _host(self, headers: Mapping[str, tuple[str, ...]]) -> str:
        given = headers.get("host", ())
        for host in HOSTS:
            if given == ((host,) if self.port == HTTP_PORT else (f"{host}:{self.port}",)):
                return host
        raise _refused(421, f"This door answers to http://127.0.0.1:{self.port} alone, and to no other name.")

    def _check_origin(self, headers: Mapping[str, tuple[str, ...]], host: str) -> None:
        port = self.page_port or self.port
        own = f"http://{host}" if port == HTTP_PORT else f"http://{host}:{port}"
        if headers.get("origin", (own,)) != (own,):
            raise _refused(403, "Another page asked for this. Only Shoal's own page may.")

    def _check_site(self, request: HttpRequest) -> None:
        """A page of another site may open our page in a tab, which tells it nothing. It may do nothing else."""
        site = request.headers.get("sec-fetch-site", ("none",))
        allowed = CONTENT_SITES if self.page_port is not None else ("same-origin", "none")
        if len(site) == 1 and site[0] in allowed:
            return
        if self.page_port is None and request.path == "/" and request.method in _SAFE and _is_tab(request):
            return
        raise _refused(403, "Another page asked for this. Only Shoal's own page may.")


def _refused(status: int, words: str) -> HttpError:
    """Nothing more is read from where this came from."""
    return HttpError(status, words, headers=(("connection", "close"),))


def _is_tab(request: HttpRequest) -> bool:
    return request.header("sec-fetch-mode") == "navigate" and request.header("sec-fetch-dest") == "document"


def check_token(request: HttpRequest, token: str) -> None:
    """The time that this takes tells nothing about the token.

    :raises HttpError: the request does not have it: 401.
    """
    given = request.header("authorization") or ""
    good = hmac.compare_digest(given.encode("utf-8", "surrogateescape"), (BEARER + token).encode())
    if not good:
        raise HttpError(
            401,
            "This page has no right to use the node, or the node was started again.",
            "Open the page again with: shoal web",
            headers=(("www-authenticate", "Bearer"),),
        )
