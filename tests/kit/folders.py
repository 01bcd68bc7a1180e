"""Folders as data: random trees, their entries and their indexes."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from blake3 import blake3
from hypothesis import strategies as st

from shoal.node.folders.entries import MAX_TARGET_BYTES, Entry, EntryKind, order_key
from shoal.node.folders.index import IndexSummary, IndexWriter, PageTable, parse_page

_names = st.one_of(
    st.sampled_from([b"a", b"b", b"a.b", b"a b", b"\xff\xfe", b"new\nline", b"\x1b[31m", b"...", b"n" * 255, b"\x01"]),
    st.binary(min_size=1, max_size=12).map(lambda name: name.replace(b"/", b"_").replace(b"\0", b"_")),
).filter(lambda name: name not in (b".", b".."))
_times = st.integers(-(2**63), 2**63 - 1)


@dataclass(frozen=True)
class Index:
    """An index that was written."""

    pages: list[bytes]
    table: bytes
    summary: IndexSummary

    def read(self) -> list[Entry]:
        """All its entries, with every rule checked that a reader of the whole index checks."""
        table = PageTable.parse(self.table, self.summary)
        entries: list[Entry] = []
        for number, page in enumerate(self.pages):
            entries += parse_page(page, table, number)
        return entries


def write_index(entries: Iterable[Entry]) -> Index:
    """The index of entries that are in order."""
    writer = IndexWriter()
    for entry in entries:
        writer.add(entry)
    (*pages, table), summary = writer.finish()
    return Index(pages, table, summary)


def in_place(entries: Iterable[Entry]) -> list[Entry]:
    """The entries in the order of an index, each with the offset that it has there."""
    placed, offset = [], 0
    for entry in sorted(entries, key=lambda entry: order_key(entry.path)):
        placed.append(replace(entry, offset=offset) if entry.kind is EntryKind.FILE else entry)
        offset += entry.size
    return placed


def file_entry(path: bytes, content: bytes = b"", *, executable: bool = False) -> Entry:
    """The entry of a file with this content."""
    digest = blake3(content).digest()
    return Entry(path, EntryKind.FILE, len(content), executable=executable, digest=digest)


def many_files(count: int, per_folder: int = 100) -> list[Entry]:
    """So many entries of files in numbered folders, with the folders, in order."""
    entries = [file_entry(b"folder %04d/file %06d" % (at // per_folder, at), b"x" * (at % 7)) for at in range(count)]
    folders = {entry.parent for entry in entries}
    return in_place([*entries, *(Entry(path, EntryKind.DIRECTORY) for path in folders)])


def _leaf(path: bytes) -> st.SearchStrategy[Entry]:
    file = st.builds(
        Entry,
        st.just(path),
        st.just(EntryKind.FILE),
        size=st.integers(0, 2**40),
        mtime_ns=_times,
        executable=st.booleans(),
        digest=st.binary(min_size=32, max_size=32),
    )
    link = st.builds(
        Entry,
        st.just(path),
        st.just(EntryKind.SYMLINK),
        mtime_ns=_times,
        target=st.binary(min_size=1, max_size=40).map(lambda target: target.replace(b"\0", b"/")[:MAX_TARGET_BYTES]),
    )
    return file | link


@st.composite
def trees(draw: st.DrawFn, most: int = 30) -> list[Entry]:
    """The entries of a folder, in order and with offsets."""
    folders, entries = [b""], dict[bytes, Entry]()
    for _ in range(draw(st.integers(0, most))):
        parent = draw(st.sampled_from(folders))
        path = b"/".join(filter(None, [parent, draw(_names)]))
        if path in entries or path.count(b"/") > 60:
            continue
        if draw(st.booleans()):
            entries[path] = Entry(path, EntryKind.DIRECTORY, mtime_ns=draw(_times))
            folders.append(path)
        else:
            entries[path] = draw(_leaf(path))
    return in_place(entries.values())
