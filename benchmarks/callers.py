"""What a caller's requests cost a node, and what they cost the caller: CPU of both, in processes of their own.

    python benchmarks/callers.py [--seconds 2]

The caller is as cheap as can be: it encodes a request once, sends the same bytes again and again, and does not look at
the replies. Small files are put and settled once each, by a list that was made before. Prints, for each kind of
request, milliseconds of CPU on both sides and their ratio, and how large a part of one core the node gave to this
caller. A request that failed since the caller had had its share is among them, and costs little.
"""

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import msgpack
import trio

from shoal.dht import Address, Identity, NetworkParameters, Reach
from shoal.erasure import BLOCK_BYTES, FileId, Manifest, ShareEncoder, best_codec
from shoal.node import Home, Network, NodeSettings, init_node, open_node
from shoal.node.channel import (
    Announce,
    AnyRequest,
    ByteStream,
    Delete,
    GetHeld,
    GetHolders,
    GetManifest,
    Occupied,
    Put,
    Read,
    Renew,
    Settle,
    Survey,
    TellHolders,
    TlsNetwork,
)
from shoal.node.channel.frames import FrameReader, FrameWriter
from shoal.node.channel.hello import client_hello
from shoal.node.channel.limits import Throttle
from shoal.node.channel.messages import encode_hello, encode_request
from shoal.node.holders.statements import make_statement, pack_statements

FILES = 64
AT_ONCE = 8
PARAMETERS = NetworkParameters("callers", pow_bits=0, private=True)

K, N = 3, 10  # of the small files
SMALL_FILES = 80  # the caller's budget is enough for them
SMALL_BYTES = 4096
LEASE_S = 90 * 86400

Asked = tuple[AnyRequest, list[bytes]]
Case = tuple[str, list[Asked]]  # one request is repeated, of several each is sent once
CONNECTION: Case = ("connection, handshake and hellos", [(GetHeld(bytes(32)), [])])


async def serve(folder: Path) -> None:
    """A node that keeps some files; prints its port and their ids, then its CPU time for each line on stdin."""
    home, network = Home.at(folder / "node"), Network(PARAMETERS)
    settings = NodeSettings(listen=(Address("127.0.0.1", 0),), reserve_bytes=0)
    init_node(home, settings, PARAMETERS)
    async with open_node(home, network=network, serve=True, settings=settings) as node:
        async with open_node(Home.at(folder / "client"), network=network, bootstrap=[str(node.addresses[0])]) as client:
            ids = []
            for number in range(FILES):
                path = folder / f"file-{number}"
                path.write_bytes(os.urandom(100_000))
                ids.append((await client.publish(path, needed=1, total=1)).link.id.hex())
        print(node.addresses[0].port, *ids, flush=True)
        stdin = trio.lowlevel.FdStream(os.dup(0))
        while await stdin.receive_some():
            print(time.process_time(), flush=True)


def cases(kept: Sequence[FileId]) -> list[Case]:
    """What is asked."""
    file_id, key = kept[0], os.urandom(32)
    strangers = b"".join(os.urandom(32) for _ in range(1024))
    known = b"".join(kept[at % len(kept)] for at in range(1024))
    junk = [os.urandom(200) for _ in range(1024)]
    forged = [_forged(file_id) for _ in range(1024)]
    valid = [_statement(file_id) for _ in range(1024)]
    return [
        *_small_cases(),
        ("held", [(GetHeld(file_id), [])]),
        ("manifest", [(GetManifest(file_id), [])]),
        ("holders", [(GetHolders(file_id), [])]),
        ("read, proof only", [(Read(file_id, 0, 0, 1, False), [])]),
        ("read, 64 KiB", [(Read(file_id, 0, 0, 1, True), [])]),
        ("renew", [(Renew(file_id, 3600), [])]),
        ("delete, wrong key", [(Delete(file_id, 1, key + key), [])]),
        ("survey, 1,024 unknown files", [(Survey(strangers, False), [])]),
        ("survey, 1,024 kept files", [(Survey(known, False), [])]),
        ("survey, 1,024 kept files, statements", [(Survey(known, True), [])]),
        ("tell, 1,024 random statements", [(TellHolders(file_id), [pack_statements(junk)])]),
        ("tell, 1,024 forged statements", [(TellHolders(file_id), [pack_statements(forged)])]),
        ("tell, 1,024 valid statements", [(TellHolders(file_id), [pack_statements(valid)])]),
        ("announce", [(Announce(file_id, False), [])]),
    ]


def _small_cases() -> list[Case]:
    """Small files: each is put, and then settled with the statements of nine more holders."""
    holders = [Identity.create(0, os.urandom) for _ in range(N - 1)]
    puts: list[Asked] = []
    settles: list[Asked] = []
    for _ in range(SMALL_FILES):
        encoder = ShareEncoder(K, N, best_codec())
        segment = encoder.add_segment(os.urandom(SMALL_BYTES), last=True)
        roots = encoder.finish()
        manifest = Manifest(
            k=K,
            n=N,
            block_bytes=BLOCK_BYTES,
            ciphertext_bytes=roots.ciphertext_bytes,
            data_root=roots.data_root,
            share_roots=roots.share_roots,
            metadata=os.urandom(256),
            key_commitment=os.urandom(32),
            owner_key=os.urandom(32),
        )
        encoded = manifest.encode()
        puts.append((Put(os.urandom(16), 0, LEASE_S, len(encoded), b""), [encoded, bytes(segment.blocks[0])]))
        signed = [_statement(manifest.id, share, each) for share, each in enumerate(holders, 1)]
        settles.append((Settle(manifest.id), [pack_statements(signed)]))
    return [(f"put, {SMALL_BYTES} bytes, {K} of {N}", puts), (f"settle, {N - 1} statements", settles)]


def _statement(file_id: FileId, share: int = 0, identity: Identity | None = None) -> bytes:
    identity = identity or Identity.create(0, os.urandom)
    end = int(time.time()) + 86400
    address = Address("127.0.0.1", 4750)
    return make_statement(identity, PARAMETERS.network_id, file_id, share, Reach.of(address), end, time.time()).signed


def _forged(file_id: FileId) -> bytes:
    """All is well with it but the signature."""
    body, signature = msgpack.unpackb(_statement(file_id))
    other = signature[:40] + bytes([signature[40] ^ 1]) + signature[41:]
    packed: bytes = msgpack.packb([body, other], use_bin_type=True)
    return packed


class Server:
    """The other process."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._ask, self._answer = process.stdin, process.stdout
        port, *ids = self._answer.readline().split()
        self.address = Address("127.0.0.1", int(port))
        self.kept = [FileId(bytes.fromhex(each)) for each in ids]

    def cpu(self) -> float:
        """CPU seconds it has used."""
        self._ask.write("?\n")
        self._ask.flush()
        return float(self._answer.readline())


async def greeted(network: TlsNetwork, address: Address) -> tuple[ByteStream, FrameReader, FrameWriter]:
    """A connection whose ends have said hello."""
    stream = await network.connect(address)
    reader, writer = FrameReader(stream, Throttle()), FrameWriter(stream, Throttle())
    await writer.send(encode_hello(client_hello()))
    await reader.wait()
    await reader.read_head()
    return stream, reader, writer


async def let_in(address: Address) -> tuple[ByteStream, FrameReader, FrameWriter]:
    """The same, as soon as the node has time for it again."""
    while True:
        try:
            return await greeted(TlsNetwork(), address)
        except Occupied:
            await trio.sleep(0.01)


async def connect(server: Server, case: Case, seconds: float) -> tuple[int, int]:
    """Connect again and again; how often, and how many times the node was busy."""
    network, end, connected, refused = TlsNetwork(), trio.current_time() + seconds, 0, 0
    while trio.current_time() < end:
        try:
            stream, *_ = await greeted(network, server.address)
            stream.abort()
        except Occupied:
            refused += 1
        connected += 1
    return connected, refused


async def ask_for(server: Server, case: Case, seconds: float) -> tuple[int, int]:
    """Ask as often as the node answers; how many answers came, and how many of them were failures."""
    asked = case[1]
    stream, reader, writer = await let_in(server.address)
    numbers = iter(range(len(asked))) if len(asked) > 1 else itertools.repeat(0)
    waiting = answers = failures = 0

    async def send() -> int:
        number = next(numbers, None)
        if number is None or trio.current_time() >= end:
            return 0
        request, payload = asked[number]
        await writer.send(encode_request(number, request), payload)
        return 1

    end = trio.current_time() + seconds
    for _ in range(AT_ONCE):
        waiting += await send()
    while waiting:
        await reader.wait()
        head = await reader.read_head()
        await reader.skip_payload()
        answers += 1
        failures += msgpack.unpackb(head.header)[2] != 0
        waiting += await send() - 1
    stream.abort()
    return answers, failures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        trio.run(serve, Path(arguments.serve))
        return
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(
            [sys.executable, __file__, "--serve", folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process,
    ):
        server = Server(process)
        print(f"{'request':38} {'a second':>9} {'failed':>7} {'node ms':>8} {'caller ms':>9} {'ratio':>6} {'core':>6}")
        for case in (CONNECTION, *cases(server.kept)):
            there, here, begun = server.cpu(), time.process_time(), time.perf_counter()
            answers, failures = trio.run(connect if case is CONNECTION else ask_for, server, case, arguments.seconds)
            took = time.perf_counter() - begun
            there, here = server.cpu() - there, time.process_time() - here
            print(
                f"{case[0]:38} {answers / took:9.0f} {failures / max(1, answers):7.0%} {1e3 * there / answers:8.2f}"
                f" {1e3 * here / answers:9.2f} {there / here:6.1f} {there / took:6.0%}",
                flush=True,
            )
        process.terminate()


if __name__ == "__main__":
    main()
