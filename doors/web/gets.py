"""Gets: what is fetched into a folder of this machine. One that was under way goes on when the door is opened again."""

import json
import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import field
from enum import StrEnum
from pathlib import Path
from typing import Any

import trio

from shoal.doors.web.errors import BUG, HttpError, error_fields
from shoal.doors.web.feed import Feed
from shoal.doors.web.pace import ShownProgress
from shoal.doors.web.readers import Readers
from shoal.doors.web.sends import ID_BYTES, NOTICE_S
from shoal.node import Fetched, Link, LocalError, Node, Progress, ShoalError, UsageError, parse_link
from shoal.node.errors import local_errors
from shoal.node.home.home import DIRECTORY_MODE, read_plain, write_private
from shoal.node.names import name_bytes, printable
from shoal.values import dataclass

log = logging.getLogger(__name__)

MAX_GETS = 200  # those that are done are forgotten first
GETS_AT_ONCE = 3
MAX_PATHS = 1_000  # of one get
MAX_STATE_BYTES = 32 * 2**20
MOST_COPIES = 1_000  # names that are tried: "film (2).mkv" and so on
_HASH_CHARS = 14  # of a file without a name: shoal-abcdefgh


class GetPhase(StrEnum):
    """Where a get stands."""

    WAITING = "waiting"
    FETCHING = "fetching"
    DONE = "done"
    FAILED = "failed"


@dataclass
class Get:
    """One get. `target`: what is made, once its name is known."""

    id: str
    link: Link
    paths: tuple[str, ...]
    into: Path
    created: float
    phase: GetPhase = GetPhase.WAITING
    target: Path | None = None
    outcome: dict[str, Any] = field(default_factory=dict)
    pace: ShownProgress = field(default_factory=ShownProgress)
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    ended: trio.Event = field(default_factory=trio.Event)
    told_at: float = 0.0

    @property
    def is_over(self) -> bool:
        """Whether nothing is under way."""
        return self.phase in (GetPhase.DONE, GetPhase.FAILED)

    def state(self) -> dict[str, Any]:
        """What is told of it."""
        return {
            "id": self.id,
            "link": str(self.link),
            "created": round(self.created),
            "name": None if self.target is None else self.target.name,
            "into": str(self.into),
            "phase": self.phase.value,
            "progress": self.pace.fields() if self.phase is GetPhase.FETCHING else None,
            **self.outcome,
        }

    def stored(self) -> dict[str, Any]:
        """What outlives the door."""
        return {
            "link": str(self.link),
            "paths": self.paths,
            "into": str(self.into),
            "created": self.created,
            "phase": self.phase.value,
            "target": None if self.target is None else str(self.target),
            "outcome": self.outcome,
        }


class Gets:
    """All gets of a home. Its tasks live in the door's nursery."""

    def __init__(self, node: Node, readers: Readers, feed: Feed, nursery: trio.Nursery) -> None:
        self._node = node
        self._env = node.context.env
        self._readers = readers
        self._feed = feed
        self._nursery = nursery
        self._folder = node.home.data / "web" / "gets"
        self._gets: dict[str, Get] = {}
        self._turns = trio.CapacityLimiter(GETS_AT_ONCE)

    async def load(self) -> None:
        """Take up what an earlier door has left, and go on with it."""
        for get in await self._env.call(_load, self._folder):
            self._gets[get.id] = get
            if not get.is_over:
                get.phase = GetPhase.WAITING
                self._nursery.start_soon(self._fetch, get)

    def all(self) -> list[Get]:
        """All of them, the latest last."""
        return sorted(self._gets.values(), key=lambda get: get.created)

    def find(self, get_id: str) -> Get | None:
        """One of them, if it is still there."""
        return self._gets.get(get_id)

    def get(self, get_id: str) -> Get:
        """One of them.

        :raises HttpError: there is none of this id: 404.
        """
        if get_id not in self._gets:
            raise HttpError(404, "There is no such download. It was cancelled, or it is long done.")
        return self._gets[get_id]

    async def create(self, link: Link, paths: Sequence[str], into: str | None) -> Get:
        """Fetch a link, or parts of its folder, into a folder of this machine; by default the user's downloads.

        :raises ShoalError: there is no such folder.
        :raises HttpError: there are too many: 409.
        """
        folder = await self._env.call(_target_folder, into)
        if len(self._gets) >= MAX_GETS:
            over = [get for get in self.all() if get.is_over]
            if not over:
                raise HttpError(409, f"{MAX_GETS} downloads are not done.", "Cancel some.", code="failed")
            await self.remove(over[0])
        get = Get(self._env.entropy(ID_BYTES).hex(), link, tuple(paths), folder, self._env.wall())
        await self._save(get)
        self._gets[get.id] = get
        self._tell(get)
        self._nursery.start_soon(self._fetch, get)
        return get

    async def _fetch(self, get: Get) -> None:
        """Fetch it; its failure is told in its state."""
        with get.scope:
            try:
                async with self._turns:
                    get.phase, get.pace = GetPhase.FETCHING, ShownProgress()
                    self._tell(get)
                    if get.target is None:
                        await self._choose_target(get)
                    done = await self._node.fetch(
                        get.link, get.target, paths=get.paths, on_progress=lambda moment: self._moment(get, moment)
                    )
                    get.phase, get.outcome = GetPhase.DONE, _outcome(done)
            except (ShoalError, HttpError) as error:
                fields = error_fields(error) if isinstance(error, ShoalError) else error.fields()
                get.phase, get.outcome = GetPhase.FAILED, {"error": fields}
            except Exception:  # the page must be told of a bug too
                log.exception("a bug while a file was fetched")
                get.phase, get.outcome = GetPhase.FAILED, {"error": BUG}
            with suppress(LocalError):  # the file is there all the same
                await self._save(get)
            self._tell(get)
        get.ended.set()

    async def _choose_target(self, get: Get) -> None:
        """A name that nothing has. It is written down, so that a door that is opened again goes on with the same."""
        name = os.fsdecode(get.link.path.rpartition(b"/")[2]) if get.link.path else None
        if name is None:
            async with self._readers.opened(get.link) as remote:
                name = remote.name
        taken = {other.target for other in self._gets.values() if not other.is_over}
        name = name or get.link.hash[:_HASH_CHARS].replace(":", "-")
        get.target = await self._env.call(free_target, get.into, name, taken)
        await self._save(get)
        self._tell(get)

    async def remove(self, get: Get) -> None:
        """Cancel a get, or forget one that is over. An unfinished `.part` file stays, for another try."""
        self._gets.pop(get.id, None)
        get.scope.cancel()
        if not get.is_over:
            await get.ended.wait()
        await self._env.call(_unlink, self._folder / f"{get.id}.json")
        self._feed.note("gone", f"get/{get.id}")

    async def _save(self, get: Get) -> None:
        await self._env.call(_save, self._folder, get)

    def _moment(self, get: Get, progress: Progress) -> None:
        is_new = get.pace.add(progress, trio.current_time())
        self._tell(get, at_most_every_s=0.0 if is_new else NOTICE_S)

    def _tell(self, get: Get, *, at_most_every_s: float = 0.0) -> None:
        now = trio.current_time()
        if now - get.told_at >= at_most_every_s:
            get.told_at = now
            self._feed.note("get", get.id)


def free_target(folder: Path, name: str, taken: set[Path | None]) -> Path:
    """A path in a folder where nothing is, and nothing will be. The publisher chose the name.

    A first dot becomes a `_`: `.ssh` or `.profile` would be no download where the folder is the user's home.

    :raises UsageError: the published name can be no file's.
    """
    try:
        name_bytes(name)
    except ValueError as error:
        raise UsageError(f"The published name {printable(name)} is {error}.") from error
    if name.startswith("."):
        name = f"_{name[1:]}"
    stem, dot, suffix = name.rpartition(".")
    if not stem:
        stem, dot, suffix = name, "", ""
    for number in range(1, MOST_COPIES):
        path = folder / (name if number == 1 else f"{stem} ({number}){dot}{suffix}")
        if path not in taken and not os.path.lexists(path):
            return path
    raise LocalError(f"{printable(folder)} has {MOST_COPIES} files of this name already.")


def downloads_folder() -> Path:
    """The user's folder for downloads, as the desktop has it.

    :raises LocalError: this user has no home folder.
    """
    try:
        home = Path.home()
    except RuntimeError as error:
        raise LocalError("This user has no home folder, so say where the file is to go.") from error
    config = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    with suppress(OSError, UnicodeDecodeError):
        for line in read_plain(config / "user-dirs.dirs", 65_536).decode().splitlines():
            name, _, value = line.strip().partition("=")
            folder = value.strip().strip('"')
            if name == "XDG_DOWNLOAD_DIR" and folder.startswith(("$HOME/", "/")):
                return Path(folder.replace("$HOME", str(home), 1))
    return home / "Downloads"


def _target_folder(into: str | None) -> Path:
    if into is None:
        folder = downloads_folder()
        with local_errors(f"Cannot make the folder {printable(folder)}"):
            folder.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
        return folder
    if "\0" in into:
        raise UsageError("This cannot be the name of a folder.")
    folder = Path(into)
    if not folder.is_absolute() or not os.path.isdir(folder):  # Path.is_dir raises what a name that is too long causes
        raise UsageError(f"{printable(into)} is no folder of this machine. Give its whole path, from / on.")
    return folder


def _save(folder: Path, get: Get) -> None:
    with local_errors(f"Cannot write {folder}"):
        folder.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
    write_private(folder / f"{get.id}.json", json.dumps(get.stored()).encode())


def _load(folder: Path) -> list[Get]:
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            stored = json.loads(read_plain(path, MAX_STATE_BYTES))
            get = Get(
                path.stem,
                parse_link(stored["link"]),
                tuple(stored["paths"]),
                Path(stored["into"]),
                float(stored["created"]),
                GetPhase(stored["phase"]),
                None if stored["target"] is None else Path(stored["target"]),
                dict(stored["outcome"]),
            )
        except (OSError, ValueError, TypeError, LookupError, ShoalError):
            _unlink(path)
            continue
        if get.is_over:
            get.ended.set()
        found.append(get)
    return found


def _unlink(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)


def _outcome(done: Fetched) -> dict[str, Any]:
    return {
        "path": None if done.path is None else str(done.path),
        "size": done.size,
        "left_out": [os.fsdecode(path) for path in done.left_out_paths],
        "left_out_count": done.left_out,
    }
