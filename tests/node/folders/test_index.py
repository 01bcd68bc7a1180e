"""An index reads back as it was written, one page at a time, and a hostile one is refused."""

import tracemalloc
from dataclasses import replace

import pytest
from hypothesis import given

from kit.folders import Index, file_entry, in_place, many_files, trees, write_index
from kit.hostile_indexes import (
    GOOD,
    Forged,
    changed_indexes,
    forge,
    hand_made,
    hostile_indexes,
    raw_directory,
    raw_file,
    raw_link,
    row_of,
)
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


# --- what a hostile publisher writes


def test_indexes_by_the_page_alone_are_read() -> None:
    """Those that break no rule, or the hostile ones would prove nothing."""
    assert [entry.path for entry in forge(GOOD).read()] == [b"a", b"a/b", b"b"]
    parts = [raw_directory(b"a"), raw_link(b"a/b", b"../.."), raw_file(b"b", 9, executable=1)]
    assert len(forge(parts[:1], parts[1:]).read()) == 3
    assert forge().read() == []


@pytest.mark.parametrize("name", hand_made())
def test_a_hand_made_hostile_index_is_refused(name: str) -> None:
    with pytest.raises(BadEntry) as caught:
        hand_made()[name].read()
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 250


@given(hostile_indexes())
def test_a_broken_rule_is_refused(index: Forged) -> None:
    with pytest.raises(BadEntry):
        index.read()


@given(changed_indexes())
def test_changed_bytes_are_refused_or_are_what_a_writer_writes(index: Forged) -> None:
    try:
        entries = index.read()
    except BadEntry:
        return
    written = write_index(entries)
    assert (written.pages, written.table, written.summary.fields()) == ([*index.pages], index.table, index.fields)


def test_a_table_of_too_many_pages_is_refused() -> None:
    pages = [[raw_file(b"%05d" % number)] for number in range(limits.MAX_PAGES + 1)]
    assert len(forge(*pages[:-1]).read()) == limits.MAX_PAGES
    with pytest.raises(BadEntry, match="more than 8192 pages"):
        forge(*pages).read()


def test_memory_stays_small_whatever_an_index_claims() -> None:
    """The largest page and the largest table, filled with what takes most room as objects."""
    directories = [raw_directory(b"%c%c" % (at // 200 + 50, at % 200 + 50)) for at in range(65_536 // 13)]
    page = forge(directories)
    rows = [row_of([raw_file(b"%04d" % at)]) for at in range(limits.MAX_PAGES)]
    table = forge(change_rows=lambda _: [row._replace(path=row.path + (b"/" + b"n" * 240) * 4) for row in rows])
    assert 8_300_000 < len(table.table) < limits.MAX_TABLE_BYTES
    tracemalloc.start()
    assert len(page.read()) > 5_000
    assert tracemalloc.get_traced_memory()[1] < 3 * 2**20
    tracemalloc.reset_peak()
    with pytest.raises(BadEntry, match="add up"):
        table.read()
    assert tracemalloc.get_traced_memory()[1] < 24 * 2**20
    tracemalloc.stop()
