"""Indexes that no honest publisher writes. All their hashes and sums are right, but for what each is about.

They are built from docs/format.md alone, so that nothing in the library keeps them from being wrong.
"""

import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from blake3 import blake3
from hypothesis import strategies as st

from kit.folders import trees
from shoal.node.folders.entries import Entry, EntryKind, EntryOrder
from shoal.node.folders.index import IndexSummary, PageTable, parse_page

_TIME = struct.pack(">q", 1_700_000_000_000_000_000)


class Raw(NamedTuple):
    """One entry as bytes. `path` and `size` are what an honest row would say of it."""

    data: bytes
    path: bytes
    size: int = 0


class RawRow(NamedTuple):
    """One row of a table, before it becomes bytes."""

    path: bytes
    entries: int
    length: int
    contents: int
    page_hash: bytes

    def pack(self) -> bytes:
        """The row as bytes."""
        head = struct.pack(">H", len(self.path)) + self.path
        return head + struct.pack(">IIQ", self.entries, self.length, self.contents) + self.page_hash


@dataclass(frozen=True)
class Forged:
    """An index as a hostile publisher writes it: pages, table, the fields in the metadata, the size in the metadata."""

    pages: tuple[bytes, ...]
    table: bytes
    fields: list[Any]
    size: int

    @property
    def content_bytes(self) -> int:
        """The bytes of contents that stand before the index."""
        length: int = self.fields[1]
        return self.size - length

    def read(self) -> list[Entry]:
        """All entries, as a reader of the whole index finds them. Raises `BadEntry`."""
        summary = IndexSummary.of_fields(self.fields, self.size)
        table = PageTable.parse(self.table, summary)
        order, entries = EntryOrder(), list[Entry]()
        for number, page in enumerate(self.pages):
            entries += parse_page(page, table, number, order)
        return entries


def raw_file(path: bytes, size: int = 0, *, executable: int = 0, digest: bytes = bytes(32)) -> Raw:
    """A file."""
    head = struct.pack(">BH", 0, len(path)) + path + _TIME
    return Raw(head + struct.pack(">QB", size, executable) + digest, path, size)


def raw_directory(path: bytes) -> Raw:
    """A directory."""
    return Raw(struct.pack(">BH", 1, len(path)) + path + _TIME, path)


def raw_link(path: bytes, target: bytes) -> Raw:
    """A symbolic link."""
    return Raw(struct.pack(">BH", 2, len(path)) + path + _TIME + struct.pack(">H", len(target)) + target, path)


def raw(entry: Entry) -> Raw:
    """An entry as it is."""
    head = struct.pack(">BH", entry.kind, len(entry.path)) + entry.path + struct.pack(">q", entry.mtime_ns)
    match entry.kind:
        case EntryKind.FILE:
            return Raw(head + struct.pack(">QB", entry.size, entry.executable) + entry.digest, entry.path, entry.size)
        case EntryKind.DIRECTORY:
            return Raw(head, entry.path)
        case EntryKind.SYMLINK:
            return Raw(head + struct.pack(">H", len(entry.target)) + entry.target, entry.path)


def page_of(entries: Iterable[Raw]) -> bytes:
    """The bytes of a page."""
    return b"".join(entry.data for entry in entries)


def row_of(entries: Sequence[Raw]) -> RawRow:
    """The row of a page with these entries."""
    page = page_of(entries)
    contents = sum(entry.size for entry in entries)
    return RawRow(entries[0].path, len(entries), len(page), contents, blake3(page).digest())


def forge(
    *pages: Sequence[Raw],
    change_rows: Callable[[list[RawRow]], list[RawRow]] = lambda rows: rows,
    table: Callable[[bytes], bytes] = lambda table: table,
    fields: Callable[[list[Any]], list[Any]] = lambda fields: fields,
    more_contents: int = 0,
) -> Forged:
    """An index of these pages; rows, table and fields may be changed before what is behind them is made of them."""
    rows = change_rows([row_of(page) for page in pages])
    packed = table(b"".join(row.pack() for row in rows))
    length = sum(len(page_of(page)) for page in pages) + len(packed)
    entries = sum(row.entries for row in rows)
    contents = sum(row.contents for row in rows) + more_contents
    told = fields([1, length, len(packed), blake3(packed).digest(), entries])
    return Forged(tuple(map(page_of, pages)), packed, told, contents + length)


FILE, DIRECTORY = raw_file(b"b", 5), raw_directory(b"a")
GOOD = [DIRECTORY, raw_file(b"a/b", 7), FILE]


def _deep(names: int) -> list[Raw]:
    paths = [b"/".join([b"d"] * at) for at in range(1, names + 1)]
    return [*map(raw_directory, paths[:-1]), raw_file(paths[-1])]


def _row(number: int = 0, **changes: Any) -> Callable[[list[RawRow]], list[RawRow]]:
    """Change one row."""
    return lambda rows: [row._replace(**changes) if at == number else row for at, row in enumerate(rows)]


def _field(number: int, value: Any) -> Callable[[list[Any]], list[Any]]:
    """Change one field of the metadata."""
    return lambda fields: [value if at == number else field for at, field in enumerate(fields)]


def hand_made() -> dict[str, Forged]:
    """Indexes that break one rule each, by the name of what they do."""
    return {**_of_paths(), **_of_order(), **_of_entries(), **_of_rows(), **_of_summaries()}


def _of_paths() -> dict[str, Forged]:
    a = DIRECTORY
    return {
        "a path without a name": forge([raw_file(b"")]),
        "the name .": forge([raw_file(b".")]),
        "the name ..": forge([raw_file(b"..")]),
        "up and out": forge([a, raw_file(b"a/../../etc/passwd")]),
        "a directory ..": forge([raw_directory(b".."), raw_file(b"../b")]),
        "an absolute path": forge([raw_file(b"/etc/passwd")]),
        "a slash at the end": forge([raw_directory(b"a/")]),
        "two slashes": forge([a, raw_file(b"a//b")]),
        "a zero byte": forge([raw_file(b"a\0b")]),
        "a name of 256 bytes": forge([raw_file(b"n" * 256)]),
        "a path of 4,097 bytes": forge([raw_file(b"/".join([*[b"n" * 240] * 16, b"n" * 241]))]),
        "65 names": forge(_deep(65)),
    }


def _of_order() -> dict[str, Forged]:
    a = DIRECTORY
    return {
        "a file in a file": forge([raw_file(b"a"), raw_file(b"a/b")]),
        "a file in a link": forge([raw_link(b"a", b"/tmp"), raw_file(b"a/b")]),
        "a file in nothing": forge([raw_file(b"a/b")]),
        "a directory in nothing": forge([a, raw_directory(b"a/b/c")]),
        "a directory after what is in it": forge([raw_file(b"a/b"), a]),
        "a directory that was left": forge([a, raw_file(b"b"), raw_file(b"a/c")]),
        "one path twice": forge([FILE, FILE]),
        "a link and a directory of one path": forge([raw_link(b"a", b"/tmp"), a, raw_file(b"a/b")]),
        "not in order": forge([raw_file(b"c"), raw_file(b"b")]),
        "in the order of paths": forge([a, raw_file(b"a.b"), raw_file(b"a/b")]),
        "a page in a file": forge([raw_file(b"a")], [raw_file(b"a/b")]),
        "a page in a link": forge([raw_link(b"a", b"/tmp")], [raw_file(b"a/b")]),
        "a page that goes on beyond the next": forge([raw_file(b"a"), raw_file(b"c")], [raw_file(b"b")]),
        "pages in the wrong order": forge([raw_file(b"b")], [raw_file(b"a")]),
        "one page twice": forge([FILE], [FILE]),
    }


def _of_entries() -> dict[str, Forged]:
    link = raw_link(b"b", b"x" * 4096)
    return {
        "a kind that is none": forge([Raw(b"\3" + FILE.data[1:], b"b", 5)]),
        "an executable bit of 2": forge([raw_file(b"b", 5, executable=2)]),
        "a file of 2^63 bytes": forge([raw_file(b"b", 2**63)], change_rows=_row(contents=5)),
        "a digest that is cut short": forge([Raw(FILE.data[:-1], b"b", 5)]),
        "a path beyond the page": forge([Raw(struct.pack(">BH", 0, 500) + b"b", b"b")]),
        "a length beyond the page": forge([FILE, Raw(b"\0\1", b"")]),
        "a byte behind the last entry": forge([FILE, Raw(b"\0", b"")], change_rows=_row(entries=1)),
        "a link to nowhere": forge([raw_link(b"b", b"")]),
        "a target with a zero byte": forge([raw_link(b"b", b"a\0b")]),
        "a target of 4,096 bytes": forge([link]),
        "a target beyond the page": forge([Raw(link.data[:-1], b"b")]),
    }


def _of_rows() -> dict[str, Forged]:
    def wrapped(rows: list[RawRow]) -> list[RawRow]:
        first, second = rows
        return [first._replace(contents=2**64 - 1), second._replace(contents=second.contents + 1)]

    return {
        "contents beyond the contents": forge([raw_file(b"b", 500)], change_rows=_row(contents=5)),
        "contents that leave a gap": forge([FILE], change_rows=_row(contents=500)),
        "contents that nobody has": forge(GOOD, more_contents=500),
        "contents that are not there": forge(GOOD, more_contents=-1),
        "contents that wrap around": forge([DIRECTORY], [FILE], change_rows=wrapped, more_contents=-(2**64)),
        "another page than the one hashed": forge(GOOD, change_rows=_row(page_hash=bytes(32))),
        "a page of no bytes": forge(GOOD, change_rows=lambda rows: [*rows, RawRow(b"c", 1, 0, 0, blake3().digest())]),
        "a page of no entries": forge(GOOD, change_rows=_row(entries=0)),
        "a page of more entries": forge(GOOD, change_rows=_row(entries=4)),
        "a page of fewer entries": forge(GOOD, change_rows=_row(entries=2)),
        "a page of more than 65,536 bytes": forge([raw_directory(b"%03d" % at + b"n" * 250) for at in range(254)]),
        "a row with another path": forge(GOOD, change_rows=_row(path=b"0")),
        "a row with a bad path": forge(GOOD, change_rows=_row(path=b"../a")),
        "a row that is cut short": forge(GOOD, table=lambda table: table[:-1]),
        "a row of a length alone": forge(GOOD, table=lambda table: table + b"\0"),
        "a page without a row": forge(GOOD, [raw_file(b"c")], change_rows=lambda rows: rows[:1]),
        "a row without a page": forge(GOOD, change_rows=lambda rows: [*rows, row_of([raw_file(b"c")])]),
    }


def _of_summaries() -> dict[str, Forged]:
    whole = forge(GOOD)
    length, table_length = whole.fields[1:3]
    return {
        "another table than the one hashed": forge(GOOD, fields=_field(3, bytes(32))),
        "more entries than the rows have": forge(GOOD, fields=_field(4, 4)),
        "fewer entries than the rows have": forge(GOOD, fields=_field(4, 2)),
        "more than 1,000,000 entries": forge(GOOD, fields=_field(4, 1_000_001)),
        "an index longer than the folder": forge(GOOD, fields=_field(1, length + 13)),
        "an index shorter than its table": forge(GOOD, fields=_field(1, table_length - 1)),
        "an index of more than 256 MiB": replace(whole, fields=_field(1, 2**28 + 1)(whole.fields), size=2**30),
        "a table of more than 8 MiB": replace(whole, fields=[1, 2**28, 2**23 + 1, *whole.fields[3:]], size=2**30),
        "a table of fewer bytes than nothing": forge(GOOD, fields=_field(2, -1)),
        "a summary of version 0": forge(GOOD, fields=_field(0, 0)),
        "no entries, and contents": forge(more_contents=5),
    }


Break = Callable[[st.DrawFn, list[Raw]], Forged]


def _at(draw: st.DrawFn, entries: list[Raw]) -> int:
    return draw(st.integers(0, len(entries) - 1))


def _with(entries: list[Raw], at: int, *others: Raw) -> Forged:
    """The index with other entries in the place of one."""
    return forge([*entries[:at], *others, *entries[at + 1 :]])


def _bad_path(draw: st.DrawFn, entries: list[Raw]) -> Forged:
    parts = (b"..", b".", b"", b"a\0", b"n" * 256)
    at, bad = _at(draw, entries), draw(st.sampled_from(parts))
    head = draw(st.sampled_from([b"", entries[at].path + b"/"]))
    tail = draw(st.sampled_from([b"", b"/x"]))
    make = draw(st.sampled_from([raw_file, raw_directory, lambda path: raw_link(path, b"x")]))
    return _with(entries, at, entries[at], make(head + bad + tail))


def _twice(draw: st.DrawFn, entries: list[Raw]) -> Forged:
    at = _at(draw, entries)
    make = draw(st.sampled_from([raw_file, raw_directory, lambda path: raw_link(path, b"/tmp")]))
    return _with(entries, at, entries[at], make(entries[at].path))


def _turned_round(draw: st.DrawFn, entries: list[Raw]) -> Forged:
    return forge([raw_file(b"zz"), *reversed(entries)] if len(entries) == 1 else [*reversed(entries)])


def _in_no_directory(draw: st.DrawFn, entries: list[Raw]) -> Forged:
    at = _at(draw, entries)
    path = entries[at].path
    what = draw(st.sampled_from([raw_file(path), raw_link(path, b"/tmp"), raw_link(path, b".")]))
    return _with(entries[: at + 1], at, what, raw_file(path + b"/x"))


def _row_changed(draw: st.DrawFn, entries: list[Raw]) -> Forged:
    honest = row_of(entries)
    changes: list[dict[str, Any]] = [
        {"entries": honest.entries + draw(st.integers(1, 100))},
        {"entries": honest.entries - 1},
        {"contents": honest.contents + draw(st.integers(1, 2**40))},
        {"page_hash": draw(st.binary(min_size=32, max_size=32))},
        {"path": honest.path + b"x"},
        {"length": honest.length + draw(st.integers(1, 100))},
    ]
    return forge(entries, change_rows=_row(**draw(st.sampled_from(changes))))


def _cut_short(draw: st.DrawFn, entries: list[Raw]) -> Forged:
    last = entries[-1]
    kept = draw(st.integers(1, len(last.data) - 1))
    return _with(entries, len(entries) - 1, last._replace(data=last.data[:kept]))


def _summary_changed(draw: st.DrawFn, entries: list[Raw]) -> Forged:
    number = draw(st.integers(1, 4))
    honest = forge(entries).fields[number]
    wrong: Any = st.integers(-(2**63), 2**63 - 1) if number != 3 else st.binary(min_size=32, max_size=32)
    return forge(entries, fields=_field(number, draw(wrong.filter(lambda value: value != honest))))


def _contents_changed(draw: st.DrawFn, entries: list[Raw]) -> Forged:
    return forge(entries, more_contents=draw(st.integers(1, 2**40)))


BREAKS: tuple[Break, ...] = (
    _bad_path,
    _twice,
    _turned_round,
    _in_no_directory,
    _row_changed,
    _cut_short,
    _summary_changed,
    _contents_changed,
)


@st.composite
def hostile_indexes(draw: st.DrawFn) -> Forged:
    """The index of a random tree with one rule broken somewhere."""
    entries = [raw(entry) for entry in draw(trees(12))] or [FILE]
    return draw(st.sampled_from(BREAKS))(draw, entries)


@st.composite
def changed_indexes(draw: st.DrawFn) -> Forged:
    """The index of a random tree with any bytes changed on its page, and all hashes right again. It may be good."""
    page = bytearray(page_of([raw(entry) for entry in draw(trees(8))] or [FILE]))
    for _ in range(draw(st.integers(1, 3))):
        page[draw(st.integers(0, len(page) - 1))] = draw(st.integers(0, 255))
    data = bytes(page)
    first = data[3 : 3 + int.from_bytes(data[1:3], "big")]
    contents = draw(st.integers(0, 2**41))
    return forge([Raw(data, first, contents)], change_rows=_row(entries=draw(st.integers(1, 9))))
