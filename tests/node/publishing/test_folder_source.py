"""A folder as a source: contents in order, the index behind them, and no file that does not hold still."""

import os
import random
from pathlib import Path

import pytest
from blake3 import blake3

from kit.folders import make_files, tree_of, write_index
from shoal.node import Environment
from shoal.node.errors import LocalError, UsageError
from shoal.node.folders.entries import Entry, EntryKind
from shoal.node.folders.index import PageTable, parse_page
from shoal.node.folders.tree import Tree
from shoal.node.publishing import folder_source
from shoal.node.publishing.folder_source import FolderSource, open_folder_source
from shoal.node.publishing.sources import Source, SourceChanged

CONTENTS = {
    "a": b"first",
    "deep/er/file": bytes(range(256)) * 300,
    "deep/er/none": b"",
    "deep/last": b"x" * 4096,
    "z empty": b"",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    make_files(root, CONTENTS)
    (root / "nothing").mkdir()
    (root / "link").symlink_to("deep/last")
    (root / "a").chmod(0o755)
    os.utime(root / "a", ns=(0, 1_500_000_000_123_456_789))
    return root


async def read_all(source: Source, step: int = 1000) -> bytes:
    pieces = []
    while piece := await source.read(step):
        pieces.append(piece)
    await source.finish()
    return b"".join(pieces)


def entries_of(source: FolderSource, plaintext: bytes) -> list[Entry]:
    """The entries that a reader of the plaintext finds."""
    assert source.folder is not None
    table = PageTable.parse(plaintext[source.folder.table_offset :], source.folder)
    entries: list[Entry] = []
    for number, row in enumerate(table.rows):
        at, length, _ = row.extent
        entries += parse_page(plaintext[at : at + length], table, number)
    return entries


@pytest.mark.parametrize("step", [1, 7, 4096, 10**6])
async def test_a_reader_finds_every_file_by_the_index(root: Path, env: Environment, step: int) -> None:
    source = await open_folder_source(tree_of(root), env)
    plaintext = await read_all(source, step)
    assert (source.size, source.claimed_size, source.name, source.entries) == (len(plaintext),) * 2 + ("photos", 9)
    entries = {entry.path.decode(): entry for entry in entries_of(source, plaintext)}
    for path, content in CONTENTS.items():
        entry = entries[path]
        assert plaintext[entry.offset : entry.offset + entry.size] == content
        assert entry.digest == blake3(content).digest()
    assert entries["a"].executable
    assert entries["a"].mtime_ns == 1_500_000_000_123_456_789
    assert not entries["deep/last"].executable
    assert (entries["link"].kind, entries["link"].target) == (EntryKind.SYMLINK, b"deep/last")
    assert entries["nothing"].kind is EntryKind.DIRECTORY
    assert await source.read(5) == b""
    await source.aclose()


async def test_an_empty_folder_is_an_empty_file(tmp_path: Path, env: Environment) -> None:
    source = await open_folder_source(tree_of(tmp_path), env)
    assert await read_all(source) == b""
    assert source.folder == write_index([]).summary
    assert source.size == 0


async def test_every_offset_is_reached(root: Path, env: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_source, "FILES_AT_ONCE", 2)
    monkeypatch.setattr(folder_source, "ENTRIES_AT_ONCE", 2)
    monkeypatch.setattr(folder_source, "SKIM_BYTES", 1000)
    source = await open_folder_source(tree_of(root), env)
    plaintext = await read_all(source)
    rng = random.Random(1)
    size = len(plaintext)
    for at in (0, size, size - 1, 5, size + 10**6, *(rng.randrange(size) for _ in range(30))):
        await source.seek(at)
        wanted = rng.randrange(1, 5000)
        assert await source.read(wanted) == plaintext[at : at + wanted]
    await source.aclose()


async def test_a_part_that_was_read_is_not_read_again(root: Path, env: Environment) -> None:
    """A resumed publish looks at what was sent, and goes on from there."""
    source = await open_folder_source(tree_of(root), env)
    first = await source.read(5000)
    (root / "a").unlink()
    await source.seek(5000)
    plaintext = first + await source.read(10**6)
    assert plaintext.startswith(b"first" + CONTENTS["deep/er/file"])
    assert len(entries_of(source, plaintext)) == 9
    await source.aclose()


async def test_files_within_a_part_are_counted(root: Path, env: Environment) -> None:
    source = await open_folder_source(tree_of(root), env)
    ends = [5, 5 + 76_800, 5 + 76_800, 5 + 76_800 + 4096, 5 + 76_800 + 4096]
    for at in (0, 4, 5, 76_804, 76_805, 80_900, 80_901, 10**6):
        assert source.files(at) == (sum(end <= at for end in ends), 5)


# --- what does not hold still


def set_back(path: Path, data: bytes) -> None:
    """Other bytes of the same length, and the same mtime."""
    times = os.stat(path)
    with open(path, "r+b") as file:
        file.write(data)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def change(path: Path, how: str) -> None:
    match how:
        case "grows":
            path.write_bytes(path.read_bytes() + b"more")
        case "shrinks":
            path.write_bytes(path.read_bytes()[:-1])
        case "other bytes":
            path.write_bytes(path.read_bytes()[::-1])
        case "touched":
            os.utime(path)
        case "another file":
            path.with_name("copy").write_bytes(path.read_bytes())
            path.with_name("copy").replace(path)
        case "a link":
            path.rename(path.with_name("moved"))
            path.symlink_to("/dev/zero")
        case "a folder":
            path.unlink()
            path.mkdir()
        case "a pipe":
            path.unlink()
            os.mkfifo(path)
        case "gone":
            path.unlink()


CHANGES = ["grows", "shrinks", "other bytes", "touched", "another file", "a link", "a folder", "a pipe", "gone"]


@pytest.mark.parametrize("how", CHANGES)
@pytest.mark.parametrize("read_bytes", [0, 2_000, 10**6])
async def test_a_file_that_changes_is_refused_by_its_name(
    root: Path, env: Environment, how: str, read_bytes: int
) -> None:
    """Before it is read, in the middle of it, and behind it."""
    source = await open_folder_source(tree_of(root), env)
    await source.read(read_bytes)
    change(root / "deep/er/file", how)
    with pytest.raises(SourceChanged, match=r"photos/deep/er/file changed while .* Nothing was published"):
        await read_all(source)
    await source.aclose()


@pytest.mark.parametrize("path", ["a", "deep/er/file", "deep/last"])
async def test_a_second_pass_names_the_file_with_other_bytes(root: Path, env: Environment, path: str) -> None:
    source = await open_folder_source(tree_of(root), env)
    await read_all(source)
    before = await source.look()
    set_back(root / path, b"F")
    assert await source.look() != before
    await source.finish()
    await source.seek(0)
    with pytest.raises(LocalError, match=f"photos/{path} changed while it was being read"):
        await read_all(source)
    await source.aclose()


async def test_a_file_that_claims_to_be_empty_and_is_not_is_refused(env: Environment) -> None:
    tree = tree_of(Path("/proc/sys/kernel/random"))
    with pytest.raises(LocalError, match="/proc/sys/kernel/random/"):
        await read_all(await open_folder_source(tree, env))


async def test_what_no_folder_can_have_is_refused_before_it_is_read(tmp_path: Path, env: Environment) -> None:
    make_files(tmp_path, {"/".join(["n"] * 65): b""})
    with pytest.raises(UsageError, match="65 names, more than 64"):
        await open_folder_source(tree_of(tmp_path), env)


async def test_no_descriptor_is_left(root: Path, env: Environment) -> None:
    before = len(os.listdir("/proc/self/fd"))
    source = await open_folder_source(tree_of(root), env)
    await source.read(1000)
    await source.seek(0)
    await source.read(1000)
    await source.aclose()
    assert len(os.listdir("/proc/self/fd")) == before


async def test_two_commands_have_two_identities(root: Path, env: Environment) -> None:
    tree = tree_of(root)
    other = Tree(tree.found, [*tree.identity, "--exclude", "*.tmp"], tree.name)
    sources = [await open_folder_source(each, env) for each in (tree, other)]
    assert sources[0].identity != sources[1].identity
