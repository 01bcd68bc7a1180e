"""Where a fetched file goes: never over another, never outside the folder, whatever its publisher called it."""

import errno
import os
import socket
import stat
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.erasure import FileId, Link, LinkKind
from shoal.node.cipher import FileCipher, Metadata
from shoal.node.errors import LocalError, ShoalError, UsageError
from shoal.node.fetching import targets
from shoal.node.fetching.fetch import OpenedFile
from shoal.node.fetching.targets import check_target, matching_segments, open_part, part_path, resolve_target
from shoal.node.holders.search import Located
from shoal.node.names import name_text

LINK = Link(FileId(bytes(range(32))), LinkKind.PRIVATE, bytes(32))
OTHER = Link(FileId(bytes(range(1, 33))), LinkKind.PRIVATE, bytes(32))


def opened(name: bytes | None) -> OpenedFile:
    """A file that was found under this published name."""
    unused: Any = None
    return OpenedFile(unused, unused, Metadata(5, None if name is None else name_text(name)))


def finish(path: Path, target: Path, content: bytes = b"fetched", *, force: bool = False) -> None:
    with open_part(path) as part:
        part.truncate(0)
        part.write(0, content)
        part.finish(target, force=force)


def assert_shown_safely(caught: Any) -> str:
    message = str(caught.value)
    assert message.isprintable()
    return message


# --- names of parts


@given(st.binary(min_size=1, max_size=255).filter(lambda raw: not {0, 0x2F} & set(raw) and raw not in (b".", b"..")))
def test_a_part_lies_beside_its_target_under_a_possible_name(raw: bytes) -> None:
    target = Path("/folder") / os.fsdecode(raw)
    part = part_path(target, LINK)
    assert part.parent == target.parent
    assert part != target or raw.endswith(b".part")
    assert len(os.fsencode(part.name)) <= 255
    assert part != part_path(target, OTHER)


def test_a_part_says_what_it_is() -> None:
    assert part_path(Path("/folder/fish.txt"), LINK) == Path("/folder/fish.txt.00010203.part")


# --- parts


def test_a_part_grows_and_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "f.part"
    with open_part(path) as part:
        part.write(3, b"def")
        part.write(0, b"abc")
    with open_part(path) as part:
        assert part.size() == 6
        assert part.read(2, 100) == b"cdef"
        part.truncate(4)
    assert path.read_bytes() == b"abcd"


def test_a_long_part_goes_to_the_disk_and_leaves_the_memory_as_it_grows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[object, ...]] = []
    monkeypatch.setattr(targets, "STREAMED_BYTES", 100_000)
    monkeypatch.setattr(os, "fsync", lambda descriptor: calls.append(("fsync",)))
    monkeypatch.setattr(os, "posix_fadvise", lambda descriptor, *what: calls.append(what))
    with open_part(tmp_path / "f.part") as part:
        for number in range(5):
            part.write(number * 50_000, bytes([number]) * 50_000)
        assert part.read(99_999, 2) == b"\x01\x02"
    assert calls == [("fsync",), (0, 100_000, os.POSIX_FADV_DONTNEED), ("fsync",), (0, 200_000, os.POSIX_FADV_DONTNEED)]


def test_an_empty_part_is_not_left_behind(tmp_path: Path) -> None:
    with open_part(tmp_path / "f.part"):
        assert os.listdir(tmp_path) == ["f.part"]
    assert os.listdir(tmp_path) == []


def test_two_fetches_do_not_mix(tmp_path: Path) -> None:
    """Not even when the first has not written a byte yet."""
    path = tmp_path / "f.part"
    with open_part(path) as part:
        for _ in range(2):
            with pytest.raises(LocalError, match="Another process"), open_part(path):
                pass
        part.write(0, b"whole")
        part.finish(tmp_path / "f", force=False)
    assert (tmp_path / "f").read_bytes() == b"whole"


def test_a_part_that_was_just_finished_is_not_taken_for_a_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock of a finished fetch is free, and its file has another name: that one must not be touched."""
    path = tmp_path / "f.part"
    path.write_bytes(b"whole")
    really_open = os.open

    def open_and_lose(name: Path, *args: Any, **kwargs: Any) -> int:
        descriptor = really_open(name, *args, **kwargs)
        if name == path and path.exists() and path.stat().st_size:
            path.rename(tmp_path / "f")
        return descriptor

    monkeypatch.setattr(os, "open", open_and_lose)
    with open_part(path) as part:
        assert part.size() == 0
        part.write(0, b"another")
    assert (tmp_path / "f").read_bytes() == b"whole"


def test_a_file_gets_its_name_only_when_nothing_can_fail_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the command fails, and the same command then says that the file exists."""
    really_open = os.open

    def no_descriptor_left(name: Path, flags: int, *rest: Any, **named: Any) -> Any:
        if flags & os.O_DIRECTORY:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return really_open(name, flags, *rest, **named)

    with open_part(tmp_path / "f.part") as part:
        part.write(0, b"whole")
        monkeypatch.setattr(os, "open", no_descriptor_left)
        with pytest.raises(OSError, match="Too many open files"):
            part.finish(tmp_path / "f", force=False)
    assert os.listdir(tmp_path) == ["f.part"]


def test_a_full_disk_comes_with_advice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "open", full)
    with pytest.raises(LocalError, match=r"No space left on device\. Make room"), open_part(tmp_path / "f.part"):
        pass


def test_a_link_in_place_of_a_part_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("kept")
    (tmp_path / "f.part").symlink_to("victim")
    with pytest.raises(LocalError), open_part(tmp_path / "f.part"):
        pass
    assert (tmp_path / "victim").read_text() == "kept"


def test_places_that_take_no_part_are_named(tmp_path: Path) -> None:
    """What a read-only folder is to others, a file in place of a folder is to root."""
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.part").mkdir()
    for path in (tmp_path / "file" / "f.part", tmp_path / "missing" / "f.part", tmp_path / "folder.part"):
        with pytest.raises(LocalError, match="Cannot write"), open_part(path):
            pass


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_the_users_mask_decides_who_may_read(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        finish(tmp_path / "f.part", tmp_path / "f")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == mode


# --- finishing


def test_a_finished_file_has_its_name_and_no_other(tmp_path: Path) -> None:
    finish(tmp_path / "f.part", tmp_path / "f")
    assert os.listdir(tmp_path) == ["f"]
    assert (tmp_path / "f").stat().st_nlink == 1


def test_an_empty_file_is_a_file_too(tmp_path: Path) -> None:
    finish(tmp_path / "f.part", tmp_path / "f", b"")
    assert os.listdir(tmp_path) == ["f"]


@pytest.mark.parametrize("linkable", [True, False])
def test_a_target_that_appears_at_the_last_moment_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, linkable: bool
) -> None:
    if not linkable:
        monkeypatch.setattr(os, "link", refuse_links)
    (tmp_path / "f").write_text("theirs")
    with pytest.raises(FileExistsError):
        finish(tmp_path / "f.part", tmp_path / "f")
    assert (tmp_path / "f").read_text() == "theirs"
    assert (tmp_path / "f.part").read_bytes() == b"fetched", "what was fetched is not lost"


def refuse_links(*args: Any, **kwargs: Any) -> None:
    """A file system without hard links."""
    raise PermissionError(1, "Operation not permitted")


def test_without_hard_links_it_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", refuse_links)
    finish(tmp_path / "f.part", tmp_path / "f")
    assert os.listdir(tmp_path) == ["f"]


def test_force_replaces_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("kept")
    (tmp_path / "f").symlink_to("victim")
    finish(tmp_path / "f.part", tmp_path / "f", force=True)
    assert (tmp_path / "f").read_bytes() == b"fetched"
    assert (tmp_path / "victim").read_text() == "kept"


# --- targets


def test_targets_that_will_do(tmp_path: Path) -> None:
    check_target(None, force=False)
    check_target(tmp_path, force=False)
    check_target(tmp_path / "new", force=False)
    (tmp_path / "old").write_text("")
    check_target(tmp_path / "old", force=True)


def test_an_existing_target_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("")
    (tmp_path / "dangling").symlink_to("nowhere")
    for name in ("old", "dangling"):
        with pytest.raises(LocalError, match="--force"):
            check_target(tmp_path / name, force=False)


@pytest.mark.parametrize("name", ["missing/f", "file/f", "n\0l", "x" * 5000])
def test_targets_that_cannot_be(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LocalError) as caught:
        check_target(tmp_path / name, force=True)
    assert_shown_safely(caught)


def test_devices_pipes_and_sockets_are_never_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        for target in (Path("/dev/null"), tmp_path / "pipe", tmp_path / "socket"):
            with pytest.raises(LocalError, match="device"):
                check_target(target, force=True)


# --- published names


def test_the_published_name_is_used_in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve_target(tmp_path, opened(b"fish.txt"), force=False) == tmp_path / "fish.txt"
    assert resolve_target(None, opened(b"fish.txt"), force=False) == tmp_path / "fish.txt"
    assert resolve_target(tmp_path / "mine", opened(b"fish.txt"), force=False) == tmp_path / "mine"
    assert resolve_target(tmp_path / "mine", opened(None), force=False) == tmp_path / "mine"


@pytest.mark.parametrize(
    "name",
    [
        b"",
        b".",
        b"..",
        b"/",
        b"../x",
        b"/etc/x",
        b"a/b",
        b"a/",
        b"..\0",
        b"n\0l",
        b"n" * 256,
        b"../../../../etc/cron.d/x",
    ],
)
def test_hostile_names_stay_out(tmp_path: Path, name: bytes) -> None:
    with pytest.raises(UsageError, match="-o NAME") as caught:
        resolve_target(tmp_path, opened(name), force=True)
    assert_shown_safely(caught)
    assert os.listdir(tmp_path) == []


@given(st.binary(max_size=300))
def test_no_name_leaves_the_folder(name: bytes) -> None:
    try:
        path = resolve_target(Path("/proc/self/fdinfo"), opened(name), force=False)
    except ShoalError:
        return
    assert path.parent == Path("/proc/self/fdinfo")
    assert os.fsencode(path.name) == name


@pytest.mark.parametrize("name", [b"new\nline", b"\x1b[31m", b"\xff\xfe", b"-rf", b"~", b"C:\\x", b"n" * 255])
def test_odd_names_are_names(tmp_path: Path, name: bytes) -> None:
    path = resolve_target(tmp_path, opened(name), force=False)
    finish(part_path(path, LINK), path)
    assert os.listdir(os.fsencode(tmp_path)) == [name]
    with pytest.raises(LocalError) as caught:
        resolve_target(tmp_path, opened(name), force=False)
    assert_shown_safely(caught)


def test_a_file_without_a_name_needs_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="-o NAME"):
        resolve_target(tmp_path, opened(None), force=False)


def test_a_published_name_never_replaces_a_file_or_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    for name, force in ((b"file", False), (b"folder", False), (b"folder", True)):
        with pytest.raises(LocalError):
            resolve_target(tmp_path, opened(name), force=force)


# --- resuming: what is on disk is checked, not believed


@pytest.fixture(scope="module")
def three_segments(node_vector_builder: ModuleType) -> tuple[bytes, OpenedFile, list[bytes]]:
    plaintext = node_vector_builder.bytes_for("plaintext", 300_000)
    manifest, _, encoded = node_vector_builder.publish(plaintext, 2, 4, public=False)
    cipher = FileCipher(node_vector_builder.FILE_KEY)
    file = OpenedFile(Located(manifest, []), cipher, cipher.open_metadata(manifest.metadata))
    return plaintext, file, [segment.data_leaf for segment in encoded]


def test_what_is_right_on_disk_is_recognised(
    tmp_path: Path, three_segments: tuple[bytes, OpenedFile, list[bytes]]
) -> None:
    plaintext, file, leaves = three_segments
    step = file.located.manifest.layout.segment_plain_bytes
    with open_part(tmp_path / "f.part") as part:
        part.write(0, plaintext)
        assert matching_segments(file, part, 0, leaves) == 2, "the last, unfinished segment is fetched again"
        assert matching_segments(file, part, 1, leaves[1:2]) == 1
        assert matching_segments(file, part, 0, leaves[1:]) == 0
        for at in (0, step - 1, step, 2 * step - 1):
            part.write(at, bytes([plaintext[at] ^ 1]))
            assert matching_segments(file, part, 0, leaves) == at // step
            part.write(at, plaintext[at : at + 1])
        part.truncate(2 * step - 1)
        assert matching_segments(file, part, 0, leaves) == 1
