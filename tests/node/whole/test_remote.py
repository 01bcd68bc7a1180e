"""Remote files: any range of a published file, read at once, with little beside it."""

import os
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from kit.forging import publish_forgery
from kit.lying import handlers, on_request
from kit.remotes import open_remote_file
from kit.worlds import Prepared, holders, prepare, start_nodes
from shoal.erasure import BLOCK_BYTES, SEGMENT_OVERHEAD
from shoal.node import BadData, Node, NotFound, RemoteFile, TooFewShares, UsageError
from shoal.node.channel import Buffer, Caller, Read, Reply
from shoal.node.fetching.content import EXPECTED_BYTES
from shoal.simulation.world import World, run_world

K, N = 4, 12
STEP = K * BLOCK_BYTES - SEGMENT_OVERHEAD
SIZE = 80 * STEP + 12_345


@asynccontextmanager
async def opened(world: World, file: Prepared, **options: Any) -> AsyncIterator[tuple[Node, RemoteFile]]:
    async with (
        world.client(f"reader {world.rng.random()}") as client,
        open_remote_file(client, file.published.link, **options) as remote,
    ):
        yield client, remote


def segments(offset: int, length: int) -> int:
    """How many segments a range touches."""
    return (offset + length - 1) // STEP - offset // STEP + 1 if length else 0


def at_work(client: Node) -> bool:
    """Whether anything is being asked of anybody."""
    return bool(client.context.pool.in_use())


def test_random_ranges_are_the_bytes_and_cost_their_segments(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        file = await prepare(world, 14, SIZE, name="film.mp4")
        async with opened(world, file, cache_bytes=0) as (client, remote):
            assert (remote.size, remote.name) == (SIZE, "film.mp4")
            asked = 0
            for _ in range(200):
                offset, length = world.rng.randrange(SIZE), world.rng.choice([1, 1000, 100_000, 1_000_000])
                data = await remote.read_at(offset, length)
                assert data == file.data[offset : offset + length]
                asked += segments(offset, len(data)) * K * BLOCK_BYTES
            assert remote.received_bytes <= 1.2 * asked
            assert not at_work(client)

    run_world(1, tmp_path, story)


def test_edges_of_a_file(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        file = await prepare(world, 14, 3 * STEP)
        empty = await prepare_empty(world)
        async with opened(world, file) as (_, remote), opened(world, empty) as (_, nothing):
            for offset, length in ((0, 0), (0, 1), (STEP - 1, 2), (3 * STEP - 1, 5), (3 * STEP, 5), (10**15, 10**15)):
                assert await remote.read_at(offset, length) == file.data[offset : offset + length]
            assert await remote.read_at(0, 10**15) == file.data
            assert (nothing.size, await nothing.read(), await nothing.read_at(7, 7)) == (0, b"", b"")
            assert [chunk async for chunk in nothing.chunks()] == []
            wrong: list[Any] = [(-1, 5), (5, -1), ("0", 5), (0, 1.5)]
            for offset, length in wrong:
                with pytest.raises(UsageError):
                    await remote.read_at(offset, length)

    run_world(2, tmp_path, story)


async def prepare_empty(world: World) -> Prepared:
    async with world.client("publisher of nothing") as client:

        async def nothing() -> AsyncIterator[bytes]:
            return
            yield b""

        published = await client.publish(nothing(), needed=K, total=N)
    return Prepared(published, b"", [])


def test_it_reads_as_files_do(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        file = await prepare(world, 14, 5 * STEP)
        async with opened(world, file) as (_, remote):
            assert await remote.read(10) == file.data[:10]
            assert (remote.tell(), remote.seek(-7, os.SEEK_CUR), remote.seek(-5, os.SEEK_END)) == (
                10,
                3,
                remote.size - 5,
            )
            assert await remote.read(100) == file.data[-5:]
            assert (remote.tell(), await remote.read()) == (remote.size, b"")
            assert remote.seek(remote.size + 9) == remote.size + 9
            assert await remote.read() == b""
            assert remote.seek(STEP // 2) == STEP // 2
            assert await remote.read() == file.data[STEP // 2 :]
            for offset, whence in ((-1, os.SEEK_SET), (-remote.size - 1, os.SEEK_END), (0, 17)):
                with pytest.raises(UsageError):
                    remote.seek(offset, whence)
            with pytest.raises(UsageError):
                await remote.read(-2)
            assert (
                b"".join([chunk async for chunk in remote.chunks(STEP - 3, STEP + 6)])
                == file.data[STEP - 3 :][: STEP + 6]
            )
            assert b"".join([chunk async for chunk in remote.chunks(77)]) == file.data[77:]

    run_world(3, tmp_path, story)


def test_what_was_read_is_kept_within_its_bound(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        file = await prepare(world, 14, 20 * STEP)
        async with opened(world, file, cache_bytes=4 * STEP) as (_, remote):
            await remote.read_at(0, 4 * STEP)
            before = remote.received_bytes
            assert await remote.read_at(100, 3 * STEP) == file.data[100 : 100 + 3 * STEP]
            assert remote.received_bytes == before
            await remote.read_at(10 * STEP, 4 * STEP)
            await remote.read_at(0, 1)
            assert remote.received_bytes == before + 5 * K * BLOCK_BYTES, "the first four segments have gone"

    run_world(4, tmp_path, story)


def test_small_reads_in_sequence_hardly_wait(tmp_path: Path) -> None:
    """A player takes 32 KiB at a time and needs 5 ms for each."""

    async def story(world: World) -> None:
        file = await prepare(world, 14, SIZE)
        async with opened(world, file) as (_, remote):
            begun, read = trio.current_time(), 0
            while piece := await remote.read(32_768):
                assert piece == file.data[read : read + len(piece)]
                read += len(piece)
                await trio.sleep(0.005)
            assert trio.current_time() - begun < 1.25 * 0.005 * SIZE / 32_768

    run_world(5, tmp_path, story)


def test_a_seek_ends_what_was_fetched_ahead(tmp_path: Path) -> None:
    """A hundred seeks in a row, some of them after reads in sequence, leave nothing under way."""

    async def story(world: World) -> None:
        world.streams.bytes_per_s = 2_000_000.0
        file = await prepare(world, 14, SIZE)
        async with opened(world, file, cache_bytes=16 * STEP) as (client, remote):
            was_ahead = 0
            for at in range(100):
                if at % 10 == 0:
                    remote.seek(0)
                    for _ in range(9):
                        await remote.read(STEP // 2)
                    was_ahead += at_work(client)
                position = remote.seek(world.rng.randrange(20 * STEP, SIZE))
                assert await remote.read(5000) == file.data[position : position + 5000]
                await trio.testing.wait_all_tasks_blocked()
                assert not at_work(client)
            assert was_ahead > 2

    run_world(6, tmp_path, story)


def test_a_cancelled_read_leaves_nothing_under_way(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        file = await prepare(world, 14, SIZE)
        async with opened(world, file) as (client, remote):
            for after_s in (0.0, 0.01, 0.02, 0.03, 0.05, 0.08):
                remote.seek(world.rng.randrange(SIZE // 2))
                with trio.move_on_after(after_s) as scope:
                    await remote.read()
                assert scope.cancelled_caught
                await trio.testing.wait_all_tasks_blocked()
                assert not at_work(client)
            remote.seek(40 * STEP)
            for _ in range(3):
                await remote.read(3 * STEP)
            with trio.move_on_after(0):
                await remote.read(3 * STEP)
            await trio.testing.wait_all_tasks_blocked()
            assert not at_work(client), "nor what is behind the range"
            async with aclosing(remote.chunks(3)) as chunks:
                async for chunk in chunks:
                    assert file.data[3:].startswith(chunk)
                    break
            await trio.testing.wait_all_tasks_blocked()
            assert not at_work(client)
            position = remote.tell()
            assert await remote.read(5) == file.data[position : position + 5]

    run_world(7, tmp_path, story)


def test_a_loop_that_may_end_begins_with_little(tmp_path: Path) -> None:
    """Like `head`, or a player that looks at the start of a file and goes elsewhere."""

    async def story(world: World) -> None:
        file = await prepare(world, 14, SIZE)
        async with opened(world, file) as (client, remote):
            async with aclosing(remote.chunks(10 * STEP)) as chunks:
                assert await anext(chunks) == file.data[10 * STEP :][:STEP]
            assert remote.received_bytes == K * BLOCK_BYTES
            assert not at_work(client)
            async with aclosing(remote.chunks(30 * STEP)) as chunks:
                for _ in range(20):
                    await anext(chunks)
            assert remote.received_bytes > 25 * K * BLOCK_BYTES, "and more and more is fetched ahead"

    run_world(16, tmp_path, story)


def test_what_is_read_in_sequence_comes_in_long_runs(tmp_path: Path) -> None:
    """What a reader expects moves on by one segment at a time; what is asked of holders does not."""

    async def story(world: World) -> None:
        file = await prepare(world, 14, SIZE)
        asked: Counter[str] = Counter()
        on_request(file.holders, Read, lambda machine, request: asked.update([machine.name]))
        async with opened(world, file) as (_, remote):
            assert b"".join([chunk async for chunk in remote.chunks(0, SIZE)]) == file.data
        whole = asked.total()
        asked.clear()
        async with opened(world, file) as (_, remote):
            while await remote.read(32_768):
                pass
        assert max(whole, asked.total()) < 60, "some seven segments each; half of that where every run is begun at once"

    run_world(17, tmp_path, story)


def test_one_reader_that_leaves_takes_nothing_from_another(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        file = await prepare(world, 14, SIZE)
        async with opened(world, file) as (_, remote):
            read: list[bytes] = []

            async def whole() -> None:
                read.append(b"".join([chunk async for chunk in remote.chunks()]))

            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(whole)
                for _ in range(20):
                    with trio.move_on_after(0.02):
                        await remote.read_at(world.rng.randrange(SIZE), 3 * STEP)
            assert read == [file.data] * 3
            assert remote.received_bytes < 2 * SIZE, "they share what was fetched"

    run_world(8, tmp_path, story)


def test_what_is_fetched_ahead_is_bounded(tmp_path: Path) -> None:
    """However long the consumer sleeps."""

    async def story(world: World) -> None:
        file = await prepare(world, 3, 60_000_000, needed=2, total=2)
        async with opened(world, file) as (client, remote):
            chunks = remote.chunks()
            for _ in range(60):
                await anext(chunks)
            used = remote.received_bytes
            await trio.sleep(3600)
            assert remote.received_bytes <= used + EXPECTED_BYTES
            assert not at_work(client)
            begun = trio.current_time()
            await anext(chunks)
            assert trio.current_time() == begun, "it was there"

    run_world(9, tmp_path, story)


def test_holders_that_go_are_a_pause_and_no_error(tmp_path: Path) -> None:
    """All that a file can lose go while it is read. Later all holders go, which is an error, and some come back."""

    async def story(world: World) -> None:
        file = await prepare(world, 16, SIZE)
        async with opened(world, file, cache_bytes=0) as (_, remote):
            for at in range(40):
                if at % 4 == 1 and at // 4 < N - K:
                    await world.crash(file.holders[at // 4 + K].name)
                begun = trio.current_time()
                offset = world.rng.randrange(SIZE)
                assert await remote.read_at(offset, 5000) == file.data[offset : offset + 5000]
                assert trio.current_time() - begun < 10
            for machine in file.holders[:K]:
                await world.crash(machine.name)
            with pytest.raises(TooFewShares):
                await remote.read_at(0, 10)
            for machine in file.holders[-K:]:
                await world.start(machine.name)
            await trio.sleep(60)
            assert await remote.read_at(0, 10) == file.data[:10]

    run_world(10, tmp_path, story)


@pytest.mark.parametrize("cut_s", [5, 20, 40])
def test_a_line_that_was_cut_is_a_pause_and_no_error(tmp_path: Path, cut_s: float) -> None:
    async def story(world: World) -> None:
        file = await prepare(world, 14, SIZE)
        async with opened(world, file, cache_bytes=0) as (_, remote), trio.open_nursery() as nursery:
            await remote.read_at(0, 10)
            for machine in file.holders:
                world.streams.kill(machine.host)
            world.separate(lambda one, other: True)

            async def heal() -> None:
                await trio.sleep(cut_s)
                world.heal()

            nursery.start_soon(heal)
            begun = trio.current_time()
            assert await remote.read_at(STEP, 10) == file.data[STEP : STEP + 10]
            assert cut_s <= trio.current_time() - begun < cut_s + 30

    run_world(11, tmp_path, story)


async def stall(caller: Caller, request: Any, payload: Buffer) -> Reply:
    await trio.sleep_forever()
    raise AssertionError("unreachable")


def test_the_time_that_a_consumer_takes_is_no_standstill_of_the_network(tmp_path: Path) -> None:
    """A player pauses for ten minutes, and then some holders keep silent: others are asked, nothing is given up."""

    async def story(world: World) -> None:
        file = await prepare(world, 14, SIZE)
        async with (
            opened(world, file, cache_bytes=0) as (_, remote),
            world.client("other") as other,
            other.open_fetch(file.published.link) as stream,
        ):
            await remote.read_at(0, 10)
            read = await anext(stream)
            await trio.sleep(600)
            for machine in file.holders[:K]:
                handlers(machine)[Read] = stall
            assert await remote.read_at(SIZE // 2, 10) == file.data[SIZE // 2 :][:10]
            async for chunk in stream:
                read += chunk
            assert read == file.data

    run_world(12, tmp_path, story)


def test_a_segment_that_its_publisher_spoiled_spoils_no_other(tmp_path: Path) -> None:
    """Runs of several segments are fetched ahead, and one of these segments is bad."""

    async def story(world: World) -> None:
        await start_nodes(world, 14)
        data = world.rng.randbytes(20 * STEP)
        bad = publish_forgery(world, data, range(K, N), needed=K, total=N, segments=[9])
        file = Prepared(published := await bad, data, holders(world, published))
        await world.crash(file.holders[0].name)
        async with opened(world, file) as (_, remote):
            for index in range(20):
                if index == 9:
                    with pytest.raises(BadData):
                        await remote.read_at(index * STEP, STEP)
                else:
                    assert await remote.read_at(index * STEP, STEP) == data[index * STEP :][:STEP]

    run_world(15, tmp_path, story)


def test_a_file_that_was_closed_says_so(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        file = await prepare(world, 14, SIZE)
        async with world.client("reader") as client:
            caught: list[str] = []

            async def read_on(remote: RemoteFile) -> None:
                with pytest.raises(UsageError, match="is closed") as failure:
                    await remote.read()
                caught.append(str(failure.value))

            async with trio.open_nursery() as nursery, open_remote_file(client, file.published.link) as remote:
                nursery.start_soon(read_on, remote)
                await remote.read_at(0, 10)
            for reading in (remote.read_at(0, 10), remote.read_at(SIZE - 10, 10), anext(remote.chunks(5, 5))):
                with pytest.raises(UsageError, match="is closed"):
                    await reading
            assert len(caught) == 1

    run_world(13, tmp_path, story)


def test_links_that_cannot_be_opened(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        file = await prepare(world, 14, 1000)
        link = file.published.link
        async with world.client("reader") as client:
            for wrong, error in (
                (replace(link, path=b"a"), NotFound),
                (replace(link, key=None), UsageError),
                (f"{link}/a b", UsageError),
            ):
                with pytest.raises(error):
                    async with client.open_remote(wrong):
                        pass
            sizes: tuple[Any, ...] = (-1, "64")
            for size in sizes:
                with pytest.raises(UsageError):
                    async with client.open_remote(link, cache_bytes=size):
                        pass
            with pytest.raises(UsageError, match="Leave the path out"):
                await client.check(replace(link, path=b"a"))

    run_world(14, tmp_path, story)
