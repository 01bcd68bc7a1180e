"""Remote files on real daemons: holders that are killed or frozen while a file is read, and players."""

import json
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import trio

from kit.movies import movie, play_second
from kit.range_server import served
from kit.remotes import open_remote_file
from shoal.cli.local_network import LocalNetwork, LocalNode, Plan, open_local_network
from shoal.node import Node, NodeSettings, Published, RemoteFile, open_node

NODES, K, N = 9, 3, 9
LONGEST_PAUSE_S = 30.0  # on a busy machine; alone it is some two seconds
PLAYER_LIMIT_S = 60.0


@asynccontextmanager
async def network(folder: Path) -> AsyncIterator[tuple[LocalNetwork, Node]]:
    """Nine daemons, and a client of theirs in this process."""
    plan = Plan(folder / "network", NODES, "remote", NodeSettings(capacity_bytes=10**9, reserve_bytes=0))
    async with (
        open_local_network(plan, lambda text: None) as running,
        open_node(folder / "client", network=running.network_file) as client,
    ):
        yield running, client


async def published(client: Node, path: Path, data: bytes) -> Published:
    await trio.Path(path).write_bytes(data)
    done = await client.publish(path, needed=K, total=N)
    assert done.complete
    return done


def holders(running: LocalNetwork, done: Published) -> list[LocalNode]:
    """The daemons with the shares, by number."""
    found = [running.at(str(address)) for _, address in sorted(done.holders.items())]
    return [node for node in found if node is not None]


async def read_all(remote: RemoteFile, data: bytes, meanwhile: Callable[[int], None]) -> float:
    """Read a file to its end, with something that happens after every piece; the longest wait for a piece."""
    position, longest_s = 0, 0.0
    chunks = remote.chunks()
    while position < remote.size:
        begun = time.monotonic()
        chunk = await anext(chunks)
        longest_s = max(longest_s, time.monotonic() - begun)
        assert data[position : position + len(chunk)] == chunk
        position += len(chunk)
        meanwhile(position)
    return longest_s


def run(story: Callable[[], Coroutine[None, None, None]]) -> None:
    trio.run(story)


def test_holders_that_are_killed_during_a_read_are_a_pause(tmp_path: Path) -> None:
    """Six of nine are killed (-9), one after the other, while a file is read; the data shares' holders first."""

    async def story() -> None:
        data = Random(1).randbytes(60_000_000)
        async with network(tmp_path) as (running, client):
            done = await published(client, tmp_path / "source", data)
            victims = holders(running, done)[: N - K]
            async with open_remote_file(client, done.link, cache_bytes=4 * 2**20) as remote:

                def kill(position: int) -> None:
                    if victims and position > len(data) * (N - K - len(victims) + 1) // (N - K + 2):
                        victims.pop(0).kill()

                longest_s = await read_all(remote, data, kill)
                assert not victims
                assert longest_s < LONGEST_PAUSE_S
                assert await remote.read_at(1_000_000, 1000) == data[1_000_000:1_001_000]

    run(story)


def test_holders_that_freeze_during_a_read_are_a_pause(tmp_path: Path) -> None:
    async def story() -> None:
        data = Random(2).randbytes(40_000_000)
        async with network(tmp_path) as (running, client):
            done = await published(client, tmp_path / "source", data)
            frozen = holders(running, done)[: N - K]
            try:
                async with open_remote_file(client, done.link) as remote:

                    def freeze(position: int) -> None:
                        if position > len(data) // 3:
                            for each in frozen:
                                send(each, signal.SIGSTOP)

                    assert await read_all(remote, data, freeze) < LONGEST_PAUSE_S
            finally:
                for each in frozen:
                    send(each, signal.SIGCONT)

    run(story)


def send(node: LocalNode, number: signal.Signals) -> None:
    assert node.process is not None
    node.process.send_signal(number)


def test_a_player_reads_a_small_part_of_a_film_with_its_index_at_the_end(tmp_path: Path) -> None:
    """A player of our own goes over the boxes to the index, and from there to a second in the middle. So do ffprobe and
    ffmpeg, where they are installed.
    """

    async def story() -> None:
        film = movie(240, Random(3))
        async with network(tmp_path) as (_, client):
            done = await published(client, tmp_path / "film.mp4", film.data)
            async with open_remote_file(client, done.link) as remote:
                assert await play_second(remote.read_at, remote.size, 150) == film.second(150)
                assert remote.received_bytes < remote.size / 20
            if shutil.which("ffmpeg") is None:
                return
            async with open_remote_file(client, done.link) as remote, served(remote) as address:
                told = await output_of("ffprobe", "-show_entries", "format=duration", "-of", "json", address)
                assert float(json.loads(told)["format"]["duration"]) == 240
                assert remote.received_bytes < remote.size / 10
                sound = await output_of("ffmpeg", "-ss", "150", "-i", address, "-t", "1", "-f", "s16le", "-")
                assert sound == film.second(150)
                assert remote.received_bytes < remote.size / 5

    run(story)


async def output_of(*command: str) -> bytes:
    with trio.fail_after(PLAYER_LIMIT_S):
        done = await trio.run_process([command[0], "-v", "error", *command[1:]], capture_stdout=True)
    assert isinstance(done, subprocess.CompletedProcess)
    output: bytes = done.stdout
    return output
