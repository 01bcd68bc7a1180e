"""Folders as data: random trees, their entries and their indexes, and small ones on disk."""

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from blake3 import blake3
from hypothesis import strategies as st

from shoal.erasure import Link
from shoal.node import Node
from shoal.node.fetching.fetch import open_file, open_stream
from shoal.node.fingerprints import Fingerprint
from shoal.node.folders.entries import MAX_TARGET_BYTES, Entry, EntryKind, order_key
from shoal.node.folders.index import IndexSummary, IndexWriter, PageTable, parse_page
from shoal.node.folders.tree import Tree, Walked, sort_walked

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


def tree_of(root: Path, name: str | None = None) -> Tree:
    """The tree of everything below a directory, as a walk with no choices finds it."""
    found: list[Walked] = []
    for folder, folders, files in os.walk(os.fsencode(root)):
        for entry in (*folders, *files):
            where = os.path.join(folder, entry)
            found.append(_walked(os.path.relpath(where, os.fsencode(root)), os.fsencode(root), os.lstat(where)))
    sort_walked(found)
    return Tree(found, [str(root.absolute())], root.name if name is None else name)


def _walked(path: bytes, root: bytes, status: os.stat_result) -> Walked:
    told = Fingerprint.of(status)
    if stat.S_ISDIR(status.st_mode):
        return Walked(path, EntryKind.DIRECTORY, root, told)
    if stat.S_ISLNK(status.st_mode):
        return Walked(path, EntryKind.SYMLINK, root, told, target=os.readlink(os.path.join(root, path)))
    return Walked(path, EntryKind.FILE, root, told, executable=bool(status.st_mode & 0o100))


def make_files(root: Path, contents: dict[str, bytes]) -> None:
    """Write files below a directory, and the directories they are in."""
    for path, content in contents.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)


async def read_folder(node: Node, link: Link) -> dict[Entry, bytes]:
    """Every entry of a folder as a reader of its whole plaintext finds it, each file with its contents."""
    await node.wait_joined()
    opened = await open_file(node.context, link)
    summary = opened.metadata.folder
    if summary is None:
        raise AssertionError("no folder")
    async with open_stream(node.context, opened) as stream:
        plaintext = b"".join([chunk async for chunk in stream])
    table = PageTable.parse(plaintext[summary.table_offset :], summary)
    found: dict[Entry, bytes] = {}
    for number in range(len(table)):
        at, length, _ = table.extent(number)
        for entry in parse_page(plaintext[at : at + length], table, number):
            found[entry] = plaintext[entry.offset : entry.offset + entry.size]
    return found
