"""What relaying costs a relay: CPU for what it passes on, and memory for many circuits.

    python benchmarks/relaying.py [--mib 2048] [--circuits 1000]

The relay is a process of its own, on loopback. The other process plays the nodes behind it and their callers: both ends
of each circuit, without TLS, which a relay has no part in. Each circuit carries a byte in each direction, and then
stalls full, so that the kernel's part shows.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import trio

from shoal.dht import Address, Identity, NetworkParameters
from shoal.node.channel import (
    AnyRequest,
    Buffer,
    Caller,
    PeerConnection,
    PeerServer,
    RawStream,
    Reply,
    Reserve,
    Ring,
    Role,
    Throttle,
    TlsNetwork,
    open_connection,
)
from shoal.node.channel.circuits import JOINED, RINGING, End, pack_preamble
from shoal.node.reach.relaying import Relay
from shoal.node.reach.reservations import Reservations

MIB = 2**20
PIECE = bytes(256 * 1024)
PARAMS = NetworkParameters("bench", 0, True)
LEAST_BYTES = 4_096
AT_ONCE = 8  # circuits that are set up at once


async def serve() -> None:
    """The relay's process: prints its port, and for each line on stdin the CPU seconds it has used."""
    identity = Identity.create(0, os.urandom)
    reservations = Reservations(private=True, entropy=os.urandom, rng=random.Random(1))
    relay = Relay(reservations, Throttle(1e12), private=True)
    handlers = relay.handlers()

    async def dispatch(caller: Caller, request: AnyRequest, payload: Buffer) -> Reply:
        return await handlers[type(request)](caller, request, payload)

    server = PeerServer(identity, PARAMS, dispatch, entropy=os.urandom)
    async with trio.open_nursery() as nursery:
        network, anywhere = TlsNetwork(), Address("127.0.0.1", 0)

        async def listen(task_status: trio.TaskStatus[Address]) -> None:
            await network.serve(
                anywhere, identity, server.serve_connection, raw_handler=relay.serve_raw, task_status=task_status
            )

        address = await nursery.start(listen)
        print(address.port, flush=True)
        stdin = trio.lowlevel.FdStream(os.dup(0))
        while await stdin.receive_some():
            print(time.process_time(), relay.statistics().circuits, flush=True)
        nursery.cancel_scope.cancel()


class Ends:
    """Both ends of circuits through one relay."""

    def __init__(self, address: Address, holder: Identity, reserving: PeerConnection, calling: PeerConnection) -> None:
        self._address, self._holder = address, holder
        self._reserving, self._calling = reserving, calling
        self._network = TlsNetwork()
        self.circuits: list[tuple[RawStream, RawStream]] = []

    async def make(self, count: int) -> None:
        """So many circuits more."""
        for _ in range(0, count, AT_ONCE):
            async with trio.open_nursery() as nursery:
                for _ in range(min(AT_ONCE, count)):
                    nursery.start_soon(self._make_one)

    async def _make_one(self) -> None:
        rung = await self._calling.request(Ring(self._holder.node_id), timeout_s=10)
        caller = await self._network.connect_raw(self._address)
        await caller.send(pack_preamble(End.CALLER, rung.token))
        assert await caller.receive(1) == RINGING
        token = b""
        while not token:
            token = (await self._reserving.request(Reserve(15, 0), timeout_s=30)).token
        holder = await self._network.connect_raw(self._address)
        await holder.send(pack_preamble(End.HOLDER, token))
        assert await holder.receive(1) == JOINED
        self.circuits.append((caller, holder))


async def fill(sender: RawStream) -> None:
    """Send until nobody takes it any more."""
    with trio.move_on_after(0.2):
        while True:
            await sender.send(PIECE)


async def stream(sender: RawStream, receiver: RawStream, mib: int) -> None:
    """Send so much, and read it."""
    sink = Sink(receiver)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sink.read, mib * MIB)
        for _ in range(mib * MIB // len(PIECE)):
            await sender.send(PIECE)


class Sink:
    """Reads and forgets."""

    def __init__(self, stream: RawStream) -> None:
        self._stream = stream

    async def read(self, count: int) -> None:
        """So many bytes."""
        while count:
            piece = min(count, len(PIECE))
            await self._stream.receive(piece)
            count -= piece


def cpu_of(relay: "subprocess.Popen[str]") -> float:
    """CPU seconds that the relay has used."""
    return float(ask(relay)[0])


def ask(relay: "subprocess.Popen[str]") -> list[str]:
    """CPU seconds and circuits."""
    assert relay.stdin is not None
    assert relay.stdout is not None
    relay.stdin.write("\n")
    relay.stdin.flush()
    return relay.stdout.readline().split()


def memory_mib(pid: int) -> float:
    """What a process holds."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in status if line.startswith("VmRSS")).split()[1]) / 1024


def kernel_mib() -> float:
    """What TCP holds in this network namespace's machine, of all processes."""
    for line in Path("/proc/net/sockstat").read_text().splitlines():
        words = line.split()
        if words[0] == "TCP:":
            return int(words[words.index("mem") + 1]) * os.sysconf("SC_PAGE_SIZE") / MIB
    return 0.0


async def measure(port: int, relay: "subprocess.Popen[str]", mib: int, circuits: int) -> dict[str, float]:
    """All figures."""
    address, holder = Address("127.0.0.1", port), Identity.create(0, os.urandom)
    network, figures = TlsNetwork(), {}
    async with open_connection(network, address) as reserving, open_connection(network, address) as calling:
        await reserving.identify(holder, PARAMS, Role.PEER, timeout_s=5)
        await reserving.request(Reserve(0, 0), timeout_s=5)
        ends = Ends(address, holder, reserving, calling)
        await ends.make(1)
        await stream(*ends.circuits[0], 64)
        cpu, begun = cpu_of(relay), time.perf_counter()
        await stream(*ends.circuits[0], mib)
        figures["cpu_s_per_gib"] = (cpu_of(relay) - cpu) / (mib / 1024)
        figures["mib_per_s"] = mib / (time.perf_counter() - begun)
        before, kernel, cpu, begun = memory_mib(relay.pid), kernel_mib(), cpu_of(relay), time.perf_counter()
        await ends.make(circuits)
        figures["circuits"] = float(ask(relay)[1])
        figures["ms_per_circuit"] = (cpu_of(relay) - cpu) / circuits * 1000
        figures["kib_per_circuit"] = (memory_mib(relay.pid) - before) * 1024 / circuits
        async with trio.open_nursery() as nursery:
            for near, far in ends.circuits:
                near.bound_buffers(LEAST_BYTES)  # so that the figure is the relay's
                far.bound_buffers(LEAST_BYTES)
                nursery.start_soon(fill, near)
        figures["kernel_mib_when_full_one_way"] = kernel_mib() - kernel
        figures["relay_mib_when_full"] = memory_mib(relay.pid)
        for each in ends.circuits:
            for end in each:
                await end.aclose()
    return figures


def main() -> None:
    """Print figures as one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=2048)
    parser.add_argument("--circuits", type=int, default=1000)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        trio.run(serve)
        return
    command = [sys.executable, __file__, "--serve"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as relay:
        assert relay.stdout is not None
        port = int(relay.stdout.readline())
        figures = trio.run(measure, port, relay, arguments.mib, arguments.circuits)
        relay.kill()
    print(json.dumps({name: round(value, 2) for name, value in figures.items()}, indent=2))


if __name__ == "__main__":
    main()
