"""A publisher whose erasure code lies."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from kit.worlds import chunks
from shoal.erasure import Buffer, best_codec
from shoal.node import NodeSettings, Published
from shoal.node.opening import open_node
from shoal.simulation.world import World


class Forger:
    """A codec whose parity is noise for some shares: the shares match the manifest, and make no file."""

    name = "forger"

    def __init__(self, world: World, forged: Collection[int], segments: Collection[int] | None = None) -> None:
        """`segments`: those in which they are forged, by default all."""
        self._real, self._rng, self._forged = best_codec(), world.rng, forged
        self._segments, self._made = segments, 0

    def parity(self, k: int, n: int, data: Sequence[Buffer]) -> Sequence[Buffer]:
        """The real parity, with noise in place of the forged shares."""
        made, segment = self._real.parity(k, n, data), self._made
        self._made += 1
        if self._segments is not None and segment not in self._segments:
            return made
        return [self._rng.randbytes(len(block)) if k + at in self._forged else block for at, block in enumerate(made)]

    def rebuild(self, k: int, n: int, have: Mapping[int, Buffer], want: Collection[int]) -> dict[int, Buffer]:
        """As the real codec does."""
        return self._real.rebuild(k, n, have, want)


async def publish_forgery(
    world: World,
    data: bytes,
    forged: Collection[int],
    *,
    needed: int,
    total: int,
    segments: Collection[int] | None = None,
) -> Published:
    """Publish a file whose shares of the numbers `forged` are noise, in all segments or in some."""
    machine = world.machine("forger")
    async with open_node(
        machine.home,
        network=world.network,
        bootstrap=[world.running()[0].address],
        settings=NodeSettings(),
        environment=replace(machine.environment, codec=Forger(world, forged, segments)),
    ) as client:
        return await client.publish(chunks(data), needed=needed, total=total)
