"""An index reads back as it was written, one page at a time, and a hostile one is refused."""

from dataclasses import replace

import pytest
from hypothesis import given

from kit.folders import Index, file_entry, in_place, many_files, trees, write_index
from shoal.node.folders import index as limits
from shoal.node.folders.entries import BadEntry, Entry, EntryKind, EntryOrder
from shoal.node.folders.index import MAX_PAGE_BYTES, IndexSummary, IndexWriter, LaterIndex, PageTable, parse_page


@given(trees())
def test_an_index_reads_back(entries: list[Entry]) -> None:
    index = write_index(entries)
    assert index.read() == entries
    assert index.summary.content_bytes == sum(entry.size for entry in entries)
    assert index.summary.length == sum(map(len, index.pages)) + len(index.table)
    assert IndexSummary.of_fields(index.summary.fields(), index.summary.size) == index.summary


def test_an_empty_folder_has_an_empty_index() -> None:
    index = write_index([])
    assert (index.pages, index.table, index.summary.size) == ([], b"", 0)
    assert index.read() == []
    assert len(PageTable.parse(b"", index.summary)) == 0


def test_a_large_index_is_read_page_by_page() -> None:
    entries = many_files(20_000)
    index = write_index(entries)
    table = PageTable.parse(index.table, index.summary)
    assert len(table) == len(index.pages) > 20
    assert all(len(page) <= MAX_PAGE_BYTES for page in index.pages)
    offset, order, seen = index.summary.offset, EntryOrder(), list[Entry]()
    for number, page in enumerate(index.pages):
        assert table.extent(number)[:2] == (offset, len(page))
        offset += len(page)
        alone = parse_page(page, table, number)
        assert parse_page(page, table, number, order) == alone
        assert {table.page_for(entry.path) for entry in alone} == {number}
        seen += alone
    assert seen == entries
    assert offset == index.summary.table_offset


def test_a_directory_is_found_with_no_more_than_its_pages() -> None:
    index = write_index(many_files(20_000, per_folder=2_000))
    table = PageTable.parse(index.table, index.summary)
    pages = [parse_page(page, table, number) for number, page in enumerate(index.pages)]
    for folder in (b"folder %04d" % number for number in range(10)):
        holding = [
            number
            for number, page in enumerate(pages)
            if any(entry.path == folder or entry.path.startswith(folder + b"/") for entry in page)
        ]
        assert holding[0] == table.page_for(folder)
        assert holding[-1] == table.page_past(folder)
    assert table.page_for(b"\x01") == 0
    assert table.page_past(b"z") == len(table) - 1


def test_a_writer_refuses_what_a_reader_would() -> None:
    good = file_entry(b"b", b"content")
    for bad in (
        file_entry(b"a"),
        good,
        replace(file_entry(b"c"), offset=6),
        replace(file_entry(b"c"), offset=8),
        file_entry(b"c/d"),
        replace(file_entry(b"c"), offset=7, digest=b""),
    ):
        writer = IndexWriter()
        writer.add(good)
        with pytest.raises(BadEntry):
            writer.add(bad)


def test_a_writer_stops_where_readers_would(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = many_files(2_000)
    size = write_index(entries).summary
    for name, most in (
        ("MAX_ENTRIES", size.entries - 1),
        ("MAX_INDEX_BYTES", size.length - 1),
        ("MAX_TABLE_BYTES", size.table_length - 1),
        ("MAX_PAGES", 1),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(limits, name, most)
            with pytest.raises(BadEntry, match="more than"):
                write_index(entries)
            patch.setattr(limits, name, most + 1 if most > 1 else 8)
            write_index(entries)


def test_an_unknown_version_is_told_apart() -> None:
    with pytest.raises(LaterIndex, match="version 2"):
        IndexSummary.of_fields([2], 0)


def swapped(index: Index, page: int, data: bytes) -> Index:
    """The index with other bytes on one page, and everything else as it was."""
    return replace(index, pages=[data if at == page else each for at, each in enumerate(index.pages)])


def test_other_bytes_than_those_that_were_hashed_are_refused() -> None:
    index = write_index(many_files(2_000))
    changed = index.pages[1][:-1] + bytes([index.pages[1][-1] ^ 1])
    for bad in (changed, index.pages[0], index.pages[1][:-1], index.pages[1] + b"\0", b""):
        with pytest.raises(BadEntry, match="not the one"):
            swapped(index, 1, bad).read()
    for table in (index.table[:-1], index.table + b"\0", b"", bytes([index.table[0] ^ 1]) + index.table[1:]):
        with pytest.raises(BadEntry, match="not the one"):
            replace(index, table=table).read()


def test_a_directory_in_a_file_shows_when_pages_are_read_in_order() -> None:
    """A page alone cannot show what its first entry lies in. The same entries on two pages are refused together."""
    folder = Entry(b"a", EntryKind.DIRECTORY)
    long = [replace(file_entry(b"a/%04d" % at)) for at in range(2_000)]
    index = write_index(in_place([folder, *long]))
    table = PageTable.parse(index.table, index.summary)
    parse_page(index.pages[1], table, 1)
    with pytest.raises(BadEntry, match="not in a directory"):
        parse_page(index.pages[1], table, 1, EntryOrder())
