"""What the parts of a publish and a fetch cost on this machine, each alone: one JSON object, see results.Costs.

    python -P parts.py FOLDER 3/10 4/12     FOLDER is on the disk to be measured

CPU-seconds of the processes involved per GiB that goes through the part: medians of several short windows. Blocks and
pieces have the sizes that Shoal uses. Nothing of Shoal's pipeline runs: cipher, hash and code are called in a loop, and
the TLS pump here is the plainest one, over blocking sockets.
"""

import json
import os
import socket
import ssl
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import cast

from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_decrypt, crypto_aead_xchacha20poly1305_ietf_encrypt

from shoal.dht import Identity
from shoal.erasure import BLOCK_BYTES, Codec, ZfecCodec, best_codec, block_leaf
from shoal.node.channel.certificates import client_context, server_context

MIB = 2**20
GIB = 2**30
WINDOW_S = 0.12
WINDOWS = 5
SEGMENT_BYTES = 3 * BLOCK_BYTES
PIECE_BYTES = 256 * 1024  # written to TLS and read from the socket at once
STREAM_BYTES = 512 * MIB
STREAM_ROUNDS = 3
FILES = 10
FILE_BYTES = 100 * MIB
DISK_ROUNDS = 3


def cpu_per_gib(work: Callable[[], object], size: int) -> float:
    """CPU-seconds per GiB of something that works on `size` bytes a call."""
    work()
    found = []
    for _ in range(WINDOWS):
        calls, begun = 0, time.process_time()
        while (spent := time.process_time() - begun) < WINDOW_S:
            work()
            calls += 1
        found.append(spent / calls * GIB / size)
    return statistics.median(found)


def cipher_costs() -> dict[str, float]:
    """XChaCha20-Poly1305 by libsodium, on segments."""
    key, nonce, plain = os.urandom(32), os.urandom(24), os.urandom(SEGMENT_BYTES)
    sealed = crypto_aead_xchacha20poly1305_ietf_encrypt(plain, b"", nonce, key)
    return {
        "cipher_seal": cpu_per_gib(
            lambda: crypto_aead_xchacha20poly1305_ietf_encrypt(plain, b"", nonce, key), SEGMENT_BYTES
        ),
        "cipher_open": cpu_per_gib(
            lambda: crypto_aead_xchacha20poly1305_ietf_decrypt(sealed, b"", nonce, key), SEGMENT_BYTES
        ),
    }


def code_costs(codes: list[tuple[int, int]]) -> dict[str, dict[str, float]]:
    """Both codecs at some codes, per GiB of file: all parity, and as many data blocks as can be lost."""
    best: Codec = best_codec()
    codecs = [ZfecCodec()] + ([best] if best.name != "zfec" else [])
    encode: dict[str, float] = {}
    decode: dict[str, float] = {}
    for k, n in codes:
        data = [os.urandom(BLOCK_BYTES) for _ in range(k)]
        lost = range(min(k, n - k))
        shares = [*data, *ZfecCodec().parity(k, n, data)]
        left = {number: shares[number] for number in range(len(lost), len(lost) + k)}
        for codec in codecs:
            name = f"{codec.name} {k}/{n}"
            encode[name] = cpu_per_gib(partial(codec.parity, k, n, data), k * BLOCK_BYTES)
            decode[name] = cpu_per_gib(partial(codec.rebuild, k, n, left, lost), k * BLOCK_BYTES)
    return {"encode": encode, "decode": decode}


class Pump:
    """TLS over a blocking socket in large pieces."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, *, is_server: bool) -> None:
        self._socket, self._incoming, self._outgoing = sock, ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=is_server)
        # the library fills any writable buffer; its type stubs know of bytearray alone
        self._read = cast(Callable[[int, memoryview], int], self._tls.read)
        self._piece = memoryview(bytearray(PIECE_BYTES))
        done = False
        while not done:
            with suppress(ssl.SSLWantReadError):
                self._tls.do_handshake()
                done = True
            self._flush()
            if not done:
                self._pull()

    def send(self, data: bytes) -> None:
        """Encrypt and send."""
        self._tls.write(data)
        self._flush()

    def receive_into(self, view: memoryview) -> int:
        """Decrypt what comes; 0 at the end."""
        count = 0
        while not count:
            with suppress(ssl.SSLWantReadError):
                while count < len(view):
                    count += self._read(len(view) - count, view[count:])
            if not count and not self._pull():
                break
        return count

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._socket.sendall(self._outgoing.read())

    def _pull(self) -> int:
        count = self._socket.recv_into(self._piece)
        self._incoming.write(self._piece[:count])
        return count


def stream_costs() -> dict[str, float]:
    """TLS 1.3 over loopback TCP, sender and receiver in processes of their own."""
    listener = socket.create_server(("127.0.0.1", 0))
    found = [_stream_once(listener) for _ in range(STREAM_ROUNDS)]
    listener.close()
    sent_s, received_s = (statistics.median(column) for column in zip(*found, strict=True))
    return {"send": sent_s, "receive": received_s}


def _stream_once(listener: socket.socket) -> tuple[float, float]:
    port = str(listener.getsockname()[1])
    argv = [sys.executable, "-P", __file__, "--send", port]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as sender:
        sock, _ = listener.accept()
        pump = Pump(sock, server_context(Identity.create(0, os.urandom)), is_server=True)
        view, left = memoryview(bytearray(2 * PIECE_BYTES)), STREAM_BYTES
        begun = time.process_time()
        while left:
            left -= pump.receive_into(view[: min(left, len(view))])
        received_s = time.process_time() - begun
        pump.send(b"!")
        assert sender.stdout is not None
        sent_s = float(sender.stdout.readline())
        sock.close()
    return sent_s * GIB / STREAM_BYTES, received_s * GIB / STREAM_BYTES


def send_stream(port: int) -> None:
    """The sender's process."""
    with socket.create_connection(("127.0.0.1", port)) as sock:
        pump = Pump(sock, client_context(), is_server=False)
        piece = os.urandom(PIECE_BYTES)
        begun = time.process_time()
        for _ in range(STREAM_BYTES // PIECE_BYTES):
            pump.send(piece)
        spent_s = time.process_time() - begun
        pump.receive_into(memoryview(bytearray(1)))
        print(spent_s, flush=True)


def disk_costs(folder: Path) -> dict[str, float]:
    """Ten files grow side by side, are synced, and are read again while the system still has them in memory.

    They stay until the end. Memory that a removed file has left behind is there at once, while what a share is written
    to has to be found first; a virtual machine may even have to ask for it, at ten times the price.
    """
    paths = [folder / f"part-{number}" for number in range(DISK_ROUNDS * FILES)]
    try:
        found = [_disk_once(paths[first : first + FILES]) for first in range(0, len(paths), FILES)]
    finally:
        for path in paths:
            path.unlink(missing_ok=True)
    return {name: statistics.median(each[name] for each in found) for name in found[0]}


def _disk_once(paths: Sequence[Path]) -> dict[str, float]:
    piece, total = os.urandom(PIECE_BYTES), FILES * FILE_BYTES
    with ExitStack() as stack:
        files = [stack.enter_context(open(path, "wb", buffering=0)) for path in paths]
        begun, begun_cpu = time.perf_counter(), time.process_time()
        for _ in range(FILE_BYTES // PIECE_BYTES):
            for file in files:
                file.write(piece)
        written_s = time.process_time() - begun_cpu
        for file in files:
            os.fsync(file.fileno())
        synced_s = time.perf_counter() - begun
    view, begun_cpu = memoryview(bytearray(MIB)), time.process_time()
    for path in paths:
        with open(path, "rb", buffering=0) as written:
            while written.readinto(view):
                pass
    read_s = time.process_time() - begun_cpu
    return {"write": written_s * GIB / total, "sync_s": synced_s * GIB / total, "read": read_s * GIB / total}


def main() -> None:
    """Measure everything."""
    folder = Path(sys.argv[1])
    codes = [(int(k), int(n)) for k, n in (word.split("/") for word in sys.argv[2:])]
    block = os.urandom(BLOCK_BYTES)
    costs = {"block_hash": cpu_per_gib(lambda: block_leaf(block), BLOCK_BYTES)}
    costs |= cipher_costs() | stream_costs() | disk_costs(folder)
    print(json.dumps({**costs, **code_costs(codes), "cores": len(os.sched_getaffinity(0))}))


if __name__ == "__main__":
    if sys.argv[1] == "--send":
        send_stream(int(sys.argv[2]))
    else:
        main()
