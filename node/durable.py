"""Names in folders: made durable, never replaced, as far as a file system allows it. Blocking."""

import ctypes
import errno
import os
from pathlib import Path

# Some network and FUSE file systems know no sync of a folder, and answer one of these.
_NO_SUCH_SYNC = frozenset({errno.EINVAL, errno.ENOTSUP, errno.ENOSYS})


def sync_folder(folder: Path) -> None:
    """Return only when new names and renames in `folder` survive a power cut. Raises OSError as `sync_open_folder`."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync_open_folder(descriptor)
    finally:
        os.close(descriptor)


def sync_open_folder(descriptor: int) -> None:
    """The same for a folder that is open already.

    A file system that cannot sync a folder is taken as it is. Every other failure is raised as OSError.
    """
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SUCH_SYNC:
            raise


def sync_file_system(descriptor: int) -> None:
    """Have all that was written to the file system of an open file or folder survive a power cut.

    It makes thousands of small files durable in the time of one. A caller that must know of each file syncs the file
    afterwards: that costs little then, and is all there is on a system without this call. Raises OSError where the disk
    failed.
    """
    call = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if call is not None and call(descriptor) != 0:
        code = ctypes.get_errno()
        if code not in _NO_SUCH_SYNC:
            raise OSError(code, os.strerror(code))


def rename_new(old: Path, new: Path) -> None:
    """Rename unless `new` exists already. Raises FileExistsError then: a hard link fails there, a rename would not."""
    try:
        os.link(old, new)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links: the check is then not atomic, and still made
        if os.path.lexists(new):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
        os.rename(old, new)
        return
    os.unlink(old)
