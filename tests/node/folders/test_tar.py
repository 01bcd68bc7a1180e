"""Archives that other programs read: names as they are, times, contents."""

import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given

from kit.folders import trees
from kit.trees import TIME_NS, Node, Run, To, on_disk, tree
from shoal.node.folders.entries import Entry, EntryKind
from shoal.node.folders.tar import BLOCK_BYTES, END, header, padding

NODES: dict[bytes, Node] = {
    b"d/" + b"/".join([b"deep" * 50] * 10): b"deep",
    b"empty": None,
    b"file": b"x" * 1000,
    b"long" * 60: b"long",
    b"\xff" * 150: b"no text",
    b"new\nline": b"",
    "größe".encode(): b"utf-8",
    b"link": To(b"d/" + b"e" * 200),
    b"odd link": To(b"\xff" * 120),
    b"run": Run(b"#!"),
}


def archive(entries: list[Entry], plaintext: bytes) -> bytes:
    pieces = []
    for entry in entries:
        content = plaintext[entry.offset : entry.offset + entry.size]
        pieces += [header(entry, b"photos/"), content, padding(entry.size)]
    return b"".join([*pieces, END])


def test_tar_unpacks_it(tmp_path: Path) -> None:
    entries, plaintext = tree(NODES)
    done = subprocess.run(
        ["tar", "x", "-C", tmp_path], input=archive(entries, plaintext), capture_output=True, check=True
    )
    assert done.stderr == b""
    found = on_disk(tmp_path / "photos")
    assert {path: node for path, node in found.items() if node is not None or path in NODES} == NODES
    for entry in entries:
        is_text = b"\xff" not in entry.path + entry.target
        time_ns = os.lstat(os.path.join(os.fsencode(tmp_path), b"photos", entry.path)).st_mtime_ns
        assert time_ns == (TIME_NS if is_text else TIME_NS // 10**9 * 10**9)


def test_python_reads_it() -> None:
    entries, plaintext = tree(NODES)
    stream = io.BytesIO(archive(entries, plaintext))
    with tarfile.open(fileobj=stream, encoding="utf-8", errors="surrogateescape") as opened:
        members = opened.getmembers()
        assert [os.fsencode(member.name) for member in members] == [b"photos/" + entry.path for entry in entries]
        for member, entry in zip(members, entries, strict=True):
            assert os.fsencode(member.linkname) == entry.target
            assert (member.uid, member.gid, member.uname, member.gname) == (0, 0, "", "")
            assert member.mode == (0o644 if entry.kind is EntryKind.FILE and not entry.executable else 0o755)


@given(trees())
def test_headers_are_whole_blocks_that_say_the_same(entries: list[Entry]) -> None:
    for entry in entries:
        raw = header(entry)
        assert len(raw) % BLOCK_BYTES == 0
        member = tarfile.TarInfo.frombuf(raw[-BLOCK_BYTES:], "utf-8", "surrogateescape")
        assert member.size == entry.size or entry.size >= 8**11
        assert (member.isdir(), member.issym()) == (entry.kind is EntryKind.DIRECTORY, entry.kind is EntryKind.SYMLINK)


@pytest.mark.parametrize("mtime_ns", [0, 1, -1, -1_500_000_000, TIME_NS, 2**62, -(2**62), 2**63 - 1, -(2**63)])
def test_times_are_exact(tmp_path: Path, mtime_ns: int) -> None:
    stream = io.BytesIO(header(Entry(b"d", EntryKind.DIRECTORY, mtime_ns=mtime_ns)) + END)
    with tarfile.open(fileobj=stream) as opened:
        (member,) = opened.getmembers()
    text = member.pax_headers.get("mtime", str(member.mtime))
    whole, _, rest = text.lstrip("-").partition(".")
    exact = int(whole) * 10**9 + int(rest.ljust(9, "0"))
    assert (-exact if text.startswith("-") else exact) == mtime_ns


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513])
def test_contents_are_filled_up(size: int) -> None:
    assert (size + len(padding(size))) % BLOCK_BYTES == 0
    assert len(padding(size)) < BLOCK_BYTES
