"""The unfinished folder of one fetch: a private folder beside the target, in which the tree grows. Blocking.

    photos.1a2b3c4d.part/     0700, so nobody else gets at what is in it
        lock                  held while a fetch is at work
        tree/                 what will be renamed to `photos`; or a single file in it will be
        old/                  what `photos` was before, while it is being replaced

A rename of `tree` is the moment at which the folder gets its name. What an interrupted fetch left is used again.
"""

import contextlib
import errno
import fcntl
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from shoal.node.durable import sync_open_folder
from shoal.node.errors import LocalError, local_errors
from shoal.node.names import printable

PRIVATE_MODE = 0o700  # of every folder until it is done
FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

_LOCK, _TREE, _OLD, _PROBE = "lock", "tree", "old", "mode"


class PartFolder:
    """An unfinished folder that this process has locked.

    :ivar tree: a handle of the tree's root.
    :ivar was_there: an earlier fetch left something in the tree.
    :ivar folder_mode: the mode that new folders get here, as the user's mask says.
    """

    def __init__(self, path: Path, handle: int, tree: int) -> None:
        self.path = path
        self.tree = tree
        self.was_there = not _is_empty(tree)
        self.folder_mode = _folder_mode(handle)
        self._handle = handle

    def finish(self, target: Path, *, force: bool, only: bytes | None = None) -> None:
        """Give the tree its name, or the one file `only` in it. With `force` what has the name goes away, a folder with
        all that is in it.

        Raises FileExistsError where something has the name and `force` is not given; LocalError when the tree is gone,
        or when what had the name cannot be removed. In the last case the tree has its name.
        """
        if not _is_still(self.tree, _TREE, self._handle):
            raise LocalError(f"{printable(self.path)} was changed while the folder was being fetched.")
        parent = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)  # a folder of the user's choice
        try:
            if only is not None and not force:
                self._link_new(only, target.name, parent)
            else:
                if _is_there(target.name, parent):
                    if not force:
                        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
                    self.remove_old()
                    os.rename(target.name, _OLD, src_dir_fd=parent, dst_dir_fd=self._handle)
                self._rename(only, target.name, parent)
            sync_open_folder(parent)
        finally:
            os.close(parent)
        self.remove_old()

    def _rename(self, only: bytes | None, name: str, parent: int) -> None:
        source, folder = (_TREE, self._handle) if only is None else (only, self.tree)
        os.rename(source, name, src_dir_fd=folder, dst_dir_fd=parent)

    def _link_new(self, only: bytes, name: str, parent: int) -> None:
        """A hard link fails where the name is taken, even in the last moment. A rename would not."""
        try:
            os.link(only, name, src_dir_fd=self.tree, dst_dir_fd=parent)
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links
            if _is_there(name, parent):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
            self._rename(only, name, parent)
        else:
            os.unlink(only, dir_fd=self.tree)

    def remove_old(self) -> None:
        """Remove what had the name before, if anything did. LocalError where the file system does not let us."""
        with _removing(self.path / _OLD), contextlib.suppress(FileNotFoundError):
            if stat.S_ISDIR(os.stat(_OLD, dir_fd=self._handle, follow_symlinks=False).st_mode):
                _remove_folder(_OLD, self._handle)
            else:
                os.unlink(_OLD, dir_fd=self._handle)

    def clear(self) -> None:
        """Take the part away where it has nothing of the folder: all was renamed, or nothing was fetched."""
        with contextlib.suppress(OSError):
            os.rmdir(_TREE, dir_fd=self._handle)
        if not any(_is_there(name, self._handle) for name in (_TREE, _OLD)):
            with contextlib.suppress(OSError):
                os.unlink(_LOCK, dir_fd=self._handle)
                os.rmdir(self.path)


@contextlib.contextmanager
def open_part_folder(path: Path) -> Iterator[PartFolder]:
    """Open or make the part at `path`, locked.

    Raises LocalError when another process is at it, when it is not this user's alone, or when it cannot be made.
    """
    with contextlib.ExitStack() as stack:
        with local_errors(f"Cannot write {printable(path)}"):
            handle = _open_locked(path, stack)
            with contextlib.suppress(FileExistsError):
                os.mkdir(_TREE, PRIVATE_MODE, dir_fd=handle)
            tree = os.open(_TREE, FOLDER_FLAGS, dir_fd=handle)
            stack.callback(os.close, tree)
            part = PartFolder(path, handle, tree)
        stack.callback(part.clear)
        yield part


def clear_spent(path: Path) -> None:
    """Take away a part of which all got its name just before its fetch was killed. Leave every other part alone."""
    if os.path.lexists(path) and (not os.path.lexists(path / _TREE) or not os.listdir(path / _TREE)):
        with contextlib.suppress(LocalError, OSError), open_part_folder(path) as part:
            part.remove_old()


def _open_locked(path: Path, stack: contextlib.ExitStack) -> int:
    """A handle of the part folder. The process that had the lock before may just have taken the folder away: then
    what we hold is nothing, and we try once more."""
    while True:
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, PRIVATE_MODE)
        with contextlib.ExitStack() as attempt:
            try:
                handle = os.open(path, FOLDER_FLAGS)
                attempt.callback(os.close, handle)
                _check_private(path, handle)
                flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
                lock = os.open(_LOCK, flags, 0o600, dir_fd=handle)
            except FileNotFoundError:
                continue
            attempt.callback(os.close, lock)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise LocalError(f"Another process is fetching to {printable(path)} right now.") from error
            if _is_still(lock, _LOCK, handle):
                stack.push(attempt.pop_all())
                return handle


def _check_private(path: Path, handle: int) -> None:
    """LocalError unless the folder is this user's, and nobody else may write to it: others could have put anything
    there, and could change it after it was verified."""
    status = os.fstat(handle)
    if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise LocalError(f"{printable(path)} can be written by others. Remove it, or fetch to another place with -o.")


@contextlib.contextmanager
def _removing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = f"It is in {printable(path)} now: remove it there."
        raise LocalError(f"What was to be replaced cannot be removed: {error.strerror}. {where}") from error


def _remove_folder(name: str, parent: int) -> None:
    """Remove a folder with all that is in it. Its owner may have made folders in it that cannot be changed."""
    try:
        shutil.rmtree(name, dir_fd=parent)
    except PermissionError:
        for _, _, _, folder in os.fwalk(name, dir_fd=parent):  # from above; it follows no links
            with contextlib.suppress(PermissionError):  # of another user: the second try tells
                os.chmod(folder, PRIVATE_MODE)
        shutil.rmtree(name, dir_fd=parent)


def _is_still(descriptor: int, name: str, folder: int) -> bool:
    try:
        return os.path.samestat(os.stat(name, dir_fd=folder, follow_symlinks=False), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _is_there(name: str | bytes, folder: int) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _is_empty(folder: int) -> bool:
    with os.scandir(folder) as names:
        return next(names, None) is None


def _folder_mode(handle: int) -> int:
    """The mode that the user's mask leaves a new folder, seen at one: to ask for the mask is to change it for a
    moment, for all threads."""
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(_PROBE, dir_fd=handle)
    os.mkdir(_PROBE, 0o777, dir_fd=handle)
    mode = stat.S_IMODE(os.stat(_PROBE, dir_fd=handle, follow_symlinks=False).st_mode)
    os.rmdir(_PROBE, dir_fd=handle)
    return mode | stat.S_IRWXU  # whatever the mask says, its owner can clean up
