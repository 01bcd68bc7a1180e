"""Names, paths and order: what a folder may have in it, and nothing else."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.folders import file_entry, in_place, trees
from shoal.node.folders.entries import (
    BadEntry,
    Entry,
    EntryKind,
    EntryOrder,
    ancestors,
    check_entry,
    check_path,
    order_key,
    shown,
)


@pytest.mark.parametrize(
    "path",
    [
        b"",
        b"/",
        b"/a",
        b"a/",
        b"a//b",
        b".",
        b"..",
        b"a/../b",
        b"../a",
        b"a/.",
        b"a\0b",
        b"n" * 256,
        b"a/" + b"n" * 256,
        b"/".join([b"n"] * 65),
        b"/".join([b"n" * 254] * 16) + b"/" + b"n" * 17,
    ],
)
def test_bad_paths_are_refused(path: bytes) -> None:
    with pytest.raises(BadEntry):
        check_path(path)


@pytest.mark.parametrize(
    "path",
    [
        b"a",
        b"...",
        b"..a",
        b"a/b c/d",
        b"\xff\n\x1b",
        b"n" * 255,
        b"/".join([b"n"] * 64),
        b"/".join([b"n" * 254] * 16) + b"/" + b"n" * 16,
    ],
)
def test_odd_paths_are_taken(path: bytes) -> None:
    check_path(path)
    assert [*ancestors(path), path] == [b"/".join(path.split(b"/")[: at + 1]) for at in range(path.count(b"/") + 1)]


GOOD = file_entry(b"a/b", b"content")
LINK = Entry(b"a/c", EntryKind.SYMLINK, target=b"../elsewhere")
FOLDER = Entry(b"a", EntryKind.DIRECTORY, mtime_ns=-1)


@pytest.mark.parametrize(
    "entry",
    [
        replace(GOOD, size=-1),
        replace(GOOD, size=2**63),
        replace(GOOD, offset=2**63),
        replace(GOOD, mtime_ns=2**63),
        replace(GOOD, mtime_ns=-(2**63) - 1),
        replace(GOOD, digest=b""),
        replace(GOOD, digest=bytes(33)),
        replace(GOOD, target=b"x"),
        replace(FOLDER, size=1),
        replace(FOLDER, offset=1),
        replace(FOLDER, executable=True),
        replace(FOLDER, digest=bytes(32)),
        replace(FOLDER, target=b"x"),
        replace(LINK, target=b""),
        replace(LINK, target=b"x" * 4096),
        replace(LINK, target=b"a\0b"),
        replace(LINK, size=1),
    ],
)
def test_fields_that_cannot_be_are_refused(entry: Entry) -> None:
    for good in (GOOD, LINK, FOLDER):
        check_entry(good)
    with pytest.raises(BadEntry):
        check_entry(entry)


@pytest.mark.parametrize(
    ("paths", "words"),
    [
        ([b"a", b"a"], "twice"),
        ([b"b", b"a"], "not in order"),
        ([b"a/", b"a.b", b"a/c"], "not in order"),
        ([b"a/b"], "not in a directory"),
        ([b"a", b"a/b"], "not in a directory"),
        ([b"a/", b"a/b", b"a/b/c"], "not in a directory"),
        ([b"a/", b"a/b/", b"a/c", b"ab/c"], "not in a directory"),
        ([b"a/", b"a/b/c"], "not in a directory"),
    ],
)
def test_what_may_not_follow_is_refused(paths: list[bytes], words: str) -> None:
    """A path that ends with a slash stands for a directory here."""
    entries = [Entry(path[:-1], EntryKind.DIRECTORY) if path.endswith(b"/") else file_entry(path) for path in paths]
    with pytest.raises(BadEntry, match=words):
        check_all(EntryOrder(), entries)


def check_all(order: EntryOrder, entries: list[Entry]) -> None:
    for entry in entries:
        order.check(entry)


@given(trees(), st.data())
def test_order_is_by_names_and_can_be_checked_from_anywhere(entries: list[Entry], data: st.DataObject) -> None:
    assert [entry.path for entry in entries] == sorted((entry.path for entry in entries), key=lambda p: p.split(b"/"))
    check_all(EntryOrder(), entries)
    if entries:
        start = data.draw(st.integers(0, len(entries) - 1))
        check_all(EntryOrder.beginning_at(entries[start].path), entries[start:])
    assert in_place(entries) == entries


def test_a_path_in_a_message_is_escaped_and_short() -> None:
    assert shown(b"a\n\x1b[31m\xff") == "a\\n\\x1b[31m\\udcff"
    assert len(shown(b"n" * 4096)) == 121
    assert order_key(b"a/b") < order_key(b"a.b")
