"""A disk that fails is told to the volunteer, in sentences, and does not take the node with it."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from shoal.dht import Address
from shoal.node import Home, Network, Node, NodeSettings, init_node, open_node, real_environment
from shoal.node.care.problems import Problems, no_room
from shoal.node.channel import RequestError
from shoal.node.store import DiskFailed, Limit, ShareDamaged, StoreFull, StoreHealth
from shoal.node.volunteer.store_calls import StoreCalls

NETWORK = Network.parse(b'network = "problems"\npow_bits = 0\nprivate = true\nepoch = "1s"\n', "here")
WELL = StoreHealth(3, 0, 0, 0, None, 0, 0, 0, 5.0, None)


@asynccontextmanager
async def volunteer(folder: Path) -> AsyncIterator[Node]:
    if not (folder / "node.key").exists():
        init_node(Home.at(folder), NodeSettings(), NETWORK.parameters)
    settings = NodeSettings(listen=(Address("127.0.0.1", 0),), reserve_bytes=0)
    async with open_node(folder, network=NETWORK, serve=True, settings=settings) as node:
        yield node


def test_what_is_said() -> None:
    problems = Problems()
    assert problems.of_disk(WELL) == []
    problems.failed(ShareDamaged(bytes(32), 1, "rot"))  # that is counted
    assert problems.of_disk(WELL) == []
    problems.failed(DiskFailed("free space: Input/output error"))
    (text,) = problems.of_disk(None)
    assert text.startswith("The share store does not work: free space: Input/output error.")
    problems.worked()
    assert problems.of_disk(WELL) == []
    problems.failed(StoreFull(Limit.DISK, 0, 0))
    assert problems.of_disk(WELL)[0].startswith("The disk is full")
    problems.worked()
    lost, damaged = problems.of_disk(StoreHealth(3, 1, 2, 0, None, 2, 0, 0, 5.0, None))
    assert lost.startswith("1 share is missing from the disk")
    assert damaged.startswith("2 shares are damaged")


@pytest.mark.parametrize(
    ("free", "reserve", "words"),
    [
        (0, 0, ["0 MB of the disk are free", "Make room on the disk."]),
        (2 * 10**9, 3 * 10**9, ["2 GB of the disk are free, and 3 GB are to stay free", "or lower the reserve"]),
        (10**9, 10**9, ["1 GB of the disk are free"]),
    ],
)
def test_a_disk_without_room_is_told_with_its_numbers(free: int, reserve: int, words: list[str]) -> None:
    (text,) = no_room(free, reserve)
    assert all(each in text for each in words)


def test_a_disk_with_room_is_no_news() -> None:
    assert no_room(10**9 + 1, 10**9) == []


async def test_a_quota_that_is_used_up_is_told() -> None:
    """The system refuses bytes although its figures show room; a limit of our own is no problem of the machine."""

    async def refuse(error: StoreFull) -> None:
        raise error

    problems = Problems()
    calls = StoreCalls(real_environment(), problems)
    with pytest.raises(RequestError):
        await calls.asked(refuse(StoreFull(Limit.CAPACITY, 10, 5)))
    assert problems.of_disk(WELL) == []
    with pytest.raises(RequestError):
        await calls.asked(refuse(StoreFull(Limit.DISK, 0, 0)))
    (text,) = problems.of_disk(WELL)
    assert "or a quota on it is used up" in text


async def test_a_disk_that_disappears_does_not_end_the_node(tmp_path: Path) -> None:
    async with volunteer(tmp_path) as node:
        serving: Any = node.serving
        assert (await node.status())["problems"] == []
        (tmp_path / "store").rename(tmp_path / "away")
        serving.known_space = (float("-inf"), 1)
        assert serving.space() == 0  # what the DHT puts into every reply
        status = await node.status()
        assert (status["shares"], status["used_bytes"], status["available_bytes"]) == (None, None, 0)
        assert status["capacity_bytes"] == NodeSettings().capacity_bytes
        assert status["problems"][0].startswith("The share store does not work: ")
        (tmp_path / "away").rename(tmp_path / "store")
        with trio.fail_after(10):
            while (await node.status())["problems"]:  # noqa: ASYNC110 - what changes it is a thread's work
                await trio.sleep(0.1)
        assert (await node.status())["shares"] == 0


async def test_a_disk_that_is_not_there_at_the_start_is_told(tmp_path: Path) -> None:
    """A mount that failed leaves an empty folder, in which the node would begin anew without a word."""
    for _ in range(2):
        async with volunteer(tmp_path) as node:
            assert (await node.status())["problems"] == []
    shutil.rmtree(tmp_path / "store")
    async with volunteer(tmp_path) as node:
        (text,) = (await node.status())["problems"]
        assert f"{tmp_path / 'store'} is empty" in text
        assert "mount the disk" in text
