"""What progress says is true: of the phase that it names, on a line of known speed."""

import random
from pathlib import Path

import trio

from kit.worlds import prepare, start_nodes
from shoal.node import Published
from shoal.node.fetching.targets import part_path
from shoal.node.results import Phase, Progress
from shoal.simulation.world import World, run_world

LINE_BYTES_PER_S = 300_000.0  # of each host
K, N = 4, 12


class Told:
    """All progress of one operation, with its times."""

    def __init__(self) -> None:
        self.moments: list[tuple[float, Progress]] = []

    def __call__(self, progress: Progress) -> None:
        self.moments.append((trio.current_time(), progress))

    def of(self, phase: Phase) -> list[tuple[float, Progress]]:
        """The moments of a phase."""
        return [(now, each) for now, each in self.moments if each.phase is phase]

    def fastest(self, phase: Phase) -> float:
        """The highest mean rate from the beginning of the phase to any later moment of it, in bytes per second."""
        (start, first), *later = self.of(phase)
        return max((each.done_bytes - first.done_bytes) / max(now - start, 0.1) for now, each in later)


def test_a_publish_tells_what_hosts_have_received_also_when_it_is_resumed(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(random.Random(31).randbytes(40_000_000))

    async def story(world: World) -> None:
        await start_nodes(world, N + 1, 30)
        world.streams.bytes_per_s = LINE_BYTES_PER_S
        async with world.client("publisher") as client:
            first, second = Told(), Told()
            with trio.move_on_after(20) as interrupted:
                await client.publish(source, needed=K, total=N, on_progress=first)
            assert interrupted.cancelled_caught
            published = await client.publish(source, needed=K, total=N, on_progress=second)
        assert published.resumed_bytes > 0
        assert first.fastest(Phase.SENDING) < 1.2 * K * LINE_BYTES_PER_S
        assert second.fastest(Phase.SENDING) < 3 * K * LINE_BYTES_PER_S, "what was on its way comes at once"
        sending = [each.done_bytes for _, each in second.of(Phase.SENDING)]
        assert 0 < sending[0] <= published.resumed_bytes * K // N
        assert sending == sorted(sending)
        assert sending[-1] == 40_000_000
        verifying = [each.done_bytes for _, each in second.of(Phase.VERIFYING)]
        assert 40_000_000 in verifying

    run_world(31, tmp_path / "world", story)


def test_a_fetch_tells_that_it_verifies_what_it_has(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        published, data, _ = await prepare(world, N + 1, 20_000_000, settle_s=30, needed=K, total=N)
        await resume(world, published, data, tmp_path / "target")

    async def resume(world: World, published: Published, data: bytes, target: Path) -> None:
        put(part_path(target, published.link), data[:12_000_000])
        told = Told()
        world.streams.bytes_per_s = LINE_BYTES_PER_S
        async with world.client("reader") as client:
            done = await client.fetch(published.link, target, on_progress=told)
        verifying = [each for _, each in told.of(Phase.VERIFYING)]
        assert [each.total_bytes for each in verifying] == [done.resumed_bytes] * len(verifying)
        assert len(verifying) > 3
        assert verifying[0].done_bytes == 0
        assert verifying[-1].done_bytes == done.resumed_bytes > 11_000_000
        assert told.of(Phase.FETCHING)[0][1].done_bytes == done.resumed_bytes
        assert told.fastest(Phase.FETCHING) < 1.5 * K * LINE_BYTES_PER_S

    run_world(32, tmp_path / "world", story)


def put(path: Path, content: bytes) -> None:
    """A file as an interrupted fetch leaves it."""
    path.write_bytes(content)
