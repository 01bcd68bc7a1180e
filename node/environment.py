"""The seams: everything a node takes from the world around it, injected when the node is opened.

Real life is `real_environment()`. A simulation hands in virtual networks, a virtual disk and seeded randomness, and
then whole nodes run by the hundred in one process under a clock that jumps.
"""

import os
import random
import time
from collections.abc import Callable
from dataclasses import field
from functools import partial
from typing import Protocol, TypeVar

import trio

from shoal.dht import DatagramNetwork, Ed25519, LanNetwork, SignatureScheme, UdpLan, UdpNetwork
from shoal.erasure import Codec, best_codec
from shoal.node.channel import StreamNetwork, TlsNetwork
from shoal.node.router import HomeRouters, RouterNetwork
from shoal.node.store import Disk, RealDisk
from shoal.values import dataclass

T = TypeVar("T")

WORKERS = 3  # two cores encode and hash while one more thread waits for the disk


class Compute(Protocol):
    """Where CPU work and blocking calls run: never in the middle of the event loop of a real node."""

    async def run(self, work: Callable[[], T], /) -> T:
        """Call `work` and give its result; it is not abandoned on cancellation, so it must be short."""
        ...


class ThreadCompute:
    """Worker threads, at most `workers` at once."""

    def __init__(self, workers: int = WORKERS) -> None:
        self._limiter = trio.CapacityLimiter(workers)

    async def run(self, work: Callable[[], T], /) -> T:
        """Run `work` in a worker thread."""
        return await trio.to_thread.run_sync(work, limiter=self._limiter)


class InlineCompute:
    """Run in place. A worker thread looks idle to trio's autojump clock, which would then jump past every timeout."""

    async def run(self, work: Callable[[], T], /) -> T:
        """Run `work` here and now."""
        await trio.lowlevel.checkpoint()
        return work()


@dataclass(frozen=True)
class Environment:
    """All seams of one node.

    `lan` is where calls to the local network go, and `routers` where home routers are found; None: nowhere. `wall`
    gives seconds since the epoch and may jump; `entropy(n)` gives n unpredictable bytes for keys and nonces; `rng` is
    for choices that need no secrecy (jitter, order).
    """

    datagrams: DatagramNetwork
    streams: StreamNetwork
    disk: Disk
    compute: Compute
    lan: LanNetwork | None = None
    scheme: SignatureScheme = field(default_factory=Ed25519)
    codec: Codec = field(default_factory=best_codec)
    wall: Callable[[], float] = time.time
    entropy: Callable[[int], bytes] = os.urandom
    rng: random.Random = field(default_factory=random.SystemRandom)
    routers: RouterNetwork | None = None

    async def call(self, function: Callable[..., T], *args: object) -> T:
        """`compute.run` with arguments."""
        return await self.compute.run(partial(function, *args))


def real_environment() -> Environment:
    """Sockets, files, threads, the system's clock and randomness."""
    return Environment(
        datagrams=UdpNetwork(),
        streams=TlsNetwork(),
        disk=RealDisk(),
        compute=ThreadCompute(),
        routers=HomeRouters(),
        lan=UdpLan(),
    )
