"""Fetching a folder, or a part of one, to disk. `targets.py` does the same for a plain file.

The index is read before anything is written, so a bad one leaves nothing behind. Then the tree grows in a `.part`
folder (`folders/part_folder.py`), and gets its name when it is whole, verified and on disk.
"""

from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from contextlib import aclosing, closing
from dataclasses import replace
from pathlib import Path

import trio

from shoal.erasure import Link
from shoal.node.context import Context
from shoal.node.durable import sync_file_system
from shoal.node.errors import NotFound, UsageError, local_errors
from shoal.node.fetching.content import RemoteContent, open_content
from shoal.node.fetching.fetch import OpenedFile, open_file
from shoal.node.fetching.folder import RemoteFolder, open_folder
from shoal.node.fetching.remote import RemoteFile
from shoal.node.fetching.selection import PathSelection
from shoal.node.fetching.targets import check_target, fetch_opened, named_target, part_path, refuse_existing
from shoal.node.folders.entries import Entry, EntryKind
from shoal.node.folders.part_folder import PartFolder, clear_spent, open_part_folder
from shoal.node.folders.unpack import Missing, Room, TreeFinisher, TreeWriter
from shoal.node.holders.renewal import renew_used
from shoal.node.names import name_text, printable
from shoal.node.results import Fetched, OnProgress, Phase, Progress
from shoal.values import dataclass

MOST_WANTED = 4096  # files whose contents are asked for together; what is known of each is in memory
LOOK_BYTES = 64 * 2**20  # read from disk in one call of a worker, while an earlier run's files are verified


async def fetch_to_path(
    context: Context,
    link: Link,
    target: Path | None,
    *,
    paths: Sequence[bytes] = (),
    force: bool,
    on_progress: OnProgress | None,
) -> Fetched:
    """Fetch whatever a link is of, going on where an earlier fetch stopped. See `Node.fetch`."""
    started = trio.current_time()
    check_target(target, force=force)
    if on_progress is not None:
        on_progress(Progress(Phase.SEARCHING))
    opened = await open_file(context, link)
    if opened.metadata.folder is not None:
        async with open_content(context, opened) as content:
            fetch = _FolderFetch(context, opened, content, force, on_progress)
            return await fetch.run(link, target, paths, started)
    if link.path or paths:
        raise NotFound("This is a file and not a folder: there are no paths in it.")
    return await fetch_opened(context, link, opened, target, force=force, on_progress=on_progress, started=started)


@dataclass(frozen=True)
class _Wanted:
    """What a fetch is to bring.

    root: the folder that becomes the target; the one that holds the file, where `only` is its name.
    is_all: it is everything that was published.
    """

    root: RemoteFolder
    selection: PathSelection
    name: str | None
    only: bytes | None = None
    is_all: bool = False

    async def batches(self) -> AsyncGenerator[list[Entry], None]:
        """The entries that are wanted. Their paths are relative to what becomes the root of the target."""
        async with aclosing(self.selection.batches()) as batches:
            async for batch in batches:
                if self.only is None:
                    yield batch
                else:
                    yield [replace(entry, path=entry.name) for entry in batch if entry.kind is EntryKind.FILE]


async def _wanted(folder: RemoteFolder, path: bytes, paths: Sequence[bytes]) -> _Wanted:
    """What a link with this path, and further paths in there, stands for."""
    if not path:
        return _Wanted(folder, PathSelection(folder, paths), folder.name, is_all=not paths)
    entry = await folder.find(path)
    if entry.kind is EntryKind.DIRECTORY:
        root = await folder.folder(path)
        return _Wanted(root, PathSelection(root, paths), root.name)
    if paths:
        raise NotFound("The path in the link is of a file and not of a folder: there are no paths in it.")
    if entry.kind is EntryKind.SYMLINK:
        raise UsageError("The path in the link is of a symbolic link. Fetch the folder that it is in.")
    return _Wanted(folder, PathSelection(folder, [path]), name_text(entry.name), only=entry.name)


class _FolderFetch:
    """One fetch of a folder to disk."""

    def __init__(
        self,
        context: Context,
        opened: OpenedFile,
        content: RemoteContent,
        force: bool,
        on_progress: OnProgress | None,
    ) -> None:
        self._context = context
        self._env = context.env
        self._opened = opened
        self._content = content
        self._plaintext = RemoteFile(content, None)
        self._force = force
        self._on_progress = on_progress
        self._entries = self._files = self._size = 0
        self._is_resumed = False

    async def run(self, link: Link, target: Path | None, paths: Sequence[bytes], started: float) -> Fetched:
        """All of it. Raises as `Node.fetch`."""
        wanted = await _wanted(open_folder(self._content), link.path, paths)
        path = named_target(target, wanted.name)
        part_at = part_path(path, link, paths)
        await self._env.call(clear_spent, part_at)
        refuse_existing(path, force=self._force, replaces_folders=wanted.only is None)
        with open_part_folder(part_at) as part:
            room = await self._plan(wanted, part)
            with closing(TreeWriter(part.tree, room, was_there=part.was_there)) as writer:
                await self._write(wanted, writer)
            finisher = await self._finish(wanted, part)
            with local_errors(f"Cannot write {printable(path)}"):
                await self._env.call(lambda: part.finish(path, force=self._force, only=wanted.only))
        return Fetched(
            path=path,
            name=wanted.name,
            size=self._size,
            seconds=trio.current_time() - started,
            received_bytes=self._content.received_bytes,
            resumed_bytes=writer.present_bytes,
            lease_until=await self._renew() if wanted.is_all else None,
            entries=None if wanted.only is not None else self._entries,
            left_out=finisher.left_out,
            left_out_paths=tuple(finisher.examples),
        )

    async def _plan(self, wanted: _Wanted, part: PartFolder) -> Room:
        """Read the index, check all of it, and know what it will take. Nothing is written before."""
        room = Room(part.tree)
        self._is_resumed = part.was_there
        async with aclosing(wanted.batches()) as batches:
            async for batch in batches:
                self._entries += len(batch)
                self._files += sum(entry.kind is EntryKind.FILE for entry in batch)
                self._size += sum(entry.size for entry in batch)
                for entry in batch:
                    room.add(entry)
        if not part.was_there:
            await self._env.call(room.check)
        return room

    async def _write(self, wanted: _Wanted, writer: TreeWriter) -> None:
        """All directories and files. What an earlier run left is verified, and the rest is fetched."""
        missing: list[Missing] = []
        async with aclosing(wanted.batches()) as batches:
            async for batch in batches:
                await self._examine(writer, batch)
                missing += writer.found()
                if len(missing) >= MOST_WANTED:
                    await self._fetch(writer, missing)
                    missing = writer.found()
        while missing:
            await self._fetch(writer, missing)
            missing = writer.found()

    async def _examine(self, writer: TreeWriter, batch: Sequence[Entry]) -> None:
        steps, more = writer.examine(batch), True
        while more:
            more = await self._env.call(_advance, steps)
            if self._is_resumed:
                self._report(Phase.VERIFYING, writer)

    async def _fetch(self, writer: TreeWriter, missing: Sequence[Missing]) -> None:
        await self._env.call(writer.begin, missing)
        self._report(Phase.FETCHING, writer)
        for start, end in ranges(missing, self._content.step):
            at = start
            async with aclosing(self._plaintext.chunks(start, end - start)) as chunks:
                async for chunk in chunks:
                    await self._env.call(writer.write, at, chunk)
                    at += len(chunk)
                    self._report(Phase.FETCHING, writer)

    async def _finish(self, wanted: _Wanted, part: PartFolder) -> TreeFinisher:
        """Links, modes and times; then everything is on disk."""
        await self._env.call(sync_file_system, part.tree)
        finisher = TreeFinisher(part.tree, part.folder_mode, wanted.root.mtime_ns)
        with closing(finisher):
            async with aclosing(wanted.batches()) as batches:
                async for batch in batches:
                    await self._env.call(finisher.take, batch)
            await self._env.call(finisher.finish)
        return finisher

    async def _renew(self) -> float | None:
        """Renew the lease, as a fetch of a plain file does. A fetch of a part does not."""
        proven, lease_s = self._content.proven(), self._opened.metadata.lease_s
        renewed = await renew_used(self._context, self._opened.located, proven, lease_s)
        return None if renewed is None else renewed.lease_until

    def _report(self, phase: Phase, writer: TreeWriter) -> None:
        if self._on_progress is None:
            return
        shares = self._content.usable_shares()
        done = min(self._size, writer.present_bytes + writer.written_bytes)
        k = self._opened.located.manifest.k
        self._on_progress(Progress(phase, done, self._size, shares, k, shares, writer.files_done, self._files))


def _advance(steps: Iterator[int]) -> bool:
    """Look on at what is on disk, for one call of a worker; whether there is more to look at."""
    looked = 0
    for step in steps:
        looked += step
        if looked >= LOOK_BYTES:
            return True
    return False


def ranges(missing: Iterable[Missing], step: int) -> Iterator[tuple[int, int]]:
    """Where in the plaintext what is missing lies, from the first byte to the one behind the last. Parts are joined
    where no segment, of `step` bytes, lies between them: reading on costs nothing then."""
    start = end = 0
    for each in missing:
        if start < end and each.start // step <= (end - 1) // step + 1:
            end = each.end
            continue
        if start < end:
            yield start, end
        start, end = each.start, each.end
    if start < end:
        yield start, end
