"""What a walk found can be opened again, however long its path is."""

import os
from pathlib import Path

import pytest

from shoal.node.fingerprints import Fingerprint
from shoal.node.folders.entries import EntryKind
from shoal.node.folders.tree import Walked, open_walked, sort_walked


def deep_file(root: Path, names: int, length: int, content: bytes) -> bytes:
    """Make a file that many directories deep, and give its path below `root`."""
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(names - 1):
        os.mkdir(b"n" * length, dir_fd=folder)
        inner = os.open(b"n" * length, os.O_RDONLY | os.O_DIRECTORY, dir_fd=folder)
        os.close(folder)
        folder = inner
    file = os.open(b"n" * length, os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=folder)
    os.write(file, content)
    os.close(file)
    os.close(folder)
    return b"/".join([b"n" * length] * names)


@pytest.mark.parametrize(("names", "length"), [(1, 5), (60, 20), (16, 255), (64, 63)])
def test_a_file_is_opened_at_any_depth(tmp_path: Path, names: int, length: int) -> None:
    path = deep_file(tmp_path, names, length, b"content")
    before = len(os.listdir("/proc/self/fd"))
    found = Walked(path, EntryKind.FILE, os.fsencode(tmp_path), Fingerprint(0, 0, 7, 0, 0))
    descriptor = open_walked(found)
    assert os.read(descriptor, 100) == b"content"
    os.close(descriptor)
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_is_gone_fails_and_leaves_no_descriptor(tmp_path: Path) -> None:
    path = deep_file(tmp_path, 16, 255, b"") + b"x"
    before = len(os.listdir("/proc/self/fd"))
    for gone in (b"gone", path[:-300] + b"gone", b"n" * 200 + b"/" + path):
        with pytest.raises(OSError, match=r"No such file|too long"):
            open_walked(Walked(gone, EntryKind.FILE, os.fsencode(tmp_path), Fingerprint(0, 0, 7, 0, 0)))
    assert len(os.listdir("/proc/self/fd")) == before


def test_found_things_are_brought_into_the_order_of_an_index() -> None:
    nothing = Fingerprint(0, 0, 0, 0, 0)
    found = [Walked(path, EntryKind.FILE, b"", nothing) for path in (b"a.b", b"b", b"a/c", b"a", b"a/b")]
    sort_walked(found)
    assert [each.path for each in found] == [b"a", b"a/b", b"a/c", b"a.b", b"b"]
