"""Folders are published whole, go on where they stopped, and never with a file that did not hold still."""

import os
import random
from pathlib import Path

import pytest
import trio
from blake3 import blake3

from kit.folders import make_files, read_folder, tree_of
from kit.worlds import start_nodes
from shoal.erasure import Link
from shoal.node import LocalError, UsageError
from shoal.node.folders.entries import EntryKind
from shoal.node.results import Phase, Progress
from shoal.simulation.world import World, run_world

SMALL_FILES = 300


def contents() -> dict[str, bytes]:
    """6 MB in files of many sizes: two large ones, empty ones, and hundreds of small ones."""
    rng = random.Random(31)
    small = {f"small/{at % 7}/{at:03}": rng.randbytes(at % 50 * 20) for at in range(SMALL_FILES)}
    return {"a large one": rng.randbytes(3_000_000), **small, "z": rng.randbytes(3_000_000)}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    make_files(root, contents())
    (root / "link").symlink_to("z")
    (root / "empty").mkdir()
    return root


async def check_copy(world: World, link: Link, root: Path) -> None:
    """A new reader finds just what is on disk."""
    async with world.client(f"reader {world.rng.random()}") as reader:
        found = await read_folder(reader, link)
    assert [entry.path for entry in found] == [walked.path for walked in tree_of(root).found]
    for entry, content in found.items():
        path = root / os.fsdecode(entry.path)
        if entry.kind is EntryKind.FILE:
            assert content == path.read_bytes()
            assert entry.digest == blake3(content).digest()
        assert entry.mtime_ns == path.lstat().st_mtime_ns


async def uploads_everywhere(world: World) -> int:
    nodes = [machine.node for machine in world.running() if machine.node is not None]
    return sum([(await node.status())["uploads"] for node in nodes])


def test_a_folder_is_one_file(tmp_path: Path, root: Path) -> None:
    seen: list[Progress] = []

    async def story(world: World) -> None:
        await start_nodes(world, 13, 30)
        async with world.client("publisher") as client:
            published = await client.publish(tree_of(root), ttl_s=86_400, on_progress=seen.append)
            with pytest.raises(UsageError, match="of a folder"):
                async with client.open_fetch(published.link):
                    pass
            info = await client.info(published.link)
        assert published.complete
        assert published.entries == SMALL_FILES + 2 + 8 + 2
        assert (info.name, info.size) == ("photos", published.size)
        assert published.size == sum(map(len, contents().values()))
        await check_copy(world, published.link, root)

    run_world(31, tmp_path / "world", story)
    sending = [each for each in seen if each.phase is Phase.SENDING]
    assert {each.total_files for each in seen} == {SMALL_FILES + 2}
    assert [each.done_files for each in sending] == sorted(each.done_files or 0 for each in sending)
    assert (sending[0].done_files, sending[-1].done_files) == (0, SMALL_FILES + 2)


@pytest.mark.parametrize(
    ("stop_s", "change", "resumed"),
    [(4, None, True), (6, None, True), (8.5, None, True), (6, "a large one", False), (6, "z", True)],
)
def test_an_interrupted_publish_goes_on_with_what_is_the_same(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch, stop_s: float, change: str | None, resumed: bool
) -> None:
    monkeypatch.setattr("shoal.node.publishing.publish.FIRST_CHECKPOINT_BYTES", 2**20)
    monkeypatch.setattr("shoal.node.publishing.publish.CHECKPOINT_BYTES", 2**20)

    async def story(world: World) -> None:
        await start_nodes(world, 13, 30)
        world.streams.bytes_per_s = 200_000.0
        async with world.client("publisher") as client:
            with trio.move_on_after(stop_s) as interrupted:
                await client.publish(tree_of(root))
            assert interrupted.cancelled_caught
            if change is not None:
                data = bytearray((root / change).read_bytes())
                data[0 if change == "a large one" else -1] ^= 1
                (root / change).write_bytes(data)
            published = await client.publish(tree_of(root))
        assert published.complete
        assert (published.resumed_bytes > 0) == resumed
        await check_copy(world, published.link, root)
        await trio.sleep(5)
        assert await uploads_everywhere(world) == 0

    run_world(32, tmp_path / "world", story)


def test_a_folder_that_lost_a_file_meanwhile_is_published_as_it_is(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shoal.node.publishing.publish.FIRST_CHECKPOINT_BYTES", 2**20)

    async def story(world: World) -> None:
        await start_nodes(world, 13, 30)
        world.streams.bytes_per_s = 200_000.0
        async with world.client("publisher") as client:
            with trio.move_on_after(6) as interrupted:
                await client.publish(tree_of(root))
            assert interrupted.cancelled_caught
            (root / "small/0/000").unlink()
            published = await client.publish(tree_of(root))
        assert published.resumed_bytes == 0, "its size is another, so it is another file"
        await check_copy(world, published.link, root)

    run_world(33, tmp_path / "world", story)


def test_an_incomplete_publish_of_a_folder_is_completed(tmp_path: Path, root: Path) -> None:
    async def story(world: World) -> None:
        await start_nodes(world, 7, 30)
        async with world.client("publisher") as client:
            first = await client.publish(tree_of(root), needed=4, total=12)
            assert not first.complete
            for number in range(7, 13):
                await world.start(f"node-{number}")
            await trio.sleep(60)
            second = await client.publish(tree_of(root), needed=4, total=12)
            assert second.complete
            assert second.link == first.link
            assert second.entries == first.entries
            (root / "z").touch()
            third = await client.publish(tree_of(root), needed=4, total=12)
        assert third.link != first.link, "its index is another"
        await check_copy(world, third.link, root)

    run_world(34, tmp_path / "world", story)


@pytest.mark.parametrize(
    ("path", "how"),
    [
        ("a large one", "set back"),
        ("small/0/021", "grow"),
        ("small/0/021", "set back"),
        ("z", "shrink"),
        ("z", "vanish"),
    ],
)
def test_a_file_that_changes_on_the_way_is_named_and_nobody_keeps_the_rest(
    tmp_path: Path, root: Path, path: str, how: str
) -> None:
    data, times = (root / path).read_bytes(), os.stat(root / path)
    changed: list[int] = []

    def change_on_the_way(progress: Progress) -> None:
        if progress.phase is not Phase.SENDING or progress.done_bytes < 2_000_000 or changed:
            return
        changed.append(progress.done_bytes)
        match how:
            case "grow":
                (root / path).write_bytes(data + b"x")
            case "shrink":
                (root / path).write_bytes(data[:-1])
            case "set back":
                (root / path).write_bytes(data[::-1])
                os.utime(root / path, ns=(times.st_atime_ns, times.st_mtime_ns))
            case "vanish":
                (root / path).unlink()

    async def story(world: World) -> None:
        await start_nodes(world, 8, 30)
        async with world.client("publisher") as client:
            with pytest.raises(LocalError, match=f"photos/{path}.*Nothing was published"):
                await client.publish(tree_of(root), needed=2, total=6, on_progress=change_on_the_way)
            assert changed
            await trio.sleep(1)
            assert await uploads_everywhere(world) == 0
            assert not client.published()
            published = await client.publish(tree_of(root), needed=2, total=6)
        await check_copy(world, published.link, root)

    run_world(35, tmp_path / "world", story)


def test_a_folder_that_becomes_wider_is_still_a_folder(tmp_path: Path, root: Path) -> None:
    async def story(world: World) -> None:
        await start_nodes(world, 3)
        async with world.client("publisher") as client:
            old = await client.publish(tree_of(root))
        for number in range(3, 13):
            await world.start(f"node-{number}")
        await trio.sleep(60)
        async with world.client("publisher") as client:
            await client.wait_joined()
            done = await client.republish(old.link)
        assert done.published.entries == old.entries
        await check_copy(world, done.published.link, root)

    run_world(36, tmp_path / "world", story)
