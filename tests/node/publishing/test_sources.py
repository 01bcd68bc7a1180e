"""What can be published, what cannot and why, and a file that does not hold still."""

import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.node import Environment
from shoal.node.errors import LocalError, ShoalError, UsageError
from shoal.node.fingerprints import Fingerprint
from shoal.node.names import printable
from shoal.node.publishing.opening import open_source
from shoal.node.publishing.sources import Source

CONTENT = bytes(range(256)) * 40


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "fish.txt"
    path.write_bytes(CONTENT)
    return path


def append(path: str | Path, data: bytes) -> None:
    with open(path, "ab") as file:
        file.write(data)


def content_of(path: Path) -> bytes:
    return path.read_bytes()


def rewrite(path: Path, data: bytes) -> None:
    path.write_bytes(data)


async def chunks_of(*chunks: Any) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def refusal(what: str | Path, env: Environment) -> ShoalError:
    with pytest.raises(ShoalError) as caught:
        await open_source(what, env)
    assert str(caught.value).isprintable()
    return caught.value


# --- files


async def test_a_file_is_read_in_the_pieces_asked_for(path: Path, env: Environment) -> None:
    source = await open_source(path, env)
    assert (source.size, source.name) == (len(CONTENT), "fish.txt")
    assert await source.read(100) == CONTENT[:100]
    assert await source.read(0) == b""
    await source.seek(5000)
    assert await source.read(10**6) == CONTENT[5000:]
    assert await source.read(1) == b""
    await source.finish()
    await source.aclose()


async def test_text_names_a_file_too(path: Path, env: Environment) -> None:
    source = await open_source(str(path), env)
    assert await source.read(10**6) == CONTENT
    await source.aclose()


async def test_an_empty_file(tmp_path: Path, env: Environment) -> None:
    (tmp_path / "empty").write_bytes(b"")
    source = await open_source(tmp_path / "empty", env)
    assert source.size == 0
    assert await source.read(10) == b""
    await source.finish()
    await source.aclose()


async def test_a_look_tells_files_apart(path: Path, tmp_path: Path, env: Environment) -> None:
    source = await open_source(path, env)
    again = await open_source(path, env)
    (tmp_path / "copy").write_bytes(CONTENT)
    copy = await open_source(tmp_path / "copy", env)
    assert await source.look() == await again.look() != await copy.look()
    assert await source.look() == Fingerprint.of(os.stat(path))
    assert source.identity == again.identity == [str(path)]
    for each in (source, again, copy):
        await each.aclose()


async def test_a_link_to_a_file_is_followed(path: Path, tmp_path: Path, env: Environment) -> None:
    (tmp_path / "link").symlink_to(path)
    source = await open_source(tmp_path / "link", env)
    assert await source.read(10**6) == CONTENT
    await source.aclose()


# --- what is none


async def test_a_missing_file(tmp_path: Path, env: Environment) -> None:
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for name in ("missing", "dangling", "no/such/folder"):
        error = await refusal(tmp_path / name, env)
        assert isinstance(error, LocalError)
        assert "No such file" in str(error)


async def test_paths_that_cannot_be(path: Path, tmp_path: Path, env: Environment) -> None:
    """As root no mode makes a file unreadable: loops, files used as folders and impossible names do."""
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for bad in (tmp_path / "loop", path / "below", tmp_path / ("n" * 300), tmp_path / "nul\0", "\0"):
        assert isinstance(await refusal(bad, env), LocalError)


async def test_a_file_that_may_not_be_read(path: Path, env: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a user who is not root meets."""

    def forbidden(*args: Any, **kwargs: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", forbidden)
    error = await refusal(path, env)
    assert isinstance(error, LocalError)
    assert "fish.txt: Permission denied" in str(error)


async def test_a_disk_that_fails_while_reading(path: Path, env: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    source = await open_source(path, env)

    def broken(*args: Any) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", broken)
        with pytest.raises(LocalError, match=r"fish\.txt: Input/output error"):
            await source.read(10)
    await source.aclose()


async def test_a_path_of_a_directory_is_walked(tmp_path: Path, env: Environment) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "file").write_bytes(b"content")
    source = await open_source(tmp_path, env)
    assert (source.name, source.entries) == (tmp_path.name, 2)
    assert (await source.read(7)) == b"content"
    await source.aclose()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(LocalError, match="pipe: A named pipe"):
        await open_source(tmp_path, env)


async def test_a_pipe_is_refused_without_waiting(tmp_path: Path, env: Environment) -> None:
    os.mkfifo(tmp_path / "pipe")
    error = await refusal(tmp_path / "pipe", env)
    assert isinstance(error, UsageError)
    assert "named pipe" in str(error)


async def test_a_pipe_put_in_place_at_the_last_moment_is_refused_too(
    path: Path, tmp_path: Path, env: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "pipe")
    before = os.stat(path)
    monkeypatch.setattr(os, "stat", lambda name: before)
    assert isinstance(await refusal(tmp_path / "pipe", env), UsageError)


async def test_sockets_and_devices_are_refused(tmp_path: Path, env: Environment) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        for bad in (tmp_path / "socket", "/dev/null", "/dev/zero", "/dev/tty"):
            error = await refusal(bad, env)
            assert isinstance(error, UsageError)
            assert "Only regular files" in str(error)


@pytest.mark.parametrize("name", [b"\x1b[31mred\n", b"\xff\xfe", b"tab\there", "‮gpj.exe".encode()])
async def test_odd_names_are_read_and_never_shown_raw(tmp_path: Path, env: Environment, name: bytes) -> None:
    path = os.fsdecode(os.path.join(os.fsencode(tmp_path), name))
    assert os.path.basename(path).isprintable() is False
    await refusal(path, env)
    append(path, CONTENT)
    source = await open_source(path, env)
    assert source.name is not None
    assert os.fsencode(source.name) == name
    await source.aclose()


@given(st.text())
def test_printable_is(text: str) -> None:
    assert printable(text).isprintable()
    assert printable("plain é name.txt") == "plain é name.txt"


# --- files that do not hold still


async def read_all(source: Source, step: int = 1000) -> bytes:
    data = b""
    while piece := await source.read(step):
        data += piece
    return data


@pytest.mark.parametrize("change", ["grow", "shrink", "rewrite", "touch"])
async def test_a_changed_file_is_not_published(path: Path, env: Environment, change: str) -> None:
    source = await open_source(path, env)
    await source.read(1000)
    if change == "grow":
        append(path, b"more")
    elif change == "shrink":
        os.truncate(path, 2000)
    elif change == "rewrite":
        rewrite(path, CONTENT[::-1])
    os.utime(path, ns=(1, 1))
    await read_all(source)
    with pytest.raises(LocalError, match="changed while it was being read"):
        await source.finish()
    await source.aclose()


async def test_a_file_that_grows_as_fast_as_it_is_read_ends(path: Path, env: Environment) -> None:
    source = await open_source(path, env)
    data = b""
    while piece := await source.read(1000):
        data += piece
        append(path, bytes(2000))
    assert data == CONTENT
    with pytest.raises(LocalError, match="changed"):
        await source.finish()
    await source.aclose()


async def test_a_file_replaced_by_name_is_read_on_as_it_was(path: Path, tmp_path: Path, env: Environment) -> None:
    source = await open_source(path, env)
    (tmp_path / "new").write_bytes(b"other")
    os.replace(tmp_path / "new", path)
    assert await read_all(source) == CONTENT
    await source.finish()
    await source.aclose()


async def test_a_half_read_file_is_not_finished(path: Path, env: Environment) -> None:
    source = await open_source(path, env)
    await source.read(5)
    with pytest.raises(LocalError):
        await source.finish()
    await source.aclose()


async def test_a_file_without_a_true_size_is_refused(env: Environment) -> None:
    """Files in /proc say 0 bytes and have more: nothing may be published as empty that is not."""
    source = await open_source("/proc/self/status", env)
    assert await read_all(source) == b""
    with pytest.raises(LocalError, match="Pipe it"):
        await source.finish()
    await source.aclose()


async def test_a_file_shorter_than_it_claims_is_as_long_as_what_was_read(env: Environment) -> None:
    """Files in /sys say a page and have some bytes."""
    path = Path("/sys/devices/system/cpu/online")
    content = content_of(path)
    source = await open_source(path, env)
    assert source.size == os.stat(path).st_size > len(content) > 0
    for _ in range(2):
        await source.seek(0)
        assert await read_all(source) == content
        assert source.size == len(content)
        await source.finish()
    await source.aclose()


@pytest.mark.parametrize("change", ["mode", "name", "mtime set back"])
async def test_a_change_of_the_ctime_alone_is_seen_and_left_to_the_second_look(
    path: Path, tmp_path: Path, env: Environment, change: str
) -> None:
    source = await open_source(path, env)
    await read_all(source)
    before, times = await source.look(), os.stat(path)
    if change == "mode":
        os.chmod(path, 0o400)
    elif change == "name":
        os.link(path, tmp_path / "other name")
    else:
        rewrite(path, CONTENT[::-1])
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert await source.look() != before
    await source.finish()
    await source.aclose()


async def test_reading_beyond_the_end_gives_nothing(path: Path, env: Environment) -> None:
    """Where a resumed publish stands that had reached the padding."""
    source = await open_source(path, env)
    await source.seek(10**9)
    assert await source.read(100) == b""
    await source.finish()
    await source.aclose()


# --- streams


async def test_a_stream_comes_in_the_pieces_asked_for(env: Environment) -> None:
    source = await open_source(chunks_of(b"ab", b"", b"cdefg", bytearray(b"hi"), memoryview(b"j")), env)
    assert (source.size, source.identity, source.name) == (None, None, None)
    assert [await source.read(wanted) for wanted in (1, 3, 0, 4, 5, 5)] == [b"a", b"bcd", b"", b"efgh", b"ij", b""]
    await source.finish()
    await source.aclose()


async def test_a_short_stream_tells_its_size_when_it_is_looked_at(env: Environment) -> None:
    source = await open_source(chunks_of(b"ab", b"cdefg"), env)
    assert (source.identity, await source.peek(5), source.size) == (None, None, None)
    assert (await source.peek(8), source.size) == (7, 7)
    assert [await source.read(wanted) for wanted in (3, 5, 5)] == [b"abc", b"defg", b""]


async def test_a_file_is_not_read_to_tell_its_size(tmp_path: Path, env: Environment) -> None:
    (tmp_path / "f").write_bytes(b"abcdefg")
    source = await open_source(str(tmp_path / "f"), env)
    assert (source.identity, await source.peek(2), source.size) == ([str(tmp_path / "f")], 7, 7)
    assert await source.read(9) == b"abcdefg"
    await source.aclose()


async def test_a_stream_cannot_go_back(env: Environment) -> None:
    source = await open_source(chunks_of(b"ab"), env)
    with pytest.raises(UsageError, match="twice"):
        await source.seek(0)


async def test_an_input_that_fails_is_told(env: Environment) -> None:
    async def failing() -> AsyncIterator[bytes]:
        yield b"ab"
        raise OSError(5, "Input/output error")

    source = await open_source(failing(), env)
    with pytest.raises(LocalError, match="Input/output error"):
        await source.read(10)


async def test_a_failure_of_the_callers_passes_as_it_is(env: Environment) -> None:
    async def failing() -> AsyncIterator[bytes]:
        yield b"ab"
        raise RuntimeError("theirs")

    source = await open_source(failing(), env)
    with pytest.raises(RuntimeError, match="theirs"):
        await source.read(10)
