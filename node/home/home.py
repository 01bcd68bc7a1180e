"""Where a home keeps its files, and how they are written so that a crash leaves the old or the new one whole."""

import errno
import fcntl
import os
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from shoal.node.durable import rename_new, sync_folder
from shoal.node.errors import AlreadyRunning, LocalError
from shoal.values import dataclass

DIRECTORY_MODE = 0o700
FILE_MODE = 0o600
# What network file systems answer that lock files only.
_NO_FOLDER_LOCKS = frozenset({errno.EBADF, errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.ENOLCK})
STALE_S = 600.0  # a temporary file gets its name within moments, unless a crash came between


@dataclass(frozen=True, slots=True)
class Home:
    """The three folders of one home: all at one place (`--home DIR`), or where XDG says."""

    config: Path
    data: Path
    cache: Path

    @classmethod
    def at(cls, folder: Path) -> "Home":
        """A home with everything in one folder."""
        return cls(folder, folder, folder)

    @classmethod
    def locate(cls, explicit: Path | None = None) -> "Home":
        """The home given, or the one in the user's XDG directories."""
        if explicit is not None:
            return cls.at(Path(os.path.abspath(explicit)))
        return cls(
            _xdg("XDG_CONFIG_HOME", ".config"),
            _xdg("XDG_DATA_HOME", ".local/share"),
            _xdg("XDG_CACHE_HOME", ".cache"),
        )

    def create(self) -> None:
        """Make the folders that are missing, for this user alone.

        :raises LocalError: a folder cannot be made.
        """
        for folder in {self.config, self.data, self.cache}:
            try:
                folder.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
            except OSError as error:
                raise LocalError(f"Cannot make the home folder {folder}: {error.strerror}.") from error

    @property
    def settings_file(self) -> Path:
        """What `node init` wrote: capacity, addresses, rates."""
        return self.config / "config.toml"

    @property
    def network_file(self) -> Path:
        """The network that this home has joined, or that its node was made for. Without it, the one of Shoal's own."""
        return self.config / "network.toml"

    @property
    def key_file(self) -> Path:
        """The daemon's identity."""
        return self.data / "node.key"

    @property
    def network_note(self) -> Path:
        """The network that the daemon's key and shares belong to."""
        return self.data / "network.json"

    @property
    def lock_file(self) -> Path:
        """Held by the running daemon."""
        return self.data / "daemon.lock"

    @property
    def daemon_file(self) -> Path:
        """Where the running daemon listens."""
        return self.data / "daemon.json"

    @property
    def store_folder(self) -> Path:
        """The daemon's shares."""
        return self.data / "store"

    @property
    def journal_folder(self) -> Path:
        """Publishes under way, one file each."""
        return self.data / "publishing"

    @property
    def ledger_file(self) -> Path:
        """What this home has published, with links and owner keys."""
        return self.data / "published.db"

    def contacts_file(self, network_id: bytes) -> Path:
        """Contacts seen on one network."""
        return self.cache / f"contacts-{network_id.hex()}.json"

    def silence_file(self, network_id: bytes) -> Path:
        """Hosts of one network that lately did not answer."""
        return self.cache / f"silent-{network_id.hex()}.json"


def _xdg(variable: str, fallback: str) -> Path:
    value = os.path.expanduser(os.environ.get(variable, ""))  # a `~` that no shell has seen
    if value.startswith("/"):
        return Path(value) / "shoal"
    try:
        return Path.home() / fallback / "shoal"
    except RuntimeError as error:  # a user that the system does not know
        raise LocalError("This user has no home folder. Name one with --home, or set HOME.") from error


def write_private(path: Path, content: bytes, *, durable: bool = True, replace: bool = True) -> None:
    """Give `path` this content (mode 0600) atomically; with `durable` it outlives a power cut.

    :raises LocalError: it cannot be written, or it exists and is not to be replaced.
    """
    temporary = path.with_name(f"{path.name}.{threading.get_native_id()}.tmp")
    try:
        with suppress(FileNotFoundError):
            os.unlink(temporary)  # left by a crashed thread of our number, perhaps with another mode
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, FILE_MODE)
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        if replace:
            os.replace(temporary, path)
        else:
            rename_new(temporary, path)
        if durable:
            sync_folder(path.parent)
    except BaseException as error:  # an interruption, too, must not leave a half-written secret behind
        with suppress(OSError):  # whatever failed above may fail again
            os.unlink(temporary)
        if isinstance(error, OSError):
            raise LocalError(f"Cannot write {path}: {error.strerror}.") from error
        raise


def overwritten(path: Path, content: bytes) -> bool:
    """Write over a plain file where it is, not atomically. False when there is none, or it cannot be done."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    with open(descriptor, "wb", buffering=0) as file:
        try:
            done = stat.S_ISREG(os.fstat(descriptor).st_mode) and file.write(content) == len(content)
            file.truncate()
        except OSError:
            return False
        return done


def sweep_temporaries(home: Home) -> None:
    """Remove what `write_private` left where a crash cut it short. A young one may be another process's work."""
    limit = time.time() - STALE_S  # the file system's clock, not the node's
    for folder in {home.config, home.data, home.cache, home.journal_folder}:
        for path in folder.glob("*.[0-9]*.tmp"):
            with suppress(OSError):  # it is gone meanwhile, or nothing that could be removed
                if path.lstat().st_mtime < limit:
                    path.unlink()


def still_at(path: Path, descriptor: int) -> bool:
    """Whether an open file is what `path` names now. A lock on a file that was renamed or removed is worthless."""
    try:
        return os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def read_secret(path: Path, size: int) -> bytes:
    """A file of exactly `size` bytes that nobody else may read. `FileNotFoundError` passes; the rest is LocalError."""
    try:
        mode, content = _read_plain(path, size + 1, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise LocalError(f"{path} is a symbolic link. Put the file itself there.") from error
        raise LocalError(f"Cannot read {path}: {error.strerror}.") from error
    if not stat.S_ISREG(mode):
        raise LocalError(f"{path} is not a plain file.")
    if stat.S_IMODE(mode) & 0o077:
        raise LocalError(f"{path} can be read by other users. If nobody else has seen it, run: chmod 600 {path}")
    if len(content) != size:
        found = f"{len(content)}" if len(content) <= size else f"more than {size}"
        raise LocalError(f"{path} is damaged: it has {found} bytes instead of {size}. Restore it from a copy.")
    return content


def read_plain(path: Path, limit: int) -> bytes:
    """The first `limit` bytes of a file. OSError for a folder, a pipe or a device: it waits for nobody."""
    mode, content = _read_plain(path, limit, os.O_RDONLY)
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is not a plain file")
    return content


def _read_plain(path: Path, limit: int, flags: int) -> tuple[int, bytes]:
    """Mode and first bytes of a plain file; of anything else the mode alone."""
    descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            return mode, b""
        with open(descriptor, "rb", closefd=False) as file:
            return mode, file.read(limit)
    finally:
        os.close(descriptor)


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Hold a folder itself, for what must happen once at a time in it. The lock dies with the process.

    A lock file can be removed under its owner; a folder that holds a node cannot.

    :raises AlreadyRunning: another process holds it.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise LocalError(f"Cannot use the folder {folder}: {error.strerror}.") from error
    try:
        _lock(descriptor, folder)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise AlreadyRunning(f"A node already runs on {folder}. See it with: shoal node status") from error
    except OSError as error:
        if error.errno not in _NO_FOLDER_LOCKS:
            raise LocalError(f"Cannot lock {folder}: {error.strerror}.") from error


@contextmanager
def daemon_lock(home: Home) -> Iterator[None]:
    """Hold the home as its daemon: the folder, and a lock file for file systems that cannot lock folders.

    The holder tidies up: it removes what a crash has left of half-written files.

    :raises AlreadyRunning: another daemon holds it, or another command sets it up.
    """
    with folder_lock(home.data):
        try:
            descriptor = os.open(home.lock_file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
        except OSError as error:
            raise LocalError(f"Cannot use the lock file {home.lock_file}: {error.strerror}.") from error
        try:
            _lock(descriptor, home.data)
            sweep_temporaries(home)
            yield
        finally:
            os.close(descriptor)
