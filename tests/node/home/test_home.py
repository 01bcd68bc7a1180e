"""A home: private folders and files, whole writes, and a lock that dies with its process."""

import errno
import fcntl
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from shoal.node.errors import AlreadyRunning, LocalError
from shoal.node.home.home import Home, daemon_lock, read_secret, still_at, write_private


def mode_of(path: Path) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


@pytest.fixture(params=[0o000, 0o022, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    """Whatever the user's mask is."""
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


# --- where it is


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "f"
    write_private(path, b"old")

    def interrupted(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_private(path, b"new")
    assert os.listdir(tmp_path) == ["f"]
    assert path.read_bytes() == b"old"


def test_an_explicit_home_is_one_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    home = Home.locate(tmp_path / "h")
    assert home.config == home.data == home.cache == tmp_path / "h"
    assert Home.locate(type(tmp_path)("h")) == home


def test_without_one_it_follows_xdg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for variable in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    defaults = Home(tmp_path / ".config/shoal", tmp_path / ".local/share/shoal", tmp_path / ".cache/shoal")
    assert Home.locate() == defaults
    monkeypatch.setenv("XDG_DATA_HOME", "/elsewhere")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/is/ignored")
    monkeypatch.setenv("XDG_CONFIG_HOME", "")
    assert Home.locate() == Home(defaults.config, type(tmp_path)("/elsewhere/shoal"), defaults.cache)


def test_a_user_without_a_home_folder_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> None:
        raise RuntimeError("Could not determine home directory.")

    for variable in ("XDG_CONFIG_HOME", "SHOAL_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("pathlib.Path.home", nobody)
    with pytest.raises(LocalError, match="--home"):
        Home.locate(None)


def test_files_of_different_purposes_never_share_a_name(tmp_path: Path) -> None:
    home = Home.at(tmp_path)
    paths = [
        home.settings_file,
        home.key_file,
        home.lock_file,
        home.daemon_file,
        home.store_folder,
        home.journal_folder,
        home.ledger_file,
        home.contacts_file(bytes(8)),
        home.contacts_file(b"12345678"),
    ]
    assert len(set(paths)) == len(paths)


# --- folders


def test_folders_are_for_their_user_alone(tmp_path: Path, umask: int) -> None:
    home = Home(tmp_path / "c/shoal", tmp_path / "d/shoal", tmp_path / "e/shoal")
    home.create()
    home.create()
    assert [mode_of(folder) for folder in (home.config, home.data, home.cache)] == [0o700] * 3


def test_a_home_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "home"):
        with pytest.raises(LocalError, match="home folder"):
            Home.at(folder).create()


# --- whole writes


def test_written_files_are_private_and_whole(tmp_path: Path, umask: int) -> None:
    path = tmp_path / "f"
    for content in (b"", b"one", b"two" * 100_000):
        write_private(path, content)
        assert path.read_bytes() == content
        assert mode_of(path) == 0o600
    assert os.listdir(tmp_path) == ["f"]


def test_a_laxer_file_becomes_private(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"old")
    path.chmod(0o666)
    write_private(path, b"new")
    assert mode_of(path) == 0o600


def test_durable_before_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write, sync the file, rename, sync the folder; in this order."""
    calls = []
    fsync, replace = os.fsync, os.replace

    def spy_fsync(descriptor: int) -> None:
        calls.append("sync folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "sync file")
        fsync(descriptor)

    def spy_replace(source: Path, target: Path) -> None:
        calls.append(f"rename {os.path.getsize(source)}")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", spy_fsync)
    monkeypatch.setattr(os, "replace", spy_replace)
    write_private(tmp_path / "f", b"12345")
    assert calls == ["sync file", "rename 5", "sync folder"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f"
    write_private(path, b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(LocalError, match="No space left"):
        write_private(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["f"]


def test_a_place_that_takes_no_file_is_named(tmp_path: Path) -> None:
    """As root no mode forbids anything; a folder where a file should be does, and a file where a folder should be."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("kept")
    for path in (tmp_path / "folder", tmp_path / "file" / "f", tmp_path / "missing" / "f"):
        with pytest.raises(LocalError, match="Cannot write"):
            write_private(path, b"x")
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]
    assert (tmp_path / "file").read_text() == "kept"


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("kept")
    (tmp_path / "f").symlink_to(tmp_path / "victim")
    write_private(tmp_path / "f", b"new")
    assert (tmp_path / "victim").read_text() == "kept"
    assert not (tmp_path / "f").is_symlink()


# --- secrets


def test_a_secret_is_read(tmp_path: Path) -> None:
    write_private(tmp_path / "key", bytes(40))
    assert read_secret(tmp_path / "key", 40) == bytes(40)


def test_a_missing_secret_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_secret(tmp_path / "key", 40)


@pytest.mark.parametrize("size", [0, 1, 39, 41, 5000])
def test_a_secret_of_another_length_is_damaged(tmp_path: Path, size: int) -> None:
    write_private(tmp_path / "key", bytes(size))
    with pytest.raises(LocalError, match="damaged"):
        read_secret(tmp_path / "key", 40)


@pytest.mark.parametrize("mode", [0o601, 0o604, 0o640, 0o660, 0o777])
def test_a_secret_that_others_may_touch_is_refused(tmp_path: Path, mode: int) -> None:
    write_private(tmp_path / "key", bytes(40))
    (tmp_path / "key").chmod(mode)
    with pytest.raises(LocalError, match="other users"):
        read_secret(tmp_path / "key", 40)


def test_a_secret_is_a_plain_file(tmp_path: Path) -> None:
    write_private(tmp_path / "real", bytes(40))
    (tmp_path / "link").symlink_to("real")
    with pytest.raises(LocalError, match="symbolic link"):
        read_secret(tmp_path / "link", 40)
    (tmp_path / "folder").mkdir(mode=0o700)
    os.mkfifo(tmp_path / "pipe", 0o600)  # opening it to read would wait for a writer
    for name in ("folder", "pipe"):
        with pytest.raises(LocalError, match="not a plain file"):
            read_secret(tmp_path / name, 40)


# --- the lock

HOLD_LOCK = """
import sys, time
from pathlib import Path
from shoal.node.home.home import Home, daemon_lock
with daemon_lock(Home.at(Path(sys.argv[1]))):
    print("held", flush=True)
    time.sleep(60)
"""


def test_one_daemon_at_a_time(home: Home) -> None:
    with daemon_lock(home):
        assert mode_of(home.lock_file) == 0o600
        with pytest.raises(AlreadyRunning), daemon_lock(home):
            pass
    with daemon_lock(home):
        pass


def test_the_lock_dies_with_its_process(home: Home) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD_LOCK, home.data], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"held\n"
            with pytest.raises(AlreadyRunning), daemon_lock(home):
                pass
        finally:
            process.kill()
        process.wait()
        with daemon_lock(home):
            pass


def test_a_lock_file_that_was_removed_lets_nobody_in(home: Home) -> None:
    with daemon_lock(home):
        home.lock_file.unlink()
        with pytest.raises(AlreadyRunning), daemon_lock(home):
            pass


def test_where_folders_cannot_be_locked_the_file_is(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    real = fcntl.flock

    def files_only(descriptor: int, operation: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", files_only)
    with daemon_lock(home), pytest.raises(AlreadyRunning), daemon_lock(home):
        pass


def test_a_lock_file_that_is_something_else_is_named(home: Home, tmp_path: Path) -> None:
    home.lock_file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LocalError, match="lock file"), daemon_lock(home):
        pass
    assert not (tmp_path / "elsewhere").exists()
    home.lock_file.unlink()
    home.lock_file.mkdir()
    with pytest.raises(LocalError, match="lock file"), daemon_lock(home):
        pass


def test_a_file_that_was_renamed_or_replaced_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "f"
    with open(path, "wb") as file:
        assert still_at(path, file.fileno())
        path.rename(tmp_path / "g")
        assert not still_at(path, file.fileno())
        path.write_bytes(b"")
        assert not still_at(path, file.fileno())
