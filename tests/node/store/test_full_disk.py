"""A disk without a free byte keeps no store from opening: what it has is served, and with room it goes on.

The disk is a real one, of 4 MiB, in a mount namespace of its own. Systems that forbid those leave this out.
"""

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from kit import stores
from kit.stores import Published
from shoal.dht import Address, NodeId
from shoal.node.errors import LocalError
from shoal.node.home.daemon import DaemonNote, read_note, write_note
from shoal.node.home.home import Home
from shoal.node.store import RealDisk, StoreFull

NOTE = DaemonNote(NodeId(bytes(32)), (Address("127.0.0.1", 4750),))
INSIDE = "SHOAL_TEST_SMALL_DISK"


def in_a_small_disk(test: str, tmp_path: Path) -> None:
    """Run one test of this file in a process that has a small file system mounted on `tmp_path`."""
    script = f'mount -t tmpfs -o size=4m,nr_inodes=100 none {tmp_path} && exec "$@"'
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"{__file__}::{test}"]
    result = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, "sh", *command],
        env=os.environ | {INSIDE: str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if "unshare failed" in result.stderr or "must be superuser" in result.stderr or "not permitted" in result.stderr:
        pytest.skip(f"this system allows no mount namespace: {result.stderr.strip()}")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "1 passed" in result.stdout


@pytest.fixture
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    """The small disk, inside; outside None, after the test has been run inside."""
    folder = os.environ.get(INSIDE)
    if folder is None:
        in_a_small_disk(request.node.name, tmp_path)
    return None if folder is None else Path(folder)


def fill(folder: Path) -> Path:
    """Take every byte that is free."""
    filler = folder / "filler"
    with open(filler, "ab", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
    assert os.statvfs(folder).f_bavail == 0
    return filler


@pytest.mark.parametrize("is_killed", [True, False])
def test_a_store_opens_serves_and_goes_on(disk: Path | None, medium: Published, is_killed: bool) -> None:
    if disk is None:
        return
    place = stores.Place(RealDisk(), disk / "store")
    if is_killed:
        child = os.fork()
        if not child:
            stores.put(place.open(), medium, 0)
            os._exit(0)  # closes nothing
        assert os.waitpid(child, 0)[1] == 0
    else:
        store = place.open()
        stores.put(store, medium, 0)
        store.close()
    place.share_path(medium, 0).with_name(f"{'ab' * 32}.0").write_bytes(b"unknown to the database")
    filler = fill(disk)
    store = place.open()
    assert store.available_bytes(stores.NOW) == 0
    stores.check_share(store, medium, 0)
    with pytest.raises(StoreFull):
        stores.put(store, medium, 1, stores.upload_id(2))
    filler.unlink()
    stores.put(store, medium, 1, stores.upload_id(3))
    stores.check_share(store, medium, 1)
    store.close()


def test_a_killed_daemons_note_is_written_over(disk: Path | None) -> None:
    if disk is None:
        return
    home = Home.at(disk)
    write_note(home, DaemonNote(NodeId(bytes(32)), (Address("127.0.0.1", 1), Address("127.0.0.1", 2))))
    fill(disk)
    write_note(home, NOTE)
    assert read_note(home) == NOTE
    home.daemon_file.unlink()
    fill(disk)
    with pytest.raises(LocalError, match="No space left"):
        write_note(home, NOTE)


def test_a_disk_without_an_inode_has_no_room(disk: Path | None) -> None:
    """It has megabytes free, and takes no file."""
    if disk is None:
        return
    assert RealDisk().free_bytes(disk) > 2**20
    with suppress(OSError):
        for number in range(200):
            (disk / str(number)).touch()
    assert os.statvfs(disk).f_bavail > 0
    assert RealDisk().free_bytes(disk) == 0
