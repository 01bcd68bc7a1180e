"""A published folder, read where it is: what is in it, and any file of it, without fetching the rest.

The index comes a page at a time. To find one entry among a million costs the page table and a page.
"""

import os
from collections import OrderedDict
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

import trio

from shoal.node.errors import NotFound, UsageError
from shoal.node.fetching.content import RemoteContent
from shoal.node.fetching.remote import RemoteFile
from shoal.node.folders.entries import BadEntry, Entry, EntryKind, EntryOrder, check_path, order_key, shown
from shoal.node.folders.index import IndexSummary, PageTable, parse_page
from shoal.node.names import name_text
from shoal.node.translate import translated

PAGES_KEPT = 8  # parsed: some hundred entries each, half a MiB of memory


class FolderIndex:
    """The index of a published folder, as far as it was asked for. In memory are its page table and a few pages."""

    def __init__(self, content: RemoteContent, summary: IndexSummary) -> None:
        self.summary = summary
        self._file = RemoteFile(content, None)
        self._table: PageTable | None = None
        self._loading = trio.Lock()
        self._pages: OrderedDict[int, list[Entry]] = OrderedDict()

    async def table(self) -> PageTable:
        """The page table. Raises BadData where it breaks a rule."""
        async with self._loading:
            if self._table is None:
                data = await self._file.read_at(self.summary.table_offset, self.summary.table_length)
                with translated():
                    self._table = PageTable.parse(data, self.summary)
        return self._table

    async def page(self, number: int) -> list[Entry]:
        """The entries of a page, with every rule checked that one page can break."""
        if number not in self._pages:
            entries = await self.parsed(number, None)
            self._pages[number] = entries
            while len(self._pages) > PAGES_KEPT:
                self._pages.popitem(last=False)
        self._pages.move_to_end(number)
        return self._pages[number]

    async def parsed(self, number: int, order: EntryOrder | None) -> list[Entry]:
        """The same, and also checked against the pages before, which the same `order` has seen."""
        table = await self.table()
        extent = table.extent(number)
        data = await self._file.read_at(extent.offset, extent.length)
        with translated():
            return parse_page(data, table, number, order)


class RemoteFolder:
    """A folder in the network, or a folder within one: what is in it, and its files to read.

    Paths are bytes, relative to this folder, with "/" between names. Only what is asked for is fetched. The methods
    fail as `Node.fetch` does; with BadData where no honest publisher makes such an index. A loop over `walk` that is
    left early should close it: `async with aclosing(folder.walk()) as entries: …`
    """

    def __init__(self, content: RemoteContent, index: FolderIndex, name: str | None, base: Entry | None = None) -> None:
        self._content = content
        self._index = index
        self._name = name
        self._base = base
        self._plaintext = RemoteFile(content, None)

    @property
    def name(self) -> str | None:
        """The name its publisher gave it. It may be no plain file name: never open it unchecked."""
        return self._name if self._base is None else name_text(self._base.name)

    @property
    def mtime_ns(self) -> int | None:
        """When it was changed last. None for the whole of what was published."""
        return None if self._base is None else self._base.mtime_ns

    @property
    def received_bytes(self) -> int:
        """Share bytes received so far, for all that is read in the same block of `open_remote`."""
        return self._content.received_bytes

    async def find(self, path: bytes) -> Entry:
        """The entry at a path.

        :raises NotFound: there is none.
        """
        return self._inner(await self._found(self._outer(path)))

    async def entries(self, path: bytes = b"") -> list[Entry]:
        """What is directly in the folder at `path`, in order. What is deeper is passed over, and not fetched.

        :raises NotFound: there is no folder at this path.
        """
        return [entry async for entry in self.children(path)]

    async def children(self, path: bytes = b"") -> AsyncGenerator[Entry, None]:
        """The same, entry by entry."""
        outer = await self._folder_at(path)
        table = await self._index.table()
        number = table.page_for(outer)
        while number < len(table):
            last = None
            for entry in await self._index.page(number):
                if _is_behind(entry.path, outer):
                    return
                if entry.path != b"" and entry.parent == outer:
                    last = entry
                    yield self._inner(entry)
            passed = number if last is None or last.kind is not EntryKind.DIRECTORY else table.page_past(last.path)
            number = max(number + 1, passed)

    async def walk(self, path: bytes = b"") -> AsyncGenerator[Entry, None]:
        """All that is in the folder at `path`, at any depth: a folder right before what is in it.

        :raises NotFound: there is no folder at this path.
        """
        async with aclosing(self.batches(path)) as batches:
            async for batch in batches:
                for entry in batch:
                    yield entry

    async def batches(self, path: bytes = b"") -> AsyncGenerator[list[Entry], None]:
        """The same by the page, with a page in memory at a time."""
        outer = await self._folder_at(path)
        table = await self._index.table()
        first = table.page_for(outer)
        order = EntryOrder.beginning_at(table.rows[first].first) if outer else EntryOrder()
        for number in range(first, len(table)):
            entries = await self._index.parsed(number, order)
            inside = [self._inner(entry) for entry in entries if _is_in(entry.path, outer)]
            if inside:
                yield inside
            if _is_behind(entries[-1].path, outer):
                return

    async def open(self, wanted: Entry | bytes) -> RemoteFile:
        """A file of this folder, to read any part of.

        :param wanted: its path, or its entry as this folder has told it.
        :raises NotFound: there is nothing at this path.
        :raises UsageError: it is a folder or a symbolic link.
        """
        entry = await self.find(wanted) if isinstance(wanted, bytes) else wanted
        if entry.kind is not EntryKind.FILE:
            what = "a folder" if entry.kind is EntryKind.DIRECTORY else "a symbolic link"
            raise UsageError(f"{shown(entry.path)} is {what}, and not a file.")
        return RemoteFile(self._content, name_text(entry.name), entry.offset, entry.size)

    async def read_entry(self, entry: Entry, offset: int, length: int) -> bytes:
        """Bytes of a file, as `RemoteFile.read_at` gives them. Files that are read one after another are fetched ahead
        as one.
        """
        return await self._plaintext.read_at(entry.offset + offset, max(0, min(length, entry.size - offset)))

    async def folder(self, path: bytes) -> "RemoteFolder":
        """A folder of this folder.

        :raises NotFound: there is no folder at this path.
        """
        entry = await self._found(self._outer(path))
        if entry.kind is not EntryKind.DIRECTORY:
            raise NotFound(f"{shown(path)} is not a folder.")
        return RemoteFolder(self._content, self._index, self._name, entry)

    # --- paths of this folder, and of the whole that was published

    def _outer(self, path: bytes) -> bytes:
        if self._base is None:
            return path
        return self._base.path + b"/" + path if path else self._base.path

    def _inner(self, entry: Entry) -> Entry:
        return entry if self._base is None else replace(entry, path=entry.path[len(self._base.path) + 1 :])

    async def _found(self, outer: bytes) -> Entry:
        table = await self._index.table()
        if outer and len(table):
            for entry in await self._index.page(table.page_for(outer)):
                if entry.path == outer:
                    return entry
        raise NotFound(f"There is no {shown(outer)} in this folder.")

    async def _folder_at(self, path: bytes) -> bytes:
        """The path in the whole of a folder at `path`."""
        outer = self._outer(path)
        if path and (await self._found(outer)).kind is not EntryKind.DIRECTORY:
            raise NotFound(f"{shown(path)} is not a folder.")
        return outer


def open_folder(content: RemoteContent) -> RemoteFolder:
    """The folder that a content is. NotFound where it is a plain file."""
    metadata = content.opened.metadata
    if metadata.folder is None:
        raise NotFound("This is a file and not a folder: there are no paths in it.")
    return RemoteFolder(content, FolderIndex(content, metadata.folder), metadata.name)


async def open_at(content: RemoteContent, path: bytes) -> RemoteFile | RemoteFolder:
    """What is at a path of a content; the whole of it at an empty one. Raises as `Node.open_remote`."""
    if not path and content.opened.metadata.folder is None:
        return RemoteFile(content, content.opened.metadata.name)
    root = open_folder(content)
    if not path:
        return root
    entry = await root.find(path)
    return await root.folder(path) if entry.kind is EntryKind.DIRECTORY else await root.open(entry)


def inner_path(path: object) -> bytes:
    """A path in a folder as its bytes. UsageError for what can be none."""
    if not isinstance(path, str | bytes):
        raise UsageError(f"A path in a folder is bytes or a str, and not of type {type(path).__name__}.")
    raw = os.fsencode(path) if isinstance(path, str) else path
    try:
        check_path(raw.rstrip(b"/"))
    except BadEntry as error:
        raise UsageError(f"That is not a path in a folder: {error}.") from error
    return raw.rstrip(b"/")


def _is_in(path: bytes, folder: bytes) -> bool:
    return not folder or path.startswith(folder + b"/")


def _is_behind(path: bytes, folder: bytes) -> bool:
    """Whether a path comes after all that is in a folder."""
    return not _is_in(path, folder) and order_key(path) > order_key(folder)
