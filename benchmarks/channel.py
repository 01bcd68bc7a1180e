"""How fast the channel is over loopback, client and server in processes of their own.

    python benchmarks/channel.py [--mib 2048]

Prints MiB/s and CPU-seconds per GiB for writes (client to server) and reads (server to client) in frames of 1
MiB, the time of a connection with handshake and hellos, and the round trip of a small request.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable

import trio

from shoal.dht import Address, Identity, NetworkParameters
from shoal.node.channel import (
    AnyRequest,
    Blocks,
    Buffer,
    Caller,
    Done,
    GetHeld,
    HeldShares,
    PeerConnection,
    PeerServer,
    Read,
    Reply,
    TlsNetwork,
    Write,
    Written,
    open_connection,
)

MIB = 2**20
BLOCK = 65_536
IN_FLIGHT = 4


async def answer(caller: Caller, request: AnyRequest, payload: Buffer) -> Reply:
    """The least a server can do."""
    match request:
        case Write():
            return Written(16, 16)
        case Read():
            return Blocks(b"", b"", b"", DATA)
        case GetHeld():
            return HeldShares(())
        case _:
            return Done()


DATA = os.urandom(MIB)


async def serve() -> None:
    """The server process: prints its port; prints its CPU time for each line on stdin."""
    identity = Identity.create(0, os.urandom)
    server = PeerServer(identity, NetworkParameters("bench", 0, True), answer, entropy=os.urandom)
    async with trio.open_nursery() as nursery:
        address = await nursery.start(TlsNetwork().serve, Address("127.0.0.1", 0), identity, server.serve_connection)
        print(address.port, flush=True)
        stdin = trio.lowlevel.FdStream(os.dup(0))
        while await stdin.receive_some():
            print(time.process_time(), flush=True)
        nursery.cancel_scope.cancel()


async def measure(port: int, mib: int, server: "subprocess.Popen[str]") -> dict[str, float]:
    """All figures."""
    network, address = TlsNetwork(), Address("127.0.0.1", port)
    figures: dict[str, float] = {}
    async with open_connection(network, address) as peer:
        for name, once in (("write", write_once), ("read", read_once)):
            await stream(peer, once, 64)
            cpu_here, cpu_there, begun = time.process_time(), server_cpu(server), time.perf_counter()
            await stream(peer, once, mib)
            wall = time.perf_counter() - begun
            figures[f"{name}_mib_s"] = mib / wall
            figures[f"{name}_client_cpu_s_gib"] = (time.process_time() - cpu_here) * 1024 / mib
            figures[f"{name}_server_cpu_s_gib"] = (server_cpu(server) - cpu_there) * 1024 / mib
            figures[f"{name}_cpu_s_gib"] = figures[f"{name}_client_cpu_s_gib"] + figures[f"{name}_server_cpu_s_gib"]
        figures["round_trip_us"] = 1e6 * await average(2000, lambda: held_once(peer))
    figures["connect_ms"] = 1e3 * await average(100, lambda: connect_once(network, address))
    return figures


async def stream(peer: PeerConnection, once: Callable[[PeerConnection], Awaitable[None]], count: int) -> None:
    """`count` requests of 1 MiB, `IN_FLIGHT` at a time."""
    left = iter(range(count))

    async def worker() -> None:
        for _ in left:
            await once(peer)

    async with trio.open_nursery() as nursery:
        for _ in range(IN_FLIGHT):
            nursery.start_soon(worker)


async def write_once(peer: PeerConnection) -> None:
    view = memoryview(DATA)
    blocks = [view[start : start + BLOCK] for start in range(0, MIB, BLOCK)]
    await peer.request(Write(bytes(16), 0, bytes(512), False), payload=blocks, timeout_s=30)


async def read_once(peer: PeerConnection) -> None:
    await peer.request(Read(bytes(32), 0, 0, 16, True), timeout_s=30)


async def held_once(peer: PeerConnection) -> None:
    await peer.request(GetHeld(bytes(32)), timeout_s=30)


async def connect_once(network: TlsNetwork, address: Address) -> None:
    async with open_connection(network, address):
        pass


async def average(count: int, once: Callable[[], Awaitable[None]]) -> float:
    """Seconds per call."""
    begun = time.perf_counter()
    for _ in range(count):
        await once()
    return (time.perf_counter() - begun) / count


def server_cpu(server: "subprocess.Popen[str]") -> float:
    """CPU seconds the server has used."""
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.write("?\n")
    server.stdin.flush()
    return float(server.stdout.readline())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=2048)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        trio.run(serve)
        return
    with subprocess.Popen(
        [sys.executable, __file__, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        figures = trio.run(measure, int(server.stdout.readline()), arguments.mib, server)
        assert server.stdin is not None
        server.stdin.close()
    print(json.dumps({name: round(value, 3) for name, value in figures.items()}, indent=2))


if __name__ == "__main__":
    main()
