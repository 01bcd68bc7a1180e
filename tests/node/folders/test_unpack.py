"""A tree is written where it belongs and nowhere else, goes on where it stopped, and is whole when it gets its name."""

import errno
import os
import stat
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.trees import TIME_NS, Node, Run, To, on_disk, tree, unprivileged
from shoal.node.errors import LocalError
from shoal.node.folders import unpack
from shoal.node.folders.entries import BadEntry, Entry, EntryKind, order_key
from shoal.node.folders.part_folder import PartFolder, clear_spent, open_part_folder
from shoal.node.folders.unpack import Room, TreeFinisher, TreeWriter, stays_inside

PHOTOS: dict[bytes, Node] = {
    b"empty": None,
    b"holiday/beach.jpg": b"sand" * 1000,
    b"holiday/deep/er/still": b"x",
    b"holiday/nothing": b"",
    b"holiday.txt": b"text",
    b"latest": To(b"holiday/beach.jpg"),
    b"holiday/deep/up": To(b"../beach.jpg"),
    b"run.sh": Run(b"#!/bin/sh\n"),
    b"odd \xff\n\x1b[31m": b"odd",
    b"n" * 255: b"long",
}


class Stopped(Exception):
    """The process died here."""


def write(
    part: PartFolder, entries: Sequence[Entry], plaintext: bytes, *, step: int = 700, stop_at: int | None = None
) -> tuple[int, TreeWriter]:
    """The first pass, in pieces of `step`; bytes that had to be fetched, and the writer."""
    room = Room(part.tree)
    for entry in entries:
        room.add(entry)
    fetched = 0
    with closing(TreeWriter(part.tree, room, was_there=part.was_there)) as writer:
        for _ in writer.examine(entries):
            pass
        while missing := writer.found():
            writer.begin(missing)
            first, end = missing[0].start, missing[-1].end
            for at in range(first, end, step):
                if stop_at is not None and fetched >= stop_at:
                    raise Stopped
                piece = plaintext[at : min(end, at + step)]
                writer.write(at, piece)
                fetched += len(piece)
        return fetched, writer


def finish(part: PartFolder, entries: Sequence[Entry]) -> TreeFinisher:
    with closing(TreeFinisher(part.tree, part.folder_mode, TIME_NS)) as finisher:
        finisher.take(entries)
        finisher.finish()
        return finisher


def fetch(target: Path, entries: Sequence[Entry], plaintext: bytes, *, force: bool = False, **how: Any) -> int:
    """All of it; how many bytes had to be fetched."""
    with open_part_folder(target.with_name(target.name + ".part")) as part:
        fetched, _ = write(part, entries, plaintext, **how)
        finish(part, entries)
        part.finish(target, force=force)
    return fetched


def times(root: Path) -> Iterable[int]:
    for folder, folders, files in os.walk(root):
        yield os.stat(folder).st_mtime_ns
        yield from (os.lstat(os.path.join(folder, name)).st_mtime_ns for name in [*folders, *files])


# --- what comes out


@pytest.mark.parametrize("step", [1, 700, 10**6])
def test_a_tree_comes_out_as_it_was(tmp_path: Path, step: int) -> None:
    entries, plaintext = tree(PHOTOS)
    fetch(tmp_path / "photos", entries, plaintext, step=step)
    assert on_disk(tmp_path / "photos") == {
        **dict.fromkeys([b"holiday", b"holiday/deep", b"holiday/deep/er"]),
        **PHOTOS,
    }
    assert set(times(tmp_path / "photos")) == {TIME_NS}
    assert os.listdir(tmp_path) == ["photos"]


def test_a_folder_may_be_empty(tmp_path: Path) -> None:
    fetch(tmp_path / "photos", [], b"")
    assert os.listdir(tmp_path / "photos") == []


@pytest.mark.parametrize(
    ("umask", "file", "program", "folder"), [(0o022, 0o644, 0o755, 0o755), (0o077, 0o600, 0o700, 0o700)]
)
def test_the_users_mask_decides_who_may_read(tmp_path: Path, umask: int, file: int, program: int, folder: int) -> None:
    entries, plaintext = tree(PHOTOS)
    before = os.umask(umask)
    try:
        fetch(tmp_path / "photos", entries, plaintext)
    finally:
        os.umask(before)
    modes = {
        name: stat.S_IMODE((tmp_path / "photos" / name).stat().st_mode)
        for name in ("", "holiday", "holiday.txt", "run.sh")
    }
    assert modes == {"": folder, "holiday": folder, "holiday.txt": file, "run.sh": program}


def test_nobody_else_gets_into_a_folder_that_is_not_done(tmp_path: Path) -> None:
    entries, plaintext = tree(PHOTOS)
    with open_part_folder(tmp_path / "p.part") as part:
        write(part, entries, plaintext)
        folders = [tmp_path / "p.part", *(Path(folder) for folder, _, _ in os.walk(tmp_path / "p.part"))]
        assert {stat.S_IMODE(folder.stat().st_mode) for folder in folders} == {0o700}
        assert not any(path.is_symlink() for path in (tmp_path / "p.part").rglob("*")), "links come last"


def test_few_handles_are_open_however_deep_the_tree(tmp_path: Path) -> None:
    path = b"/".join([b"d"] * 64)
    entries, plaintext = tree({path: b"deep", b"e": b"high"})
    before = len(os.listdir("/proc/self/fd"))
    fetch(tmp_path / "deep", entries, plaintext)
    assert len(os.listdir("/proc/self/fd")) == before
    assert on_disk(tmp_path / "deep")[path] == b"deep"


# --- going on


@pytest.mark.parametrize("stop_at", [0, 1, 700, 4100, 4900])
def test_what_was_written_is_not_fetched_again(tmp_path: Path, stop_at: int) -> None:
    nodes: dict[bytes, Node] = {**PHOTOS, b"z": bytes(2000)}
    entries, plaintext = tree(nodes)
    with pytest.raises(Stopped):
        fetch(tmp_path / "photos", entries, plaintext, stop_at=stop_at)
    assert not (tmp_path / "photos").exists()
    fetched = fetch(tmp_path / "photos", entries, plaintext)
    assert fetched <= len(plaintext) - stop_at
    assert on_disk(tmp_path / "photos").items() >= nodes.items()


@pytest.mark.parametrize("stopped", ["writing", "links", "modes"])
def test_a_run_that_stopped_at_its_end_is_taken_up(tmp_path: Path, stopped: str) -> None:
    entries, plaintext = tree(PHOTOS)
    with open_part_folder(tmp_path / "photos.part") as part:
        write(part, entries, plaintext)
        if stopped != "writing":
            with closing(TreeFinisher(part.tree, part.folder_mode)) as finisher:
                finisher.take(entries)
                if stopped == "modes":
                    finisher.finish()
    assert fetch(tmp_path / "photos", entries, plaintext) == 0
    assert on_disk(tmp_path / "photos").items() >= PHOTOS.items()


@pytest.mark.parametrize("at", [0, 1500, 3999])
@pytest.mark.parametrize("size", [2500, 4000, 4001])
def test_what_is_wrong_on_disk_is_fetched_again(tmp_path: Path, at: int, size: int) -> None:
    """A power cut can leave any bytes, and any length."""
    entries, plaintext = tree(PHOTOS)
    with open_part_folder(tmp_path / "photos.part") as part:
        write(part, entries, plaintext)
    spoilt = tmp_path / "photos.part" / "tree" / "holiday" / "beach.jpg"
    content = bytearray(b"sand" * 1001)
    content[at] ^= 1
    spoilt.write_bytes(content[:size])
    assert 1500 <= fetch(tmp_path / "photos", entries, plaintext) <= 1500 + 4000
    assert on_disk(tmp_path / "photos").items() >= PHOTOS.items()


def test_an_empty_file_that_is_not_empty_is_emptied(tmp_path: Path) -> None:
    entries, plaintext = tree(PHOTOS)
    with open_part_folder(tmp_path / "photos.part") as part:
        write(part, entries, plaintext)
    (tmp_path / "photos.part" / "tree" / "holiday" / "nothing").write_text("something")
    fetch(tmp_path / "photos", entries, plaintext)
    assert (tmp_path / "photos" / "holiday" / "nothing").read_bytes() == b""


def test_a_part_that_others_may_write_is_refused(tmp_path: Path) -> None:
    (tmp_path / "photos.part").mkdir()
    (tmp_path / "photos.part").chmod(0o770)
    with pytest.raises(LocalError, match="can be written by others"):
        fetch(tmp_path / "photos", *tree(PHOTOS))
    assert os.listdir(tmp_path / "photos.part") == []


def test_two_fetches_do_not_mix(tmp_path: Path) -> None:
    with open_part_folder(tmp_path / "photos.part") as part:
        for _ in range(2):
            with pytest.raises(LocalError, match="Another process"), open_part_folder(tmp_path / "photos.part"):
                pass
        part.finish(tmp_path / "photos", force=False)
    with open_part_folder(tmp_path / "photos.part"):
        pass
    assert os.listdir(tmp_path) == ["photos"]


@pytest.mark.parametrize("where", ["photos.part", "photos.part/tree", "photos.part/tree/holiday"])
def test_a_link_in_the_place_of_a_folder_is_not_followed(tmp_path: Path, where: str) -> None:
    (tmp_path / "victim").mkdir()
    (tmp_path / where).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    (tmp_path / where).symlink_to(tmp_path / "victim")
    with pytest.raises(LocalError):
        fetch(tmp_path / "photos", *tree(PHOTOS))
    assert os.listdir(tmp_path / "victim") == []


@pytest.mark.parametrize("kind", ["link", "hard link", "pipe", "folder"])
def test_what_stands_in_the_place_of_a_file_is_not_written_to(tmp_path: Path, kind: str) -> None:
    (tmp_path / "victim").write_text("kept")
    root = tmp_path / "photos.part" / "tree"
    root.mkdir(parents=True)
    (tmp_path / "photos.part").chmod(0o700)
    place = root / "holiday.txt"
    if kind == "link":
        place.symlink_to(tmp_path / "victim")
    elif kind == "hard link":
        place.hardlink_to(tmp_path / "victim")
    elif kind == "pipe":
        os.mkfifo(place)
    else:
        place.mkdir()
    with pytest.raises(LocalError):
        fetch(tmp_path / "photos", *tree(PHOTOS))
    assert (tmp_path / "victim").read_text() == "kept"


@pytest.mark.parametrize("folder", ["", "holiday", "empty"])
def test_what_does_not_belong_there_never_gets_a_name(tmp_path: Path, folder: str) -> None:
    entries, plaintext = tree(PHOTOS)
    with open_part_folder(tmp_path / "photos.part") as part:
        write(part, entries, plaintext)
        (tmp_path / "photos.part" / "tree" / folder / "foreign").write_text("")
        with pytest.raises(LocalError, match="something else"):
            finish(part, entries)


# --- the name


def test_a_target_that_is_there_is_kept(tmp_path: Path) -> None:
    entries, plaintext = tree(PHOTOS)
    (tmp_path / "photos").mkdir()
    with pytest.raises(FileExistsError):
        fetch(tmp_path / "photos", entries, plaintext)
    assert os.listdir(tmp_path / "photos") == []
    (tmp_path / "photos").rmdir()
    assert fetch(tmp_path / "photos", entries, plaintext) == 0, "what was fetched is not lost"


@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_force_replaces_what_is_there(tmp_path: Path, kind: str) -> None:
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "mine").write_text("kept")
    target = tmp_path / "photos"
    if kind == "folder":
        (target / "sub").mkdir(parents=True)
        (target / "sub" / "link").symlink_to(tmp_path / "victim")
    elif kind == "file":
        target.write_text("")
    else:
        target.symlink_to("victim")
    fetch(target, *tree(PHOTOS), force=True)
    assert on_disk(target).items() >= PHOTOS.items()
    assert (tmp_path / "victim" / "mine").read_text() == "kept"
    assert sorted(os.listdir(tmp_path)) == ["photos", "victim"]


def test_force_replaces_a_folder_with_folders_that_cannot_be_changed() -> None:
    """A directory that its owner may not write to keeps what is in it, also from its owner."""
    with unprivileged() as folder:
        inner = folder / "photos" / "kept" / "deeper"
        inner.mkdir(parents=True)
        (inner / "file").write_text("")
        for path in (inner, inner.parent):
            path.chmod(0o555)
        fetch(folder / "photos", *tree(PHOTOS), force=True)
        assert on_disk(folder / "photos").items() >= PHOTOS.items()
        assert os.listdir(folder) == ["photos"]


def test_what_cannot_be_removed_is_told_by_its_place() -> None:
    with unprivileged() as folder:
        hidden = folder / "photos" / "hidden"
        hidden.mkdir(parents=True)
        (hidden / "file").write_text("")
        hidden.chmod(0)
        with pytest.raises(LocalError, match=r"cannot be removed: Permission denied. It is in .*/photos.part/old now"):
            fetch(folder / "photos", *tree(PHOTOS), force=True)
        assert on_disk(folder / "photos").items() >= PHOTOS.items(), "the folder is there all the same"


def test_a_tree_that_is_exchanged_does_not_get_the_name(tmp_path: Path) -> None:
    entries, plaintext = tree(PHOTOS)
    (tmp_path / "elsewhere").mkdir()
    with open_part_folder(tmp_path / "photos.part") as part:
        write(part, entries, plaintext)
        finish(part, entries)
        (tmp_path / "photos.part" / "tree").rename(tmp_path / "moved")
        (tmp_path / "photos.part" / "tree").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(LocalError, match="was changed"):
            part.finish(tmp_path / "photos", force=True)
    assert not os.path.lexists(tmp_path / "photos")


@pytest.mark.parametrize("missing", ["utime", "chmod"])
@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_need_not_keep_times_and_modes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str, number: int
) -> None:
    monkeypatch.setattr(os, missing, _refusal(number))
    fetch(tmp_path / "photos", *tree(PHOTOS))
    assert on_disk(tmp_path / "photos").items() >= PHOTOS.items()


def test_a_disk_that_fails_is_no_file_system_without_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "utime", _refusal(errno.EIO))
    with pytest.raises(LocalError, match="Input/output error"):
        fetch(tmp_path / "photos", *tree(PHOTOS))


def test_a_file_system_without_symbolic_links_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "symlink", _refusal(errno.EPERM))
    with pytest.raises(LocalError, match="is a symbolic link, and this file system takes none"):
        fetch(tmp_path / "photos", *tree(PHOTOS))
    monkeypatch.undo()
    assert fetch(tmp_path / "photos", *tree(PHOTOS)) == 0, "what was fetched is not lost"


def _refusal(number: int) -> Callable[..., None]:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return refuse


@pytest.mark.parametrize("removed", [True, False])
def test_a_part_that_is_spent_is_taken_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, removed: bool) -> None:
    """The process died between the rename and the end."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "before").write_text("")
    with monkeypatch.context() as patch:
        if not removed:
            patch.setattr(PartFolder, "remove_old", lambda self: None)
        patch.setattr(PartFolder, "clear", lambda self: None)
        fetch(tmp_path / "photos", *tree(PHOTOS), force=True)
    assert (tmp_path / "photos.part").exists()
    clear_spent(tmp_path / "photos.part")
    assert os.listdir(tmp_path) == ["photos"]
    (tmp_path / "photos.part").write_text("no part of ours")
    clear_spent(tmp_path / "photos.part")
    assert (tmp_path / "photos.part").exists()


def test_a_part_that_goes_on_is_not_spent(tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        fetch(tmp_path / "photos", *tree(PHOTOS), stop_at=700)
    clear_spent(tmp_path / "photos.part")
    assert (tmp_path / "photos.part" / "tree" / "holiday").is_dir()


# --- symbolic links


@pytest.mark.parametrize(
    ("path", "target", "inside"),
    [
        (b"l", b"a", True),
        (b"l", b"a/b/c", True),
        (b"l", b".", True),
        (b"l", b"./a//b/", True),
        (b"d/l", b"..", True),
        (b"d/e/l", b"../../a", True),
        (b"d/e/l", b"./.././../a", True),
        (b"l", b"..", False),
        (b"l", b"../photos/a", False),
        (b"d/l", b"../..", False),
        (b"d/l", b"a/../..", False),
        (b"l", b"a/..", False),
        (b"d/l", b"../a/../b", False),
        (b"l", b"/etc/passwd", False),
        (b"l", b"/", False),
        (b"l", b"//", False),
    ],
)
def test_which_links_stay_inside(path: bytes, target: bytes, inside: bool) -> None:
    assert stays_inside(Entry(path, EntryKind.SYMLINK, target=target)) == inside


NAMES = st.sampled_from([b"a", b"b", b"c", b"..", b".", b""])


@given(
    st.dictionaries(st.sampled_from([b"a", b"b", b"d/a", b"d/b", b"d/e/c"]), st.lists(NAMES, min_size=1, max_size=5))
)
def test_no_links_lead_out_together(tmp_path_factory: pytest.TempPathFactory, links: dict[bytes, list[bytes]]) -> None:
    """Each alone may look harmless: `a -> d/e`, `b -> a/../../..`."""
    root = tmp_path_factory.mktemp("links").resolve() / "tree"
    (root / "d" / "e").mkdir(parents=True)
    made = []
    for path, names in links.items():
        entry = Entry(path, EntryKind.SYMLINK, target=b"/".join(names) or b".")
        if stays_inside(entry):
            os.symlink(entry.target, os.path.join(os.fsencode(root), path))
            made.append(root / os.fsdecode(path))
    for link in made:
        try:
            end = os.path.realpath(link, strict=True)
        except OSError:
            continue  # leads nowhere, or in a circle
        assert Path(end).is_relative_to(root)


def test_links_that_lead_out_are_left_out_and_counted(tmp_path: Path) -> None:
    nodes: dict[bytes, Node] = {**PHOTOS, b"out": To(b"/etc"), b"holiday/out": To(b"../../x")}
    entries, plaintext = tree(nodes)
    with open_part_folder(tmp_path / "photos.part") as part:
        write(part, entries, plaintext)
        finisher = finish(part, entries)
        part.finish(tmp_path / "photos", force=False)
    assert (finisher.left_out, finisher.examples) == (2, [b"holiday/out", b"out"])
    assert on_disk(tmp_path / "photos").keys() == on_disk(tmp_path / "photos").keys() - {b"out", b"holiday/out"}


# --- what is refused


@pytest.mark.parametrize("path", [b"..", b"../x", b"a/../../x", b"/x", b"", b".", b"a//b", b"a/", b"n\0l", b"n" * 256])
@pytest.mark.parametrize("kind", EntryKind)
def test_bad_paths_make_nothing(tmp_path: Path, path: bytes, kind: EntryKind) -> None:
    """No reader of an index lets these through. Nothing relies on that."""
    entry = replace(tree({b"x": b"content"})[0][0], path=path, kind=kind, target=b"y")
    (tmp_path / "inner").mkdir()
    with open_part_folder(tmp_path / "inner" / "p.part") as part:
        with pytest.raises(BadEntry):
            write(part, [entry], b"content")
        with pytest.raises(BadEntry):
            finish(part, [entry])
    assert os.listdir(tmp_path) == ["inner"]
    assert os.listdir(tmp_path / "inner") == []


def test_other_contents_than_the_digest_says_are_refused(tmp_path: Path) -> None:
    entries, plaintext = tree(PHOTOS)
    for _ in range(2):  # what the first left does not help the second
        with pytest.raises(BadEntry, match=r"other contents .*beach\.jpg"):
            fetch(tmp_path / "photos", entries, plaintext.replace(b"sand", b"sane"))
    empty = replace(entries[-1], size=0, digest=bytes(32))
    with pytest.raises(BadEntry, match="other contents"):
        fetch(tmp_path / "other", [empty], b"")
    assert sorted(os.listdir(tmp_path)) == ["other.part", "photos.part"]


def test_names_that_are_one_to_the_file_system_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries, plaintext = tree({b"A": b"1", b"a": b"2", b"D": None, b"d": None})

    def folded(really: Any, name: str | bytes, *rest: Any, **named: Any) -> Any:
        return really(name.lower() if isinstance(name, bytes) else name, *rest, **named)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", partial(folded, os.open))
        patch.setattr(os, "mkdir", partial(folded, os.mkdir))
        for some in (entries, [entry for entry in entries if entry.kind is EntryKind.FILE]):
            with pytest.raises(LocalError, match=r"Cannot write [ad]: File exists"):
                fetch(tmp_path / "photos", some, plaintext)


def test_a_name_that_the_file_system_does_not_take_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries, plaintext = tree(PHOTOS)
    really_open = os.open

    def short_names(name: Any, *rest: Any, **named: Any) -> int:
        if isinstance(name, bytes) and len(name) > 143:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        return really_open(name, *rest, **named)

    monkeypatch.setattr(os, "open", short_names)
    with pytest.raises(LocalError, match=r"Cannot write nnn.*: File name too long"):
        fetch(tmp_path / "photos", entries, plaintext)


NASTY = st.sampled_from([b"a", b"b", b"..", b".", b"", b"a\0", b"/", b"n" * 300, b"../x", b"out"])
LEADING = st.sampled_from([b"/outside", b"..", b"../..", b"a/../..", b"a", b"b", b"../outside/kept", b"."])


@given(
    st.lists(
        st.builds(
            lambda names, kind, size, target: Entry(
                b"/".join(names), kind, size, digest=bytes(32), target=target, executable=True
            ),
            st.lists(NASTY, min_size=1, max_size=4),
            st.sampled_from(EntryKind),
            st.integers(0, 20),
            LEADING,
        ),
        max_size=8,
    ),
    st.booleans(),
)
def test_nothing_outside_is_touched_whatever_comes(
    tmp_path_factory: pytest.TempPathFactory, entries: list[Entry], in_order: bool
) -> None:
    """Not even when no reader has looked at the entries before, and links that lead out are there already."""
    base = tmp_path_factory.mktemp("base")
    (base / "outside").mkdir()
    (base / "outside" / "kept").write_text("kept")
    entries = sorted(entries, key=lambda entry: order_key(entry.path)) if in_order else entries
    with suppress(BadEntry, LocalError), open_part_folder(base / "p.part") as part:
        (base / "p.part" / "tree" / "out").symlink_to("../../outside")
        write(part, entries, b"content" * 100)
        finish(part, entries)
    assert sorted(os.listdir(base)) in (["outside"], ["outside", "p.part"])
    assert on_disk(base / "outside") == {b"kept": b"kept"}


# --- room


class Space:
    """What a file system says of its room."""

    f_frsize, f_files, f_favail, f_bavail = 4096, 10**6, 10**6, 10**6

    def set(self, patch: pytest.MonkeyPatch, **values: int) -> None:
        for name, value in values.items():
            setattr(self, name, value)
        patch.setattr(os, "fstatvfs", lambda _: self)


@pytest.mark.parametrize("space", [{"f_bavail": 2}, {"f_favail": 1}, {"f_bavail": 0, "f_favail": 0, "f_files": 0}])
def test_without_room_nothing_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, space: dict[str, int]
) -> None:
    Space().set(monkeypatch, **space)
    with pytest.raises(LocalError, match="Make room"):
        fetch(tmp_path / "photos", *tree({b"a": bytes(4096), b"b": bytes(4097), b"d": None}))


def test_there_is_room_for_just_as_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Space().set(monkeypatch, f_bavail=3, f_favail=2)
    fetch(tmp_path / "photos", *tree({b"a": bytes(4096), b"b": bytes(4097), b"d": None}))


def test_what_is_there_needs_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries, plaintext = tree({b"a": bytes(40_000), b"b": bytes(40_000)})
    with pytest.raises(Stopped):
        fetch(tmp_path / "photos", entries, plaintext, step=10_000, stop_at=60_000)
    Space().set(monkeypatch, f_bavail=6)
    fetch(tmp_path / "photos", entries, plaintext)


def test_room_that_others_take_is_noticed_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack, "CHECK_EVERY_BYTES", 10_000)
    entries, plaintext = tree({b"big": bytes(100_000)})
    space = Space()
    space.set(monkeypatch, f_bavail=25)
    sizes = []
    really_check = Room.check

    def check(room: Room) -> None:
        sizes.append(room.bytes)
        space.f_bavail = 28 - len(sizes) * 3
        really_check(room)

    monkeypatch.setattr(Room, "check", check)
    with pytest.raises(LocalError, match="more bytes"):
        fetch(tmp_path / "photos", entries, plaintext, step=1000)
    assert 100_000 > (tmp_path / "photos.part" / "tree" / "big").stat().st_size >= 10_000


@given(st.lists(st.binary(max_size=9000), max_size=6), st.integers(1, 5000))
def test_room_adds_up(tmp_path_factory: pytest.TempPathFactory, contents: list[bytes], step: int) -> None:
    """What is still to be written is nothing when all is."""
    entries, plaintext = tree({b"d/%d" % number: content for number, content in enumerate(contents)})
    with open_part_folder(tmp_path_factory.mktemp("room") / "p.part") as part:
        room = Room(part.tree)
        for entry in entries:
            room.add(entry)
        with closing(TreeWriter(part.tree, room, was_there=False)) as writer:
            for _ in writer.examine(entries):
                pass
            missing = writer.found()
            writer.begin(missing)
            for at in range(0, len(plaintext), step):
                writer.write(at, plaintext[at : at + step])
        assert (room.bytes, room.names) == (0, 0)
        assert writer.files_done == len(contents)
