"""Files that change before, between and during the runs of a publish, with their mtime set back: never old or mixed
bytes behind a link."""

import os
import random
import shutil
from pathlib import Path

import pytest
import trio

from kit.worlds import fetched, start_nodes
from shoal.node import LocalError
from shoal.node.results import Phase, Progress
from shoal.simulation.world import World, run_world


def overwrite(path: Path, *places: int) -> None:
    """Change bytes in place, and set the mtime back, as rsync, touch and archivers do."""
    times = os.stat(path)
    content = bytearray(path.read_bytes())
    for at in places:
        content[at] ^= 0xFF
    with open(path, "r+b") as file:
        file.write(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(random.Random(21).randbytes(6_000_000))
    return path


def put(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def content(path: Path) -> bytes:
    return path.read_bytes()


async def uploads_everywhere(world: World) -> int:
    nodes = [machine.node for machine in world.running() if machine.node is not None]
    return sum([(await node.status())["uploads"] for node in nodes])


def test_an_incomplete_publish_is_not_completed_with_old_content(tmp_path: Path, source: Path) -> None:
    async def story(world: World) -> None:
        await start_nodes(world, 7, 30)
        async with world.client("publisher") as client:
            first = await client.publish(source, needed=4, total=12)
            assert not first.complete
            overwrite(source, 5_000_000)
            for number in range(7, 13):
                await world.start(f"node-{number}")
            await trio.sleep(60)
            second = await client.publish(source, needed=4, total=12)
        assert second.complete
        assert second.link != first.link
        assert await fetched(world, second, "reader") == content(source)

    run_world(21, tmp_path / "world", story)


@pytest.mark.parametrize(("at", "resumed"), [(0, False), (5_999_999, True)])
@pytest.mark.parametrize("checkpoint_bytes", [2**20, 2**30])
def test_a_resumed_publish_has_no_old_bytes_in_it(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch, at: int, resumed: bool, checkpoint_bytes: int
) -> None:
    """Also where holders have blocks of the old content behind the last checkpoint, or there was no checkpoint."""
    monkeypatch.setattr("shoal.node.publishing.publish.FIRST_CHECKPOINT_BYTES", checkpoint_bytes)
    monkeypatch.setattr("shoal.node.publishing.publish.CHECKPOINT_BYTES", checkpoint_bytes)

    async def story(world: World) -> None:
        await start_nodes(world, 13, 30)
        world.streams.bytes_per_s = 300_000.0
        async with world.client("publisher") as client:
            with trio.move_on_after(4) as interrupted:
                await client.publish(source)
            assert interrupted.cancelled_caught
            overwrite(source, at)
            published = await client.publish(source)
        assert (published.resumed_bytes > 0) == resumed, "what was sent and is proven is not sent again"
        assert await fetched(world, published, "reader") == content(source)
        await trio.sleep(5)
        assert await uploads_everywhere(world) == 0

    run_world(22, tmp_path / "world", story)


@pytest.mark.parametrize("again", ["another mode", "a copy in its place"])
def test_a_file_that_only_looks_different_is_resumed(tmp_path: Path, source: Path, again: str) -> None:
    async def story(world: World) -> None:
        await start_nodes(world, 13, 30)
        world.streams.bytes_per_s = 300_000.0
        async with world.client("publisher") as client:
            with trio.move_on_after(6):
                await client.publish(source)
            if again == "another mode":
                os.chmod(source, 0o400)
            else:
                shutil.copy(source, tmp_path / "copy")
                os.replace(tmp_path / "copy", source)
            published = await client.publish(source)
        assert published.resumed_bytes > 0
        assert await fetched(world, published, "reader") == content(source)

    run_world(23, tmp_path / "world", story)


def test_a_mixture_of_two_states_is_refused_and_nobody_keeps_it(tmp_path: Path, source: Path) -> None:
    async def story(world: World) -> None:
        await start_nodes(world, 8, 30)
        put(source, world.rng.randbytes(16_000_000))
        phases: list[Phase] = []
        changed: list[int] = []

        def change_on_the_way(progress: Progress) -> None:
            phases.append(progress.phase)
            if progress.phase is Phase.SENDING and progress.done_bytes and not changed:
                changed.append(progress.done_bytes)
                overwrite(source, 0, 15_999_999)

        async with world.client("publisher") as client:
            with pytest.raises(LocalError, match="changed while it was being read"):
                await client.publish(source, needed=2, total=6, on_progress=change_on_the_way)
            assert Phase.VERIFYING in phases
            assert changed[0] < 8_000_000, "the end was not read yet"
            await trio.sleep(1)
            assert await uploads_everywhere(world) == 0
            assert not client.published()
            published = await client.publish(source, needed=2, total=6)
        assert await fetched(world, published, "reader") == content(source)

    run_world(24, tmp_path / "world", story)


def test_a_file_shorter_than_it_claims_is_published_as_it_was_read(tmp_path: Path) -> None:
    path = Path("/sys/devices/system/cpu/online")

    async def story(world: World) -> None:
        await start_nodes(world, 4, 30)
        async with world.client("publisher") as client:
            published = await client.publish(path, needed=1, total=3)
        assert published.size == len(content(path))
        assert await fetched(world, published, "reader") == content(path)

    run_world(25, tmp_path / "world", story)
