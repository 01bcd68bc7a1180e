"""What a person, a desktop or a mistake puts among the shares: left alone, never followed, and no reason to stop."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from kit import stores
from kit.stores import Published
from shoal.node.store import LocalFailure, NotHeld, RealDisk
from shoal.node.store.shareformat import folder_of

UPLOAD = f"{'ab' * 16}.upload"


@pytest.fixture
def place(tmp_path: Path) -> stores.Place:
    return stores.Place(RealDisk(), tmp_path / "store")


def make_link(path: Path) -> None:
    path.symlink_to("/etc/hostname")


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, make_link])
def test_what_is_named_like_a_share_and_is_no_file(
    place: stores.Place, medium: Published, make: Callable[[Path], None]
) -> None:
    """A pipe would hold up the start for ever; a link would lead out of the store."""
    store = place.open()
    stores.put(store, medium, 0)
    share = place.share_path(medium, 0)
    for name in (f"{'cd' * 32}.3", UPLOAD, f"{'cd' * 32}.3.1.damaged"):
        make(share.with_name(name))
    store.close()
    share.unlink()
    make(share)
    store = place.open()
    assert store.reconciled.unreadable == 4
    assert store.reconciled.lost == 1
    with pytest.raises(NotHeld):
        store.read(medium.file_id, 0, 0, 1, False)
    assert len(os.listdir(share.parent)) == 4
    store.close()


def test_files_of_a_desktop(place: stores.Place, medium: Published) -> None:
    store = place.open()
    stores.put(store, medium, 0)
    store.close()
    place.share_path(medium, 0).with_name("Thumbs.db").write_bytes(b"x")
    (place.root / "shares" / ".DS_Store").write_bytes(b"x" * 5000)
    store = place.open()
    assert store.reconciled.unreadable == 2
    assert store.reconciled.stray_bytes == 12288
    assert store.read(medium.file_id, 0, 0, 1, False).blocks
    store.close()


def test_nothing_outside_the_store_is_touched(place: stores.Place, medium: Published, tmp_path: Path) -> None:
    """A link to a folder is not followed: not at the start, not for new shares, not to remove what is there."""
    store = place.open()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / UPLOAD).write_bytes(b"somebody's")
    (place.root / "shares" / "mine").symlink_to(elsewhere)
    upload = stores.upload_id(1)
    (place.root / "shares" / folder_of(upload)).symlink_to(elsewhere)
    store.close()
    store = place.open()
    assert store.reconciled.unreadable == 2
    with pytest.raises(LocalFailure):
        stores.put(store, medium, 0, upload)
    assert os.listdir(elsewhere) == [UPLOAD]
    assert (elsewhere / UPLOAD).read_bytes() == b"somebody's"
    store.close()


def test_a_strange_upload_is_left_where_it_is(place: stores.Place) -> None:
    """Only what this store could have named is taken for a leftover of it."""
    place.open().close()
    strange = place.root / "shares" / "zz"
    strange.mkdir(parents=True)
    for name in ("movie.upload", UPLOAD):
        (strange / name).write_bytes(b"mine")
    assert folder_of(bytes.fromhex("ab" * 16)) != "zz"
    place.open().close()
    assert sorted(os.listdir(strange)) == [UPLOAD, "movie.upload"]
