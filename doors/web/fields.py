"""Reading the JSON of a request: every field has a type and a bound, and nothing else is taken."""

import json
import os
from collections.abc import Mapping
from typing import Any

from shoal.doors.web.errors import JSON, HttpError
from shoal.doors.web.http import BodyTooLargeError, HttpRequest, HttpResponse

MAX_JSON_BYTES = 2**20
MAX_TEXT_CHARS = 16_384
_NEXT = "This is a fault of the page or the program that asked."


def bad(words: str) -> HttpError:
    """The error for a request that makes no sense."""
    return HttpError(400, words, _NEXT)


async def read_body(request: HttpRequest, limit: int = MAX_JSON_BYTES) -> bytes:
    """The body, which has to be JSON by its type: a form of another page cannot send that.

    :raises HttpError: 413 or 415.
    """
    kind = (request.header("content-type") or "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise HttpError(415, "The body of this request has to be application/json.", _NEXT)
    try:
        return await request.body.read(limit)
    except BodyTooLargeError:
        raise HttpError(413, f"The body of this request has more than {limit} bytes.", _NEXT) from None


def parse_body(body: bytes) -> Any:
    """The value of a JSON text. Empty is an empty object.

    :raises HttpError: it is no JSON.
    """
    if not body:
        return {}
    try:
        return json.loads(body, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise bad("The body of this request is no JSON.") from error


def _refuse(constant: str) -> None:
    raise ValueError(constant)


class Fields:
    """The fields of one JSON object. Each is asked for once; `done` refuses those that nobody asked for."""

    def __init__(self, value: object) -> None:
        if not isinstance(value, dict):
            raise bad("The body of this request has to be an object.")
        self._rest: dict[str, Any] = dict(value)

    @classmethod
    async def of(cls, request: HttpRequest, limit: int = MAX_JSON_BYTES) -> "Fields":
        """The fields of a request's body.

        :raises HttpError: it is no object in JSON.
        """
        return cls(parse_body(await read_body(request, limit)))

    def text(self, name: str, *, most: int = MAX_TEXT_CHARS) -> str:
        """A field that has to be there and has some text."""
        value = self._rest.pop(name, None)
        if not isinstance(value, str) or not 0 < len(value) <= most or not _is_encodable(value):
            raise bad(f'"{name}" has to be a text of at most {most} characters.')
        return value

    def maybe_text(self, name: str, *, most: int = MAX_TEXT_CHARS) -> str | None:
        """The same for one that may be missing, null or empty."""
        if self._rest.get(name) in (None, ""):
            self._rest.pop(name, None)
            return None
        return self.text(name, most=most)

    def number(self, name: str, least: int, most: int) -> int:
        """A whole number that has to be there."""
        value = self._rest.pop(name, None)
        if isinstance(value, float) and value.is_integer() and abs(value) <= 2**53:
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise bad(f'"{name}" has to be a whole number from {least} to {most}.')
        return value

    def maybe_number(self, name: str, least: int, most: int) -> int | None:
        """The same for one that may be missing or null."""
        if self._rest.get(name) is None:
            self._rest.pop(name, None)
            return None
        return self.number(name, least, most)

    def flag(self, name: str) -> bool:
        """True or false; false if it is missing."""
        value = self._rest.pop(name, False)
        if not isinstance(value, bool):
            raise bad(f'"{name}" has to be true or false.')
        return value

    def items(self, name: str, most: int) -> list[Any]:
        """A list; empty if it is missing."""
        value = self._rest.pop(name, [])
        if not isinstance(value, list) or len(value) > most:
            raise bad(f'"{name}" has to be a list of at most {most} items.')
        return value

    def texts(self, name: str, most: int) -> list[str]:
        """A list of texts; empty if it is missing."""
        values = self.items(name, most)
        if not all(isinstance(v, str) and 0 < len(v) <= MAX_TEXT_CHARS and _is_encodable(v) for v in values):
            raise bad(f'"{name}" has to be a list of texts.')
        return values

    def done(self) -> None:
        """Refuse fields that nobody asked for: they may be misspelt.

        :raises HttpError: there are some.
        """
        if self._rest:
            raise bad("The body of this request has fields that nothing is known of here.")


def _is_encodable(text: str) -> bool:
    """Whether it could be the name of a file. JSON can also tell halves of characters that stand for no byte."""
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return True


def json_response(value: Mapping[str, Any] | list[Any], status: int = 200) -> HttpResponse:
    """An answer in JSON. It is ASCII: names that are no UTF-8 are lone surrogates, as everywhere."""
    return HttpResponse(status, (JSON,), json.dumps(value).encode("ascii"))
