"""File systems that cannot sync a folder: nothing fails for it, and every other failure is told."""

import errno
import os
import stat
from pathlib import Path

import pytest

from shoal.dht import NetworkParameters
from shoal.node.durable import sync_folder
from shoal.node.fetching.targets import open_part
from shoal.node.home.home import Home
from shoal.node.home.settings import NodeSettings, init_node
from shoal.node.store.disk import RealDisk

UNKNOWN = [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS]


def refuse_folders(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """Let each sync of a folder fail with `code`, as some network file systems do."""
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(code, os.strerror(code))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)


@pytest.mark.parametrize("code", UNKNOWN)
def test_a_node_is_set_up_where_folders_cannot_be_synced(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_folders(monkeypatch, code)
    home = Home.at(tmp_path / "home")
    node_id = init_node(home, NodeSettings(), NetworkParameters("here", 0, private=True))
    assert len(node_id) == 32
    assert home.key_file.stat().st_size == 40


@pytest.mark.parametrize("code", UNKNOWN)
def test_a_whole_file_gets_its_name_there(code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_folders(monkeypatch, code)
    with open_part(tmp_path / "a.part") as part:
        part.write(0, b"whole")
        part.finish(tmp_path / "a", force=False)
    assert os.listdir(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"whole"


def test_the_store_works_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_folders(monkeypatch, errno.EINVAL)
    disk = RealDisk()
    disk.make_directories(tmp_path / "a" / "b")
    disk.create(tmp_path / "a" / "b" / "share").close()
    disk.rename(tmp_path / "a" / "b" / "share", tmp_path / "a" / "b" / "renamed")
    disk.fsync_directory(tmp_path / "a" / "b")
    assert list(disk.list_directory(tmp_path / "a" / "b")) == ["renamed"]


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_a_sync_that_fails_is_told(code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_folders(monkeypatch, code)
    with pytest.raises(OSError, match=os.strerror(code)):
        sync_folder(tmp_path)
