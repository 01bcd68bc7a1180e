"""Files that a browser sends, on disk until they are published: a browser cannot be asked for the same bytes again.

    HOME/web/sends/ID/state.json       what is to become of it, and what has
    HOME/web/sends/ID/entries.json     what is in it, written once
    HOME/web/sends/ID/content/NAME     the file or the folder, as far as it has come

Everything here is blocking, and is called in workers. Folders are 0700 and files 0600, as all of a home.
"""

import json
import logging
import os
import shutil
import stat
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from shoal.node import LocalError, UsageError
from shoal.node.errors import local_errors
from shoal.node.fetching.folder import inner_path
from shoal.node.home.home import DIRECTORY_MODE, FILE_MODE, read_plain, write_private
from shoal.node.names import name_bytes, printable
from shoal.values import dataclass

log = logging.getLogger(__name__)

MAX_ENTRIES = 100_000  # of one send: a browser needs a request for each
MAX_STATE_BYTES = 2**20
MAX_ENTRIES_BYTES = 64 * 2**20
MAX_FILE_BYTES = 2**53 - 1  # what a number of JavaScript can tell
EXECUTABLE_MODE = 0o700
KEEP_FREE_BYTES = 256 * 2**20  # of the disk: a full one stops everything else on this machine


@dataclass(frozen=True, slots=True)
class SendEntry:
    """One file or folder to be sent. `path` is relative to the folder that is sent; of a single file it is its name."""

    path: str
    size: int
    modified_ms: int | None
    executable: bool
    directory: bool


def check_entries(name: str, folder: bool, entries: Sequence[SendEntry]) -> None:
    """Refuse what could not be published, or would have two things in one place.

    :raises UsageError: a name or a path is none, or they do not fit together.
    """
    try:
        name_bytes(name)
    except ValueError as error:
        raise UsageError(f"The name {printable(name)} is {error}.") from error
    if not folder:
        if len(entries) != 1 or entries[0].path != name or entries[0].directory:
            raise UsageError("What is no folder is one file, whose path is its name.")
        return
    kinds: dict[bytes, bool] = {}
    for entry in entries:
        path = inner_path(entry.path)
        if os.fsdecode(path) != entry.path or path in kinds:
            raise UsageError(f"The path {printable(entry.path)} is there twice, or ends with a slash.")
        if entry.directory and entry.size:
            raise UsageError(f"The folder {printable(entry.path)} cannot have a size.")
        kinds[path] = entry.directory
    for path in kinds:
        at = path.find(b"/")
        while at >= 0:
            if kinds.get(path[:at]) is False:
                raise UsageError(f"{printable(os.fsdecode(path[:at]))} is a file, and cannot have files in it.")
            at = path.find(b"/", at + 1)


class SpoolFolder:
    """The folder of one send."""

    def __init__(self, folder: Path, name: str, is_folder: bool) -> None:
        self._folder = folder
        self.content = folder / "content" / name
        self._is_folder = is_folder

    def make(self, entries: Sequence[SendEntry]) -> None:
        """Make it, and write down what is to come.

        :raises LocalError: the disk refuses.
        """
        with local_errors(f"Cannot write {self._folder}"):
            self.content.parent.mkdir(mode=DIRECTORY_MODE, parents=True)
            if self._is_folder:
                self.content.mkdir(mode=DIRECTORY_MODE)
        write_private(self._folder / "entries.json", json.dumps([asdict(each) for each in entries]).encode())

    def write_state(self, state: dict[str, Any]) -> None:
        """Write down what is to become of it.

        :raises LocalError: the disk refuses.
        """
        write_private(self._folder / "state.json", json.dumps(state).encode())

    def _path(self, entry: SendEntry) -> Path:
        return self.content / entry.path if self._is_folder else self.content

    def received(self, entry: SendEntry) -> int:
        """How many bytes of a file are there."""
        with suppress(OSError):
            found = os.lstat(self._path(entry))
            return found.st_size if stat.S_ISREG(found.st_mode) else 0
        return 0

    def open(self, entry: SendEntry) -> "Incoming":
        """Open a file to go on with. Close it.

        :raises LocalError: the disk refuses.
        """
        path = self._path(entry)
        with local_errors(f"Cannot write {printable(entry.path)}"):
            path.parent.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
            return Incoming(os.open(path, flags, FILE_MODE), entry.path)

    def finish(self, entries: Sequence[SendEntry]) -> None:
        """Give everything its time and mode; make empty files and folders.

        :raises LocalError: the disk refuses.
        """
        for entry in entries:
            path = self._path(entry)
            with local_errors(f"Cannot write {printable(entry.path)}"):
                if entry.directory:
                    path.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
                    continue
                if not entry.size:
                    path.parent.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
                    path.touch(FILE_MODE)
                if stat.S_IMODE(path.lstat().st_mode) != (mode := EXECUTABLE_MODE if entry.executable else FILE_MODE):
                    path.chmod(mode)
                if entry.modified_ms is not None and path.lstat().st_mtime_ns != (at := entry.modified_ms * 1_000_000):
                    os.utime(path, ns=(at, at))

    def remove_content(self) -> None:
        """Remove the bytes, and the list of what they are of."""
        shutil.rmtree(self._folder / "content", ignore_errors=True)
        with suppress(LocalError):  # it is removed at the next start
            write_private(self._folder / "entries.json", b"[]", durable=False)

    def remove(self) -> None:
        """Remove all of it. What the disk keeps is removed at the next start: it has no state."""
        with suppress(OSError):
            (self._folder / "state.json").unlink(missing_ok=True)
        shutil.rmtree(self._folder, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Incoming:
    """A file that is being received."""

    descriptor: int
    shown: str

    def size(self) -> int:
        """How many bytes it has."""
        return os.fstat(self.descriptor).st_size

    def close(self) -> None:
        """Let go of it."""
        os.close(self.descriptor)

    def write(self, data: bytes) -> None:
        """Add to its end.

        :raises LocalError: the disk refuses.
        """
        view = memoryview(data)
        with local_errors(f"Cannot write {printable(self.shown)}"):
            while view:
                view = view[os.write(self.descriptor, view) :]


class Spool:
    """All sends of a home, on disk."""

    def __init__(self, folder: Path) -> None:
        self._root = folder

    def folder(self, send_id: str, name: str, *, is_folder: bool) -> SpoolFolder:
        """Where a send is."""
        return SpoolFolder(self._root / send_id, name, is_folder)

    def free_bytes(self) -> int:
        """Room on the disk for what is sent.

        :raises LocalError: the folder cannot be made.
        """
        with local_errors(f"Cannot write {self._root}"):
            self._root.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
            return max(0, shutil.disk_usage(self._root).free - KEEP_FREE_BYTES)

    def load(self) -> list[tuple[str, dict[str, Any], list[SendEntry]]]:
        """Id, state and entries of every send. What a crash left without a state is removed. What cannot be read now is
        left for the next door.

        :raises LocalError: the folder cannot be read.
        """
        found = []
        with local_errors(f"Cannot read {self._root}"):
            folders = sorted(self._root.iterdir()) if self._root.is_dir() else []
        for folder in folders:
            try:
                state = json.loads(read_plain(folder / "state.json", MAX_STATE_BYTES))
                entries = [
                    SendEntry(**each) for each in json.loads(read_plain(folder / "entries.json", MAX_ENTRIES_BYTES))
                ]
                is_folder = state["folder"] or not entries  # none are left of one that is done
                check_entries(state["name"], is_folder, entries)
            except (FileNotFoundError, NotADirectoryError, ValueError, TypeError, LookupError, UsageError):
                shutil.rmtree(folder, ignore_errors=True)
                continue
            except OSError as error:  # too many open files, a disk that fails: what is there may be good
                log.warning("the send in %s is left alone: %s", folder, error)
                continue
            found.append((folder.name, state, entries))
        return found


def no_room(needed: int, free: int) -> LocalError:
    """The error for a send that the disk has no room for."""
    return LocalError(
        f"Sending this needs {needed / 1e9:.1f} GB on this machine's disk until it is published, and {free / 1e9:.1f} "
        "GB are free. Make room, or use: shoal publish"
    )
