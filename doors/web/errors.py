"""What went wrong, as the door tells it: a status of HTTP, words, and what to do next."""

import json

from shoal.doors.web.http import Headers, HttpResponse
from shoal.node import (
    AlreadyRunning,
    BadData,
    LocalError,
    NeedsNewerShoal,
    NoPeers,
    NotFound,
    Refused,
    ShoalError,
    TooFewShares,
    UsageError,
    WrongKey,
)

JSON = ("content-type", "application/json")
_AGAIN = "Try again in a while."
BUG = {"error": "This is a bug in Shoal. The log of the node has more.", "next": "Please report it.", "code": "failed"}

# The name of the exit code, the status, and what to do. The more special comes first.
_FAMILY: tuple[tuple[type[ShoalError], str, int, str], ...] = (
    (UsageError, "usage", 400, "Look at what you entered, and correct it."),
    (AlreadyRunning, "daemon_runs", 409, "Stop the other node, or use its page."),
    (NoPeers, "no_peers", 503, "Look at this machine's connection, then try again."),
    (TooFewShares, "not_found", 404, "Too many of its hosts are away. Try again later."),
    (NotFound, "not_found", 404, "Ask for the link again, or try later: its hosts may be away."),
    (WrongKey, "wrong_key", 422, "Copy the whole link again."),
    (NeedsNewerShoal, "bad_data", 422, "Install a newer version of Shoal."),
    (BadData, "bad_data", 422, "Ask the publisher to publish it again."),
    (Refused, "refused", 503, "The network has too little room now. Try again later."),
    (LocalError, "failed", 500, "Make it good on this machine, then try again."),
    (ShoalError, "failed", 500, _AGAIN),
)


class HttpError(Exception):
    """A request that is not carried out.

    next: what the user can do.    code: the name of an exit code.    more: further fields of the answer.
    """

    def __init__(
        self,
        status: int,
        words: str,
        next_step: str = "",
        *,
        code: str = "usage",
        headers: Headers = (),
        more: dict[str, object] | None = None,
    ) -> None:
        super().__init__(words)
        self.status = status
        self.next_step = next_step
        self.code = code
        self.headers = headers
        self.more = more or {}

    def fields(self) -> dict[str, str]:
        """What is told of it."""
        return {"error": str(self), "next": self.next_step, "code": self.code}

    def response(self) -> HttpResponse:
        """The answer that says so."""
        fields = {**self.fields(), **self.more}
        return HttpResponse(self.status, (JSON, *self.headers), json.dumps(fields).encode())


def http_error(error: ShoalError) -> HttpError:
    """An error of the library as the door tells it."""
    for kind, code, status, next_step in _FAMILY:
        if isinstance(error, kind):
            return HttpError(status, str(error), next_step, code=code)
    raise AssertionError("every error is a ShoalError")


def bug_response() -> HttpResponse:
    """The answer where something failed that nobody foresaw."""
    return HttpResponse(500, (JSON,), json.dumps(BUG).encode())


def error_fields(error: ShoalError) -> dict[str, str]:
    """The same for the state of something that failed in the background."""
    return http_error(error).fields()
