"""Fetching into a file: a `.part` beside the target, verified as it grows, renamed only when it is whole.

What an interrupted fetch left is not believed but checked: sealing is deterministic, so plaintext on disk can be sealed
again and compared with the file's data tree. No state file is needed, and a damaged part costs only what is damaged.
"""

import contextlib
import fcntl
import os
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

import trio
from blake3 import blake3

from shoal.erasure import Link
from shoal.node.context import Context
from shoal.node.durable import rename_new, sync_open_folder
from shoal.node.errors import LocalError, UsageError, local_errors
from shoal.node.fetching.fetch import OpenedFile, make_reader, open_stream, sealed_data_leaf
from shoal.node.fetching.reading import MAX_RUN_SEGMENTS, in_order
from shoal.node.holders.announcers import Hint
from shoal.node.holders.renewal import renew_used
from shoal.node.home.home import still_at
from shoal.node.names import MAX_NAME_BYTES, name_bytes, name_text, printable
from shoal.node.nursery import open_nursery
from shoal.node.results import Fetched, OnProgress, Phase, Progress

MOST_COPIES = 100  # names that are tried before none is offered
CHECKS_AHEAD = 3  # requests for data leaves under way while a part is being verified
# A long file goes to the disk, and leaves the system's page cache, in steps of so much. So the end waits for one step
# alone, and other files stay in memory. A shorter file stays there too: it is likely to be read next.
STREAMED_BYTES = 32 * 2**20
WRITE_MODE = 0o666  # less the umask, as any program that makes a file


class PartFile:
    """The unfinished file of one fetch, held by a lock so that two fetches of the same target do not mix."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor
        self._unsynced_bytes = 0

    def size(self) -> int:
        """Bytes in it."""
        return os.fstat(self._descriptor).st_size

    def read(self, offset: int, wanted: int) -> bytes:
        """Bytes from `offset`; fewer at the end."""
        return os.pread(self._descriptor, wanted, offset)

    def write(self, offset: int, data: bytes) -> None:
        """All of `data` at `offset`."""
        view = memoryview(data)
        while view:
            written = os.pwrite(self._descriptor, view, offset)
            offset, view = offset + written, view[written:]
        self._unsynced_bytes += len(data)
        if self._unsynced_bytes >= STREAMED_BYTES:
            self._let_go(offset)

    def _let_go(self, end: int) -> None:
        """Have what was written up to `end` on the disk, and not in memory any more."""
        os.fsync(self._descriptor)
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._descriptor, 0, end, os.POSIX_FADV_DONTNEED)
        self._unsynced_bytes = 0

    def truncate(self, size: int) -> None:
        """Cut or extend to `size`."""
        os.ftruncate(self._descriptor, size)

    def finish(self, target: Path, *, force: bool) -> None:
        """Make it durable and give it its name. Without `force` an existing target is left alone, even at the last
        moment."""
        os.fsync(self._descriptor)
        folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)  # first: after the rename nothing may fail
        try:
            if force:
                os.replace(self.path, target)
            else:
                rename_new(self.path, target)
            sync_open_folder(folder)
        finally:
            os.close(folder)


def part_path(target: Path, link: Link, paths: Sequence[bytes] = ()) -> Path:
    """Where an unfinished fetch lies: beside the target, named after the file too, so that no two files share one; nor
    two parts of a folder, which `paths` say as well as the link."""
    key = bytes(link.id)
    if link.path or paths:
        key = blake3(b"\0".join([key, link.path, *sorted(paths)])).digest()
    suffix = f".{key.hex()[:8]}.part"
    name = os.fsencode(target.name)[: MAX_NAME_BYTES - len(suffix)]
    return target.with_name(os.fsdecode(name) + suffix)


@contextlib.contextmanager
def open_part(path: Path) -> Iterator[PartFile]:
    """Open or make a part file, locked. `LocalError` when another process is at it or the folder is not writable."""
    with local_errors(f"Cannot write {printable(path)}"):
        descriptor = _open_locked(path)
    try:
        yield PartFile(path, descriptor)
    finally:
        with contextlib.suppress(OSError):
            if os.fstat(descriptor).st_size == 0 and still_at(path, descriptor):
                os.unlink(path)  # nothing was fetched: leave nothing behind
        os.close(descriptor)


def _open_locked(path: Path) -> int:
    """A locked descriptor of the part. The process that had the lock before may just have renamed it. Then what
    we hold is a finished file, and we try once more."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, WRITE_MODE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if still_at(path, descriptor):
                return descriptor
        except BlockingIOError as error:
            os.close(descriptor)
            raise LocalError(f"Another process is fetching the same file to {printable(path)} right now.") from error
        except OSError:
            os.close(descriptor)
            raise
        os.close(descriptor)


def check_target(target: Path | None, *, force: bool) -> None:
    """What can be refused before the network is asked."""
    if target is None:
        return
    if "\0" in str(target):
        raise LocalError(f"Cannot write {printable(target)}: not a possible file name.")
    with local_errors(f"Cannot write {printable(target)}"):
        if target.is_dir():
            return
        refuse_existing(target, force=force)
        if not target.parent.is_dir():
            raise LocalError(f"Cannot write {printable(target)}: the folder {printable(target.parent)} does not exist.")


def refuse_existing(path: Path, *, force: bool, replaces_folders: bool = False) -> None:
    """LocalError where something is at `path` that the target must not replace."""
    if os.path.lexists(path) and not force:
        raise LocalError(
            f"{printable(path)} already exists. Replace it with --force, or write to another name: {_other_name(path)}"
        )
    if path.is_dir():
        if not replaces_folders:
            raise LocalError(f"{printable(path)} is a folder.")
    elif path.exists() and not path.is_file():
        raise LocalError(f"{printable(path)} is a device, a pipe or a socket, which must not be replaced.")


def _other_name(path: Path) -> str:
    """The option that writes to a free name beside `path`; a name that cannot be shown as it is is not offered."""
    for number in range(2, MOST_COPIES):
        other = path.with_name(f"{path.stem} ({number}){path.suffix}")
        if not os.path.lexists(other):
            shown = shlex.quote(str(other))
            return f"-o {shown}" if shown.isprintable() else "-o NAME"
    return "-o NAME"


def named_target(target: Path | None, name: str | None) -> Path:
    """The full path of what is to be made. In a directory it is the published name, which is never trusted."""
    folder = Path.cwd() if target is None else target
    if target is not None and not target.is_dir():
        return target
    if name is None:
        raise UsageError("This was published without a name. Give one: -o NAME")
    try:
        return folder / name_text(name_bytes(name))
    except ValueError as error:
        raise UsageError(f"The published name {name!a} is {error}. Give a name of your own: -o NAME") from error


def resolve_target(target: Path | None, opened: OpenedFile, *, force: bool) -> Path:
    """The full path of the file to make, where no other file is, unless `force` says so."""
    path = named_target(target, opened.metadata.name)
    if path != target:
        refuse_existing(path, force=force)
    return path


async def fetch_opened(
    context: Context,
    link: Link,
    opened: OpenedFile,
    target: Path | None,
    *,
    force: bool,
    on_progress: OnProgress | None,
    started: float,
) -> Fetched:
    """Fetch a plain file to disk, going on where an earlier fetch stopped. See `Node.fetch`."""
    path = resolve_target(target, opened, force=force)
    with open_part(part_path(path, link)) as part:
        first, received = await _verified_segments(context, opened, part, on_progress)
        resumed = min(first * opened.located.manifest.layout.segment_plain_bytes, opened.metadata.size)
        proven, more = await _fetch_rest(context, opened, part, first, on_progress)
        with local_errors(f"Cannot write {printable(path)}"):
            await context.env.call(lambda: part.finish(path, force=force))
    renewed = await renew_used(context, opened.located, proven, opened.metadata.lease_s)
    return Fetched(
        path=path,
        name=opened.metadata.name,
        size=opened.metadata.size,
        seconds=trio.current_time() - started,
        received_bytes=received + more,
        resumed_bytes=resumed,
        lease_until=None if renewed is None else renewed.lease_until,
    )


async def _fetch_rest(
    context: Context, opened: OpenedFile, part: PartFile, first: int, on_progress: OnProgress | None
) -> tuple[list[Hint], int]:
    """Stream everything from segment `first` on into the part; who has proven to have which share, and share bytes
    received."""
    offset = min(first * opened.located.manifest.layout.segment_plain_bytes, opened.metadata.size)
    with local_errors(f"Cannot write {printable(part.path)}"):
        await context.env.call(part.truncate, offset)
        if offset == opened.metadata.size and first:
            return [], 0
        async with open_stream(context, opened, first_segment=first, on_progress=on_progress) as stream:
            async for chunk in stream:
                await context.env.call(part.write, offset, chunk)
                offset += len(chunk)
            return stream.proven, stream.received_bytes


async def _verified_segments(
    context: Context, opened: OpenedFile, part: PartFile, on_progress: OnProgress | None
) -> tuple[int, int]:
    """How many segments from the start are in the part and right, and the bytes it took to know."""
    layout = opened.located.manifest.layout
    complete = min(part.size(), opened.metadata.size) // layout.segment_plain_bytes
    if not complete:
        return 0, 0
    reader = make_reader(context, opened.located)
    good = 0

    def report(segments: int) -> None:
        if on_progress is not None:
            step = layout.segment_plain_bytes
            on_progress(Progress(Phase.VERIFYING, min(segments, complete) * step, complete * step))

    report(0)

    async def check(first: int) -> int:
        count = min(MAX_RUN_SEGMENTS, complete - first)
        leaves = await reader.read_data_leaves(first, count)
        return await context.env.call(matching_segments, opened, part, first, leaves)

    send, receive = trio.open_memory_channel[int](0)
    with receive:
        async with open_nursery() as nursery:
            nursery.start_soon(in_order, range(0, complete, MAX_RUN_SEGMENTS), check, CHECKS_AHEAD, send)
            async for matching in receive:
                good += matching
                report(good)
                if matching < MAX_RUN_SEGMENTS:
                    break
            nursery.cancel_scope.cancel()
    return min(good, complete), reader.received_bytes


def matching_segments(opened: OpenedFile, part: PartFile, first: int, leaves: list[bytes]) -> int:
    """How many of the segments from `first` on match the data tree; called in a worker."""
    layout = opened.located.manifest.layout
    step = layout.segment_plain_bytes
    for at, leaf in enumerate(leaves):
        index = first + at
        plaintext = part.read(index * step, step)
        last = index == layout.segment_count - 1
        if len(plaintext) < step or sealed_data_leaf(opened, index, last, plaintext) != leaf:
            return at
    return len(leaves)
