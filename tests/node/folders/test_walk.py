"""A walk finds what is there, in order, and says what it cannot take. It is led nowhere else."""

import gc
import os
import socket
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kit.trees import unprivileged
from shoal.node.errors import LocalError, UsageError
from shoal.node.fingerprints import Fingerprint
from shoal.node.folders import walk as walk_module
from shoal.node.folders.entries import EntryKind, EntryOrder
from shoal.node.folders.found import FoundList
from shoal.node.folders.tree import Tree, open_walked
from shoal.node.folders.walk import Symlinks, TreeWalk, WalkChoices, walk_tree


def paths(tree: Tree) -> list[bytes]:
    return [each.path for each in tree.found]


def skipped(tree: Tree) -> dict[str, str]:
    return {os.path.basename(os.fsdecode(each.path)): each.reason for each in tree.skipped}


def fill(root: Path, *names: str) -> None:
    """Files with their own name as content; a name with a slash at its end is of a directory."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            path.mkdir()
        else:
            path.write_text(name)


@pytest.fixture(autouse=True)
def _no_descriptor_is_left() -> Iterator[None]:
    before = len(os.listdir("/proc/self/fd"))
    yield
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


def test_everything_is_found_in_the_order_of_an_index(tmp_path: Path) -> None:
    fill(tmp_path, "a/b", "a.b", "a/c/d", "a/c.d", "empty/", "b", "a-", "a0")
    os.chmod(tmp_path / "b", 0o755)
    os.symlink("../no/where", tmp_path / "a/link")
    os.utime(tmp_path / "a.b", ns=(1, 1_600_000_000_123_456_789))
    tree = walk_tree([tmp_path])
    assert tree.name == tmp_path.name
    assert paths(tree) == [b"a", b"a/b", b"a/c", b"a/c/d", b"a/c.d", b"a/link", b"a-", b"a.b", b"a0", b"b", b"empty"]
    order = EntryOrder()
    for each in tree.found:
        order.check(each.entry(0, bytes(32)))
    found = {each.path: each for each in tree.found}
    assert found[b"b"].executable
    assert not found[b"a.b"].executable
    assert found[b"a/link"].target == b"../no/where"
    assert found[b"a/link"].kind is EntryKind.SYMLINK
    assert found[b"empty"].kind is EntryKind.DIRECTORY
    assert found[b"a.b"].fingerprint.mtime_ns == 1_600_000_000_123_456_789
    assert found[b"a/c/d"].size == 5
    assert found[b"a/c/d"].fingerprint == Fingerprint.of(os.stat(tmp_path / "a/c/d"))


def test_odd_names_are_taken_as_they_are(tmp_path: Path) -> None:
    names = [b"\xff\xfe", b"new\nline", b"\x1b[31m", b"n" * 255, b" ", b"...", b"-rf", b"\\", "日本".encode(), b"*"]
    for name in names:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).touch()
    assert paths(walk_tree([tmp_path])) == sorted(names)


def test_60_deep_and_what_is_deeper_than_64(tmp_path: Path) -> None:
    fill(tmp_path, "/".join(["d"] * 60))
    assert len(walk_tree([tmp_path]).found) == 60
    fill(tmp_path, "/".join(["e"] * 66))
    with pytest.raises(LocalError, match="A path of 65 names, more than 64"):
        walk_tree([tmp_path])
    tree = walk_tree([tmp_path], WalkChoices(skip_unreadable=True))
    assert (len(tree.found), len(tree.skipped)) == (60 + 64, 1)


def test_paths_longer_than_the_system_takes_at_once(tmp_path: Path) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    for _ in range(17):
        os.mkdir("n" * 250, dir_fd=folder)
        inner = os.open("n" * 250, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
    os.close(folder)
    tree = walk_tree([tmp_path], WalkChoices(skip_unreadable=True))
    assert [len(path) for path in paths(tree)][-1] == 16 * 250 + 15
    assert [each.reason for each in tree.skipped] == ["A path of 4266 bytes, more than 4096"]


@pytest.mark.parametrize(
    ("symlinks", "expected"),
    [
        (Symlinks.STORE, [b"d", b"d/f", b"to-d", b"to-f"]),
        (Symlinks.SKIP, [b"d", b"d/f"]),
        (Symlinks.FOLLOW, [b"d", b"d/f", b"to-d", b"to-d/f", b"to-f"]),
    ],
)
def test_symbolic_links(tmp_path: Path, symlinks: Symlinks, expected: list[bytes]) -> None:
    fill(tmp_path, "in/d/f", "out")
    os.symlink("d", tmp_path / "in/to-d")
    os.symlink("../out", tmp_path / "in/to-f")
    tree = walk_tree([tmp_path / "in"], WalkChoices(symlinks=symlinks))
    assert paths(tree) == expected
    if symlinks is Symlinks.FOLLOW:
        last = tree.found[-1]
        assert (last.kind, last.size) == (EntryKind.FILE, 3)
        descriptor = open_walked(last)
        assert Fingerprint.of(os.fstat(descriptor)) == last.fingerprint
        os.close(descriptor)


def test_loops_and_links_that_lead_nowhere(tmp_path: Path) -> None:
    fill(tmp_path, "a/b/f")
    os.symlink("..", tmp_path / "a/b/up")
    os.symlink("nowhere", tmp_path / "broken")
    os.symlink("itself", tmp_path / "itself")
    tree = walk_tree([tmp_path], WalkChoices(symlinks=Symlinks.FOLLOW, skip_unreadable=True))
    assert paths(tree) == [b"a", b"a/b", b"a/b/f"]
    assert skipped(tree) == {
        "up": "A folder that lies within itself",
        "broken": "A link that leads nowhere",
        "itself": "A link that leads nowhere",
    }
    assert len(walk_tree([tmp_path]).found) == 6  # stored, they lead nobody anywhere


def test_links_that_double_the_tree_at_each_step_end_at_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(40):
        (tmp_path / f"{number}").mkdir()
        for name in ("l", "r"):
            os.symlink(f"../{number + 1}", tmp_path / f"{number}" / name)
    (tmp_path / "40").mkdir()
    monkeypatch.setattr(walk_module, "MAX_ENTRIES", 3_000)
    with pytest.raises(LocalError, match="at most 3,000 entries"):
        walk_tree([tmp_path], WalkChoices(symlinks=Symlinks.FOLLOW))


def test_what_has_no_contents_is_said(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        fill(tmp_path, "file")
        tree = walk_tree([tmp_path], WalkChoices(skip_unreadable=True))
        assert paths(tree) == [b"file"]
        assert skipped(tree) == {"fifo": "A named pipe", "socket": "A socket"}
        with pytest.raises(LocalError, match=r"(?s)Nothing was published.*fifo: A named pipe.*socket: A socket"):
            walk_tree([tmp_path])
        assert paths(walk_tree([tmp_path], WalkChoices(exclude=("fifo", "s*t")))) == [b"file"]
    device = walk_tree(["/dev/null", tmp_path / "file"], WalkChoices(skip_unreadable=True))
    assert skipped(device) == {"null": "A device"}


def test_what_cannot_be_read_is_said() -> None:
    with unprivileged() as folder:
        fill(folder, "a", "dark/f", "unsearchable/f", "z")
        os.chmod(folder / "a", 0)
        os.chmod(folder / "dark", 0)
        os.chmod(folder / "unsearchable", 0o400)
        with pytest.raises(LocalError, match=r"(?s)folder|a: Permission denied\n.*dark: Permission denied\n"):
            walk_tree([folder])
        tree = walk_tree([folder], WalkChoices(skip_unreadable=True))
        assert paths(tree) == [b"unsearchable", b"z"]
        assert skipped(tree) == dict.fromkeys(("a", "dark", "f"), "Permission denied")
        os.chmod(folder, 0o100)  # what is named can be reached all the same
        assert paths(walk_tree([folder / "z", folder / "z/../z"][:1])) == [b"z"]
        os.chmod(folder, 0o700)


def test_a_message_names_20_of_many(tmp_path: Path) -> None:
    for number in range(25):
        os.mkfifo(tmp_path / f"{number:02}")
    with pytest.raises(LocalError, match=r"19: A named pipe\n  and 5 more\nLeave it out"):
        walk_tree([tmp_path])


def test_a_gitignore_that_cannot_be_read_ends_the_walk(tmp_path: Path) -> None:
    fill(tmp_path, "d/secret", "rules")
    os.symlink("../rules", tmp_path / "d/.gitignore")
    choices = WalkChoices(gitignore=True, skip_unreadable=True)
    with pytest.raises(LocalError, match=r"d/\.gitignore: it is a symbolic link"):
        walk_tree([tmp_path], choices)
    os.unlink(tmp_path / "d/.gitignore")
    fill(tmp_path, "d/.gitignore/")  # of no meaning to git
    assert b"d/secret" in paths(walk_tree([tmp_path], choices))


def test_patterns_leave_out_and_directories_are_not_entered(tmp_path: Path) -> None:
    fill(tmp_path, "a.o", "b/c.o", "b/c", "build/x", "b/build", "keep.o")
    tree = walk_tree([tmp_path], WalkChoices(exclude=("*.o", "build/", "!keep.o")))
    assert paths(tree) == [b"b", b"b/build", b"b/c", b"keep.o"]
    joint = walk_tree([tmp_path / "b", tmp_path / "a.o", tmp_path / "build"], WalkChoices(exclude=("/b/c", "*.o")))
    assert paths(joint) == [b"b", b"b/build", b"build", b"build/x"]


def test_another_file_system_stays_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, "a/f", "mounted/f", "file")
    real, foreign = os.fstat, {os.stat(tmp_path / name).st_ino for name in ("mounted", "mounted/f", "file")}
    real_stat = os.stat

    def moved(status: os.stat_result) -> os.stat_result:
        if status.st_ino not in foreign:
            return status
        named = {name: getattr(status, name) for name in ("st_atime_ns", "st_mtime_ns", "st_ctime_ns")}
        return os.stat_result((*status[:2], status.st_dev + 1, *status[3:10]), named)

    monkeypatch.setattr(os, "fstat", lambda descriptor: moved(real(descriptor)))
    monkeypatch.setattr(os, "stat", lambda *args, **names: moved(real_stat(*args, **names)))
    assert paths(walk_tree([tmp_path])) == [b"a", b"a/f", b"file", b"mounted", b"mounted/f"]
    assert paths(walk_tree([tmp_path], WalkChoices(one_file_system=True))) == [b"a", b"a/f", b"mounted"]
    several = walk_tree([tmp_path / "a", tmp_path / "mounted"], WalkChoices(one_file_system=True))
    assert paths(several) == [b"a", b"a/f", b"mounted", b"mounted/f"]  # each path has a file system of its own


def test_several_paths_are_a_folder_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, "x/b/f", "y/a", "y/c/")
    os.symlink("../x/b", tmp_path / "y/link")
    tree = walk_tree([tmp_path / "y/c", tmp_path / "x/b", tmp_path / "y/a", tmp_path / "y/link/"])
    assert paths(tree) == [b"a", b"b", b"b/f", b"c", b"link", b"link/f"]
    assert tree.name is None
    assert [each.where for each in tree.found if each.path == b"b/f"] == [os.fsencode(tmp_path / "x/b/f")]
    for each in tree.found:
        if each.kind is EntryKind.FILE:
            os.close(open_walked(each))
    monkeypatch.chdir(tmp_path / "x/b")
    assert paths(walk_tree([".", "../../y/a"])) == [b"a", b"b", b"b/f"]
    assert walk_tree(["."]).name == "b"
    assert walk_tree([".."]).name == "x"
    with pytest.raises(UsageError, match="Two of the paths"):
        walk_tree([tmp_path / "x/b", "."])
    with pytest.raises(UsageError, match="has no name"):
        walk_tree(["/", "f"])
    for missing in ("nothing", "f\0", ""):
        with pytest.raises(LocalError, match="Cannot read"):
            walk_tree(["f", missing])


def test_the_same_command_has_the_same_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, "a", "b")
    monkeypatch.chdir(tmp_path)
    one = walk_tree(["a", "b"]).identity
    assert one == walk_tree([tmp_path / "b", tmp_path / "a"]).identity
    others = [
        walk_tree(["a"]).identity,
        walk_tree(["a", "b"], WalkChoices(exclude=("c",))).identity,
        walk_tree(["a", "b"], WalkChoices(gitignore=True)).identity,
        walk_tree(["a", "b"], WalkChoices(one_file_system=True)).identity,
        walk_tree(["a", "b"], WalkChoices(skip_unreadable=True)).identity,
        walk_tree(["a", "b"], WalkChoices(symlinks=Symlinks.SKIP)).identity,
    ]
    assert len({tuple(each) for each in (one, *others)}) == 7


def swap_for_link(path: Path, target: str) -> Callable[[], None]:
    def swap() -> None:
        os.rename(path, path.with_name("moved"))
        os.symlink(target, path)

    return swap


@pytest.mark.parametrize("name", ["d", "g"])
def test_a_tree_that_changes_meanwhile_leads_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    fill(tmp_path, "in/d/f", "in/g", "outside/f", "outside/secret")
    swap = swap_for_link(tmp_path / "in" / name, f"../outside{'/secret' if name == 'g' else ''}")
    real = os.stat

    def stat(path: bytes | str, **names: object) -> os.stat_result:
        status = real(path, **names)  # type: ignore[arg-type]
        if path == name.encode():
            swap()
        return status

    monkeypatch.setattr(os, "stat", stat)
    tree = walk_tree([tmp_path / "in"], WalkChoices(skip_unreadable=True))
    assert name in skipped(tree)
    secret = real(tmp_path / "outside/secret").st_ino
    assert all(each.fingerprint.inode != secret for each in tree.found)


def test_times_that_no_index_can_tell(tmp_path: Path) -> None:
    fill(tmp_path, "a", "b")
    found = FoundList()
    with pytest.raises(OverflowError):
        found.add(found.add_root(b""), b"a", EntryKind.FILE, Fingerprint(0, 0, 0, 2**63, 0))
    assert len(found) == 0


def test_a_walk_can_be_left_in_the_middle(tmp_path: Path) -> None:
    fill(tmp_path, "a/b/c/d", "a/b/e")
    walk = TreeWalk([tmp_path], WalkChoices())
    assert not walk.advance(3)
    assert walk.entries == 3
    walk.close()


def test_memory_of_a_large_tree(tmp_path: Path) -> None:
    names = [b"%019d" % number for number in range(20_000)]
    for name in names:
        os.close(os.open(os.fsencode(tmp_path) + b"/" + name, os.O_CREAT | os.O_WRONLY))
    tracemalloc.start()
    try:
        tree = walk_tree([tmp_path])
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(tree.found) == 20_000
    assert [each.path for each in tree.found[9_000:9_003]] == names[9_000:9_003]
    assert kept / 20_000 < 90  # 54 bytes and the name, and room to grow
    assert peak / 20_000 < 190
