"""What the door leaves in its home: a lock, a note of where it listens, and the page that opens a browser.

The token is never part of a command line: other users of the machine can see those. So a browser is given a file, which
only this user can read, and which leads it to the page.
"""

import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from html import escape
from pathlib import Path
from urllib.parse import quote

from shoal.node import AlreadyRunning, Home, LocalError
from shoal.node.errors import local_errors
from shoal.node.home.home import DIRECTORY_MODE, FILE_MODE, read_plain, write_private
from shoal.values import dataclass

TOKEN_BYTES = 32
MAX_FILE_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class DoorNote:
    """Where the door of a home listens, and the token of its page."""

    port: int
    token: str

    def url(self, link: str | None = None) -> str:
        """The address of the page; with a link, of the page that gets it."""
        more = "" if link is None else f"&link={quote(link, safe='')}"
        return f"http://127.0.0.1:{self.port}/#{self.token}{more}"


def new_token() -> str:
    """A new one for each start. An older one is worth nothing to a program that takes the port later."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def _folder(home: Home) -> Path:
    folder = home.data / "web"
    with local_errors(f"Cannot make the folder {folder}"):
        folder.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
    return folder


@contextmanager
def door_lock(home: Home) -> Iterator[None]:
    """Hold the door of a home, which has one at a time. The lock dies with the process.

    :raises AlreadyRunning: it has one already.
    """
    path = _folder(home) / "lock"
    with local_errors(f"Cannot write {path}"):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise AlreadyRunning(f"The page of {home.data} is open already. See it with: shoal web") from error
        except OSError as error:
            raise LocalError(f"Cannot lock {path}: {error.strerror}.") from error
        yield
    finally:
        os.close(descriptor)


def write_door_note(home: Home, note: DoorNote) -> None:
    """Called once the door listens.

    :raises LocalError: the home cannot be written.
    """
    content = json.dumps({"port": note.port, "token": note.token}).encode()
    write_private(_folder(home) / "door.json", content, durable=False)


def read_door_note(home: Home) -> DoorNote | None:
    """The note of the door, open or not; None without one."""
    try:
        content = json.loads(read_plain(home.data / "web" / "door.json", MAX_FILE_BYTES))
        return DoorNote(int(content["port"]), str(content["token"]))
    except (OSError, ValueError, TypeError, LookupError):
        return None


def remove_door_note(home: Home) -> None:
    """Called at the end of the door."""
    for name in ("door.json", "open.html"):
        with suppress(OSError):
            (home.data / "web" / name).unlink(missing_ok=True)


def write_metrics_token(home: Home) -> str:
    """A token that reads the metrics and nothing else, in a file that Prometheus can be told of.

    :raises LocalError: the home cannot be written.
    """
    token = new_token()
    write_private(_folder(home) / "metrics-token", token.encode(), durable=False)
    return token


def write_opener(home: Home, url: str) -> Path:
    """A file that leads a browser to the page.

    :raises LocalError: the home cannot be written.
    """
    path = _folder(home) / "open.html"
    target = escape(url, quote=True)
    content = (
        '<!doctype html><meta charset="utf-8"><meta name="referrer" content="no-referrer"><title>Shoal</title>\n'
        f'<meta http-equiv="refresh" content="0;url={target}">\n<a href="{target}">Open Shoal</a>\n'
    )
    write_private(path, content.encode(), durable=False)
    return path
