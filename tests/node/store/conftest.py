"""Published files to store, and stores on both kinds of disk."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kit.stores import Place, Published, publish
from shoal.node.store import Disk, RealDisk, ShareStore
from shoal.simulation.disk import SimDisk


@pytest.fixture(scope="session")
def small() -> Published:
    """Shares of one block of 1000 bytes: kept in the database."""
    return publish(1, 1000)


@pytest.fixture(scope="session")
def medium() -> Published:
    """Shares of 11 blocks, the last one short: an odd tree."""
    return publish(11, 777)


@pytest.fixture(params=["real", "simulated"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """A directory on each kind of disk."""
    disk: Disk = RealDisk() if request.param == "real" else SimDisk()
    root = tmp_path / "store" if request.param == "real" else Path("/sim/store")
    place = Place(disk, root)
    yield place
    for store in place.opened:
        store.close()


@pytest.fixture
def store(place: Place) -> ShareStore:
    """An empty store with plenty of room."""
    return place.open()


@pytest.fixture
def sim() -> Callable[[], Place]:
    """Places on fresh simulated disks."""
    return lambda: Place(SimDisk(), Path("/sim/store"))
