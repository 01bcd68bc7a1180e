"""The index of a folder: pages of entries in order, and a table of the pages. Format: docs/format.md, "Folders".

Offsets are never written. They follow from lengths that are written once, so no index can have extents that overlap,
leave a gap or lie outside. A reader takes memory for the table and for one page at a time, whatever the index claims.
"""

import struct
from bisect import bisect_right
from typing import Any, NamedTuple

from blake3 import blake3

from shoal.node.folders.entries import (
    DIGEST_BYTES,
    BadEntry,
    Entry,
    EntryKind,
    EntryOrder,
    check_entry,
    check_path,
    order_key,
    shown,
)
from shoal.values import dataclass

INDEX_VERSION = 1
MAX_ENTRIES = 1_000_000
MAX_PAGE_BYTES = 65_536
MAX_INDEX_BYTES = 256 * 2**20  # pages and table: what a publisher keeps in memory at most
MAX_TABLE_BYTES = 8 * 2**20  # what a reader loads before it can look anything up
MAX_PAGES = 8_192  # full pages of the longest index are half as many

_ENTRY_HEAD = struct.Struct(">BH")  # kind, bytes of path
_TIME = struct.Struct(">q")
_FILE = struct.Struct(f">QB{DIGEST_BYTES}s")  # size, executable, digest
_LENGTH = struct.Struct(">H")  # of a target, of the path in a row
_ROW = struct.Struct(f">IIQ{DIGEST_BYTES}s")  # entries, bytes of page, bytes of contents, hash


class LaterIndex(BadEntry):
    """An index of a version that is unknown here."""


@dataclass(frozen=True, slots=True)
class IndexSummary:
    """What the metadata of a folder tells of its index.

    The plaintext is contents ‖ pages ‖ page table, so every offset follows from the lengths.

    :ivar content_bytes: the bytes of all files' contents. The index begins behind them.
    :ivar length: bytes of the index: pages and table.
    :ivar table_length: bytes of the table.
    :ivar table_hash: BLAKE3 of the table.
    :ivar entries: the entries on all pages.
    """

    content_bytes: int
    length: int
    table_length: int
    table_hash: bytes
    entries: int

    @property
    def offset(self) -> int:
        """Where the first page begins in the plaintext."""
        return self.content_bytes

    @property
    def table_offset(self) -> int:
        """Where the page table begins in the plaintext."""
        return self.content_bytes + self.length - self.table_length

    @property
    def size(self) -> int:
        """The size of the plaintext."""
        return self.content_bytes + self.length

    def fields(self) -> list[Any]:
        """The values that the metadata has. The bytes of contents are its size less the index."""
        return [INDEX_VERSION, self.length, self.table_length, self.table_hash, self.entries]

    @classmethod
    def of_fields(cls, fields: object, size: int) -> "IndexSummary":
        """The inverse of `fields`, for a plaintext of `size` bytes.

        Raises `LaterIndex` for a version that is unknown here, and `BadEntry` for values that cannot be.
        """
        if not isinstance(fields, list) or not fields or type(fields[0]) is not int or fields[0] < 1:
            raise BadEntry("a folder without a summary of its index")
        if fields[0] > INDEX_VERSION:
            raise LaterIndex(f"an index of version {fields[0]}")
        if len(fields) < 5:
            raise BadEntry("a summary that is cut short")
        _, length, table_length, table_hash, entries = fields[:5]
        if any(type(number) is not int for number in (length, table_length, entries)):
            raise BadEntry("a summary with a number that is none")
        if not isinstance(table_hash, bytes) or len(table_hash) != DIGEST_BYTES:
            raise BadEntry("a summary without the hash of the table")
        if not 0 <= table_length <= length <= min(size, MAX_INDEX_BYTES):
            raise BadEntry(f"an index of {length} bytes with a table of {table_length} in a folder of {size}")
        if table_length > MAX_TABLE_BYTES:
            raise BadEntry(f"a table of {table_length} bytes, more than {MAX_TABLE_BYTES}")
        if not 0 <= entries <= MAX_ENTRIES:
            raise BadEntry(f"{entries} entries, more than {MAX_ENTRIES}")
        return cls(size - length, length, table_length, table_hash, entries)


class Extent(NamedTuple):
    """Where a page lies in the plaintext, and the BLAKE3 of it."""

    offset: int
    length: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class PageRow:
    """What the table tells of one page."""

    first: bytes  # the path of its first entry
    entries: int
    extent: Extent
    content_offset: int  # where the contents of its first file begin
    content_bytes: int  # of all its files


class IndexWriter:
    """Writes an index from entries that come in order. It keeps the finished pages, up to `MAX_INDEX_BYTES`.

    With `measure` it keeps none, and tells the lengths of the index alone. They do not depend on times and digests.
    """

    def __init__(self, *, measure: bool = False) -> None:
        self._measure = measure
        self.content_bytes = 0
        self.entries = 0
        self._order = EntryOrder()
        self._pages: list[bytes] = []
        self._rows: list[bytes] = []
        self._bytes = 0  # of pages and rows, with the page that is being filled
        self._page = bytearray()
        self._first = b""
        self._page_entries = 0
        self._page_content = 0

    def add(self, entry: Entry) -> None:
        """Add the next entry. A file's `offset` is where the contents of those before end, `content_bytes`.

        Raises `BadEntry` for an entry that breaks a rule, and where the index would become too large.
        """
        check_entry(entry)
        self._order.check(entry)
        if entry.kind is EntryKind.FILE and entry.offset != self.content_bytes:
            raise BadEntry(f"contents at {entry.offset} instead of {self.content_bytes}: {shown(entry.path)}")
        packed = pack_entry(entry)
        if self._page_entries and len(self._page) + len(packed) > MAX_PAGE_BYTES:
            self._end_page()
        self.entries += 1
        self._bytes += len(packed)
        if self.entries > MAX_ENTRIES:
            raise BadEntry(f"more than {MAX_ENTRIES} entries")
        if not self._page_entries:
            self._first = entry.path
        self._page += packed
        self._page_entries += 1
        self._page_content += entry.size
        self.content_bytes += entry.size

    def _end_page(self) -> None:
        page = bytes(self._page)
        head = _LENGTH.pack(len(self._first)) + self._first
        row = head + _ROW.pack(self._page_entries, len(page), self._page_content, blake3(page).digest())
        self._pages.append(b"" if self._measure else page)
        self._rows.append(row)
        self._bytes += len(row)
        if self._bytes > MAX_INDEX_BYTES or len(self._pages) > MAX_PAGES:
            raise BadEntry(f"an index of more than {MAX_INDEX_BYTES} bytes")
        self._page = bytearray()
        self._page_entries = self._page_content = 0

    def finish(self) -> tuple[list[bytes], IndexSummary]:
        """The pages and behind them the table, which together are the index; and what the metadata says of it.

        Raises `BadEntry` where the index is too large.
        """
        if self._page_entries:
            self._end_page()
        table = b"".join(self._rows)
        if len(table) > MAX_TABLE_BYTES:
            raise BadEntry(f"a table of more than {MAX_TABLE_BYTES} bytes")
        summary = IndexSummary(self.content_bytes, self._bytes, len(table), blake3(table).digest(), self.entries)
        return [*self._pages, table], summary


class PageTable:
    """The pages of an index: where each lies, and which paths are on it."""

    def __init__(self, rows: list[PageRow]) -> None:
        self.rows = rows
        self._keys = [order_key(row.first) for row in rows]

    @classmethod
    def parse(cls, data: bytes, summary: IndexSummary) -> "PageTable":
        """Raises `BadEntry` unless this is the table of such an index, and breaks no rule."""
        if len(data) != summary.table_length or blake3(data).digest() != summary.table_hash:
            raise BadEntry("a page table that is not the one of its folder")
        rows: list[PageRow] = []
        at, entries, offset, content = 0, 0, summary.offset, 0
        while at < len(data):
            row, at = _read_row(data, at, offset, content)
            if rows and order_key(row.first) <= order_key(rows[-1].first):
                raise BadEntry(f"pages not in order: {shown(row.first)}")
            rows.append(row)
            entries += row.entries
            offset += row.extent.length
            content += row.content_bytes
            if len(rows) > MAX_PAGES:
                raise BadEntry(f"more than {MAX_PAGES} pages")
        if (entries, offset, content) != (summary.entries, summary.table_offset, summary.content_bytes):
            raise BadEntry("a page table that does not add up to its folder")
        return cls(rows)

    def __len__(self) -> int:
        return len(self.rows)

    def page_for(self, path: bytes) -> int:
        """The number of the page that this path is on, if it is anywhere; 0 for a path before all others."""
        return max(0, bisect_right(self._keys, order_key(path)) - 1)

    def page_past(self, path: bytes) -> int:
        """The number of the last page that may have something of this directory. What comes behind the directory is on
        it too, or begins the next one. Pages between `page_for` and this one have nothing but what is in it."""
        return max(0, bisect_right(self._keys, order_key(path) + b"\1") - 1)

    def extent(self, page: int) -> Extent:
        """Where a page lies."""
        return self.rows[page].extent


def _read_row(data: bytes, at: int, offset: int, content: int) -> tuple[PageRow, int]:
    """The row at `at`, and where the next one begins."""
    try:
        (path_bytes,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size
        path = data[at : at + path_bytes]
        at += path_bytes
        entries, length, content_bytes, page_hash = _ROW.unpack_from(data, at)
    except struct.error:
        raise BadEntry("a page table that is cut short") from None
    check_path(path)
    if not entries or not 0 < length <= MAX_PAGE_BYTES:
        raise BadEntry(f"a page of {length} bytes with {entries} entries: {shown(path)}")
    return PageRow(path, entries, Extent(offset, length, page_hash), content, content_bytes), at + _ROW.size


def parse_page(data: bytes, table: PageTable, page: int, order: EntryOrder | None = None) -> list[Entry]:
    """The entries of a page, each with its offset.

    All rules are checked that page and table can show. A reader of pages one after another gives the same `order` to
    all: then it is also checked that whatever an entry lies in is a directory. Raises `BadEntry`.
    """
    row = table.rows[page]
    if len(data) != row.extent.length or blake3(data).digest() != row.extent.hash:
        raise BadEntry(f"a page that is not the one of its folder: {shown(row.first)}")
    order = order or EntryOrder.beginning_at(row.first)
    entries: list[Entry] = []
    at, offset = 0, row.content_offset
    while at < len(data):
        entry, at = unpack_entry(data, at, offset)
        order.check(entry)
        entries.append(entry)
        offset += entry.size
    if len(entries) != row.entries or offset != row.content_offset + row.content_bytes:
        raise BadEntry(f"a page that does not add up to its row: {shown(row.first)}")
    if entries[0].path != row.first:
        raise BadEntry(f"a page that begins with another path than its row: {shown(row.first)}")
    if page + 1 < len(table) and order_key(entries[-1].path) >= order_key(table.rows[page + 1].first):
        raise BadEntry(f"a page that goes on beyond the next one: {shown(entries[-1].path)}")
    return entries


def pack_entry(entry: Entry) -> bytes:
    """One entry as it stands on a page."""
    packed = _ENTRY_HEAD.pack(entry.kind, len(entry.path)) + entry.path + _TIME.pack(entry.mtime_ns)
    if entry.kind is EntryKind.FILE:
        return packed + _FILE.pack(entry.size, entry.executable, entry.digest)
    if entry.kind is EntryKind.SYMLINK:
        return packed + _LENGTH.pack(len(entry.target)) + entry.target
    return packed


def unpack_entry(data: bytes, at: int, offset: int) -> tuple[Entry, int]:
    """The entry at `at` of a page, whose contents would begin at `offset`, and where the next one begins.

    Raises `BadEntry` for bytes that `pack_entry` does not make.
    """
    try:
        kind, path_bytes = _ENTRY_HEAD.unpack_from(data, at)
        at += _ENTRY_HEAD.size
        path = data[at : at + path_bytes]
        at += path_bytes
        (mtime_ns,) = _TIME.unpack_from(data, at)
        at += _TIME.size
        if kind == EntryKind.FILE:
            size, executable, digest = _FILE.unpack_from(data, at)
            at += _FILE.size
            if executable > 1:
                raise BadEntry(f"an executable bit of {executable}: {shown(path)}")
            entry = Entry(path, EntryKind.FILE, size, offset, mtime_ns, bool(executable), digest)
        elif kind == EntryKind.DIRECTORY:
            entry = Entry(path, EntryKind.DIRECTORY, mtime_ns=mtime_ns)
        elif kind == EntryKind.SYMLINK:
            (target_bytes,) = _LENGTH.unpack_from(data, at)
            at += _LENGTH.size
            target = data[at : at + target_bytes]
            at += target_bytes
            if at > len(data):
                raise BadEntry(f"a page that is cut short: {shown(path)}")
            entry = Entry(path, EntryKind.SYMLINK, mtime_ns=mtime_ns, target=target)
        else:
            raise BadEntry(f"an entry of kind {kind}: {shown(path)}")
    except struct.error:
        raise BadEntry("a page that is cut short") from None
    check_entry(entry)
    return entry, at
